"""What is recorded of an attempt that has ended: whether it is tried again, and by whose policy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Retry, StepOutcomeUnknown, workflow

from ..support import Process, drive

ANY = Retry(max_attempts=3, backoff=0)


@pytest.mark.parametrize("how", ["raises", "times out", "is cancelled", "returns what can't be stored"])
@pytest.mark.parametrize("where", ["step", "workflow", "runtime", "step, retryable"])
def test_a_retry_starts_it_again_only_by_what_its_own_policy_knows(where: str, how: str) -> None:
    """Defaults don't count, nor does a policy that doesn't say which errors it knows to have come before the effect.

    A time-out, a cancel from outside and a result that can't be stored come after the start: no policy is asked.
    """
    starts: list[int] = []
    anything = Retry(max_attempts=3, backoff=0, retryable=lambda error: True)

    async def charge() -> Any:
        starts.append(1)
        if how == "times out":
            await asyncio.sleep(60)
        if how == "is cancelled":
            raise asyncio.CancelledError
        if how == "raises":
            raise ConnectionError("the answer was lost after the card was charged")
        return object()

    @workflow(name="flow", retry=anything if where == "workflow" else None)
    async def flow(ctx: Context) -> Any:
        retry = {"step": ANY, "step, retryable": anything}.get(where)
        await ctx.step("charge", charge, at_most_once=True, timeout=5 if how == "times out" else None, retry=retry)

    async def test() -> None:
        process = Process(flow, retry=anything if where == "runtime" else None)
        run = await process.runtime.start("flow")
        known = {"raises": ConnectionError, "returns what can't be stored": AlkalineError}.get(how, StepOutcomeUnknown)
        with pytest.raises(known):
            await run.result()

    drive(test)
    assert len(starts) == (3 if (where, how) == ("step, retryable", "raises") else 1)
