"""The verbs of task boards as tools: an agent on any client lists, claims, does and ends tasks. Pure: no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, get_type_hints

from alkaline_edge.arguments import expect
from alkaline_edge.board import Board
from alkaline_edge.board.tools import tools_by_token
from alkaline_edge.codec import Codec
from alkaline_edge.errors import AlkalineError, InvalidInput

from .._http.json import to_json
from . import tasks
from .tools import Schema, Tool, schema_of


class Verb(NamedTuple):
    """A verb of a board: what a client sees of it, and what does it."""

    tool: Tool
    do: Callable[..., Awaitable[Any]]

    async def call(self, arguments: Any, codec: Codec) -> dict[str, Any]:
        """The result of the tool. What the board refuses is one too, so that a model can see it and do better."""
        try:
            value = await self.do(**self.tool.input_of(arguments))
        except AlkalineError as error:
            return tasks.refusal(str(error))
        text = value if isinstance(value, str) else to_json(value, codec)
        more = {"structuredContent": value} if isinstance(value, dict) else {}
        return {"content": [{"type": "text", "text": text}], "isError": False, **more}


def verbs_of(boards: Iterable[Board]) -> dict[str, Verb]:
    """By the name of its tool, every verb of these boards."""
    found: dict[str, Verb] = {}
    for board in boards:
        expect(board, Board, "boards=", "Boards of the runtime")
        for name, do in tools_by_token(board).items():
            tool = Tool(f"{board.name}_{name}", inspect.getdoc(do) or name, _schema(do), "")
            if tool.name in found:
                raise InvalidInput(f"two verbs of boards have the name {tool.name!r}: give a board another name")
            found[tool.name] = Verb(tool, do)
    return found


def _schema(do: Callable[..., Any]) -> Schema:
    hints, parameters = get_type_hints(do), inspect.signature(do).parameters
    fields = {name: schema_of(hints.get(name, Any)) for name in parameters}
    required = [name for name, each in parameters.items() if each.default is each.empty]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
