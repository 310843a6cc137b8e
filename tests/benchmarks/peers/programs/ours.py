"""alkaline_edge, on memory or on a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import harness

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost


async def step(n: int) -> Any:
    return harness.payload(n)


@workflow
async def sequence(ctx: Context, count: int) -> int:
    for n in range(count):
        await ctx.step("step", step, n)
    return count


@workflow
async def fan(ctx: Context, count: int) -> int:
    await asyncio.gather(*(ctx.step("step", step, n) for n in range(count)))
    return count


@workflow
async def held(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("step", step, n)
    await ctx.wait_for_signal("end")


@workflow
async def held_fan(ctx: Context, count: int) -> None:
    await asyncio.gather(*(ctx.step("step", step, n) for n in range(count)))
    await ctx.wait_for_signal("end")


def _host(folder: Path, on_file: bool) -> Any:
    return FileHost(folder / "store.alkaline") if on_file else MemoryHost()


async def _one(flow: Any, count: int, folder: Path, on_file: bool) -> Any:
    host = _host(folder, on_file)
    async with Runtime(host, workflows=[flow]) as runtime:
        with harness.spent(count) as found:
            assert await (await runtime.start(flow, count)).result() == count
    await host.close()
    if on_file:
        found["bytes"] = harness.bytes_in(folder) / count
    return found


async def _many(count: int, folder: Path, on_file: bool) -> Any:
    host = _host(folder, on_file)
    async with Runtime(host, workflows=[sequence]) as runtime:
        with harness.spent(harness.RUNS * count) as found:
            runs = [await runtime.start(sequence, count) for _ in range(harness.RUNS)]
            await asyncio.gather(*(run.result() for run in runs))
    await host.close()
    return found


async def _replay(flow: Any, count: int) -> Any:
    host = MemoryHost()
    async with Runtime(host, workflows=[flow]) as runtime:
        await (await runtime.start(flow, count, id="r")).settle()
    async with Runtime(host, workflows=[flow]) as runtime:
        with harness.spent(count) as found:
            await (await runtime.resume("r")).settle()
    return found


async def first(count: int, folder: Path) -> Any:
    await _one(sequence, 1, folder, False)
    return harness.since_begun()


harness.main({
    "sequence": lambda count, folder: _one(sequence, count, folder, False),
    "sequence_on_disk": lambda count, folder: _one(sequence, count, folder, True),
    "fan": lambda count, folder: _one(fan, count, folder, False),
    "fan_on_disk": lambda count, folder: _one(fan, count, folder, True),
    "many": lambda count, folder: _many(count, folder, False),
    "many_on_disk": lambda count, folder: _many(count, folder, True),
    "replay": lambda count, folder: _replay(held, count),
    "replay_fan": lambda count, folder: _replay(held_fan, count),
    "first": first,
})  # fmt: skip
