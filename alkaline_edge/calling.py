"""What a callable is: its name, whether it is async, and whether it wants to be told of its step."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable
from types import CodeType, GeneratorType
from typing import Any, TypeGuard

from .runs import StepInfo

IN_THREAD = "_alkaline_in_thread"
"""The mark of what ``in_thread`` makes: it hands on to the function in ``__wrapped__`` whatever it is called with."""
JAVASCRIPT = "JsProxy"
"""The type of a JavaScript function under Pyodide, which was the name of each such step before 0.2."""


def name_of(fn: Any) -> str:
    """The name of a step that is given by its function alone: the function's own, otherwise that of its type."""
    kind = type(fn).__name__
    name = getattr(fn, "__name__", None)
    if kind == JAVASCRIPT and not isinstance(name, str):
        name = getattr(fn, "name", None)  # what JavaScript calls it; "" where it has none
    return name if isinstance(name, str) and name else kind


def innermost(fn: Any) -> Any:
    """The function behind partials, decorators that say so (``__wrapped__``), and an object's ``__call__``."""
    for _ in range(32):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.isfunction(fn) and "__wrapped__" in fn.__dict__:
            fn = fn.__dict__["__wrapped__"]
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif not inspect.isroutine(fn) and not isinstance(fn, type) and inspect.isfunction(type(fn).__call__):
            fn = type(fn).__call__
        else:
            break
    return fn


def is_async(fn: Any) -> bool:
    """Whether calling ``fn`` only makes a coroutine, as far as can be told without calling it."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(innermost(fn))


def is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Whether ``value`` is to be awaited. Its type alone is asked: an unbound proxy raises whatever it is asked."""
    kind = type(value)
    if kind is GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return any("__await__" in vars(base) for base in kind.__mro__)


def code_of(fn: Any) -> CodeType | None:
    """The code that runs when ``fn`` is called; None for what is not written in Python."""
    code = getattr(innermost(fn), "__code__", None)
    return code if isinstance(code, CodeType) else None


_OF_THE_LOOP = {"create_task", "ensure_future"}
_OF_ANOTHER_LOOP = {"run", "run_until_complete", "new_event_loop", "Runner"}


def asks_for_the_loop(code: Any) -> bool:
    """Whether ``code`` names what makes tasks of the running loop, and nothing that runs another one."""
    names = set(code.co_names) if isinstance(code, CodeType) else set()
    return bool(names & _OF_THE_LOOP) and not names & _OF_ANOTHER_LOOP


def info_parameter(fn: Callable[..., Any]) -> str | None:
    """The name of the parameter that is annotated StepInfo and not yet given, if there is one."""
    if inspect.isfunction(fn) and IN_THREAD in fn.__dict__:
        return info_parameter(fn.__dict__["__wrapped__"])
    given: set[str] = set()
    inner: Any = fn
    while isinstance(inner, functools.partial):
        given |= inner.keywords.keys()
        inner = inner.func
    annotations = getattr(inner, "__annotations__", None) or getattr(type(inner).__call__, "__annotations__", None)
    if not isinstance(annotations, dict):  # a mock's, or none
        return None
    name = next((str(name) for name, each in annotations.items() if _is_info(each) and name != "return"), None)
    if name is None or name in given:
        return None
    return name if inner is fn or name in _parameters(fn) else None


def _is_info(annotation: Any) -> bool:
    if annotation is StepInfo:
        return True
    if isinstance(annotation, str):
        parts = annotation.replace("[", "|").split("|")
        return any(part.strip("'\" []").rsplit(".", 1)[-1] == "StepInfo" for part in parts)
    return not isinstance(annotation, type) and StepInfo in typing.get_args(annotation)


def _parameters(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(fn).parameters)
    except (TypeError, ValueError):  # not written in Python
        return {}


def place_of(fn: Callable[..., Any], parameter: str) -> int:
    """Where a parameter stands among those that take arguments by position; behind all of them otherwise."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, each in _parameters(fn).items() if each.kind in by_position]
    return names.index(parameter) if parameter in names else sys.maxsize


def takes_a_value(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` can be called with one value, beside the StepInfo that it may want."""
    try:
        signature = inspect.signature(fn)
        parameter = info_parameter(fn)
        if parameter is not None:
            rest = [each for name, each in signature.parameters.items() if name != parameter]
            signature = signature.replace(parameters=rest)
        signature.bind(None)
    except (TypeError, ValueError):
        return False
    return True
