"""continue_as_new: nothing before it is lost, nothing is carried twice, and one that does it for ever stays bounded."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from alkaline_edge import Budget, BudgetExceeded, Context, Run, RunCancelled, Runtime, workflow
from alkaline_edge.lifecycle import Emission, LogLine
from alkaline_edge.replay import check
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from tests.simulation.engine import CAPABILITIES
from tests.support import Process, drive


class Meter(list[int]):
    """Adds up what it is told."""

    def record(self, execution: str, tokens: int, label: str) -> None:
        """One charge."""
        self.append(tokens)


@workflow
async def kid(ctx: Context) -> int:
    ctx.spend(1, "kid")
    return 1


@workflow(budget=Budget(tokens=100))
async def spender(ctx: Context, given: list[Any]) -> Any:
    """Charges, sets, emits and logs right before it continues; ``shared``: a child has made the budget a shared one."""
    n, shared = given
    if shared and n == 0:
        await ctx.child(kid, id="kid")
    if n == 4:
        return ["never refused", ctx.execution.generation]
    try:
        ctx.spend(40, f"round {n}")
    except BudgetExceeded:
        return ["refused", n]
    ctx.set_attributes(stage=n, **{f"at{n}": True})
    ctx.emit("round", [n, "x" * 700])
    ctx.log("info", f"round {n}")
    ctx.continue_as_new([n + 1, shared])


@pytest.mark.parametrize("shared", [False, True])
def test_what_stands_right_before_it_is_kept_and_told(shared: bool) -> None:
    """The charge counts in the next generation, too, and in the shared account; listeners and the meter are told."""

    async def body() -> None:
        host, told, meter = SimulatedHost(capabilities=CAPABILITIES), [], Meter()
        runtime = Runtime(host, workflows=[spender, kid], on_event=told.append, meter=meter)
        run = await runtime.start(spender, [0, shared], id="r")
        assert await run.result() == ["refused", 2]
        record = await runtime.get_execution("r")
        assert record.attributes == {"stage": 1, "at0": True, "at1": True}
        assert record.spent["tokens"] == 120
        assert sum(meter) == 120 + shared
        assert [event.data[0] for event in told if isinstance(event, Emission)] == [0, 1]
        assert [event.message for event in told if isinstance(event, LogLine)] == ["round 0", "round 1"]
        found = await runtime.list_executions(attributes={"stage": 1})
        assert [one.id for one in found.items] == ["r"]
        if shared:
            account = (await host.get([f"g/{record.run}"]))[0]
            assert account is not None
            assert runtime.codec.decode(account.value)[0] == 121

    drive(body)


@pytest.mark.parametrize("kind", ["crash", "crash-after"])
def test_a_crash_at_any_callback_loses_none_of_it(kind: str) -> None:
    """Charges, attributes and what is refused are the same wherever a process dies."""

    async def body() -> None:
        at = 0
        while True:
            at += 1
            process = Process(spender, kid, host=SimulatedHost(capabilities=CAPABILITIES))
            process.host.fault = lambda n, verb, at=at: kind if n == at else None  # type: ignore[assignment, misc]
            result: Any = None
            for _ in range(4):
                try:
                    run = await process.runtime.start(spender, [0, True], id="r", on_conflict="join")
                    result = await run.result()
                    break
                except SimulatedCrash:
                    await process.crash()
            assert result == ["refused", 2], at
            record = await process.runtime.get_execution("r")
            assert record.spent["tokens"] == 120, at
            assert record.attributes == {"stage": 1, "at0": True, "at1": True}
            entry = (await process.host.get([f"g/{record.run}"]))[0]
            assert entry is not None
            assert process.runtime.codec.decode(entry.value)[0] == 121, at
            if process.host.calls and not process.host.dead and at > process.host.calls:
                return  # it went through without a crash

    drive(body)


@workflow
async def postman(ctx: Context, given: list[Any]) -> Any:
    """Takes a few signals a generation, of each of two names in turn, and goes on as new with the rest."""
    log, left = given
    for _ in range(7):
        for name in ("a", "b"):
            if ctx.pending_signals(name):
                payload = await ctx.wait_for_signal(name)
                log.append([name, payload[0], len(payload[1])])
                left -= 1
    if not left:
        return log
    if not ctx.pending_signals("a") and not ctx.pending_signals("b"):
        await ctx.sleep(1)
    ctx.continue_as_new([log, left])


@pytest.mark.parametrize("seed", range(4))
def test_carried_signals_are_neither_lost_nor_doubled_nor_reordered(seed: int) -> None:
    """Hundreds, of sizes around the limits of the host, sent while generation follows generation, with crashes."""
    rng = random.Random(seed)
    count = (1, 60, 150, 250)[seed]
    sizes = [rng.choice([0, 1, 30, 590, 600, 610, 1900, 1950, rng.randrange(1950)]) for _ in range(count)]
    names = [rng.choice("ab") for _ in range(count)]

    async def body() -> None:
        process = Process(postman, host=SimulatedHost(capabilities=CAPABILITIES, seed=seed))
        await process.runtime.start(postman, [[], count], id="r")
        for n in range(count):
            await process.runtime.signal("r", names[n], [n, "x" * sizes[n]])
            if rng.random() < 0.02:
                await process.crash()
                await process.runtime.recover()
            if rng.random() < 0.2:
                await process.host.sleep(rng.random() * 2)
        await process.runtime.resume("r")
        log = await Run(process.runtime, "r").result()
        for name in "ab":
            assert [entry[1:] for entry in log if entry[0] == name] == [
                [n, sizes[n]] for n in range(count) if names[n] == name
            ]
        assert all(one.ok for one in check(await process.runtime.export("r"), [postman]))

    drive(body)


def test_large_carried_signals_move_with_the_run_and_a_fork_has_them() -> None:
    """They stand in a blob of the header: a bundle, a fork, a replay and a hand-over find it."""

    @workflow
    async def holder(ctx: Context, n: int) -> Any:
        if n == 0:
            await ctx.wait_for_signal("go")
            ctx.continue_as_new(1)
        await ctx.wait_for_signal("end")
        return [len(await ctx.wait_for_signal("s")) for _ in range(20)]

    async def body() -> None:
        here = Runtime(SimulatedHost(capabilities=CAPABILITIES), workflows=[holder])
        run = await here.start(holder, 0, id="r")
        for n in range(20):
            await run.signal("s", "x" * (n * 90))
        await run.signal("go")
        await run.settle()
        fork = await here.fork("r", 1)
        bundle = await here.export("r", handoff=True)
        assert all(one.ok for one in check(bundle, [holder]))
        there = Runtime(SimulatedHost(capabilities=CAPABILITIES, seed=1), workflows=[holder])
        for runtime, id in ((here, fork.id), (there, "r")):
            if runtime is there:
                await there.import_(bundle, mode="take_over")
            await runtime.signal(id, "end")
            resumed = await runtime.resume(id)
            assert await resumed.result() == [n * 90 for n in range(20)]

    drive(body)


@pytest.mark.parametrize("where", ["before", "in finally", "behind"])
def test_a_cancel_that_meets_continue_as_new_is_honoured(where: str) -> None:
    """Whether it comes before the end of a generation, while that cleans up, or behind it: the run is cancelled."""

    async def body() -> None:
        process = Process()

        @workflow
        async def flow(ctx: Context, n: int) -> None:
            async def asks() -> None:
                if n == 3:
                    await process.runtime.cancel("r", "enough")

            if where == "before":
                await ctx.step("ask", asks)
            try:
                if n > 50:
                    return
                ctx.continue_as_new(n + 1)
            finally:
                if where == "in finally":
                    await ctx.step("ask", asks)
                    await ctx.step("more", lambda: 1)

        process.workflows.append(flow)
        process.runtime = process._new()
        run = await process.runtime.start(flow, 0, id="r")
        if where == "behind":
            await process.runtime.cancel("r", "enough")
        with pytest.raises(RunCancelled, match="enough"):
            await run.result()

    drive(body)


def test_a_failure_behind_it_is_the_outcome_and_an_ordinary_error_in_a_group_is_too() -> None:
    """Cleanup that raises takes the place of the decision; so does another task of the same TaskGroup."""

    @workflow
    async def flow(ctx: Context, how: str) -> str:
        async def again() -> None:
            ctx.continue_as_new("done")

        async def fails() -> None:
            try:
                await ctx.sleep(100)
            finally:
                raise ValueError("cleanup")

        if how == "finally":
            try:
                ctx.continue_as_new("done")
            finally:
                raise ValueError("cleanup")
        if how in ("group", "group fails"):
            async with asyncio.TaskGroup() as group:
                group.create_task(again())
                group.create_task(fails() if how == "group fails" else ctx.sleep(100))  # type: ignore[arg-type]
        if how == "nested groups":
            async with asyncio.TaskGroup(), asyncio.TaskGroup() as group:
                group.create_task(again())
        return how

    async def body() -> None:
        process = Process(flow)
        for how in ("group", "nested groups"):
            assert await (await process.runtime.start(flow, how)).result() == "done"
        for how in ("finally", "group fails"):
            run = await process.runtime.start(flow, how)
            with pytest.raises(Exception, match=r"cleanup|unhandled errors"):
                await run.result()
            assert (await process.runtime.get_execution(run.id)).status == "failed"

    drive(body)


@pytest.mark.parametrize("what", ["cancel", "pause"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_run_that_goes_on_as_new_without_a_wait_hears_what_it_is_asked(steps: int, what: str) -> None:
    """Each generation is over before its driver first waits, and still a cancel or a pause is seen within two."""

    @workflow
    async def forever(ctx: Context, n: int) -> None:
        for _ in range(steps):
            await ctx.step("count", lambda: n)
        ctx.continue_as_new(n + 1)

    async def test() -> None:
        process = Process(forever)
        run = await process.runtime.start("forever", 0, id="r")
        for _ in range(30):
            await asyncio.sleep(0)
        await (run.cancel("enough") if what == "cancel" else run.pause())
        asked = (await process.runtime.get_execution("r")).generation
        await run.settle()
        record = await process.runtime.get_execution("r")
        assert record.status == ("cancelled" if what == "cancel" else "paused")
        assert record.generation <= asked + 2
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("then", ["resume", "cancel", "pause and resume", "resume and pause"])
@pytest.mark.parametrize("crash", [False, True])
def test_a_run_without_a_step_that_is_paused_stands_until_it_is_resumed(then: str, crash: bool) -> None:
    """Nothing that it is sent takes it up meanwhile: it would go on for a generation each time. All of it is kept."""
    started: list[int] = []
    enough: list[int] = []

    @workflow
    async def forever(ctx: Context, n: int) -> Any:
        started.append(n)
        if n in enough:
            return [await ctx.wait_for_signal("end") for _ in range(3)]
        if not enough and n > 50:
            raise AssertionError("it was not heard")
        ctx.continue_as_new(n + 1)

    async def test() -> None:
        process = Process(forever)
        run = await process.runtime.start("forever", 0, id="r")
        for _ in range(30):
            await asyncio.sleep(0)
        await run.pause()
        await run.settle()
        before = await process.runtime.get_execution("r")
        assert (before.status, before.owner, before.waiting) == ("paused", None, ["resume"])
        if crash:
            await process.crash()
        runtime, generations = process.runtime, len(started)
        for n in range(3):
            await runtime.signal("r", "end", n)
            await runtime.run_due()
            await asyncio.wait_for(runtime.settle("r"), 5)
        stop = asyncio.Event()
        serving = asyncio.ensure_future(runtime.serve(stop))
        for _ in range(100):
            await asyncio.sleep(0)
        assert (await runtime.get_execution("r")).cursor_length == 1
        assert len(started) == generations
        enough.append(started[-1] + 2)
        for word in then.split(" and "):
            await getattr(runtime, word)("r")
        if then == "resume and pause":
            await runtime.resume("r")
        run = Run(runtime, "r")
        if then == "cancel":
            with pytest.raises(RunCancelled):
                await run.result(timeout=50)
        else:
            assert await run.result(timeout=50) == [0, 1, 2]
        assert all(one.ok for one in check(await runtime.export("r"), forever))
        stop.set()
        await serving
        await runtime.close()

    drive(test)


def test_one_value_alone_right_before_it_is_recorded_and_told() -> None:
    """A burst has a commit of its own; a single value goes with the end of the generation."""

    @workflow
    async def says(ctx: Context, n: int) -> int:
        if n == 0:
            ctx.emit("last", "word")
            ctx.continue_as_new(1)
        return n

    async def body() -> None:
        process = Process(says)
        assert await (await process.runtime.start(says, 0, id="r")).result() == 1
        assert [event.data for event in process.events if isinstance(event, Emission)] == ["word"]
        await process.runtime.close()

    drive(body)


def test_one_charge_alone_right_before_it_counts_for_all_who_share_the_budget() -> None:
    """The next generation, and the children of the one before it, have as much less to spend."""

    @workflow(budget=Budget(tokens=100))
    async def shares(ctx: Context, n: int) -> str:
        if n == 0:
            await ctx.child(kid, id="kid")
            ctx.spend(40, "last")
            ctx.continue_as_new(1)
        try:
            ctx.spend(60, "too much")
        except BudgetExceeded:
            return "refused"
        return "taken"

    async def body() -> None:
        host = SimulatedHost()
        runtime = Runtime(host, workflows=[shares, kid])
        run = await runtime.start(shares, 0, id="r")
        await run.settle()
        record = await runtime.get_execution("r")
        account = (await host.get([f"g/{record.run}"]))[0]
        assert account is not None
        assert runtime.codec.decode(account.value)[0] == 101
        assert await run.result() == "refused"
        await runtime.close()

    drive(body)
