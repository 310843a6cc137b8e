"""Bugs that the fault simulation found, each with the least that shows it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Codec, Context, StepInfo, workflow
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


def killed_at(process: Process, holds: Any) -> None:
    """The process dies right after the first batch for which ``holds`` is true has been applied."""
    host = process.host
    host.on_call = lambda number, verb, arguments: "crash-after" if verb == "commit" and holds(arguments[0]) else None


async def dead(process: Process) -> None:
    while not process.host.dead:
        await asyncio.sleep(0)


def events_in(batch: Any) -> list[int]:
    """The kinds of the events that a batch records."""
    codec = Codec()
    return [event[0] for key, value in batch.puts if key.startswith("h/") for event in codec.decode(value)[2:]]


@workflow
async def two_steps(ctx: Context) -> Any:
    await ctx.wait_for_signal("go")
    return [await ctx.step("echo", echo, n) for n in range(2)]


def test_a_pause_is_not_forgotten_by_a_crash() -> None:
    """Paused is recorded and the process dies before the run is set aside: the next one does not run it on."""

    async def test() -> None:
        process = Process(two_steps)
        run = await process.runtime.start("two_steps", id="a")
        await run.settle()
        killed_at(process, lambda batch: ev.PAUSED in events_in(batch))
        await run.pause()
        await dead(process)
        await process.crash()
        assert (await process.runtime.get_execution("a")).status == "paused"
        await process.runtime.signal("a", "go")
        await process.runtime.recover()
        await process.runtime.run_due()
        assert (await process.runtime.get_execution("a")).status == "paused"
        assert await (await process.runtime.resume("a")).result() == [0, 1]
        await process.runtime.close()

    drive(test)


def test_a_resume_is_not_forgotten_by_a_crash() -> None:
    """Resumed is recorded and the process dies: the next one runs on without being asked again."""

    async def test() -> None:
        process = Process(two_steps)
        run = await process.runtime.start("two_steps", id="a")
        await run.settle()
        await run.pause()
        await run.signal("go")
        await run.settle()
        assert (await process.runtime.get_execution("a")).status == "paused"
        killed_at(process, lambda batch: ev.RESUMED in events_in(batch))
        await run.resume()
        await dead(process)
        await process.crash()
        await process.runtime.recover()
        while process.runtime.active():
            await process.runtime.settle("a")
        assert (await process.runtime.get_execution("a")).result == [0, 1]
        await process.runtime.close()

    drive(test)


def test_attributes_given_at_the_start_outlive_a_replay() -> None:
    """Attributes of ``start`` are still there when a process that replayed the run writes its record."""

    async def test() -> None:
        process = Process(two_steps)
        run = await process.runtime.start("two_steps", id="a", attributes={"team": "red"})
        await run.settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        await (await process.runtime.resume("a")).result()
        assert (await process.runtime.get_execution("a")).attributes == {"team": "red"}
        found = await process.runtime.list_executions(attributes={"team": "red"})
        assert [record.id for record in found] == ["a"]
        await process.runtime.close()

    drive(test)


def test_a_failed_end_is_not_written_by_the_release() -> None:
    """The store fails while the run's end is put together: handing the lease back does not record that end.

    The record said "completed", with a result and without the event that completes the history: its parent was never
    told, and children and timers stayed.
    """

    async def test() -> None:
        process = Process(two_steps)
        run = await process.runtime.start("two_steps", id="a")
        await run.settle()
        await run.signal("go")
        failing: list[int] = []

        def fault(number: int, verb: str, arguments: Any) -> Any:
            ended = process.host.batches and any(e == ev.STEP_COMPLETED for e in events_in(process.host.batches[-1]))
            if verb == "list" and ended and len(failing) < 3:
                failing.append(number)
                return "rejected"
            return None

        process.host.on_call = fault
        while not failing:
            await asyncio.sleep(0)
        await run.settle()
        process.host.on_call = None
        record = await process.runtime.get_execution("a")
        names = [type(recorded.event) for recorded in await process.runtime.history("a")]
        assert record.finished == (ev.Completed in names)
        assert await (await process.runtime.resume("a")).result() == [0, 1]
        names = [type(recorded.event) for recorded in await process.runtime.history("a")]
        assert names[-1] is ev.Completed
        await process.runtime.close()

    drive(test)


def test_a_failed_clean_up_after_continuing_as_new_harms_nothing() -> None:
    """The store fails while an older generation is forgotten: the run goes on, and delete leaves nothing.

    The lease was handed back with the length of the old history in the record of the new one: "rolled back", for ever.
    """

    @workflow
    async def flow(ctx: Context, n: int) -> Any:
        await ctx.step("echo", echo, n)
        await ctx.step("echo", echo, n)
        if n < 3:
            ctx.continue_as_new(n + 1)
        return n

    async def test() -> None:
        process = Process(flow)
        failed: list[int] = []

        def fault(number: int, verb: str, arguments: Any) -> Any:
            forgetting = verb == "list" and arguments[0].startswith("s/") and arguments[2] == 200
            if forgetting and not failed:
                failed.append(number)
                return "rejected"
            return None

        process.host.on_call = fault
        await process.runtime.start("flow", 0, id="a")
        while not failed:
            await asyncio.sleep(0)
        await process.runtime.settle("a")
        assert await (await process.runtime.resume("a")).result() == 3
        await process.runtime.delete("a")
        assert process.host.store.keys == []
        await process.runtime.close()

    drive(test)


def test_a_timer_that_an_error_of_the_store_stopped_is_woken_again() -> None:
    """The store fails as a due run is taken up; once it answers again, recover and run_due bring the run to its end.

    Until the process ended, nothing but ``resume`` woke it: ``serve`` never did.
    """

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.sleep(3600)
        return await ctx.step("echo", echo, 1)

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        process.host.advance(7200)
        process.host.on_call = lambda number, verb, arguments: "rejected" if verb == "commit" else None
        await process.runtime.run_due()
        assert "a" in process.runtime.stuck
        process.host.on_call = None
        await process.runtime.recover()
        await process.runtime.run_due()
        assert (await process.runtime.get_execution("a")).result == 1
        await process.runtime.close()

    drive(test)
