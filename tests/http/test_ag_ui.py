"""A workflow as an AG-UI agent, by the protocol's own types: events out, interrupts, and answers once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from ag_ui.core import Event, RunAgentInput
from pydantic import TypeAdapter

from alkaline_edge import Context, InvalidInput, NotFound, Runtime, StepInfo, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.ag_ui import ag_ui_app
from alkaline_hosts.memory import MemoryHost
from tests.http.wire import served

EVENTS: TypeAdapter[Any] = TypeAdapter(Event)


async def write(text: str, info: StepInfo) -> str:
    for word in text.split():
        info.publish("text", word)
        await asyncio.sleep(0)
    return text


@workflow
async def assistant(ctx: Context, asked: dict[str, Any]) -> Any:
    ctx.on_query("agree", lambda: "Shall I?")
    text = asked["messages"][-1]["content"]
    if text == "fail":
        raise ValueError("no")
    if text == "short":
        return "an answer"
    ctx.emit("thinking", {"of": text})
    agreed = await ctx.wait_for_signal("agree")
    said = await ctx.step("write", write, text)
    return {"agreed": agreed, "said": said}


@asynccontextmanager
async def stage(runtime: Runtime) -> AsyncIterator[Any]:
    async with runtime, served(ag_ui_app(runtime, "assistant", open_to_all=True, serve=False)) as port:
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20)

        async def ask(content: str = "hi", run: str = "r1", thread: str = "t", resume: Any = None) -> list[Any]:
            """What the agent answers, as the protocol's own events."""
            message = {"id": "m", "role": "user", "content": content}
            given = {"threadId": thread, "runId": run, "messages": [message], "resume": resume}
            body = RunAgentInput.model_validate(given).model_dump(mode="json", by_alias=True, exclude_none=True)
            answer = await client.post("/", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "text/event-stream"
            frames = [frame for frame in answer.text.split("\n\n") if frame and not frame.startswith(":")]
            return [EVENTS.validate_json(frame.removeprefix("data: ")) for frame in frames]

        ask.client = client  # type: ignore[attr-defined]
        yield ask
        await client.aclose()


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def kinds(events: list[Any]) -> list[str]:
    return [event.type.value for event in events]


def test_a_wait_is_an_interrupt_and_a_resume_its_answer() -> None:
    """The first request ends with the interrupt; the second brings the answer, what follows it, and the result."""

    async def test() -> None:
        runtime = Runtime(MemoryHost(), workflows=[assistant])
        async with stage(runtime) as ask:
            first = await ask("to be")
            assert kinds(first) == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
            assert (first[1].name, first[1].value) == ("thinking", {"of": "to be"})
            (interrupt,) = first[-1].outcome.interrupts
            assert (interrupt.reason, interrupt.message) == ("agree", "Shall I?")
            assert kinds(await ask("to be")) == kinds(first)  # the same request is the same run
            entry = {"interruptId": interrupt.id, "status": "resolved", "payload": "yes"}
            rest = await ask(run="r2", resume=[entry])
            assert kinds(rest) == [
                "RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT",
                "TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED",
            ]  # fmt: skip
            assert [each.delta for each in rest if hasattr(each, "delta")] == ["to", "be"]
            assert rest[-1].result == {"agreed": "yes", "said": "to be"}
            again = await ask(run="r2", resume=[{**entry, "payload": "no"}])
            assert again[-1].result == rest[-1].result
            assert len((await runtime.list_executions()).items) == 1

    run(test)


def test_a_user_who_cancels_ends_the_run_and_errors_are_told() -> None:
    """A resume entry that is cancelled, a handler that raises, a short answer as a message."""

    async def test() -> None:
        async with stage(Runtime(MemoryHost(), workflows=[assistant])) as ask:
            (interrupt,) = (await ask())[-1].outcome.interrupts
            ended = await ask(run="r2", resume=[{"interruptId": interrupt.id, "status": "cancelled"}])
            assert ended[-1].outcome.type == "cancelled"
            failed = await ask("fail", run="r3")
            assert (failed[-1].message, failed[-1].code) == ("no", "ValueError")
            short = await ask("short", run="r4")
            assert kinds(short)[1:4] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"]
            assert short[2].delta == short[-1].result == "an answer"

    run(test)


def test_what_is_no_request_is_refused() -> None:
    """400 with the reason; a workflow that is not there is said where the app is made."""

    async def test() -> None:
        async with stage(Runtime(MemoryHost(), workflows=[assistant])) as ask:
            message = {"id": "m", "role": "user", "content": "x"}
            whole = {"threadId": "t", "runId": "r", "messages": [message]}
            bad = [
                [],
                {},
                {**whole, "runId": ""},
                {**whole, "messages": 3},
                {**whole, "resume": 3},
                {**whole, "resume": [3]},
                {**whole, "resume": [{"interruptId": "x", "status": "resolved"}]},
                {**whole, "resume": [{"interruptId": "a|b|c", "status": "perhaps"}]},
            ]
            for body in bad:
                answer = await ask.client.post("/", content=json.dumps(body))
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ERR_INVALID_INPUT"), body
            gone = {**whole, "resume": [{"interruptId": "a|b|c", "status": "resolved"}]}
            assert (await ask.client.post("/", content=json.dumps(gone))).status_code == 404
            assert (await ask.client.get("/")).status_code == 405

    run(test)
    runtime = Runtime(SimulatedHost(), workflows=[assistant])
    with pytest.raises(NotFound):
        ag_ui_app(runtime, "none", open_to_all=True)
    with pytest.raises(InvalidInput, match="who may ask"):
        ag_ui_app(runtime, "assistant")
