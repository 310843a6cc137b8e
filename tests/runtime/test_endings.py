"""How a stretch of driving ends: a suspended run wakes by what is due first, and what is refused is one command's."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, Runtime, keys, workflow
from alkaline_edge.host import Capabilities
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import Process, drive, kinds


@pytest.mark.parametrize(("backoff", "seconds"), [(600, 100), (100, 600), (300, 300)])
def test_a_suspended_run_is_woken_by_what_is_due_first(backoff: int, seconds: int) -> None:
    """A timer, or the next attempt of a step: the other one has its time later."""

    async def refuses() -> None:
        raise ConnectionError("not yet")

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        policy = Retry(max_attempts=5, backoff=backoff, cap=backoff)
        return await ctx.all(ctx.step("refuses", refuses, retry=policy), ctx.sleep(seconds))

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        begun = process.host.now_ms()
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        record = await process.runtime.store.record("run")
        assert (record.status, record.wake_at) == ("suspended", begun + 1_000 * min(backoff, seconds))

    drive(test)


@workflow(name="kid")
async def kid(ctx: Context, n: int) -> int:
    return n


def test_a_child_that_the_store_does_not_take_is_an_error_of_its_call() -> None:
    """Its parent hears of it where it asked, and goes on: nothing of the child is there, and another may be begun."""

    @workflow(name="parent")
    async def parent(ctx: Context) -> Any:
        with pytest.raises(InvalidInput, match="not this one"):
            await ctx.child("kid", 1, id="refused")
        return await ctx.child("kid", 2, id="taken")

    async def test() -> None:
        process = Process(parent, kid)
        commit = process.host.commit

        async def picky(batch: Any) -> Any:
            if any(put.key == "r/refused" for put in batch.puts):
                raise InvalidInput("not this one")
            return await commit(batch)

        process.host.commit = picky  # type: ignore[method-assign]
        run = await process.runtime.start("parent", id="run")
        assert await run.result() == 2
        assert await process.runtime.store.find("refused") is None

    drive(test)


@pytest.mark.parametrize("ends", ["completes", "fails", "is cancelled"])
def test_a_run_that_has_ended_has_no_owner(ends: str) -> None:
    """Its lease ends in the commit that ends it."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> int:
        if ends == "is cancelled":
            await ctx.wait_for_signal("never")
        if ends == "fails":
            raise ValueError("by the program")
        return 1

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        if ends == "is cancelled":
            await run.cancel()
            await run.settle()
        record = await process.runtime.store.record("run")
        assert record.finished
        assert record.owner is None

    drive(test)


@workflow(name="long")
async def long(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_signal("go")


def test_another_run_that_has_the_id_of_a_child_now_is_left_alone_by_the_parents_end() -> None:
    """The child has ended and was deleted; whoever has its id since is nobody's child."""

    @workflow(name="parent")
    async def parent(ctx: Context) -> Any:
        return await ctx.all(ctx.child("long", 1, id="kid"), ctx.wait_for_signal("never"))

    async def test() -> None:
        process = Process(parent, long)
        run = await process.runtime.start("parent", id="parent")
        await run.settle()
        for key in [key for key in process.host.store.keys if key.startswith("r/kid")]:  # as if it had been purged
            process.host.store.keys.remove(key)
            del process.host.store.entries[key]
        await process.runtime.close()
        process.host = process.host.reopen()
        process.runtime = process._new()
        other = await process.runtime.start("long", 2, id="kid")
        await other.settle()
        commit, written = process.host.commit, list[str]()

        async def noted(batch: Any) -> Any:
            written.extend(put.key for put in batch.puts)
            return await commit(batch)

        process.host.commit = noted  # type: ignore[method-assign]
        await process.runtime.cancel("parent")
        await process.runtime.run_due()
        await process.runtime.settle("parent")
        assert not [key for key in written if key.startswith("i/kid/")]
        assert (await process.runtime.get_execution("parent")).status == "cancelled"
        await process.runtime.run_due()
        await other.signal("go", "on")
        assert await other.result() == "on"

    drive(test)


def test_a_parent_hears_of_a_child_that_was_cancelled_with_its_end() -> None:
    """No time goes by, and nobody has to look after it."""

    @workflow(name="parent")
    async def parent(ctx: Context) -> str:
        try:
            await ctx.child("long", 1, id="kid")
        except Exception as error:
            return type(error).__name__
        return "it ended well"

    async def test() -> None:
        process = Process(parent, long, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start("parent", id="parent")
        await run.settle()
        await process.runtime.cancel("kid")
        await process.runtime.settle("kid")
        await process.runtime.run_due()
        await run.settle()
        assert (await process.runtime.get_execution("parent")).status == "completed"
        assert kinds(await process.runtime.history("parent")) == [
            "Started",
            "ChildStarted",
            "ChildFinished",
            "Completed",
        ]

    drive(test)


def test_a_large_value_of_two_generations_stays_as_long_as_either_does() -> None:
    """Its name is its content's: what the old generation had goes with it, but for what the one behind has as well."""

    async def get() -> str:
        return "x" * 5_000

    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> Any:
        if n < 2:
            await ctx.step("get", get)
            ctx.continue_as_new(n + 1)
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        capable = Capabilities("simulated", durability="volatile", inline_limit=200)
        process = Process(flow, host=SimulatedHost(capabilities=capable))
        run = await process.runtime.start("flow", 0, id="run")
        await run.settle()
        record = await process.runtime.store.record("run")
        assert record.generation == 2
        assert await process.host.list(keys.commits(keys.history(record.run, 1)))  # it is there until this one ends
        assert await process.host.list(keys.blobs(record.run))
        await run.signal("go", 1)
        assert await run.result() == 1

    drive(test)


def test_a_paused_run_has_no_time_at_which_it_is_woken() -> None:
    """Its timers stand still until it is resumed: whoever looks for what is due leaves it alone."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        await ctx.sleep(600)

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        await run.pause()
        await run.settle()
        record = await process.runtime.store.record("run")
        assert (record.status, record.wake_at) == ("paused", None)
        await process.runtime.close()

    drive(test)


def test_what_another_process_sends_before_a_run_is_set_aside_is_heard() -> None:
    """It found the run driven, and left it to its owner: nobody else would look."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.step("sends", sends)
        return await ctx.wait_for_signal("go")

    async def sends() -> None:
        process.host.store.watchers.clear()  # as a store does that tells nobody
        other = Runtime(SimulatedHost(process.host.store, seed=9), workflows=[])
        await other.signal("run", "go", "in time")
        await other.close()

    process = Process(flow)

    async def test() -> None:
        run = await process.runtime.start("flow", id="run")
        await run.settle()
        assert (await process.runtime.get_execution("run")).status == "completed"
        assert await run.result() == "in time"
        await process.runtime.close()

    drive(test)
