"""Virtual time: it moves when a test moves it, or by itself once nobody has anything else to do."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import coroutine

START_MS = 1_700_000_000_000
IDLE_TURNS = 12
"""Turns of the event loop without progress after which time jumps to the next sleeper."""


@coroutine
def turn() -> Generator[None, None, None]:
    """One turn of whatever event loop runs this, as ``asyncio.sleep(0)``."""
    yield


class VirtualClock:
    """Milliseconds since 1970 that cost no real time; hosts that share a clock share its time.

    A sleeper gives the event loop turn after turn. With ``auto``, once it has done so ``idle_turns`` times while
    nobody called ``touch`` (a host does so at each of its calls), the sleeper with the earliest deadline moves time
    there. So a month of sleep ends at once, and never ahead of work that makes progress through a host. Work that a
    host does not see, such as a thread or a socket, must say ``with clock.held():`` or be overtaken. Without
    ``auto``, only ``advance`` moves time.
    """

    def __init__(self, start_ms: int = START_MS, *, auto: bool = True, idle_turns: int = IDLE_TURNS) -> None:
        self.now_ms = start_ms
        self.auto, self.idle_turns = auto, idle_turns
        self._progress = 0
        self._holds = 0
        self._deadlines: list[float] = []

    @property
    def next_deadline(self) -> float | None:
        """The time in ms at which the earliest sleeper wakes, None if nobody sleeps."""
        return self._deadlines[0] if self._deadlines else None

    def advance(self, ms: float) -> None:
        """Move time on, or back with a negative number. Sleepers whose time has come wake at their next turn."""
        self.now_ms += round(ms)
        self.touch()

    def touch(self) -> None:
        """Something happened: time waits for it to have its effect."""
        self._progress += 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Time does not move by itself inside this ``with``."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.touch()

    async def sleep(self, seconds: float, check: Callable[[], None] | None = None) -> None:
        """Return once the clock has moved by ``seconds``. ``check`` is called at every turn, and may raise."""
        until = self.now_ms + max(0.0, seconds) * 1000
        insort(self._deadlines, until)
        try:
            idle, seen = 0, self._progress
            while True:
                await turn()
                if check is not None:
                    check()
                if self.now_ms >= until:
                    return
                idle, seen = (idle + 1, seen) if self._progress == seen else (0, self._progress)
                if idle > self.idle_turns and self._may_jump(until):
                    self.now_ms = int(-(-until // 1))  # rounded up: nobody wakes before its time
                    self.touch()
        finally:
            self._deadlines.remove(until)

    def _may_jump(self, until: float) -> bool:
        return self.auto and not self._holds and until == self._deadlines[0] and until < float("inf")
