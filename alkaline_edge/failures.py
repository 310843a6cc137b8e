"""How an exception is written down, and how it comes back.

A failure is a map: ``type`` (the class's name), ``message``, and where there are any ``code`` and ``detail``. It holds
no stack trace, no home directory and no secret that could be told (``redaction``): those leak. The handler sees
the exception that is made from the failure, the first time too, so live and replay can't differ.
"""

from __future__ import annotations

import builtins
from typing import Any

from .codec import Codec
from .errors import BY_CODE, AlkalineError, InvalidInput, StepOutcomeUnknown
from .limits import MAX_MESSAGE
from .redaction import redact as redact
from .redaction import redact_deep

Failure = dict[str, Any]


class StepError(Exception):
    """An error that user code threw, as the history keeps it.

    ``type`` is the name of the class that was thrown, ``code`` and ``detail`` its attributes of those names where it
    had any. If the class is one of Python's own, such as ValueError, this exception is also an instance of that, so
    ``except ValueError`` works; a class of yours is not imported: compare ``type``.
    """

    type: str = "StepError"
    code: str | None = None
    detail: Any = None


def describe(error: BaseException, codec: Codec) -> Failure:
    """The durable form of ``error``."""
    kind = type(error)
    name = getattr(error, "type", kind.__name__) if isinstance(error, StepError) else kind.__name__
    failure: Failure = {"type": str(name)[:MAX_MESSAGE], "message": _message(error)}
    code = getattr(error, "code", None)
    if isinstance(code, (str, int)) and not isinstance(code, bool):
        failure["code"] = str(code)[:200] if isinstance(code, str) else code
    detail = getattr(error, "detail", None)
    if detail:
        try:
            kept = codec.decode(codec.encode(detail, "detail"))
            failure["detail"] = redact_deep(kept)
        except (InvalidInput, RecursionError):
            pass  # a detail that can't be stored is left out: the message says what happened
    return failure


def revive(failure: Failure) -> Exception:
    """The exception of a durable failure: an AlkalineError by its code, otherwise a StepError."""
    name, message = failure["type"], failure["message"]
    code = failure.get("code")
    if isinstance(code, str) and code in BY_CODE:
        cls = StepOutcomeUnknown if name == "StepOutcomeUnknown" else BY_CODE[code]
        error = cls(message)
        detail = failure.get("detail")
        error.detail = dict(detail) if isinstance(detail, dict) else {}
        return error
    step_error = _class_for(name)(message)
    step_error.type = name
    step_error.code = code
    step_error.detail = failure.get("detail")
    return step_error


_classes: dict[str, type[StepError]] = {}


def _class_for(name: str) -> type[StepError]:
    """A StepError named ``name``, also derived from the builtin of that name where its layout allows it."""
    if name not in _classes:
        bases: tuple[type, ...] = (StepError,)
        base = getattr(builtins, name, None)
        if isinstance(base, type) and issubclass(base, Exception) and base is not Exception:
            bases = (StepError, base)
        try:
            cls = type(name, bases, {"__module__": __name__, "__str__": _text})
        except TypeError:
            cls = type(name, (StepError,), {"__module__": __name__, "__str__": _text})
        try:
            cls("probe")
        except TypeError:  # such as UnicodeDecodeError, whose constructor wants five arguments
            cls = type(name, (StepError,), {"__module__": __name__, "__str__": _text})
        if len(_classes) > 1_000:
            _classes.clear()  # names come from histories: keep the cache bounded
        _classes[name] = cls
    return _classes[name]


def _text(self: StepError) -> str:
    return str(self.args[0]) if self.args else ""  # KeyError's own __str__ would add quotes


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, StepError):
        text = str(error.strerror)  # str(error) would add the file's name
    elif isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    elif isinstance(error, AlkalineError):
        text = str(error)
    else:
        try:
            text = str(error)
        except Exception:
            text = f"(its __str__ raised; the class is {type(error).__name__})"
    return redact(text)[:MAX_MESSAGE]
