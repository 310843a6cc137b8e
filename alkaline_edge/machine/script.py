"""The replay cursor: the recorded events that lie ahead, and what a handler takes from them without awaiting.

Values (``now``, ``random``, ``uuid``), ``patched`` and ``spend`` stand behind the event that woke the handler. On
replay each call finds its own value at the head of the script; beyond the end of the history it makes a new one, which
is committed before the next effect starts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .. import events as ev
from ..activations import first_of, is_kind, timed
from ..budget import Purse
from ..calling import JAVASCRIPT
from ..errors import BudgetExceeded, DeterminismError
from ..events import Event
from .commands import RunStep, describe

_TOPPED_UP = frozenset({ev.TOPPED_UP})


class Sources:
    """Where live values come from: the host's clock (ms since 1970) and entropy."""

    __slots__ = ("entropy", "now_ms")

    def __init__(self, now_ms: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self.now_ms = now_ms
        self.entropy = entropy


class Script:
    """Where a replay stands. ``fail`` keeps the divergence that it is handed; ``where`` names the handler's line."""

    __slots__ = (
        "_fail",
        "_held",
        "_mark",
        "_values",
        "_where",
        "drawn",
        "events",
        "more",
        "next_totals",
        "patches",
        "position",
        "purse",
        "quiet",
        "recorded_emissions",
        "time_ms",
    )  # fmt: skip

    def __init__(
        self, purse: Purse, fail: Callable[[DeterminismError], DeterminismError], where: Callable[[], str]
    ) -> None:
        self.purse, self._fail, self._where = purse, fail, where
        self.events: deque[Any] = deque()
        """What is recorded and not passed yet, as in a page: the machine takes from it what wakes the
        handler, and the handler the values behind that."""
        self._held: deque[Any] = deque()
        """The end of the last page: its last event that wakes the handler, and the values behind it. More of those may
        stand on the next page, and a handler that is woken without them would draw new ones in their place."""
        self.more = False
        """More pages of the history follow."""
        self.quiet = False
        """The block behind the last event ran to its end before: it logs nothing anew."""
        self.position = 0
        """How many events and values the handler has passed, for errors that name the place."""
        self.time_ms = 0
        """The time of the last event that was applied; ``loop.now_ms`` may be ahead of it, after a ``ctx.now()``."""
        self.drawn: list[Event] = []
        """Values that must be committed before the next effect starts."""
        self.patches: dict[str, bool] = {}
        """What ``patched`` has answered, by its change id: recorded at the first call alone, and the same at each."""
        self.next_totals: list[list[int]] | None = None
        """Totals of shared accounts, which become known with the next event."""
        self.recorded_emissions = 0
        """Emissions that stand behind the last event that woke the handler: it is about to repeat them."""
        self._mark = 0
        """Where the last emission stood among the events of the page that is being read: emissions are counted anew
        as soon as something behind it wakes the handler."""
        self._values = 0
        """How many of the events stand behind the last one that wakes the handler: once no more are left, the handler
        is in the block that the last owner may not have got to the end of, and what it emits may be new."""

    def read(self, page: Sequence[Any], more: bool, quiet: bool) -> None:
        """Take in a page of events; ``more`` says that it is not the last one."""
        self.more, self.quiet = more, quiet
        if self.recorded_emissions and _wakes(page[self._mark :]):
            self.recorded_emissions = 0
        self._mark = 0
        events = self.events
        events.extend(self._held)
        events.extend(page)
        left = len(self._held) + len(page) if more else 0
        held: deque[Any] = deque()
        while left:  # values that follow the last waking event may stand on the next page: hold it back with them
            held.appendleft(events.pop())
            left = left - 1 if is_kind(held[0], ev.SYNCHRONOUS) else 0
        self._held = held
        behind = (n for n, entry in enumerate(reversed(events)) if not is_kind(entry, ev.SYNCHRONOUS))
        self._values = next(behind, len(events))

    @property
    def replaying(self) -> bool:
        """Whether recorded history lies ahead: log, emit and other effects outside of the record stay silent."""
        return bool(self.events) or self.more or self.quiet

    def head(self) -> Any:
        """The next recorded event, whichever page it stands on; None beyond the end of the history."""
        if self.events:
            return timed(self.events[0])[1]
        return timed(self._held[0])[1] if self._held else None

    def _value(self) -> Any:
        """As ``head``, past values of ``patched`` whose call is gone from the code."""
        event = self._behind_retries()
        while event is not None and self.events and event[:2] == (ev.DRAWN, "patched"):
            self.events.popleft()
            event = self._behind_retries()
        return event

    def _behind_retries(self) -> Any:
        """As ``head``, once what a retry left spent is charged: it stands where the handler goes on anew."""
        event = self.head()
        while event is not None and self.events and event[0] in ev.AGAIN:
            self.pass_retry(event)
            event = self.head()
        return event

    def pass_retry(self, event: Any) -> None:
        """Step over a Retried or a ToppedUp, which stands next."""
        self.events.popleft()
        self.position += 1
        if event[0] == ev.RETRIED:
            self.purse.charge(event[2], event[3])
        else:
            self.purse.top_up(list(event[1:]))

    def pass_top_up(self) -> None:
        """Step over the retries that stand next, if the run was topped up with one of them.

        Where a step asks for room in the budget; without a top-up they are passed where the handler is woken.
        """
        for entry in self.events:
            if not is_kind(entry, ev.AGAIN):
                return
            if is_kind(entry, _TOPPED_UP):
                self._behind_retries()
                return

    def draw(self, what: str, make: Callable[[], Any]) -> Any:
        """A recorded value: from the history on replay, otherwise new, to be committed before the next effect."""
        event = self._value()
        if event is not None:
            if event[0] != ev.DRAWN or event[1] != what:
                raise self.differs(event, f"ctx.{what}()")
            self.events.popleft()
            self.position += 1
            return event[2]
        value = make()
        self.drawn.append(ev.Drawn(ev.DRAWN, what, value))
        self.position += 1
        return value

    def patched(self, change_id: str) -> bool:
        """Whether this run takes the new path of ``change_id``: as it was decided when the run first came here."""
        if change_id not in self.patches:
            event = self._behind_retries()
            if event is None:
                self.drawn.append(ev.Drawn(ev.DRAWN, "patched", change_id))
                self.position += 1
            found = event is not None and event[0] == ev.DRAWN and event[1] == "patched" and event[2] == change_id
            if found:
                self.events.popleft()
                self.position += 1
            self.patches[change_id] = found or event is None
        return self.patches[change_id]

    def spend(self, tokens: int, micro_usd: int, label: str) -> None:
        """Charge, and raise BudgetExceeded if that went over; on replay exactly where it was raised before."""
        event = self._value()
        if event is not None:
            if event[0] != ev.SPENT or (event[1], event[2], event[3]) != (tokens, micro_usd, label):
                raise self.differs(event, f"ctx.spend({tokens}, {label!r})")
            self.events.popleft()
            self.position += 1
            self.purse.charge(tokens, micro_usd)
            self.next_totals = event[5] if event[5] is not None else self.next_totals
            if event[4]:
                raise self.purse.over(f"ctx.spend({label!r})") or _over_before(label)
            return
        self.purse.charge(tokens, micro_usd)
        over = None if self.purse.pauses else self.purse.over(f"ctx.spend({label!r})")
        self.drawn.append(ev.Spent(ev.SPENT, tokens, micro_usd, label, over is not None, None))
        self.position += 1
        if over is not None:
            raise over

    def same_call(self, event: Any, command: RunStep) -> None:
        """Raise where ``event`` is of a step with another name or other arguments than ``command``."""
        renamed = event.name == JAVASCRIPT and type(command.fn).__name__ == JAVASCRIPT
        if (event.name != command.name and not renamed) or event.args != command.digest:
            raise self.differs(event, describe(command), command.digest)

    # --- divergences: most runs meet none, so what words them is imported here, and not with every program ----------
    def differs(self, event: Any, code: str, digest: int | None = None) -> DeterminismError:
        """The divergence of ``event`` from what the code has at its place."""
        from .divergence import mismatch

        return self._fail(mismatch(first_of(event), code, self.position, self._where(), digest))

    def ended_before(self, event: Any, outcome: Any) -> DeterminismError:
        """``event`` stands behind the end that the handler has come to."""
        from .divergence import failed

        how = failed(outcome.failure) if isinstance(outcome, ev.Failed) else type(outcome).__name__
        return self.differs(event, f"ended: {how}")

    def unasked(self, event: Any, issued: list[str], failure: dict[str, Any] | None) -> DeterminismError:
        """``event`` answers a command that is not among those ``issued``; ``failure``: how the handler ended."""
        from .divergence import event_without_command

        return self._fail(event_without_command(event, issued, self.position, self._where(), failure))

    def passed_over(self, event: Any) -> DeterminismError:
        """``event`` is a value, and the code went past without drawing it."""
        from .divergence import value_without_call

        return self._fail(value_without_call(event, self.position, self._where()))

    # --- emissions ------------------------------------------------------------------------------------------------
    def saw_emission(self, page: Sequence[Any]) -> None:
        """``page``, as far as it is read, is followed by an Emitted event."""
        if _wakes(page[self._mark :]):
            self.recorded_emissions = 0
        self._mark = len(page)
        self.recorded_emissions += 1

    def emit(self, topic: str, data: Any) -> None:
        """Record an emission of the handler, unless the history has it: then this is its repetition."""
        if self.more or len(self.events) > self._values:
            return  # its block ran to its end before
        if self.recorded_emissions:
            self.recorded_emissions -= 1
            return
        if not all(is_kind(entry, ev.AGAIN) for entry in self.events):  # tried again, it comes further than before
            return
        self.drawn.append(ev.Emitted(ev.EMITTED, topic, data))


def _wakes(events: Sequence[Any]) -> bool:
    return not all(is_kind(entry, ev.SYNCHRONOUS) for entry in events)


def _over_before(label: str) -> BudgetExceeded:
    return BudgetExceeded(f"ctx.spend({label!r}) went over the budget; start the run with a larger Budget")
