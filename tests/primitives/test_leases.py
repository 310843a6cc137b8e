"""Owners whose clock is wrong: their leases end too late, and are believed no longer than a lease."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Runtime, keys, workflow
from alkaline_edge.limits import CLOCKS_DIFFER_MS
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore
from tests.support import drive

YEAR = 365 * 86_400
WRONG = [180, 3_600, YEAR, 50 * YEAR]
LEASES = [5.0, 30.0, 900.0]


class Skewed(SimulatedHost):
    """A process whose clock is off by some seconds."""

    off = 0.0

    def now_ms(self) -> int:
        """The wrong time."""
        return super().now_ms() + round(self.off * 1_000)


class Trial:
    """One run that waits in a step, and how often that was begun, and by how many owners at the same time."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.store = SimulatedStore()
        self.store.clock.auto = False
        self.wrong = self.draw.choice(WRONG) * self.draw.uniform(1, 1.5)
        self.lease = self.draw.choice(LEASES)
        self.begun: list[int] = []
        self.go = asyncio.Event()

        async def work() -> str:
            self.begun.append(self.store.clock.now_ms)
            await self.go.wait()
            return "done"

        @workflow(name="works", version=1)
        async def works(ctx: Context) -> str:
            return await ctx.step(work)

        self.works = works

    def runtime(self, off: float, lease: float | None = None) -> Runtime:
        host = Skewed(self.store, seed=self.draw.randrange(2**30))
        host.off = off
        return Runtime(host, workflows=[self.works], lease=lease or self.lease)

    async def until(self, condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float) -> None:
        """Time goes on, and every sleeper has its turn."""
        self.store.clock.advance(seconds * 1_000)
        for _ in range(200):
            await asyncio.sleep(0)

    async def look(self, lease: float | None = None) -> bool:
        """A process with a right clock that lives for a moment: whether it has begun the step."""
        before = len(self.begun)
        runtime = self.runtime(0, lease)
        await runtime.recover()
        await runtime.run_due() if self.draw.random() < 0.5 else None
        for _ in range(50):
            await asyncio.sleep(0)
        begun = len(self.begun) > before
        if begun:
            return True
        await runtime.close()
        return False

    async def killed(self, runtime: Runtime) -> None:
        host = runtime.host
        assert isinstance(host, SimulatedHost)
        host.dead = True
        with contextlib.suppress(SimulatedCrash, AlkalineError):
            await runtime.close()

    def notes(self) -> list[str]:
        return [key for key in self.store.keys if key.startswith("l/")]


@pytest.mark.parametrize("seed", range(30))
def test_a_run_of_a_dead_owner_whose_clock_was_ahead_goes_on_though_nobody_watches(seed: int) -> None:
    """Processes that live for a moment take it a lease and a minute after the first of them looked; not within it."""

    async def body() -> None:
        trial = Trial(seed)
        owner = trial.runtime(trial.wrong)
        await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        await trial.killed(owner)
        first = trial.store.clock.now_ms
        lease = trial.draw.choice(LEASES)  # theirs may be shorter, or longer
        longest = max(lease, trial.lease) * 1_000
        while not await trial.look(lease):
            passed = trial.store.clock.now_ms - first
            assert passed < 2 * (longest + CLOCKS_DIFFER_MS), "as late as the clock was ahead"
            if trial.wrong > 7_200:
                assert passed < longest + CLOCKS_DIFFER_MS + 50_000
                assert trial.notes() == [keys.doubted((await trial.runtime(0).get_execution("r")).run)]
            await trial.pass_by(trial.draw.uniform(1, 50))
        assert trial.store.clock.now_ms - first >= min(longest, (trial.wrong + trial.lease) * 1_000 - 1)
        assert trial.notes() == []

    drive(body)


@pytest.mark.parametrize("seed", range(30))
def test_a_live_owner_whose_clock_is_ahead_keeps_its_run(seed: int) -> None:
    """It renews its lease; so nobody that looks now and then, or watches, takes it, and the step begins once."""

    async def body() -> None:
        trial = Trial(seed)
        owner = trial.runtime(trial.wrong)
        run = await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        watcher = trial.runtime(0)
        stop = asyncio.Event()
        watching = asyncio.ensure_future(watcher.serve(stop))
        for _ in range(40):
            await trial.pass_by(trial.draw.uniform(0.1, 0.5) * trial.lease)
            if trial.draw.random() < 0.5:
                assert not await trial.look()
        assert len(trial.begun) == 1
        trial.go.set()
        assert await run.result() == "done"
        stop.set()
        await watching
        await watcher.close()
        await owner.close()

    drive(body)


@pytest.mark.parametrize("seed", range(30))
def test_an_owner_whose_clock_was_ahead_for_a_moment_renews_its_lease_by_the_right_one(seed: int) -> None:
    """Its lease ends in a year, which nobody believes: it goes on renewing it, and keeps its run."""

    async def body() -> None:
        trial = Trial(seed)
        owner = trial.runtime(0)
        host = owner.host
        assert isinstance(host, Skewed)
        wrong_first = trial.draw.random() < 0.5
        host.off = trial.wrong if wrong_first else 0
        run = await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        await trial.pass_by(0)
        host.off = trial.wrong
        await trial.pass_by(trial.draw.uniform(0.35, 0.9) * trial.lease)  # renewed by the wrong clock
        host.off = 0
        watcher = trial.runtime(0)
        stop = asyncio.Event()
        watching = asyncio.ensure_future(watcher.serve(stop))
        for _ in range(40):
            await trial.pass_by(trial.draw.uniform(0.1, 0.3) * trial.lease)
            if trial.draw.random() < 0.3:
                assert not await trial.look()
        assert len(trial.begun) == 1
        record = await owner.get_execution("r")
        assert record.lease_until - trial.store.clock.now_ms <= trial.lease * 1_000
        trial.go.set()
        assert await run.result() == "done"
        stop.set()
        await watching
        await watcher.close()
        await owner.close()

    drive(body)


def test_a_note_of_a_clock_that_was_itself_ahead_is_written_anew() -> None:
    """Who noted the lease may have been ahead as well: what was noted in the future does not hold the run back."""

    async def body() -> None:
        trial = Trial(1)
        trial.lease = 30.0
        owner = trial.runtime(2 * YEAR)
        await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        await trial.killed(owner)
        ahead = trial.runtime(YEAR)
        await ahead.recover()
        await ahead.close()
        assert len(trial.notes()) == 1
        assert not await trial.look()
        await trial.pass_by(91)
        assert await trial.look()

    drive(body)


def test_a_cancelled_run_whose_owner_died_with_a_clock_ahead_can_be_deleted() -> None:
    """Nobody has its code any more: a minute after its cancel it is deleted, not after the year of its lease."""

    async def body() -> None:
        trial = Trial(2)
        owner = trial.runtime(YEAR)
        await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        await trial.killed(owner)
        async with Runtime(Skewed(trial.store, seed=9)) as runtime:
            await runtime.cancel("r")
            await trial.pass_by(61)
            await runtime.delete("r")
        assert not [key for key in trial.store.keys if not key.startswith("m/")]

    drive(body)


def test_a_store_that_takes_no_note_is_watched_as_before() -> None:
    """A commit that the store refuses keeps nobody from looking: the process watches for itself."""

    async def body() -> None:
        trial = Trial(3)
        trial.lease = 30.0
        owner = trial.runtime(YEAR)
        await owner.start("works", id="r")
        await trial.until(lambda: trial.begun)
        await trial.killed(owner)
        watcher = trial.runtime(0)
        host = watcher.host
        assert isinstance(host, SimulatedHost)
        host.fault = lambda n, verb: "rejected" if verb == "commit" and not taken else None
        taken: list[int] = []
        assert await watcher.recover() == []
        assert trial.notes() == []
        await trial.pass_by(31)
        taken.append(1)
        assert [run.id for run in await watcher.recover()] == ["r"]
        await trial.until(lambda: len(trial.begun) == 2)
        trial.go.set()
        assert (await (await watcher.resume("r")).result()) == "done"
        await watcher.close()

    drive(body)
