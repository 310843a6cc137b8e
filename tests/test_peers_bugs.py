"""Bugs that users of other engines reported, each as a test that fails when our remedy is taken out.

The issue numbers are those of notes/HOSTS.md, "Bugs that peers had".
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    Context,
    DeterminismError,
    InvalidInput,
    Retry,
    RunCancelled,
    StepError,
    workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive, kinds


def test_a_step_in_flight_is_not_dispatched_again_when_a_signal_arrives() -> None:
    """vercel/workflow#2780, inngest#4897, dbos-java#491: other events while a step runs do not start it twice."""
    started: list[int] = []

    async def test() -> None:
        release = asyncio.Event()

        async def slow() -> str:
            started.append(1)
            await release.wait()
            return "done"

        @workflow
        async def flow(ctx: Context) -> list[Any]:
            async with asyncio.TaskGroup() as group:
                step = group.create_task(ctx.step("slow", slow))
                signals = [await ctx.wait_for_signal("s") for _ in range(3)]
            return [step.result(), signals]

        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        for n in range(3):
            await run.signal("s", n)
            while "s" in (await process.runtime.store.keys_under("i/a/")):
                await asyncio.sleep(0)
        while sum(1 for e in process.events if type(e).__name__ == "SignalArrived") < 3:
            await asyncio.sleep(0)
        release.set()
        assert await run.result() == ["done", [0, 1, 2]]
        assert started == [1]
        await process.runtime.close()

    drive(test)


def test_signals_are_carried_over_continue_as_new_and_consumed_once() -> None:
    """durabletask-dotnet#387, temporal#4137: none is lost, none comes twice, and the run does not spin."""

    @workflow
    async def flow(ctx: Context, state: dict[str, Any]) -> Any:
        state["seen"].append(await ctx.wait_for_signal("s"))
        if len(state["seen"]) == 4:
            return state["seen"]
        ctx.continue_as_new(state)

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", {"seen": []}, id="a")
        for n in range(4):
            await run.signal("s", n, dedupe=f"key-{n}")
        assert await run.result() == [0, 1, 2, 3]
        assert (await process.runtime.get_execution("a")).generation == 3
        assert process.host.counts["commit"] < 30
        await process.runtime.close()

    drive(test)


def test_a_dedupe_key_holds_across_continue_as_new() -> None:
    """temporal#11968: a retried signal stays one signal when the run has gone on in a new history meanwhile."""

    @workflow
    async def flow(ctx: Context, seen: list[int]) -> Any:
        seen.append(await ctx.wait_for_signal("s"))
        if seen[-1] == 99:
            return seen
        ctx.continue_as_new(seen)

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", [], id="a")
        await run.signal("s", 1, dedupe="once")
        await run.settle()
        await run.signal("s", 1, dedupe="once")
        await run.signal("s", 99)
        assert await run.result() == [1, 99]
        await process.runtime.close()

    drive(test)


def test_a_signal_that_comes_before_the_handler_waits_is_kept() -> None:
    """hs-temporal#280: it is buffered, durably, until somebody asks for it."""

    async def work() -> int:
        return 1

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.sleep(60)
        await ctx.step("work", work)
        return [await ctx.wait_for_signal("early"), ctx.pending_signals("early")]

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.signal("early", "first")
        await run.signal("early", "second")
        await run.settle()
        await process.crash()
        run = await process.runtime.resume("a")
        assert await run.result() == ["first", ["second"]]
        await process.runtime.close()

    drive(test)


def test_signals_keep_their_order_live_and_on_replay() -> None:
    """temporal sdk-python#673: the order of arrival is the order of delivery, also between names and after a crash."""

    @workflow
    async def flow(ctx: Context) -> Any:
        seen = []
        await ctx.sleep(1)
        for name in ("a", "b", "a", "b", "a"):
            seen.append(await ctx.wait_for_signal(name))
        await ctx.wait_for_signal("go")
        return seen

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="r")
        for n, name in enumerate(("a", "a", "b", "a", "b")):
            await run.signal(name, n)
        await run.settle()
        process.host.advance(1)
        await process.runtime.run_due()
        await process.crash()
        await process.runtime.signal("r", "go")
        run = await process.runtime.resume("r")
        assert await run.result() == [0, 2, 1, 4, 3]
        await process.runtime.close()

    drive(test)


def test_a_timeout_keeps_its_deadline_over_restarts() -> None:
    """absurd#96, #138: a restart neither forgets a timeout nor starts it anew."""

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_signal("never", timeout=3600, default="timed out")

    async def test() -> None:
        process = Process(flow)
        started = process.host.now_ms()
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        for _ in range(5):
            await process.crash()
            await process.runtime.run_due()
        record = await process.runtime.get_execution("a")
        assert (record.status, record.wake_at) == ("suspended", started + 3_600_000)
        assert await (await process.runtime.resume("a")).result() == "timed out"
        assert process.host.now_ms() - started < 3_700_000
        await process.runtime.close()

    drive(test)


def test_recorded_time_never_goes_back_when_the_clock_does() -> None:
    """temporal#7030: ctx.now() and the times of commits only go forward, and timers still fire."""
    host = SimulatedHost()

    async def set_clock_back() -> None:
        host.advance(-7200)

    @workflow
    async def flow(ctx: Context) -> Any:
        before = ctx.now()
        await ctx.step("back", set_clock_back)
        middle = ctx.now()
        await ctx.sleep(5)
        return [before, middle, ctx.now()]

    async def test() -> None:
        process = Process(flow, host=host)
        run = await process.runtime.start("flow", id="a")
        before, middle, after = await run.result()
        assert before <= middle <= after
        times = [recorded.at for recorded in await process.runtime.history("a")]
        assert times == sorted(times)
        await process.runtime.close()

    drive(test)


def test_the_attempts_of_a_step_survive_a_restart() -> None:
    """dbos-ts#683: three attempts are three attempts, however often the process dies between them."""
    attempts: list[int] = []

    async def fail() -> None:
        attempts.append(1)
        raise ConnectionError("down")

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("fail", fail, retry=Retry(max_attempts=3, backoff=600, cap=600))
        except ConnectionError as error:
            return f"gave up: {error}"

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        for _ in range(2):
            await process.crash()
            process.host.advance(600)
            await process.runtime.run_due()
        assert await (await process.runtime.resume("a")).result() == "gave up: down"
        assert len(attempts) == 3
        await process.runtime.close()

    drive(test)


def test_a_cancel_is_not_swallowed_by_except_exception() -> None:
    """temporal sdk-python#620, absurd's SuspendTask: a broad handler does not eat the cancel; cleanup runs durably."""
    cleaned: list[str] = []

    async def clean() -> str:
        cleaned.append("clean")
        return "ok"

    @workflow
    async def flow(ctx: Context) -> str:
        try:
            while True:
                try:
                    await ctx.wait_for_signal("never")
                except Exception:
                    continue
        finally:
            await ctx.step("clean", clean)

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await run.cancel("enough")
        with pytest.raises(RunCancelled) as caught:
            await run.result()
        assert caught.value.detail["reason"] == "enough"
        assert cleaned == ["clean"]
        assert kinds(await process.runtime.history("a")) == ["Started", "CancelRequested", "StepCompleted", "Cancelled"]
        await process.runtime.close()

    drive(test)


def test_the_same_step_with_other_arguments_is_found() -> None:
    """durabletask#443, restate sdk-rust#443: the same name with other arguments is a divergence, and writes nothing."""

    async def fetch(url: str) -> str:
        return url

    @workflow(name="flow")
    async def old(ctx: Context) -> Any:
        await ctx.step("fetch", fetch, "https://a.example")
        return await ctx.wait_for_signal("go")

    @workflow(name="flow")
    async def changed(ctx: Context) -> Any:
        await ctx.step("fetch", fetch, "https://b.example")
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        process = Process(old)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        before = dict(process.host.store.entries)
        await process.crash(changed)
        with pytest.raises(DeterminismError) as caught:
            await (await process.runtime.resume("a")).result()
        assert "arguments of digest" in str(caught.value)
        assert process.host.store.entries == before
        await process.crash(old)
        await process.runtime.signal("a", "go", "on")
        assert await (await process.runtime.resume("a")).result() == "on"
        await process.runtime.close()

    drive(test)


def test_a_value_that_is_too_large_fails_its_step_and_not_the_run_for_ever() -> None:
    """pydantic-ai#7164, #7157: above the store's limits the step fails with a clear error; the run goes on."""
    from alkaline_edge.host import Capabilities

    async def huge() -> Any:
        return object()

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("huge", huge)
        except InvalidInput as error:
            return str(error)

    @workflow
    async def large(ctx: Context) -> Any:
        return len(await ctx.step("large", lambda: b"x" * 500_000))

    async def test() -> None:
        limits = Capabilities(
            "small", durability="volatile", max_value=70_000, max_batch_bytes=90_000, inline_limit=4_000
        )
        process = Process(flow, large, host=SimulatedHost(capabilities=limits))
        text = await (await process.runtime.start("flow", id="a")).result()
        assert "result is of type object" in text
        assert await (await process.runtime.start("large", id="b")).result() == 500_000
        await process.runtime.close()

    drive(test)


def test_the_live_value_is_the_stored_value() -> None:
    """windmill#10367: what the handler sees the first time is what a replay will see."""
    seen: list[Any] = []

    async def make() -> Any:
        return {"pair": (1, 2), "b": 1, "a": 2}

    @workflow
    async def flow(ctx: Context) -> Any:
        value = await ctx.step("make", make)
        seen.append((value, list(value)))
        await ctx.wait_for_signal("go")
        return value

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        await (await process.runtime.resume("a")).result()
        live, replayed = seen
        assert live == replayed == ({"a": 2, "b": 1, "pair": [1, 2]}, ["a", "b", "pair"])
        await process.runtime.close()

    drive(test)


def test_big_integers_survive() -> None:
    """inngest-js#375: integers beyond 64 bits come back as they were."""
    big = [2**63, -(2**63), 2**64, 2**200 + 1, -(2**200)]

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.step("big", lambda: big)

    async def test() -> None:
        process = Process(flow)
        assert await (await process.runtime.start("flow", id="a")).result() == big
        assert (await process.runtime.get_execution("a")).result == big
        await process.runtime.close()

    drive(test)


def test_a_charge_is_made_once_however_often_it_is_replayed() -> None:
    """pydantic-ai-harness#531: the record, the meter and the budget see one charge."""

    class Meter:
        def __init__(self) -> None:
            self.charges: list[tuple[str, int, str]] = []

        def record(self, execution: str, tokens: int, label: str) -> None:
            self.charges.append((execution, tokens, label))

    meter = Meter()

    @workflow(budget=Budget(tokens=10, usd=1.0))
    async def flow(ctx: Context) -> Any:
        ctx.spend(6, "model", usd=1.0)
        await ctx.step("paid", lambda: 1, cost=3)
        await ctx.wait_for_signal("go")
        return "done"

    async def test() -> None:
        process = Process(flow, meter=meter)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        for _ in range(3):
            await process.crash()
            await process.runtime.resume("a")
            await process.runtime.settle("a")
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == "done"
        assert (await process.runtime.get_execution("a")).spent == {"tokens": 9, "usd": 1.0}
        assert meter.charges == [("a", 6, "model"), ("a", 3, "paid")]
        await process.runtime.close()

    drive(test)


def test_parallel_steps_can_not_overshoot_the_budget() -> None:
    """qwen-code#5231: a cost is reserved before its step starts, so branches can't all see the same rest."""
    ran: list[int] = []

    async def paid(n: int) -> int:
        ran.append(n)
        return n

    @workflow(budget=Budget(tokens=100))
    async def flow(ctx: Context) -> Any:
        results = await asyncio.gather(*(ctx.step("paid", paid, n, cost=40) for n in range(5)), return_exceptions=True)
        return ["refused" if isinstance(result, BudgetExceeded) else result for result in results]

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        assert await run.result() == [0, 1, "refused", "refused", "refused"]
        assert ran == [0, 1]
        assert (await process.runtime.get_execution("a")).spent["tokens"] == 80
        await process.runtime.close()

    drive(test)


def test_parallel_children_share_one_budget() -> None:
    """The same between runs: children that spend at the same time charge one shared account."""

    async def think() -> int:
        await asyncio.sleep(0)
        return 1

    @workflow
    async def child(ctx: Context, n: int) -> int:
        for _ in range(10):
            await ctx.step("think", think, cost=lambda _: 10)
        return n

    @workflow(budget=Budget(tokens=120))
    async def parent(ctx: Context) -> Any:
        results = await asyncio.gather(*(ctx.child("child", n) for n in range(3)), return_exceptions=True)
        return [type(result).__name__ for result in results]

    async def test() -> None:
        process = Process(parent, child)
        run = await process.runtime.start("parent", id="p")
        assert "BudgetExceeded" in await run.result()
        record = await process.runtime.get_execution("p")
        shared = process.host.store.entries[f"g/{record.run}"]
        tokens, _ = process.runtime.codec.decode(shared.value)
        assert 120 <= tokens <= 140  # in-flight steps of unknown cost may end one call over; never a call each more
        children = await process.runtime.list_executions(workflow="child")
        assert sum(each.spent["tokens"] for each in children) == tokens
        await process.runtime.close()

    drive(test)


def test_branches_that_race_on_equal_steps_keep_their_own_results() -> None:
    """vercel/workflow#4090, #2300, #3305: ids belong to branches, so a replay can't swap their results."""
    order: list[str] = []

    async def test() -> None:
        gates = {"x": asyncio.Event(), "y": asyncio.Event()}

        async def fetch(which: str) -> str:
            await gates[which].wait()
            order.append(which)
            return which

        @workflow
        async def flow(ctx: Context) -> Any:
            async def branch(which: str) -> list[str]:
                return [await ctx.step("fetch", fetch, which), await ctx.step("fetch", fetch, which)]

            both = await ctx.all(branch("x"), branch("y"))
            await ctx.wait_for_signal("go")
            return both

        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        gates["y"].set()
        while order.count("y") < 2:
            await asyncio.sleep(0)
        gates["x"].set()
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == [["x", "x"], ["y", "y"]]
        assert order == ["y", "y", "x", "x"]
        await process.runtime.close()

    drive(test)


def test_a_zombie_of_a_purged_run_can_not_write_into_the_run_that_has_its_id_now() -> None:
    """HOSTS.md: "absent" does not fence; the random run id in the keys and the record's version do."""

    async def test() -> None:
        release = asyncio.Event()

        async def slow() -> str:
            await release.wait()
            return "zombie"

        @workflow
        async def flow(ctx: Context, kind: str) -> Any:
            if kind == "old":
                return await ctx.step("slow", slow)
            return await ctx.wait_for_signal("go")

        process = Process(flow)
        zombie = process.runtime

        async def frozen(seconds: float) -> None:
            await release.wait()

        process.host.sleep = frozen  # type: ignore[method-assign]  # a process that is not scheduled renews no lease
        await zombie.start("flow", "old", id="a")
        await asyncio.sleep(0)
        other = Process(flow, host=process.host.reopen())
        process.host.advance(60)  # the zombie's lease has run out, and it does not know
        await other.runtime.cancel("a")
        with pytest.raises(RunCancelled):
            await other.runtime.result("a", None)
        await other.runtime.delete("a")
        run = await other.runtime.start("flow", "new", id="a")
        await run.settle()
        release.set()
        for _ in range(50):
            await asyncio.sleep(0)
        await run.signal("go", "right")
        assert await run.result() == "right"
        assert "zombie" not in str(await other.runtime.history("a"))
        await zombie.close()
        await other.runtime.close()

    drive(test)


def test_an_error_comes_back_the_same_on_replay_without_its_stack_trace() -> None:
    """restate sdk-typescript#656: no traceback in the record; type, message and code are the same live and replayed."""
    seen: list[tuple[Any, ...]] = []

    class Broken(Exception):
        code = "E42"

    async def fail() -> None:
        raise Broken("could not open /home/somebody/secret/file.txt with token=abcdef123456")

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step("fail", fail)
        except StepError as error:
            seen.append((type(error).__name__, error.type, str(error), error.code))
        await ctx.wait_for_signal("go")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        await (await process.runtime.resume("a")).result()
        assert seen[0] == seen[1] == ("Broken", "Broken", "could not open <path> with token=<secret>", "E42")
        failed = [r.event for r in await process.runtime.history("a") if isinstance(r.event, ev.StepFailed)]
        assert "Traceback" not in str(failed)
        assert "somebody" not in str(failed)
        await process.runtime.close()

    drive(test)
