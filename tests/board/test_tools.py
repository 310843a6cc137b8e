"""The functions that agents are given, and what a board looks like as text."""

from __future__ import annotations

import inspect

import pytest

from alkaline_edge import ConflictError, Runtime
from alkaline_edge.board import Board
from alkaline_edge.board.showing import columns, graph
from alkaline_edge.board.tools import tools_for
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


def test_an_agent_does_its_task_by_functions_of_plain_values() -> None:
    """Each says in its docstring what it does, and takes what JSON has."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            board = Board(runtime, "b", by="agent")
            tools = tools_for(board)
            first = await tools["create"]("find it", "the thing", key="k")
            assert (await tools["create"]("find it", key="k"))["id"] == first["id"]
            second = await tools["create"]("use it", parents=[first["id"]])
            assert second["state"] == "todo"
            third = await tools["create"]("tell of it")
            await tools["link"](second["id"], third["id"])
            assert [task["id"] for task in await tools["list_tasks"]()] == [first["id"]]
            claim = await board.claim("agent")
            assert claim is not None
            mine = tools_for(board, claim)
            for name, tool in mine.items():
                assert inspect.getdoc(tool), name
                assert all(one.annotation != one.empty for one in inspect.signature(tool).parameters.values())
            assert await mine["progress"]("half of it") == "noted"
            assert await mine["block"]("needs_input", "which?") == "blocked"
            assert (await tools["show"](first["id"]))["blocked"] == "needs_input: which?"
            await tools["unblock"](first["id"], "the red one")
            with pytest.raises(ConflictError, match="claim again"):
                await mine["complete"]("late")
            claim = await board.claim("agent")
            assert claim is not None
            await tools_for(board, claim)["complete"]({"it": 1}, "found")
            told = await tools["show"](first["id"])
            assert (told["result"], told["summary"]) == ({"it": 1}, "found")
            assert [each["text"] for each in told["comments"]] == ["half of it", "the red one"]
            claim = await board.claim("agent")
            assert claim is not None
            assert await tools_for(board, claim)["request_review"]("look", 5) == "in review"
            review = await board.claim("critic", review=True)
            assert review is not None
            assert await tools_for(board, review)["request_changes"]("more") == "sent back"
            extra = await tools["create"]("more", assignee="other")
            claim = await board.claim("agent")
            assert claim is not None
            assert await tools_for(board, claim)["wait_for"]([extra["id"]]) == "waits"

    drive(test)


def test_a_board_is_shown_by_its_columns_and_by_what_depends_on_what() -> None:
    """Each task in a line, with what holds it up."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            board = Board(runtime, "b")
            await board.create("root " + "x" * 80, id="r", priority=2)
            await board.create("left", id="a", parents=["r"], assignee="me")
            await board.create("right", id="c", parents=["r"])
            await board.create("both", id="d", parents=["a", "c"])
            await board.create("alone", id="e")
            await board.block("e", reason="ask\nAda")
            claim = await board.claim("w1")
            assert claim is not None
            tasks = list(await board.list())
            assert columns(tasks).splitlines() == [
                "todo (3)", "  a (me) left", "  c right", "  d both",
                "running (1)", "  r (w1) root " + "x" * 52 + "... P+2",
                "blocked (1)", "  e alone - needs_input: ask Ada",
            ]  # fmt: skip
            assert graph(tasks).splitlines() == [
                "[blocked] e alone - needs_input: ask Ada", "[running] r (w1) root " + "x" * 52 + "... P+2",
                "  [todo] a (me) left", "    [todo] d both", "  [todo] c right", "    d (above)",
            ]  # fmt: skip
            assert columns([]) == graph([]) == ""

    drive(test)
