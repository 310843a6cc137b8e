"""Agents of the OpenAI Agents SDK in workflows: requests and tools are steps, over a model stub served over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, OpenAIProvider, RunConfig, function_tool
from agents.mcp import MCPServerStdio

from alkaline_edge import Budget, BudgetExceeded, Context, InvalidInput, Retry, replay, workflow
from alkaline_edge import events as ev
from alkaline_hosts.openai_agents import run_agent
from tests.examples.endpoint import serving
from tests.support import Process, drive

PROGRAM = Path(__file__).parents[2] / "examples" / "agents_sdk" / "agent.py"


@contextmanager
def stub(*turns: Any, tokens: int = 40) -> Iterator[Any]:
    """A model over HTTP that calls the tools of each turn, a list of (name, JSON) each, and then says what came."""
    with serving() as endpoint:
        endpoint.held = threading.Event()  # type: ignore[attr-defined]
        endpoint.hold = 0  # type: ignore[attr-defined]

        def reply(key: str | None, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            endpoint.asked.append((key, request))
            if len(endpoint.asked) == endpoint.hold:  # type: ignore[attr-defined]
                endpoint.held.wait(60)  # type: ignore[attr-defined]
            if len(endpoint.asked) <= endpoint.failures:
                return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
            turn = sum(each["role"] == "assistant" for each in request["messages"])
            came = [str(each["content"]) for each in request["messages"] if each["role"] == "tool"]
            said: dict[str, Any] = {"role": "assistant", "content": " and ".join(came) or "nothing"}
            if turn < len(turns):
                calls = [
                    {"id": f"c{turn}{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
                    for n, (name, arguments) in enumerate(turns[turn])
                ]
                said = {"role": "assistant", "content": None, "tool_calls": calls}
            choice = {"index": 0, "message": said, "finish_reason": "stop"}
            usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
            whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            return 200, {**whole, "usage": usage}

        endpoint.answer = reply  # type: ignore[method-assign]
        yield endpoint


def asking(agent: Agent[Any], url: str, budget: Budget | None = None, **options: Any) -> Any:
    config = RunConfig(model_provider=OpenAIProvider(base_url=url, api_key="none", use_responses=False))

    @workflow(name="asks", budget=budget)
    async def asks(ctx: Context, question: str) -> str:
        result = await run_agent(ctx, agent, question, run_config=config, **options)
        await ctx.wait_for_signal("on")
        return str(result.final_output)

    return asks


def cities() -> tuple[Agent[Any], list[str]]:
    done: list[str] = []

    @function_tool
    def look(city: str) -> str:
        done.append(city)
        return f"seen {city}"

    return Agent(name="a", tools=[look]), done


def through_a_crash(agent: Agent[Any], url: str, **options: Any) -> tuple[str, list[str], int]:
    async def main() -> Any:
        process = Process(asking(agent, url, **options))
        await (await process.runtime.start("asks", "hello", id="a")).settle()
        runtime = await process.crash()
        await runtime.signal("a", "on")
        await runtime.run_due()
        result = await (await runtime.resume("a")).result()
        (checked,) = replay.check([await runtime.export("a")], process.workflows)
        assert checked.ok, checked.message
        history = await runtime.history("a")
        names = [each.event.name for each in history if isinstance(each.event, ev.StepCompleted)]
        return result, names, (await runtime.get_execution("a")).spent["tokens"]

    return asyncio.run(asyncio.wait_for(main(), 120))


def test_requests_and_tools_are_steps_and_none_is_made_again() -> None:
    """Also tools that a model calls at once; the tokens are charged once."""
    agent, done = cities()
    with stub([("look", '{"city": "Riga"}'), ("look", '{"city": "Vilnius"}')]) as endpoint:
        result, names, tokens = through_a_crash(agent, endpoint.url)
        assert result == "seen Riga and seen Vilnius"
        assert sorted(done) == ["Riga", "Vilnius"]
        assert len(endpoint.asked) == 2
    assert names == ["model.request", "tool look", "tool look", "model.request"]
    assert tokens == 80


def test_an_agent_that_hands_over_is_durable_as_the_next_one_is() -> None:
    """The tools of both are steps, in a circle of handoffs too."""
    other, done = cities()
    other.name = "other"
    first = Agent[Any](name="first", handoffs=[other])
    other.handoffs = [first]
    with stub([("transfer_to_other", "{}")], [("look", '{"city": "Riga"}')]) as endpoint:
        result, names, _ = through_a_crash(first, endpoint.url)
        assert len(endpoint.asked) == 3
    assert "seen Riga" in result
    assert done == ["Riga"]
    assert names == ["model.request", "model.request", "tool look", "model.request"]


def test_over_the_budget_the_run_ends() -> None:
    """By the usage that the model reports: what follows is refused."""
    agent, _ = cities()

    async def main(url: str) -> None:
        run = await Process(asking(agent, url, Budget(tokens=30))).runtime.start("asks", "hello", id="a")
        with pytest.raises(BudgetExceeded):
            await run.result()

    with stub([("look", '{"city": "Riga"}')]) as endpoint:
        drive(lambda: main(endpoint.url))


def test_a_models_error_is_retried_as_the_step_says_and_comes_by_its_name() -> None:
    """A retry that gives up raises what the model did."""
    agent, _ = cities()
    options: Any = {"model": {"retry": Retry(max_attempts=2, backoff=0)}}

    async def main(url: str) -> None:
        run = await Process(asking(agent, url, **options)).runtime.start("asks", "hello", id="a")
        with pytest.raises(Exception, match="no") as failed:
            await run.result()
        assert type(failed.value).__name__ == "BadRequestError"

    with stub() as endpoint:
        endpoint.failures = 2
        drive(lambda: main(endpoint.url))
        assert len(endpoint.asked) == 2


def test_what_can_not_be_made_durable_is_refused() -> None:
    """No agent, and a server of MCP that the SDK itself would call."""
    server = MCPServerStdio(params={"command": sys.executable})
    for agent in (None, Agent(name="m", mcp_servers=[server])):
        asks = asking(agent, "http://localhost/v1")  # type: ignore[arg-type]

        async def main(asks: Any = asks) -> None:
            with pytest.raises(InvalidInput, match="gent"):
                await (await Process(asks).runtime.start("asks", "hello", id="a")).result()

        drive(main)


def test_the_example_is_killed_in_a_request_and_makes_that_alone_again(tmp_path: Path) -> None:
    """kill -9 while the model thinks about its last answer; the same command ends it."""
    calls = [("temperature", '{"city": "Riga"}'), ("temperature", '{"city": "Vilnius"}')]
    with stub(calls) as endpoint:
        environment = {
            **os.environ, "STORE": str(tmp_path / "s.alkaline"), "OPENAI_BASE_URL": endpoint.url,
            "OPENAI_API_KEY": "none",
        }  # fmt: skip
        endpoint.hold = 2
        command = [sys.executable, str(PROGRAM)]
        with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            while len(endpoint.asked) < 2 and process.poll() is None:
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGKILL)
        endpoint.held.set()
        assert process.returncode == -signal.SIGKILL
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stdout.splitlines() == ["4 degrees in Riga and 7 degrees in Vilnius", "80 tokens"], done.stderr
        assert len(endpoint.asked) == 3
    assert sorted((tmp_path / "s.log").read_text().splitlines()) == ["temperature Riga", "temperature Vilnius"]
