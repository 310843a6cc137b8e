"""Making runs: one is in the store before whoever makes it knows, and nobody drives it twice for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from tests.support import drive, kinds


class Slow(SimulatedHost):
    """Its answers to commits that make a run come ``late`` seconds after the run is there."""

    late = 2.0

    async def commit(self, batch: Any) -> Any:
        outcome = await super().commit(batch)
        if any(put.key.endswith("/a0") for put in batch.puts):
            await self.sleep(self.late)
        return outcome


class Counted:
    """A workflow that counts how often its step ran."""

    def __init__(self) -> None:
        self.ran = 0

        async def work() -> str:
            self.ran += 1
            return "done"

        @workflow(name="flow")
        async def flow(ctx: Context) -> str:
            return await ctx.step("work", work)

        self.flow = flow


@pytest.mark.parametrize("how", ["join", "take up", "run_due", "recover", "serve"])
def test_who_finds_a_run_that_is_being_made_here_leaves_it_to_its_maker(how: str) -> None:
    """The store has it, and the answer is on its way: taken up meanwhile, its first step would run a second time."""
    counted = Counted()

    async def test() -> None:
        async with Runtime(Slow(), workflows=[counted.flow], lease=10) as runtime:
            making = asyncio.ensure_future(runtime.start("flow", id="a"))
            while await runtime.store.find("a") is None:
                await asyncio.sleep(0)
            serving = None
            if how == "join":
                await runtime.start("flow", id="a", on_conflict="join")
            elif how == "take up":
                runtime.fleet.take_up("a")
                runtime.fleet.poke("a")
            elif how == "serve":
                serving = asyncio.ensure_future(runtime.serve())
            else:
                await getattr(runtime, how)()
            assert await runtime.result("a", None) == "done"
            await making
            assert await runtime.result("a", None) == "done"
            await runtime.fleet.settle("a")
            if serving is not None:
                serving.cancel()
            assert kinds(await runtime.history("a")) == ["Started", "StepCompleted", "Completed"]
        assert counted.ran == 1

    drive(test)


def test_a_run_that_is_handed_over_as_it_is_made_is_not_begun_here() -> None:
    """It leaves once whoever makes it knows that it is there, and goes on where it arrives."""
    counted = Counted()

    async def test() -> None:
        here = Runtime(Slow(), workflows=[counted.flow])
        there = Runtime(SimulatedHost(seed=5), workflows=[counted.flow])
        making = asyncio.ensure_future(here.start("flow", id="a"))
        while await here.store.find("a") is None:
            await asyncio.sleep(0)
        bundle = await here.export("a", handoff=True)
        await making
        await here.fleet.settle("a")
        assert counted.ran == 0
        run = await there.import_(bundle, mode="take_over")
        assert await run.result() == "done"
        assert counted.ran == 1
        await here.close()
        await there.close()

    drive(test)


def test_one_that_was_not_made_after_all_is_taken_up_by_who_wanted_it() -> None:
    """The id is another run's: whoever joined it meanwhile drives that."""
    counted = Counted()

    async def test() -> None:
        host = Slow()
        host.late = 0.0
        other = Runtime(host.reopen(), workflows=[counted.flow], lease=5)
        await other.start("flow", id="a")
        await other.close()
        host.late = 3.0
        async with Runtime(host, workflows=[counted.flow]) as runtime:
            starts = [runtime.start("flow", id="a", on_conflict="join") for _ in range(3)]
            for run in await asyncio.gather(*starts):
                assert await run.result() == "done"
        assert counted.ran == 1

    drive(test)


def test_who_looked_at_a_run_while_it_was_made_looks_again_when_it_is() -> None:
    """Or is not: it was active, and whoever waits for it to change would wait for ever."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            begun = host.now_ms()
            await runtime.fleet.begin_making("a")
            assert runtime.fleet.is_active("a")
            mark = runtime.fleet._changes.mark()
            waiting = asyncio.ensure_future(runtime.fleet._changes.wait(3_600, mark))
            await asyncio.sleep(0)
            runtime.fleet.made("a")
            await waiting
            assert host.now_ms() == begun
            assert not runtime.fleet.is_active("a")

    drive(test)
