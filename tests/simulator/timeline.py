"""Virtual time: an asyncio loop that never waits, and simulated processes whose callbacks it can stop or drop.

A process is killed as a machine kills it: its callbacks never run again, so no ``finally`` of its own can tidy up. One
that is frozen stands still, and goes on where it was when it thaws: the garbage collector, a laptop's lid, a slow disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from types import coroutine
from typing import Any

START_MS = 1_700_000_000_000
PROCESS: ContextVar[Process | None] = ContextVar("simulated_process", default=None)


class Endless(Exception):
    """The schedule went on for more callbacks than any sound one needs."""


class Callback(list[Any]):
    """What ``call_soon`` and ``call_at`` give: as asyncio's Handle, without what debugging wants.

    A list of the callback, its arguments and its context, since making one takes no call in Python. One that was
    cancelled is empty.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Never run it."""
        self.clear()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return not self


class Timeline(asyncio.BaseEventLoop):
    """An event loop whose time moves to the next timer as soon as nothing is ready. Times are in seconds from 0."""

    def __init__(self, most_callbacks: int) -> None:
        super().__init__()
        self.now = 0.0
        self.left = most_callbacks
        self.why = "more callbacks than any sound schedule needs: something goes round in circles"
        self.queue: deque[Callback] = deque()
        self.timers: list[tuple[float, int, Callback]] = []
        self.count = 0
        self.set_exception_handler(lambda loop, context: None)
        self.get_debug = bool  # type: ignore[assignment]  # every future asks, and the base's is a call in Python

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    _stopping: bool  # the base's: set by what ends run_until_complete

    def stop_as_endless(self, why: str) -> None:
        """End the schedule at the next turn."""
        self.left, self.why = -1, why

    def _run_once(self) -> None:
        ready, timers = self.queue, self.timers
        while not self._stopping:
            if not ready:
                while timers and not timers[0][2]:
                    heappop(timers)
                if not timers:
                    raise Endless("every process waits, and nothing will ever happen")
                if timers[0][0] > self.now:
                    self.now = timers[0][0]
            now = self.now
            while timers and timers[0][0] <= now:
                handle = heappop(timers)[2]
                if handle:
                    ready.append(handle)
            count = len(ready)
            self.left -= count
            if self.left < 0:
                raise Endless(self.why)
            for _ in range(count):
                handle = ready.popleft()
                if not handle:
                    continue
                callback, args, context = handle
                process = context.get(PROCESS)
                if process is not None and process.stopped:
                    if not process.dead:
                        process.parked.append(handle)
                    continue
                try:
                    context.run(callback, *args)
                except Endless:
                    raise
                except Exception:  # as a loop does: what a callback raises is not the loop's to judge
                    continue

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """As a loop's."""
        handle = Callback((callback, args, copy_context() if context is None else context))
        self.queue.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """As a loop's."""
        self.count += 1
        handle = Callback((callback, args, copy_context() if context is None else context))
        heappush(self.timers, (when, self.count, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """As a loop's."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """As a loop's, without a factory."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)


@coroutine
def turn() -> Generator[None, None, None]:
    """One turn of the loop."""
    yield


class Process:
    """What dies, freezes, and has a clock of its own."""

    run_until_complete = None
    """As a loop has it: who walks from a handler's frame by way of a context stops here, and not at the whole world."""

    def __init__(self, loop: Timeline, name: str, skew_ms: int = 0) -> None:
        self.loop, self.name, self.skew_ms = loop, name, skew_ms
        self.dead = self.stopped = False
        self.parked: list[Callback] = []
        self.frozen_until = 0.0
        self.in_thread = False
        """What runs now runs in a thread of it."""
        self.world: Any = None
        self.kept: list[Any] = []
        """What lives as long as the process, so that nothing of it is collected while others run."""
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, main: Any) -> asyncio.Task[Any]:
        """Begin ``main``, a coroutine, in this process."""
        task = self.loop.create_task(main, context=self.context)
        self.kept.append(task)
        return task

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """From outside: have the process do something."""
        if not self.dead:
            self.loop.call_soon(callback, context=self.context)

    def now_ms(self) -> int:
        """The time by this process's clock."""
        return START_MS + int(max(self.loop.now, self.frozen_until) * 1000) + self.skew_ms

    def kill(self) -> None:
        """Nothing of it runs again."""
        if not self.dead:
            self.dead = self.stopped = True
            self.parked.clear()
            self.died()

    def died(self) -> None:
        """It is dead as of now."""

    def freeze(self, seconds: float) -> None:
        """Stand still for ``seconds``."""
        until = self.loop.now + seconds
        if self.dead or until <= self.frozen_until:
            return
        self.stopped, self.frozen_until = True, until
        _outside(self.loop, seconds, self._thaw)

    def block(self, seconds: float) -> None:
        """A call of this process takes ``seconds``: it stands still, and sees the time behind it."""
        self.frozen_until = max(self.loop.now, self.frozen_until)
        until = self.frozen_until + seconds
        self.stopped, self.frozen_until = True, until
        _outside(self.loop, until - self.loop.now, self._thaw)

    def _thaw(self) -> None:
        if not self.dead and self.stopped and self.loop.now >= self.frozen_until - 1e-9:
            self.stopped = False
            parked, self.parked = self.parked, []
            self.loop.queue.extendleft(reversed(parked))


_NOWHERE = copy_context()


def _outside(loop: Timeline, seconds: float, callback: Callable[[], Any]) -> None:
    """Call later, in no process."""
    loop.call_later(seconds, callback, context=_NOWHERE)


def later(loop: Timeline, seconds: float, callback: Callable[[], Any]) -> None:
    """Call ``callback`` after ``seconds``, in no process."""
    _outside(loop, seconds, callback)
