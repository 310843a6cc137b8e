"""How an exception is written down, and how it comes back.

A failure is a map: ``type`` (the class's name), ``message``, and where there are any ``code`` and ``detail``. It holds
no stack trace, no home directory and no secret that could be told (``redaction``): those leak. The handler sees
the exception that is made from the failure, the first time too, so live and replay can't differ.
"""

from __future__ import annotations

import builtins
from typing import Any

from .codec import Codec
from .errors import BY_CODE, AlkalineError, StepOutcomeUnknown
from .interrupts import ends_the_process
from .limits import MAX_MESSAGE, MAX_NAME

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
    """The durable form of ``error``. It can't fail, whatever the error's parts are or raise."""
    failure: Failure = {"type": _name(error)[:MAX_MESSAGE], "message": _message(error)}
    code = _part(error, "code")
    kind = type(code)  # asked by its type alone: it may raise whatever it is asked itself
    if issubclass(kind, str):
        failure["code"] = _text_of(code)[:MAX_NAME]
    elif issubclass(kind, int) and kind is not bool and abs(int.__int__(code)) < 2**63:
        failure["code"] = int.__int__(code)  # of an IntEnum, such as http.HTTPStatus, the number
    detail = _part(error, "detail")
    detail = _codes_within(error) if detail is None else detail
    # A detail that can't be stored is left out: the message says what happened. Its parts are the user's, and may
    # raise anything.
    try:
        if detail:
            from .redaction import redact_deep

            failure["detail"] = redact_deep(codec.decode(codec.encode(detail, "detail")))
    except BaseException as raised:
        if ends_the_process(raised):
            raise
    return failure


def _codes_within(error: BaseException) -> dict[str, list[str]] | None:
    """Of a group, the codes of all that it holds, "" for what has none: whether it is of one kind shows there."""
    if not issubclass(type(error), BaseExceptionGroup):  # an error may lie about its class, or raise
        return None
    found: set[str] = set()
    left: list[BaseException] = [error]
    while left:
        each = left.pop()
        kind = type(each)
        if issubclass(kind, BaseExceptionGroup):
            left += each.exceptions  # type: ignore[attr-defined]  # of that type
        else:
            found.add(kind.code if issubclass(kind, AlkalineError) else "")
    return {"codes": sorted(found)}


def _part(error: BaseException, name: str) -> Any:
    """An attribute of an error; None where reading it raises."""
    try:
        return getattr(error, name, None)
    except BaseException as raised:
        if ends_the_process(raised):
            raise
        return None


def _text_of(value: str) -> str:
    """``value`` as a plain text that can be stored, even where its class is one that the user made."""
    return str.encode(value, "utf-8", "replace").decode()


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


_JAVASCRIPT = "JsException"
"""The type of every error of JavaScript under Pyodide; ``name`` and ``message`` are its own."""
_NOT_BASES = (Exception, StopIteration, StopAsyncIteration)
"""No task and no future can carry the last two: they end generators and coroutines."""
_classes: dict[str, type[StepError]] = {}


def _class_for(name: str) -> type[StepError]:
    """A StepError named ``name``, also derived from the builtin of that name where its layout allows it."""
    if name not in _classes:
        bases: tuple[type, ...] = (StepError,)
        base = getattr(builtins, name, None)
        if isinstance(base, type) and issubclass(base, Exception) and base not in _NOT_BASES:
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


def redact(text: str) -> str:
    """``text`` without what looks like a secret."""
    from .redaction import redact as cut  # needed once something has failed: an import costs a browser's start

    return cut(text)


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, OSError) and error.strerror and not isinstance(error, StepError):
            text = str(error.strerror)  # str(error) would add the file's name
        elif isinstance(error, KeyError) and len(error.args) == 1:
            text = str(error.args[0])
        elif _class_name(error) == _JAVASCRIPT and isinstance(said := _part(error, "message"), str):
            text = said  # its str begins with the name
        else:
            text = str(error)
        if isinstance(error, BaseExceptionGroup):
            text = f"{text}: {'; '.join(_causes(error))}"
        return redact(_text_of(text[: 8 * MAX_MESSAGE]))[:MAX_MESSAGE]
    except BaseException as raised:
        if ends_the_process(raised):
            raise
        return f"(its __str__ raised; the class is {_class_name(error)})"[:MAX_MESSAGE]


def _causes(group: BaseExceptionGroup[Any], most: int = 10) -> list[str]:
    """What a group was raised from, in words: its own message only says how many there are."""
    causes: list[str] = []
    queue: list[BaseException] = list(group.exceptions)
    while queue:
        one = queue.pop(0)
        if isinstance(one, BaseExceptionGroup):
            queue = [*one.exceptions, *queue]
        elif len(causes) == most:
            return [*causes, "and more"]
        else:
            causes.append(f"{_name(one)}: {_message(one)}".rstrip(": "))
    return causes


def _name(error: BaseException) -> str:
    """What the class of ``error`` is called: that of a StepError as it was recorded, JavaScript's as it is there."""
    kind, name = _class_name(error), None
    if issubclass(type(error), StepError):
        name = _part(error, "type")
    elif kind == _JAVASCRIPT:
        name = _part(error, "name")
    text = _text_of(name if issubclass(type(name), str) and name else kind)
    return text.replace("\0", "\ufffd")  # it is to be the name of a class


def _class_name(error: BaseException) -> str:
    """By ``type`` itself: a metaclass may have its own idea."""
    return str(vars(type)["__name__"].__get__(type(error)))
