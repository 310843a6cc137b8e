"""What a public door is given: of the wrong kind, it is ERR_INVALID_INPUT that names it, and no error of Python's.

``what`` is the argument as its caller writes it, ``wanted`` what it takes, in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import InvalidInput


def refused(what: str, wanted: str, value: object) -> InvalidInput:
    """The error for ``value``, which is told by its type alone: it may be a secret in the wrong place."""
    return InvalidInput(f"{what} is {wanted}, not {'None' if value is None else f'a {type(value).__name__}'}")


def expect(value: object, kind: type[Any] | tuple[type[Any], ...], what: str, wanted: str) -> None:
    """ERR_INVALID_INPUT unless ``value`` is a ``kind``."""
    if not isinstance(value, kind):
        raise refused(what, wanted, value)


def expect_call(value: object, what: str, wanted: str) -> None:
    """ERR_INVALID_INPUT unless ``value`` is None or can be called."""
    if value is not None and not callable(value):
        raise refused(what, wanted, value)


def whole(value: object, what: str, least: int, most: float = float("inf")) -> None:
    """ERR_INVALID_INPUT unless ``value`` is a whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused(what, f"a whole number from {least} up", value)
    if not least <= value <= most:
        raise InvalidInput(f"{what} is a whole number from {least} {'up' if most == float('inf') else f'to {most:,}'}")


def several(value: Any, what: str, wanted: str) -> list[Any]:
    """The items of an iterable; a text or bytes is none."""
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        raise refused(what, wanted, value)
    return list(value)


def octets(value: Any, what: str) -> bytes:
    """``value`` as bytes: those of a number would be as many zeros."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise refused(what, "bytes", value)
    return bytes(value)
