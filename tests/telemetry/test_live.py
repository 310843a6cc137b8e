"""Spans of lifecycle events, one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, Retry, Runtime, lifecycle, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._telemetry import live
from alkaline_hosts._telemetry.live import Live
from alkaline_hosts._telemetry.spans import Span, trace_id

RUN = "0123456789ab"


def test_a_step_is_as_long_as_its_last_attempt_was() -> None:
    """By the host's clock, from when it began: also where it was tried before, and in both of its spans."""
    host = SimulatedHost()
    tries: list[int] = []

    async def slow() -> None:
        tries.append(1)
        await host.sleep(5 if len(tries) == 1 else 7)
        if len(tries) == 1:
            raise OSError("down")

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.step("slow", slow, retry=Retry(max_attempts=2, backoff=60))

    async def test() -> list[Span]:
        one, spans = Live(), list[Span]()
        async with Runtime(host, workflows=[flow], on_event=lambda event: spans.extend(one.told(event))) as runtime:
            await (await runtime.start(flow, id="a")).result()
        return spans

    first, last, root = asyncio.run(asyncio.wait_for(test(), 20))
    assert [round((span.end - span.start) / 1000) for span in (first, last)] == [5, 7]
    assert (first.error, last.error) == ("OSError", None)
    assert first.id != last.id
    assert root.end - root.start >= 72_000


def test_what_follows_a_new_generation_is_of_its_trace() -> None:
    """Also before its owner has taken it up anew."""
    one = Live()
    one.told(lifecycle.RunStarted("a", 1, "flow", RUN, 0))
    (root,) = one.told(lifecycle.RunContinuedAsNew("a", 5, 1))
    (step,) = one.told(lifecycle.StepFinished("a", 9, "s", "1", True, 1, 7))
    assert (root.trace, step.trace) == (trace_id(RUN, 0), trace_id(RUN, 1))
    assert (root.start, root.end, step.start, step.end) == (1, 5, 7, 9)


def test_of_a_run_that_was_not_met_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that came late, or has forgotten it: until it is taken up again. Memory is bounded."""
    monkeypatch.setattr(live, "MOST", 3)
    one = Live()
    assert one.told(lifecycle.RunCompleted("a", 5, None)) == []
    for n in range(5):
        one.told(lifecycle.RunStarted(f"run_{n}", 1, "flow", RUN, 0))
    assert [bool(one.told(lifecycle.RunCompleted(f"run_{n}", 5, None))) for n in range(5)] == [False] * 2 + [True] * 3
    one.told(lifecycle.RunResumed("run_0", 6, 2, 1, "flow", RUN, 0, 1, None))
    assert one.told(lifecycle.RunCompleted("run_0", 7, None))


@pytest.mark.parametrize("data", [None, 5, ["a"], {"gen_ai.request.model": ["a"]}, {"gen_ai.request.model": None}])
def test_what_is_published_may_be_anything(data: Any) -> None:
    """Only texts and numbers by a name are attributes."""
    one = Live()
    one.told(lifecycle.RunStarted("a", 1, "flow", RUN, 0))
    one.told(lifecycle.Published("a", 2, "s", "1", 1, "telemetry", data))
    one.told(lifecycle.Published("a", 2, "s", "1", 1, "other", {"no": "attribute"}))
    (step,) = one.told(lifecycle.StepFinished("a", 9, "s", "1", True, 1, 0))
    assert step.start == step.end == 9
    assert {name for name in step.attributes if not name.startswith("alkaline.")} == set()
