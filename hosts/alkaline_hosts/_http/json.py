"""Values of histories as JSON, and JSON from outside as values. Pure: no I/O.

Out: bytes are base64 text, datetimes ISO 8601 text, NaN and the infinities the texts "NaN", "Infinity" and "-Infinity",
an integer of more than 4,300 digits its hexadecimal text, and a value of a registered type {"<NAME>": what it is stored
as}.
In: JSON as RFC 8259 has it, UTF-8, without a name that stands twice in one object.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections import Counter
from datetime import date
from typing import Any

import msgpack

from alkaline_edge.canonical import EXT_REGISTERED
from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput

DIGITS = 10**4_300
"""Python writes no longer integer in decimal, and other readers take far shorter ones."""


class Foreign(dict[str, Any]):
    """A value of a registered type whose class is not known here: {"<NAME>": what it is stored as}, and its bytes."""

    __slots__ = ("data",)

    def __init__(self, name: str, value: Any, data: bytes) -> None:
        super().__init__({f"<{name}>": value})
        self.data = data


class ForeignCodec(Codec):
    """Reads and writes values of registered types without their classes: they come as Foreign, and go as they came.

    For showing and for moving runs. A handler must not run on it: it would see a Foreign where it wants its own class.
    """

    def _ext_hook(self, code: int, data: bytes) -> Any:
        if code != EXT_REGISTERED:
            return super()._ext_hook(code, data)
        name, value = msgpack.unpackb(data, ext_hook=self._ext_hook, strict_map_key=True)
        if not isinstance(name, str) or msgpack.packb([name, self.plain(value)]) != data:
            raise InvalidInput("a value of a registered type is not in canonical form: export it again")
        return Foreign(name, value, data)

    def _plain(self, value: Any, path: str, depth: int) -> Any:
        if type(value) is Foreign:
            return msgpack.ExtType(EXT_REGISTERED, value.data)
        return super()._plain(value, path, depth)


def to_json(value: Any, codec: Codec | None = None) -> str:
    """``value`` as strict JSON; ``codec`` knows the registered types. InvalidInput for what no history can hold."""

    def plain(item: Any) -> Any:
        return _plain(item, codec)

    try:
        return json.dumps(value, default=plain, allow_nan=False)
    except ValueError:  # NaN, or an endless integer: rare, so only then everything is walked
        return json.dumps(_walked(value, codec), allow_nan=False)


def _plain(value: Any, codec: Codec | None) -> Any:
    """What stands for a value that JSON has not."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode("ascii")
    if isinstance(value, date):
        return value.isoformat()
    if codec is not None:
        try:
            return ForeignCodec().decode(codec.encode(value))
        except InvalidInput:
            pass
    raise InvalidInput(f"a {type(value).__name__} has no place in JSON; return plain values")


def _walked(value: Any, codec: Codec | None) -> Any:
    if isinstance(value, dict):
        return {key: _walked(item, codec) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walked(item, codec) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and not -DIGITS < value < DIGITS:
        return hex(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _walked(_plain(value, codec), codec)


def from_json(data: str | bytes, what: str = "the body", python: bool = False) -> Any:
    """The value of JSON text; InvalidInput says why it is none. ``what`` names it in the message.

    ``python``: NaN, Infinity and -Infinity are taken too, as Python's own json does; a history can hold them.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        constant = float if python else _constant
        return json.loads(text, parse_constant=constant, parse_float=_float, object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is not UTF-8") from None
    except RecursionError:
        raise InvalidInput(f"{what} is nested deeper than JSON is read here; flatten it") from None
    except _NoJSON as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from None
    except ValueError as error:
        how = f": {error}" if isinstance(error, json.JSONDecodeError) else ": a number in it has too many digits"
        raise InvalidInput(f"{what} is not JSON{how}") from None


class _NoJSON(ValueError):
    """What json would take, and JSON has not."""


def _constant(name: str) -> Any:
    raise _NoJSON(f"it has no {name}; send null, or a text")


def _float(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise _NoJSON(f"{text[:40]} is beyond what a number can be here; send a text")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name in counts if counts[name] > 1)
        raise _NoJSON(f"{twice[:60]!r} stands twice in one object")
    return found
