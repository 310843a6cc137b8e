"""Bugs that the fault simulation found, each with the least that shows it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, StepInfo, workflow
from alkaline_edge import events as ev
from tests.support import Process, drive


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def replayed(flow: Any, act: Any = None) -> Any:
    """The result of a run that crashes while it waits for "end", and is replayed from the top then."""
    found: list[Any] = []

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        if act is not None:
            await act(process, run)
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "end")
        run = await process.runtime.resume("a")
        found.append(await run.result())
        await process.runtime.close()

    drive(test)
    return found[0]


def test_branches_that_draw_when_steps_end_together() -> None:
    """Two steps end at once and each branch draws a value then: the history replays.

    Both outcomes stood in one commit, the drawn values behind it, where no replay looked for them: stuck for ever.
    """

    @workflow
    async def flow(ctx: Context) -> Any:
        async def branch(n: int) -> Any:
            await ctx.step(f"before-{n}", echo, n)
            drawn = [ctx.random(), ctx.uuid(), str(ctx.now())]
            return await ctx.step(f"after-{n}", echo, drawn) == drawn

        same = await ctx.all(*(branch(n) for n in range(4)))
        await ctx.wait_for_signal("end")
        return same

    assert replayed(flow) == [True] * 4


def test_signals_that_arrive_together_and_a_value_between_them() -> None:
    """A handler that draws a value after each of several signals replays, also when they came in at once."""

    @workflow
    async def flow(ctx: Context) -> Any:
        got = []
        for _ in range(3):
            payload = await ctx.wait_for_signal("item")
            got.append([payload, ctx.random() < 1])
            ctx.spend(1)
        await ctx.wait_for_signal("end")
        return got

    async def act(process: Process, run: Any) -> None:
        for n in range(3):
            await process.runtime.signal("a", "item", n)

    assert replayed(flow, act) == [[n, True] for n in range(3)]


def test_timers_that_are_due_together_and_a_value_between_them() -> None:
    """Branches that draw a value when their timers fire replay, also when the timers are due in the same instant."""

    @workflow
    async def flow(ctx: Context) -> Any:
        async def branch() -> bool:
            await ctx.sleep(5)
            return ctx.random() < 1

        found = await ctx.all(branch(), branch(), branch())
        await ctx.wait_for_signal("end")
        return found

    async def act(process: Process, run: Any) -> None:
        await run.settle()
        process.host.advance(60)
        await process.runtime.run_due()

    assert replayed(flow, act) == [True] * 3


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_step_info_may_stand_anywhere_among_the_parameters(place: str) -> None:
    """A StepInfo parameter is filled wherever it stands; the arguments of the step go around it.

    One that stood first got the step's first argument, and the step failed with a TypeError.
    """

    def first(info: StepInfo, one: int, two: int) -> list[Any]:
        return [info.step, one, two]

    def middle(one: int, info: StepInfo, two: int) -> list[Any]:
        return [info.step, one, two]

    def last(one: int, two: int, *, info: StepInfo) -> list[Any]:
        return [info.step, one, two]

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.step("named", {"first": first, "middle": middle, "last": last}[place], 1, 2)

    async def test() -> None:
        process = Process(flow)
        assert await (await process.runtime.start(flow)).result() == ["named", 1, 2]
        await process.runtime.close()

    drive(test)


def test_resume_of_a_run_that_ends_meanwhile() -> None:
    """``resume`` of a run that is being driven and ends before the request is in gives the run, and no error."""

    @workflow
    async def flow(ctx: Context) -> Any:
        return [await ctx.step("echo", echo, n) for n in range(3)]

    async def test() -> None:
        for turns in range(40):
            process = Process(flow)
            run = await process.runtime.start(flow, id="a")
            for _ in range(turns):
                await asyncio.sleep(0)
            assert await (await process.runtime.resume("a")).result() == [0, 1, 2]
            names = [type(recorded.event) for recorded in await process.runtime.history(run.id)]
            assert names.count(ev.StepCompleted) == 3
            await process.runtime.close()

    drive(test)
