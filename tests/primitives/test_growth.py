"""What one item of a wide run costs does not grow with how many there are. Operations are counted, never seconds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.support import drive

SMALL, LARGE = 40, 160


async def counted(work: Callable[[], Awaitable[Any]]) -> int:
    """How many operations of the interpreter the package runs for ``work``; a scan of what waits counts by the item."""
    count = 0

    def each(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if "alkaline_" not in frame.f_code.co_filename:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        await work()
    finally:
        sys.settrace(before)
    return count


async def step(n: int) -> int:
    return n


def plain(n: int) -> int:
    return n


@workflow
async def steps(ctx: Context, count: int) -> None:
    await ctx.all(*(ctx.step("step", step, n) for n in range(count)))


@workflow
async def plain_steps(ctx: Context, count: int) -> None:
    await ctx.all(*(ctx.step("plain", plain, n) for n in range(count)))


@workflow
async def timers(ctx: Context, count: int) -> None:
    await ctx.all(*(ctx.sleep(n / 100_000) for n in range(count)))


@workflow
async def signals(ctx: Context, count: int) -> None:
    for _ in range(count):
        await ctx.wait_for_signal("go")


FLOWS = [steps, plain_steps, timers, signals]


async def run(name: str, count: int) -> None:
    async with Runtime(MemoryHost(), workflows=FLOWS) as runtime:
        run = await runtime.start(name, count)
        await run.result(timeout=30)


@pytest.mark.parametrize("name", ["steps", "plain_steps", "timers"])
def test_a_wide_run_costs_as_much_for_each_as_a_narrow_one(name: str) -> None:
    """Four times the parallel steps or timers of one run take no more for each of them."""

    async def test() -> None:
        # What is made once is made; and CPython 3.12 traces no operations of code that it first sees while it traces.
        await counted(lambda: run(name, SMALL))
        small = await counted(lambda: run(name, SMALL)) / SMALL
        large = await counted(lambda: run(name, LARGE)) / LARGE
        assert 0 < large < small * 1.2, f"{small:.0f} operations each of {SMALL}, {large:.0f} each of {LARGE}"

    drive(test)


def test_pokes_of_a_run_that_is_between_two_drivers_are_one() -> None:
    """However often it is poked meanwhile, it is looked at once more."""

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[signals]) as runtime:
            run = await runtime.start("signals", 1)
            await run.settle()
            fleet = runtime.fleet
            fleet.take_up_if_known(run.id)
            task = fleet._tasks[run.id]
            before = len(task._callbacks or [])  # type: ignore[attr-defined]
            for _ in range(50):
                fleet.take_up_if_known(run.id)
            assert len(task._callbacks or []) <= before + 1  # type: ignore[attr-defined]
            await run.signal("go")
            await run.result(timeout=5)

    drive(test)


@pytest.mark.parametrize("act", ["signal", "cancel"])
def test_who_waits_for_another_run_is_not_woken(act: str) -> None:
    """Each of many suspended runs is awaited, and woken in turn: the store is read as often for each as with a few."""

    async def reads(count: int) -> float:
        host = SimulatedHost()
        async with Runtime(host, workflows=[signals]) as runtime:
            runs = [await runtime.start("signals", 1) for _ in range(count)]
            for each in runs:
                await each.settle()
            waiting = [asyncio.ensure_future(each.result()) for each in runs]
            await asyncio.sleep(0)
            before = sum(host.counts.values())
            for each in runs:
                await (each.signal("go") if act == "signal" else each.cancel())
                await each.settle()
            await asyncio.gather(*waiting, return_exceptions=True)
            return (sum(host.counts.values()) - before) / count

    async def test() -> None:
        few, many = await reads(5), await reads(25)
        assert many <= 1.3 * few

    drive(test)
