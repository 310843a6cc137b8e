"""Steps: retries, timeouts, at most once, compensation, costs, what a step may know, and what it may return."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    Codec,
    Context,
    InvalidInput,
    Retry,
    StepError,
    StepInfo,
    StepOutcomeUnknown,
    in_thread,
    workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive, kinds


def failing(times: int, log: list[int]) -> Any:
    async def flaky() -> str:
        log.append(1)
        if len(log) <= times:
            raise ConnectionError(f"down {len(log)}")
        return "up"

    return flaky


def run_one(flow: Any, *others: Any, input: Any = None, **options: Any) -> tuple[Any, list[str], Process]:
    """The result, the kinds of events, and the process of one run from start to end."""
    out: list[Any] = []

    async def test() -> None:
        process = Process(flow, *others, **options)
        run = await process.runtime.start(flow, input, id="a")
        out.append(await run.result())
        out.append(kinds(await process.runtime.history("a")))
        out.append(process)
        await process.runtime.close()

    drive(test)
    return out[0], out[1], out[2]


def test_one_attempt_is_the_default() -> None:
    """Without a policy a step that raises fails at once."""
    log: list[int] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("flaky", failing(1, log))
        except ConnectionError as error:
            return str(error)

    assert run_one(flow)[0] == "down 1"
    assert log == [1]


@pytest.mark.parametrize("level", ["step", "workflow", "runtime"])
def test_a_retry_policy_counts_per_step_workflow_and_runtime(level: str) -> None:
    """The nearest policy wins; waits are exponential with a cap, by the host's clock."""
    log: list[int] = []
    policy = Retry(max_attempts=4, backoff=10, factor=3, cap=50)

    @workflow(retry=policy if level == "workflow" else None)
    async def flow(ctx: Context) -> Any:
        return await ctx.step("flaky", failing(3, log), retry=policy if level == "step" else None)

    result, _, process = run_one(flow, retry=policy if level == "runtime" else None)
    assert result == "up"
    waits = [e.retry_at - e.at for e in process.events if type(e).__name__ == "StepRetrying"]
    assert waits == [10_000, 30_000, 50_000]


def test_the_predicate_decides_what_is_tried_again() -> None:
    """An error that the predicate does not want fails the step on its first attempt."""
    log: list[int] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            policy = Retry(max_attempts=5, backoff=0, retryable=lambda error: isinstance(error, TimeoutError))
            await ctx.step("flaky", failing(3, log), retry=policy)
        except ConnectionError:
            return len(log)

    assert run_one(flow)[0] == 1


def test_a_timeout_ends_an_attempt_and_can_be_retried() -> None:
    """Each attempt has its own timeout in seconds; the step sees a cancel, the handler a TimeoutError."""
    cancelled: list[int] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("hang", hang, timeout=5, retry=Retry(max_attempts=2, backoff=1))
        except TimeoutError as error:
            return str(error)

    result, names, _ = run_one(flow)
    assert result == "step 'hang' took longer than its timeout of 5 seconds"
    assert (names, cancelled) == (["Started", "AttemptFailed", "StepFailed", "Completed"], [1, 1])


def test_an_at_most_once_step_never_starts_twice() -> None:
    """Started, and the process died: it is not run again, and the handler gets StepOutcomeUnknown with its key."""
    started: list[str] = []

    async def charge(info: StepInfo) -> None:
        started.append(info.idempotency_key)
        await asyncio.Event().wait()

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("charge", charge, at_most_once=True)
        except StepOutcomeUnknown as error:
            return error.detail["idempotency_key"]

    async def test() -> None:
        process = Process(flow)
        await process.runtime.start("flow", id="a")
        while not started:
            await asyncio.sleep(0)
        await process.crash()
        assert await (await process.runtime.resume("a")).result() == started[0]
        assert len(started) == 1
        await process.runtime.close()

    drive(test)


def test_an_at_most_once_step_may_be_retried_after_a_known_failure() -> None:
    """What its own policy knows to have failed before it could act starts again, with an intent of its own."""
    log: list[int] = []
    refused = Retry(max_attempts=2, backoff=0, retryable=lambda error: isinstance(error, ConnectionError))

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.step("charge", failing(1, log), at_most_once=True, retry=refused)

    result, names, _ = run_one(flow)
    assert result == "up"
    assert names == ["Started", "StepIntended", "AttemptFailed", "StepIntended", "StepCompleted", "Completed"]


@pytest.mark.parametrize("how", ["failure", "cancel"])
def test_compensations_run_last_in_first_out(how: str) -> None:
    """After a failure or a cancel, what completed is undone in reverse, durably; what did not complete is not."""
    undone: list[Any] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.step("room", lambda: "room-7", compensate=lambda room: undone.append(room))
        await ctx.step("car", lambda: "car-9", compensate=lambda: undone.append("car"))
        if how == "cancel":
            await ctx.wait_for_signal("never")
        await ctx.step("pay", failing(9, []), compensate=lambda: undone.append("pay"))

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        if how == "cancel":
            await run.settle()
            await run.cancel("changed my mind")
        with pytest.raises(Exception, match="down 1" if how == "failure" else "changed my mind"):
            await run.result()
        assert undone == ["car", "room-7"]
        names = [r.event.name for r in await process.runtime.history("a") if isinstance(r.event, ev.StepCompleted)]
        assert names[2:] == ["compensate car", "compensate room"]
        await process.runtime.close()

    drive(test)


def test_a_compensation_that_fails_does_not_stop_the_others_and_is_named() -> None:
    """The run's failure says which compensations failed."""
    undone: list[str] = []

    def broken() -> None:
        raise OSError("no")

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.step("one", lambda: 1, compensate=lambda: undone.append("one"))
        await ctx.step("two", lambda: 2, compensate=broken)
        raise ValueError("stop")

    with pytest.raises(ValueError, match=r"stop \(compensations that failed: two \(OSError\)\)"):
        run_one(flow)
    assert undone == ["one"]


def test_a_step_knows_its_key_and_attempt() -> None:
    """StepInfo by annotation: the key is the same for every attempt and process, the attempt counts."""
    seen: list[tuple[str, int]] = []

    def work(n: int, info: StepInfo) -> int:
        seen.append((info.idempotency_key, info.attempt))
        if info.attempt < 3:
            raise ValueError("again")
        return n

    @workflow
    async def flow(ctx: Context) -> Any:
        value = await ctx.step(work, 5, retry=Retry(max_attempts=3, backoff=0))
        return [value, ctx.execution.idempotency_key("1")]

    result, _, _ = run_one(flow)
    assert result[0] == 5
    assert seen == [(result[1], 1), (result[1], 2), (result[1], 3)]


def test_a_sync_step_runs_in_a_thread_where_it_asks_and_the_host_can() -> None:
    """in_thread says always; without it the first call runs in a thread, and those of a quick function inline."""
    import threading

    from alkaline_edge import Runtime
    from alkaline_hosts.memory import MemoryHost

    @in_thread
    def elsewhere() -> int:
        return threading.get_ident()

    @workflow
    async def flow(ctx: Context) -> Any:
        first = await ctx.step("here", threading.get_ident)
        return [
            first,
            await ctx.step(elsewhere),
            await ctx.step(elsewhere),
            await ctx.step("here", threading.get_ident),
        ]

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            first, there, again, here = await (await runtime.start("flow")).result()
        assert threading.get_ident() not in (first, there, again)
        assert here == threading.get_ident()

    drive(test)


def test_costs_are_charged_once_with_the_result() -> None:
    """A fixed cost, a cost of the result, and one in money."""

    @workflow(budget=Budget(tokens=100, usd=1))
    async def flow(ctx: Context) -> Any:
        await ctx.step("a", lambda: 1, cost=10)
        await ctx.step("b", lambda: {"tokens": 7}, cost=lambda result: result["tokens"])
        await ctx.step("c", lambda: 1, cost=lambda _: (3, 0.25))
        return None

    async def test() -> None:
        process = Process(flow)
        await (await process.runtime.start("flow", id="a")).result()
        assert (await process.runtime.get_execution("a")).spent == {"tokens": 20, "usd": 0.25}
        await process.runtime.close()

    drive(test)


def test_spend_raises_where_it_goes_over_and_replays_there() -> None:
    """The charge that went over stands; the handler may still finish its work."""

    @workflow(budget=Budget(tokens=10))
    async def flow(ctx: Context) -> Any:
        ctx.spend(8, "first")
        try:
            ctx.spend(5, "second")
        except BudgetExceeded as error:
            over = [error.code, error.detail["spent"]]
        await ctx.wait_for_signal("go")
        return over

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == ["ERR_BUDGET_EXCEEDED", 13]
        assert (await process.runtime.get_execution("a")).spent["tokens"] == 13
        await process.runtime.close()

    drive(test)


def test_a_result_that_can_not_be_stored_is_named_by_its_path() -> None:
    """The step fails with the path to the value, and what to do."""

    class Money:
        pass

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("bad", lambda: {"items": [1, {"when": Money()}]})
        except InvalidInput as error:
            return str(error)

    assert "result.items[1].when is of type Money" in run_one(flow)[0]


def test_a_registered_type_survives() -> None:
    """A codec that knows the class gives it back, live and from the record."""

    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Money) and other.cents == self.cents

    codec = Codec()
    codec.register(Money, "money", lambda money: money.cents, Money)

    @workflow
    async def flow(ctx: Context) -> Any:
        return {"price": await ctx.step("price", lambda: Money(250))}

    assert run_one(flow, codec=codec)[0] == {"price": Money(250)}


def test_builtin_errors_can_be_caught_by_their_class_and_others_by_type() -> None:
    """except ValueError works live and on replay; a class of the user's is told by its name."""

    class Mine(Exception):
        pass

    def fail(which: str) -> None:
        raise {"value": ValueError, "os": FileNotFoundError, "unicode": UnicodeError, "mine": Mine}[which]("x")

    @workflow
    async def flow(ctx: Context) -> Any:
        out: list[Any] = []
        for which, kind in (("value", ValueError), ("os", OSError), ("unicode", ValueError), ("mine", StepError)):
            try:
                await ctx.step("fail", fail, which)
            except kind as error:
                out.append(error.type if isinstance(error, StepError) else None)
        return out

    assert run_one(flow)[0] == ["ValueError", "FileNotFoundError", "UnicodeError", "Mine"]


def test_values_are_committed_before_the_next_effect_starts() -> None:
    """now, random, uuid and spend are durable before a step that may use them."""
    host = SimulatedHost()
    at_start: list[list[str]] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        drawn = [ctx.now(), ctx.random(), ctx.uuid()]
        ctx.spend(1)

        async def look() -> None:
            at_start.append(kinds(await process.runtime.history("a")))

        await ctx.step("look", look)
        await ctx.wait_for_signal("go")
        return [str(value) for value in drawn]

    process = Process(flow, host=host)

    async def test() -> None:
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        recorded = [r.event.value for r in await process.runtime.history("a") if isinstance(r.event, ev.Drawn)]
        await process.crash()
        await process.runtime.signal("a", "go")
        result = await (await process.runtime.resume("a")).result()
        assert at_start == [["Started", "Drawn", "Drawn", "Drawn", "Spent"]]
        assert result[1:] == [str(value) for value in recorded[1:]]
        await process.runtime.close()

    drive(test)
