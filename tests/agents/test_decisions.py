"""What somebody decides for an agent, and what is no decision: told to who sent it, and asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import InvalidInput, NotFound
from alkaline_edge import events as ev
from alkaline_hosts.pydantic_ai import pending_events, refuse_event, resolve_event
from tests.agents.test_pydantic_ai import asking, refunding
from tests.support import Process, drive

WRONG: list[Any] = [
    None,
    "yes",
    7,
    [],
    {"approvals": "all"},
    {"approvals": {"o1": True}},  # and o2?
    {"approvals": {"o1": True, "o2": False, "o3": True}},
    {"approvals": {"o1": 7, "o2": True}},
    {"calls": {"o1": "x"}, "approvals": {"o1": True, "o2": True}},
    {"approvals": {"o1": True, "o2": True}, "metadata": {"o9": {}}},
]


@pytest.mark.parametrize("payload", WRONG)
@pytest.mark.parametrize("by", ["resolve_event", "a signal"])
def test_what_is_no_decision_is_refused_and_another_one_counts(payload: Any, by: str) -> None:
    """At the call, where there is one; a plain signal is refused in the run, which says why and waits on."""
    agent, tokens, refunds = refunding()
    refused: list[Any] = []
    by_signal = by == "a signal" or (isinstance(payload, dict) and "metadata" in payload)

    async def main() -> str:
        process = Process(asking(agent))
        runtime = process.runtime
        await (await runtime.start("asks", "hello", id="a")).settle()
        (asked,) = await pending_events(runtime, "a")
        assert asked["token"] == tokens[0]
        assert [each["id"] for each in asked["approvals"]] == ["o1", "o2"]
        signal = f"event:{tokens[0].partition('/')[2]}"
        if by_signal:
            await runtime.signal("a", signal, payload)
        else:
            with pytest.raises(InvalidInput, match="decide"):
                await resolve_event(runtime, tokens[0], payload)
        runtime = await process.crash()
        await runtime.run_due()
        await (await runtime.resume("a")).settle()
        assert (await runtime.get_execution("a")).waiting == [f"signal {signal}"]
        history = await runtime.history("a")
        refused.extend(each.event.data["reason"] for each in history if isinstance(each.event, ev.Emitted))
        await resolve_event(runtime, tokens[0], {"approvals": {"o1": True, "o2": False}})
        await runtime.signal("a", "on")
        await runtime.run_due()
        result = str(await (await runtime.resume("a")).result())
        assert await pending_events(runtime, "a") == []
        return result

    assert drive(main) == "refunded o1 The tool call was denied."
    assert refunds == ["o1"]
    assert bool(refused) == by_signal
    assert all(len(said) > 20 for said in refused)


@pytest.mark.parametrize("yes", [True, False])
def test_true_and_false_decide_on_all_that_wait(yes: bool) -> None:
    """So a form with one field will do, as an MCP or AG-UI client shows it."""
    agent, tokens, refunds = refunding()

    async def main() -> None:
        runtime = Process(asking(agent)).runtime
        await (await runtime.start("asks", "hello", id="a")).settle()
        await resolve_event(runtime, tokens[0], yes)
        await runtime.signal("a", "on")
        await (await runtime.resume("a")).result()

    drive(main)
    assert refunds == (["o1", "o2"] if yes else [])


def test_a_refusal_needs_no_form_and_an_unknown_run_is_one() -> None:
    """A reason is enough; who asks for a run that there is not is told."""
    agent, tokens, _ = refunding()

    async def main() -> str:
        runtime = Process(asking(agent)).runtime
        with pytest.raises(NotFound):
            await pending_events(runtime, "nobody")
        await (await runtime.start("asks", "hello", id="a")).settle()
        await refuse_event(runtime, tokens[0], "nobody is in")
        await runtime.signal("a", "on")
        return str(await (await runtime.resume("a")).result())

    assert "nobody is in" in drive(main)
