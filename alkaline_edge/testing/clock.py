"""Virtual time: it moves when a test moves it, or by itself once nobody has anything else to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from types import coroutine
from typing import NamedTuple

START_MS = 1_700_000_000_000
IDLE_TURNS = 12
"""Turns of the event loop without progress after which time jumps to the next sleeper."""


@coroutine
def turn() -> Generator[None, None, None]:
    """One turn of whatever event loop runs this, as ``asyncio.sleep(0)``."""
    yield


class _Sleeper(NamedTuple):
    until: float
    number: int
    future: asyncio.Future[None]
    check: Callable[[], None] | None


class VirtualClock:
    """Milliseconds since 1970 that cost no real time; hosts that share a clock share its time.

    It begins at ``start_ms``.

    With ``auto``, once the event loop has turned ``idle_turns`` times while nobody called ``touch`` (a host does so at
    each of its calls), time moves to the deadline of the earliest sleeper. So a month of sleep ends at once, and never
    ahead of work that makes progress through a host. Work that a host does not see, such as a thread or a socket, must
    say ``with clock.held():`` or be overtaken. Without ``auto``, only ``advance`` moves time. A sleeper costs nothing
    while it sleeps: one callback of the loop counts turns for all.
    """

    def __init__(self, start_ms: int = START_MS, *, auto: bool = True, idle_turns: int = IDLE_TURNS) -> None:
        self.now_ms = start_ms
        self.auto, self.idle_turns = auto, idle_turns
        self._progress = 0
        self._holds = 0
        self._number = 0
        self._sleepers: list[_Sleeper] = []
        self._counting: asyncio.AbstractEventLoop | None = None
        self._idle = self._seen = self._gone = self._jumps = 0

    @property
    def next_deadline(self) -> float | None:
        """The time in ms at which the earliest sleeper wakes, None if nobody sleeps."""
        self._drop_done()
        return self._sleepers[0].until if self._sleepers else None

    def advance(self, ms: float) -> None:
        """Move time on, or back with a negative number. Sleepers whose time has come wake at the loop's next turn."""
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
        """Return once the clock has moved by ``seconds``. ``check`` is called before time moves, and may raise."""
        loop = asyncio.get_running_loop()
        self._number += 1
        until = self.now_ms + max(0.0, seconds) * 1000
        sleeper = _Sleeper(until, self._number, loop.create_future(), check)
        heappush(self._sleepers, sleeper)
        if self._counting is not loop:
            self._counting, self._idle, self._seen = loop, 0, self._progress
            loop.call_soon(self._turn, loop)
        try:
            await sleeper.future
        finally:
            if sleeper.future.cancelled():
                self._gone += 1
                if self._gone > 64 and self._gone > len(self._sleepers) // 2:
                    self._forget()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once in each turn of the loop, for as long as anybody sleeps."""
        if self._counting is not loop:
            return
        if self._progress == self._seen:
            self._idle += 1
        else:
            self._idle, self._seen = 0, self._progress
        if self._idle > self.idle_turns and self.auto and not self._holds:
            self._jumps += 1
            if self._jumps % 64 == 0 or len(self._sleepers) <= 16:
                self._forget()
            while self._sleepers and not _lives(self._sleepers[0]):
                heappop(self._sleepers)  # a process that is dead does not move time
            until = self.next_deadline
            if until is not None and self.now_ms < until < float("inf"):
                self.now_ms = int(-(-until // 1))  # rounded up: nobody wakes before its time
                self.touch()
            self._idle, self._seen = 0, self._progress
        self._wake_due()
        if self._sleepers:
            loop.call_soon(self._turn, loop)
        else:
            self._counting = None

    def _wake_due(self) -> None:
        while self._sleepers and (self._sleepers[0].until <= self.now_ms or self._sleepers[0].future.done()):
            sleeper = heappop(self._sleepers)
            if not sleeper.future.done() and _lives(sleeper):
                sleeper.future.set_result(None)

    def _drop_done(self) -> None:
        while self._sleepers and self._sleepers[0].future.done():
            heappop(self._sleepers)

    def _forget(self) -> None:
        """Let go of sleepers that were cancelled, and of those whose ``check`` raises, which are told."""
        self._gone = 0
        self._sleepers = [each for each in self._sleepers if not each.future.done() and _lives(each)]
        heapify(self._sleepers)


def _lives(sleeper: _Sleeper) -> bool:
    if sleeper.future.done():
        return False
    if sleeper.future.get_loop() is not asyncio.get_running_loop():
        return False  # its loop has ended
    try:
        if sleeper.check is not None:
            sleeper.check()
    except BaseException as error:  # a simulated crash is no Exception
        sleeper.future.set_exception(error)
        return False
    return True
