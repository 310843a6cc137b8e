"""Setting a run aside runs no code of its handler, whatever shape its cleanup has and whoever drops it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Context, DeterminismError, Runtime, workflow
from alkaline_hosts.memory import MemoryHost
from tests.support import drive

RAN: list[str] = []
VAR: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)


@contextlib.contextmanager
def booked(name: str = "contextmanager") -> Iterator[int]:
    token = VAR.set(VAR.get() + 1)
    try:
        yield 1
    finally:
        RAN.append(name)
        VAR.reset(token)


@contextlib.asynccontextmanager
async def abooked(name: str = "asynccontextmanager") -> AsyncIterator[int]:
    token = VAR.set(VAR.get() + 1)
    try:
        yield 1
    finally:
        RAN.append(name)
        VAR.reset(token)


class Fixture:
    """Holds a generator that holds it: only the collector would find both."""

    def __init__(self) -> None:
        self.steps = self.run()
        next(self.steps)

    def run(self) -> Iterator[int]:
        try:
            yield 1
        finally:
            RAN.append("fixture")


def numbers(name: str = "generator") -> Iterator[int]:
    try:
        while True:
            yield 1
    finally:
        RAN.append(name)


def nested() -> Iterator[int]:
    try:
        yield from numbers("inner")
    finally:
        RAN.append("outer")


async def anumbers(ctx: Context) -> AsyncIterator[int]:
    try:
        while True:
            yield await ctx.wait_for_signal("go")
    finally:
        RAN.append("async generator")


async def helper(ctx: Context, depth: int, shape: Any) -> None:
    try:
        with booked(f"helper {depth}"):
            if depth:
                await helper(ctx, depth - 1, shape)
            else:
                await shape(ctx)
    except BaseException as error:
        RAN.append(type(error).__name__)
        raise
    finally:
        RAN.append("finally")


async def waits(ctx: Context) -> None:
    await ctx.wait_for_signal("go")


async def with_managers(ctx: Context) -> None:
    with booked():
        async with abooked():
            await waits(ctx)


async def with_stacks(ctx: Context) -> None:
    async with contextlib.AsyncExitStack() as astack:
        await astack.enter_async_context(abooked())
        with contextlib.ExitStack() as stack:
            stack.enter_context(booked())
            stack.callback(RAN.append, "callback")
            astack.push_async_callback(waits, ctx)
            await waits(ctx)


async def with_async_for(ctx: Context) -> None:
    async for _ in anumbers(ctx):
        RAN.append("went on")


async def with_aclosing(ctx: Context) -> None:
    async with contextlib.aclosing(anumbers(ctx)) as several:
        async for _ in several:
            RAN.append("went on")


async def with_generators(ctx: Context) -> None:
    held = [numbers(), {"a": (nested(),)}, map(str, numbers("mapped")), Fixture()]
    next(held[0])  # type: ignore[call-overload]
    next(held[1]["a"][0])  # type: ignore[index]
    next(held[2])  # type: ignore[call-overload]
    await waits(ctx)


async def with_a_fixture(ctx: Context) -> None:
    fixture = Fixture()
    await waits(ctx)
    del fixture


async def with_closures(ctx: Context) -> None:
    steps = numbers("of a closure")
    next(steps)
    ctx.on_query("next", lambda: next(steps))
    ctx.on_update("next", lambda _: next(steps))
    await waits(ctx)


async def with_an_error_at_hand(ctx: Context) -> None:
    def fails() -> None:
        held = numbers("of a traceback")
        next(held)
        raise ValueError("no")

    try:
        fails()
    except ValueError as error:
        kept = error
        await waits(ctx)
        del kept


async def with_coroutines_not_begun(ctx: Context) -> None:
    jobs = [waits(ctx) for _ in range(3)]
    await ctx.all(waits(ctx), *jobs, limit=1)


async def with_tasks(ctx: Context) -> None:
    async def inner(n: int) -> None:
        async with abooked(), asyncio.timeout(1000):
            with booked():
                await ctx.sleep(100 + n)

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(inner(n))
        await asyncio.shield(asyncio.gather(inner(1), asyncio.wait_for(inner(2), 500)))


async def with_a_class(ctx: Context) -> None:
    class Manager:
        async def __aenter__(self) -> Manager:
            return self

        async def __aexit__(self, *_: object) -> None:
            RAN.append("class")

        __enter__ = lambda self: self  # noqa: E731

        def __exit__(self, *_: object) -> None:
            RAN.append("class")

    with Manager():
        async with Manager():
            await waits(ctx)


SHAPES: list[Callable[[Context], Any]] = [
    with_managers, with_stacks, with_async_for, with_aclosing, with_generators, with_a_fixture, with_closures,
    with_an_error_at_hand, with_coroutines_not_begun, with_tasks, with_a_class,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    RAN.clear()


def silence(run: Callable[[], Any]) -> None:
    """``run`` and the collector after it say nothing on any channel, and run nothing of the handler."""
    gc.collect()  # what other tests left has its say before
    said: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda it: said.append(repr(it.exc_value))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
            gc.collect()
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert (RAN, said, [str(one.message) for one in caught]) == ([], [], [])


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_close_runs_no_cleanup(shape: Any, depth: int) -> None:
    """The run is only suspended: its cleanup belongs to the process in which it ends."""

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        await helper(ctx, depth, shape)

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[outer]) as runtime:
            run = await runtime.start("outer", id="x")
            await run.settle()
            assert (await runtime.get_execution("x")).status == "suspended"

    silence(lambda: drive(main))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_divergence_runs_no_cleanup(shape: Any) -> None:
    """Code that doesn't fit the history is left where it stands."""
    changed = [False]

    async def step() -> int:
        return 1

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        side = asyncio.ensure_future(helper(ctx, 1, shape))
        await ctx.step("other" if changed[0] else "step", step)
        await side

    async def main() -> None:
        host = MemoryHost()
        async with Runtime(host, workflows=[outer]) as runtime:
            await (await runtime.start("outer", id="x")).settle()
        changed[0] = True
        async with Runtime(host, workflows=[outer]) as runtime:
            with pytest.raises(DeterminismError):
                await (await runtime.resume("x")).result()

    silence(lambda: drive(main))


class Luggage:
    """Objects that a frame of a library holds."""

    def __init__(self) -> None:
        self.parts = [object.__new__(Luggage) for _ in range(20)]
        for part in self.parts:
            part.parts = [self]  # so that only a walk, or the collector, gets through


@pytest.mark.parametrize("depth", [10, 40])
def test_a_frame_as_deep_as_an_agents_runs_no_cleanup(depth: int) -> None:
    """The frames of a library stand one in the other, each with its managers and whatever else it holds."""

    async def deep(ctx: Context, left: int) -> None:
        luggage = [Luggage() for _ in range(10)]
        with booked(f"{left}"), contextlib.ExitStack() as stack:
            stack.enter_context(booked(f"{left} in a stack"))
            if left:
                await deep(ctx, left - 1)
            else:
                await ctx.wait_for_signal("never")
        del luggage

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        await deep(ctx, depth)

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[outer]) as runtime:
            await (await runtime.start("outer", id="x")).settle()

    silence(lambda: drive(main))


def test_what_others_hold_too_goes_on() -> None:
    """A generator of the process, which a handler only borrows, is not ended with the handler."""
    of_the_process, manager = numbers("shared"), booked("shared manager")
    next(of_the_process)
    manager.__enter__()
    library = {"cursor": [of_the_process]}

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        mine = [library["cursor"], manager, of_the_process]
        await ctx.wait_for_signal("go")
        del mine

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[outer]) as runtime:
            await (await runtime.start("outer", id="x")).settle()

    silence(lambda: drive(main))
    assert next(of_the_process) == 1
    manager.__exit__(None, None, None)
    assert RAN == ["shared manager"]


def _raises(*_: object) -> Any:
    raise RuntimeError("working outside of a request")


def _odd(base: type[Any] = object, kind: Any = type, **members: Any) -> Any:
    return kind("Odd", (base,), members)


ODD: dict[str, Any] = {
    "a class that can be no key": _odd(kind=_odd(type, __eq__=lambda self, other: self is other, __hash__=None)),
    "a class that answers nothing": _odd(kind=_odd(type, __getattr__=_raises)),
    "an unbound proxy": _odd(__class__=property(_raises)),
    "what says it is a list": _odd(__class__=list),
    "what says it is a function": _odd(__class__=type(_raises)),
    "a list not loaded yet": _odd(list, __len__=_raises),
}


@pytest.mark.parametrize("name", ODD)
def test_what_a_handler_holds_is_asked_nothing(name: str) -> None:
    """An object whose class raises when it is looked at doesn't keep a run from being set aside."""

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        held = ODD[name]()
        held.more = [held]
        with booked():
            await ctx.wait_for_signal("go")

    async def main() -> None:
        host = MemoryHost()
        async with Runtime(host, workflows=[outer]) as runtime:
            for id in "xy":
                await (await runtime.start("outer", id=id)).settle()
        async with Runtime(host, workflows=[outer]) as runtime:
            for id in "xy":
                await runtime.signal(id, "go")
                assert await (await runtime.resume(id)).result() is None

    said = ""
    try:
        drive(main)
    except Exception as error:  # pytest would look at what the frames hold, and fail itself
        said = f"{type(error).__name__}: {error}"
    assert (said, RAN) == ("", ["contextmanager"] * 2)


@pytest.mark.parametrize("seed", range(8))
def test_any_nesting_of_shapes_is_left(seed: int) -> None:
    """Managers, loops and generators in a random order, around each other."""
    draw = random.Random(seed)

    async def around(ctx: Context, left: int) -> None:
        if not left:
            await draw.choice(SHAPES)(ctx)
            return
        match draw.randrange(6):
            case 0:
                with booked(), booked():
                    await around(ctx, left - 1)
            case 1:
                async with abooked():
                    await around(ctx, left - 1)
            case 2:
                async with contextlib.AsyncExitStack() as stack:
                    stack.enter_context(booked())
                    await stack.enter_async_context(abooked())
                    await around(ctx, left - 1)
            case 3:
                async with asyncio.TaskGroup() as group:
                    group.create_task(around(ctx, left - 1))
            case 4:
                for _ in numbers():
                    await around(ctx, left - 1)
            case _:
                await asyncio.wait_for(around(ctx, left - 1), 1000)

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        await around(ctx, 6)

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[outer]) as runtime:
            await (await runtime.start("outer", id="x")).settle()

    silence(lambda: drive(main))


class Answers:
    """An iterator that answers whatever attribute it is asked for, always with another one, as a mock does."""

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return Answers()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.inner)

    def __await__(self) -> Any:
        return self


@pytest.mark.parametrize("how", ["set aside", "named"])
def test_an_awaited_object_that_answers_every_attribute_ends_no_walk(how: str) -> None:
    """Neither that of setting it aside, nor that of naming the line at which the handler stands."""

    @workflow(name="outer")
    async def outer(ctx: Context) -> None:
        if how == "named":
            await Answers(iter([asyncio.get_running_loop().create_future()]))
        await Answers(ctx.wait_for_signal("never").__await__())

    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[outer]) as runtime:
            run = await runtime.start("outer", id="x")
            if how == "named":
                with pytest.raises(DeterminismError, match=r"test_discarding.py:\d+ in outer"):
                    await run.result(timeout=5)
            else:
                await run.settle()

    silence(lambda: drive(main))


def test_the_end_of_the_interpreter_runs_no_cleanup() -> None:
    """A process that ends without closing its runtime leaves its handlers where they stand."""
    program = (
        "import asyncio\nfrom alkaline_edge import Runtime, workflow\nfrom alkaline_hosts.memory import MemoryHost\n"
        "from tests.machine import test_discarding as t\n"
        "class Loud(list):\n    def append(self, one): print(one, flush=True)\n"
        "t.RAN = Loud()\n"
        "@workflow\nasync def outer(ctx, n):\n    await t.helper(ctx, 1, t.SHAPES[n])\n"
        "async def main():\n    global runtime\n    runtime = Runtime(MemoryHost(), workflows=[outer])\n"
        "    for n in range(len(t.SHAPES)):\n        await (await runtime.start('outer', n)).settle()\n"
        "loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\n"
    )
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": f"{root}:{root / 'hosts'}"}
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "never awaited" not in done.stderr
    assert "GeneratorExit" not in done.stderr
    assert "different Context" not in done.stderr
