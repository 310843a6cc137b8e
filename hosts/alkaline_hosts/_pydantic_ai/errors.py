"""Errors of models, which a step keeps by name and words alone, and which come back as what they were.

Whoever falls back to another model, or counts a rate limit, asks for the class. Only Pydantic AI's own are made again,
looked up among those that are loaded: what stands in a history never decides what is imported.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_core import to_jsonable_python

from alkaline_edge import StepError

__all__ = ["keep", "rebuilt"]

_KEY = "pydantic_ai"
_MOST = 16 * 1024
"""Characters of what is kept of one error, as JSON: the body of an answer may be anything."""


def keep(error: ModelAPIError) -> None:
    """Let a step's record of ``error`` say what is needed to make it again, where that can be said."""
    try:
        parts = _taken_apart(error)
        if parts is not None and _made(parts) is not None:
            error.detail = {_KEY: parts}  # type: ignore[attr-defined]  # what a failure keeps of an error
    except Exception:  # its constructor takes something else than its __reduce__ says: the name and the words remain
        return


def rebuilt(error: StepError) -> ModelAPIError | None:
    """The error of the model that a step ended with; None for any other."""
    detail = error.detail
    parts = detail.get(_KEY) if isinstance(detail, dict) else None
    try:
        return _made(parts) if isinstance(parts, dict) else None
    except Exception:
        return None


def _taken_apart(error: ModelAPIError) -> dict[str, Any] | None:
    maker, args, *rest = error.__reduce__()  # of any exception that can be pickled
    kind = type(error)
    http = maker is not kind
    if http:  # an error of HTTP that is of a category too: (category, status, model, body), by a function of its own
        if not isinstance(error, ModelHTTPError) or not isinstance(args[0], type):
            return None
        kind, args = args[0], args[1:]
    if not kind.__module__.startswith("pydantic_ai."):
        return None
    state = rest[0] if rest and isinstance(rest[0], dict) else {}
    state = {name: value for name, value in state.items() if not name.startswith("_pydantic_ai_") and name != "detail"}
    parts = {"class": kind.__qualname__, "http": http, "args": list(args), "state": state}
    plain: dict[str, Any] = to_jsonable_python(parts, fallback=str)
    if len(json.dumps(plain)) > _MOST:
        plain = _shortened(plain)
    return plain


def _shortened(value: Any) -> Any:
    """The same shape, with no text of more than some hundred characters and no large lists and maps."""
    if isinstance(value, str):
        return value[:500]
    if isinstance(value, dict):
        return {key[:100]: _shortened(inner) for key, inner in list(value.items())[:20]}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value[:20]]
    return value


def _made(parts: dict[str, Any]) -> ModelAPIError | None:
    kind = _class_of(parts["class"], http=False)
    made = _class_of(parts["class"], http=True) if parts["http"] else kind
    if made is None:
        return None
    error = made(*parts["args"])
    error.__setstate__(parts["state"])
    return error


def _class_of(name: str, *, http: bool) -> type[ModelAPIError] | None:
    """The loaded class of that name; with ``http`` the one beneath a category that is an error of HTTP as well."""
    waiting: list[type[ModelAPIError]] = [ModelAPIError]
    while waiting:
        kind = waiting.pop()
        beneath = issubclass(kind, ModelHTTPError) and kind is not ModelHTTPError
        if kind.__qualname__ == name and kind.__module__.startswith("pydantic_ai.") and beneath == http:
            return kind
        waiting.extend(kind.__subclasses__())
    return None
