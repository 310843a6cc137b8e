"""How the parameters of a verb travel in a query: as texts, under names of their own. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from alkaline_edge.arguments import expect
from alkaline_edge.errors import InvalidInput
from alkaline_edge.limits import MAX_ID, MAX_NAME

from .forms import to_strict_json
from .json import from_json
from .messages import Refused

ID: Mapping[str, Any] = {"pattern": r"^[A-Za-z0-9_.:@~+=-]+$", "minLength": 1, "maxLength": MAX_ID}
NAME: Mapping[str, Any] = {"minLength": 1, "maxLength": MAX_NAME}
"""Which texts are ids and names of workflows, and which are names that users choose freely."""


class Parameter(NamedTuple):
    """A parameter of a verb that travels in the query, there under the name ``wire``.

    ``read`` makes the value of its texts and ``write`` the texts of a value; one text, unless ``many``. None is never
    written, and what is ``needed`` has no default. ``schema``: of one of its texts, for the OpenAPI document.
    """

    wire: str
    read: Callable[[str, list[str]], Any]
    write: Callable[[Any], list[str]]
    needed: bool = False
    many: bool = False
    schema: Mapping[str, Any] = {"type": "string"}


def attribute(text: str, option: str) -> tuple[str, Any]:
    """``NAME=VALUE``; VALUE is a number, true or false where it reads as JSON, otherwise text ("7" is the text 7)."""
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidInput(f"{option} wants NAME=VALUE, not {text[:60]!r}")
    try:
        found = from_json(value)
    except InvalidInput:
        return name, value
    return name, found if isinstance(found, (str, int, float, bool)) else value


def _written(value: Any) -> str:
    """The VALUE that ``attribute`` reads as ``value``."""
    return value if isinstance(value, str) and attribute(f"={value}", "")[1] == value else json.dumps(value)


def _named(value: Any) -> dict[str, Any]:
    expect(value, dict, "attributes", "a dict of names and values")
    found: dict[str, Any] = value
    return found


def _number(wire: str, texts: list[str]) -> int:
    given = texts[0]
    if not (given.isascii() and given.isdigit() and len(given) <= 15):
        raise Refused(400, f"{wire} is a whole number of at most 15 digits, not {given[:40]!r}")
    return int(given)


def _flag(wire: str, texts: list[str]) -> bool:
    given = texts[0].lower()
    if given not in ("", "0", "1", "true", "false"):
        raise Refused(400, f"{wire} is 1 or 0, not {given[:40]!r}")
    return given in ("", "1", "true")


def text(wire: str, needed: bool = False, **schema: Any) -> Parameter:
    """A text, as it is; ``schema`` says which texts the verb takes, where not all of them."""
    return Parameter(
        wire, lambda _, texts: texts[0], lambda value: [value], needed, schema={"type": "string", **schema}
    )


def number(wire: str, needed: bool = False, least: int = 0, most: int = 10**15 - 1) -> Parameter:
    """A whole number of at most 15 digits; what is below ``least`` or above ``most`` the verb refuses."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Parameter(wire, _number, lambda value: [str(value)], needed, schema=schema)


def flag(wire: str) -> Parameter:
    """1 or 0; it is on where it has no value."""
    return Parameter(wire, _flag, lambda value: ["1"] if value else [], schema={"enum": ["0", "1", "true", "false"]})


ATTRIBUTES = Parameter(
    "attribute",
    lambda wire, texts: dict(attribute(each, f"{wire}=") for each in texts),
    lambda value: [f"{name}={_written(each)}" for name, each in _named(value).items()],
    many=True,
    schema={"type": "string", "pattern": r"^[A-Za-z0-9_.:@~+=-]+=.*$", "description": "NAME=VALUE"},
)
"""NAME=VALUE, once for each attribute."""
ARGUMENTS = Parameter(
    "arg",
    lambda wire, texts: [from_json(each, f"{wire}=") for each in texts],
    lambda value: [to_strict_json(each) for each in value],
    many=True,
    schema={"type": "string", "contentMediaType": "application/json"},
)
"""A JSON value, once for each argument; in Python they are what follows the other parameters."""
