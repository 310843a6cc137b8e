"""Runtime.serve: how many runs at once, which of them, beside other processes, and when the store is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from alkaline_edge import Context, Runtime, Workflow, workflow
from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Check, Conflict, Entry, Put
from alkaline_edge.lifecycle import RunResumed, RunStuck
from alkaline_edge.runtime.lease import Leases
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore
from alkaline_hosts.memory import MemoryHost
from tests.support import drive


class Server:
    """A process that serves; ``most`` is how many runs it drove at once, ``resumed`` what it took up."""

    def __init__(self, store: SimulatedStore, place: int, workflows: list[Workflow], **options: Any) -> None:
        self.host = SimulatedHost(store, seed=place)
        self.events: list[Any] = []
        self.most = 0
        self.runtime = Runtime(self.host, workflows=workflows, on_event=self._heard, **options)

    def _heard(self, event: Any) -> None:
        self.events.append(event)
        self.most = max(self.most, len(self.runtime.fleet.drivers))

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def serving(*servers: Server, concurrency: int | None = None) -> AsyncIterator[None]:
    """``servers`` serve meanwhile; then they are closed, and none may have failed."""
    tasks = [asyncio.ensure_future(server.runtime.serve(concurrency=concurrency)) for server in servers]
    try:
        yield
    finally:
        for server in servers:
            await server.runtime.close()
        await asyncio.gather(*tasks)


async def made(store: SimulatedStore, definition: Workflow, *ids: str, **options: Any) -> None:
    """Runs that begin in a moment, wherever somebody serves."""
    host = SimulatedHost(store, seed=99)
    start_at = datetime.fromtimestamp(host.now_ms() / 1000 + 1, UTC)
    async with Runtime(host, workflows=[definition]) as runtime:
        for id in ids:
            await runtime.start(definition, id=id, start_at=start_at, **options)


async def all_ended(store: SimulatedStore, count: int, seconds: float = 3600) -> None:
    """Until so many runs are completed."""
    host = SimulatedHost(store, seed=98)
    end = host.now_ms() + seconds * 1000
    while len(await host.list("x/s/completed/")) < count:
        assert host.now_ms() < end, f"only {len(await host.list('x/s/completed/'))} of {count} runs completed"
        await host.sleep(0.05)


def working(host_clock: Any, seconds: float) -> Any:
    async def work() -> None:
        await host_clock.sleep(seconds)

    return work


def flow_of(store: SimulatedStore, seconds: float = 5) -> Workflow:
    """A run of one step that takes so long."""

    @workflow(name="work", version=1)
    async def work(ctx: Context) -> None:
        await ctx.step("work", working(store.clock, seconds))

    return work


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_runs_at_once_and_no_more(count: int) -> None:
    """Eight runs with a limit: never more at once, never fewer where there are more, and all of them end."""
    store = SimulatedStore()
    flow = flow_of(store)

    async def body() -> None:
        server = Server(store, 1, [flow])
        await made(store, flow, *(f"r{n}" for n in range(8)))
        before = store.clock.now_ms
        async with serving(server, concurrency=count):
            await all_ended(store, 8)
        assert server.most == count
        assert store.clock.now_ms - before < (8 / count + 1) * 5_000 + 3_000

    drive(body)


def test_two_processes_share_what_there_is() -> None:
    """Each has room for two: four run at once, the rest is left until there is room."""
    store = SimulatedStore()
    flow = flow_of(store, 20)

    async def body() -> None:
        servers = [Server(store, n, [flow]) for n in (1, 2)]
        await made(store, flow, *(f"r{n}" for n in range(9)))
        async with serving(*servers, concurrency=2):
            await store.clock.sleep(10)
            assert [len(server.runtime.fleet.drivers) for server in servers] == [2, 2]
            await all_ended(store, 9)
        assert [server.most for server in servers] == [2, 2]

    drive(body)


def test_a_suspended_run_takes_no_room() -> None:
    """With room for one: a run waits for a signal, others run meanwhile, and its signal is answered."""
    store = SimulatedStore()

    @workflow(name="waits", version=1)
    async def waits(ctx: Context) -> None:
        await ctx.wait_for_signal("go")

    flow = flow_of(store)

    async def body() -> None:
        server = Server(store, 1, [waits, flow])
        await made(store, waits, "waiting")
        await made(store, flow, "a", "b")
        async with serving(server, concurrency=1):
            await all_ended(store, 2)
            outside = Runtime(SimulatedHost(store, seed=3))
            await outside.signal("waiting", "go")
            await all_ended(store, 3)
        assert server.most == 1

    drive(body)


def test_children_find_room_when_their_parent_waits() -> None:
    """A family of seven with room for one: nobody waits for room that only he could give."""
    store = SimulatedStore()

    @workflow(name="family", version=1, recursive=True)
    async def family(ctx: Context, depth: int) -> int:
        if depth == 0:
            return 1
        return 1 + sum(await ctx.all(*(ctx.child(family, depth - 1, id=f"{ctx.execution.id}{n}") for n in (0, 1))))

    async def body() -> None:
        server = Server(store, 1, [family])
        await made(store, family, "f", input=2)
        before = store.clock.now_ms
        async with serving(server, concurrency=1):
            await all_ended(store, 7)
            assert (await server.runtime.get_execution("f")).result == 7
        assert server.most == 1
        assert store.clock.now_ms - before < 5_000  # and not a look each second for every one of them

    drive(body)


def test_what_is_started_here_runs_whatever_the_limit_is() -> None:
    """A run that this process starts itself is not left for others: and it counts."""
    store = SimulatedStore()
    flow = flow_of(store)

    async def body() -> None:
        server = Server(store, 1, [flow])
        await made(store, flow, "later")
        async with serving(server, concurrency=1):
            runs = [await server.runtime.start(flow, id=f"own{n}") for n in range(2)]
            for run in runs:
                await run.result(timeout=100)
            assert server.most == 2
            await all_ended(store, 3)

    drive(body)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_limit_is_one_or_more(concurrency: int) -> None:
    """No room at all is a mistake, and so is a second serve."""

    async def body() -> None:
        server = Server(SimulatedStore(), 1, [])
        with pytest.raises(InvalidInput, match="from 1 up"):
            await server.runtime.serve(concurrency=concurrency)
        async with serving(server):
            await server.host.sleep(1)
            with pytest.raises(InvalidInput, match="serving already"):
                await server.runtime.serve()

    drive(body)


def test_the_limit_ends_with_serve() -> None:
    """After ``until`` the runtime drives whatever it is asked to."""
    store = SimulatedStore()
    flow = flow_of(store)

    async def body() -> None:
        server = Server(store, 1, [flow])
        await made(store, flow, "a", "b")
        await server.runtime.serve(datetime.fromtimestamp(server.host.now_ms() / 1000 + 2, UTC), concurrency=1)
        await server.runtime.run_due()
        assert server.most == 2
        await server.runtime.close()

    drive(body)


# --- several processes -----------------------------------------------------------------------------------------------
def test_what_is_handed_back_is_taken_over_at_once() -> None:
    """A process with runs in flight is closed: another has them within two seconds, and the lease is ten minutes."""
    store = SimulatedStore()
    flow = flow_of(store, 100)

    async def body() -> None:
        first, second = (Server(store, n, [flow], lease=600) for n in (1, 2))
        await made(store, flow, *(f"r{n}" for n in range(5)))
        async with serving(first):
            await store.clock.sleep(5)
            assert len(first.runtime.fleet.drivers) == 5
            async with serving(second):
                await store.clock.sleep(10)
                assert second.events == []
                await first.runtime.close()
                await store.clock.sleep(2)
                assert len(second.runtime.fleet.drivers) == 5

    drive(body)


def test_two_processes_seldom_reach_for_the_same_run() -> None:
    """Fifty runs with ten timers each: most wake where they are in memory, and few commits are for nothing."""
    store = SimulatedStore()
    conflicts = [0]

    class Counting(SimulatedHost):
        async def commit(self, batch: Batch) -> Any:
            outcome = await super().commit(batch)
            conflicts[0] += isinstance(outcome, Conflict)
            return outcome

    @workflow(name="naps", version=1)
    async def naps(ctx: Context) -> None:
        for _ in range(10):
            await ctx.sleep(1 + ctx.random())

    async def body() -> None:
        servers = [Server(store, n, [naps]) for n in (1, 2, 3)]
        for server in servers:
            server.runtime.store.host = Counting(store, seed=server.host.seed)
        await made(store, naps, *(f"r{n}" for n in range(50)))
        async with serving(*servers):
            await store.clock.sleep(5)  # none knows of the others when they begin, and all reach for all
            conflicts[0] = 0
            for server in servers:
                server.events.clear()
            await all_ended(store, 50)
        resumed = [event for server in servers for event in server.of(RunResumed)]
        assert len(resumed) >= 300
        assert conflicts[0] < 30
        assert sum(event.replayed > 0 for event in resumed) < 30

    drive(body)


def test_timers_that_a_dead_process_left_are_shared_out() -> None:
    """Forty runs of a process that is gone are due at one moment: two others take them, seldom both the same."""
    store = SimulatedStore()
    conflicts = [0]
    moment = datetime.fromtimestamp(store.clock.now_ms // 1000 + 100, UTC)

    class Counting(SimulatedHost):
        async def commit(self, batch: Batch) -> Any:
            outcome = await super().commit(batch)
            conflicts[0] += isinstance(outcome, Conflict)
            return outcome

    @workflow(name="nap", version=1)
    async def nap(ctx: Context) -> None:
        await ctx.sleep_until(moment)

    flow = flow_of(store, 1000)

    async def body() -> None:
        first, *others = (Server(store, n, [nap, flow]) for n in (1, 2, 3))
        for server in others:
            server.runtime.store.host = Counting(store, seed=server.host.seed)
        async with serving(first):
            await made(store, nap, *(f"r{n}" for n in range(40)))
            await store.clock.sleep(10)
        async with serving(*others, concurrency=25):
            for server in others:  # by which the other one knows of it
                await server.runtime.start(flow)
            await store.clock.sleep(10)
            conflicts[0] = 0
            await all_ended(store, 40)
            assert conflicts[0] < 12
            assert all(len(server.of(RunResumed)) > 12 for server in others)

    drive(body)


@pytest.mark.parametrize("late", [1, 2, 3])
def test_an_answer_that_comes_after_the_lease_starts_nothing(late: int) -> None:
    """The answer to a commit (of the lease, of a step) is so late that another has gone on: no step is run again."""
    store = SimulatedStore()
    began: list[str] = []
    done: list[str] = []
    again: list[str] = []

    def effect(name: str) -> None:
        began.append(name)
        if name in done:
            again.append(name)

    @workflow(name="chain", version=1)
    async def chain(ctx: Context) -> None:
        for n in range(5):
            await ctx.step(f"s{n}", effect, f"s{n}")

    class Late(SimulatedHost):
        commits = 0

        async def commit(self, batch: Batch) -> Any:
            outcome = await super().commit(batch)
            self.commits += 1
            if self.commits == late:
                await self.clock.sleep(100)
            return outcome

    async def body() -> None:
        await made(store, chain, "r")
        store.clock.advance(2_000)
        slow, quick = (
            Runtime(host, workflows=[chain], lease=10, on_event=lambda e: done.append(getattr(e, "name", "")))
            for host in (Late(store, seed=1), SimulatedHost(store, seed=2))
        )
        task = asyncio.ensure_future(slow.run_due())
        await store.clock.sleep(50)
        await quick.recover()
        await quick.settle("r")
        assert (await quick.get_execution("r")).status == "completed"
        await task
        assert again == []
        assert len(began) <= 6  # a step whose commit was on its way may have been run by both
        await slow.close()
        await quick.close()

    drive(body)


@pytest.mark.parametrize("segment_commits", [0, 2, 3])
def test_a_commit_that_lands_while_another_takes_the_run_over_is_seen(segment_commits: int) -> None:
    """A stale owner's commits land between the other's reading and its lease: it reads again, and runs none of it."""
    store = SimulatedStore()
    capabilities = Capabilities("simulated", durability="volatile", segment_commits=segment_commits)
    began: list[str] = []
    read, landed = asyncio.Event(), asyncio.Event()

    @workflow(name="chain", version=1)
    async def chain(ctx: Context) -> None:
        for n in range(3):
            await ctx.step(f"s{n}", began.append, f"s{n}")
        await ctx.wait_for_signal("end")

    class Stale(SimulatedHost):
        async def commit(self, batch: Batch) -> Any:
            if began == ["s0"] and not read.is_set():
                await read.wait()
            outcome = await super().commit(batch)
            if began == ["s0", "s1", "s2"]:  # s0 and s1 are committed, and sealed where that is due
                landed.set()
                await self.clock.sleep(1_000)
            return outcome

    class Taking(SimulatedHost):
        async def commit(self, batch: Batch) -> Any:
            read.set()
            await landed.wait()
            return await super().commit(batch)

    async def body() -> None:
        stale = Runtime(Stale(store, seed=1, capabilities=capabilities), workflows=[chain], lease=10_000)
        taking = Runtime(Taking(store, seed=2, capabilities=capabilities), workflows=[chain])
        await made(store, chain, "r")
        store.clock.advance(2_000)
        task = asyncio.ensure_future(stale.run_due())
        while not began:
            await asyncio.sleep(0)
        # The lease of the stale owner has ended, as far as the other one can tell.
        with patch.object(Leases, "held_by_other", AsyncMock(return_value=False)):
            await taking.resume("r")
            await taking.settle("r")
        assert began == ["s0", "s1", "s2"]
        task.cancel()

    drive(body)


@pytest.mark.parametrize("moment", [0.0, 0.25, 0.5, 0.75])
def test_the_end_of_a_dead_owner_s_lease_is_not_missed(moment: float) -> None:
    """Another takes the run over as the lease ends, wherever that falls between two looks; it looks no more often."""
    store = SimulatedStore()
    flow = flow_of(store, 1000)
    looks = [0]

    class Mortal(SimulatedHost):
        gone = False

        async def commit(self, batch: Batch) -> Any:
            if self.gone:
                raise StoreError("nobody hears a dead process")
            return await super().commit(batch)

    class Counting(SimulatedHost):
        async def list(self, prefix: str, after: str = "", limit: int = 500) -> Any:
            looks[0] += prefix == "x/s/running/"
            return await super().list(prefix, after, limit)

    async def body() -> None:
        first, second = (Server(store, n, [flow], lease=10) for n in (1, 2))
        mortal = first.runtime.store.host = Mortal(store, seed=1)
        second.runtime.store.host = Counting(store, seed=2)
        await made(store, flow, "r")
        async with serving(first):
            await store.clock.sleep(5 + moment)
            async with serving(second):
                looks[0] = 0
                await store.clock.sleep(60)
                assert looks[0] <= 62
                mortal.gone = True
                await first.runtime.close()
                ends = (await second.runtime.get_execution("r")).lease_until
                await store.clock.sleep(12)
                assert 0 <= second.of(RunResumed)[0].at - ends <= 300

    drive(body)


def test_a_run_of_quick_steps_keeps_its_lease() -> None:
    """It never waits for anything, for longer than its lease: it stays with its owner."""
    store = SimulatedStore()

    @workflow(name="quick", version=1)
    async def quick(ctx: Context) -> None:
        for _ in range(60):
            await ctx.step("s", store.clock.advance, 1_000)

    async def body() -> None:
        first, second = (Server(store, n, [quick], lease=10) for n in (1, 2))
        await made(store, quick, "r")
        async with serving(first, second):
            await all_ended(store, 1)
        assert len(first.of(RunResumed) + second.of(RunResumed)) == 1

    drive(body)


def test_runs_of_workflows_that_others_have_do_not_hold_up_ours() -> None:
    """More than a page of due timers and of requests for a workflow that this process lacks stand before our own."""
    store = SimulatedStore()

    @workflow(name="theirs", version=1)
    async def theirs(ctx: Context) -> None:
        await ctx.wait_for_signal("never")

    @workflow(name="ours", version=1)
    async def ours(ctx: Context, asks: bool) -> None:
        if asks:
            await ctx.wait_for_signal("go")

    async def body() -> None:
        await made(store, theirs, *(f"a{n:03}" for n in range(250)))
        outside = Runtime(SimulatedHost(store, seed=5))
        for n in range(250):
            await outside.signal(f"a{n:03}", "x")
        store.clock.advance(500)
        await made(store, ours, "timer", input=False)
        server = Server(store, 1, [ours])
        async with serving(server):
            await all_ended(store, 1, seconds=5)
            await made(store, ours, "z", input=True)
            await store.clock.sleep(3)
            await outside.signal("z", "go")
            await all_ended(store, 2, seconds=5)

    drive(body)


def test_a_request_reaches_a_run_in_the_middle_of_a_step() -> None:
    """Cancelled from another process, without a notice, while its step takes an hour."""
    store = SimulatedStore()
    flow = flow_of(store, 3600)

    async def body() -> None:
        server = Server(store, 1, [flow])
        async with serving(server, concurrency=1):
            run = await server.runtime.start(flow, id="r")
            await store.clock.sleep(3)
            await Runtime(SimulatedHost(store, seed=2)).cancel("r")
            before = store.clock.now_ms
            await run.settle()
            assert run.status == "cancelled"
            assert store.clock.now_ms - before < 3_000

    drive(body)


def test_timers_of_this_process_are_on_time() -> None:
    """Each wake is at its moment, not at the next look."""
    store = SimulatedStore()
    woken: list[int] = []

    @workflow(name="naps", version=1)
    async def naps(ctx: Context) -> None:
        for _ in range(20):
            before = ctx.now()
            await ctx.sleep(0.37)
            woken.append(round((ctx.now() - before) / timedelta(milliseconds=1)))

    async def body() -> None:
        server = Server(store, 1, [naps])
        async with serving(server):
            await (await server.runtime.start(naps)).result(timeout=100)
        assert set(woken) <= {370, 371}

    drive(body)


# --- what goes wrong -------------------------------------------------------------------------------------------------
def test_a_store_that_is_away_for_a_while_is_asked_again() -> None:
    """Every call fails for a minute while runs are in flight: serve says so once a second, and all runs complete."""
    store = SimulatedStore()
    flow = flow_of(store, 20)
    said: list[Any] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        server = Server(store, 1, [flow])
        await made(store, flow, *(f"r{n}" for n in range(5)))
        async with serving(server, concurrency=3):
            await store.clock.sleep(5)
            server.host.on_call = lambda number, verb, arguments: "rejected"
            await store.clock.sleep(60)
            server.host.on_call = None
            await all_ended(store, 5, seconds=120)
        assert 10 < len(said) < 100
        assert all(isinstance(context["exception"], StoreError) for context in said)

    drive(body)


def test_a_store_that_never_answered_is_an_error() -> None:
    """A wrong address or password is told to who calls serve, and not retried for ever."""

    async def body() -> None:
        server = Server(SimulatedStore(), 1, [])
        server.host.on_call = lambda number, verb, arguments: "rejected"
        with pytest.raises(StoreError):
            await server.runtime.serve()
        await server.runtime.close()

    drive(body)


def test_a_run_that_can_not_go_on_is_not_tried_each_second() -> None:
    """Code that disagrees with the history: tried again after a pause that doubles, and named each time."""
    store = SimulatedStore()

    def variant(name: str) -> Workflow:
        @workflow(name="flow", version=1)
        async def flow(ctx: Context) -> None:
            await ctx.step(name, working(store.clock, 0))
            await ctx.step("long", working(store.clock, 10_000))

        return flow

    async def body() -> None:
        first = Server(store, 1, [variant("a")])
        await first.runtime.start("flow", id="r")
        await store.clock.sleep(1)
        await first.runtime.close()
        second = Server(store, 2, [variant("b")], lease=60)
        async with serving(second):
            await store.clock.sleep(600)
        assert 6 <= len(second.of(RunStuck)) <= 10

    drive(body)


def test_what_is_left_of_an_ended_run_is_swept() -> None:
    """A request that came too late is deleted, and looked at no more."""
    store = SimulatedStore()

    async def body() -> None:
        server = Server(store, 1, [])
        await server.host.commit(Batch("0" * 16, (Check("i/gone/a1", None),), (Put("i/gone/a1", b"\xc0"),)))
        async with serving(server):
            await store.clock.sleep(2)
        assert store.keys == []

    drive(body)


def test_a_cancel_that_a_client_of_the_store_swallows_ends_serve() -> None:
    """wait_for of Python 3.11 loses a cancel when its answer comes at that moment: serve ends all the same."""
    inside = asyncio.Event()

    class Swallowing(MemoryHost):
        async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
            if not inside.is_set():
                inside.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3_600)
            return await super().list(prefix, after, limit)

    async def main() -> None:
        async with Runtime(Swallowing()) as runtime:
            serving = asyncio.ensure_future(runtime.serve())
            await inside.wait()
            serving.cancel()
            await asyncio.wait({serving}, timeout=5)
            assert serving.cancelled()

    asyncio.run(main())
