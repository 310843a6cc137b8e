"""Waiting for a run that another process drives, that nobody drives any more, or in a runtime that is being closed."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import ClosedError, Context, NotFound, Run, Runtime, workflow
from alkaline_edge.errors import StoreError
from alkaline_edge.lifecycle import RunCompleted
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore
from alkaline_hosts.memory import MemoryHost
from tests.support import drive


class Late(SimulatedHost):
    """Another process: what it reads arrives after a drawn time, and so does each notice. None is lost."""

    draw: random.Random
    longest = 0.2

    async def get(self, keys: Any) -> Any:
        found = await super().get(keys)
        await self.clock.sleep(self.draw.uniform(0, self.longest))
        return found

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> Any:
        found = await super().list(prefix, after, limit)
        await self.clock.sleep(self.draw.uniform(0, self.longest))
        return found

    def watch(self, callback: Callable[[], Any]) -> Callable[[], None]:
        async def later() -> None:
            await self.clock.sleep(self.draw.uniform(0, self.longest))
            callback()

        return super().watch(lambda: asyncio.ensure_future(later()))


def late(store: SimulatedStore, seed: int) -> Late:
    host = Late(store, seed=seed)
    host.draw = random.Random(seed)
    return host


def life(store: SimulatedStore) -> Any:
    async def nap(seconds: float) -> float:
        await store.clock.sleep(seconds)
        return seconds

    @workflow(name="life", version=1)
    async def life(ctx: Context, naps: list[float]) -> int:
        ctx.on_update("add", lambda number: number + 1)
        for seconds in naps:
            await ctx.step("nap", nap, seconds)
        return len(naps)

    return life


@pytest.mark.parametrize("seed", range(40))
def test_no_notice_is_lost_between_a_look_and_its_wait(seed: int) -> None:
    """Reads and notices arrive late, in drawn orders: result, settle, events and update return all the same."""
    store, draw = SimulatedStore(), random.Random(seed)
    flow = life(store)

    async def body() -> None:
        async with (
            Runtime(SimulatedHost(store, seed=1), workflows=[flow]) as owner,
            Runtime(late(store, seed), workflows=[flow]) as other,
        ):
            naps = [draw.uniform(0, 0.3) for _ in range(draw.randrange(1, 5))]
            run = await owner.start(flow, naps, id="r")
            there = Run(other, "r")

            async def heard() -> list[Any]:
                return [event async for event in there.events()]

            async def asked() -> Any:
                try:
                    return await there.update("add", 1)
                except Exception as error:
                    return error

            waits: list[Any] = [there.result(), there.settle(), heard(), asked()]
            draw.shuffle(waits)
            tasks = [asyncio.ensure_future(wait) for wait in waits]
            await run.result()
            done_at = store.clock.now_ms
            await asyncio.gather(*tasks)
            assert store.clock.now_ms - done_at < 5_000
            assert (await run.result()) == len(naps)

    drive(body)


@pytest.mark.parametrize("verb", ["result", "settle", "events", "update", "serve"])
@pytest.mark.parametrize("died_in", ["a step", "the start"])
def test_whoever_waits_takes_over_when_the_lease_has_ended(verb: str, died_in: str) -> None:
    """The owner is dead and its lease live: whoever waits has the run soon behind the lease."""
    store = SimulatedStore()
    first = True

    async def look() -> str:
        nonlocal first
        if first and died_in == "a step":
            first = False
            await store.clock.sleep(10**7)
        return "seen"

    @workflow(name="greeting", version=1)
    async def greeting(ctx: Context) -> str:
        ctx.on_update("add", lambda number: number + 1)
        seen = await ctx.step("look", look)
        if verb == "update":
            await ctx.wait_for_signal("end")
        return seen

    async def body() -> None:
        host = SimulatedHost(store, fault=lambda n, v: "crash" if died_in == "the start" and n == 2 else None)
        dying = Runtime(host, workflows=[greeting], lease=30)
        try:
            await dying.start(greeting, id="r")
            await asyncio.sleep(0.01)
        except SimulatedCrash:
            pass
        host.dead = True
        before = store.clock.now_ms
        async with Runtime(host.reopen(), workflows=[greeting], lease=30) as runtime:
            run = await runtime.start(greeting, id="r", on_conflict="join")
            if verb == "settle":
                await run.settle()
            elif verb == "events":
                assert isinstance([event async for event in run.events()][-1], RunCompleted)
            elif verb == "update":
                assert await run.update("add", 1) == 2
            elif verb == "serve":
                serving = asyncio.ensure_future(runtime.serve())
                assert await run.result() == "seen"
                serving.cancel()
            else:
                assert await run.result(timeout=3600) == "seen"
            assert store.clock.now_ms - before <= 32_000
        await asyncio.gather(dying.close(), return_exceptions=True)

    drive(body)


@pytest.mark.parametrize("depth", [1, 2])
def test_children_of_a_dead_owner_are_taken_over_by_who_waits_for_their_parent(depth: int) -> None:
    """The parent is suspended, its child (or grandchild) was in a step when the process died."""
    store = SimulatedStore()
    first = True

    async def look() -> str:
        nonlocal first
        if first:
            first = False
            await store.clock.sleep(10**7)
        return "seen"

    @workflow(name="family", version=1, recursive=True)
    async def family(ctx: Context, left: int) -> str:
        return await (ctx.child(family, left - 1) if left else ctx.step("look", look))

    async def body() -> None:
        host = SimulatedHost(store)
        dying = Runtime(host, workflows=[family], lease=30)
        await dying.start(family, depth, id="r")
        while first or (await dying.get_execution("r")).status != "suspended":
            await asyncio.sleep(0)
        host.dead = True
        async with Runtime(host.reopen(), workflows=[family], lease=30) as runtime:
            before = store.clock.now_ms
            assert await Run(runtime, "r").result() == "seen"
            assert store.clock.now_ms - before <= 32_000
        await asyncio.gather(dying.close(), return_exceptions=True)

    drive(body)


def test_an_owner_whose_clock_was_ahead_keeps_its_runs_no_longer_than_a_lease() -> None:
    """Its lease ends in a year, by its own clock: who watches the record stand still for a lease takes over."""
    store = SimulatedStore()
    first = True

    async def look() -> str:
        nonlocal first
        if first:
            first = False
            await store.clock.sleep(10**9)
        return "seen"

    @workflow(name="greeting", version=1)
    async def greeting(ctx: Context) -> str:
        return await ctx.step("look", look)

    async def body() -> None:
        host = SimulatedHost(store)
        dying = Runtime(host, workflows=[greeting])
        host.advance(365 * 86_400)
        await dying.start(greeting, id="r")
        await asyncio.sleep(0.01)
        host.dead = True
        host.advance(-365 * 86_400)
        async with Runtime(host.reopen(), workflows=[greeting]) as runtime:
            before = store.clock.now_ms
            assert await Run(runtime, "r").result() == "seen"
            assert store.clock.now_ms - before <= 61_000
        await asyncio.gather(dying.close(), return_exceptions=True)

    drive(body)


def test_two_runtimes_on_one_host_hear_of_each_other() -> None:
    """The host tells only of other handles, and need not be asked again and again."""
    store = SimulatedStore()
    flow = life(store)

    async def body() -> None:
        host = SimulatedHost(store)
        async with Runtime(host, workflows=[flow]) as owner, Runtime(host, workflows=[flow]) as other:
            run = await owner.start(flow, [0.5, 0.5], id="r")
            waiting = asyncio.ensure_future(Run(other, "r").result())
            await run.result()
            done_at = store.clock.now_ms
            assert await waiting == 2
            assert store.clock.now_ms == done_at

    drive(body)


# --- closing -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(10))
def test_close_tells_whoever_waits(seed: int) -> None:
    """result, settle, events, update, serve and start under way: each has its answer when close returns."""
    draw = random.Random(seed)

    @workflow(name="flow", version=1)
    async def flow(ctx: Context, what: str) -> Any:
        async def add(number: int) -> None:
            await ctx.wait_for_signal("never")

        ctx.on_update("add", add)
        if what == "step":
            await ctx.step("long", asyncio.sleep, 3600)
        return await ctx.wait_for_signal("go")

    async def body() -> None:
        host = MemoryHost()
        runtime = Runtime(host, workflows=[flow])
        a, b = await runtime.start(flow, "step", id="a"), await runtime.start(flow, "wait", id="b")
        await b.settle()

        async def events(run: Run) -> None:
            async for _ in run.events():
                pass

        waits: list[Any] = [a.result(), b.result(), a.settle(), b.update("add", 1), events(a), events(b)]
        draw.shuffle(waits)
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        serving = asyncio.ensure_future(runtime.serve())
        for _ in range(draw.randrange(20)):
            await asyncio.sleep(0)
        starts = [asyncio.ensure_future(runtime.start(flow, "wait", id=f"s{n}")) for n in range(3)]
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(runtime.close(), runtime.close()), 3)
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)
        assert all(isinstance(answer, ClosedError) for answer in answers), answers
        await asyncio.wait_for(serving, 1)
        began = await asyncio.wait_for(asyncio.gather(*starts, return_exceptions=True), 1)
        assert all(isinstance(answer, (Run, ClosedError)) for answer in began)
        for wait in (a.result(), a.settle(), events(b), b.update("add", 1), runtime.run_due(), runtime.serve()):
            with pytest.raises(ClosedError):
                await asyncio.wait_for(wait, 1)
        await runtime.close()
        async with Runtime(host, workflows=[flow]) as after:  # no lease was left behind
            for record in (await after.list_executions()).items:
                assert record.owner is None

    drive(body)


def test_close_does_not_wait_for_ever_for_a_step_that_ignores_its_cancel(caplog: pytest.LogCaptureFixture) -> None:
    """It is left behind and named in the log, and the lease is left to run out: nobody begins the step meanwhile."""

    async def stubborn() -> None:
        for _ in range(2):  # the loop's own end cancels it once more
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                pass

    @workflow(name="flow", version=1)
    async def flow(ctx: Context) -> None:
        await ctx.step("stubborn", stubborn)

    async def body() -> None:
        host = MemoryHost()
        runtime = Runtime(host, workflows=[flow])
        run = await runtime.start(flow, id="r")
        await asyncio.sleep(0.02)
        waiting = asyncio.ensure_future(run.result())
        await asyncio.sleep(0)
        await asyncio.wait_for(runtime.close(), 4)
        with pytest.raises(ClosedError):
            await waiting
        async with Runtime(host, workflows=[flow]) as after:
            assert (await after.get_execution("r")).owner is not None

    with caplog.at_level("WARNING", "alkaline_edge"):
        drive(body)
    assert "'stubborn'" in caplog.text


def test_close_after_the_host_was_closed() -> None:
    """Nothing can be handed back, and close says nothing of it."""

    @workflow(name="flow", version=1)
    async def flow(ctx: Context) -> None:
        await ctx.step("long", asyncio.sleep, 3600)

    async def body() -> None:
        host = MemoryHost()
        runtime = Runtime(host, workflows=[flow])
        run = await runtime.start(flow, id="r")
        waiting = asyncio.ensure_future(run.result())
        await asyncio.sleep(0.01)
        await host.close()
        await asyncio.wait_for(runtime.close(), 4)
        with pytest.raises(ClosedError):
            await waiting

    drive(body)


# --- events and listeners ------------------------------------------------------------------------------------------
def test_events_end_with_the_run_wherever_it_ends() -> None:
    """A run that another process ends: the last event is its end, and an unknown run is an error."""
    store = SimulatedStore()
    flow = life(store)

    async def body() -> None:
        async with (
            Runtime(SimulatedHost(store, seed=1), workflows=[flow]) as owner,
            Runtime(SimulatedHost(store, seed=2), workflows=[flow]) as other,
        ):
            await owner.start(flow, [1.0], id="r")
            events = [event async for event in Run(other, "r").events()]
            assert [type(event) for event in events] == [RunCompleted]
            assert events[0].result == 1  # type: ignore[union-attr]
            with pytest.raises(NotFound):
                async for _ in Run(other, "nobody").events():
                    pass

    drive(body)


def test_an_async_listener_hears_every_event_in_order() -> None:
    """What it answers is awaited, one event after the other, and close lets it finish."""
    store = SimulatedStore()
    flow = life(store)
    plain: list[Any] = []
    heard: list[Any] = []

    async def listener(event: Any) -> None:
        plain.append(event)
        await asyncio.sleep(0)
        heard.append(event)
        if len(heard) == 1:
            raise ValueError("a listener's own fault")

    async def body() -> None:
        said: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["exception"]))
        async with Runtime(SimulatedHost(store), workflows=[flow], on_event=listener) as runtime:
            assert await (await runtime.start(flow, [0.1, 0.1], id="r")).result() == 2
        assert heard == plain
        assert isinstance(heard[-1], RunCompleted)
        assert [type(error) for error in said] == [ValueError]

    drive(body)


# --- the process ends -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at", range(2, 12))
def test_a_crash_of_the_process_is_a_crash_and_no_trouble_of_a_run(at: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits in the dead process is told so by the crash itself; no run is called stuck."""

    @workflow(name="three", version=1)
    async def three(ctx: Context) -> int:
        return sum([await ctx.step(f"s{n}", lambda n=n: n) for n in range(3)])

    async def test() -> None:
        host = SimulatedHost(fault=lambda n, verb: "crash" if n == at else None)
        runtime = Runtime(host, workflows=[three])
        with pytest.raises(SimulatedCrash):
            await (await runtime.start("three", id="a")).result()
            host.die()
        assert runtime.fleet.stuck == {}
        assert "stuck" not in caplog.text

    drive(test)


def test_a_runtime_that_is_collected_after_its_loop_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """As at the end of a notebook or of a test: nothing can be awaited then, and nothing went wrong."""

    async def slow() -> None:
        await asyncio.Event().wait()

    @workflow(name="flow", version=1)
    async def flow(ctx: Context) -> None:
        await ctx.step("slow", slow)

    loop = asyncio.new_event_loop()

    async def test() -> Runtime:
        runtime = Runtime(MemoryHost(), workflows=[flow])
        await runtime.start("flow", id="a")
        await asyncio.sleep(0.01)
        assert runtime.fleet.is_active("a")
        return runtime

    kept = [loop.run_until_complete(test())]
    loop.close()
    kept.clear()
    gc.collect()
    assert [line for line in caplog.messages if "run " in line] == []


class Failing(SimulatedHost):
    """A process whose next reads fail, as many as are said."""

    fails = 0

    async def get(self, keys: Any) -> Any:
        if self.fails:
            self.fails -= 1
            raise StoreError("the store was away")
        return await super().get(keys)


@pytest.mark.parametrize("asks_after", [1.0, 5.0, 100.0])
def test_a_read_that_failed_once_is_not_told_for_ever(asks_after: float) -> None:
    """A process could not take a run up, and another drives it: whoever asks the first one again hears the result."""

    @workflow(name="flow", version=1)
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        host = SimulatedHost()
        away = Failing(host.store, seed=2)
        driver, asker = Runtime(host, workflows=[flow]), Runtime(away, workflows=[flow])
        run = await driver.start(flow, id="run")
        await run.settle()
        away.fails = 1_000
        asker.fleet.poke("run")
        while not asker.stuck:
            await host.clock.sleep(0.001)
        away.fails = 0
        with pytest.raises(StoreError, match="was away"):
            await asker.result("run", None)
        await host.clock.sleep(asks_after)
        answer = asyncio.ensure_future(asker.result("run", None))
        await host.clock.sleep(10)
        await driver.signal("run", "go", 7)
        assert await answer == 7
        await driver.close()
        await asker.close()

    drive(test)
