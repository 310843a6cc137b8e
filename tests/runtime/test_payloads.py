"""Payloads of requests: of any size, wherever they are read, and gone once they are recorded."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge import Context, Run, Runtime, StepError, hand_over, workflow
from alkaline_edge.host import Capabilities
from alkaline_edge.testing import SimulatedHost
from tests.support import drive

INLINE, VALUE, BATCH = 600, 2_048, 6_000


SMALL = Capabilities(
    "small", durability="volatile", inline_limit=INLINE, max_value=VALUE, max_batch_bytes=BATCH, segment_commits=4
)


# --- requests ---------------------------------------------------------------------------------------------------------
BORDERS = [INLINE - 60, INLINE, VALUE - 1_024, VALUE, 2 * (VALUE - 1_024), BATCH, 3 * BATCH]


ROUTES = ["read at once", "read by the next process", "export", "hand over", "twice", "refused", "after the end"]


@workflow
async def reads(ctx: Context) -> list[Any]:
    """The sizes of all payloads up to an empty one, and those of the updates before it."""
    got: list[Any] = []

    def taken(text: str) -> int:
        got.append(-len(text))
        return len(text)

    def check(text: str) -> None:
        if text.startswith("no"):
            raise ValueError("no")

    ctx.on_update("u", taken, validator=check)
    while (text := await ctx.wait_for_signal("s"))[1:]:
        got.append(len(text))
    return got


def blobs(host: SimulatedHost) -> list[str]:
    return [key for key in host.store.keys if key.startswith("b/")]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("border", BORDERS)
def test_the_payload_of_a_request_is_of_any_size(route: str, border: int) -> None:
    """Unread, moved to another store, read by the next process: it comes whole, once, and leaves nothing in blobs."""
    draw = random.Random(f"{route} {border}")

    async def test() -> None:
        host, there = SimulatedHost(capabilities=SMALL), SimulatedHost(capabilities=replace(SMALL, inline_limit=900))
        runtime, other = Runtime(host, workflows=[reads]), Runtime(there, workflows=[reads])
        size = max(2, border + draw.randint(-70, 10))
        text = "x" * size
        run = await runtime.start(reads, id="a")
        await run.settle()
        outside = Runtime(host.reopen())
        for _ in range(2 if route == "twice" else 1):
            await outside.signal("a", "s", text, dedupe="one")
        expected = [size]
        if route == "export":
            bundle = await runtime.export("a", handoff=True)
            runtime = other
            await runtime.import_(bundle, mode="take_over")
        elif route == "hand over":
            await hand_over(runtime, "a", other)
            runtime = other
        elif route == "read by the next process":
            host.dead = True
            again = host.reopen()
            again.advance(60)
            runtime = Runtime(again, workflows=[reads])
        elif route == "refused":
            with pytest.raises(StepError, match="no"):
                await run.update("u", "no" + text)
        elif route == "after the end":
            await outside.signal("a", "s", "x")
            await outside.signal("a", "s", text)
        await runtime.run_due()
        run = Run(runtime, "a")
        if route != "after the end":
            assert await run.update("u", text) == size
            await run.signal("s", "x")
            expected.append(-size)
        assert await run.result() == expected
        await runtime.delete("a")
        assert blobs(runtime.host) == []  # type: ignore[arg-type]
        assert not [key for key in runtime.host.store.keys if key[0] in "id"]  # type: ignore[attr-defined]


def test_large_payloads_leave_nothing_behind_in_a_run_that_goes_on() -> None:
    """Each is deleted from where it waited as it is recorded; of a refused update nothing stays."""

    async def test() -> None:
        host = SimulatedHost(capabilities=SMALL)
        async with Runtime(host, workflows=[reads]) as runtime:
            run = await runtime.start(reads, id="a")
            await run.signal("s", "x" * 5_000)
            await run.settle()
            recorded = len(blobs(host))
            for _ in range(20):
                with pytest.raises(StepError):
                    await run.update("u", "no" + "x" * 5_000)
            assert len(blobs(host)) == recorded

    drive(test)
