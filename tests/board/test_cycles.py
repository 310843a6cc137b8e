"""Loops through a board: a run makes a task that starts a run, in one process or over stores; it ends at the first."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Context, CycleDetected, DepthExceeded, Runtime, StepError, workflow
from alkaline_edge.board import Board, Claim
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive

HERE: dict[str, Board] = {}


async def ask_for(flow: str, title: str = "again") -> str:
    return (await HERE["b"].create(title, workflow=flow)).id


async def ask_somebody() -> str:
    return (await HERE["b"].create("somebody is to think of it", id="plain", key="one")).id


@workflow(name="loop")
async def loop(ctx: Context) -> Any:
    return await ctx.step("ask", ask_for, "loop")


@workflow(name="first")
async def first(ctx: Context) -> Any:
    return await ctx.step("ask", ask_for, "second")


@workflow(name="second")
async def second(ctx: Context) -> Any:
    await ctx.wait_for_signal("go", timeout=5, default=None)
    return await ctx.step("ask", ask_for, "first")


@workflow(name="deep", recursive=True)
async def deep(ctx: Context) -> Any:
    return await ctx.step("ask", ask_for, "deep")


@workflow(name="asking")
async def asking(ctx: Context) -> Any:
    return await ctx.step("ask", ask_somebody)


async def worked(runtime: Runtime, do: Any = None, seconds: float = 600) -> None:
    host = runtime.host
    until = host.now_ms() + seconds * 1_000

    async def nothing(claim: Claim) -> Any:
        return None

    await HERE["b"].work(do or nothing, worker="w", until=lambda: host.now_ms() >= until)


def test_a_run_that_makes_a_task_of_its_own_workflow_is_refused_with_the_chain() -> None:
    """At the call that makes the task: the step fails, and the board is as it was."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[loop]) as runtime:
            HERE["b"] = Board(runtime, "b")
            with pytest.raises((CycleDetected, StepError)) as caught:
                await (await runtime.start(loop)).result()
            assert getattr(caught.value, "code", "") == "ERR_CYCLE_DETECTED"
            assert "loop > loop" in str(caught.value)
            assert len(await HERE["b"].list()) == 0

    drive(test)


def test_a_loop_of_two_goes_round_once_and_the_chain_names_both() -> None:
    """Also where the process died in between: the task knows what it comes of, and so does its run."""

    async def test() -> None:
        process = Process(first, second)
        HERE["b"] = Board(process.runtime, "b")
        assert await (await process.runtime.start(first)).result()
        await process.crash()
        HERE["b"] = Board(process.runtime, "b")
        await worked(process.runtime)
        (task,) = await HERE["b"].list()
        assert (task.state, task.workflow, task.chain) == ("failed", "second", ["first"])
        assert task.failure is not None
        assert "first > second > first" in task.failure["message"]
        await process.runtime.close()

    drive(test)


def test_a_task_of_people_in_between_hides_no_loop() -> None:
    """What a worker makes while it does a task comes of what the task came of."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[asking]) as runtime:
            board = HERE["b"] = Board(runtime, "b")
            seen: list[Any] = []

            async def do(claim: Claim) -> Any:
                try:
                    await board.create("and again", workflow="asking")
                except CycleDetected as error:
                    seen.append(error.detail["chain"])

            await (await runtime.start(asking)).result()
            await worked(runtime, do, 60)
            assert seen == [["asking", "asking"]]
            assert (await board.create("from outside", workflow="asking")).chain == []

    drive(test)


def test_recursion_on_purpose_ends_at_the_depth() -> None:
    """A workflow that says so is started by its own tasks, as deep as a child may be."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[deep], max_depth=4) as runtime:
            HERE["b"] = Board(runtime, "b")
            await (await runtime.start(deep)).result()
            await worked(runtime, seconds=3_000)
            tasks = sorted(await HERE["b"].list(), key=lambda task: len(task.chain))
            assert [len(task.chain) for task in tasks] == [1, 2, 3, 4]
            assert [task.state for task in tasks] == ["done", "done", "done", "failed"]
            assert tasks[-1].failure is not None
            assert tasks[-1].failure["code"] == "ERR_DEPTH_EXCEEDED"
            with pytest.raises(DepthExceeded):
                runtime.owner.check_nesting(deep, ["deep"] * 5)
            assert {record.depth for record in await runtime.list_executions()} == {0, 1, 2, 3, 4}

    drive(test)


def test_the_chain_moves_with_the_run() -> None:
    """A run that came of a task of one store, and is moved to another, makes no task there of what it came of."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[first, second]) as here:
            HERE["b"] = Board(here, "b")
            await (await here.start(first)).result()
            (task,) = await HERE["b"].list()
            await HERE["b"].claim("w")
            run = (await HERE["b"].get(task.id)).run or ""
            bundle = await here.export(run, handoff=True)
            async with Runtime(SimulatedHost(), workflows=[first, second]) as there:
                HERE["b"] = Board(there, "b")
                await there.import_(bundle, "take_over")
                with pytest.raises((CycleDetected, StepError)) as caught:
                    await there.result(run, None)
                assert "first > second > first" in str(caught.value)

    drive(test)


def test_a_task_whose_workflow_its_maker_does_not_know_is_held_up_when_it_is_claimed() -> None:
    """And says why; nothing is started."""

    async def test() -> None:
        host = SimulatedHost()

        @workflow(name="second")
        async def other(ctx: Context) -> Any:
            return await ctx.step("ask", ask_for, "first")

        async with (
            Runtime(host, workflows=[first]) as one,
            Runtime(SimulatedHost(host.store), workflows=[other]) as two,
        ):
            HERE["b"] = Board(one, "b")
            await (await one.start(first)).result()
            HERE["b"] = Board(two, "b")
            await worked(two, seconds=30)
            HERE["b"] = Board(one, "b")
            await worked(one, seconds=30)
            held = [task for task in await HERE["b"].list() if task.workflow == "first"]
            assert [(task.state, task.block and task.block["kind"]) for task in held] == [("blocked", "cycle")]
            assert held[0].block is not None
            assert "first > second > first" in held[0].block["reason"]

    drive(test)
