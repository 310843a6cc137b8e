"""What may be a step: every kind of callable, what it is told of itself, and what it is called."""

from __future__ import annotations

import asyncio
import functools
import threading
import unittest.mock
from typing import Any, Optional

import pytest

from alkaline_edge import Context, Runtime, StepError, StepInfo, in_thread, workflow
from alkaline_edge import events as ev
from alkaline_edge.failures import describe
from alkaline_hosts.memory import MemoryHost

from ..support import Process, drive


class Thing:
    def method(self, x: int) -> int:
        return x + 1

    @classmethod
    def made(cls, x: int) -> int:
        return x + 1

    @staticmethod
    def static(x: int) -> int:
        return x + 1


class Slotted:
    __slots__ = ()

    def __call__(self, x: int) -> int:
        return x + 1


class Odd:
    """Answers every attribute with itself, as some proxies do."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, x: int) -> int:
        return x + 1


class WithInfo:
    def __call__(self, x: int, info: StepInfo) -> int:
        return x + info.attempt


@functools.lru_cache
def cached(x: int) -> int:
    return x + 1


def told(x: int, info: StepInfo) -> int:
    return x + info.attempt


def told_maybe(x: int, info: Optional[StepInfo] = None) -> int:  # noqa: UP045  # the older spelling counts too
    return x + (info.attempt if info is not None else 0)


def told_first(info: StepInfo, x: int) -> int:
    return x + info.attempt


FUNCTIONS: dict[str, Any] = {
    "method": Thing().method,
    "classmethod": Thing.made,
    "staticmethod": Thing.static,
    "builtin": (1).__add__,
    "slots": Slotted(),
    "odd proxy": Odd(),
    "cached": cached,
    "partial": functools.partial(lambda y, x: x + y, 1),
    "async mock": unittest.mock.AsyncMock(return_value=2),
    "mock": unittest.mock.Mock(return_value=2),
    "told": told,
    "told maybe": told_maybe,
    "told first": told_first,
    "told by partial": functools.partial(told),
    "told by a partial of a partial": functools.partial(functools.partial(told_first)),
    "told by __call__": WithInfo(),
    "told by the caller": functools.partial(told, info=StepInfo("r", "s", "1", 1, "k")),
}


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_callable_is_a_step(name: str, marked: bool) -> None:
    """As it is and made to run in a thread, by a name of its own and without; each several times."""
    fn = in_thread(FUNCTIONS[name]) if marked else FUNCTIONS[name]

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return [await ctx.step("s", fn, 1), await ctx.step(fn, 1), await ctx.step("s", fn, 1)]

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start("flow")).result(timeout=5) == [2, 2, 2]

    drive(test)


def test_in_thread_leaves_the_function_as_it_is() -> None:
    """It makes another one: the same function elsewhere runs where it did."""

    def where() -> int:
        return threading.get_ident()

    marked = in_thread(where)
    assert marked is not where
    assert not hasattr(where, "_alkaline_in_thread")
    assert marked.__name__ == "where"


@pytest.mark.parametrize("name", ["value and info", "info", "info first", "partial", "value", "nothing"])
def test_a_compensation_gets_the_result_and_its_step_info(name: str) -> None:
    """Whichever of the two it takes, in whatever order."""
    seen: list[Any] = []

    def both(value: str, info: StepInfo) -> None:
        seen.append((value, bool(info.idempotency_key)))

    def info_alone(info: StepInfo) -> None:
        seen.append((None, bool(info.idempotency_key)))

    def first(info: StepInfo, value: str) -> None:
        both(value, info)

    undo: Any = {
        "value and info": both,
        "info": info_alone,
        "info first": first,
        "partial": functools.partial(both),
        "value": lambda value: seen.append((value, None)),
        "nothing": lambda: seen.append((None, None)),
    }[name]

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        await ctx.step("book", lambda: "room", compensate=undo)
        raise ValueError("no")

    async def test() -> None:
        with pytest.raises(ValueError, match=r"^no$"):
            await (await Process(flow).runtime.start("flow")).result()

    drive(test)
    value = None if name in ("info", "nothing") else "room"
    assert seen == [(value, None if name in ("value", "nothing") else True)]


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("crash", [False, True])
def test_a_cancel_during_compensation_stops_none_of_it(at: int, crash: bool) -> None:
    """However many are undone already; also if the process dies then. The run fails as it was about to."""
    undone: list[int] = []

    async def undo(n: int) -> None:
        if len(undone) == at and not cancelled:
            cancelled.append(True)
            await process.runtime.cancel("a", "too late")
            if crash:
                process.host.dead = True
            await asyncio.sleep(0)
        undone.append(n)

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        for n in range(4):
            await ctx.step(f"do {n}", lambda n=n: n, compensate=undo)  # type: ignore[misc]  # mypy can't infer n
        raise ValueError("the card was refused")

    process, cancelled = Process(flow), list[bool]()

    async def test() -> None:
        run = await process.runtime.start("flow", id="a")
        if crash:
            while not cancelled:
                await asyncio.sleep(0)
            run = await (await process.crash()).resume("a")
        with pytest.raises(ValueError, match="the card was refused"):
            await run.result()
        assert (await process.runtime.get_execution("a")).status == "failed"

    drive(test)
    assert list(dict.fromkeys(undone)) == [3, 2, 1, 0]


class JsProxy:
    """As Pyodide's: a JavaScript function has a ``name``, and no ``__name__``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, x: int) -> int:
        if x < 0:
            raise JsException("RangeError", "x is negative")
        return x + 1


class JsException(Exception):
    """As Pyodide's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.message = name, message


def test_functions_and_errors_of_javascript_have_names() -> None:
    """A step is called as the function is, an error as it is there; what was recorded as JsProxy still replays."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        fetch: Any = JsProxy("fetchPage") if named else JsProxy("")
        await ctx.step(fetch, 1)
        await ctx.wait_for_signal("go")
        try:
            await ctx.step(fetch, -1)
        except StepError as error:
            return [error.type, str(error)]

    async def test() -> None:
        nonlocal named
        process = Process(flow)
        await (await process.runtime.start("flow", id="old")).settle()
        named = True
        await (await process.runtime.start("flow", id="new")).settle()
        runtime = await process.crash()
        for id, name in (("old", "JsProxy"), ("new", "fetchPage")):
            await runtime.signal(id, "go")
            assert await (await runtime.resume(id)).result() == ["RangeError", "x is negative"]
            steps = [r.event for r in await runtime.history(id) if isinstance(r.event, ev.StepCompleted)]
            assert steps[0].name == name
        assert describe(JsException("", "x"), runtime.codec)["type"] == "JsException"

    named = False
    drive(test)
