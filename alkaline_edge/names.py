"""What names may look like: they become parts of keys, which are ASCII."""

from __future__ import annotations

import re

from .errors import InvalidInput
from .limits import MAX_ID, MAX_NAME

MAX_BITS = 1_024
"""Bits of an integer that is an attribute: it is written out in keys."""
_ID = r"[A-Za-z0-9_.:@~+=-]+"


def check_id(value: object, what: str = "a run id") -> str:
    """``value`` if it can be part of a key: letters, digits and ``_ . : @ ~ + = -``. Otherwise ERR_INVALID_INPUT."""
    if not isinstance(value, str) or not re.fullmatch(_ID, value) or len(value) > MAX_ID:
        raise InvalidInput(f"{what} is 1 to {MAX_ID} of the characters A-Z a-z 0-9 _ . : @ ~ + = -; {_shown(value)}")
    return value


def check_name(value: object, what: str) -> str:
    """``value`` if it is a non-empty str of at most MAX_NAME characters. Otherwise ERR_INVALID_INPUT."""
    if not isinstance(value, str) or not value or len(value) > MAX_NAME or not is_text(value):
        raise InvalidInput(f"{what} is a text of 1 to {MAX_NAME} characters; {_shown(value)}")
    return value


def is_text(value: str) -> bool:
    """Whether a str is text: a lone surrogate can't be written down."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def check_attribute(name: object, value: object) -> None:
    """ERR_INVALID_INPUT for an attribute that can't be indexed."""
    check_id(name, "an attribute's name")
    if not isinstance(value, (str, int, float, bool)):
        raise InvalidInput(f"attribute {name!r} is a {type(value).__name__}; use str, int, float or bool")
    if isinstance(value, str) and not is_text(value):
        raise InvalidInput(f"attribute {name!r} holds a lone surrogate, which is not text")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InvalidInput(f"attribute {name!r} has {value.bit_length()} bits; an integer has up to {MAX_BITS} here")


def check_workflow_name(value: object) -> str:
    """As check_id: a workflow's name is part of index keys."""
    return check_id(value, "a workflow's name")


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return f"got {type(value).__name__}"
    return f"got {len(value)} characters" if len(value) > 60 else f"got {value!a}"
