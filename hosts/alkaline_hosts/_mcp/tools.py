"""Workflows as tools: what a client is told of each, and what it gives as the input of a run. Pure: no I/O."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from alkaline_edge.errors import InvalidInput
from alkaline_edge.workflows import Workflow

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    type(None): {"type": "null"}, list: {"type": "array"}, dict: {"type": "object"}, Any: {},
}  # fmt: skip


class Tool(NamedTuple):
    """A workflow as a client sees it. ``parameter``: the argument that is the run's input; "": all of them are."""

    name: str
    description: str
    schema: Schema
    parameter: str

    def shown(self) -> dict[str, Any]:
        """An entry of ``tools/list``."""
        return {"name": self.name, "description": self.description, "inputSchema": self.schema}

    def input_of(self, arguments: Any) -> Any:
        """The input of a run; InvalidInput for arguments that the schema does not have, or lacks."""
        given = {} if arguments is None else arguments
        if not isinstance(given, dict):
            raise InvalidInput(f"the arguments of {self.name} are an object")
        known = self.schema.get("properties", {})
        unknown = sorted(given.keys() - known.keys()) if self.schema.get("additionalProperties") is False else []
        if unknown:
            raise InvalidInput(
                f"{self.name} takes {', '.join(known) or 'no arguments'}, not {', '.join(unknown)[:200]}"
            )
        missing = [name for name in self.schema.get("required", ()) if name not in given]
        if missing:
            raise InvalidInput(f"{self.name} wants {', '.join(missing)}")
        return given.get(self.parameter) if self.parameter else given


def tool_of(workflow: Workflow, schema: Mapping[str, Any] | None = None) -> Tool:
    """The tool of a workflow: its parameters from the handler's annotations, its words from its docstring.

    A handler that takes a dict or a TypedDict gets all arguments as that; of another one the input is the one argument
    that is called as its parameter. ``schema``: of the arguments, in place of what the annotations say; then all of
    them are the input.
    """
    words = inspect.getdoc(workflow.fn) or f"Runs the workflow {workflow.name}."
    if schema is not None:
        return Tool(workflow.name, words, dict(schema), "")
    if not workflow.takes_input:
        return Tool(workflow.name, words, {"type": "object", "properties": {}, "additionalProperties": False}, "-")
    parameter = list(inspect.signature(workflow.fn).parameters.values())[1:2]
    name = parameter[0].name if parameter else "input"
    try:
        hint = get_type_hints(workflow.fn).get(name, Any)
    except Exception:  # an annotation that names what is not there when the program runs
        hint = Any
    found = schema_of(hint)
    if found.get("type") == "object":
        return Tool(workflow.name, words, found, "")
    required = [name] if parameter and parameter[0].default is inspect.Parameter.empty else []
    whole = {"type": "object", "properties": {name: found}, "required": required, "additionalProperties": False}
    return Tool(workflow.name, words, whole, name)


def schema_of(hint: Any) -> Schema:
    """The JSON Schema of an annotation; of one that JSON has no word for, that of anything."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in args]}
    if origin in (list, tuple, set, frozenset):
        return {"type": "array", "items": schema_of(args[0])} if args else {"type": "array"}
    if origin in (dict, Mapping) or hint is Mapping:
        return {"type": "object", "additionalProperties": schema_of(args[1])} if len(args) == 2 else {"type": "object"}
    if typing.is_typeddict(hint):
        fields = {name: schema_of(each) for name, each in get_type_hints(hint).items()}
        required = sorted(hint.__required_keys__)
        return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
    return {}
