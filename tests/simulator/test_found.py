"""What the simulator found, each as a small program of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, RunCancelled, Runtime, hand_over, replay, sync, workflow
from alkaline_edge import events as ev
from alkaline_edge.codec import Codec
from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.history import Cursor
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict
from alkaline_edge.runs import Header
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, VirtualClock
from tests.support import Process, drive


@workflow
async def leaf(ctx: Context, n: int) -> int:
    return n


@workflow
async def middle(ctx: Context, n: int) -> Any:
    return await ctx.child(leaf, n)


@workflow
async def root(ctx: Context, n: int) -> Any:
    found = await ctx.child(middle, n)
    if n == 0:
        ctx.continue_as_new(1)
    return found


def test_a_child_of_the_next_generation_is_no_grandchild_of_the_first() -> None:
    """The ids of a run's children tell its generations from its grandchildren: run~1~1 was both."""

    async def test() -> None:
        process = Process(root, middle, leaf)
        run = await process.runtime.start("root", 0, id="run")
        assert await run.result() == 1
        ids = [record.id for record in (await process.runtime.list_executions()).items]
        assert sorted(ids) == ["run", "run+1~1", "run+1~1~1", "run~1", "run~1~1"]
        assert all(checked.ok for checked in replay.check([await process.runtime.export(id) for id in ids],
                                                          [root, middle, leaf]))  # fmt: skip

    drive(test)


def test_a_history_with_the_id_that_was_given_before_replays() -> None:
    """A history of 0.1, whose second generation has a child of the former id, is gone on with."""
    codec, cursor = Codec(), Cursor()
    header = Header("run", "ab" * 6, "root", 1, generation=1, chain=["root"])
    digest = codec.digest_of_call((1,), {})
    events: list[ev.Event] = [
        ev.Started(ev.STARTED, header.to_map(), 1),
        ev.ChildStarted(ev.CHILD_STARTED, "1", "middle", digest, "run~1~1"),
        ev.ChildFinished(ev.CHILD_FINISHED, "1", "completed", 1),
        ev.Completed(ev.COMPLETED, 1),
    ]
    commits = []
    for event in events:
        raw = cursor.encode(1_700_000_000_000, [event], codec)
        commits.append(cursor.advance(raw, codec))
    history = replay.History(header, commits)
    assert [checked.verdict for checked in replay.check(history, [root, middle, leaf])] == ["ok"]


@workflow
async def waiting(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


def test_resume_ends_a_pause_that_nobody_has_consumed_yet() -> None:
    """A pause and a resume that another process asks for, while no owner looks: the run is not paused after them."""

    async def test() -> None:
        process = Process(waiting)
        run = await process.runtime.start("waiting", id="run")
        await run.settle()
        await process.runtime.close()
        host = process.host.reopen()
        asker = Runtime(host, workflows=[])
        await asker.pause("run")
        other = Runtime(SimulatedHost(host.store, seed=5), workflows=[waiting])
        run = await other.resume("run")
        await run.settle()
        assert (await other.get_execution("run")).status == "suspended"
        await run.signal("go", 7)
        assert await run.result() == 7

    drive(test)


class Counting(SimulatedHost):
    """A host that counts how often it is slept on."""

    sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(seconds)


def test_a_paused_run_with_a_step_in_flight_does_not_spin_on_its_timer() -> None:
    """The pause waits for the step to end; a timer that came due meanwhile is not looked at again and again."""

    async def test() -> None:
        host, over = Counting(clock=VirtualClock(auto=False)), asyncio.Event()

        async def slow() -> str:
            await over.wait()
            return "done"

        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            return await ctx.all(ctx.step("slow", slow), ctx.sleep(5))

        async def turns(count: int) -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        runtime = Runtime(host, workflows=[flow], lease=3_600)
        run = await runtime.start("flow", id="run")
        await turns(20)
        await runtime.pause("run")
        await turns(20)
        host.advance(10)
        await turns(300)
        assert host.sleeps < 6
        over.set()
        await run.settle()
        assert (await runtime.get_execution("run")).status == "paused"
        await runtime.resume("run")
        assert await run.result() == ["done", None]
        await runtime.close()

    drive(test)


@pytest.mark.parametrize("door", ["sync", "export"])
def test_a_run_that_ends_while_it_is_copied_is_copied_with_what_it_spent(door: str) -> None:
    """The record is read before the history; if the run ends between the two, the copy has the record of its end."""

    async def test() -> None:
        @workflow(name="spender")
        async def spender(ctx: Context) -> str:
            await ctx.wait_for_signal("go")
            ctx.spend(7)
            ctx.set_attributes(mark="last")
            return "done"

        process = Process(spender)
        run = await process.runtime.start("spender", id="run")
        await run.settle()
        other = Runtime(SimulatedHost(clock=process.host.clock), workflows=[spender])
        ended = False

        async def end_meanwhile() -> None:
            nonlocal ended
            ended = True
            await run.signal("go")
            await run.result()

        reader = SimulatedHost(process.host.store, seed=9)
        source = Runtime(reader, workflows=[])
        first_list = reader.list

        async def list_(prefix: str, after: str = "", limit: int = 500) -> Any:
            if not ended and prefix.startswith("h/"):
                await end_meanwhile()
            return await first_list(prefix, after, limit)

        reader.list = list_  # type: ignore[method-assign]
        if door == "sync":
            await sync(source, other, "run")
        else:
            await other.import_(await source.export("run"))
        record = await other.get_execution("run")
        assert ended
        assert (record.status, record.spent["tokens"], record.attributes) == ("completed", 7, {"mark": "last"})

    drive(test)


@workflow
async def large(ctx: Context, n: int) -> str:
    await ctx.sleep(1)
    return "x" * n


@workflow
async def parent(ctx: Context) -> int:
    return len(await ctx.child(large, 200_000))


def test_a_run_is_not_handed_over_before_it_has_read_how_its_child_ended() -> None:
    """A large result of a child stands in the child's record, which stays behind: the result was lost."""

    async def test() -> None:
        process = Process(parent, large)
        run = await process.runtime.start("parent", id="run")
        await run.settle()
        await process.runtime.close()
        child = Runtime(process.host.reopen(), workflows=[large])
        process.host.advance(5)
        await child.run_due()
        other = Runtime(SimulatedHost(clock=process.host.clock, seed=7), workflows=[parent, large])
        with pytest.raises(ConflictError, match="before it has read how its child"):
            await hand_over(child, "run", other)
        again = Runtime(process.host.reopen(), workflows=[parent, large])
        assert await (await again.resume("run")).result() == 200_000

    drive(test)


@workflow
async def restless(ctx: Context) -> None:
    ctx.spend(3)
    ctx.continue_as_new()


def test_a_generation_that_a_cancel_undoes_has_spent_nothing() -> None:
    """What it had drawn is in no history, so not in the record either."""

    async def test() -> None:
        process = Process(restless)
        run = await process.runtime.start("restless", id="run")
        await run.cancel("enough")
        with pytest.raises(RunCancelled):
            await run.result()
        record = await process.runtime.get_execution("run")
        assert record.spent["tokens"] == 3 * record.generation

    drive(test)


def test_who_waits_for_a_copy_with_a_signal_in_its_inbox_does_not_spin() -> None:
    """A copy's requests wait for the run itself: taken up for them again and again, it cost all of a processor."""

    async def test() -> None:
        process = Process(waiting)
        run = await process.runtime.start("waiting", id="run")
        await run.settle()
        host = SimulatedHost(clock=process.host.clock, seed=3)
        other = Runtime(host, workflows=[waiting])
        await other.import_(await process.runtime.export("run"), mode="copy")
        await other.signal("run", "go", 7)
        before = host.calls
        with pytest.raises(TimeoutError):
            await other.result("run", 300)
        assert host.calls - before < 100

    drive(test)


@workflow
async def bulky(ctx: Context, n: int) -> str:
    for _ in range(5):
        await ctx.step("note", note, "x" * 900)
    if n < 4:
        ctx.continue_as_new(n + 1)
    return "done"


async def note(text: str) -> str:
    return text


def test_a_generation_is_ended_again_where_its_predecessor_was_half_deleted() -> None:
    """The history of the generation before is deleted in several batches: cut between them, the run was stuck."""

    async def cut_at(place: int) -> int:
        limits = Capabilities("simulated", durability="volatile", inline_limit=600, segment_commits=3)
        host, deletes = SimulatedHost(capabilities=limits), 0

        def befalls(number: int, verb: str, arguments: Any) -> Any:
            nonlocal deletes
            if verb != "commit" or not arguments[0].deletes or arguments[0].puts:
                return None
            deletes += 1
            return "applied-then-conflict" if deletes == place else None

        host.on_call = befalls
        runtime = Runtime(host, workflows=[bulky])
        run = await runtime.start("bulky", 0, id="run")
        assert await run.result() == "done", place
        await runtime.close()
        return deletes

    async def test() -> None:
        assert min([await cut_at(place) for place in range(1, 8)]) > 3

    drive(test)


@workflow
async def chatty(ctx: Context) -> int:
    for n in range(8):
        ctx.emit("n", n)
        ctx.set_attributes(n=[ctx.uuid(), ctx.uuid(), ctx.uuid()][0])
        ctx.emit("n", n + 100)
    return len(await ctx.step("note", note, "done"))


def test_a_burst_that_was_cut_between_two_commits_emits_the_rest() -> None:
    """Values behind a recorded emission hid it: the next one, which was not recorded, was taken for it, and lost."""

    async def cut_at(place: int) -> bool:
        limits = Capabilities("simulated", durability="volatile", max_value=4096, max_batch_bytes=4096, inline_limit=64)
        process = Process(chatty, host=SimulatedHost(capabilities=limits))
        run = await process.runtime.start("chatty", id="run")
        commits = 0

        def fault(number: int, verb: str) -> str | None:
            nonlocal commits
            commits += verb == "commit"
            return "crash-after" if commits == place and verb == "commit" else None

        process.host.fault = fault  # type: ignore[assignment]
        with contextlib.suppress(SimulatedCrash):
            await run.result()
        again = process.host.reopen()
        again.advance(120)
        other = Runtime(again, workflows=[chatty])
        assert await (await other.resume("run")).result() == 4
        told = [each.event.data for each in await other.history("run") if isinstance(each.event, ev.Emitted)]
        assert told == [n + more for n in range(8) for more in (0, 100)], place
        return process.host.dead

    async def test() -> None:
        assert sum([await cut_at(place) for place in range(1, 12)]) > 3

    drive(test)


class DoubtfulHost(SimulatedHost):
    """One whose first commit is on its way for as long as the test likes."""

    held: Batch | None = None

    async def commit(self, batch: Batch) -> Any:
        if self.held is None:
            self.held = batch
            raise UnknownOutcome("the answer was lost")
        return await super().commit(batch)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_start_that_lands_late_is_refused_as_long_as_its_run_is_there(deleted: bool) -> None:
    """Behind a delete it makes a new run, as docs/retention.md says: nothing is left that says no (seed 701234)."""

    async def test() -> None:
        host = DoubtfulHost()
        async with Runtime(host, workflows=[leaf]) as runtime:
            with contextlib.suppress(StoreError):
                await runtime.start("leaf", 1, id="run")
            assert await (await runtime.start("leaf", 1, id="run", on_conflict="join")).result() == 1
            if deleted:
                await runtime.delete("run")
                assert not host.store.under("", "", 1)  # not even a stone
            assert host.held is not None
            outcome = host.store.apply(host.held)
            assert isinstance(outcome, Committed if deleted else Conflict)
            assert (await runtime.get_execution("run")).status == ("running" if deleted else "completed")

    drive(test)


def test_a_second_cancel_waits_until_what_the_first_one_withdrew_has_ended() -> None:
    """Recorded in between, it stood where a replay, which knows how the steps ended, had ended already."""

    async def test() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            begun.set()
            try:
                await over.wait()
            finally:
                await asyncio.sleep(0)
            return "done"

        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            return await ctx.step("slow", slow, compensate=note)

        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        await begun.wait()
        other = Runtime(process.host.reopen(), workflows=[])
        for reason in ("first", "second"):
            await other.cancel("run", reason)
        with pytest.raises(RunCancelled):
            await run.result()
        assert all(checked.ok for checked in replay.check([await process.runtime.export("run")], [flow]))

    drive(test)
