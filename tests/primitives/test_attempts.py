"""Blocking steps: a plain function runs in a thread until it is known to be quick, and starves nothing outside."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, Retry, RunCancelled, Runtime, StepOutcomeUnknown, in_thread, workflow
from alkaline_edge.host import Capabilities
from alkaline_edge.runtime.pace import Known
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import Delay
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost, MemoryStore

from ..support import Process, drive

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="there are no threads")


class Threadless(MemoryHost):
    """A host without threads, as under WASM."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.capabilities = Capabilities("memory without threads", durability="volatile")


def test_a_blocking_step_leaves_the_loop_and_its_lease_alone() -> None:
    """Two processes serve one store; a step of several leases is run once, and the loop stands still for nobody."""
    store, starts, late = MemoryStore(), [], [0.0]

    def slow() -> str:
        starts.append(1)
        time.sleep(0.7)
        return "done"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.step(slow)

    async def test() -> None:
        one = Runtime(MemoryHost(store), workflows=[flow], lease=0.2)
        two = Runtime(MemoryHost(store), workflows=[flow], lease=0.2)
        async with one, two:
            serving = [asyncio.ensure_future(each.serve()) for each in (one, two)]
            run = await one.start("flow", id="a")

            async def beat() -> None:
                while True:
                    before = time.monotonic()
                    await asyncio.sleep(0.01)
                    late[0] = max(late[0], time.monotonic() - before)

            beating = asyncio.ensure_future(beat())
            assert await run.result(timeout=10) == "done"
            beating.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    drive(test)
    assert len(starts) == 1
    assert late[0] < 0.5


def test_where_a_function_runs_follows_what_it_took() -> None:
    """First in a thread, then inline while it is quick; once it has blocked, in a thread again."""
    main, places = threading.get_ident(), []

    def sometimes(slow: bool) -> None:
        places.append("inline" if threading.get_ident() == main else "thread")
        if slow:
            time.sleep(0.03)

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        for slow in (False, False, False, True, False, True):
            await ctx.step("sometimes", sometimes, slow)

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            await (await runtime.start("flow")).result(timeout=5)

    drive(test)
    assert places == ["thread", "inline", "inline", "inline", "thread", "thread"]


def test_one_slow_call_is_forgiven_soon_and_a_second_one_is_not() -> None:
    """The machine may have been busy: a few quick calls in threads, and it runs inline again; on trial for a while."""

    def quick_calls_until_inline(known: Known) -> int:
        count = 0
        while known.wanted:
            known.took(1, inline=False)
            count += 1
        return count

    known = Known(None, False, len, True)
    known.took(1, inline=False)
    known.took(30, inline=True)
    assert quick_calls_until_inline(known) == 8
    known.took(30, inline=True)
    assert quick_calls_until_inline(known) == 1_000
    for _ in range(1_000):
        known.took(1, inline=True)
    known.took(30, inline=True)
    assert quick_calls_until_inline(known) == 8


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("once", [True, False])
def test_the_timeout_of_a_plain_function_is_never_ignored(threads: bool, once: bool) -> None:
    """In a thread it is told in time; inline, once the function has returned. At most once: the outcome is unknown."""
    calls = []

    def slow() -> str:
        calls.append(1)
        time.sleep(0.15)
        return "too late"

    @workflow(name="flow", retry=Retry(max_attempts=2, backoff=0))
    async def flow(ctx: Context) -> Any:
        return await ctx.step(slow, timeout=0.05, at_most_once=once)

    async def test() -> None:
        async with Runtime(MemoryHost() if threads else Threadless(), workflows=[flow]) as runtime:
            with pytest.raises(StepOutcomeUnknown if once else TimeoutError, match="longer than its timeout"):
                await (await runtime.start("flow")).result(timeout=5)

    drive(test)
    assert len(calls) == (1 if once else 2)


@pytest.mark.parametrize("how", ["cancel", "pause", "signal", "timer"])
@pytest.mark.parametrize("host", ["memory", "threadless", "file"])
def test_a_run_of_quick_steps_starves_nothing(how: str, host: str, tmp_path: Path) -> None:
    """Requests and timers are seen between sync steps, within a few of them, and the loop has its turns."""
    done = [0]

    def quick() -> None:
        done[0] += 1

    async def work(ctx: Context) -> str:
        for _ in range(20_000):
            await ctx.step("quick", quick)
        return "work"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        if how == "timer":
            return (await ctx.race(work=work(ctx), limit=ctx.sleep(0.05)))[0]
        if how == "signal":
            return (await ctx.race(work=work(ctx), signal=ctx.wait_for_signal("stop")))[0]
        return await work(ctx)

    async def test() -> None:
        made = {"memory": MemoryHost, "threadless": Threadless}.get(host)
        there = made() if made is not None else FileHost(tmp_path / "store", fsync=False)
        async with Runtime(there, workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            while done[0] < 100 and how != "timer":  # its 50 ms may be over before, on a busy machine
                await asyncio.sleep(0)
            if how == "cancel":
                await run.cancel("enough")
                with pytest.raises(RunCancelled):
                    await run.result(timeout=5)
            elif how == "pause":
                await run.pause()
                await run.settle()
                assert (await runtime.get_execution("a")).status == "paused"
            else:
                if how == "signal":
                    await run.signal("stop")
                assert await run.result(timeout=5) == {"signal": "signal", "timer": "limit"}[how]
        await there.close()

    drive(test)
    assert done[0] < (20_000 if how == "timer" else 400)


def test_context_variables_go_into_the_thread() -> None:
    """What was set where the run was started is seen by the step, in a thread as inline."""
    user = contextvars.ContextVar("user", default="nobody")

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return [await ctx.step("who", user.get) for _ in range(3)]

    async def test() -> None:
        user.set("ada")
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start("flow")).result(timeout=5) == ["ada"] * 3

    drive(test)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_plain_function_that_needs_the_loop_has_it() -> None:
    """One that makes a task or a future runs on the loop's thread, and begins there, once."""
    starts: list[int] = []

    async def plain(n: int) -> int:
        return n + 1

    def task(n: int) -> Any:
        starts.append(n)
        return asyncio.create_task(plain(n))

    def future(n: int) -> Any:
        made = asyncio.get_running_loop().create_future()
        made.set_result(n + 1)
        return made

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return [await ctx.step(fn, 1) for fn in (task, future, task, future)]

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start("flow")).result(timeout=5) == [2] * 4

    drive(test)
    gc.collect()
    assert starts == [1, 1]


def test_a_slow_function_without_threads_starts_with_a_full_lease() -> None:
    """It keeps the process from renewing the lease, so that is renewed before: the limit is the lease's length."""
    left: list[int] = []

    def slow() -> None:
        record = next(iter(process.runtime.fleet.drivers.values())).record
        left.append(record.lease_until - process.host.now_ms())
        process.host.advance(8)

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        for _ in range(4):
            await ctx.step("slow", slow)

    process = Process(flow, lease=10)

    async def test() -> None:
        await (await process.runtime.start("flow", id="a")).result()

    drive(test)
    assert left == [10_000] * 4


def test_a_wide_fan_out_of_quick_functions_tries_a_few_in_threads() -> None:
    """The rest waits for one of them to land and runs inline: a thread each would cost more than the work."""
    main, places = threading.get_ident(), []

    def quick(n: int) -> int:
        places.append(threading.get_ident() == main)
        return n

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.map(lambda n: ctx.step("quick", quick, n), range(200))

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start("flow")).result(timeout=5) == list(range(200))

    drive(test)
    assert places.count(False) <= 8


@pytest.mark.parametrize(("lasts", "lease"), [(10, 8), (100, 8), (9, 8), (700, 10)])
@pytest.mark.parametrize("count", [2, 3])
def test_a_step_that_blocks_for_longer_than_a_lease_ends_though_others_take_the_run_over(
    lasts: int, lease: int, count: int
) -> None:
    """Whoever lost the run to a lease that it could not renew takes a longer one the next time."""
    first = SimulatedHost()
    starts: list[int] = []

    def process(n: int) -> Runtime:
        blocked = 0

        def befall(call: int, verb: str, arguments: Any) -> Any:
            return Delay(blocked - host.now_ms()) if blocked > host.now_ms() else None

        async def slow() -> str:
            nonlocal blocked
            starts.append(n)
            blocked = host.now_ms() + lasts * 1000
            await host.sleep(lasts)
            return "done"

        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            return await ctx.step("slow", slow)

        host = SimulatedHost(first.store, seed=n, on_call=befall)
        return Runtime(host, workflows=[flow], lease=lease)

    async def test() -> None:
        runtimes = [process(n) for n in range(count)]
        run = await runtimes[0].start("flow", id="a")
        others = [asyncio.ensure_future(runtime.result("a", None)) for runtime in runtimes[1:]]
        assert await run.result() == "done"
        for other in others:
            assert await other == "done"
        for runtime in runtimes:
            await runtime.close()

    drive(test)
    assert len(starts) <= count * 10


def test_an_at_most_once_step_behind_one_that_blocked_starts_only_while_the_run_is_ours() -> None:
    """Both are intended at once; the first keeps the process from renewing the lease, and loses the run."""
    started: list[str] = []

    def blocks() -> None:
        started.append("blocks")
        process.host.advance(12)
        another.append(asyncio.ensure_future(take_over()))

    def charges() -> None:
        started.append("charges")

    async def take_over() -> None:
        other = Runtime(SimulatedHost(process.host.store, seed=9), workflows=[flow], lease=10)
        assert await other.result("a", None) == ["StepOutcomeUnknown", "StepOutcomeUnknown"]
        await other.close()

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        async def one(name: str, fn: Any) -> Any:
            try:
                return await ctx.step(name, fn, at_most_once=True)
            except StepOutcomeUnknown as error:
                return type(error).__name__

        return await ctx.all(one("blocks", blocks), one("charges", charges))

    process = Process(flow, lease=10)
    another: list[asyncio.Future[None]] = []

    def befall(call: int, verb: str, arguments: Any) -> Any:
        return Delay(5_000) if another and not another[0].done() else None

    process.host.on_call = befall

    async def test() -> None:
        run = await process.runtime.start("flow", id="a")
        assert await run.result() == ["StepOutcomeUnknown", "StepOutcomeUnknown"]
        await another[0]

    drive(test)
    assert started == ["blocks"]


def test_a_plain_function_that_uses_what_belongs_to_the_loops_thread_runs_there() -> None:
    """A connection of sqlite3 works in the thread that made it alone: it says so before it does anything."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (n)")

    def insert(n: int) -> int:
        connection.execute("insert into t values (?)", (n,))
        return int(connection.execute("select count(*) from t").fetchone()[0])

    def handle_signals() -> None:
        signal.signal(signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step(handle_signals)
        return [await ctx.step(insert, n) for n in range(3)]

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start("flow")).result(timeout=5) == [1, 2, 3]

    drive(test)
    connection.close()


@pytest.mark.parametrize("ends", ["before the lease", "after the lease"])
def test_a_step_that_goes_on_behind_close_is_not_begun_by_another_before_its_lease_is_over(ends: str) -> None:
    """Also where the platform says at once which owners are gone: this one is not, as long as its thread runs."""
    store, begun, end = MemoryStore(), threading.Event(), threading.Event()
    running: list[int] = []

    @in_thread
    def stubborn() -> int:
        running.append(len(running))
        begun.set()
        if len(running) == 1:
            end.wait(10)
        return len(running)

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.step("s", stubborn)

    async def test() -> None:
        now = [1_000_000]
        first = Runtime(MemoryHost(store, now_ms=lambda: now[0]), workflows=[flow])
        await first.start("flow", id="a")
        while not begun.is_set():
            await asyncio.sleep(0.001)
        await first.close()
        async with Runtime(MemoryHost(store, now_ms=lambda: now[0]), workflows=[flow]) as second:
            assert (await second.get_execution("a")).owner is not None
            with pytest.raises(ConflictError):
                await second.resume("a")
            if ends == "before the lease":
                end.set()
            now[0] += 60_000
            assert await (await second.resume("a")).result(timeout=5_000) == 2
        end.set()

    drive(test)
    assert len(running) == 2


def test_the_attempt_of_a_step_that_lost_its_race_is_stopped() -> None:
    """It is told at once, and not once the run or the runtime ends."""
    told: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("stopped")
            raise

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        key, _ = await ctx.race(slow=ctx.step("slow", slow), timer=ctx.sleep(1))
        await ctx.step("look", lambda: None)
        return [key, list(told), await ctx.wait_for_signal("go", timeout=1, default="late")]

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        assert (await run.result())[0] == "timer"
        assert told == ["stopped"]

    drive(test)


def test_a_quick_at_most_once_step_behind_one_that_blocked_starts_only_while_the_run_is_ours() -> None:
    """What is known to be quick is not held back for the results before it: the lease alone says whether it may."""
    started: list[str] = []
    blocking = [False]

    def work(name: str) -> None:
        started.append(name)
        if blocking[0]:
            blocking[0] = False
            process.host.advance(12)
            another.append(asyncio.ensure_future(take_over()))

    async def take_over() -> None:
        other = Runtime(SimulatedHost(process.host.store, seed=9), workflows=[flow], lease=10)
        assert await other.result("a", None) == ["StepOutcomeUnknown", "StepOutcomeUnknown"]
        await other.close()

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        async def one(name: str) -> Any:
            try:
                return await ctx.step(name, work, name, at_most_once=True)
            except StepOutcomeUnknown as error:
                return type(error).__name__

        for _ in range(3):
            await ctx.step("known", work, "known")
        blocking[0] = "blocks" not in started
        return await ctx.all(one("blocks"), one("charges"))

    process = Process(flow, lease=10)
    another: list[asyncio.Future[None]] = []

    def befall(call: int, verb: str, arguments: Any) -> Any:
        return Delay(5_000) if another and not another[0].done() else None

    process.host.on_call = befall

    async def test() -> None:
        run = await process.runtime.start("flow", id="a")
        assert await run.result() == ["StepOutcomeUnknown", "StepOutcomeUnknown"]
        await another[0]

    drive(test)
    assert started == ["known"] * 3 + ["blocks"]


def test_many_quick_steps_that_are_ready_at_once_give_the_others_turns() -> None:
    """They start for a slice of time, and then whatever else is on the loop goes on."""
    turns, seen = [0], list[int]()

    def quick() -> None:
        process.host.advance(0.001)
        seen.append(turns[0])

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        for _ in range(3):
            await ctx.step("known", quick)
        await ctx.all(*(ctx.step("quick", quick) for _ in range(300)))

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    process = Process(flow)

    async def test() -> None:
        task = asyncio.ensure_future(others())
        await (await process.runtime.start("flow", id="a")).result()
        task.cancel()
        await process.runtime.close()

    drive(test)
    assert len(set(seen[3:])) > 10


def test_a_step_that_is_withdrawn_before_its_turn_never_starts() -> None:
    """The first of many fails, and those that no slice of time was left for have nobody who waits for them."""
    started: list[int] = []

    def quick(n: int) -> None:
        process.host.advance(0.001)
        started.append(n)
        if n == 1:
            raise ValueError("by the program")

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        for _ in range(3):
            await ctx.step("known", quick, 0)
        try:
            await ctx.all(*(ctx.step("quick", quick, n, retry=Retry(max_attempts=1)) for n in range(1, 301)))
        except ValueError:
            await ctx.step("behind", quick, 0)
        return "went on"

    process = Process(flow)

    async def test() -> None:
        run = await process.runtime.start("flow", id="a")
        assert await run.result() == "went on"
        await process.runtime.close()

    drive(test)
    assert len(started) < 100


def test_results_that_came_together_are_recorded_in_the_order_in_which_they_came() -> None:
    """The handler goes on with the first of them first, live as in a replay."""
    gate = asyncio.Event()

    async def waits(name: str) -> str:
        await gate.wait()
        return name

    @workflow(name="flow")
    async def flow(ctx: Context) -> list[str]:
        order: list[str] = []

        async def one(name: str) -> None:
            order.append(await ctx.step(name, waits, name))

        await ctx.all(one("a"), one("b"), one("c"))
        return order

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        for _ in range(50):
            await asyncio.sleep(0)
        gate.set()
        assert await run.result() == ["a", "b", "c"]
        await process.runtime.close()

    drive(test)


def test_an_at_most_once_step_that_is_cancelled_has_an_unknown_outcome() -> None:
    """Whoever cancelled it, what it has done by then nobody knows."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        try:
            await ctx.step("charge", cancelled, at_most_once=True)
        except StepOutcomeUnknown:
            return "unknown"
        return ""

    async def test() -> None:
        process = Process(flow)
        assert await (await process.runtime.start("flow", id="a")).result() == "unknown"
        await process.runtime.close()

    drive(test)
