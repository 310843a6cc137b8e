"""Runs that tests export, damage, move and copy: one that waits with a large value, and the process that has it."""

from __future__ import annotations

from typing import Any

from alkaline_edge import Context, workflow
from tests.support import Process

ran: list[Any] = []
"""What ``work`` was called with, in order; ``suspended`` clears it."""


async def work(n: int) -> Any:
    ran.append(n)
    return n * 10


@workflow
async def flow(ctx: Context, size: int) -> Any:
    ran_before = [await ctx.step("work", work, n) for n in range(3)]
    big = await ctx.step("big", lambda: "x" * size)
    await ctx.wait_for_signal("go")
    return [ran_before, len(big), await ctx.wait_for_signal("more", timeout=5, default="none")]


async def suspended(size: int = 10) -> Process:
    """A process whose run ``a`` waits for ``go``."""
    ran.clear()
    process = Process(flow)
    await (await process.runtime.start("flow", size, id="a")).settle()
    return process


@workflow
async def kid(ctx: Context) -> str:
    """Its result is too large for a request."""
    await ctx.wait_for_signal("go")
    return "y" * 300_000


@workflow
async def parent(ctx: Context) -> int:
    """Its child is run "kid"."""
    return len(await ctx.child(kid, id="kid"))


async def unread() -> Process:
    """A process that knows ``kid`` alone, where run "kid" has ended and its parent "p" has yet to read its result."""
    process = Process(kid, parent)
    await (await process.runtime.start(parent, id="p")).settle()
    await process.crash(kid)
    await process.runtime.signal("kid", "go")
    await (await process.runtime.resume("kid")).result()
    return process
