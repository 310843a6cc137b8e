"""Agents of Pydantic AI in workflows: what they do is a step each, and comes back as what it was."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TracerProvider, use_span
from pydantic_ai import Agent, AgentStreamEvent, ModelHTTPError, RunContext
from pydantic_ai.capabilities import Instrumentation, ModelFallback, RequestInput
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelRateLimitError,
    ModelServerError,
    ModelTimeoutError,
    UserError,
)
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from alkaline_edge import Budget, BudgetExceeded, Context, InvalidInput, Retry, Workflow, replay, workflow
from alkaline_edge import events as ev
from alkaline_edge.testing import fault_at
from alkaline_hosts._pydantic_ai.units import usage_of
from alkaline_hosts.pydantic_ai import AlkalineDurability, agents, current_step, refuse_event, resolve_event
from tests.simulation.engine import Outside, Scenario, Trial, World
from tests.simulation.test_exhaustive import tried
from tests.support import Process, drive

ROOT = Path(__file__).parents[2]
TestModel.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for tests
Reply = Callable[[list[ModelMessage], AgentInfo], ModelResponse]


def tools_then_text(*calls: ToolCallPart, usage: int = 15) -> Reply:
    """A model that calls ``calls`` at once, and says what came of them."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        spent = RequestUsage(input_tokens=usage - 5, output_tokens=5)
        came = [str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart(" ".join(came))] if came else list(calls), usage=spent)

    return reply


def asking(agent: Agent[Any, Any], *, budget: Budget | None = None) -> Workflow:
    @workflow(name="asks", budget=budget)
    async def asks(ctx: Context, question: str) -> Any:
        with agents(ctx):
            result = await agent.run(question)
        await ctx.wait_for_signal("on")
        # A replay has made the messages again: they are the argument of a step, so a difference would be seen.
        return await ctx.step("keep", kept, result.output, result.all_messages_json().decode())

    return asks


async def kept(output: Any, messages: str) -> Any:
    return output


def names_of(history: Any) -> list[str]:
    return [recorded.event.name for recorded in history if isinstance(recorded.event, ev.StepCompleted)]


def through_a_crash(agent: Agent[Any, Any], **options: Any) -> tuple[Any, Process, list[str]]:
    """What the agent gives, once its process has died behind its run; and the names of its steps."""

    async def main() -> Any:
        process = Process(asking(agent, **options))
        run = await process.runtime.start("asks", "hello", id="a")
        await run.settle()
        if (await process.runtime.get_execution("a")).finished:
            await run.result()
        runtime = await process.crash()
        await runtime.signal("a", "on")
        await runtime.run_due()
        result = await (await runtime.resume("a")).result()
        (checked,) = replay.check([await runtime.export("a")], process.workflows)
        assert checked.ok, checked.message
        return result, process, names_of(await runtime.history("a"))

    return asyncio.run(asyncio.wait_for(main(), 240))  # a server may have to be started, twice


# --- units ----------------------------------------------------------------------------------------------------------
def test_requests_and_tools_are_steps_and_none_is_done_again() -> None:
    """Tools that are called at once run at once; the names are those that histories keep."""
    done: list[Any] = []
    together = asyncio.Event()
    reply = tools_then_text(*(ToolCallPart("look", {"n": n}, tool_call_id=f"c{n}") for n in range(3)))

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done.append(len(messages))
        return reply(messages, info)

    agent = Agent(FunctionModel(model), name="finder", capabilities=[AlkalineDurability()])

    @agent.tool_plain
    async def look(n: int) -> str:
        done.append(f"look {n}")
        if sum(isinstance(one, str) for one in done) == 3:
            together.set()
        await together.wait()
        return f"seen {n}"

    result, _, names = through_a_crash(agent)
    assert result == "seen 0 seen 1 seen 2"
    assert done == [1, "look 0", "look 1", "look 2", 3]
    call = "finder__function_toolset__<agent>.call_tool:look"
    assert names == ["finder__model.request", call, call, call, "finder__model.request", "keep"]


def test_pydantic_ais_own_test_model_works() -> None:
    """With instructions and a sync tool, which are no steps and one."""
    threads: list[Any] = []
    agent = Agent(TestModel(), name="tested", capabilities=[AlkalineDurability()])

    @agent.instructions
    def instructions() -> str:
        return "Be brief."

    @agent.tool_plain
    def plain(word: str) -> str:
        import threading

        threads.append(threading.current_thread() is threading.main_thread())
        return word

    result, _, names = through_a_crash(agent)
    assert result == '{"plain":"a"}'
    assert names.count("tested__model.request") == 2
    assert threads == [False]


def test_outside_of_a_workflow_an_agent_is_a_plain_one() -> None:
    """Nothing is recorded, and nothing is needed."""
    agent = Agent(TestModel(custom_output_text="hi"), name="plain", capabilities=[AlkalineDurability()])
    assert asyncio.run(agent.run("hello")).output == "hi"


def test_an_agent_without_a_name_is_refused() -> None:
    """The names of its steps are made of it."""
    with pytest.raises(UserError, match="unique `name`"):
        Agent(TestModel(), capabilities=[AlkalineDurability()])


@pytest.mark.parametrize("said", ["yes", {"retries": 3}, 7])
def test_a_tools_metadata_that_means_nothing_is_refused(said: Any) -> None:
    """With what it may hold."""
    agent = Agent(TestModel(), name="odd", capabilities=[AlkalineDurability()])
    agent.tool_plain(metadata={"alkaline": said})(lambda: "x")
    with pytest.raises(Exception, match="alkaline"):
        through_a_crash(agent)


def test_a_tool_has_the_options_of_its_metadata() -> None:
    """At most once, a retry of its own, none at all; and what its metadata does not say is the agent's."""
    runs: list[str] = []
    calls = [ToolCallPart(name, {}, tool_call_id=name) for name in ("once", "again", "bare")]
    durability: Any = AlkalineDurability(tool={"retry": Retry(max_attempts=3, backoff=0)})
    agent = Agent(FunctionModel(tools_then_text(*calls)), name="t", capabilities=[durability])

    @agent.tool_plain(metadata={"alkaline": {"at_most_once": True}})
    async def once() -> str:
        runs.append("once")
        return "1"

    @agent.tool_plain
    async def again() -> str:
        runs.append("again")
        if runs.count("again") < 3:
            raise ConnectionError("not yet")
        return "2"

    @agent.tool_plain(metadata={"alkaline": False})
    async def bare() -> str:
        runs.append("bare")
        return "3"

    result, _, names = through_a_crash(agent)
    assert result == "1 2 3"
    assert runs.count("once") == 1
    assert runs.count("again") == 3
    assert runs.count("bare") > 1, "it is part of the workflow, which is run again"
    assert not [name for name in names if name.endswith("bare")]


def test_a_tool_knows_the_key_of_its_step() -> None:
    """The same at each attempt, another for each call, in a thread too; none outside of a step."""
    keys: list[str] = []
    calls = [ToolCallPart(name, {}, tool_call_id=f"{name}{n}") for name in ("again", "plain") for n in range(2)]
    durability: Any = AlkalineDurability(tool={"retry": Retry(max_attempts=2, backoff=0)})
    agent = Agent(FunctionModel(tools_then_text(*calls)), name="k", capabilities=[durability])

    @agent.tool_plain
    async def again() -> str:
        step = current_step()
        assert step is not None
        keys.append(step.idempotency_key)
        if step.attempt == 1:
            raise ConnectionError("not yet")
        return "1"

    @agent.tool_plain
    def plain() -> str:
        step = current_step()
        assert step is not None
        keys.append(step.idempotency_key)
        return "2"

    assert through_a_crash(agent)[0] == "1 1 2 2"
    assert sorted(Counter(keys).values()) == [1, 1, 2, 2]
    assert current_step() is None


# --- streams --------------------------------------------------------------------------------------------------------
def test_an_event_handler_sees_the_deltas_once_and_the_tools_in_steps() -> None:
    """What streams is live alone; the whole of it is in the history."""
    seen: list[str] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            for word in ("all ", "is ", "done"):
                yield word
        else:
            yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id="c")}

    async def handler(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            seen.append(event.event_kind)

    durability: Any = AlkalineDurability(event_stream_handler=handler)
    agent = Agent(FunctionModel(stream_function=stream), name="s", capabilities=[durability])

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    result, _, names = through_a_crash(agent)
    assert result == "all is done"
    assert seen.count("part_delta") == 2
    assert seen.count("function_tool_result") == 1
    assert names.count("s__model.request_stream") == 2
    assert "s__event_stream_handler" in names


# --- what it costs --------------------------------------------------------------------------------------------------
def test_a_request_costs_what_its_usage_says() -> None:
    """Once, whatever is replayed; over the budget the agent ends, and the run with it."""
    calls = [ToolCallPart("look", {}, tool_call_id="c")]
    agent = Agent(FunctionModel(tools_then_text(*calls, usage=40)), name="c", capabilities=[AlkalineDurability()])
    agent.tool_plain(name="look", metadata={"alkaline": {"cost": 7}})(lambda: "seen")

    async def spent(limit: int) -> Any:
        runtime = Process(asking(agent, budget=Budget(tokens=limit))).runtime
        run = await runtime.start("asks", "hello", id="a")
        await run.settle()
        record = await runtime.get_execution("a")
        return record.status, record.spent["tokens"], run

    assert drive(lambda: spent(1_000))[:2] == ("suspended", 87)

    async def over() -> None:
        status, tokens, run = await spent(45)
        assert (status, tokens) == ("failed", 40)
        with pytest.raises(BudgetExceeded):
            await run.result()

    drive(over)


def test_dollars_are_counted_where_the_prices_are_known() -> None:
    """By the name of the model and of who provides it."""
    from pydantic import TypeAdapter

    usage = RequestUsage(input_tokens=1_000_000, output_tokens=0)
    adapter = TypeAdapter(ModelResponse)
    known = ModelResponse(parts=[TextPart("x")], usage=usage, model_name="gpt-4o", provider_name="openai")
    tokens, usd = usage_of(adapter.dump_python(known, mode="json"))
    assert tokens == 1_000_000
    assert usd == pytest.approx(2.5)
    unknown = ModelResponse(parts=[TextPart("x")], usage=usage, model_name="nobody-knows-it")
    assert usage_of({"response": adapter.dump_python(unknown, mode="json")}) == (1_000_000, None)
    assert usage_of(None) == (0, None)


# --- errors ---------------------------------------------------------------------------------------------------------
def failing(*errors: BaseException) -> FunctionModel:
    waiting = list(errors)

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if waiting:
            raise waiting.pop(0)
        return ModelResponse(parts=[TextPart("at last")])

    return FunctionModel(reply, model_name="failing")


LARGE = {"error": {"message": "x" * 100_000, "list": list(range(10_000))}}
ERRORS = [
    ModelAPIError("m", "said no"),
    ModelConnectionError("m", "no way there"),
    ModelTimeoutError("m", "too late", retry_after=3.5),
    ModelHTTPError(418, "m", {"teapot": True}),
    ModelHTTPError.for_category(ModelRateLimitError, status_code=429, model_name="m", body={"x": 1}, retry_after=7),
    ModelHTTPError.for_category(ModelServerError, status_code=500, model_name="m", body=LARGE),
    ModelHTTPError.for_category(ModelAuthenticationError, status_code=401, model_name="m"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_models_error_comes_back_as_what_it_was(error: ModelAPIError) -> None:
    """Its class, its category and its fields; live, and where a replay finds it in the history."""
    agent = Agent(failing(error), name="f", capabilities=[AlkalineDurability()])
    caught: list[ModelAPIError] = []

    @workflow(name="asks")
    async def asks(ctx: Context, question: str) -> str:
        with agents(ctx):
            try:
                await agent.run(question)
            except ModelAPIError as raised:
                caught.append(raised)
        await ctx.wait_for_signal("on")
        return type(caught[-1]).__name__

    async def main() -> None:
        process = Process(asks)
        await (await process.runtime.start(asks, "hello", id="a")).settle()
        runtime = await process.crash()
        await runtime.signal("a", "on")
        await runtime.run_due()
        assert await (await runtime.resume("a")).result() == type(error).__name__

    drive(main)
    assert len(caught) >= 2
    for one in caught:
        assert type(one) is type(error)
        assert one.model_name == "m"
        assert one.retry_after == error.retry_after
        assert getattr(one, "status_code", None) == getattr(error, "status_code", None)
        if error.body is not LARGE["error"] and error.body != LARGE:
            assert one.body == error.body
            assert str(one) == str(error)


def test_an_error_of_the_users_own_class_keeps_its_name() -> None:
    """No class outside of Pydantic AI is made of what a history says."""

    class Mine(ModelAPIError):
        pass

    agent = Agent(failing(Mine("m", "mine")), name="f", capabilities=[AlkalineDurability()])
    with pytest.raises(Exception, match="mine") as raised:
        through_a_crash(agent)
    assert getattr(raised.value, "type", "") == "Mine"


def test_a_retry_is_asked_with_the_models_own_error() -> None:
    """And a fallback finds it by its class."""
    policy = Retry(max_attempts=3, backoff=0, retryable=lambda error: isinstance(error, ModelRateLimitError))
    again: Any = AlkalineDurability(model={"retry": policy})
    result, _, names = through_a_crash(Agent(failing(ERRORS[4], ERRORS[4]), name="r", capabilities=[again]))
    assert result == "at last"
    spare: Any = AlkalineDurability(models={"spare": TestModel(custom_output_text="the other")})
    agent = Agent(failing(ERRORS[5]), name="b", capabilities=[ModelFallback("spare"), spare])
    result, _, names = through_a_crash(agent)
    assert result == "the other"
    assert names == ["b__model.request.spare", "keep"]


# --- waits ----------------------------------------------------------------------------------------------------------
def refunding(timeout: timedelta | None = None) -> tuple[Any, list[str], list[str]]:
    tokens: list[str] = []
    refunds: list[str] = []

    async def ask(ctx: RunContext[Any], requests: Any, token: str) -> None:
        tokens.append(token)

    calls = [ToolCallPart("refund", {"order": order}, tool_call_id=order) for order in ("o1", "o2")]
    wait = RequestInput[Any](ask=ask, timeout=timeout)
    agent = Agent(FunctionModel(tools_then_text(*calls)), name="shop", capabilities=[AlkalineDurability(), wait])

    @agent.tool_plain(requires_approval=True)
    async def refund(order: str) -> str:
        refunds.append(order)
        return f"refunded {order}"

    return agent, tokens, refunds


def test_an_approval_comes_to_another_process_and_counts_once() -> None:
    """Asked once; the token says which run waits, and a decision that is sent twice is one."""
    agent, tokens, refunds = refunding()

    async def main() -> None:
        process = Process(asking(agent))
        await (await process.runtime.start("asks", "hello", id="a")).settle()
        runtime = await process.crash()
        assert refunds == []
        (token,) = tokens
        assert token.startswith("a/")
        for _ in range(2):
            await resolve_event(runtime, token, {"approvals": {"o1": True, "o2": False}})
        await runtime.signal("a", "on")
        await runtime.run_due()
        result = await (await runtime.resume("a")).result()
        assert result == "refunded o1 The tool call was denied."
        with pytest.raises(InvalidInput, match="a token is"):
            await resolve_event(runtime, "no token", None)

    drive(main)
    assert refunds == ["o1"]
    assert len(tokens) == 1


@pytest.mark.parametrize("refused", [True, False])
def test_where_nobody_decides_the_agent_is_told_why(refused: bool) -> None:
    """By whoever was asked, or in time."""
    agent, tokens, refunds = refunding(timedelta(minutes=5))

    async def main() -> str:
        process = Process(asking(agent))
        await (await process.runtime.start("asks", "hello", id="a")).settle()
        if refused:
            await refuse_event(process.runtime, tokens[0], "nobody is in")
        else:
            process.host.advance(301)
        await process.runtime.signal("a", "on")
        await process.runtime.run_due()
        return str(await (await process.runtime.resume("a")).result())

    said = drive(main)
    assert refunds == []
    assert ("nobody is in" if refused else "0:05:00") in said


# --- others' tools, and spans ---------------------------------------------------------------------------------------
def test_the_tools_of_an_mcp_server_are_steps(tmp_path: Path) -> None:
    """A real server over stdio, which is not asked again for what is recorded, and gets the key of the call's step."""
    from fastmcp.client.transports import StdioTransport

    ledger = tmp_path / "ledger"
    ledger.touch()
    transport = StdioTransport(sys.executable, ["-m", "tests.mcp.server", str(ledger)], cwd=str(ROOT))
    calls = [ToolCallPart("add", {"a": 2, "b": 3}, tool_call_id="c")]
    agent = Agent(
        FunctionModel(tools_then_text(*calls)),
        name="m",
        toolsets=[MCPToolset[Any](transport, id="sums", init_timeout=120)],
        capabilities=[AlkalineDurability()],
    )
    result, _, names = through_a_crash(agent)
    assert "5" in result
    (line,) = ledger.read_text().splitlines()
    assert line.startswith("add 2 3 ")
    assert line.split()[-1] != "None"
    assert names.count("m__mcp_server__sums.call_tool") == 1
    assert "m__mcp_server__sums.get_tools" in names


class Spans(TracerProvider, Tracer):
    """Counts the spans that end, which are those that are exported."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        return self

    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        ended = self.ended

        class Span(NonRecordingSpan):
            def end(self, end_time: int | None = None) -> None:
                ended.append(name)

            def is_recording(self) -> bool:
                return True

        return Span(SpanContext(1, len(self.ended) + 1, False, TraceFlags(1)))

    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return use_span(self.start_span(name), end_on_exit=True)


def test_a_replay_exports_no_second_span() -> None:
    """Of the run, its requests and its tools; and no first one is lost."""
    spans = Spans()
    calls = [ToolCallPart("look", {}, tool_call_id="c")]
    traced: Any = Instrumentation(settings=InstrumentationSettings(tracer_provider=spans))
    agent = Agent(FunctionModel(tools_then_text(*calls)), name="o", capabilities=[AlkalineDurability(), traced])
    agent.tool_plain(name="look")(lambda: "seen")
    through_a_crash(agent)
    assert len([name for name in spans.ended if name.startswith("chat")]) == 2
    assert len([name for name in spans.ended if "look" in name]) == 1
    assert len([name for name in spans.ended if name.startswith(("invoke_agent", "agent run"))]) == 1


# --- crashes --------------------------------------------------------------------------------------------------------
def scenario(world: World) -> Scenario:
    """Two requests, three tools at once and an approval; whatever is done says so, and is looked for in the history."""

    def doing(mark: str) -> None:
        world.effects[mark] += 1
        recorded = [
            repr(event) for commits in stores[0].histories.values() for commit in commits for _, event in commit
        ]
        if any(mark in text and text.startswith("StepCompleted") for text in recorded):
            world.violations.append(f"{mark} was done again, although it is recorded")

    stores: list[Any] = []

    async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:  # a thread would take real time
        mark = f"<request {len(messages)}>"
        doing(mark)
        calls = {1: ["look", "look", "look"], 3: ["refund"]}.get(len(messages), [])
        parts = [ToolCallPart(name, {"n": n}, tool_call_id=f"{len(messages)}{n}") for n, name in enumerate(calls)]
        return ModelResponse(parts=[TextPart(mark), *parts])

    async def ask(ctx: RunContext[Any], requests: Any, token: str) -> None:
        tokens[0] = token

    tokens = [""]
    durability = AlkalineDurability[Any](tool={"at_most_once": False})
    agent = Agent(FunctionModel(model), name="x", capabilities=[durability, RequestInput[Any](ask=ask)])

    @agent.tool_plain
    async def look(n: int) -> str:
        doing(f"<look {n}>")
        return f"<look {n}>"

    @agent.tool_plain(requires_approval=True)
    async def refund(n: int) -> str:
        doing(f"<refund {n}>")
        return f"<refund {n}>"

    @workflow(name="asks")
    async def asks(ctx: Context) -> str:
        with agents(ctx):
            result = await agent.run("hello")
        await ctx.step("keep", kept, None, result.all_messages_json().decode())
        return result.output

    async def script(outside: Outside) -> Any:
        stores[:] = [outside.trial.store]
        await outside.start("asks")
        await outside.until_waiting("signal event:")
        record = await outside.runtime.get_execution("run")
        for waiting in record.waiting:
            name = waiting.removeprefix("signal ")
            await outside.signal(name, {"approvals": {"30": True}}, dedupe="decision")
        return await outside.result()

    return Scenario("agent", [asks], script, histories=False)


def test_a_crash_at_each_commit_asks_nothing_again_that_is_recorded() -> None:
    """The process dies before each commit is applied, and behind it."""
    faultless = Trial(scenario).run()
    assert faultless.result == "<request 5>"
    assert {name: n for name, n in faultless.world.effects.items() if n != 1} == {}
    broken: list[str] = []
    tries = 0
    commits = [call for call, verb in enumerate(faultless.verbs, 1) if verb == "commit"]
    for call in commits[:-4]:  # the last ones delete the run
        for kind in ("crash", "crash-after"):
            tries += 1
            broken += tried(scenario, fault_at(call, kind), faultless, f"{kind} at callback {call}")[1]  # type: ignore[arg-type]
    assert not broken, "\n".join(broken[:10])
    assert tries > 20


def test_a_request_tells_telemetry_of_its_model_and_tokens_and_nothing_of_its_words() -> None:
    """By the names of the GenAI conventions, live alone: `alkaline_hosts.otel` shows it as `chat MODEL`."""
    from alkaline_hosts._pydantic_ai.units import told_of

    said = told_of({
        "response": {
            "usage": {"input_tokens": 7, "output_tokens": 3, "cache_read_tokens": 0}, "model_name": "m",
            "provider_name": None, "finish_reason": "stop", "parts": [{"content": "a secret"}],
        }
    })  # fmt: skip
    assert said == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3, "gen_ai.response.finish_reasons": "stop",
    }  # fmt: skip
    assert told_of(5) == told_of({}) == told_of({"usage": 5}) == {}


def test_each_request_of_an_agent_is_told_once() -> None:
    """By the step that asked, and by no replay."""
    calls = [ToolCallPart("look", {}, tool_call_id="c")]
    agent = Agent(FunctionModel(tools_then_text(*calls, usage=40)), name="told", capabilities=[AlkalineDurability()])
    agent.tool_plain(name="look")(lambda: "seen")
    _, process, _ = through_a_crash(agent)
    told = [event for event in process.events if type(event).__name__ == "Published" and event.topic == "telemetry"]
    assert [event.name for event in told] == ["told__model.request"] * 2
    for event in told:
        assert event.data["gen_ai.operation.name"] == "chat"
        assert event.data["gen_ai.request.model"].startswith("function:")
        assert event.data["gen_ai.usage.input_tokens"] + event.data["gen_ai.usage.output_tokens"] == 40
