"""Another host under a runtime: everything is copied, and nothing is written behind the copy."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from alkaline_edge import (
    ConflictError,
    Context,
    Runtime,
    migrate,
    workflow,
)
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import Delay
from tests.support import Process, drive
from tests.travellers import flow, ran, suspended


def test_a_runtime_goes_on_upon_another_host() -> None:
    """swap_host copies everything, and the run ends there; a host that holds other runs is refused."""

    async def test() -> None:
        process = await suspended()
        target = SimulatedHost(seed=3)
        await process.runtime.swap_host(target)
        await process.runtime.signal("a", "go")
        assert await process.runtime.result("a", None) == [[0, 10, 20], 10, "none"]
        assert ran == [0, 1, 2]
        assert (await Runtime(process.host.reopen(), workflows=[flow]).get_execution("a")).status == "suspended"
        foreign = Process(flow, host=SimulatedHost(seed=9))
        await foreign.runtime.start("flow", 1, id="other")
        with pytest.raises(ConflictError, match="empty store"):
            await migrate(target, foreign.host)
        await process.runtime.close()
        await foreign.runtime.close()

    drive(test)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_written_behind_a_copy(seed: int) -> None:
    """What serve, starts and signals write while a host is swapped is on the new one."""

    async def note() -> None:
        await asyncio.sleep(0)

    @workflow
    async def busy(ctx: Context, steps: int) -> int:
        for _ in range(steps):
            await ctx.step("note", note)
            await ctx.sleep(0.05)
        return int(await ctx.wait_for_signal("go"))

    async def test() -> None:
        draw = random.Random(seed)
        process = Process(busy, host=SimulatedHost(seed=seed))
        runtime, old = process.runtime, process.host
        new = SimulatedHost(clock=old.clock, seed=seed + 100)
        server = asyncio.ensure_future(runtime.serve())
        for n in range(30):  # more than a page of keys: the copy takes its time
            await runtime.start("busy", 3, id=f"r{n:02}")
        tasks: list[asyncio.Task[Any]] = []
        for host in (old, new):
            host.on_call = lambda number, verb, arguments: Delay(draw.choice([0, 5, 40]))
        tasks.append(asyncio.ensure_future(runtime.swap_host(new)))
        for n in range(30, 60):
            await old.sleep(draw.choice([0, 0.01, 0.03]))
            tasks.append(asyncio.ensure_future(runtime.start("busy", 2, id=f"r{n:02}")))
            tasks.append(asyncio.ensure_future(runtime.signal(f"r{n - 30:02}", "go", n)))
        await asyncio.gather(*tasks)
        assert runtime.host is new
        for n in range(30):
            assert await runtime.result(f"r{n:02}", 60) == n + 30
            await runtime.signal(f"r{n + 30:02}", "go", 1)
            assert await runtime.result(f"r{n + 30:02}", 60) == 1
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
        await runtime.close()

    drive(test)
