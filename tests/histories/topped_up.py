"""A golden history of a run that failed of its budget and went on once it was topped up, and the code it was made with.

It stays as it is, like that of ``workflows``.
"""

from __future__ import annotations

from typing import Any

from alkaline_edge import Budget, Context, Runtime, workflow
from alkaline_edge.testing import SimulatedHost


@workflow(budget=Budget(tokens=10))
async def topped_up(ctx: Context) -> Any:
    """Fails of a charge, of a step of which the cost is known, and of what one came to."""
    drawn = ctx.uuid()
    ctx.spend(12, "a long plan")
    found = [await ctx.step("ask", abs, n, cost=5) for n in range(2)]
    found.append(await ctx.step("read", abs, 3, cost=lambda _: 9))
    found.append(await ctx.step("write", abs, 4, cost=1))
    return [drawn != "", *found]


WORKFLOWS = [topped_up]


async def made() -> dict[str, bytes]:
    """A bundle of the run."""
    async with Runtime(SimulatedHost(seed=17), workflows=WORKFLOWS) as runtime:
        run = await runtime.start("topped_up", id="topped-up")
        for tokens in (8, 10, 10):
            await run.settle()
            await runtime.top_up("topped-up", tokens)
            await run.retry()
        await run.result()
        return {"topped-up": await runtime.export("topped-up")}
