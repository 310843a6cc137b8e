"""A limit as it is stored, and who is next: all that follows from it and the clock alone. Times are ms since 1970."""

from __future__ import annotations

from typing import Any

from .. import stored
from ..arguments import whole
from ..errors import InvalidInput
from ..limits import check_seconds
from ..names import check_id
from ..structs import dataclass, field

MAX_WAITING = 1_000
"""Who waits in a limit's own queue; who comes later waits outside until there is room in it."""
MAX_RATE = 1_000_000.0
_PART = 1_000_000
"""A start is counted in so many parts: whole numbers, so that a sum does not depend on its order."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit ``name``. ``concurrency``: so many at a time.

    ``rate``: so many starts in ``per`` seconds, of which ``burst`` at once.
    Either may be left out, and not both. ``burst`` is ``rate`` unless it is given. A concurrency or a rate of 0 is
    ERR_INVALID_INPUT, as it would let nobody through: delete the limit, or pause what uses it.
    """

    name: str
    concurrency: int | None = None
    rate: float | None = None
    per: float = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        check_id(self.name, "a limit's name")
        if self.concurrency is None and self.rate is None:
            raise InvalidInput(f"limit {self.name!r} limits nothing: give it a concurrency, a rate, or both")
        if self.concurrency is not None:
            whole(self.concurrency, "Limit(concurrency=)", 1)
        if self.rate is not None and (check_seconds(self.rate, "Limit(rate=)") <= 0 or self.rate > MAX_RATE):
            raise InvalidInput(
                f"Limit(rate=) is a number above 0 up to {MAX_RATE:,.0f}, which are started in `per` seconds"
            )
        check_seconds(self.per, "Limit(per=)", 0.001)
        if self.burst is not None:
            whole(self.burst, "Limit(burst=)", 1, 10**9)


@dataclass(slots=True)
class Shared:
    """What all who share a limit know of it. A holder is ``[token, key, until]``, who waits ``[token, key, priority,
    number, until]``; ``key`` says whose it is, for fairness.

    ``parts`` of starts may be made at once, as of ``filled_at``. ``turns``: by key, the number of its last turn.
    """

    name: str
    concurrency: int | None = None
    rate: float | None = None
    per: float = 1.0
    burst: int | None = None
    holders: list[list[Any]] = field(default_factory=list)
    waiting: list[list[Any]] = field(default_factory=list)
    parts: int = 0
    filled_at: int = 0
    number: int = 0
    turns: dict[str, int] = field(default_factory=dict)
    version_tag: str | None = None

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return stored.to_map(self)

    @classmethod
    def from_map(cls, values: Any, version_tag: str) -> Shared:
        """The state of a stored map; ERR_STORE for what is none."""
        return stored.from_map(cls, values, version_tag, "a limit in the store is damaged: set it anew")

    def set(self, limit: Limit, now: int) -> None:
        """Other numbers, from now on; who holds it goes on."""
        first = self.filled_at == 0
        self.concurrency, self.rate, self.per = limit.concurrency, limit.rate, float(limit.per)
        self.burst = None if limit.rate is None else limit.burst or max(1, int(limit.rate))
        self.parts = self.full if first else min(self.parts, self.full)
        self.filled_at = self.filled_at or now

    @property
    def full(self) -> int:
        """The most parts that there are at once."""
        return (self.burst or 0) * _PART

    def numbers(self) -> list[Any]:
        """What the limit says."""
        return [self.concurrency, self.rate, self.per, self.burst]

    def places(self) -> list[Any]:
        """Who holds it and who waits, and until when: while that stands, there is nothing to write."""
        return [[[*each] for each in self.holders], [[*each] for each in self.waiting]]

    # --- who is next -----------------------------------------------------------------------------------------------
    def pass_time(self, now: int, latest: int) -> None:
        """Forget who is gone, and count what may be started by now. A clock that goes back gives and takes nothing.

        ``latest``: nobody who is there renews so far ahead: what is behind that was written by a clock that was ahead.
        """
        self.holders = [[token, key, min(until, latest)] for token, key, until in self.holders if until > now]
        self.waiting = [[*each[:4], min(each[4], latest)] for each in self.waiting if each[4] > now]
        if self.rate is not None:
            passed = max(0, now - self.filled_at)
            gained = int(passed * self.rate * _PART / (self.per * 1000))
            if gained or now < self.filled_at:
                self.parts = min(self.full, self.parts + gained)
                self.filled_at = now
        known = {each[1] for each in (*self.holders, *self.waiting)}
        self.turns = {key: turn for key, turn in self.turns.items() if key in known}

    def queue(self, token: str, key: str, priority: int, now: int, hold: int) -> bool:
        """Be in the queue for ``hold`` ms from ``now`` on, renewed when half has passed; False where it is full."""
        for each in self.waiting:
            if each[0] == token:
                each[4] = each[4] if each[4] - now > hold // 2 else now + hold
                return True
        if len(self.waiting) >= MAX_WAITING:
            return False
        self.number += 1
        self.waiting.append([token, key, priority, self.number, now + hold])
        return True

    def grant(self, until: int) -> None:
        """Let through who is next, as many as may be: the highest priority; then whose key holds least, and had no turn
        for longest; then who came first."""
        while self.waiting and self._is_open():
            held: dict[str, int] = {}
            for _, key, _ in self.holders:
                held[key] = held.get(key, 0) + 1
            first = min(
                self.waiting, key=lambda each: (-each[2], held.get(each[1], 0), self.turns.get(each[1], 0), each[3])
            )
            self.waiting.remove(first)
            self.number += 1
            self.turns[first[1]] = self.number
            self.holders.append([first[0], first[1], until])
            self.parts -= _PART if self.rate is not None else 0

    def _is_open(self) -> bool:
        room = self.concurrency is None or len(self.holders) < self.concurrency
        return room and (self.rate is None or self.parts >= _PART)

    def holds(self, token: str) -> list[Any] | None:
        """The holder of that token."""
        return next((each for each in self.holders if each[0] == token), None)

    def knows(self, token: str) -> bool:
        """Whether that one holds, or waits."""
        return any(each[0] == token for each in (*self.holders, *self.waiting))

    def let_go(self, token: str) -> None:
        """That one neither holds nor waits any more."""
        self.holders = [each for each in self.holders if each[0] != token]
        self.waiting = [each for each in self.waiting if each[0] != token]

    def opens_at(self, now: int) -> int | None:
        """When somebody may come through at the latest of what is known now; None where only an end opens it."""
        times = [each[2] for each in self.holders]
        if self.rate is not None and self.parts < _PART:
            missing = (_PART - self.parts) * self.per * 1000 / (self.rate * _PART)
            times.append(now + int(missing) + 1)
        return min(times, default=None)
