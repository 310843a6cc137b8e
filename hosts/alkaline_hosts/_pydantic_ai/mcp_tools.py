"""MCP servers' tools for an agent: a toolset over ``durable_tool`` and, for Pydantic AI's own, the step's key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from datetime import timedelta
from typing import Any

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.tools import AgentDepsT, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from alkaline_edge import InvalidInput
from alkaline_edge.mcp import durable_tool, durable_tools, text_of
from alkaline_edge.mcp.listing import tools_of
from alkaline_edge.mcp.reaching import IDEMPOTENCY_KEY, Call, check_client, reach
from alkaline_edge.mcp.results import tagged

from .surroundings import current, current_step
from .units import StepOptions, check_options

__all__ = ["MCPTools", "passing_the_key"]

_ANY_MAP = SchemaValidator(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))


class MCPTools(AbstractToolset[AgentDepsT]):
    """The tools of an MCP server, over any client that ``alkaline_edge.mcp.durable_tool`` takes.

    With ``alkaline_hosts.mcp.FetchClient`` it needs no package but Pydantic AI's smallest, and so works in a page and
    in a Worker. The server is asked for its tools once in a run of the agent, in a step; each call is a step by
    ``durable_tool``, with its key, its bounds and its questions, which suspend the run. What the tool itself reports
    as an error goes back to the model, which may try ``max_retries`` times more; ToolFailed ends the agent's run.

    ``id`` names the server in the steps' names. ``options`` are those of the steps of each call, ``tools`` those of one
    tool by its name, over ``options``: ``tools={"refund": {"at_most_once": True}}``. ``answer_timeout``: seconds that a
    question waits for its answer. Outside of a workflow nothing is recorded. ERR_INVALID_INPUT: no client, no id, or
    options that there are not.
    """

    def __init__(
        self,
        client: Any,
        *,
        id: str,
        options: StepOptions | None = None,
        tools: Mapping[str, StepOptions] | None = None,
        answer_timeout: float | timedelta | None = None,
        max_retries: int = 1,
    ) -> None:
        check_client(client)
        if not isinstance(id, str) or not id:
            raise InvalidInput(f"MCPTools(id=) is a text: it is in the names of steps; got {id!r:.40}")
        self._client, self._id = client, id
        self._options = check_options(options or {}, "MCPTools(options=)")
        self._tools = {
            name: check_options(one, f"MCPTools(tools={{{name!r}: ...}})") for name, one in (tools or {}).items()
        }
        self._answer_timeout, self._max_retries = answer_timeout, max_retries
        self._listed: list[dict[str, Any]] | None = None

    @property
    def id(self) -> str:
        """In the names of its steps."""
        return self._id

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> MCPTools[AgentDepsT]:
        """One for a run of the agent, which keeps the server's list."""
        mine = copy(self)
        mine._listed = None
        return mine

    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        """The server's tools, by name."""
        if self._listed is None:
            inside = current()
            retry = self._options.get("retry")
            if inside is None or current_step() is not None:
                self._listed = await tools_of(self._client, self._id)
            else:
                timeout = self._options.get("timeout")
                self._listed = await durable_tools(inside, self._client, server=self._id, retry=retry, timeout=timeout)
        return {each["name"]: self._tool(each) for each in self._listed}

    def _tool(self, said: dict[str, Any]) -> ToolsetTool[AgentDepsT]:
        schema = said["input_schema"]
        definition = ToolDefinition(name=said["name"], parameters_json_schema=schema, description=said["description"])
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=self._max_retries, args_validator=_ANY_MAP)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[AgentDepsT], tool: ToolsetTool[AgentDepsT]
    ) -> Any:
        """What the tool returned, as the model is told."""
        inside = current()
        if inside is None or current_step() is not None:
            result = tagged(await reach(self._client, Call(name, tool_args, "")), name, self._id)
        else:
            options: dict[str, Any] = {**self._options, **self._tools.get(name, {})}
            options["answer_timeout"] = self._answer_timeout
            result = await durable_tool(inside, self._client, name, tool_args, server=self._id, **options)
        if result["is_error"]:
            raise ModelRetry(text_of(result) or f"Tool {name!r} reported an error.")
        return _told(result)


def _told(result: dict[str, Any]) -> Any:
    """What a model is told of a result: its structure, where it has one, or its text; and that it was cut."""
    structured = result["structured"]
    if structured is not None and not result["truncated"]:
        alone = isinstance(structured, dict) and structured.keys() == {"result"}
        return structured["result"] if alone else structured
    texts = [block["text"] if "text" in block else json.dumps(block) for block in result["content"]]
    return "\n".join(texts) + ("\n[The rest was left out: it is too long.]" if result["truncated"] else "")


def passing_the_key(theirs: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A ``process_tool_call`` for Pydantic AI's MCPToolset, around the one that it has: the step's key goes along."""

    async def process(ctx: RunContext[Any], call: Callable[..., Any], name: str, args: dict[str, Any]) -> Any:
        step = current_step()

        async def keyed(name: str, args: dict[str, Any], *, metadata: dict[str, Any] | None = None) -> Any:
            if step is not None:
                metadata = {IDEMPOTENCY_KEY: step.idempotency_key, **(metadata or {})}
            return await call(name, args, metadata=metadata)

        return await (keyed(name, args) if theirs is None else theirs(ctx, keyed, name, args))

    process.__dict__["alkaline"] = True
    return process
