"""What asyncio.as_completed gives inside a handler: awaitables in the given order, never in that of their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

__all__ = ["Completed"]


class Completed:
    """Gives out the awaitables of as_completed, as they end."""

    def __init__(self, aws: Iterable[Awaitable[Any]], timeout: float | None, loop: Any) -> None:
        self._queue: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()
        self._open: dict[asyncio.Future[Any], None] = {}
        for one in dict.fromkeys(aws):
            self._open[asyncio.ensure_future(one, loop=loop)] = None
        self._left = len(self._open)
        self._timer: asyncio.TimerHandle | None = None
        for future in self._open:
            future.add_done_callback(self._ended)
        if self._open and timeout is not None:
            self._timer = loop.call_later(timeout, self._timed_out)

    def __iter__(self) -> Completed:
        return self

    def __aiter__(self) -> Completed:
        return self

    def __next__(self) -> Awaitable[Any]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._result()

    async def __anext__(self) -> asyncio.Future[Any]:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return await self._next()

    async def _result(self) -> Any:
        return (await self._next()).result()

    async def _next(self) -> asyncio.Future[Any]:
        future = await self._queue.get()
        if future is None:
            raise TimeoutError
        return future

    def _timed_out(self) -> None:
        for future in self._open:
            future.remove_done_callback(self._ended)
            self._queue.put_nowait(None)
        self._open.clear()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        if not self._open:
            return
        del self._open[future]
        self._queue.put_nowait(future)
        if not self._open and self._timer is not None:
            self._timer.cancel()
