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
from collections.abc import Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from .reach import WRAPPERS, Reach, owns, suspended


class _SetAside(BaseException):
    """Ends a frame that is being set aside."""


def discard(coroutines: Iterable[Coroutine[Any, Any, Any]], held: Iterable[object] = ()) -> None:
    """End ``coroutines``, which are suspended or not yet started, without running any more of their code.

    Generators and coroutines that are reached from them, or from ``held``, and that nobody else holds, end as well:
    behind context managers, stacks of them, instances and closures.
    """
    roots = list(coroutines)
    awaited = _awaited_by(roots)
    known = set(map(id, awaited))
    reach = Reach(roots, held, awaited)
    ours, cut = reach.only_ours(besides=known), reach.cut
    ends = _in_order((*ours.values(), *roots), ours)
    del reach, ours
    if hasattr(sys, "monitoring"):
        _discard_monitored(ends, cut)
    else:
        for one in ends:
            if isinstance(one, (CoroutineType, GeneratorType)):
                _close_traced(one, cut)


def _in_order(roots: Iterable[Any], ours: dict[int, Any]) -> list[Any]:
    owners = {id(owner): owner for root in roots for owner in _innermost_first(root, ours)}
    return list(owners.values())


def _awaited_by(roots: list[Any]) -> list[Any]:
    """What stands, by way of ``await``, at the places where ``roots`` are suspended, and ``roots``."""
    found: dict[int, Any] = {}
    for owner in roots:
        while owner is not None and id(owner) not in found:
            found[id(owner)] = owner
            owner = _awaited(owner)
    return list(found.values())


_discarding: ContextVar[bool] = ContextVar("alkaline_edge_discarding", default=False)
_kept: list[Any] = []


def _leave(code: CodeType, offset: int) -> None:
    if _discarding.get():  # another thread may be running the same code; its context does not say so
        raise _SetAside


def _discard_monitored(owners: list[Any], more: bool) -> None:
    """Python 3.12 and newer: the code of ``owners`` is left at the instruction at which an exception comes in.

    With ``more``, all code that an exception is thrown into meanwhile: there may be others behind what was not walked,
    and they go when the last that held them does. To watch everything costs more.
    """
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    free = [tool for tool in range(5, -1, -1) if monitoring.get_tool(tool) is None]
    if not free:  # six tools are attached: leaking the coroutines is the lesser evil, user code must not run
        _kept.extend(owners)
        return
    tool, events = free[0], monitoring.events
    armed = {code for code in map(_code_of, owners) if code}

    def thrown(code: CodeType, offset: int, error: BaseException) -> None:
        if _discarding.get() and code not in armed:
            armed.add(code)
            monitoring.set_local_events(tool, code, events.INSTRUCTION)

    monitoring.use_tool_id(tool, "alkaline_edge")
    token = _discarding.set(True)
    hook, sys.unraisablehook = sys.unraisablehook, _quietly(sys.unraisablehook)
    try:
        monitoring.register_callback(tool, events.INSTRUCTION, _leave)
        for code in armed:
            monitoring.set_local_events(tool, code, events.INSTRUCTION)
        if more:
            monitoring.register_callback(tool, events.PY_THROW, thrown)
            monitoring.set_events(tool, events.PY_THROW)
        owners.reverse()
        while owners:
            owner = owners.pop()
            if isinstance(owner, (CoroutineType, GeneratorType)):
                with suppress(_SetAside):
                    owner.close()
            del owner  # the last reference, it may be: what it holds goes while the events are on
    finally:
        sys.unraisablehook = hook
        _discarding.reset(token)
        if more:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, events.PY_THROW, None)
        for code in armed:
            monitoring.set_local_events(tool, code, 0)
        monitoring.register_callback(tool, events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)


def _quietly(hook: Any) -> Any:
    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, _SetAside):
            hook(unraisable)

    return report


def _innermost_first(coroutine: Any, ours: dict[int, Any]) -> list[Any]:
    """The coroutine, what it awaits, and those of ``ours`` that their frames hold, in the order to end them."""
    chain: list[Any] = []
    seen: set[int] = set()
    stack: list[tuple[Any, Iterator[Any] | None]] = [(coroutine, None)]
    while stack:
        owner, inside = stack.pop()
        if inside is None:
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            inside = iter(gc.get_referents(owner))
        awaited = _awaited(owner)
        for inner in inside:
            known = owns(inner) and (inner is awaited or id(inner) in ours) and suspended(inner)
            if known or type(inner).__name__ in WRAPPERS:
                stack += [(owner, inside), (inner, None)]
                break
        else:
            chain.append(owner)
    return chain


def _code_of(owner: Any) -> CodeType | None:
    return getattr(owner, "cr_code", None) or getattr(owner, "gi_code", None) or getattr(owner, "ag_code", None)


def _awaited(owner: Any) -> Any:
    """What a coroutine or generator waits for; nothing of any other object, which may answer whatever it is asked."""
    kind = type(owner)
    if kind is CoroutineType:
        return owner.cr_await
    if kind is GeneratorType:
        return owner.gi_yieldfrom
    return owner.ag_await if kind is AsyncGeneratorType else None


_SUSPENDS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


def _close_traced(owner: Generator[Any, Any, Any] | Coroutine[Any, Any, Any], more: bool) -> None:
    """Python 3.11: the trace function is called as the exception is thrown into the frame, and ends it there.

    With ``more``, each frame that was suspended and is entered meanwhile: there may be others behind what was not
    walked, and they are closed as the frame goes that held them.
    """

    target = owner.cr_frame if isinstance(owner, CoroutineType) else owner.gi_frame  # type: ignore[union-attr]  # one of the two

    def tracer(frame: FrameType, event: str, arg: Any) -> None:
        # Others run meanwhile too, such as the callbacks of weak references: they begin.
        if frame is target or (more and frame.f_code.co_flags & _SUSPENDS and frame.f_lasti > 0 and event == "call"):
            raise _SetAside

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, _SetAside):
            sys.settrace(tracer)
        else:
            hook(unraisable)

    previous, hook = sys.gettrace(), sys.unraisablehook
    sys.settrace(tracer)
    try:
        owner.close()
    except _SetAside:  # no context manager here: its calls would be traced too
        pass
    finally:
        if more:
            sys.unraisablehook = again
            sys.settrace(tracer)  # the interpreter has taken it off, as it does each time that it raises
            target = None  # the frame goes here, and with it what nobody else held
            sys.unraisablehook = hook
        sys.settrace(previous)
