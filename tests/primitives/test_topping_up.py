"""A run's budget that is used up: it fails, warns, or waits for a top-up and goes on where it stood; charged once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta
from typing import Any

import pytest

from alkaline_edge import (
    AlkalineError,
    Budget,
    BudgetExceeded,
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Retry,
    Run,
    Runtime,
    replay,
    workflow,
)  # fmt: skip
from alkaline_edge.budget import TOP_UP
from alkaline_edge.lifecycle import BudgetWarned
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import COMMIT_FAULTS, fault_at
from tests.support import Process, drive

ran: list[Any] = []


async def call(n: Any) -> Any:
    ran.append(n)
    return n


def host() -> SimulatedHost:
    made = SimulatedHost()
    made.clock.auto = False
    return made


PAUSES = Budget(tokens=100, on_exceeded="pause")


@workflow(name="agent", budget=PAUSES)
async def agent(ctx: Context, costs: list[int]) -> list[Any]:
    return [await ctx.step("call", call, n, cost=cost) for n, cost in enumerate(costs)]


def test_a_run_waits_for_its_top_up_and_goes_on_where_it_stood() -> None:
    """No step runs again, none is charged twice, and one key counts once; a replay comes to the same."""
    ran.clear()

    async def test() -> None:
        async with Runtime(host(), workflows=[agent]) as runtime:
            run = await runtime.start(agent, [60, 40, 30, 30], id="a")
            await run.settle()
            record = await runtime.get_execution("a")
            assert (run.status, record.waiting, record.spent["tokens"]) == ("suspended", [f"signal {TOP_UP}"], 100)
            await runtime.top_up("a", 29, key="one")
            await run.settle()
            assert ran == [0, 1]
            for _ in range(2):
                await runtime.top_up("a", 1, key="two")
                await run.settle()
            assert ran == [0, 1, 2]
            await runtime.top_up("a", 30)
            assert await run.result() == [0, 1, 2, 3]
            assert ran == [0, 1, 2, 3]
            assert (await runtime.get_execution("a")).spent["tokens"] == 160
            assert all(each.ok for each in replay.check({"a": await runtime.export("a")}, [agent]))
            with pytest.raises(ConflictError):
                await runtime.top_up("a", 1)

    drive(test)


def test_a_budget_that_fails_may_be_topped_up_before() -> None:
    """And fails at the same place on a replay."""

    @workflow(name="failing", budget=Budget(tokens=100))
    async def failing(ctx: Context) -> Any:
        await ctx.step("call", call, 0, cost=90)
        await ctx.wait_for_signal("go")
        try:
            await ctx.step("call", call, 1, cost=90)
        except BudgetExceeded as error:
            return error.detail["limit"]

    async def test() -> None:
        for more, result in ((0, 100), (79, 179), (80, None)):
            async with Runtime(host(), workflows=[failing]) as runtime:
                run = await runtime.start(failing, id="a")
                await run.settle()
                await runtime.top_up("a", more)
                await run.signal("go")
                assert await run.result() == result
                assert all(each.ok for each in replay.check({"a": await runtime.export("a")}, [failing]))

    drive(test)


def test_what_was_spent_holds_the_next_step_up_whatever_that_costs() -> None:
    """``ctx.spend`` over the limit is booked and raises nothing; usd and tokens alike."""

    @workflow(name="spender", budget=Budget(usd=0.5, on_exceeded="pause"))
    async def spender(ctx: Context) -> Any:
        ctx.spend(5, usd=0.7)
        return await ctx.step("call", call, 1)

    async def test() -> None:
        async with Runtime(host(), workflows=[spender]) as runtime:
            run = await runtime.start(spender, id="a")
            await run.settle()
            assert run.status == "suspended"
            await runtime.top_up("a", 10_000, usd=0.1999)
            await run.settle()
            assert run.status == "suspended"
            await runtime.top_up("a", usd=0.0001)
            assert await run.result() == 1

    drive(test)


def test_steps_side_by_side_wait_for_each_others_reservations() -> None:
    """What one gives back another may take, without a top-up: no branch waits for ever, and none overshoots."""
    inside: list[int] = []
    most: list[int] = []

    async def work(n: int) -> int:
        inside.append(30)
        most.append(sum(inside))
        await asyncio.sleep(0)
        inside.pop()
        return 5

    @workflow(name="wide", budget=PAUSES)
    async def wide(ctx: Context) -> Any:
        async def one(n: int) -> Any:
            with contextlib.suppress(ValueError):
                await ctx.step("refused", fails, cost=30)
            return await ctx.step("work", work, n, cost=30)

        return await ctx.map(one, range(3))

    async def fails() -> None:
        raise ValueError

    async def test() -> None:
        async with Runtime(host(), workflows=[wide]) as runtime:
            run = await runtime.start(wide, id="a")
            assert await run.result() == [5, 5, 5]
            assert max(most) <= 100
            assert all(each.ok for each in replay.check({"a": await runtime.export("a")}, [wide]))

    drive(test)


def test_what_a_failed_step_gives_back_lets_the_next_one_begin() -> None:
    """A step that waits for room in the budget needs no top-up once the one beside it has failed."""

    async def fails() -> None:
        raise ValueError

    @workflow(name="wide", budget=PAUSES)
    async def wide(ctx: Context) -> Any:
        async def one() -> None:
            with contextlib.suppress(ValueError):
                await ctx.step("refused", fails, cost=60)

        return await ctx.all(one(), ctx.step("work", call, 7, cost=60))

    async def test() -> None:
        async with Runtime(host(), workflows=[wide]) as runtime:
            run = await runtime.start(wide, id="a")
            await run.settle()
            assert run.status == "completed"
            assert await run.result() == [None, 7]

    drive(test)


def test_time_that_is_used_up_stops_the_next_step() -> None:
    """Of a run that fails and of one that waits; across a new history the time goes on."""

    @workflow(name="slow")
    async def slow(ctx: Context, n: int) -> Any:
        await ctx.step("call", call, n)
        await ctx.sleep(50)
        if n < 1:
            ctx.continue_as_new(n + 1)
        return await ctx.step("call", call, "last")

    async def test() -> None:
        for seconds, waits in ((101, False), (100, True), (timedelta(seconds=60), True)):
            made = host()
            async with Runtime(made, workflows=[slow]) as runtime:
                budget = Budget(seconds=seconds, on_exceeded="pause")
                run = await runtime.start(slow, 0, id="a", budget=budget)
                for _ in range(2):
                    await run.settle()
                    made.advance(50)
                    await runtime.run_due()
                if waits:
                    assert run.status == "suspended"
                    await runtime.top_up("a", seconds=50)
                assert await run.result() == "last"
                assert all(each.ok for each in replay.check({"a": await runtime.export("a")}, [slow]))
            async with Runtime(host(), workflows=[slow]) as runtime:
                run = await runtime.start(slow, 0, id="a", budget=Budget(seconds=50))
                runtime.host.advance(50)  # type: ignore[attr-defined]
                await runtime.run_due()
                runtime.host.advance(50)  # type: ignore[attr-defined]
                with pytest.raises(BudgetExceeded, match="seconds after the run did"):
                    await run.result()

    drive(test)


def test_a_new_history_has_what_the_run_was_topped_up_by() -> None:
    """The limit is that of the run, however often it continues as new."""

    @workflow(name="again", budget=PAUSES)
    async def again(ctx: Context, n: int) -> Any:
        await ctx.step("call", call, n, cost=60)
        if n < 3:
            ctx.continue_as_new(n + 1)
        return n

    async def test() -> None:
        async with Runtime(host(), workflows=[again]) as runtime:
            run = await runtime.start(again, 0, id="a")
            await run.settle()
            await runtime.top_up("a", 80)
            await run.settle()
            record = await runtime.get_execution("a")
            assert (record.generation, record.waiting, record.spent["tokens"]) == (3, [f"signal {TOP_UP}"], 180)
            await runtime.top_up("a", 60)
            assert await run.result() == 3

    drive(test)


def test_a_child_waits_for_a_top_up_of_its_own() -> None:
    """It has its parent's policy, spends from its parent's budget, and goes on by its own id."""

    @workflow(name="parent", budget=PAUSES)
    async def parent(ctx: Context) -> Any:
        return await ctx.child("agent", [60, 60], id="kid")

    async def test() -> None:
        async with Runtime(host(), workflows=[parent, agent]) as runtime:
            run = await runtime.start(parent, id="a")
            await run.settle()
            await Run(runtime, "kid").settle()
            assert (await runtime.get_execution("kid")).waiting == [f"signal {TOP_UP}"]
            await runtime.top_up("kid", 20)
            assert await run.result() == [0, 1]

    drive(test)


def test_listeners_are_warned_once_in_each_run() -> None:
    """At the share that is asked for, and again after a top-up; a process that takes it up later tells nothing anew."""

    async def test() -> None:
        process = Process(agent, host=host())
        budget = Budget(tokens=100, warn=0.8, on_exceeded="pause")
        await (await process.runtime.start(agent, [79, 1, 20, 150, 100], id="a", budget=budget)).settle()

        def warned() -> list[tuple[str, int, int]]:
            return [(e.unit, e.used, e.limit) for e in process.events if isinstance(e, BudgetWarned)]

        assert warned() == [("tokens", 80, 100)]
        await process.crash()
        await process.runtime.recover()
        await process.runtime.top_up("a", 200)
        await Run(process.runtime, "a").settle()
        assert warned() == [("tokens", 80, 100), ("tokens", 250, 300)]
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("seed", range(8))
def test_charged_once_and_never_over_whatever_crashes(seed: int) -> None:
    """Branches, retries, faults of the store, crashes and top-ups in any order: the sum is that of what completed."""
    rng = random.Random(seed)
    costs = [rng.choice([0, 1, 10, 40]) for _ in range(rng.randrange(2, 8))]
    flaky: set[Any] = {n for n in range(len(costs)) if rng.random() < 0.3}

    async def once(n: int) -> int:
        if n in flaky:
            flaky.discard(n)
            raise ConnectionError
        return n

    @workflow(name="wide", budget=Budget(tokens=50, on_exceeded="pause"))
    async def wide(ctx: Context) -> Any:
        retry = Retry(max_attempts=2, backoff=0)
        return await ctx.map(
            lambda n: ctx.step("once", once, n, cost=costs[n], retry=retry), range(len(costs)), limit=3
        )

    async def test() -> None:
        process = Process(wide, host=host())
        await process.runtime.start(wide, id="a")
        for turn in range(40):
            if rng.random() < 0.5:
                process.host.fault = fault_at(process.host.calls + rng.randrange(1, 9), rng.choice(COMMIT_FAULTS))
            try:
                await process.runtime.recover()
                await process.runtime.run_due()
                await Run(process.runtime, "a").settle()
                more = rng.choice([0, 5, 60])
                record = await process.runtime.get_execution("a")
                if record.finished:
                    break
                await process.runtime.top_up("a", more, key=f"t{turn}")
            except (SimulatedCrash, AlkalineError):
                pass
            await process.crash()
        process.host.fault = None
        await process.runtime.resume("a")
        if not (await process.runtime.get_execution("a")).finished:
            await process.runtime.top_up("a", 1_000)
        assert await Run(process.runtime, "a").result() == [*range(len(costs))]
        assert (await process.runtime.get_execution("a")).spent["tokens"] == sum(costs)
        assert all(each.ok for each in replay.check({"a": await process.runtime.export("a")}, [wide]))
        await process.runtime.close()

    drive(test)


def test_a_run_that_waits_may_be_forked_and_cancelled() -> None:
    """Who waits is cancelled like any other; a fork has the policy too."""

    async def test() -> None:
        async with Runtime(host(), workflows=[agent]) as runtime:
            run = await runtime.start(agent, [60, 60], id="a")
            await run.settle()
            fork = await runtime.fork("a", 2)
            await fork.resume()
            await fork.settle()
            assert (await runtime.get_execution(fork.id)).waiting == [f"signal {TOP_UP}"]
            await runtime.top_up(fork.id, 50)
            assert await fork.result() == [0, 1]
            await run.cancel()
            await run.settle()
            assert run.status == "cancelled"

    drive(test)


def test_what_can_not_be_is_refused() -> None:
    """At the call that gives it, with nothing written."""

    async def test() -> None:
        wrong: list[dict[str, Any]] = [
            {"seconds": 0}, {"seconds": "x"}, {"on_exceeded": "stop"}, {"on_exceeded": None}, {"warn": 0},
            {"warn": 1.1}, {"warn": True}, {"warn": "x"},
        ]  # fmt: skip
        for given in wrong:
            with pytest.raises(InvalidInput):
                Budget(**given)
        async with Runtime(host(), workflows=[agent]) as runtime:
            await (await runtime.start(agent, [60, 60], id="a")).settle()
            for amounts in ({"tokens": -1}, {"tokens": 1.5}, {"usd": -1}, {"seconds": -1}, {"key": ""}):
                with pytest.raises(InvalidInput):
                    await runtime.top_up("a", **amounts)  # type: ignore[arg-type]
            with pytest.raises(NotFound):
                await runtime.top_up("b", 1)
            with pytest.raises(InvalidInput, match="call top_up"):
                await runtime.signal("a", TOP_UP, [1, 0, 0])

    drive(test)
