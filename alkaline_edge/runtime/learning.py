"""Scheduling that learns: when attempts of steps start, from how long earlier ones took and how they ended.

Nothing of it is in a history: it decides when an attempt starts, and what becomes of the attempt is recorded as always.
Of each step's name it keeps how many attempts run at once (a limit by additive increase and multiplicative decrease,
which below 1 is a pause between two of them), how long each took, and whether what it asks is dead. A summary of it is
kept in the store, which the next process begins with. Times are ms.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Any

from ..arguments import expect_call, whole
from ..errors import InvalidInput
from ..host import Host
from ..limits import check_seconds
from ..machine.commands import RunStep
from ..structs import dataclass
from . import reporting
from .effects import Raised
from .remembering import KEPT as REMEMBERED
from .remembering import MOST_NAMES, Memory, Summary

KEPT = 64
"""So many durations of a step are remembered, the newest."""
KNOWN_ARGUMENTS = 10_000
ENOUGH = 20
"""So many of them are wanted before a timeout is made of them."""
LONGER, LEAST_TIMEOUT_MS = 4, 1_000
"""A timeout is so many times the longest of them, and no shorter than that."""
_LOWER = 0.7
_LONGEST_PAUSE = 8
"""The pause of a breaker doubles up to so many times its first length."""
_WEIGHT = 0.2
SAVED_EVERY_MS = 60_000
"""So often at most what was learned is stored; and once more at the end."""
_BUSY, _DEAD = (429, 503), (ConnectionError, TimeoutError, OSError)


def overload(error: BaseException) -> bool | float:
    """Whether ``error`` is an answer that asks for fewer calls, or after how many seconds it takes the next one.

    One is, whose ``status``, ``status_code`` or ``code`` is 429 or 503, also of its ``response``; and one that has a
    number ``retry_after``.
    """
    later = getattr(error, "retry_after", None)
    if isinstance(later, (int, float)) and not isinstance(later, bool) and later > 0:
        return float(later)
    for where in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            if getattr(where, name, None) in _BUSY:
                return True
    return False


@dataclass(frozen=True, slots=True)
class Learning:
    """How a runtime learns when to start attempts, step by step: ``Runtime(learning=Learning())``.

    ``start``: attempts of a step that run at once at first, ``least`` and ``most``: the bounds of what that becomes; it
    rises while attempts succeed and falls when one is answered by too much. A ``least`` below 1 is a pause between two:
    0.1 is one attempt in ten times as long as one takes. ``overloaded`` says of an error whether it is such an answer,
    or after how many seconds the next call may come; if None, statuses 429 and 503 and ``retry_after`` are. After
    ``failures`` in a row by lost connections, time-outs and the like nothing is started for ``pause`` seconds, then one
    attempt, and the pause doubles while that fails. ``timeouts``: a step without a timeout of its own, which is tried
    again, is stopped after four times as long as the longest of its last 64 attempts.
    What is out of range is ERR_INVALID_INPUT.
    """

    start: int = 4
    least: float = 0.05
    most: int = 64
    overloaded: Callable[[BaseException], Any] | None = None
    failures: int = 5
    pause: float = 30.0
    timeouts: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no bound."""
        whole(self.most, "Learning(most=)", 1, 10_000)
        whole(self.start, "Learning(start=)", 1, self.most)
        whole(self.failures, "Learning(failures=)", 1, 10_000)
        check_seconds(self.pause, "Learning(pause=)", 0.001)
        expect_call(self.overloaded, "Learning(overloaded=)", "a function of an error, or None")
        number = isinstance(self.least, (int, float)) and not isinstance(self.least, bool)
        if not number or not 0.001 <= self.least <= self.most:
            raise InvalidInput("Learning(least=) is a number from 0.001 up to most")


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of the step ``name`` in this process.

    ``limit``: so many attempts of it run at once; ``inside`` do now, and ``waiting`` more are ready. ``expected``: how
    many seconds one takes, None while that is not known; ``timeout``: after how many one is stopped that has no other
    timeout. ``closed_until``: until when, ms since 1970, none is started, as what it asks is dead or wants a pause.
    ``refused``: how many were answered by too much.
    """

    name: str
    limit: float
    inside: int
    waiting: int
    expected: float | None
    timeout: float | None
    closed_until: int
    refused: int


class Ticket:
    """An attempt that is to start: ``turn`` is done when it may."""

    __slots__ = ("began", "digest", "of", "turn")

    def __init__(self, of: Step, digest: int | None, turn: asyncio.Future[None]) -> None:
        self.of, self.digest, self.turn = of, digest, turn
        self.began = 0


class Step:
    """What is known of the steps of one name."""

    __slots__ = (
        "by_arguments", "closed_until", "durations", "expected", "failures", "growing", "inside", "last", "limit",
        "lowered_at", "name", "pauses", "refused", "waiting", "wakes_at",
    )  # fmt: skip

    def __init__(self, name: str, limit: float) -> None:
        self.name, self.limit, self.growing = name, limit, True
        self.inside = self.failures = self.pauses = self.refused = 0
        self.last = self.lowered_at = self.closed_until = self.wakes_at = 0
        self.durations: deque[int] = deque(maxlen=KEPT)
        self.expected: float | None = None
        self.by_arguments: dict[int | None, int] = {}
        self.waiting: list[tuple[float, int, Ticket]] = []

    def recall(self, kept: Summary, least: float, most: float) -> None:
        """Begin with what earlier processes have learned, within the bounds of this one."""
        self.limit, self.growing = min(most, max(least, kept.limit)), False
        self.expected = kept.expected
        self.durations.extend(kept.durations)

    def summary(self, now: int) -> Summary:
        """What the next process is to begin with."""
        return Summary(self.name, self.limit, self.expected, [*self.durations][-REMEMBERED:], now)

    def timeout(self) -> float | None:
        """Seconds after which an attempt takes longer than any that is known, by far."""
        if len(self.durations) < ENOUGH:
            return None
        return max(LEAST_TIMEOUT_MS, LONGER * max(self.durations)) / 1000

    def opens_at(self) -> int:
        """When the next attempt may start, as far as the clock goes."""
        spaced = 0
        if self.limit < 1 and self.expected is not None:
            spaced = self.last + round(max(1.0, self.expected) / self.limit)
        return max(self.closed_until, spaced)

    def has_room(self) -> bool:
        """Whether so few run that another one may. Behind a pause it is one, until that has succeeded."""
        return self.inside < (1 if self.failures or self.limit < 1 else int(self.limit))


class Learner:
    """What one runtime has learned, and the attempts that wait for their turn.

    ``memory``: what the store's processes have learned before, which is read before the first attempt begins.
    """

    def __init__(self, learning: Learning, host: Callable[[], Host], memory: Memory) -> None:
        self.learning, self._host, self._memory = learning, host, memory
        self._recalling: asyncio.Task[None] | None = None
        self._recalled = False
        self._changed: set[str] = set()
        """Names of which something was learned that is not stored yet."""
        self._saved_at = 0
        self._saving: asyncio.Task[None] | None = None
        self._steps: dict[str, Step] = {}
        self._count = 0
        self._wakes: set[asyncio.Future[Any]] = set()

    def enter(self, command: RunStep) -> Ticket:
        """An attempt is ready. Those that get ready together are looked at together: the longest goes first."""
        step = self._steps.get(command.name)
        if step is None:
            if len(self._steps) >= MOST_NAMES:
                self._steps = {name: each for name, each in self._steps.items() if each.inside or each.waiting}
            step = self._steps[command.name] = Step(command.name, self.learning.start)
        loop = asyncio.get_running_loop()
        ticket = Ticket(step, command.digest, loop.create_future())
        expected = step.by_arguments.get(command.digest, step.expected or 0.0)
        self._count += 1
        heappush(step.waiting, (-expected, self._count, ticket))
        if len(step.waiting) == 1 or step.wakes_at == 0:
            loop.call_soon(self._dispatch, step)
        return ticket

    def timeout_of(self, command: RunStep) -> float | None:
        """Its own timeout, or else what its past says."""
        step = self._steps.get(command.name)
        if command.timeout is not None or step is None or not self.learning.timeouts:
            return command.timeout
        return step.timeout()

    async def run(self, ticket: Ticket, work: Callable[[], Awaitable[Any]]) -> Any:
        """What ``work()`` gives, begun when it is the attempt's turn."""
        await ticket.turn
        raw = await work()
        self._ended(ticket, raw)
        return raw

    def over(self, ticket: Ticket) -> None:
        """Nothing runs of the attempt any more, whether it ended, was stopped, or never began: its place is free."""
        if not ticket.turn.done():
            ticket.turn.cancel()  # withdrawn: it is passed over
        elif not ticket.turn.cancelled():
            ticket.of.inside -= 1
            self._dispatch(ticket.of)

    def learned(self) -> list[Learned]:
        """What is known, by name."""
        return [
            Learned(
                step.name, step.limit, step.inside, sum(not each[2].turn.done() for each in step.waiting),
                None if step.expected is None else step.expected / 1000,
                step.timeout() if self.learning.timeouts else None, step.closed_until, step.refused,
            )
            for _, step in sorted(self._steps.items())
        ]  # fmt: skip

    # --- turns -----------------------------------------------------------------------------------------------------
    def _dispatch(self, step: Step) -> None:
        if not self._recalled:
            self._recalling = self._recalling or asyncio.ensure_future(self._recall())
            return
        now = self._host().now_ms()
        while step.waiting:
            if step.waiting[0][2].turn.done():  # withdrawn
                heappop(step.waiting)
                continue
            if not step.has_room():
                return
            opens = step.opens_at()
            if opens > now:
                self._wake(step, opens, now)
                return
            ticket = heappop(step.waiting)[2]
            step.inside += 1
            ticket.began = step.last = now
            ticket.turn.set_result(None)

    def _wake(self, step: Step, at: int, now: int) -> None:
        """Look again at ``at``."""
        if now < step.wakes_at <= at:
            return
        step.wakes_at = at
        wake = asyncio.ensure_future(self._later(step, at, now))
        self._wakes.add(wake)
        wake.add_done_callback(self._wakes.discard)

    async def _later(self, step: Step, at: int, now: int) -> None:
        try:
            await self._host().sleep((at - now) / 1000)
        finally:
            step.wakes_at = 0
        self._dispatch(step)

    async def end(self, seconds: float) -> None:
        """The runtime is being closed: what was learned is stored, if the store answers within ``seconds``."""
        for wake in list(self._wakes):
            wake.cancel()
        if self._recalling is not None and not self._recalled:
            self._recalling.cancel()
        if self._saving is not None:
            await asyncio.wait([self._saving], timeout=seconds)
        if self._changed:
            await asyncio.wait([asyncio.ensure_future(self._save())], timeout=seconds)

    # --- the store -------------------------------------------------------------------------------------------------
    async def _recall(self) -> None:
        """Begin with what the store's processes have learned; without it, if it can't be read."""
        try:
            kept = await self._memory.load()
        except Exception as error:
            reporting.chore_failed("learning", "from the store", error)
            kept = []
        for each in kept:
            step = self._steps.setdefault(each.name, Step(each.name, self.learning.start))
            step.recall(each, self.learning.least, self.learning.most)
        self._recalled, self._saved_at = True, self._host().now_ms()
        for step in list(self._steps.values()):
            self._dispatch(step)

    async def _save(self) -> None:
        names, self._changed = self._changed, set()
        now = self._saved_at = self._host().now_ms()
        try:
            await self._memory.save([self._steps[name].summary(now) for name in sorted(names) if name in self._steps])
        except Exception as error:
            reporting.chore_failed("learning", "for the store", error)
            self._changed |= names

    def _note(self, step: Step, now: int) -> None:
        """Something was learned: store it, unless that was done so short a time ago."""
        self._changed.add(step.name)
        if not 0 <= now - self._saved_at < SAVED_EVERY_MS:
            self._saved_at = now
            self._saving = asyncio.ensure_future(self._save())

    # --- learning --------------------------------------------------------------------------------------------------
    def _ended(self, ticket: Ticket, raw: Any) -> None:
        step, now = ticket.of, self._host().now_ms()
        full = step.inside >= int(step.limit)
        error = raw.error if type(raw) is Raised else None
        later = self._refused(error) if error is not None else False
        if error is None:
            self._took(ticket, now - ticket.began)
            step.failures = step.pauses = 0
            if full:
                step.limit = min(self.learning.most, step.limit + (1 if step.growing else _gain(step.limit)))
        elif later:
            step.refused += 1
            if not isinstance(later, bool):
                step.closed_until = max(step.closed_until, now + round(later * 1000))
            self._lower(ticket, now)
        elif isinstance(error, _DEAD):
            if isinstance(error, TimeoutError):
                self._lower(ticket, now)
            step.failures += 1
            if step.failures >= self.learning.failures:
                times = min(_LONGEST_PAUSE, 2**step.pauses)
                step.closed_until = now + round(self.learning.pause * 1000 * times)
                step.pauses += 1
        self._note(step, now)

    def _refused(self, error: BaseException) -> bool | float:
        says: Any = (self.learning.overloaded or overload)(error)
        return says if isinstance(says, (bool, float)) else float(says) if isinstance(says, int) else bool(says)

    def _lower(self, ticket: Ticket, now: int) -> None:
        """Once for all that were under way when it was too much."""
        step = ticket.of
        if ticket.began >= step.lowered_at:
            step.limit = max(self.learning.least, step.limit * _LOWER)
            step.lowered_at = now
        step.growing = False

    def _took(self, ticket: Ticket, ms: int) -> None:
        step = ticket.of
        step.durations.append(ms)
        step.expected = float(ms) if step.expected is None else step.expected + _WEIGHT * (ms - step.expected)
        if len(step.by_arguments) >= KNOWN_ARGUMENTS:
            step.by_arguments.clear()
        step.by_arguments[ticket.digest] = ms


def _gain(limit: float) -> float:
    """One more for as many successes as there are attempts at once; of a pause, a part of it."""
    return 1 / limit if limit >= 1 else limit * 0.1
