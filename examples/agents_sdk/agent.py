"""An agent of the OpenAI Agents SDK, whose requests and tools are steps.

    OPENAI_API_KEY=... python examples/agents_sdk/agent.py "How warm is it in Riga, and in Vilnius?"

Kill it whenever you like, and give the same command again: nothing that was recorded is asked for a second time.
OPENAI_BASE_URL names another place that speaks the chat-completions protocol.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from agents import Agent, OpenAIProvider, RunConfig, function_tool

from alkaline_edge import Budget, Context, Retry, Runtime, workflow
from alkaline_hosts.file import FileHost
from alkaline_hosts.openai_agents import run_agent

STORE = Path(os.environ.get("STORE", "agents_sdk.alkaline"))


@function_tool
async def temperature(city: str) -> str:
    """How warm it is in a city."""
    with STORE.with_suffix(".log").open("a") as log:
        log.write(f"temperature {city}\n")
    return f"{len(city)} degrees in {city}"


weather = Agent(name="weather", instructions="Ask for what you need, then answer briefly.", tools=[temperature])


@workflow(budget=Budget(tokens=50_000))
async def answer(ctx: Context, question: str) -> str:
    """The agent's run, as a workflow."""
    models = OpenAIProvider(use_responses=False)
    retry = {"retry": Retry(max_attempts=4), "timeout": 120.0}
    result = await run_agent(ctx, weather, question, run_config=RunConfig(model_provider=models), model=retry)
    return str(result.final_output)


async def main(question: str) -> None:
    """Start the run, or go on with it."""
    host = FileHost(STORE)
    async with Runtime(host, workflows=[answer]) as runtime:
        run = await runtime.start(answer, question, id="answer", on_conflict="join")
        print(await run.result())
        print(f"{(await runtime.get_execution('answer')).spent['tokens']} tokens")
    await host.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["How warm is it in Riga, and in Vilnius?"])))
