"""Letting go of runs: what a process that stops hands back, what it keeps, and what it leaves as others have it."""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.runtime import effects
from alkaline_edge.runtime.write import Write, indexes_of
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


async def quick() -> str:
    return "quick"


@workflow
async def waits_for_ever(ctx: Context) -> str:
    return await ctx.step("stubborn", _forever)


_over: list[asyncio.Event] = []


async def _forever() -> str:
    while not _over[-1].is_set():
        try:
            await _over[-1].wait()
        except asyncio.CancelledError:
            pass  # it goes on though it was told to stop
    return "done"


async def stopped_with(monkeypatch: Any, seconds: float) -> Any:
    """The record of a run whose step does not stop, once its runtime was closed."""
    monkeypatch.setattr(effects, "LINGER_SECONDS", seconds)
    _over.append(asyncio.Event())
    host = SimulatedHost()
    runtime = Runtime(host, workflows=[waits_for_ever])
    await runtime.start(waits_for_ever, id="a")
    for _ in range(20):
        await asyncio.sleep(0)
    await runtime.close()
    async with Runtime(host.reopen(), workflows=[]) as other:
        record = await other.get_execution("a")
    _over[-1].set()
    for _ in range(20):
        await asyncio.sleep(0)
    return record


def test_the_lease_of_a_step_that_goes_on_is_left_to_run_out(monkeypatch: Any) -> None:
    """Whoever took the run up at once would begin that step a second time, beside the first."""
    record = drive(lambda: stopped_with(monkeypatch, -0.5))
    assert record.owner is not None
    assert record.status == "running"


def test_an_owner_that_stops_leaves_the_lease_of_another_alone() -> None:
    """By then its run may be somebody else's: that owner goes on, and its lease with it."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go", timeout=3_600)

    async def test() -> None:
        host = SimulatedHost()
        first = Runtime(host, workflows=[flow], lease=10)
        await first.start("flow", id="a")
        second = Runtime(SimulatedHost(host.store, seed=7), workflows=[flow], lease=10)
        theirs = await second.store.record("a")
        second.leases.take(theirs)
        write = Write({"r/a": theirs.version_tag})
        second.store.put_record(write, theirs, indexes_of(theirs))
        await second.store.commit(write)
        await first.close()
        record = await second.get_execution("a")
        assert record.owner == second.leases.token
        assert record.lease_until == theirs.lease_until
        await second.close()

    drive(test)
