"""JavaScript values as Python values, for what steps get from the page: ``fetch``, DOM events, libraries.

    Runtime(host, workflows=[...], codec=Codec(convert=convert))     # converts what steps return
    to_python(await js.fetch(...).then(...))                          # converts by hand

null, undefined -> None; boolean, string -> bool, str; number -> int where it is a safe integer, float otherwise;
BigInt -> int; Date -> datetime in UTC; ArrayBuffer, Uint8Array, DataView -> bytes; other typed arrays, Array, Set ->
list; Map and plain objects -> dict with str keys. Anything else is refused by name and path. On CPython these
functions leave everything as it is, since there are no such values.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from alkaline_edge.errors import InvalidInput
from alkaline_edge.limits import MAX_DEPTH_OF_VALUE

__all__ = ["convert", "to_python"]

_PLAIN = (type(None), bool, int, float, str, bytes)
_START = datetime(1970, 1, 1, tzinfo=UTC)


def to_python(value: Any, path: str = "value") -> Any:
    """``value`` with every JavaScript value in it, also nested in dicts and lists, as a Python value.

    Other Python values are left as they are. Raises InvalidInput, which names the place from ``path`` on, for a
    JavaScript value that has no counterpart: a function, a Promise, a DOM node, an instance of a class.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: to_python(item, f"{path}.{key}") for key, item in value.items()}
    if kind is list or kind is tuple:
        return [to_python(item, f"{path}[{index}]") for index, item in enumerate(value)]
    name = kind.__name__
    if name in ("JsNull", "JsUndefined"):
        return None
    if name == "JsBigInt":
        return int(value)
    return _flattened(value, path) if _is_proxy(value) else value


def convert(value: Any, path: str) -> Any:
    """``to_python`` as the hook of ``Codec(convert=...)``: a value that is not of JavaScript is ERR_INVALID_INPUT."""
    converted = to_python(value, path)
    if converted is value:
        name = type(value).__name__
        raise InvalidInput(
            f"{path} is of type {name}, which a history can't hold; return plain values, or register it on the codec",
            path=path,
            type=name,
        )
    return converted


def _is_proxy(value: Any) -> bool:
    try:
        from pyodide.ffi import JsProxy
    except ImportError:
        return False
    return isinstance(value, JsProxy)


def _flattened(value: Any, path: str) -> Any:
    """Convert one proxy: JavaScript flattens what is behind it, so that it takes one crossing whatever its size."""
    answer = _load_flatten()(value, path, MAX_DEPTH_OF_VALUE)
    text, blob, refusal = answer
    if refusal:
        raise InvalidInput(refusal, path=path, type=getattr(value, "typeof", "object"))
    try:
        return _built(json.loads(text), blob.to_bytes())
    except OverflowError:
        raise InvalidInput(f"{path} holds a Date outside the years 1 to 9999; return its number", path=path) from None


def _built(flat: Any, blob: bytes) -> Any:
    if type(flat) is not list:
        return flat
    tag = flat[0]
    if tag == "o":
        return {flat[at]: _built(flat[at + 1], blob) for at in range(1, len(flat), 2)}
    if tag == "l":
        return [_built(item, blob) for item in flat[1:]]
    if tag == "b":
        return blob[flat[1] : flat[2]]
    if tag == "d":
        return _START + timedelta(milliseconds=flat[1])
    return (float if tag == "f" else int)(flat[1])


def _load_flatten() -> Any:
    """The function of ``javascript.js``, made once per interpreter."""
    global _flatten
    if _flatten is None:
        from ._browser.expressions import expression

        _flatten = expression("javascript")
    return _flatten


_flatten: Any = None
