"""Work beside a beat, several at a time: what a loop that claims things and does them is made of.

A piece of work ends in one of four ways: it returned, it raised, what it was done under was lost, or it was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

from ..interrupts import ends_the_process

Ended = tuple[Literal["returned", "raised", "lost", "stopped"], Any]


async def beside(work: Awaitable[Any], beat: Callable[[], Awaitable[Any]], seconds: float, sleep: Sleep) -> Ended:
    """Do ``work``, and ``beat`` every so many ``seconds`` meanwhile. Where that raises, the work is cancelled.

    What ends a process, such as KeyboardInterrupt, is raised.
    """
    doing = asyncio.ensure_future(_guarded(work))
    try:
        while True:
            pause = asyncio.ensure_future(sleep(seconds))
            await asyncio.wait({doing, pause}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                await _cancel(pause)
                break
            pause.result()
            try:
                await beat()
            except Exception as error:
                await _cancel(doing)
                return "lost", error
    except asyncio.CancelledError:
        await _cancel(doing)
        return "stopped", None
    except BaseException:
        await _cancel(doing)
        raise
    if doing.cancelled():
        return "raised", asyncio.CancelledError("the work cancelled itself")
    return doing.result()


async def _guarded(work: Awaitable[Any]) -> Ended:
    """How the work ended. A task that leaves by SystemExit would end the loop, and all that runs in it."""
    try:
        return "returned", await work
    except Exception as error:
        return "raised", error
    except (SystemExit, KeyboardInterrupt) as error:
        if ends_the_process(error):
            raise
        return "raised", error


Sleep = Callable[[float], Awaitable[Any]]


class Crew:
    """So many pieces of work at a time. What ends the process is raised by ``check``."""

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most, self._changed = most, changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None

    @property
    def free(self) -> bool:
        """Whether there is room for another piece."""
        return len(self._tasks) < self._most

    def add(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a piece of work."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
        self._changed()

    def check(self) -> None:
        """Raise what no piece of work may raise, if one did."""
        if self._broken is not None:
            raise self._broken

    async def end(self) -> None:
        """Stop every piece of work, and wait until it has ended."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
