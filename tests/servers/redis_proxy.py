"""A TCP proxy in front of a Redis, which loses commands or their answers when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Literal

from alkaline_hosts._redis.scripts import COMMIT

Loss = Literal["before", "after", "mute", "late"]
"""before: the commit is not passed on; after: it is, and its answer is not; both end the connection. mute: its answer
is not passed on, and the connection stays. late: the connection ends, and the commit is passed on at ``release``."""


class Proxy:
    """Listens at ``port`` while it is entered. ``lose(n)`` says what befalls the commit number ``n``, from 1.

    ``of``: what a command holds that is counted in place of commits.
    """

    def __init__(
        self, target: int, lose: Callable[[int], Loss | None] = lambda n: None, of: bytes = COMMIT.digest
    ) -> None:
        self.target, self.lose, self.of = target, lose, of
        self.commits = self.lost = 0
        self.held, self._released = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def release(self) -> None:
        """Pass on the commit that is late."""
        self._released.set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                upstream = await asyncio.open_connection("127.0.0.1", self.target)
                await Link(self, (reader, writer), upstream).run()
        finally:
            writer.close()
            self._tasks.discard(task)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """One connection through the proxy. A request is one piece of what is read: the tests' are small."""

    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.swallow = False
        self.swallowed = asyncio.Event()

    async def run(self) -> None:
        back = asyncio.ensure_future(self._answers())
        try:
            while request := await self.client[0].read(1 << 20):
                if not await self._pass_on(request):
                    return
        finally:
            back.cancel()
            self.server[1].close()

    async def _pass_on(self, request: bytes) -> bool:
        """Whether the connection goes on."""
        loss = None
        if self.proxy.of in request:
            self.proxy.commits += 1
            loss = self.proxy.lose(self.proxy.commits)
        self.proxy.lost += loss is not None
        if loss == "before":
            return False
        if loss == "late":
            self.client[1].close()
            self.proxy.held.set()
            await self.proxy._released.wait()
        self.swallow = loss is not None
        self.server[1].write(request)
        await self.server[1].drain()
        if loss in ("after", "late"):
            await self.swallowed.wait()
            return False
        return True

    async def _answers(self) -> None:
        with contextlib.suppress(OSError):
            while answer := await self.server[0].read(1 << 20):
                if self.swallow:
                    self.swallow = False
                    self.swallowed.set()
                else:
                    self.client[1].write(answer)
                    await self.client[1].drain()
        self.client[1].close()
