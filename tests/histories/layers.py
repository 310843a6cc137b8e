"""Golden histories of what stands upon the kernel, and the code that they were made with, which stays as it is.

A tool of an MCP server that asks a person first, steps under a limit and a named budget that is topped up, a step
that publishes: once as a schedule's run, once as the run of a board's task.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import Context, Retry, Runtime, StepInfo, workflow
from alkaline_edge.board import Board
from alkaline_edge.capacity import Budgets, Limit, Limits
from alkaline_edge.mcp import durable_tool
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.triggers import Every, Triggers

WORDS = ("north", "south")
runtime: Runtime | None = None


class Session:
    """A server that asks who it is for, and then answers."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], *, input_responses: Any = None, request_state: Any = None,
        meta: Any = None, allow_input_required: bool = False,
    ) -> Any:  # fmt: skip
        if input_responses is None:
            asked = {"who": {"method": "elicitation/create", "params": {"message": "for whom?"}}}
            return {"resultType": "input_required", "inputRequests": asked, "requestState": "opaque"}
        return {"content": [{"type": "text", "text": "wind"}], "structuredContent": {"for": 1}, "isError": False}


class Client:
    """What has a session, as the SDK's client has."""

    session = Session()

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        raise AssertionError("its session is asked")


async def look_up(word: str, info: StepInfo) -> str:
    """A step that shows what it does."""
    info.publish("word", word)
    if word == "south" and info.attempt == 1:
        raise ConnectionError("try again")
    return word.upper()


async def spend(text: str) -> dict[str, Any]:
    return {"text": text, "tokens": 70}


@workflow(name="layered")
async def layered(ctx: Context, input: dict[str, Any]) -> Any:
    """Each of them once, the limited ones side by side."""
    ask = look_up if runtime is None else Limits(runtime).around("model", look_up)
    found = await ctx.map(lambda word: ctx.step("ask", ask, word, retry=Retry(max_attempts=2, backoff=1)), WORDS)
    budgets = Budgets(runtime) if runtime is not None else None
    spent: list[Any] = []
    for word in found:
        if budgets is None:  # offline: what was recorded is given back, and nobody is charged
            spent.append(await _replayed(ctx, word))
        else:
            spent.append(await budgets.step(ctx, "team", spend, word, tokens=100, used=lambda one: one["tokens"],
                                            wait=True))  # fmt: skip
    tool = await durable_tool(ctx, Client(), "weather", {"words": found}, cost=5)
    return [found, spent, tool["structured"], sorted(input)]


async def _replayed(ctx: Context, word: str) -> Any:
    from alkaline_edge.capacity.budgets import signal_of
    from alkaline_edge.errors import BudgetExceeded

    while True:
        try:
            return await ctx.step("spend", spend, word)
        except BudgetExceeded:
            await ctx.wait_for_signal(signal_of("team"))


WORKFLOWS = [layered]


async def made() -> dict[str, bytes]:
    """A bundle of each run."""
    global runtime
    host = SimulatedHost(seed=17)
    async with Runtime(host, workflows=WORKFLOWS) as runtime:
        await Limits(runtime).set(Limit("model", concurrency=1))
        await Budgets(runtime).set("team", tokens=120)
        triggers, board = Triggers(runtime), Board(runtime, "b")
        await triggers.create("tick", "layered", Every(60), {"by": "clock"}, max_runs=1)
        await board.create("task", id="a", workflow="layered", input={"by": "task"})
        assert await board.claim("w") is None  # it is its run's
        serving = asyncio.ensure_future(runtime.serve())
        ids: list[str] = []
        while len(ids) < 2 or any(one.status == "running" for one in (await runtime.list_executions()).items):
            await host.sleep(5)
            ids = [one.id for one in (await runtime.list_executions()).items]
        await Budgets(runtime).top_up("team", tokens=1_000)
        for id in ids:
            await runtime.settle(id)
            (question,) = (await runtime.get_execution(id)).waiting
            answer = {"action": "accept", "content": {"name": "Ada"}}
            await runtime.signal(id, question.removeprefix("signal "), answer)
            assert (await runtime.result(id, timeout=None))[0] == ["NORTH", "SOUTH"]
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        names = {id: "task" if id.startswith("b.") else "tick" for id in ids}
        found = {f"layers-{names[id]}": await runtime.export(id) for id in ids}
    runtime = None
    return found
