"""What one item costs of many: live and on replay, on memory, in us of this process's CPU. For ``bench``."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.runtime.loading import Loader
from alkaline_hosts.memory import MemoryHost

PAYLOAD = {"title": "x" * 40, "url": "y" * 40, "n": 12345}


def search(n: int) -> dict[str, Any]:
    return {**PAYLOAD, "n": 10_000 + n}


@workflow
async def one_by_one(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("search", search, n)
    await ctx.wait_for_signal("end")


@workflow
async def at_once(ctx: Context, count: int) -> None:
    await ctx.map(lambda n: ctx.step("search", search, n), range(count))
    await ctx.wait_for_signal("end")


@workflow
async def sleeps(ctx: Context, count: int) -> None:
    for _ in range(count):
        await ctx.sleep(0)
    await ctx.wait_for_signal("end")


@workflow
async def timers(ctx: Context, count: int) -> None:
    await ctx.map(lambda _: ctx.sleep(0.001), range(count))
    await ctx.wait_for_signal("end")


@workflow
async def signals(ctx: Context, count: int) -> None:
    for _ in range(count):
        await ctx.wait_for_signal("go")
    await ctx.wait_for_signal("end")


@workflow
async def child(ctx: Context, n: int) -> int:
    return n


@workflow
async def children(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.child(child, n)
    await ctx.wait_for_signal("end")


@workflow
async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


FLOWS = [one_by_one, at_once, sleeps, timers, signals, child, children, waits]


def spread(ratios: list[float]) -> str:
    """The middle one of ``ratios``, with the least and the most."""
    low, *_, high = found = sorted(ratios)
    return f"{found[len(found) // 2]:.2f} ({low:.2f} to {high:.2f})"


async def spent(work: Awaitable[Any]) -> float:
    gc.collect()
    began = time.process_time()
    await work
    return time.process_time() - began


async def flow(name: str, count: int) -> tuple[float, float]:
    """Seconds for a run of ``count`` of what the workflow ``name`` does, and to replay it."""
    host = MemoryHost()
    async with Runtime(host, workflows=FLOWS) as runtime:

        async def live() -> None:
            run = await runtime.start(name, count, id="a")
            if name == "signals":
                for _ in range(count):
                    await run.signal("go")
            while (await runtime.get_execution("a")).waiting != ["signal end"]:
                await run.settle()
                await asyncio.sleep(0.001)

        first = await spent(live())
    runtime = Runtime(host, workflows=FLOWS)
    record = await runtime.get_execution("a")

    async def replay() -> None:
        (await Loader(runtime.store, runtime.registry).load(record, 1)).machine.set_aside()

    return first, min([await spent(replay()) for _ in range(3)])


async def awaited(count: int) -> float:
    """Seconds for as many runs that are suspended and awaited, to be woken one after the other."""
    async with Runtime(MemoryHost(), workflows=FLOWS) as runtime:
        runs = [await runtime.start("waits") for _ in range(count)]
        for each in runs:
            await each.settle()
        waiting = [asyncio.ensure_future(each.result()) for each in runs]
        await asyncio.sleep(0)

        async def wake() -> None:
            for each in runs:
                await each.signal("go")
                await each.settle()
            await asyncio.gather(*waiting)

        return await spent(wake())


async def measure(counts: tuple[int, ...], row: Callable[..., None]) -> None:
    """A row for each, live and replayed; met where the most cost at most half as much again as the fewest."""

    def print_row(what: str, costs: list[float], sizes: tuple[int, ...]) -> None:
        figure, ratio = " / ".join(f"{cost:.1f}" for cost in costs), costs[-1] / costs[0]
        row(f"{what}, CPU us each; n = {' / '.join(map(str, sizes))}", figure, "<= 1.5 x", ratio <= 1.5)

    for name in ("one_by_one", "at_once", "sleeps", "timers", "signals", "children"):
        sizes = counts[:2] if name == "children" else counts
        both = [[each / count * 1e6 for each in await flow(name, count)] for count in sizes]
        print_row(f"live, {name}", [live for live, _ in both], sizes)
        print_row(f"replay, {name}", [replayed for _, replayed in both], sizes)
    pairs = [[(await flow(name, counts[1]))[1] for name in ("at_once", "one_by_one")] for _ in range(7)]
    ratios = sorted(fan_out / sequence for fan_out, sequence in pairs)
    row("replay, a fan-out's step / a sequence's", spread(ratios), "<= 2", ratios[3] <= 2)
    woken = [await awaited(count) / count * 1e6 for count in counts[:2]]
    print_row("awaited runs, each woken", woken, counts[:2])
