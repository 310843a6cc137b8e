"""Owning runs: one that moved meanwhile is read again, one that was lost is taken anew, one that is stuck is let go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, DeterminismError, Runtime, workflow
from alkaline_edge.host import Batch, Put
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


async def quick(n: int) -> int:
    return n


@workflow
async def counts(ctx: Context, n: int) -> int:
    return sum([await ctx.step(f"step-{k}", quick, k) for k in range(n)])


def moving(host: SimulatedHost, times: int, when: Any) -> list[int]:
    """Somebody writes the record of run a, so often, right before a commit that ``when`` picks: it is still its own."""
    moved: list[int] = []

    def befall(call: int, verb: str, arguments: Any) -> None:
        if verb == "commit" and len(moved) < times and when(arguments[0]):
            moved.append(call)
            entry = host.store.entries["r/a"]
            host.store.apply(Batch(f"moved-{call}", (), (Put("r/a", entry.value),), ()))

    host.on_call = befall
    return moved


@pytest.mark.parametrize("times", [1, 3, 19])
def test_a_run_whose_record_moves_while_it_is_taken_is_read_again(times: int) -> None:
    """Until it is taken: who looked for it does not have to look a second time."""

    async def test() -> None:
        host = SimulatedHost()
        first = Runtime(host, workflows=[counts])
        await first.start(counts, 5, id="a")
        await first.close()
        moved = moving(host := host.reopen(), times, lambda batch: any(put.key == "r/a" for put in batch.puts))
        async with Runtime(host, workflows=[counts]) as runtime:
            runtime.fleet.take_up("a")
            await runtime.fleet.settle("a")
            assert (await runtime.get_execution("a")).status == "completed"
        assert len(moved) == times

    drive(test)


@pytest.mark.parametrize("times", [1, 4])
def test_a_run_that_was_lost_is_taken_up_anew(times: int) -> None:
    """A commit of ours met another write, and nobody else has the run: it goes on from what was recorded."""

    async def test() -> None:
        host = SimulatedHost()
        moved = moving(
            host, times, lambda batch: any(put.key[:2] == "h/" and put.key[-2:] != "a0" for put in batch.puts)
        )
        async with Runtime(host, workflows=[counts]) as runtime:
            await runtime.start(counts, 9, id="a")
            await runtime.fleet.settle("a")
            assert (await runtime.get_execution("a")).result == 36
        assert len(moved) == times

    drive(test)


def test_a_run_that_can_not_go_on_here_is_let_go_of() -> None:
    """Its lease is handed back, so that a process with other code may take it at once."""

    @workflow(name="stalls")
    async def stalls(ctx: Context) -> None:
        await ctx.step("quick", quick, 1)
        await asyncio.get_running_loop().create_future()

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[stalls]) as runtime:
            run = await runtime.start(stalls, id="a")
            with pytest.raises(DeterminismError):
                await run.result()
            await runtime.fleet.settle("a")
            record = await runtime.store.record("a")
            assert (record.owner, record.lease_until, record.status) == (None, 0, "running")

    drive(test)
