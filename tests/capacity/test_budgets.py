"""Named budgets: reserved before, settled after, once whatever crashes; and runs that wait for a top-up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import BudgetExceeded, Context, InvalidInput, NotFound, Runtime, StepInfo, workflow
from alkaline_edge.capacity import Budgets
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.support import drive


def with_budgets(test: Any, **given: Any) -> None:
    async def body() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host) as runtime:
            await test(Budgets(runtime, **given), host)

    drive(body)


def test_what_is_reserved_is_not_there_for_others_and_what_is_left_of_it_comes_back() -> None:
    """So parallel calls can't overshoot; what a call uses beyond its reservation is charged all the same."""

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        await budgets.set("team", tokens=100, usd=1.0)
        await budgets.reserve("team", "a", 60, 0.5)
        with pytest.raises(BudgetExceeded, match="40 that budget 'team' has left"):
            await budgets.reserve("team", "b", 41)
        with pytest.raises(BudgetExceeded, match="micro-usd"):
            await budgets.reserve("team", "b", 1, 0.6)
        await budgets.reserve("team", "b", 40)
        await budgets.settle("team", "a", 10, 0.1)
        state = await budgets.state("team")
        assert (state.spent, state.left()) == ([10, 100_000], [50, 900_000])
        await budgets.settle("team", "b", 70)
        assert (await budgets.state("team")).left() == [20, 900_000]

    with_budgets(test)


def test_a_call_is_charged_once_however_often_it_is_said() -> None:
    """By its key; and one that nobody settles counts as used after a while."""

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        await budgets.set("team", tokens=100)
        for _ in range(3):
            await budgets.reserve("team", "a", 60)
        for _ in range(3):
            await budgets.settle("team", "a", 50)
        await budgets.reserve("team", "lost", 30)
        host.advance(101)
        await budgets.reserve("team", "next", 20)
        state = await budgets.state("team")
        assert (state.spent, list(state.reserved)) == ([80, 0], ["next"])
        await budgets.settle("team", "lost", 1)
        assert (await budgets.state("team")).spent == [80, 0]

    with_budgets(test, hold=100)


def test_a_warning_comes_once_for_each_time_the_share_is_reached() -> None:
    """Again after a top-up."""
    heard: list[int] = []

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        await budgets.set("team", tokens=100, warn=0.8)
        for n in range(8):
            await budgets.reserve("team", str(n), 10)
            assert len(heard) == (n >= 7)
        await budgets.reserve("team", "9", 10)
        await budgets.top_up("team", 100)
        assert len(heard) == 1
        await budgets.reserve("team", "more", 80)
        assert len(heard) == 2

    with_budgets(test, on_warn=lambda budget: heard.append(budget.used(0)))


def test_a_top_up_counts_once_by_its_key() -> None:
    """Also when it is repeated because its answer was lost."""

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        await budgets.set("team", tokens=10)
        for _ in range(3):
            await budgets.top_up("team", 5, key="order 7")
        await budgets.top_up("team", 1)
        await budgets.top_up("team", 1)
        assert (await budgets.state("team")).limits == [17, None]

    with_budgets(test)


def make(at: list[Budgets], calls: list[str], wait: bool = True) -> Any:
    @workflow(name="agent")
    async def agent(ctx: Context, n: int) -> Any:
        async def call(info: StepInfo, prompt: str) -> dict[str, Any]:
            calls.append(prompt)
            return {"text": prompt.upper(), "tokens": 7}

        found = []
        for prompt in [f"{n}{letter}" for letter in "abc"]:
            found.append(await at[0].step(ctx, "team", call, prompt, tokens=10, used=lambda r: r["tokens"], wait=wait))
        return [each["text"] for each in found]

    return agent


def test_a_run_waits_for_a_top_up_and_goes_on_where_it_stood() -> None:
    """It is suspended meanwhile, in no process; what it did is not done again."""

    async def test() -> None:
        store = SimulatedStore()
        at: list[Budgets] = []
        calls: list[str] = []
        agent = make(at, calls)
        async with Runtime(SimulatedHost(store), workflows=[agent]) as runtime:
            at[:] = [Budgets(runtime)]
            await at[0].set("team", tokens=20)
            run = await runtime.start("agent", 1, id="a")
            await run.settle()
            assert (run.status, calls) == ("suspended", ["1a", "1b"])
            assert (await runtime.get_execution("a")).waiting == ["signal budget team"]
        async with Runtime(SimulatedHost(store), workflows=[agent]) as runtime:
            at[:] = [Budgets(runtime)]
            await at[0].top_up("team", 3)  # too little: it goes on waiting
            await runtime.settle("a")
            assert (await runtime.get_execution("a")).status == "suspended"
            await at[0].top_up("team", 10)
            assert await (await runtime.resume("a")).result() == ["1A", "1B", "1C"]
            assert calls == ["1a", "1b", "1c"]
            state = await at[0].state("team")
            assert (state.spent, state.reserved, state.waiting, state.telling) == ([21, 0], {}, [], [])

    drive(test)


def test_a_run_that_waits_goes_on_with_what_another_call_did_not_use() -> None:
    """What was reserved beyond what was used is free again, and whoever waits for the budget hears of it."""

    async def body() -> None:
        host = SimulatedHost()
        host.clock.auto = False

        async def call() -> str:
            return "called"

        @workflow
        async def asks(ctx: Context) -> Any:
            return await Budgets(runtime).step(ctx, "team", call, tokens=50, wait=True)

        async with Runtime(host, workflows=[asks]) as runtime:
            budgets = Budgets(runtime)
            await budgets.set("team", tokens=100)
            await budgets.reserve("team", "other", 80)
            run = await runtime.start(asks, id="a")
            await run.settle()
            assert (await runtime.get_execution("a")).waiting == ["signal budget team"]
            await budgets.settle("team", "other", 10)
            await runtime.run_due()
            await run.settle()
            assert (await runtime.get_execution("a")).result == "called"

    drive(body)


def test_a_run_that_does_not_wait_fails_with_what_is_left() -> None:
    """As with a budget of its own; and one that fails settles at nothing."""

    async def test() -> None:
        at: list[Budgets] = []

        @workflow
        async def breaks(ctx: Context) -> Any:
            def call() -> None:
                raise ValueError("no")

            return await at[0].step(ctx, "team", call, tokens=10)

        async with Runtime(SimulatedHost(), workflows=[make(at, [], wait=False), breaks]) as runtime:
            at[:] = [Budgets(runtime)]
            await at[0].set("team", tokens=20)
            with pytest.raises(ValueError, match="no"):
                await (await runtime.start(breaks)).result()
            assert (await at[0].state("team")).left() == [20, None]
            with pytest.raises(BudgetExceeded, match="6 that budget"):
                await (await runtime.start("agent", 1)).result()

    drive(test)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.sets(st.integers(1, 150), max_size=8),
    st.sampled_from(["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]),
)
def test_no_crash_charges_twice_forgets_a_charge_or_lets_runs_overshoot(
    runs: int, crash_at: set[int], kind: Any
) -> None:
    """Each call of each run is charged once, and at no moment more is spent or reserved than there is."""

    async def test() -> None:
        store = SimulatedStore()
        at: list[Budgets] = []
        calls: list[str] = []
        agent = make(at, calls)
        commits = 0

        async def life() -> None:
            """One process, until all rests or it dies."""
            died = asyncio.Event()

            def fault(_: int, verb: str) -> Any:
                nonlocal commits
                if verb != "commit":
                    return None
                commits += 1
                found = kind if commits in crash_at else None
                if found in ("crash", "crash-after"):
                    died.set()
                return found

            host = SimulatedHost(store, fault=fault)
            runtime = Runtime(host, workflows=[agent], lease=5)
            at[:] = [Budgets(runtime)]

            async def work() -> None:
                started = [await runtime.start("agent", n, id=f"r{n}", on_conflict="join") for n in range(runs)]
                await runtime.recover()
                for run in started:
                    await run.settle()

            working, dying = asyncio.ensure_future(work()), asyncio.ensure_future(died.wait())
            await asyncio.wait([working, dying], return_when=asyncio.FIRST_COMPLETED)
            host.dead = died.is_set()
            working.cancel()
            dying.cancel()
            await asyncio.gather(working, runtime.close(), return_exceptions=True)

        async with Runtime(SimulatedHost(store)) as outside:
            budgets = Budgets(outside)
            await budgets.set("team", tokens=21 * runs)
            for _ in range(len(crash_at) + 2):
                await life()
                await store.clock.sleep(6)
                state = await budgets.state("team")
                assert state.used(0) <= 21 * runs
            async with Runtime(SimulatedHost(store), workflows=[agent]) as last:
                at[:] = [Budgets(last)]
                await at[0].top_up("team", 3)  # the last call reserves three more than it uses
                for n in range(runs):
                    await (await last.resume(f"r{n}")).result()
            state = await budgets.state("team")
            assert state.spent == [21 * runs, 0]
            assert state.reserved == {}
            assert set(calls) == {f"{n}{letter}" for n in range(runs) for letter in "abc"}

    drive(test)


def test_what_is_no_budget_is_refused() -> None:
    """By each verb, and what is not there is not found."""

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        wrong: Any = budgets
        for ask in (
            wrong.set("a b", 1), wrong.set("a", -1), wrong.set("a", 1, warn=0), wrong.set("a", 1, warn="x"),
            wrong.reserve("a", "k", -1), wrong.top_up("a", 1.5), wrong.top_up("a", key=""), wrong.state(5),
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                await ask
        for ask in (budgets.state("a"), budgets.reserve("a", "k", 1), budgets.settle("a", "k"), budgets.top_up("a", 1)):
            with pytest.raises(NotFound, match="no budget"):
                await ask
        assert host.store.keys == []

    with_budgets(test)


def test_a_budget_with_other_limits_knows_what_was_spent() -> None:
    """Less than that leaves nothing; more leaves the rest."""

    async def test(budgets: Budgets, host: SimulatedHost) -> None:
        await budgets.set("team", tokens=100)
        await budgets.reserve("team", "a", 60)
        await budgets.settle("team", "a", 60)
        assert (await budgets.set("team", tokens=50)).left() == [0, None]
        assert (await budgets.set("team", tokens=70)).left() == [10, None]

    with_budgets(test)


def test_calls_that_reserve_at_the_same_moment_are_all_there() -> None:
    """Each process reads before the others write: none writes over what another has reserved."""

    async def test() -> None:
        store = SimulatedStore()
        all_of_them = [Budgets(Runtime(SimulatedHost(store, seed=n))) for n in range(5)]
        await all_of_them[0].set("team", tokens=100)
        came = await asyncio.gather(
            *(budgets.reserve("team", f"call {n}", 30) for n, budgets in enumerate(all_of_them)), return_exceptions=True
        )
        state = await all_of_them[0].state("team")
        assert came.count(None) == len(state.reserved) == 3
        assert state.left() == [10, None]

    drive(test)
