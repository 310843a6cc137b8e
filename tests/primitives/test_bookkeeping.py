"""What is kept for a step, a wait or a branch until it ends: reservations, backoffs, whose turn it is, copies."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    Context,
    CycleDetected,
    InvalidInput,
    Retry,
    Runtime,
    workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.budget import micros
from alkaline_edge.codec import MAX_DEPTH_OF_VALUE, Codec
from alkaline_edge.lifecycle import LogLine
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import Process, drive


async def ended(*flows: Any, input: Any = None) -> Any:
    """The result of a run of the first of ``flows``."""
    process = Process(*flows)
    run = await process.runtime.start(flows[0].name, input, id="run")
    return await run.result()


async def cheap(n: Any) -> Any:
    return n


async def failing(n: int) -> int:
    raise ValueError(n)


@workflow(name="reserving", budget=Budget(tokens=10))
async def reserving(ctx: Context, how: str) -> Any:
    if how == "withdrawn":
        never = asyncio.Event()

        async def slow() -> None:
            await never.wait()

        await ctx.race(slow=ctx.step("slow", slow, cost=8), timer=ctx.sleep(1))
    else:
        with pytest.raises(ValueError, match="1"):
            await ctx.step("failing", failing, 1, cost=8)
    return await ctx.step("cheap", cheap, 7, cost=8)


@pytest.mark.parametrize("how", ["withdrawn", "failed"])
def test_a_step_that_did_not_complete_gives_back_what_it_reserved(how: str) -> None:
    """Nothing of it was spent: the next one has all of the budget."""
    assert drive(lambda: ended(reserving, input=how)) == 7


def test_a_backoff_holds_for_the_process_that_comes_after() -> None:
    """The time of the next attempt stands in the history: a replay waits for it as the first process did."""
    attempts: list[int] = []

    async def flaky() -> str:
        attempts.append(len(attempts))
        if len(attempts) < 2:
            raise ConnectionError("not yet")
        return "done"

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        return await ctx.step("flaky", flaky, retry=Retry(max_attempts=3, backoff=600, cap=600))

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        assert len(attempts) == 1
        other = await process.crash()
        run = await other.resume("run")
        await run.settle()
        assert len(attempts) == 1
        process.host.advance(600)
        await other.run_due()
        assert await run.result() == "done"

    drive(test)


@workflow(name="two_wait")
async def two_wait(ctx: Context) -> Any:
    return await ctx.all(ctx.wait_for_signal("s"), ctx.wait_for_signal("s"), ctx.wait_for_signal("s"))


def test_who_waited_first_gets_the_signal_first() -> None:
    """Of several who wait for one name, in the order in which they began to."""

    async def test() -> None:
        process = Process(two_wait)
        run = await process.runtime.start("two_wait", id="run")
        await run.settle()
        for n in range(3):
            await run.signal("s", n)
        assert await run.result() == [0, 1, 2]

    drive(test)


@pytest.mark.parametrize("named", [False, True])
def test_a_step_has_its_arguments_as_they_were_when_it_was_asked_for(named: bool) -> None:
    """What the handler does to a list afterwards is not seen: it would be another call for the next replay."""

    async def length(items: list[int]) -> int:
        return len(items)

    @workflow(name="flow")
    async def flow(ctx: Context) -> int:
        items = [1]
        step = ctx.step("length", length, items=items) if named else ctx.step("length", length, items)
        task = asyncio.get_running_loop().create_task(step)
        await asyncio.sleep(0)
        items.append(2)
        return await task

    assert drive(lambda: ended(flow)) == 1


def test_a_cancel_that_comes_while_branches_tidy_up_is_a_cancel() -> None:
    """One branch failed, another one is still tidying up: a cancel of all of it counts for more than the failure."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        async def slow() -> None:
            try:
                await ctx.sleep(100)
            finally:
                await ctx.sleep(5)

        async def fails() -> None:
            await ctx.sleep(1)
            raise ValueError("first")

        task = asyncio.get_running_loop().create_task(ctx.all(slow(), fails()))
        await ctx.sleep(2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        except ValueError:
            return "failed"
        return "done"

    assert drive(lambda: ended(flow)) == "cancelled"


def test_attributes_are_seen_as_soon_as_what_comes_behind_them_is_recorded() -> None:
    """They go with the commit of the next event, and do not wait for the next write of the record."""

    async def test() -> None:
        over = asyncio.Event()

        async def slow() -> None:
            await over.wait()

        @workflow(name="flow")
        async def flow(ctx: Context) -> None:
            ctx.set_attributes(stage="second")
            await ctx.step("cheap", cheap, 1)
            await ctx.step("slow", slow)

        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        for _ in range(50):
            await asyncio.sleep(0)
        elsewhere = Runtime(process.host.reopen())
        assert (await elsewhere.get_execution("run")).attributes == {"stage": "second"}
        over.set()
        await run.result()

    drive(test)


def test_a_value_is_nested_as_deep_as_is_said_and_no_deeper() -> None:
    """One level more is refused where it is given, and the level that is allowed comes back as it was."""

    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    codec = Codec()
    most = nested(MAX_DEPTH_OF_VALUE)
    assert codec.decode(codec.encode(most)) == most
    with pytest.raises(InvalidInput, match="nested deeper"):
        codec.encode(nested(MAX_DEPTH_OF_VALUE + 1))


@pytest.mark.parametrize("whole", [249, 251, 489, 1_000_001])
def test_money_is_counted_in_whole_micro_dollars_rounded(whole: int) -> None:
    """What a float has too little of is no micro-dollar lost."""
    assert micros(whole / 1_000_000) == whole


def test_an_attempt_that_failed_leaves_no_intent_for_the_next_process() -> None:
    """A step that runs at most once and may be tried again is: nothing of the second attempt has begun."""
    attempts: list[int] = []

    async def flaky() -> str:
        attempts.append(len(attempts))
        if len(attempts) < 2:
            raise ConnectionError("refused before it did anything")
        return "done"

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        policy = Retry(max_attempts=3, backoff=600, cap=600, retryable=lambda error: True)
        return await ctx.step("flaky", flaky, retry=policy, at_most_once=True)

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        other = await process.crash()
        process.host.advance(600)
        await other.run_due()
        assert await other.result("run", None) == "done"
        assert len(attempts) == 2

    drive(test)


@pytest.mark.parametrize("how", ["in time", "in vain"])
def test_a_wait_that_is_over_leaves_nothing_behind(how: str) -> None:
    """Neither its deadline, where the signal has come, nor its place in the line, where that has passed."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        first = await ctx.wait_for_signal("a", timeout=60, default="in vain")
        return first, await ctx.wait_for_signal("b")

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        assert (await process.runtime.get_execution("run")).wake_at is not None
        if how == "in time":
            await run.signal("a", how)
        else:
            process.host.advance(60)
            await process.runtime.run_due()
        await run.settle()
        record = await process.runtime.get_execution("run")
        assert (record.waiting, record.wake_at) == (["signal b"], None)
        await run.signal("b", 1)
        assert await run.result() == [how, 1]

    drive(test)


def test_the_names_of_what_follows_do_not_depend_on_when_a_signal_came() -> None:
    """A step behind a wait has one idempotency key, whether the signal was there before or came in time."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.wait_for_signal("begin")
        await ctx.wait_for_signal("s", timeout=60)
        return await ctx.step("cheap", cheap, 1)

    async def id_of_the_step(names: list[str]) -> str:
        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        for name in names:
            await run.signal(name)
            await run.settle()
        await run.result()
        history = [one.event for one in await process.runtime.history("run")]
        return next(event.id for event in history if isinstance(event, ev.StepCompleted))

    async def test() -> None:
        assert await id_of_the_step(["begin", "s"]) == await id_of_the_step(["s", "begin"])

    drive(test)


@pytest.mark.parametrize("between", [0, 1, 2])
def test_a_workflow_is_found_in_its_ancestry_wherever_it_stands(between: int) -> None:
    """The first of a chain, its last and those between are all refused, and nothing of the cycle is begun."""
    begun: list[str] = []

    def link(name: str, next_name: str) -> Any:
        @workflow(name=name)
        async def flow(ctx: Context) -> Any:
            begun.append(name)
            return await ctx.child(next_name)

        return flow

    names = ["first", *(f"between-{n}" for n in range(between))]
    flows = [link(name, after) for name, after in zip(names, [*names[1:], "first"], strict=True)]

    async def test() -> None:
        process = Process(*flows)
        with pytest.raises(CycleDetected, match=" > ".join([*names, "first"])):
            await (await process.runtime.start("first", id="run")).result()
        assert begun == names

    drive(test)


def test_a_branch_that_never_started_is_closed() -> None:
    """Nobody awaits it any more, and Python says nothing of a coroutine that was never awaited."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        with pytest.raises(ValueError, match="0"):
            await ctx.all(*(ctx.step("failing", failing, n) for n in range(3)), limit=1)
        return "done"

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert drive(lambda: ended(flow)) == "done"
        gc.collect()
    assert not [str(one.message) for one in said if "never awaited" in str(one.message)]


def test_what_a_callback_of_the_handler_raised_is_told() -> None:
    """Also what would end the process elsewhere: no task has it, so it is logged, and the run goes on."""

    def leaves() -> None:
        raise SystemExit("of a callback")

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        asyncio.get_running_loop().call_soon(leaves)
        return await ctx.step("cheap", cheap, "done")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        assert await run.result() == "done"
        told = [event.message for event in process.events if isinstance(event, LogLine)]
        assert [text for text in told if text.endswith("SystemExit")]

    drive(test)
