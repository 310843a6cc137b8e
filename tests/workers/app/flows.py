"""The workflows of the test Workers."""

from __future__ import annotations

from typing import Any

from alkaline_edge import Context, workflow


def note(ledger: list[str], what: str) -> str:
    return what


@workflow(name="approval", version=1)
async def approval(ctx: Context, topic: str) -> dict[str, Any]:
    """Two steps, a wait for a signal, a sleep, and a last step."""
    drafted = await ctx.step("draft", lambda: f"draft of {topic}")
    stamp = await ctx.step("stamp", lambda: ctx.execution.id)
    answer = await ctx.wait_for_signal("approve")
    await ctx.sleep(0.2)
    sent = await ctx.step("send", lambda: f"{drafted}, approved by {answer}")
    return {"sent": sent, "stamp": stamp}


@workflow(name="many", version=1)
async def many(ctx: Context, steps: int) -> int:
    """So many steps, one after the other."""
    total = 0
    for n in range(steps):
        total += await ctx.step("add", int, n)
    return total


@workflow(name="nap", version=1)
async def nap(ctx: Context, seconds: float) -> str:
    """A durable sleep."""
    await ctx.sleep(seconds)
    return "woken"


WORKFLOWS = [approval, many, nap]
