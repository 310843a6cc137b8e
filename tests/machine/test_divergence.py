"""A divergence: both sides are shown, nothing is written, and the right code goes on."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import (
    Context,
    DeterminismError,
    workflow,
)
from tests.support import Process, drive


async def echo(value: Any) -> Any:
    return value


@pytest.mark.parametrize("change", ["renamed", "removed", "added", "reordered", "kind"])
def test_changed_code_is_found_and_the_run_continues_with_the_right_code(change: str) -> None:
    """Both sides are shown, nothing is written, and the old code goes on from where it was."""
    orders = {
        "original": ["a", "b", "c"], "renamed": ["a", "x", "c"], "removed": ["a", "c"],
        "added": ["a", "x", "b", "c"], "reordered": ["b", "a", "c"], "kind": ["a", "sleep", "c"],
    }  # fmt: skip

    def version(which: str) -> Any:
        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            for name in orders[which]:
                await (ctx.sleep(1) if name == "sleep" else ctx.step(name, echo, name))
            await ctx.wait_for_signal("go")
            return "right"

        return flow

    async def test() -> None:
        process = Process(version("original"))
        await (await process.runtime.start("flow", id="r")).settle()
        before = dict(process.host.store.entries)
        await process.crash(version(change))
        with pytest.raises(DeterminismError) as caught:
            await (await process.runtime.resume("r")).result()
        message = str(caught.value)
        assert "the history has:" in message
        assert "the code has:" in message
        assert process.host.store.entries == before
        await process.crash(version("original"))
        await process.runtime.signal("r", "go")
        assert await (await process.runtime.resume("r")).result() == "right"
        await process.runtime.close()

    drive(test)
