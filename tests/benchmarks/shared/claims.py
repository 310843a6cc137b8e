"""Claims of a board's tasks, as fast as workers make them: for whatever platform's benchmark runs this."""

from __future__ import annotations

import asyncio
import time

from alkaline_edge import Runtime
from alkaline_edge.board import Board
from alkaline_edge.host import Host


async def filled(host: Host, count: int, name: str = "b") -> tuple[Runtime, Board]:
    """A board of so many ready tasks."""
    runtime = Runtime(host)
    board = Board(runtime, name)
    for n in range(count):
        await board.create("a task", id=f"t{n:06d}")
    return runtime, board


async def claims(host: Host, workers: int, count: int, name: str = "b") -> float:
    """Tasks a second that are claimed and completed by so many workers, each with a runtime of its own."""
    runtime = (await filled(host, count, name))[0]

    async def work(worker: str) -> None:
        async with Runtime(host) as own:
            mine = Board(own, name)
            while (claim := await mine.claim(worker)) is not None:
                await claim.complete()

    began = time.perf_counter()
    await asyncio.gather(*(work(f"w{n}") for n in range(workers)))
    took = time.perf_counter() - began
    await runtime.close()
    return count / took
