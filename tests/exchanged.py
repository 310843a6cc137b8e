"""Runs that tests send from store to store: a long one, one of several generations, and a parent with its child."""

from __future__ import annotations

from typing import Any

from alkaline_edge import Context, workflow
from alkaline_edge.testing import SimulatedHost
from tests.support import Process

ran: list[Any] = []
"""What ``work`` was called with, in order; ``suspended`` clears it."""


async def work(n: int) -> Any:
    ran.append(n)
    return n * 10


@workflow
async def flow(ctx: Context, size: int) -> Any:
    done = [await ctx.step("work", work, n) for n in range(3)]
    big = await ctx.step("big", lambda: "x" * size)
    go = await ctx.wait_for_signal("go")
    done += [await ctx.step("work", work, n) for n in range(3, 6)]
    return [done, len(big), go, await ctx.wait_for_signal("more", timeout=5, default="none")]


@workflow
async def generations(ctx: Context, n: int) -> Any:
    await ctx.step("work", work, n)
    await ctx.wait_for_signal("next")
    if n < 3:
        ctx.continue_as_new(n + 1)
    return n


@workflow
async def child(ctx: Context, n: int) -> int:
    await ctx.wait_for_signal("child")
    return n


@workflow
async def parent(ctx: Context, n: int) -> Any:
    return await ctx.child("child", n, id="c")


async def suspended(size: int = 10, **options: Any) -> Process:
    ran.clear()
    process = Process(flow, generations, parent, child, host=SimulatedHost(**options))
    await (await process.runtime.start("flow", size, id="a", attributes={"team": "blue"})).settle()
    return process


def other(seed: int = 2, **options: Any) -> Process:
    return Process(flow, generations, parent, child, host=SimulatedHost(seed=seed, **options))


async def closed(*processes: Process) -> None:
    for process in processes:
        await process.runtime.close()
