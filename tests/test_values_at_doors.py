"""A value that is taken at a door comes back there, to the last level and of every type; no run is stuck for one.

Each goes through a live run, the next process, a replay, and an export that another store takes.
"""

from __future__ import annotations

import http
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from alkaline_edge import Codec, Context, InvalidInput, Retry, Run, Runtime, StepError, workflow
from alkaline_edge.limits import MAX_DEPTH_OF_VALUE
from alkaline_edge.replay import check
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive
from tests.test_large_values import BATCH, INLINE, SMALL, VALUE


class Box:
    """A type of the user's, registered."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.held == other.held

    __hash__ = None  # type: ignore[assignment]  # it changes


def codec() -> Codec:
    made = Codec()
    made.register(Box, "box", lambda box: box.held, Box)
    return made


class Detailed(Exception):
    def __init__(self, detail: Any) -> None:
        super().__init__("it failed")
        self.detail = detail


def fails(value: Any) -> None:
    raise Detailed(value)


@workflow
async def echo(ctx: Context, value: Any) -> Any:
    return value


@workflow
async def fails_with(ctx: Context, value: Any) -> Any:
    fails(value)


VALUE_OF: dict[str, Any] = {}
"""What handlers give that is not to go through their input."""


@workflow(name="flow")
async def flow(ctx: Context, given: list[Any]) -> Any:
    door, again = given
    value = VALUE_OF["value"]
    ctx.on_query("ask", lambda *args: args[0] if args else value)
    ctx.on_update("tell", lambda payload: value if payload == "yours" else payload)
    match door:
        case "step":
            return [await ctx.step("s", lambda: value)] == [value] or "differs"
        case "step fails" | "child fails":
            try:
                await (ctx.step("s", fails, value) if door == "step fails" else ctx.child(fails_with, value))
            except StepError as error:
                return error.detail == value or "differs"
        case "child":
            return [await ctx.child(echo, value)] == [value] or "differs"
        case "emit":
            ctx.emit("t", value)
            await ctx.step("s", lambda: ctx.emit("t", value))
            return True
        case "continue":
            if not again:
                ctx.continue_as_new([door, [value]])
            return again == [value] or "differs"
        case "signal" | "carried":
            if door == "carried" and not again:
                await ctx.wait_for_signal("begin")
                ctx.continue_as_new([door, True])
            return [await ctx.wait_for_signal("it")] == [value] or "differs"
        case "compensation":
            seen: list[Any] = []
            await ctx.step("s", lambda: value, compensate=lambda held: seen.append(held == value))
            try:
                await ctx.step("fails", fails, None)
            except StepError:
                return True
        case "returns":
            await ctx.step("s", lambda: 1)
            return value
        case "raises":
            fails(value)
    return await ctx.wait_for_signal("end")


DOORS = ["step", "step fails", "child", "child fails", "emit", "continue", "signal", "carried", "compensation",
         "returns", "raises", "update", "reply", "query"]  # fmt: skip


async def through(door: str, value: Any) -> Any:
    """True where the value came back, or what came instead. InvalidInput where it was refused."""
    VALUE_OF["value"] = value
    process = Process(flow, echo, fails_with, host=SimulatedHost(capabilities=SMALL), codec=codec())
    run = await process.runtime.start("flow", [door, None], id="a")
    if door in ("signal", "carried", "update", "reply", "query"):
        await run.settle()
    if door in ("signal", "carried"):
        await run.signal("it", value)
    if door == "carried":
        await run.signal("begin")
    if door in ("update", "reply"):
        came: Any = [await run.update("tell", "yours" if door == "reply" else value)] == [value] or "differs"
    elif door == "query":
        came = [await run.query("ask", value), await run.query("ask")] == [value, value] or "differs"
    if door in ("update", "reply", "query"):
        await run.signal("end")
    try:
        ended = await run.result(timeout=100)
        if door == "returns":
            came = [ended] == [value] or "differs"
        elif door not in ("update", "reply", "query"):
            came = ended
    except StepError as error:
        if error.type == "InvalidInput":
            raise InvalidInput(str(error)) from None
        came = (error.detail is None) if not fits(value) else (error.detail == value or "differs")
    await process.crash()
    again = Runtime(SimulatedHost(capabilities=SMALL), workflows=[flow, echo, fails_with], codec=codec())
    for record in await process.runtime.list_executions():
        assert record.finished
        bundle = await process.runtime.export(record.id)
        assert [one.message for one in check(bundle, [flow, echo, fails_with], codec=codec())] == [""]
        copy = await again.import_(bundle)
        assert (await again.get_execution(copy.id)).result == record.result
        assert (await again.get_execution(copy.id)).failure == record.failure
        assert len(await again.history(copy.id)) == len(await process.runtime.history(record.id))
    assert not process.runtime.stuck
    await again.close()
    await process.runtime.close()
    return came


def fits(value: Any) -> bool:
    try:
        codec().encode(value)
    except InvalidInput:
        return False
    return True


def nested(depth: int, draw: random.Random) -> Any:
    """A value of so many levels, each an array, a map or a registered type."""
    value: Any = 1
    for _ in range(depth):
        value = draw.choice([lambda held: [held], lambda held: {"k": held}, Box])(value)  # type: ignore[no-untyped-call]
    return value


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("seed", range(2))
def test_a_value_of_the_deepest_level_goes_through_every_door(door: str, seed: int) -> None:
    """What stands around it in events, records, requests, replies and bundles does not count.

    At the door that puts levels around it here, it has less of its own.
    """
    draw = random.Random(f"{seed} {door}")

    async def test() -> None:
        for depth in (draw.randint(1, 56), *range(MAX_DEPTH_OF_VALUE - 5, MAX_DEPTH_OF_VALUE + 2)):
            value = nested(depth, draw)
            room = MAX_DEPTH_OF_VALUE - (2 if door == "continue" else 0)
            if depth <= room:
                assert await through(door, value) is True, depth
            elif door in ("raises", "step fails", "child fails"):
                continue  # a detail that can't be stored is left out
            else:
                with pytest.raises(InvalidInput, match="nested deeper"):
                    await through(door, value)

    drive(test)


KINDS: dict[str, Callable[[int], Any]] = {
    "an integer": lambda size: 1 << (8 * size),
    "a registered type": lambda size: Box("x" * size),
    "a text": lambda size: "\u00e9" * (size // 2),
    "bytes": lambda size: b"\xff" * size,
    "a map": lambda size: {f"k{n}": n for n in range(size // 5)},
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_large_value_of_every_type_goes_through_every_door(kind: str, door: str) -> None:
    """Below, at and above the inline limit, the largest value and the largest batch of a store."""
    draw = random.Random(f"{kind} {door}")

    async def test() -> None:
        border = draw.choice([INLINE, VALUE, BATCH])
        value = KINDS[kind](border + draw.randint(-60, 60))
        if door in ("raises", "step fails", "child fails") and kind in ("bytes", "a map"):
            value = KINDS["a text"](border)
        assert await through(door, value) is True

    drive(test)


EAST, WEST, ODD = (timezone(timedelta(seconds=s)) for s in (14 * 3600, -3600, 17))
EDGES = [
    *(datetime.min.replace(tzinfo=zone) for zone in (UTC, EAST, WEST)),
    *(datetime.max.replace(tzinfo=zone) for zone in (UTC, EAST, WEST)),
    datetime(1900, 1, 1, tzinfo=ODD), 2**64, 2**64 - 1, -(2**63), -(2**63) - 1,
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", EDGES, ids=str)
def test_a_value_at_the_edge_of_its_type_is_refused_or_comes_back(value: Any, door: str) -> None:
    """A time that in UTC is in no year of Python's was written, and could never be read."""

    async def test() -> None:
        if fits(value):
            assert await through(door, value) is True
            return
        if door in ("raises", "step fails", "child fails"):
            return
        with pytest.raises(InvalidInput, match="before the year 1 or after 9999"):
            await through(door, value)

    drive(test)


class Unbound:
    """As a proxy that nothing is bound to: it raises whatever it is asked, its class too."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of a context")


def nameless() -> Any:
    """An object whose class has its own idea of names. Made here: pytest looks at the classes of a module."""

    class Odd(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError("no name")

    return Odd("Nameless", (), {})()


@pytest.mark.parametrize("door", ["step", "returns", "emit", "child", "continue", "update", "reply", "query", "signal"])
@pytest.mark.parametrize("make", [Unbound, nameless])
def test_an_object_that_raises_whatever_it_is_asked_is_refused_by_its_type(make: Any, door: str) -> None:
    """It is neither awaited nor described by its own attributes, so nothing of it gets into the kernel."""

    async def test() -> None:
        with pytest.raises(InvalidInput, match="a history can't hold"):
            await through(door, make())

    drive(test)


@pytest.mark.parametrize("make", [Unbound, nameless, lambda: {"k": Unbound()}])
@pytest.mark.parametrize("what", ["number", "text", "unbound", "enum", "none"])
def test_a_failure_with_odd_parts_is_stored_checked_and_moved(what: str, make: Any) -> None:
    """A whole number as its code, such as that of SystemExit or an HTTP status, is one that a bundle may hold."""
    codes = {"number": 5, "text": "E5", "unbound": Unbound(), "enum": http.HTTPStatus.NOT_FOUND, "none": None}
    code = codes[what]

    @workflow(name="flow")
    async def odd(ctx: Context) -> None:
        def boom() -> None:
            error = Detailed(make())
            error.code = code  # type: ignore[attr-defined]  # as libraries do
            raise error

        await ctx.step("s", boom)

    async def test() -> None:
        process = Process(odd)
        run = await process.runtime.start(odd, id="a")
        with pytest.raises(StepError) as caught:
            await run.result(timeout=10)
        assert caught.value.code == (None if what == "unbound" else code)
        bundle = await process.runtime.export("a")
        assert [one.message for one in check(bundle, odd)] == [""]
        await Process(odd).runtime.import_(bundle)

    drive(test)


class Word(str):
    """A text of the user's class, as the members of a StrEnum are."""


def test_a_name_may_be_of_a_class_derived_from_str() -> None:
    """It counts as the text that it is, in whatever is recorded and looked for."""

    @workflow(name="flow")
    async def named(ctx: Context) -> Any:
        ctx.on_query(Word("q"), lambda: 1)
        ctx.on_update(Word("u"), lambda payload: payload)
        ctx.emit(Word("topic"), 1)
        ctx.spend(0, Word("label"))
        new = ctx.patched(Word("change"))
        await ctx.step(Word("step"), lambda: 1)
        return [new, await ctx.wait_for_signal(Word("signal")), ctx.pending_signals(Word("signal"))]

    async def test() -> None:
        process = Process(named)
        run = await process.runtime.start("flow", id=Word("a"))
        await run.settle()
        await process.crash()
        run = Run(process.runtime, "a")
        assert (await run.query(Word("q")), await run.update(Word("u"), 2)) == (1, 2)
        await run.signal(Word("signal"), 3, dedupe=Word("d"))
        await run.signal("signal", 3, dedupe="d")
        assert await (await process.runtime.resume("a")).result(timeout=10) == [True, 3, []]
        assert all(one.ok for one in check(await process.runtime.export("a"), named))

    drive(test)


@pytest.mark.parametrize("number", [timedelta(seconds=1), 1, 1.0, Decimal(1), Fraction(1)])
def test_seconds_of_any_type_that_is_taken_are_waited_for(number: Any) -> None:
    """A policy of timedeltas was taken, and its run was stuck at the first failure."""
    ran: list[int] = []

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        def fail() -> str:
            ran.append(1)
            if len(ran) < 3:
                raise ConnectionError
            return "done"

        return await ctx.step(fail, retry=Retry(max_attempts=3, backoff=number, cap=number), timeout=number)

    async def test() -> None:
        assert await (await Process(flow).runtime.start(flow)).result(timeout=100) == "done"

    drive(test)
