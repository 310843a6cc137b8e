"""The offline tools: inspect, format, diff and check."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Workflow, replay, workflow
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive


def version(steps: list[str], ending: str = "done", value: int = 1) -> Workflow:
    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> Any:
        for name in steps:
            await ctx.step(name, lambda step=name: {"name": step, "value": value})
            ctx.random()
        await ctx.wait_for_signal("go")
        big = await ctx.step("big", lambda: "x" * 300_000)
        return [ending, len(big)]

    return flow


def made(definition: Workflow, input: int = 0, seed: int = 1, end: bool = True) -> bytes:
    out: list[bytes] = []

    async def test() -> None:
        process = Process(definition, host=SimulatedHost(seed=seed))
        run = await process.runtime.start("flow", input, id="a")
        await run.settle()
        if end:
            await run.signal("go")
            await run.result()
        out.append(await process.runtime.export("a"))
        await process.runtime.close()

    drive(test)
    return out[0]


def test_inspect_and_format_show_every_event() -> None:
    """A line an event with its commit, time and size; large values are read from the bundle."""
    lines = replay.inspect(made(version(["a", "b"])))
    assert [line.kind for line in lines] == [
        "Started", "StepCompleted", "Drawn", "StepCompleted", "Drawn", "SignalReceived", "StepCompleted", "Completed",
    ]  # fmt: skip
    assert lines[6].size > 300_000
    assert "step 'b' completed (command 2)" in replay.format(made(version(["a", "b"])))


def test_two_runs_of_the_same_code_and_input_do_not_differ() -> None:
    """Random ids, random values and times are not differences."""
    found = replay.diff(made(version(["a"]), seed=1), made(version(["a"]), seed=2))
    assert found.same
    assert replay.format_diff(found) == "the same: 6 events"


def test_a_diff_names_what_was_added_removed_and_changed() -> None:
    """Events are aligned by command and name; a changed value shows both sides."""
    found = replay.diff(made(version(["a", "b"])), made(version(["a", "x"])))
    assert {(change.kind, (change.text_a or change.text_b or "").split("'")[1]) for change in found.changes} >= {
        ("removed", "b"),
        ("added", "x"),
    }
    changed = replay.diff(made(version(["a"])), made(version(["a"], value=2)))
    assert [change.kind for change in changed.changes] == ["changed"]
    assert "'value': 1" in str(changed.changes[0].text_a)
    assert "'value': 2" in str(changed.changes[0].text_b)


@pytest.mark.parametrize("end", [True, False])
def test_check_accepts_the_code_that_wrote_the_history(end: bool) -> None:
    """Finished or in flight."""
    (result,) = replay.check([made(version(["a", "b"]), end=end)], [version(["a", "b"])])
    assert result.ok
    assert result.message == ""


@pytest.mark.parametrize("steps", [["b", "a"], ["a"], ["a", "x", "b"], ["a", "x"]])
def test_check_finds_code_that_does_not_fit(steps: list[str]) -> None:
    """Both sides and the place are in the message, and the handler's line."""
    (result,) = replay.check([made(version(["a", "b"]), end=False)], [version(steps)])
    assert result.verdict == "diverged"
    assert "the history has:" in result.message
    assert "test_replay.py:" in result.message


def test_check_finds_another_ending() -> None:
    """A finished history whose result the code would not give again is a divergence."""
    (result,) = replay.check([made(version(["a"]))], [version(["a"], ending="other")])
    assert result.verdict == "diverged"
    assert "run completed" in result.message


def test_check_tells_unknown_workflows_and_unreadable_bytes_apart() -> None:
    """Neither counts as ok, and neither stops the others."""

    @workflow
    async def stranger(ctx: Context) -> None: ...

    bundle = made(version(["a"]))
    results = replay.check({"x": bundle, "y": b"junk", "z": bundle[:-1] + b"\x00"}, [stranger])
    assert [result.verdict for result in results] == ["unknown", "unreadable", "unreadable"]
    with pytest.raises(InvalidInput):
        replay.read(b"junk")


def test_a_check_runs_nothing() -> None:
    """Neither recorded steps nor the ones beyond the end of the history are called."""
    called: list[int] = []
    bundle = made(version(["a"]), end=False)

    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> Any:
        await ctx.step("a", lambda: called.append(1))
        ctx.random()
        await ctx.all(ctx.wait_for_signal("go"), ctx.step("later", lambda: called.append(2)))

    (result,) = replay.check([bundle], [flow])
    assert result.ok
    assert called == []
