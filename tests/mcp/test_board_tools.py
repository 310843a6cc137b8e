"""A board's verbs as MCP tools: what a client that keeps nothing but texts can do with tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Runtime, workflow
from alkaline_edge.board import Board
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http.messages import Request
from alkaline_hosts._mcp.server import McpApi
from tests.support import drive


class Client:
    """Asks as a client of the revision before the last does."""

    def __init__(self, api: McpApi) -> None:
        self.api, self.number = api, 0

    async def ask(self, method: str, **params: Any) -> Any:
        self.number += 1
        body = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        answer = await self.api.handle(Request("POST", "/mcp", {}, json.dumps(body).encode()))
        return json.loads(answer.body)

    async def call(self, name: str, **arguments: Any) -> Any:
        result = (await self.ask("tools/call", name=name, arguments=arguments))["result"]
        text = result["content"][0]["text"]
        return ("refused", text) if result["isError"] else result.get("structuredContent", text)


@workflow
async def team_show(ctx: Context) -> None:
    """Has the name of a verb."""


def test_an_agent_does_a_task_from_end_to_end_by_texts_alone() -> None:
    """Make, link, claim, say, send to review, send back, complete; each call is one of its own."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            client = Client(McpApi(runtime, boards=[Board(runtime, "team")]))
            tools = {each["name"]: each for each in (await client.ask("tools/list"))["result"]["tools"]}
            wanted = {"show", "create", "link", "comment", "claim", "complete", "block", "request_review"}
            assert {f"team_{name}" for name in wanted} <= tools.keys()
            schema = tools["team_complete"]["inputSchema"]
            assert (schema["required"], schema["properties"]["summary"]) == (["id", "claim"], {"type": "string"})
            first = await client.call("team_create", title="look it up")
            second = await client.call("team_create", title="sum up", parents=[first["id"]])
            claim = await client.call("team_claim", worker="agent")
            assert (claim["claimed"], claim["id"]) == (True, first["id"])
            assert (await client.call("team_claim", worker="other"))["claimed"] is False
            mine = {"id": claim["id"], "claim": claim["claim"]}
            assert await client.call("team_progress", **mine, note="half of it") == "noted"
            assert await client.call("team_request_review", **mine, summary="done", result=7) == "in review"
            assert (await client.call("team_complete", **mine))[0] == "refused"
            review = await client.call("team_claim", worker="boss", review=True)
            assert await client.call("team_request_changes", id=review["id"], claim=review["claim"], text="more") == (
                "sent back"
            )
            again = await client.call("team_claim", worker="agent")
            held = {"id": again["id"], "claim": again["claim"]}
            assert await client.call("team_complete", **held, result={"n": 9}) == "done"
            last = await client.call("team_claim", worker="agent")
            assert (last["id"], last["given"]) == (second["id"], {first["id"]: {"n": 9}})
            held = {"id": last["id"], "claim": last["claim"]}
            assert await client.call("team_block", **held, kind="needs_input", reason="?") == "blocked"
            shown = await client.call("team_show", id=first["id"])
            assert [each["text"] for each in shown["comments"]][:2] == ["half of it", "more"]

    drive(test)


def test_what_can_not_be_is_told_to_the_model() -> None:
    """A loop of links, a claim that is another's, arguments that are none: a result that says what to do."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[team_show]) as runtime:
            board = Board(runtime, "team")
            with pytest.raises(InvalidInput, match="team_show"):
                McpApi(runtime, boards=[board])
            with pytest.raises(InvalidInput, match="boards="):
                McpApi(runtime, boards=["team"])  # type: ignore[list-item]
            client = Client(McpApi(runtime, boards=[Board(runtime, "b")]))
            for name in ("x", "y"):
                await Board(runtime, "b").create(name, id=name)
            await client.call("b_link", parent="x", child="y")
            assert "waits for it" in (await client.call("b_link", parent="y", child="x"))[1]
            assert "wants" in (await client.call("b_link", parent="y"))[1]
            assert "not worker" in (await client.call("b_show", id="x", worker="w"))[1]
            taken = await client.call("b_claim", worker="w")
            assert (await client.call("b_complete", id=taken["id"], claim="0" * 16))[0] == "refused"
            assert (await client.call("b_complete", id="nothing", claim="0" * 16))[0] == "refused"
            unknown = await client.ask("tools/call", name="b_nothing", arguments={})
            assert "b_claim" in unknown["error"]["message"]

    drive(test)
