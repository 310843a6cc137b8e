"""Setting a coroutine aside: letting go of a suspended one without running any more of its code.

Closing a coroutine throws GeneratorExit into it, so its ``finally`` blocks, ``except BaseException`` blocks and
``__aexit__`` methods would run: user code, because a run was put to sleep. They belong to the next time that the
handler gets there. So here every handler of an exception is left before its first instruction, by raising again from
the interpreter's own hooks: instruction events of ``sys.monitoring`` (PEP 669) where there is one, otherwise a trace
function, which 3.11 calls when it throws into a frame.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Coroutine, Generator, Iterable
from contextlib import suppress
from contextvars import ContextVar
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any


class _SetAside(BaseException):
    """Ends a frame that is being set aside."""


def discard(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """End ``coroutines``, which are suspended or not yet started, without running any more of their code."""
    if hasattr(sys, "monitoring"):
        _discard_monitored(list(coroutines))
    else:
        for coroutine in coroutines:
            for owner in _innermost_first(coroutine):
                if isinstance(owner, (CoroutineType, GeneratorType)):
                    _close_traced(owner)


_discarding: ContextVar[bool] = ContextVar("alkaline_edge_discarding", default=False)
_kept: list[Any] = []


def _leave(code: CodeType, offset: int) -> None:
    if _discarding.get():  # another thread may be running the same code; its context does not say so
        raise _SetAside


def _discard_monitored(coroutines: list[Coroutine[Any, Any, Any]]) -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # Python 3.12 and newer
    free = [tool for tool in range(5, -1, -1) if monitoring.get_tool(tool) is None]
    if not free:  # six tools are attached: leaking the coroutines is the lesser evil, user code must not run
        _kept.extend(coroutines)
        return
    tool, event = free[0], monitoring.events.INSTRUCTION
    owners = [owner for coroutine in coroutines for owner in _innermost_first(coroutine)]
    codes = {code for code in map(_code_of, owners) if code}
    monitoring.use_tool_id(tool, "alkaline_edge")
    token = _discarding.set(True)
    try:
        monitoring.register_callback(tool, event, _leave)
        for code in codes:
            monitoring.set_local_events(tool, code, event)
        for owner in owners:
            if isinstance(owner, (CoroutineType, GeneratorType)):
                with suppress(_SetAside):
                    owner.close()
    finally:
        _discarding.reset(token)
        for code in codes:
            monitoring.set_local_events(tool, code, 0)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)


def _code_of(owner: Any) -> CodeType | None:
    return getattr(owner, "cr_code", None) or getattr(owner, "gi_code", None) or getattr(owner, "ag_code", None)


_OWNERS = (CoroutineType, GeneratorType, AsyncGeneratorType)


def _innermost_first(coroutine: Any) -> list[Any]:
    """The coroutine, what it awaits, and the generators that their frames hold, in the order to end them."""
    chain: list[Any] = []
    seen: set[int] = set()

    def visit(owner: Any) -> None:
        if id(owner) in seen:
            return
        seen.add(id(owner))
        for inner in gc.get_referents(owner):
            if isinstance(inner, _OWNERS):
                if _suspended(inner):
                    visit(inner)
            elif type(inner).__name__ == "async_generator_asend":  # what ``async for`` awaits; it has no public name
                visit(inner)
        chain.append(owner)

    visit(coroutine)
    return chain


def _suspended(owner: Any) -> bool:
    for prefix in ("cr", "gi", "ag"):
        if hasattr(owner, f"{prefix}_frame"):
            # ag_running is true of an async generator whose __anext__ is being awaited: it is suspended all the same.
            running = prefix != "ag" and getattr(owner, f"{prefix}_running")
            return getattr(owner, f"{prefix}_frame") is not None and not running
    return False


def _close_traced(owner: Generator[Any, Any, Any] | Coroutine[Any, Any, Any]) -> None:
    """Python 3.11: the trace function is called as the exception is thrown into the frame, and ends it there."""

    target = owner.cr_frame if isinstance(owner, CoroutineType) else owner.gi_frame  # type: ignore[union-attr]  # one of the two

    def tracer(frame: FrameType, event: str, arg: Any) -> None:
        if frame is target:  # others run meanwhile too, such as the callbacks of weak references
            raise _SetAside

    previous = sys.gettrace()
    sys.settrace(tracer)
    try:
        owner.close()
    except _SetAside:  # no context manager here: its calls would be traced too
        pass
    finally:
        sys.settrace(previous)
