"""What user code gives is checked where it is given, and catchable there: no run is stuck for what it can't write."""

from __future__ import annotations

import asyncio
import enum
import http
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, workflow
from tests.support import Process, drive

SURROGATE = "a\ud800"
NAN, INF = float("nan"), float("inf")

DOORS: dict[str, Callable[[Context], Any]] = {
    "attribute text": lambda ctx: ctx.set_attributes(y=SURROGATE),
    "attribute beyond 64 bits": lambda ctx: ctx.set_attributes(y=10**5000),
    "attribute too long": lambda ctx: ctx.set_attributes(y="x" * 2001),
    "attributes too many": lambda ctx: ctx.set_attributes(**{f"a{n}": n for n in range(257)}),
    "attribute's class": lambda ctx: ctx.set_attributes(y=http.HTTPStatus.OK),
    "spend label": lambda ctx: ctx.spend(1, label=SURROGATE),
    "spend label object": lambda ctx: ctx.spend(1, label=object()),  # type: ignore[arg-type]  # the test
    "spend label long": lambda ctx: ctx.spend(1, label="x" * 2001),
    "spend nan": lambda ctx: ctx.spend(1, usd=NAN),
    "spend inf": lambda ctx: ctx.spend(1, usd=INF),
    "spend huge": lambda ctx: ctx.spend(10**400),
    "spend text": lambda ctx: ctx.spend("1"),  # type: ignore[arg-type]  # the test
    "step name": lambda ctx: ctx.step(SURROGATE, lambda: 1),
    "step result": lambda ctx: ctx.step("x", lambda: SURROGATE),
    "step timeout inf": lambda ctx: ctx.step("x", lambda: 1, timeout=INF),
    "step timeout nan": lambda ctx: ctx.step("x", lambda: 1, timeout=NAN),
    "step timeout text": lambda ctx: ctx.step("x", lambda: 1, timeout="5"),  # type: ignore[arg-type]  # the test
    "step timeout bool": lambda ctx: ctx.step("x", lambda: 1, timeout=True),
    "step retry": lambda ctx: ctx.step("x", lambda: 1, retry=3),  # type: ignore[arg-type]  # the test
    "step compensate": lambda ctx: ctx.step("x", lambda: 1, compensate=3),  # type: ignore[arg-type]  # the test
    "step cost negative": lambda ctx: ctx.step("x", lambda: 1, cost=-3),
    "step cost text": lambda ctx: ctx.step("x", lambda: 1, cost="3"),  # type: ignore[arg-type]  # the test
    "cost of the result nan": lambda ctx: ctx.step("x", lambda: 1, cost=lambda _: (1, NAN)),
    "cost of the result text": lambda ctx: ctx.step("x", lambda: 1, cost=lambda _: "1"),
    "cost of the result three": lambda ctx: ctx.step("x", lambda: 1, cost=lambda _: (1, 2, 3)),
    "cost raises": lambda ctx: ctx.step("x", lambda: 1, cost=lambda _: 1 // 0),
    "sleep nan": lambda ctx: ctx.sleep(NAN),
    "sleep inf": lambda ctx: ctx.sleep(INF),
    "sleep text": lambda ctx: ctx.sleep("5"),  # type: ignore[arg-type]  # the test
    "sleep bool": lambda ctx: ctx.sleep(True),
    "sleep negative": lambda ctx: ctx.sleep(-1),
    "sleep far": lambda ctx: ctx.sleep(timedelta.max),
    "sleep_until naive": lambda ctx: ctx.sleep_until(datetime(2030, 1, 1)),  # the test
    "sleep_until text": lambda ctx: ctx.sleep_until("tomorrow"),  # type: ignore[arg-type]  # the test
    "signal name": lambda ctx: ctx.wait_for_signal(SURROGATE, timeout=1, default=0),
    "signal timeout inf": lambda ctx: ctx.wait_for_signal("s", timeout=INF),
    "signal timeout nan": lambda ctx: ctx.wait_for_signal("s", timeout=NAN),
    "signal timeout huge": lambda ctx: ctx.wait_for_signal("s", timeout=1e300),
    "signal timeout text": lambda ctx: ctx.wait_for_signal("s", timeout="5"),  # type: ignore[arg-type]  # the test
    "asyncio sleep nan": lambda ctx: asyncio.sleep(NAN),
    "asyncio sleep huge": lambda ctx: asyncio.sleep(1e300),
    "patched": lambda ctx: ctx.patched(SURROGATE),
    "emit topic": lambda ctx: ctx.emit(SURROGATE),
    "emit data": lambda ctx: ctx.emit("t", SURROGATE),
    "child input": lambda ctx: ctx.child("flow", SURROGATE),
    "child budget": lambda ctx: ctx.child("flow", budget=5),  # type: ignore[arg-type]  # the test
    "query name": lambda ctx: ctx.on_query(SURROGATE, int),
    "query function": lambda ctx: ctx.on_query("q", 5),  # type: ignore[arg-type]  # the test
    "update function": lambda ctx: ctx.on_update("u", 5),  # type: ignore[arg-type]  # the test
    "validator": lambda ctx: ctx.on_update("u", int, validator=5),  # type: ignore[arg-type]  # the test
    "continue_as_new": lambda ctx: ctx.continue_as_new(SURROGATE),
}


@pytest.mark.parametrize("name", DOORS)
def test_what_cannot_be_written_is_refused_at_the_call(name: str) -> None:
    """InvalidInput, which the handler can catch; the run goes on, and its next process agrees."""

    @workflow(recursive=True)
    async def flow(ctx: Context) -> str:
        try:
            given = DOORS[name](ctx)
            if asyncio.iscoroutine(given):
                await given
        except (InvalidInput, ValueError):  # asyncio's own word for NaN
            await ctx.wait_for_signal("go")
            return "refused"
        return "accepted"

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == "refused"

    drive(test)


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "dedupe": lambda run: run.signal("s", 1, dedupe=SURROGATE),
    "signal name": lambda run: run.signal(SURROGATE),
    "signal payload": lambda run: run.signal("s", SURROGATE),
    "update name": lambda run: run.update(SURROGATE),
    "update payload": lambda run: run.update("u", SURROGATE),
    "cancel text": lambda run: run.cancel(SURROGATE),
    "cancel long": lambda run: run.cancel("x" * 2001),
    "cancel object": lambda run: run.cancel(5),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_cannot_be_written_is_refused_to_its_sender(name: str) -> None:
    """InvalidInput to whoever sent it; the run never hears of it."""

    @workflow
    async def flow(ctx: Context) -> Any:
        ctx.on_update("u", lambda n: n)
        return await ctx.wait_for_signal("go")

    process = Process(flow)

    async def test() -> None:
        run = await process.runtime.start(flow, id="a")
        await run.settle()
        with pytest.raises(InvalidInput):
            await OUTSIDE[name](run)
        for attributes in ({"x": SURROGATE}, {"x": 10**5000}, {"x": None}, {SURROGATE: 1}):
            with pytest.raises(InvalidInput):
                await process.runtime.list_executions(attributes=attributes)
            with pytest.raises(InvalidInput):
                await process.runtime.start(flow, id="b", attributes=attributes)
        await run.signal("go", 1)
        assert await run.result() == 1

    drive(test)


class Odd(Exception):
    """Its parts raise, or are of classes that are no values."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        self.parts = parts

    def __str__(self) -> str:
        return self._get("text", "odd")

    code = property(lambda self: self._get("code", None))
    detail = property(lambda self: self._get("detail", None))
    type = property(lambda self: self._get("type", "x"))

    def _get(self, name: str, otherwise: Any) -> Any:
        value = self.parts.get(name, otherwise)
        if isinstance(value, type) and issubclass(value, BaseException):
            raise value("raised")
        return value


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Word(str, enum.Enum):  # noqa: UP042  # the older way, which libraries use
    A = "a"


class Truth:
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


ODD_PARTS: dict[str, list[Any]] = {
    "text": [RuntimeError, 5, None, SURROGATE, "x" * 50_000_000, "", Text("x"), b"bytes"],
    "code": [
        RuntimeError,
        KeyError,
        http.HTTPStatus.NOT_FOUND,
        True,
        10**5000,
        SURROGATE,
        Text("x"),
        Word.A,
        "c" * 9_999,
    ],
    "detail": [
        RuntimeError,
        Truth(),
        object(),
        {1: 2},
        {"x": SURROGATE},
        "y" * 300_000,
        {"deep": [[1]] * 9},
        [Truth()],
    ],
    "type": [RuntimeError, 5, SURROGATE],
}


@pytest.mark.parametrize("name", ["an IntEnum", "a __str__ that raises", "args that can't be stored", "50 MB of text"])
def test_a_step_with_an_odd_error_fails_and_is_caught(name: str) -> None:
    """The step runs once, the handler catches, and the next process agrees."""
    raised = {
        "an IntEnum": Odd({"code": http.HTTPStatus.NOT_FOUND}),
        "a __str__ that raises": Odd({"text": RuntimeError}),
        "args that can't be stored": ValueError(object(), Truth()),
        "50 MB of text": ValueError("x" * 50_000_000),
    }[name]
    ran: list[int] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        def fail() -> None:
            ran.append(1)
            raise raised

        try:
            await ctx.step(fail)
        except Exception as error:
            await ctx.wait_for_signal("go")
            return getattr(error, "code", None)

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == (404 if name == "an IntEnum" else None)
        assert ran == [1]

    drive(test)


def test_a_log_line_is_a_copy_and_never_fails() -> None:
    """What can't be stored is named by its type; what is changed later was told as it was."""

    @workflow
    async def flow(ctx: Context) -> None:
        messages = [1]
        ctx.log("info", SURROGATE, it=object(), text=SURROGATE, messages=messages)
        messages.append(2)

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).result()
        (line,) = [event for event in process.events if type(event).__name__ == "LogLine"]
        assert line.message == "a?"
        assert line.fields == {"it": "<builtins.object>", "text": "a?", "messages": [1]}

    drive(test)
