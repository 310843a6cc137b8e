"""Errors that are not Exceptions, and those that no task can carry: one rule for each place where they are raised.

Raised by a step, a handler, an update or a compensation, each is a durable failure of its own name. Raised by a query
or a validator, it comes to the caller as an error of its name. A policy, a listener or a meter that raises one harms
nobody. KeyboardInterrupt is the user's wish for the process: it is recorded nowhere and ends what runs the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import Budget, Context, Retry, Runtime, StepError, in_thread, workflow
from alkaline_hosts.memory import MemoryHost

from ..support import drive


class Own(BaseException):
    """A BaseException of the user's."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration("why"),
    "StopAsyncIteration": lambda: StopAsyncIteration("why"),
    "CancelledError": lambda: asyncio.CancelledError("why"),
    "SystemExit": lambda: SystemExit("why"),
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


def test_a_keyboard_interrupt_ends_the_process_and_is_recorded_nowhere() -> None:
    """As Ctrl-C does while a step runs: the run is left as it was, and goes on in the next process."""
    host, calls = MemoryHost(), [0]

    def interrupted() -> str:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return "done"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("s", interrupted)
        return await ctx.step("s", interrupted)

    async def first() -> None:
        async with Runtime(host, workflows=[flow], lease=0.05) as runtime:
            await (await runtime.start("flow", id="a")).result()

    async def second() -> None:
        async with Runtime(host, workflows=[flow]) as runtime:
            assert (await runtime.get_execution("a")).status == "running"
            await asyncio.sleep(0.06)  # the lease of the process that died
            assert await (await runtime.resume("a")).result(timeout=5) == "done"

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(first())
    asyncio.run(second())
    assert calls == [3]


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
