"""What boards and schedules cost: claims a second, and whether that grows with what is stored: `make bench`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.board import Board
from alkaline_edge.triggers import Every, Triggers
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost

from .shared.claims import claims, filled

Row = Callable[..., None]


@workflow
async def ticked(ctx: Context) -> None:
    return None


async def _cost(call: Callable[[], Any], times: int) -> float:
    """The least microseconds of a call."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - began) * 1e6)
    return min(spent)


async def growing(small: int, large: int, row: Row) -> None:
    """A claim with its end, and a page, on a board with few tasks and on one with many."""
    boards = [await filled(MemoryHost(), count) for count in (small, large)]

    def claiming(board: Board) -> Callable[[], Any]:
        async def call() -> None:
            claim = await board.claim("w")
            assert claim is not None
            await claim.complete()

        return call

    for what, made in (
        ("claim and complete", claiming),
        ("list(limit=50)", lambda board: lambda: board.list("ready", limit=50)),
    ):
        a, b = [await _cost(made(board), 60) for _, board in boards]
        row(f"{what}: us, {small:,} -> {large:,} tasks", f"{a:.0f} -> {b:.0f} = {b / a:.2f}", "<= 1.5", b / a <= 1.5)
    for runtime, _ in boards:
        await runtime.close()


async def schedules(small: int, large: int, row: Row) -> None:
    """A `run_due` that starts one tick, with few schedules stored and with many."""
    costs = []
    for count in (small, large):
        now = [1_700_000_000_000]
        async with Runtime(MemoryHost(now_ms=lambda now=now: now[0]), workflows=[ticked]) as runtime:
            triggers = Triggers(runtime)
            for n in range(count):
                await triggers.create(f"s{n:05d}", ticked, Every(864_000), max_runs=1)
            await triggers.create("often", ticked, Every(1))

            async def tick(runtime: Runtime = runtime, now: list[int] = now) -> None:
                now[0] += 1_000
                await runtime.run_due()

            costs.append(await _cost(tick, 60))
    a, b = costs
    figure = f"{a:.0f} -> {b:.0f} = {b / a:.2f}"
    row(f"a tick by run_due: us, {small:,} -> {large:,} schedules", figure, "<= 1.5", b / a <= 1.5)


def measure(row: Row, count: int = 1_000, large: int = 100_000, many: int = 10_000) -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        for name, host in (("memory", MemoryHost), ("file", lambda: FileHost(Path(folder, f"{time.time_ns()}")))):
            rates = [max(asyncio.run(claims(host(), workers, count)) for _ in range(3)) for workers in (1, 8)]
            row(f"claims with their ends a second, {name}: 1 and 8 workers", f"{rates[0]:,.0f}, {rates[1]:,.0f}")
    asyncio.run(growing(1_000, large, row))
    asyncio.run(schedules(100, many, row))
