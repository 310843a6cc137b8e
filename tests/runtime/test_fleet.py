"""The fleet: one task for each run, room, what is asleep, and what is left alone after it could not go on."""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import AlkalineError, Context, Runtime, StoreError, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime.fleet import LONGEST_PAUSE_MS, Fleet, Trials
from alkaline_edge.runtime.store import Store
from alkaline_edge.runtime.telling import Changes
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.workflows import Registry
from tests.support import drive


@workflow
async def flow(ctx: Context, n: int) -> None:
    await ctx.wait_for_signal("go")


def fleet_on(host: SimulatedHost) -> Fleet:
    store = Store(host, Codec())
    return Fleet(store, Registry([flow]), Changes(store))


def test_a_run_has_one_task_and_no_more_are_begun_than_there_is_room_for() -> None:
    """Taking up what is under way changes nothing; a closing or draining fleet takes up nothing."""

    async def body() -> None:
        fleet, begun, go_on = fleet_on(SimulatedHost()), list[str](), asyncio.Event()

        async def own(id: str, driver: Any, record: Any) -> None:
            begun.append(id)
            await go_on.wait()

        fleet.own, fleet.concurrency = own, 2
        for id in ("a", "a", "b", "c"):
            fleet.take_up(id)
        assert (fleet.active(), fleet.room()) == (["a", "b"], 0)
        go_on.set()
        await fleet.settle("a")
        await fleet.settle("b")
        assert (begun, fleet.active(), fleet.room()) == (["a", "b"], [], 2)
        fleet.drain()
        fleet.take_up("d")
        fleet.draining, fleet.closing = False, True
        fleet.take_up("d")
        assert fleet.active() == []

    drive(body)


def test_what_ends_a_task_is_kept_by_whose_error_it_is() -> None:
    """The kernel's own stops the run here; any other is a crash, until the run is taken up again."""

    async def body() -> None:
        fleet = fleet_on(SimulatedHost())
        errors: dict[str, BaseException | None] = {"a": StoreError("away"), "b": ZeroDivisionError(), "c": None}

        async def own(id: str, driver: Any, record: Any) -> None:
            if (error := errors[id]) is not None:
                raise error

        fleet.own = own
        for id in errors:
            fleet.take_up(id)
            await fleet.settle(id)
        assert (set(fleet.stuck), set(fleet.crashed)) == ({"a"}, {"b"})
        errors["b"] = None
        fleet.take_up("b")
        assert fleet.crashed == {}
        await fleet.settle("b")
        fleet.unstick()
        assert fleet.stuck == {}

    drive(body)


def test_a_run_that_could_not_go_on_is_left_alone_twice_as_long_each_time() -> None:
    """Up to an hour, and no longer once it went on."""
    trials, now = Trials(), 0
    for wait in (1_000, 2_000, 4_000):
        trials.failed("a", now)
        assert not trials.ripe("a", now + wait - 1)
        assert trials.ripe("a", now + wait)
    for _ in range(50):
        trials.failed("a", now)
    assert trials.ripe("a", now + LONGEST_PAUSE_MS)
    trials.forget("a")
    assert trials.ripe("a", now)


def test_may_try_says_what_is_left_alone() -> None:
    """Other code, a run that is elsewhere, one that is stuck: none of them is tried here."""
    host = SimulatedHost()
    fleet = fleet_on(host)
    record = ExecutionRecord("a", "0123456789ab", "flow", 1, "running", 0, 0)
    assert fleet.may_try(record)
    fleet.stuck["a"] = AlkalineError("x")
    fleet.trials.failed("a", host.now_ms())
    assert not fleet.may_try(record)
    host.advance(1)
    assert fleet.may_try(record)
    record.version = 2
    assert not fleet.may_try(record)


def test_the_oldest_that_is_asleep_makes_room_and_a_changed_record_wakes_nothing() -> None:
    """What is in memory counts only as long as the record is the one it was put to sleep with."""

    async def body() -> None:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            runtime.keep_asleep = 2
            for id in "abc":
                await (await runtime.start("flow", 1, id=id)).settle()
            assert list(runtime.fleet.asleep) == ["b", "c"]
            kept, changed = await runtime.get_execution("b"), await runtime.get_execution("c")
            changed.version_tag = "another"
            assert runtime.fleet.wake(changed) is None
            loaded = runtime.fleet.wake(kept)
            assert loaded is not None
            assert loaded.cursor.length == 1
            loaded.machine.set_aside()
            assert runtime.fleet.asleep == {}

    drive(body)


def test_the_record_of_a_run_is_read_once_on_the_way_to_taking_it_up() -> None:
    """A round trip on a server: who looked whether the run may be driven here hands on what it saw."""
    reads: list[str] = []

    class Counting(SimulatedHost):
        async def get(self, keys: Any) -> Any:
            reads.extend(key for key in keys if key == "r/a")
            return await super().get(keys)

    async def body() -> None:
        async with Runtime(Counting(), workflows=[flow]) as runtime:
            await (await runtime.start("flow", 1, id="a")).settle()
            reads.clear()
            runtime.fleet.poke("a")
            await runtime.settle("a")
            assert reads == ["r/a"]

    drive(body)


def test_a_poke_between_two_drivers_is_looked_after_once_when_the_task_has_ended() -> None:
    """The task is past its last look at the inbox, and no driver is there to be told: whoever came is not forgotten."""

    async def body() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[flow]) as runtime:
            await (await runtime.start(flow, 1, id="a")).settle()
        fleet, begun, go_on = fleet_on(host.reopen()), list[str](), asyncio.Event()

        async def own(id: str, driver: Any, record: Any) -> None:
            begun.append(id)
            await go_on.wait()

        fleet.own = own
        fleet.take_up("a")
        for _ in range(3):
            fleet.poke("a")
        await asyncio.sleep(0)
        assert begun == ["a"]
        go_on.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert begun == ["a", "a"]
        assert fleet.active() == []

    drive(body)


def test_a_draining_fleet_has_no_room_for_whoever_pokes() -> None:
    """What came into an inbox waits for the next process, however it is heard of here."""

    async def body() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[flow]) as runtime:
            await (await runtime.start(flow, 1, id="a")).settle()
        fleet, begun = fleet_on(host.reopen()), list[str]()

        async def own(id: str, driver: Any, record: Any) -> None:
            begun.append(id)

        fleet.own = own
        fleet.drain()
        assert fleet.room() == 0
        fleet.poke("a")
        fleet.take_up("a")
        fleet.take_up_if_known("a")
        for _ in range(20):
            await asyncio.sleep(0)
        assert (begun, fleet.active()) == ([], [])

    drive(body)
