"""Agents of the OpenAI Agents SDK inside workflows: the extra ``openai-agents``.

Each request to a model and each call of a tool is a step, so none that was recorded is made again::

    agent = Agent(name="support", instructions="Be brief.", tools=[look_up])

    @workflow(budget=Budget(tokens=20_000))
    async def support(ctx: Context, question: str) -> str:
        return (await run_agent(ctx, agent, question)).final_output
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, TypedDict

try:
    from agents import Agent, FunctionTool, Handoff, RunConfig, Runner, RunResult
    from agents.items import ModelResponse
    from agents.models.interface import Model, ModelProvider
except ImportError as error:
    raise ImportError(
        "agents of the OpenAI Agents SDK need an extra: pip install 'alkaline-edge[openai-agents]'"
    ) from error
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from alkaline_edge import Context, InvalidInput, Retry

__all__ = ["StepOptions", "run_agent"]

_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)


class StepOptions(TypedDict, total=False):
    """What ``ctx.step`` takes, for the steps of a kind or of one tool."""

    retry: Retry
    timeout: float
    at_most_once: bool
    cost: int


async def run_agent(
    ctx: Context,
    agent: Agent[Any],
    input: Any,
    *,
    run_config: RunConfig | None = None,
    model: StepOptions | None = None,
    tool: StepOptions | None = None,
    tools: Mapping[str, StepOptions] | None = None,
    **options: Any,
) -> RunResult:
    """As ``Runner.run(agent, input)``, within a workflow: what the agent asks of the world is a step each.

    A request to a model is the step ``model.request``, which costs the tokens of its usage; a function tool is the step
    ``tool NAME``, of the agents that are handed over to as well. ``model`` and ``tool`` are the options of their steps
    (``retry``, ``timeout`` in seconds, ``at_most_once``, ``cost``), ``tools`` those of one tool by its name, over
    ``tool``. ``run_config`` is the SDK's, whose models are asked; its tracing is off here, since a replay would trace a
    second time. ``options`` go to ``Runner.run``: ``context``, ``max_turns``. Instructions, guardrails and hooks are
    part of the workflow: a replay runs them again. An error of a model comes as a StepError of its name.
    ERR_INVALID_INPUT: ``agent`` is no Agent, or has MCP servers of the SDK, whose calls would be no steps.
    """
    if not isinstance(agent, Agent):
        raise InvalidInput(f"run_agent(agent=) is an Agent of the OpenAI Agents SDK, not a {type(agent).__name__}")
    made = _Durable(ctx, tool or {}, tools or {})
    config = run_config or RunConfig()
    provider = _Provider(ctx, config.model_provider, model or {})
    chosen = provider.of(config.model) if isinstance(config.model, Model) else config.model
    durable = replace(config, model_provider=provider, model=chosen, tracing_disabled=True)
    return await Runner.run(made.agent(agent, provider), input, run_config=durable, **options)


class _Durable:
    """Copies of agents whose tools are steps; an agent that is met twice, as in a circle of handoffs, is one copy."""

    def __init__(self, ctx: Context, tool: StepOptions, tools: Mapping[str, StepOptions]) -> None:
        self._ctx, self._tool, self._tools = ctx, tool, tools
        self._made: dict[int, Agent[Any]] = {}

    def agent(self, agent: Agent[Any], provider: _Provider) -> Agent[Any]:
        """The copy of an agent."""
        if id(agent) in self._made:
            return self._made[id(agent)]
        if agent.mcp_servers:
            raise InvalidInput(
                f"agent {agent.name!r:.100} has MCP servers of the SDK: give it function tools that call durable_tool"
            )
        mine = self._made[id(agent)] = copy(agent)
        if isinstance(agent.model, Model):
            mine.model = provider.of(agent.model)
        mine.tools = [self._step(each) if isinstance(each, FunctionTool) else each for each in agent.tools]
        mine.handoffs = [self._handoff(each, provider) for each in agent.handoffs]
        return mine

    def _handoff(self, given: Any, provider: _Provider) -> Any:
        if isinstance(given, Agent):
            return self.agent(given, provider)
        if not isinstance(given, Handoff):
            return given
        theirs = given.on_invoke_handoff

        async def invoke(context: Any, arguments: str) -> Any:
            return self.agent(await theirs(context, arguments), provider)

        mine = copy(given)
        mine.on_invoke_handoff = invoke
        return mine

    def _step(self, tool: FunctionTool) -> FunctionTool:
        theirs, ctx = tool.on_invoke_tool, self._ctx
        options: dict[str, Any] = {**self._tool, **self._tools.get(tool.name, {})}

        async def invoke(context: Any, arguments: str) -> Any:
            async def called(arguments: str) -> Any:
                return to_jsonable_python(await theirs(context, arguments))

            return await ctx.step(f"tool {tool.name}", called, arguments, **options)

        mine = copy(tool)
        mine.on_invoke_tool = invoke
        return mine


class _Provider(ModelProvider):
    def __init__(self, ctx: Context, theirs: ModelProvider, options: StepOptions) -> None:
        self._ctx, self._theirs, self._options = ctx, theirs, options

    def get_model(self, model_name: str | None) -> Model:
        return _Steps(self._ctx, lambda: self._theirs.get_model(model_name), self._options)

    def of(self, model: Model) -> Model:
        return _Steps(self._ctx, lambda: model, self._options)


class _Steps(Model):
    """A model whose requests are steps. The real one is made in the step: it belongs to the host's loop."""

    def __init__(self, ctx: Context, real: Any, options: StepOptions) -> None:
        self._ctx, self._real, self._options = ctx, real, options

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        """As Model.get_response; once recorded, it is not asked again."""

        async def asked() -> Any:
            response = await self._real().get_response(*args, **named)
            return _RESPONSE.dump_python(response, mode="json", exclude_unset=True, warnings=False)

        options: dict[str, Any] = {"cost": _tokens, **self._options}
        return _RESPONSE.validate_python(await self._ctx.step("model.request", asked, **options))

    def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        """Not here."""
        raise InvalidInput("a model is not streamed inside a workflow: follow the run, which has each of its answers")


def _tokens(response: Any) -> int:
    return int(response["usage"].get("total_tokens", 0))
