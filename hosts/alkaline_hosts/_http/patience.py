"""How long an answer waits for a run, over HTTP for a minute, and no longer than somebody waits for it; and a body."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from alkaline_edge.host import Host

WAIT_SECONDS = 60.0
"""For how long an HTTP request waits for a run: longer ones are cut by what lies between."""
PULSE_SECONDS = 15.0
"""After so long without an event a stream sends a comment: what lies between keeps the connection, and each side sees
when the other is gone."""
SLOWEST = 16 * 1024
"""Bytes a second: what is large may take longer than its time if it comes as fast as that."""

Patience = Callable[[Coroutine[Any, Any, Any]], Awaitable[tuple[bool, Any]]]
"""Awaits work: whether it ended in time, and what it returned."""


async def without_end(work: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """However long it takes."""
    return True, await work


def within(host: Host, gone: Callable[[], Awaitable[None]] | None) -> Patience:
    """For WAIT_SECONDS, and until ``gone`` returns, where it is given; nothing goes on behind."""

    async def wait(work: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
        task = asyncio.ensure_future(work)
        limits = [asyncio.ensure_future(host.sleep(WAIT_SECONDS))]
        if gone is not None:
            limits.append(asyncio.ensure_future(gone()))
        try:
            await asyncio.wait([task, *limits], return_when=asyncio.FIRST_COMPLETED)
            return (True, task.result()) if task.done() else (False, None)
        finally:
            for each in (task, *limits):
                each.cancel()
            await asyncio.gather(task, *limits, return_exceptions=True)

    return wait


@contextlib.asynccontextmanager
async def arriving(seconds: float) -> AsyncIterator[Callable[[int], None]]:
    """TimeoutError after ``seconds``; later by a second for each SLOWEST bytes of which what it yields is told."""
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds) as limit:
        yield lambda size: limit.reschedule(begun + seconds + size / SLOWEST)
