"""A golden history of a run that failed twice and was tried again, and the code that it was made with.

It stays as it is, like that of ``workflows``: what a Retried makes void counts no more.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import Budget, Context, Retry, Runtime, workflow
from alkaline_edge.testing import SimulatedHost

down: set[int] = set()


async def get(n: int) -> Any:
    await asyncio.sleep(0)
    if n in down:
        raise ConnectionError(f"{n} is down")
    return n


@workflow(budget=Budget(tokens=1_000))
async def tried_again(ctx: Context) -> Any:
    """Steps beside each other of which one fails, and one that is cleaned up behind before it is raised."""
    ctx.spend(1)
    found = await asyncio.gather(*(ctx.step("get", get, n) for n in range(5)), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    drawn = ctx.uuid()
    try:
        last = await ctx.step("last", get, 5, retry=Retry(max_attempts=2, backoff=0))
    except ConnectionError:
        ctx.spend(7)
        await ctx.step("clean", get, 6)
        await ctx.wait_for_signal("seen")
        raise
    return [len(found), drawn != "", last, await ctx.wait_for_signal("seen")]


WORKFLOWS = [tried_again]


async def made() -> dict[str, bytes]:
    """A bundle of the run."""
    down.update({2, 5})
    async with Runtime(SimulatedHost(seed=13), workflows=WORKFLOWS) as runtime:
        run = await runtime.start("tried_again", id="retried")
        await run.settle()
        down.discard(2)
        await run.retry()
        await run.settle()
        await run.signal("seen", "by a person")
        await run.settle()
        down.clear()
        await run.retry()
        await run.result()
        return {"retried": await runtime.export("retried")}
