"""Errors that are not Exceptions, and those that no task can carry: one rule for each place where they are raised.

Raised by a step, a handler, an update or a compensation, each is a durable failure of its own name. Raised by a query
or a validator, it comes to the caller as an error of its name. A policy, a listener or a meter that raises one harms
nobody. What a signal raises, Ctrl-C above all, is the wish of whoever runs the process: it is recorded nowhere and ends
what runs the loop.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    Context,
    DeterminismError,
    Retry,
    Runtime,
    StepError,
    in_thread,
    workflow,
)
from alkaline_edge.replay import check
from alkaline_hosts.memory import MemoryHost

from ..support import drive


class Own(BaseException):
    """A BaseException of the user's."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration("why"),
    "StopAsyncIteration": lambda: StopAsyncIteration("why"),
    "CancelledError": lambda: asyncio.CancelledError("why"),
    "SystemExit": lambda: SystemExit("why"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("why"),
    "GeneratorExit": lambda: GeneratorExit("why"),
    "Own": lambda: Own("why"),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("why"), ExceptionGroup("deep", [KeyError("also")])]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("one", [Own("why")]),
    "ValueError": lambda: ValueError("why"),
}
COROUTINES_TURN = {"StopIteration": "RuntimeError"}
"""Python itself makes a RuntimeError of it where a coroutine raises it."""

every_error = pytest.mark.parametrize("what", ERRORS)


def raising(what: str) -> Callable[..., Any]:
    def boom(*_: Any) -> Any:
        raise ERRORS[what]()

    return boom


def raising_async(what: str) -> Callable[..., Any]:
    async def boom(*_: Any) -> Any:
        raise ERRORS[what]()

    return boom


async def outcome(runtime: Runtime, **given: Any) -> StepError:
    run = await runtime.start("flow", id="a", **given)
    with pytest.raises(StepError) as caught:
        await run.result(timeout=5)
    assert (await runtime.get_execution("a")).status == "failed"
    return caught.value


@pytest.mark.parametrize("where", ["sync", "thread", "async", "timeout", "map"])
@every_error
def test_a_step_that_raises_fails_with_an_error_of_that_name(where: str, what: str) -> None:
    """The step fails, durably; the handler can catch it as an Exception; nothing hangs and no process ends."""
    caught: list[str] = []

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        fn = raising(what) if where in ("sync", "map") else raising_async(what)
        fn = in_thread(raising(what)) if where == "thread" else fn
        try:
            if where == "map":
                await ctx.map(lambda n: ctx.step("boom", fn, n), [1, 2])
            await ctx.step("boom", fn, timeout=30 if where == "timeout" else None)
        except Exception as error:
            caught.append(type(error).__name__)
            raise

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            error = await outcome(runtime)
        expected = COROUTINES_TURN.get(what, what) if where in ("async", "timeout") else what
        assert caught == [error.type] == [expected]
        assert "why" in str(error) or expected == "RuntimeError"

    drive(test)


@pytest.mark.parametrize("where", ["handler", "task"])
@every_error
def test_a_handler_that_raises_fails_with_an_error_of_that_name(where: str, what: str) -> None:
    """Also from a task that it awaits. A CancelledError is the one that has a meaning: the run is cancelled."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("one", lambda: 1)
        await (raising_async(what)() if where == "handler" else asyncio.create_task(raising_async(what)()))

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            with pytest.raises(Exception, match=r"(?s).*") as caught:
                await run.result(timeout=5)
            record = await runtime.get_execution("a")
        if what == "CancelledError":
            assert record.status == "cancelled"
        else:
            assert record.status == "failed"
            assert isinstance(caught.value, StepError)
            assert caught.value.type == COROUTINES_TURN.get(what, what)

    drive(test)


@every_error
def test_a_compensation_that_raises_stops_no_other(what: str) -> None:
    """The others run, the failure names it, and the run has failed with its own error."""
    undone: list[str] = []

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("first", lambda: 1, compensate=lambda: undone.append("first"))
        await ctx.step("second", lambda: 2, compensate=raising(what))
        await ctx.step("third", lambda: 3, compensate=lambda: undone.append("third"))
        raise ValueError("no")

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            error = await outcome(runtime)
        assert undone == ["third", "first"]
        assert str(error) == f"no (compensations that failed: second ({what}))"

    drive(test)


@pytest.mark.parametrize("where", ["update", "async update", "validator", "query"])
@every_error
def test_what_answers_the_outside_and_raises_tells_its_caller(where: str, what: str) -> None:
    """The caller has an Exception of that name, and the run goes on."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        ctx.on_query("ask", raising(what) if where == "query" else len)
        fn: Callable[..., Any] = raising_async(what) if where == "async update" else raising(what)
        ctx.on_update("set", fn, validator=raising(what) if where == "validator" else None)
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            await run.settle()
            with pytest.raises(Exception, match=r"(?s).*") as caught:
                await (run.query("ask", 1) if where == "query" else run.update("set", 1))
            expected = COROUTINES_TURN.get(what, what) if where == "async update" else what
            assert type(caught.value).__name__ == expected
            await run.signal("go", 5)
            assert await run.result(timeout=5) == 5

    drive(test)


@pytest.mark.parametrize("where", ["retryable", "listener", "meter", "cost"])
@every_error
def test_callbacks_that_raise_harm_no_run(where: str, what: str) -> None:
    """A policy that raises says nothing, a listener and a meter are reported, a cost ends its step."""
    reported: list[Any] = []

    def broken() -> None:
        raise ConnectionError("down")

    class Meter:
        record = staticmethod(raising(what))

    @workflow(name="flow", budget=Budget(tokens=100))
    async def flow(ctx: Context) -> Any:
        if where == "retryable":
            await ctx.step("s", broken, retry=Retry(max_attempts=3, backoff=0, retryable=raising(what)))
        return await ctx.step("t", lambda: 1, cost=raising(what) if where == "cost" else 3)

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        options = {"listener": {"on_event": raising(what)}, "meter": {"meter": Meter()}}.get(where, {})
        async with Runtime(MemoryHost(), workflows=[flow], **options) as runtime:  # type: ignore[arg-type]  # one of two
            run = await runtime.start("flow", id="a")
            if where in ("retryable", "cost"):
                with pytest.raises(Exception, match="down" if where == "retryable" else "cost="):
                    await run.result(timeout=5)
                assert (await runtime.get_execution("a")).status == "failed"
            else:
                assert await run.result(timeout=5) == 1
                assert reported

    drive(test)


def by_ctrl_c() -> None:
    """As Python does where nobody handles SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def by_a_second_ctrl_c() -> None:
    """asyncio.run cancels its main task at the first, and raises at the second."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def by_a_handler_of_the_users() -> None:
    """The usual way to end in good order when told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    signal.raise_signal(signal.SIGTERM)


INTERRUPTS: dict[Callable[[], None], type[BaseException]] = {
    by_ctrl_c: KeyboardInterrupt,
    by_a_second_ctrl_c: KeyboardInterrupt,
    by_a_handler_of_the_users: SystemExit,
}


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("where", ["step", "async step", "handler", "task", "cost", "compensation"])
def test_what_a_signal_raises_ends_the_process_and_is_recorded_nowhere(
    where: str, interrupt: Callable[[], None]
) -> None:
    """Wherever it comes: the run is left as it was, and goes on in the next process."""
    host, calls = MemoryHost(), [0]
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it

    def interrupted(*_: Any) -> int:
        calls[0] += 1
        if calls[0] == 2:
            interrupt()
        return 1

    async def interrupted_async(*_: Any) -> int:
        return interrupted()

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("s", interrupted)  # the next call runs on the loop's thread, where signals arrive
        calls[0] = max(1, calls[0])
        if where == "handler":
            return interrupted()
        if where == "task":
            return await asyncio.gather(interrupted_async())
        if where == "compensation":
            await ctx.step("done", len, "", compensate=interrupted_async)
            raise ValueError("undo it")
        if where == "cost":
            return await ctx.step("t", len, "", cost=interrupted)
        return await ctx.step("s", interrupted_async if where == "async step" else interrupted)

    async def first() -> None:
        async with Runtime(host, workflows=[flow], lease=0.05) as runtime:
            await (await runtime.start("flow", id="a")).result()

    async def second() -> None:
        async with Runtime(host, workflows=[flow]) as runtime:
            assert not (await runtime.get_execution("a")).finished
            await asyncio.sleep(0.06)  # the lease of the process that died
            run = await runtime.resume("a")
            if where == "compensation":
                with pytest.raises(StepError, match=r"^undo it$"):
                    await run.result(timeout=5)
            else:
                await run.result(timeout=5)

    try:
        with pytest.raises(INTERRUPTS[interrupt]):
            asyncio.run(first())
    finally:
        for number, handler in kept:
            signal.signal(number, handler)
    assert calls == [2]
    asyncio.run(second())
    assert calls == [3]
    # What was interrupted is let go of, and told by asyncio, here: where that happens while an ast is made, CPython
    # before 3.11.8 takes the printed traceback for an error of that ast (python/cpython, gh-106905).
    gc.collect()


def test_a_group_names_its_causes() -> None:
    """The durable failure of a group says what it was raised from, nested ones too, a bounded number of them."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        raise ExceptionGroup("all", [ExceptionGroup("some", [ValueError(f"n{n}") for n in range(12)]), OSError(2, "x")])

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            text = str(await outcome(runtime))
        assert "ValueError: n0; ValueError: n1" in text
        assert "n9" in text
        assert "n10" not in text
        assert text.endswith("and more")

    drive(test)


class Lying(Exception):
    """An error that raises when it is asked for its class, as proxies do."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class")


@pytest.mark.parametrize("where", ["step", "handler", "task", "compensation", "retryable", "child"])
@pytest.mark.parametrize("make", [Lying, lambda: DeterminismError("of another run"), lambda: BudgetExceeded("its own")])
def test_an_error_of_the_kernels_or_one_that_lies_is_the_failure_of_the_code_that_raised_it(
    make: Callable[[], BaseException], where: str
) -> None:
    """A step that replays other runs may meet their divergence: this run failed, and was held for its own."""

    def boom(*_: Any) -> Any:
        raise make()

    async def boom_later() -> None:
        boom()

    @workflow(name="kid")
    async def kid(ctx: Context) -> None:
        boom()

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("fine", lambda: 1, compensate=boom if where == "compensation" else None)
        match where:
            case "step":
                await ctx.step("s", boom)
            case "task":
                await asyncio.gather(boom_later())
            case "retryable":
                await ctx.step("s", boom, retry=Retry(max_attempts=2, backoff=0))
            case "child":
                await ctx.child(kid)
            case "compensation":
                raise ValueError("undo it")
        boom()

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow, kid]) as runtime:
            run = await runtime.start("flow", id="a")
            with pytest.raises(Exception, match=r"(?s).*"):
                await run.result(timeout=5)
            assert not runtime.stuck
            record = await runtime.get_execution("a")
            assert record.status == "failed"
            assert record.failure is not None
            kind = "ValueError" if where == "compensation" else type(make()).__name__
            assert record.failure["type"] == kind
            assert all(one.ok for one in check(await runtime.export("a"), [flow, kid]))

    drive(test)
