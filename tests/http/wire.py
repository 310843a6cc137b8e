"""A real server on loopback, and a proxy in front of it that cuts the wire after some number of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port on which uvicorn answers for ``app``, in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", timeout_graceful_shutdown=1))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # pytest has its own
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


class CuttingProxy:
    """Passes bytes on to a port, and cuts every connection once ``limit`` bytes went ``up`` or ``down``.

    ``count`` says how many went each way. With ``limit`` None nothing is cut.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.count = {"up": 0, "down": 0}
        self.direction, self.limit = "up", -1
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def arm(self, direction: str, limit: int) -> None:
        """Count anew, and cut after ``limit`` bytes in that direction; -1: never."""
        self.count = {"up": 0, "down": 0}
        self.direction, self.limit = direction, limit

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, behind[1])
        for direction, source, sink in (("up", reader, behind[1]), ("down", behind[0], writer)):
            task = asyncio.ensure_future(self._pass(direction, source, sink, pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: Any) -> None:
        try:
            while data := await source.read(65_536):
                room = self.limit - self.count[self.direction] if self.limit >= 0 else len(data)
                allowed = data if direction != self.direction or self.limit < 0 else data[: max(0, room)]
                self.count[direction] += len(allowed)
                if allowed:
                    sink.write(allowed)
                    await sink.drain()
                if len(allowed) < len(data):
                    self.cuts += 1
                    break
        except OSError:
            pass
        finally:
            for writer in pair:
                if self.limit >= 0 and self.cuts:
                    writer.transport.abort()  # as a cable that is pulled, not as a peer that says goodbye
                else:
                    writer.close()
