"""A tool's call as a step, over clients of any make, and whatever they give back."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    Codec,
    Context,
    InvalidInput,
    Retry,
    StepInfo,
    StepOutcomeUnknown,
    workflow,
)
from alkaline_edge.mcp import ToolFailed, durable_tool, text_of
from alkaline_edge.mcp.reaching import IDEMPOTENCY_KEY
from alkaline_edge.mcp.results import MAX_BLOCKS, tagged
from alkaline_edge.testing import fault_at
from tests.simulation.engine import Outside, Scenario, Trial, World
from tests.simulation.test_exhaustive import tried
from tests.support import Process, drive


class Tools:
    """An object with ``call_tool``, which answers what it was made with, in turn; the last one again and again."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.calls: list[dict[str, Any]] = []

    async def call_tool(self, name: str, arguments: dict[str, Any], **options: Any) -> Any:
        raise AssertionError("it is asked by what it takes")

    def next(self) -> Any:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply


class Plain(Tools):
    async def call_tool(self, name: str, arguments: dict[str, Any], meta: Any = None) -> Any:  # type: ignore[override]
        self.calls.append({"name": name, "arguments": arguments, "meta": meta})
        return self.next()


class Session(Tools):
    async def call_tool(  # type: ignore[override]
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        input_responses: Any = None,
        request_state: str | None = None,
        meta: Any = None,
        allow_input_required: bool = False,
    ) -> Any:
        assert allow_input_required
        self.calls.append({"responses": input_responses, "state": request_state, "meta": meta})
        return self.next()


class Client:
    """As the SDK's and fastmcp's: it retries by itself, but for what is asked of its session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def call_tool(self, name: str, arguments: Any) -> Any:
        raise AssertionError("its session is asked")


def asks(*keys: str, state: str | None = "s", method: str = "elicitation/create") -> dict[str, Any]:
    requests = {key: {"method": method, "params": {"message": f"{key}?"}} for key in keys}
    return {"resultType": "input_required", "inputRequests": requests, "requestState": state}


DONE = {"content": [{"type": "text", "text": "done"}], "structuredContent": {"n": 1}, "isError": False}


def calling(client: Any, **options: Any) -> Any:
    @workflow(name="calls", budget=options.pop("budget", None))
    async def calls(ctx: Context) -> Any:
        return await durable_tool(ctx, client, "tool", {"a": 1}, **options)

    return calls


def once(client: Any, **options: Any) -> Any:
    """The result of a run that calls one tool."""

    async def main() -> Any:
        process = Process(calling(client, **options))
        run = await process.runtime.start("calls", id="c")
        return await run.result(timeout=60)

    return drive(main)


async def function(name: str, arguments: dict[str, Any]) -> Any:
    return DONE


@asynccontextmanager
async def opened() -> Any:
    yield Plain(DONE)


@pytest.mark.parametrize(
    "client",
    [Plain(DONE), Session(DONE), Client(Session(DONE)), function, opened, lambda: Plain(DONE)],
    ids=["object", "session", "client", "function", "opened", "made"],
)
def test_any_client_with_call_tool_will_do(client: Any) -> None:
    """Each gives the same map, tagged as what nobody here vouches for."""
    assert once(client, server="shop") == {
        "untrusted": True,
        "server": "shop",
        "tool": "tool",
        "is_error": False,
        "content": [{"type": "text", "text": "done"}],
        "structured": {"n": 1},
        "truncated": False,
    }


@pytest.mark.parametrize("client", [None, 7, object(), "http://127.0.0.1/mcp"])
def test_what_is_no_client_is_refused_before_anything_is_recorded(client: Any) -> None:
    """With what a client is."""
    with pytest.raises(InvalidInput, match="call_tool"):
        once(client)


@pytest.mark.parametrize(("name", "options"), [(7, {}), ("", {}), ("x" * 250, {}), ("t", {"max_bytes": -1})])
def test_an_argument_that_will_not_do_is_refused(name: Any, options: Any) -> None:
    """A name that is too long for a step, and a size that is none."""

    @workflow(name="calls")
    async def calls(ctx: Context) -> Any:
        return await durable_tool(ctx, function, name, **options)

    async def main() -> None:
        with pytest.raises(InvalidInput):
            await (await Process(calls).runtime.start(calls, id="c")).result()

    drive(main)


def test_the_steps_key_goes_with_the_call_the_same_at_each_attempt() -> None:
    """So that a server may know a call that it has had already."""
    client = Plain(ConnectionError("gone"), ConnectionError("gone"), DONE)
    once(client, retry=Retry(max_attempts=3, backoff=0, retryable=lambda error: error.code == "unreachable"))
    keys = {call["meta"][IDEMPOTENCY_KEY] for call in client.calls}
    assert len(client.calls) == 3
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ConnectionError("gone"), "unreachable"),
        (EOFError(), "unreachable"),
        (BaseExceptionGroup("g", [ExceptionGroup("h", [OSError("gone")])]), "unreachable"),
        (TimeoutError(), "timeout"),
        (json.JSONDecodeError("no", "<html>", 0), "invalid"),
        (RuntimeError("Invalid structured content returned by tool x: ..."), "invalid"),
    ],
)
def test_what_goes_wrong_with_a_server_has_a_type_and_a_code(raised: BaseException, code: str) -> None:
    """The same live and in the next process."""

    @workflow(name="calls")
    async def calls(ctx: Context) -> Any:
        try:
            await durable_tool(ctx, Plain(raised), "tool")
        except ToolFailed as error:
            await ctx.wait_for_signal("on")
            return [error.code, str(error)[:4]]

    async def main() -> None:
        process = Process(calls)
        run = await process.runtime.start(calls, id="c")
        await run.settle()
        runtime = await process.crash()
        await runtime.signal("c", "on")
        await runtime.run_due()
        assert await (await runtime.resume("c")).result() == [code, "tool"]

    drive(main)


def test_an_error_of_ones_own_is_no_failure_of_the_server() -> None:
    """It passes through, as a step's error does."""
    with pytest.raises(ZeroDivisionError):
        once(Plain(ZeroDivisionError("mine")))


def test_a_server_that_hangs_is_given_up_after_the_timeout() -> None:
    """As a ToolFailed of its own, or, where it may have acted and may not be asked again, as one that says so."""

    async def hangs(name: str, arguments: Any) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(Exception, match="timeout of 5 seconds") as failed:
        once(hangs, timeout=5)
    assert getattr(failed.value, "type", "") == "ToolFailed"
    with pytest.raises(StepOutcomeUnknown):
        once(hangs, timeout=5, at_most_once=True)


def test_a_call_is_charged_once() -> None:
    """By the result, or beforehand; however often the server asks something first."""

    @workflow(name="calls", budget=Budget(tokens=15))
    async def calls(ctx: Context) -> Any:
        first = Session(asks("k"), asks("k"), DONE)
        await durable_tool(ctx, first, "tool", cost=3, answer=accepts)
        second = Session(asks("k"), DONE)
        await durable_tool(ctx, second, "tool", cost=lambda result: result["structured"]["n"] * 4, answer=accepts)
        try:
            await durable_tool(ctx, Plain(DONE), "tool", cost=9)
        except BudgetExceeded:
            return "over"

    async def accepts(question: Any) -> Any:
        return {"action": "accept"}

    async def main() -> None:
        runtime = Process(calls).runtime
        run = await runtime.start(calls, id="c")
        assert await run.result() == "over"
        assert (await runtime.get_execution("c")).spent["tokens"] == 7

    drive(main)


# --- results --------------------------------------------------------------------------------------------------------
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(st.characters(), max_size=60).map(lambda text: {"type": "text", "text": text}) | JSON, max_size=6),
    JSON,
    st.integers(0, 300),
)
def test_a_result_of_any_size_is_bounded_and_can_be_stored(content: list[Any], structured: Any, most: int) -> None:
    """What is kept is within the bound and the beginning of what came; what is missing is said."""
    result = tagged({"content": content, "structuredContent": structured}, "t", "s", most)
    Codec().encode(result)
    kept = [block for block in result["content"] if not block.get("left_out")]
    assert sum(len(block["text"].encode()) for block in kept if isinstance(block.get("text"), str)) <= most
    assert len(result["content"]) == len(content)
    whole = tagged({"content": content, "structuredContent": structured}, "t", "s", 10**6)
    assert not whole["truncated"]
    if not result["truncated"]:
        assert result == whole
    for cut, uncut in zip(result["content"], whole["content"], strict=True):
        if "cut_from" in cut:
            assert uncut["text"].startswith(cut["text"])


def test_what_is_too_large_is_cut_or_left_out_and_the_result_says_so() -> None:
    """Fifty megabytes of text, an image, a deep value, and more blocks than anybody reads."""
    deep: Any = "end"
    for _ in range(200):
        deep = [deep]
    blocks = [{"type": "text", "text": "é" * 25_000_000}, {"type": "image", "data": "A" * 9_000_000}]
    result = once(Plain({"content": [*blocks, *([{"type": "text", "text": ""}] * 5_000)], "structuredContent": deep}))
    assert len(result["content"][0]["text"].encode()) == 256 * 1024
    assert result["content"][0]["cut_from"] == 25_000_000
    assert result["content"][1] == {"type": "image", "left_out": True}
    assert len(result["content"]) == MAX_BLOCKS
    assert result["structured"] is None
    assert result["truncated"]


@pytest.mark.parametrize("raw", [None, "text", 7, ["a"], {"content": "no list"}, {"content": [None]}, object()])
def test_an_answer_of_another_shape_is_data_all_the_same(raw: Any) -> None:
    """Nothing that a client gives ends the run."""
    result = once(Plain(raw))
    assert result["untrusted"]
    assert text_of(result) == ("text" if raw == "text" else "")


# --- what a server asks for -----------------------------------------------------------------------------------------
def test_a_question_suspends_the_run_until_a_signal_answers_in_another_process() -> None:
    """The answer goes back under the server's key with its state; a wrong one is told of, and changes nothing."""
    session = Session(asks("who", "odd key\n", state="opaque"), DONE)

    async def main() -> None:
        process = Process(calling(Client(session)))
        await (await process.runtime.start("calls", id="c")).settle()
        record = await process.runtime.get_execution("c")
        assert sorted(record.waiting) == ["signal elicit:1:1", "signal elicit:1:who"]
        asked = [event.data for event in process.events if getattr(event, "topic", "") == "mcp.input_required"]
        assert [one["signal"] for one in asked] == ["elicit:1:who", "elicit:1:1"]
        runtime = await process.crash()
        for wrong in (None, {"action": "perhaps"}, {"action": "accept", "content": 7}, {"action": "accept", "x": 1}):
            await runtime.signal("c", "elicit:1:who", wrong)
        await runtime.signal("c", "elicit:1:who", {"action": "accept", "content": {"name": "Ada"}})
        await runtime.signal("c", "elicit:1:1", {"action": "decline"})
        await runtime.run_due()
        result = await (await runtime.resume("c")).result()
        assert result["structured"] == {"n": 1}
        refused = [event.data for event in process.events if getattr(event, "topic", "") == "mcp.input_refused"]
        assert len(refused) == 4

    drive(main)
    assert [call["responses"] for call in session.calls] == [
        None,
        {"who": {"action": "accept", "content": {"name": "Ada"}}, "odd key\n": {"action": "decline"}},
    ]
    assert [call["state"] for call in session.calls] == [None, "opaque"]
    assert len({call["meta"][IDEMPOTENCY_KEY] for call in session.calls}) == 2


def test_a_question_that_nobody_answers_is_cancelled_in_time() -> None:
    """Also where wrong answers came meanwhile: they do not put the end off."""
    session = Session(asks("k"), DONE)

    async def main() -> None:
        process = Process(calling(session, answer_timeout=60))
        run = await process.runtime.start("calls", id="c")
        await run.settle()
        process.host.advance(50)
        await run.signal("elicit:1:k", "wrong")
        await run.settle()
        process.host.advance(10)
        await process.runtime.run_due()
        await run.result()

    drive(main)
    assert session.calls[1]["responses"] == {"k": {"action": "cancel"}}


class Refused(Exception):
    """As the SDK's MCPError: known by name."""

    def __init__(self, code: int) -> None:
        super().__init__("refused")
        self.code = code


Refused.__name__ = "MCPError"


def test_a_state_that_the_server_has_forgotten_begins_the_call_again() -> None:
    """Which asks again, under another signal: the answer of before belongs to a call that is no more."""
    session = Session(asks("k"), Refused(-32602), asks("k"), DONE)

    async def main() -> None:
        process = Process(calling(session))
        run = await process.runtime.start("calls", id="c")
        for name in ("elicit:1:k", "elicit:4:k"):
            await run.settle()
            assert (await process.runtime.get_execution("c")).waiting == [f"signal {name}"]
            await run.signal(name, {"action": "accept", "content": {}})
        await run.result()

    drive(main)
    assert [call["state"] for call in session.calls] == [None, "s", None, "s"]


def test_one_refused_at_once_stays_refused() -> None:
    """There is nothing to begin again."""
    with pytest.raises(Exception, match="was refused") as failed:
        once(Session(Refused(-32602), DONE))
    assert failed.value.code == "refused"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (asks("k", method="sampling/createMessage"), "unanswered"),
        (asks(*(str(n) for n in range(33))), "invalid"),
        (asks("k", state="s" * 100_000), "invalid"),
        (asks(), "unanswered"),
        ({"resultType": "input_required", "inputRequests": [1]}, "invalid"),
    ],
    ids=["sampling", "many", "large", "for ever", "no map"],
)
def test_what_a_server_asks_for_is_bounded(reply: Any, code: str) -> None:
    """In number and size and rounds; and what nobody gives is refused by name."""
    with pytest.raises(Exception, match="tool") as failed:
        once(Session(reply))
    assert failed.value.code == code  # type: ignore[attr-defined]


def test_a_function_of_the_workflow_may_answer_in_place_of_a_signal() -> None:
    """Also what is no elicitation."""
    session = Session(asks("k", method="sampling/createMessage"), DONE)

    async def model(question: dict[str, Any]) -> dict[str, Any]:
        assert question["params"] == {"message": "k?"}
        return {"role": "assistant", "content": {"type": "text", "text": "4"}, "model": "m"}

    once(session, answer=model)
    assert session.calls[1]["responses"]["k"]["model"] == "m"


# --- crashes --------------------------------------------------------------------------------------------------------
def scenario(world: World) -> Scenario:
    class Server(Session):
        async def call_tool(self, name: str, arguments: Any, *, input_responses: Any = None, meta: Any = None) -> Any:  # type: ignore[override]
            key = meta[IDEMPOTENCY_KEY]
            world.did(StepInfo("run", f"mcp {name}", key, 1, key), arguments, input_responses)
            return DONE if input_responses or name != "asks" else asks("k")

    client = Client(Server(DONE))

    @workflow(name="calls")
    async def calls(ctx: Context) -> Any:
        first = await durable_tool(ctx, client, "first", {"n": 1})
        both = await ctx.all(*(durable_tool(ctx, client, name) for name in ("left", "right")))
        last = await durable_tool(ctx, client, "asks", {"n": first["structured"]["n"]})
        return [text_of(one) for one in (first, *both, last)]

    async def script(outside: Outside) -> Any:
        await outside.start("calls")
        await outside.until_waiting("signal elicit:4:k")
        await outside.signal("elicit:4:k", {"action": "accept"}, dedupe="answer")
        return await outside.result()

    return Scenario("mcp", [calls], script, histories=False)


def test_a_crash_at_each_commit_calls_no_recorded_tool_again() -> None:
    """Before the commit is applied and behind it; the result is that of a run without a crash."""
    faultless = Trial(scenario).run()
    assert faultless.result == ["done"] * 4
    assert faultless.world.effects["mcp asks"] == 2
    broken: list[str] = []
    for call, verb in enumerate(faultless.verbs, 1):
        for kind in ("crash", "crash-after") if verb == "commit" else ():
            broken += tried(scenario, fault_at(call, kind), faultless, f"{kind} at callback {call}")[1]  # type: ignore[arg-type]
    assert not broken, "\n".join(broken[:10])
