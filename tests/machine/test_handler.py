"""The handler's own task: how it is cancelled, what it leaves behind, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import (
    Context,
    RunCancelled,
    workflow,
)
from tests.support import Process, drive


def test_cancel_runs_cleanup_in_finally_durably_and_once() -> None:
    """The cleanup step is recorded; a crash in the middle of it does not lose the cancel."""
    cleaned: list[int] = []

    async def clean() -> None:
        cleaned.append(1)

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.sleep(10_000)
        finally:
            await ctx.sleep(5)
            await ctx.step("clean", clean)

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await run.cancel("stop")
        await run.settle()
        await process.crash()
        process.host.advance(10)
        await process.runtime.run_due()
        with pytest.raises(RunCancelled, match="stop"):
            await process.runtime.result("a", None)
        assert cleaned == [1]
        await process.runtime.close()

    drive(test)


async def ended(*flows: Any, input: Any = None) -> Any:
    """The result of a run of the first of ``flows``."""
    process = Process(*flows)
    run = await process.runtime.start(flows[0].name, input, id="run")
    return await run.result()


def test_tasks_that_the_handler_leaves_behind_are_cancelled() -> None:
    """As asyncio.run does: they tidy up, and nothing of them goes on."""
    tidied: list[str] = []

    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        async def background() -> None:
            try:
                await ctx.wait_for_signal("never")
            finally:
                tidied.append("yes")

        task = asyncio.get_running_loop().create_task(background())
        await ctx.sleep(1)
        return "done" if not task.done() else "odd"

    assert drive(lambda: ended(flow)) == "done"
    assert tidied == ["yes"]
