"""Agents of Pydantic AI inside workflows: the extra ``pydantic-ai``.

What an agent does to the world (a model's request, a tool's call, an MCP server's tools, an event handler) is a step
each, by Pydantic AI's own seam for engines like this one::

    agent = Agent("openai:gpt-5", name="support", capabilities=[AlkalineDurability()])

    @workflow
    async def support(ctx: Context, question: str) -> str:
        with agents(ctx):
            return (await agent.run(question)).output
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

try:
    from pydantic_ai.agent import EventStreamHandler
    from pydantic_ai.agent.abstract import AbstractAgent
    from pydantic_ai.capabilities.abstract import WrapRunHandler
    from pydantic_ai.durable_exec import (
        JSON_CODEC,
        BaseDurabilityCapability,
        DurabilityEngineSpec,
        conversation_id_from_run_id,
        external_event_scope,
    )
    from pydantic_ai.durable_exec._operation_backend import in_durable_unit
    from pydantic_ai.models import Model
    from pydantic_ai.run import AgentRunResult
    from pydantic_ai.tools import AgentDepsT, RunContext
except ImportError as error:
    raise ImportError("agents of Pydantic AI need an extra: pip install 'alkaline-edge[pydantic-ai]'") from error

from alkaline_edge import InvalidInput

from ._pydantic_ai.mcp_tools import MCPTools, passing_the_key
from ._pydantic_ai.surroundings import agents, at_recorded_times, current, current_step, recorded_now
from ._pydantic_ai.units import KEY, StepOptions, Steps, options_of_tools
from ._pydantic_ai.waiting import Signals, pending_events, refuse_event, resolve_event

__all__ = [
    "AlkalineDurability",
    "MCPTools",
    "StepOptions",
    "agents",
    "current_step",
    "pending_events",
    "refuse_event",
    "resolve_event",
]


def _not_storable(error: Exception) -> BaseException:
    return InvalidInput(f"a unit of an agent returned what can't be stored: {type(error).__name__}: {error}")


def _pass_the_key(toolset: Any) -> None:
    """Let each call of a toolset that calls an MCP server have its step's idempotency key, as ``durable_tool`` does."""
    if hasattr(toolset, "process_tool_call") and not hasattr(toolset.process_tool_call, "alkaline"):
        toolset.process_tool_call = passing_the_key(toolset.process_tool_call)


class AlkalineDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent's units steps of the workflow it runs in; outside of ``agents(ctx)`` it does nothing.

    The agent needs a ``name``, and each of its MCP toolsets an ``id``: they are in the steps' names, which histories
    keep. ``models`` by name, beside the agent's own, and ``event_stream_handler`` are those of Pydantic AI's own
    capabilities of this kind. ``model``, ``tool``, ``event`` and ``capability`` are the options of the steps of each
    kind (``retry``, ``timeout`` in seconds, ``at_most_once``, ``cost``); a tool's ``metadata={"alkaline": {...}}``
    overrides them for that tool, and ``{"alkaline": False}`` runs it in the workflow itself. A model's step costs the
    tokens of its usage, and dollars where the prices are known. A model's error comes back as its own class.
    ``RequestInput`` waits for a signal of the run: answer with ``resolve_event(runtime, token, payload)``, from any
    process.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="alkaline_edge",
        durable_unit_noun="step",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        serialization_failure=_not_storable,
        # A unit is in the host's loop, and the workflow in its own: what one has opened the other can't close.
        toolset_lifecycles={"function": "enter-never", "mcp": "enter-outside-durable", "dynamic": "enter-never"},
        tool_config_key=KEY,
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        model: StepOptions | None = None,
        tool: StepOptions | None = None,
        event: StepOptions | None = None,
        capability: StepOptions | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._options = {"model": model or {}, "event": event or {}, "capability": capability or {}}
        self._tool_options: StepOptions = tool or {}
        self._steps: Steps | None = None

    def _bind_to_agent(self, agent: AbstractAgent[AgentDepsT, Any]) -> None:
        config = options_of_tools(self._tool_options, self._options)
        self._steps = Steps(agent_name=self.name, default_model_id=self.default_model_id, config=config)
        super()._bind_to_agent(agent)
        for toolset in agent.toolsets:
            toolset.apply(_pass_the_key)

    @property
    def in_durable_context(self) -> bool:
        """Whether the caller is in a workflow, and not in a step of it."""
        return current() is not None and not in_durable_unit()

    def get_durable_operation_backend(self) -> Steps:
        """What runs the units."""
        assert self._steps is not None, "for_agent binds it"
        return self._steps

    def get_default_run_id(self) -> str | None:
        """A recorded one, the same in a replay."""
        ctx = current()
        return ctx.uuid() if ctx is not None and self.in_durable_context else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """That of the run's id."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """Recorded time."""
        return recorded_now if self.in_durable_context else None

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """As BaseDurabilityCapability.wrap_run: waits are signals."""
        inside = current()
        if inside is None or not self.in_durable_context:
            return await super().wrap_run(ctx, handler=handler)
        with external_event_scope(Signals(inside, self.name)):
            result = await super().wrap_run(ctx, handler=handler)
        at_recorded_times(result.new_messages())
        return result
