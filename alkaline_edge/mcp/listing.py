"""Which tools a server has, as a step: bounded, and what it says of them tagged by nobody but us."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..context import Context
from ..errors import InvalidInput
from ..failures import StepError
from ..names import check_name
from ..retry import Retry
from .failing import ToolFailed, failure_of, revived
from .reaching import check_client, connected
from .results import Unfit, fitted

__all__ = ["durable_tools"]

MAX_TOOLS = 1_000
"""Tools of one server."""
MAX_LISTING = 1024 * 1024
"""Bytes of all of them, about as JSON."""
_ANYTHING = {"type": "object"}


async def durable_tools(
    ctx: Context, client: Any, *, server: str = "tools", retry: Retry | None = None, timeout: float | None = None
) -> list[dict[str, Any]]:
    """The tools of an MCP server, asked for in a step and the same in each replay.

    ``client`` is one that ``durable_tool`` takes and that has ``list_tools`` too; ``server`` is in the step's name;
    ``retry`` and ``timeout`` (seconds, of one attempt) are those of ``ctx.step``. Returns a map for each tool, with
    ``name``, ``description`` and ``input_schema``, in the order in which the server has them. All three are the
    server's words: a description is data for a model, as a result is. A tool without a name is left out; a schema that
    is none takes anything. ``ToolFailed`` where there is no list: ``invalid`` where it is no list of tools, or has more
    than 1,000 tools or 1 MiB. ERR_INVALID_INPUT: the client can't list.
    """
    step = check_name(f"mcp tools of {server}", "a server's name, with words before it,")
    check_client(client)

    async def listed() -> list[dict[str, Any]]:
        try:
            return await tools_of(client, server)
        except Exception as error:
            failed = failure_of(error, server)
            if failed is None:
                raise
            raise failed from error

    try:
        found: list[dict[str, Any]] = await ctx.step(step, listed, retry=retry, timeout=timeout)
    except StepError as error:
        raise revived(error) from None
    return found


async def tools_of(client: Any, server: str) -> list[dict[str, Any]]:
    """The same at once, without a step."""
    found: list[dict[str, Any]] = []
    async with connected(client) as opened:
        method = getattr(opened, "list_tools", None)
        if method is None:
            raise InvalidInput(f"the client of {server!r} has no list_tools: name its tools, and call durable_tool")
        paged = "cursor" in inspect.signature(method).parameters
        cursor, seen = None, set[str]()
        while True:
            tools, cursor = _page(await (method(cursor=cursor) if paged else method()), server)
            found += tools
            if len(found) > MAX_TOOLS:
                raise ToolFailed(f"{server!r} lists more than {MAX_TOOLS:,} tools", "invalid")
            if not paged or not cursor or cursor in seen:
                break
            seen.add(cursor)
    try:
        bounded: list[dict[str, Any]] = fitted(found, [MAX_LISTING])
    except Unfit:
        raise ToolFailed(f"{server!r} says more of its tools than {MAX_LISTING:,} bytes", "invalid") from None
    return bounded


def _page(raw: Any, server: str) -> tuple[list[dict[str, Any]], str | None]:
    """The tools of one answer, and where the next begins."""
    plain = _plain(raw)
    cursor = plain.get("nextCursor") if isinstance(plain, Mapping) else None
    tools = plain.get("tools") if isinstance(plain, Mapping) else plain
    if not isinstance(tools, (list, tuple)):
        raise ToolFailed(f"{server!r} answered what is no list of tools", "invalid")
    found = [_tool(each) for each in map(_plain, tools) if isinstance(each, Mapping) and _named(each.get("name"))]
    return found, cursor if isinstance(cursor, str) else None


def _tool(said: Mapping[str, Any]) -> dict[str, Any]:
    description, schema = said.get("description"), said.get("inputSchema")
    fits = isinstance(schema, Mapping) and schema.get("type") == "object"
    return {
        "name": said["name"],
        "description": description if isinstance(description, str) else "",
        "input_schema": schema if fits else _ANYTHING,
    }


def _named(name: Any) -> bool:
    return isinstance(name, str) and bool(name)


def _plain(value: Any) -> Any:
    return value.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(value, "model_dump") else value
