"""A TCP proxy that is as bad as networks get: it holds bytes back, cuts answers in the middle, falls silent, repeats.

TCP itself repeats nothing. What delivers a request twice is a proxy that sends it again on a new connection, so that is
what is done here: the bytes of one commit, once more, a moment later, and nobody is told of the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.servers.repeating import Repeats

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Chaos:
    """Passes on what comes to ``port`` to the server at ``target``. The chances are for each piece that is passed on.

    ``target`` may be set anew: later connections go there. ``twice`` (the chance for a commit to be delivered twice)
    wants ``repeats``, which says what of a connection's bytes is a commit: ``tests.servers.repeating``.
    ``done`` counts what befell connections: ``delay`` (up to ``longest`` seconds), ``cut`` (a part of the piece
    arrives, then both ends are reset), ``silent`` (nothing arrives any more, and after up to ``longest`` seconds a
    reset), ``refused`` (the server is not there), ``twice``.
    """

    def __init__(
        self, target: int, seed: int, *, delay: float = 0.002, cut: float = 0.002, silent: float = 0.0003,
        longest: float = 6.0, twice: float = 0.02, repeats: Callable[[], Repeats] | None = None,
    ) -> None:  # fmt: skip
        self.target, self.chance = target, random.Random(seed)
        self.chances = {"delay": delay, "cut": cut, "silent": silent}
        self.longest, self.twice, self.repeats = longest, twice, repeats
        self.done: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.repeating = asyncio.Event()
        """What is delivered twice waits for this: a test holds it back until others have written."""
        self.repeating.set()

    async def __aenter__(self) -> Chaos:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, *client: asyncio.StreamReader | asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        reader, writer = client
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        try:
            await self._connect(reader, writer)
        except OSError:
            self.done["refused"] += 1
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio's streams would print it
        finally:
            reset(writer)
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        repeats = self.repeats() if self.repeats else None
        both = [
            asyncio.ensure_future(self._pass_on(reader, server_writer, repeats)),
            asyncio.ensure_future(self._pass_on(server_reader, writer, None)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            reset(server_writer)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, repeats: Repeats | None
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                for commit in repeats.commits(piece) if repeats else ():
                    if self.chance.random() < self.twice:
                        self._tasks.add(task := asyncio.ensure_future(self._again(commit)))
                        task.add_done_callback(self._tasks.discard)
                fate = self._fate()
                if fate:
                    self.done[fate] += 1
                    await asyncio.sleep(0 if fate == "cut" else self.chance.uniform(0.05, self.longest))
                if fate in ("cut", "silent"):
                    writer.write(piece[: self.chance.randrange(len(piece))] if fate == "cut" else b"")
                    return
                writer.write(piece)
                await writer.drain()

    async def _again(self, commit: Sequence[bytes]) -> None:
        """Deliver it on a connection of its own; each part once the server has answered the one before."""
        await asyncio.sleep(self.chance.uniform(0, 1))
        await self.repeating.wait()
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                async with asyncio.timeout(self.longest):
                    for part in commit:
                        writer.write(part)
                        await reader.read(1 << 16)
                        await asyncio.sleep(0.01)  # the rest of the answer, which nobody reads
                    self.done["twice"] += 1
            finally:
                reset(writer)

    def _fate(self) -> str:
        drawn = self.chance.random()
        for fate, chance in self.chances.items():
            drawn -= chance
            if drawn < 0:
                return fate
        return ""


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: the other end learns nothing of what was on its way."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError):
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()
