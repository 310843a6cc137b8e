"""What names may look like: they become parts of keys, which are ASCII."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .arguments import refused, several, whole
from .errors import InvalidInput
from .limits import MAX_ATTRIBUTES, MAX_ID, MAX_MESSAGE, MAX_NAME
from .structs import NamedTuple

MAX_BITS = 1_024
"""Bits of an integer that is an attribute: it is written out in keys."""
_ID = r"[A-Za-z0-9_.:@~+=-]+"


def check_id(value: object, what: str = "a run id") -> str:
    """``value`` if it can be part of a key: letters, digits and ``_ . : @ ~ + = -``. Otherwise ERR_INVALID_INPUT."""
    if not isinstance(value, str) or not re.fullmatch(_ID, value) or len(value) > MAX_ID:
        raise InvalidInput(f"{what} is 1 to {MAX_ID} of the characters A-Z a-z 0-9 _ . : @ ~ + = -; {_shown(value)}")
    return _plain(value)


def check_name(value: object, what: str) -> str:
    """``value`` if it is a non-empty str of at most MAX_NAME characters. Otherwise ERR_INVALID_INPUT."""
    if type(value) is str and value.isascii() and 0 < len(value) <= MAX_NAME:
        return value  # the name of nearly every step, for each of which this is asked
    if not isinstance(value, str) or not value or len(value) > MAX_NAME:
        raise InvalidInput(f"{what} is a text of 1 to {MAX_NAME} characters; {_shown(value)}")
    if not is_text(value):
        raise InvalidInput(f"{what} holds a lone surrogate, which is not text; decode it with errors='replace'")
    return _plain(value)


def is_text(value: str) -> bool:
    """Whether a str is text: a lone surrogate can't be written down."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def check_text(value: object, what: str, most: int = MAX_MESSAGE) -> str:
    """``value`` if it is a str of at most ``most`` characters, which may be empty. Otherwise ERR_INVALID_INPUT."""
    if not isinstance(value, str) or len(value) > most or not is_text(value):
        raise InvalidInput(f"{what} is a text of at most {most:,} characters; {_shown(value)}")
    return _plain(value)


def _plain(value: str) -> str:
    """The text of a str whose class may be a subclass, such as a member of a StrEnum: it is stored, and compared."""
    return value if type(value) is str else str.__str__(value)


def check_attribute(name: object, value: Any) -> None:
    """InvalidInput for an attribute that can't be indexed, or that is too large for a record."""
    check_id(name, "an attribute's name")
    if not isinstance(value, (str, int, float, bool)):
        raise InvalidInput(f"attribute {name!r} is a {type(value).__name__}; use str, int, float or bool")
    if type(value) not in (str, int, float, bool):
        raise InvalidInput(f"attribute {name!r} is a {type(value).__name__}; convert it to a plain str, int or float")
    if isinstance(value, str):
        check_text(value, f"attribute {name!r}")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InvalidInput(f"attribute {name!r} has {value.bit_length()} bits; an integer has up to {MAX_BITS} here")


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """InvalidInput for attributes that can't all be indexed."""
    if not isinstance(attributes, Mapping):
        raise InvalidInput(f"attributes are a dict of names and values; got {type(attributes).__name__}")
    for name, value in attributes.items():
        check_attribute(name, value)
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidInput(f"a run has at most {MAX_ATTRIBUTES} attributes, and these are {len(attributes)}")


def check_workflow_name(value: object) -> str:
    """As check_id: a workflow's name is part of index keys."""
    return check_id(value, "a workflow's name")


class Need(NamedTuple):
    """What an attempt needs a place of: the limit ``name``. ``key``: for whom, such as a tenant; ``priority``: the
    highest first."""

    name: str
    key: str = ""
    priority: int = 0


def needs_of(given: Any, what: str) -> tuple[Need, ...]:
    """The limits that ``given`` names: one, or several, each a name or a Need. ERR_INVALID_INPUT for what is none."""
    found: dict[str, Need] = {}
    for each in [given] if isinstance(given, (str, Need)) else several(given, what, "names of limits, or Needs"):
        if not isinstance(each, (str, Need)):
            raise refused(what, "a limit's name, a Need, or several of them", each)
        need = Need(each) if isinstance(each, str) else each
        check_id(need.name, "a limit's name")
        check_text(need.key, "a limit's key", 200)
        whole(need.priority, "priority", -1_000, 1_000)
        found[need.name] = need
    return tuple(found.values())


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return f"got {type(value).__name__}"
    return f"got {len(value)} characters" if len(value) > 60 else f"got {value!a}"
