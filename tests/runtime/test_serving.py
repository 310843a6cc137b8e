"""The rounds of a serving process: what it looks at and when, what it passes over, and what it leaves to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, StoreError, workflow
from alkaline_edge.errors import UnreadableValue
from alkaline_edge.host import Batch, Put
from alkaline_edge.runtime import waking
from alkaline_edge.runtime.serving import NEVER, Rounds, Waiting
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import drive

LEASE = 60


@workflow
async def waits(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_signal("go", timeout=n)


@workflow
async def foreign(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


class Stage:
    """A store in which another process has left runs, and the rounds of one that knows ``waits`` alone."""

    def __init__(self) -> None:
        self.host = SimulatedHost(clock=VirtualClock(auto=False))
        self.runtime = Runtime(self.host, workflows=[waits], lease=LEASE)
        self.other = Runtime(SimulatedHost(self.host.store, seed=7), workflows=[waits, foreign], lease=LEASE)
        runtime = self.runtime
        self.rounds = Rounds(
            runtime.store, runtime.registry, runtime.leases, runtime.fleet, runtime._teller, runtime._scheduled,
            runtime._waker,
        )  # fmt: skip
        self.taken: list[str] = []
        runtime.fleet.take_up = self.take_up  # type: ignore[method-assign]

    def take_up(self, id: str, driver: Any = None, record: Any = None) -> None:
        self.taken.append(id)

    @property
    def now(self) -> int:
        return self.host.now_ms()

    async def left(self, *ids: str, seconds: int = 100, definition: Any = waits) -> None:
        """Suspended runs that nobody has in memory."""
        for id in ids:
            run = await self.other.start(definition, *([seconds] if definition is waits else []), id=id)
            await run.settle()

    async def held(self, id: str) -> Any:
        """The record of a run that the other process drives."""
        await self.left(id)
        record = await self.other.store.record(id)
        self.other.leases.take(record)
        record.status = "running"
        await self.put(record)
        return record

    async def put(self, record: Any) -> None:
        from alkaline_edge.runtime.write import Write, indexes_of

        write = Write({f"r/{record.id}": record.version_tag})
        old = await self.other.store.record(record.id)
        self.other.store.put_record(write, record, indexes_of(old))
        record.version_tag = (await self.other.store.commit(write)).version  # type: ignore[union-attr]


def staged(test: Callable[[Stage], Awaitable[None]]) -> None:
    async def body() -> None:
        stage = Stage()
        await test(stage)
        await stage.other.close()
        await stage.runtime.close()

    drive(body)


def asleep(wake_at: int | None) -> Any:
    return SimpleNamespace(record=SimpleNamespace(wake_at=wake_at), machine=SimpleNamespace(set_aside=lambda: None))


def test_of_the_runs_in_memory_those_that_are_due_and_may_go_on_are_woken() -> None:
    """One that is stuck waits for its next try, whatever its timer says; the next timer of the others is noted."""

    async def test(stage: Stage) -> None:
        fleet, now = stage.runtime.fleet, stage.now
        fleet.asleep.update(
            due=asleep(now), late=asleep(now - 5), stuck=asleep(now - 5), soon=asleep(now + 7), later=asleep(now + 90),
            never=asleep(None), broken=asleep(now + 1),
        )  # fmt: skip
        fleet.stuck.update(stuck=StoreError("damaged"), broken=StoreError("damaged"))
        stage.rounds._wake_own(now)
        assert stage.taken == ["due", "late"]
        assert stage.rounds._here == now + 7

    staged(test)


def test_what_may_pass_by_itself_is_forgotten_twice_in_a_lease() -> None:
    """Whose a run is not, and errors of the store; not what can't be read until somebody mends it."""

    async def test(stage: Stage) -> None:
        rounds, fleet = stage.rounds, stage.runtime.fleet
        await rounds._look(stage.now)
        rounds._not_ours.add("moved")
        fleet.stuck.update(away=StoreError("away"), damaged=UnreadableValue("damaged", place="r/x", reason="damaged"))
        stage.host.advance(LEASE / 2 - 1)
        await rounds._look(stage.now)
        assert rounds._not_ours == {"moved"}
        assert {*fleet.stuck} == {"away", "damaged"}
        stage.host.advance(1)
        await rounds._look(stage.now)
        assert rounds._not_ours == set()
        assert {*fleet.stuck} == {"damaged"}

    staged(test)


def test_a_run_that_another_process_drives_is_left_and_the_end_of_its_lease_noted() -> None:
    """It is looked at again then, and taken if nobody has renewed it."""

    async def test(stage: Stage) -> None:
        record = await stage.held("a")
        rounds = stage.rounds
        assert await rounds._takeable(["a"], stage.now, "running") == []
        assert rounds._lease_ends == record.lease_until
        assert rounds._others()
        stage.host.advance(LEASE)
        (found,) = await rounds._takeable(["a"], stage.now, "running")
        assert (found.id, found.version) == ("a", record.version_tag)

    staged(test)


def test_what_can_not_be_driven_here_is_none_of_ours() -> None:
    """Its code is not here, it went elsewhere, or it is a copy whose requests wait for the run."""

    async def test(stage: Stage) -> None:
        await stage.left("known")
        await stage.left("unknown", definition=foreign)
        await stage.left("moved", "copy")
        for id, change in (("moved", {"moved_to": "elsewhere"}), ("copy", {"copy": True, "status": "paused"})):
            record = await stage.other.store.record(id)
            for name, value in change.items():
                setattr(record, name, value)
            await stage.put(record)
        found = await stage.rounds._takeable(["known", "unknown", "moved", "copy", "gone"], stage.now, None)
        assert [waiting.id for waiting in found] == ["known"]
        assert stage.rounds._not_ours == {"unknown", "moved", "copy"}
        assert stage.rounds._passed_over("unknown")
        assert not stage.rounds._passed_over("known")

    staged(test)


def test_what_was_left_to_others_is_taken_later_unless_it_has_changed() -> None:
    """Who has taken it since has moved its record."""

    async def test(stage: Stage) -> None:
        await stage.left("a", "b", "c")
        versions = {id: (await stage.other.store.record(id)).version_tag for id in "abc"}
        now, rounds = stage.now, stage.rounds
        rounds._found = [
            Waiting("a", versions["a"], now, now), Waiting("b", "another", now, now),
            Waiting("c", versions["c"], now + 1, now), Waiting("gone", "1", now, now),
        ]  # fmt: skip
        await rounds._take_later(now)
        assert stage.taken == ["a"]
        assert [waiting.id for waiting in rounds._found] == ["c"]

    staged(test)


def test_where_there_are_others_what_is_not_in_memory_is_left_to_them_for_a_moment() -> None:
    """In an order of this process's own; a second look leaves the moment as it was."""

    async def test(stage: Stage) -> None:
        rounds, now = stage.rounds, stage.now
        found = [Waiting(f"r{n}", "1", now, now) for n in range(20)]
        rounds._put(list(found), now)
        assert {waiting.at for waiting in rounds._found} == {now}
        rounds._saw_others()
        stage.runtime.fleet.asleep["r3"] = asleep(None)
        found = [waiting._replace(version="2") for waiting in found]
        rounds._put(list(found), now)
        times = {waiting.id: waiting.at for waiting in rounds._found}
        assert times["r3"] == now
        assert len(set(times.values())) > 5
        assert all(now <= at < now + 200 for at in times.values())
        assert [waiting.at for waiting in rounds._found] == sorted(times.values())
        rounds._put([waiting._replace(found_at=now + 10, at=now + 10) for waiting in found], now + 10)
        again = {waiting.id: waiting.at for waiting in rounds._found if waiting.id != "r3"}
        assert again == {id: at for id, at in times.items() if id != "r3"}

    staged(test)


def test_every_run_with_requests_is_found_and_drivers_are_told() -> None:
    """Each once, however many requests it has, from where the last look ended."""

    async def test(stage: Stage) -> None:
        await stage.left("a", "b", "c", "d")
        outside = Runtime(stage.host.reopen())
        for id in "abcd":
            for n in range(3):
                await outside.signal(id, "other", n)
        told: list[str] = []
        stage.runtime.fleet.drivers["b"] = SimpleNamespace(poke=lambda: told.append("b"))  # type: ignore[assignment]
        assert await stage.rounds._asked() == ["a", "c", "d"]
        assert told == ["b"]
        assert await stage.rounds._asked() == ["a", "c", "d"]
        stage.runtime.fleet.drivers.clear()

    staged(test)


def test_due_timers_are_found_and_the_next_one_is_noted() -> None:
    """The oldest first."""

    async def test(stage: Stage) -> None:
        for seconds, id in ((100, "a"), (50, "b"), (10, "c"), (200, "d")):
            await stage.left(id, seconds=seconds)
        begun = stage.now
        assert await stage.rounds._due(stage.now) == []
        assert stage.rounds._there == begun + 10_000
        stage.host.advance(60)
        assert await stage.rounds._due(stage.now) == ["c", "b"]
        assert stage.rounds._there == begun + 100_000
        stage.host.advance(600)
        assert await stage.rounds._due(stage.now) == ["c", "b", "a", "d"]
        assert stage.rounds._there == NEVER

    staged(test)


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_running_runs_are_walked_through_again_and_again(count: int) -> None:
    """Page by page, and from the beginning behind the last: an owner may die at any time."""

    async def test(stage: Stage) -> None:
        await stage.held("r0")
        store = stage.host.store
        for n in range(1, count):
            store.apply(Batch(f"x{n}", (), (Put(f"x/s/running/w/r{n:04d}", b""),), ()))
        for _ in range(3):
            seen: list[str] = []
            for _ in range(4):
                seen += await stage.rounds._running(stage.now)
                if not stage.rounds._running_after:
                    break
            assert len(seen) == len(set(seen)) == count

    staged(test)


def test_a_look_finds_runs_whose_owner_is_gone() -> None:
    """A run that nobody drives has no timer and no request: it is found by walking."""

    async def test(stage: Stage) -> None:
        await stage.held("a")
        await stage.rounds._look(stage.now)
        assert stage.rounds._found == []
        stage.host.advance(LEASE)
        await stage.rounds._look(stage.now)
        assert [waiting.id for waiting in stage.rounds._found] == ["a"]
        await asyncio.sleep(0)

    staged(test)


def test_a_look_finds_runs_whose_timers_a_clock_that_was_ahead_has_set() -> None:
    """They are not due for long, and wake to find out when they really are; not those that are passed over."""

    async def test(stage: Stage) -> None:
        await stage.left("a", "b", seconds=100_000)

        async def misdated(now: int) -> list[str]:
            return ["a", "b"]

        stage.rounds._waker.misdated = misdated  # type: ignore[method-assign]
        stage.rounds._not_ours.add("b")
        stage.rounds._renew_at = stage.now + 1
        await stage.rounds._look(stage.now)
        assert [waiting.id for waiting in stage.rounds._found] == ["a"]

    staged(test)


def test_a_copy_is_not_woken_for_requests_that_wait_for_the_run() -> None:
    """They are the run's, which may be on its way: only a resume of the copy itself is for the copy."""

    async def test(stage: Stage) -> None:
        await stage.left("copy")
        record = await stage.other.store.record("copy")
        record.copy, record.status, record.wake_at = True, "paused", None
        await stage.put(record)
        outside = Runtime(stage.host.reopen())
        await outside.signal("copy", "go", 1)
        assert await stage.runtime._waker.wake_due(set()) == []
        assert stage.taken == []
        await outside.asker.request("copy", "resume")
        assert await stage.runtime._waker.wake_due(set()) == ["copy"]
        assert stage.taken == ["copy"]

    staged(test)


@pytest.mark.parametrize("page", [1, 2, 4, 5, 6])
def test_recover_takes_up_every_run_whose_owner_is_gone(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """However many pages of them there are; not one that somebody drives."""
    monkeypatch.setattr(waking, "PAGE", page)

    async def test(stage: Stage) -> None:
        for n in range(4):
            await stage.held(f"r{n}")
        stage.host.advance(LEASE)
        await stage.held("alive")
        assert sorted(await stage.runtime._waker.recover()) == ["r0", "r1", "r2", "r3"]
        assert sorted(stage.taken) == ["r0", "r1", "r2", "r3"]

    staged(test)
