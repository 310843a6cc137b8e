"""The agent and its workflow. This file is the same on a server, in a page and in a Worker.

ORDERS is the address of the shop's MCP server (orders.py), where it is reached over HTTP; without it the server is
started here, over stdio. MODEL is any name that Pydantic AI knows; without it a stand-in answers, which needs no key.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.tools import DeferredToolRequests

from alkaline_edge import Budget, Context, Retry, workflow
from alkaline_hosts.mcp import FetchClient, mcp_client
from alkaline_hosts.pydantic_ai import AlkalineDurability, MCPTools, agents, current_step


class Place:
    """What differs from place to place: whoever runs the agent may set ``support.place``."""

    async def requested(self, number: int) -> None:
        """The stand-in was asked. Tests count here, and die here."""

    async def to_decide(self, what: str) -> None:
        """Somebody is to decide. ``pending_events`` says what, from any process."""
        print(f"to be decided: {what}")


place = Place()


def shop() -> Any:
    """A client of the shop's MCP server, made for each call."""
    if "ORDERS" in os.environ:
        return FetchClient(os.environ["ORDERS"])
    from mcp import StdioServerParameters

    program = Path(__file__).with_name("orders.py")
    return mcp_client(StdioServerParameters(command=sys.executable, args=[str(program)], env=dict(os.environ)))()


async def stand_in(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """In place of a model: looks the order up, refunds it, and says so, word by word."""
    await place.requested(len(messages) // 2 + 1)
    came = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    if not came:
        yield {0: DeltaToolCall(name="look_up", json_args='{"order": "7"}', tool_call_id="look")}
    elif len(came) == 1:
        yield {0: DeltaToolCall(name="refund", json_args='{"order": "7", "euros": 12}', tool_call_id="refund")}
    else:
        for word in ("Order ", "7: ", f"{came[-1].content}."):
            yield word


async def ask(ctx: RunContext[None], requests: DeferredToolRequests, token: str) -> None:
    """Tell whoever decides."""
    for call in requests.approvals:
        await place.to_decide(f"{call.tool_name} {call.args}")


async def show(ctx: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
    """Let who follows the run see the model's words as they come: they are recorded once, when they are all there."""
    async for event in events:
        said = ""
        if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
            said = event.part.content
        elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
            said = event.delta.content_delta
        if said and (step := current_step()) is not None:
            step.publish("text", said)


orders = MCPTools[None](shop, id="orders", tools={"refund": {"at_most_once": True}})
support = Agent(
    os.environ.get("MODEL") or FunctionModel(stream_function=stand_in),
    name="support",
    instructions="Help the customer. Look an order up before you refund it.",
    toolsets=[orders.approval_required(lambda ctx, tool, arguments: tool.name == "refund")],
    capabilities=[
        AlkalineDurability(model={"retry": Retry(max_attempts=4), "timeout": 120}, event_stream_handler=show),
        RequestInput(ask=ask),
    ],
)


@workflow(budget=Budget(tokens=20_000))
async def help_out(ctx: Context, question: str) -> str:
    """The agent's run, as a workflow."""
    with agents(ctx):
        return (await support.run(question)).output
