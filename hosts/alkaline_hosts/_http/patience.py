"""How long an answer waits for a run: over HTTP for a minute, and no longer than somebody waits for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from alkaline_edge.host import Host

WAIT_SECONDS = 60.0
"""For how long an HTTP request waits for a run: longer ones are cut by what lies between."""

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
