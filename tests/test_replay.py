"""The offline tools: inspect, format, diff and check."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from hashlib import sha256
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Codec, Context, InvalidInput, StoreError, Workflow, replay, workflow
from alkaline_edge import events as ev
from alkaline_edge.history import digest_of
from alkaline_edge.runs import Header
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, bundle_of, drive


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
    return bundle_of(definition, input, seed, end)


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


# --- check ------------------------------------------------------------------------------------------------------------
async def double(n: int) -> int:
    return n * 2


@workflow
async def leaf(ctx: Context, n: int) -> int:
    return n


@workflow(name="calls")
async def calls(ctx: Context) -> Any:
    await ctx.step("first", double, 1)
    ctx.now()
    with contextlib.suppress(TimeoutError):
        await ctx.wait_for_signal("never", timeout=5)
    await ctx.child("leaf", 3)
    return await ctx.step("last", double, 2)


def calls_bundle() -> bytes:
    return exported(calls, "calls", leaf)


def exported(definition: Workflow, name: str, *others: Workflow, seed: int = 1, input: Any = None) -> bytes:
    out: list[bytes] = []

    async def test() -> None:
        process = Process(definition, *others, host=SimulatedHost(seed=seed))
        await (await process.runtime.start(name, input, id="a")).result()
        out.append(await process.runtime.export("a"))
        await process.runtime.close()

    drive(test)
    return out[0]


def changed(*, first: int = 1, now: bool = True, signal: bool = True, child: int = 3, more: bool = False) -> Workflow:
    @workflow(name="calls")
    async def calls(ctx: Context) -> Any:
        await ctx.step("first", double, first)
        if now:
            ctx.now()
        if signal:
            with contextlib.suppress(TimeoutError):
                await ctx.wait_for_signal("never", timeout=5)
        await ctx.child("leaf", child)
        last = await ctx.step("last", double, 2)
        if more:
            await ctx.step("more", double, 3)
        return last

    return calls


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (changed(first=2), "with arguments of digest"),
        (changed(now=False), "ctx.now()"),
        (changed(signal=False), "a timer fired"),
        (changed(child=4), "child 'leaf' started"),
        (changed(more=True), "has not ended"),
    ],
    ids=["arguments", "value no longer drawn", "timer gone", "child's input", "goes on behind the end"],
)
def test_check_names_what_the_changed_code_does_otherwise(code: Workflow, said: str) -> None:
    """Each kind of change is found; the unchanged code, written again, fits."""
    bundle = calls_bundle()
    assert replay.check([bundle], [changed()])[0].ok
    (result,) = replay.check([bundle], [code])
    assert result.verdict == "diverged"
    assert said in result.message
    assert (result.run, result.workflow) == ("a", "calls version 1")


def test_check_wants_no_definition_of_a_child_that_was_started() -> None:
    """A child's own history is checked with its own code; given or not, the parent fits."""
    bundle = calls_bundle()
    assert [replay.check([bundle], given)[0].ok for given in (calls, [calls], [calls, leaf])] == [True] * 3


def test_check_finds_code_that_would_be_stuck_at_the_end() -> None:
    """Every event fits, but nothing could ever wake the handler: going on with this code would stop the run."""
    bundle = made(version(["a"]), end=False)

    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> Any:
        await ctx.step("a", double, n) if n else await ctx.step("a", lambda: None)
        ctx.random()
        await asyncio.get_running_loop().create_future()

    (result,) = replay.check([bundle], [flow])
    assert result.verdict == "diverged"
    assert "not durable" in result.message


def test_check_survives_a_handler_that_exits() -> None:
    """A check in CI ends with its verdict, not with the handler's exit code."""

    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> Any:
        sys.exit(0)

    (result,) = replay.check([made(version(["a"]))], [flow])
    assert result.verdict == "diverged"
    assert "sys.exit" in result.message


def test_check_works_inside_a_running_loop_too() -> None:
    """As in a notebook or an async test."""
    bundle = calls_bundle()

    async def test() -> None:
        assert replay.check([bundle], [calls])[0].ok
        assert replay.check([bundle], [changed(first=2)])[0].verdict == "diverged"

    drive(test)


# --- hostile bytes ----------------------------------------------------------------------------------------------------
def edited(bundle: bytes, commit: int, place: list[int | str], value: Any) -> bytes:
    """The bundle with one item of one commit replaced, and every digest made to fit again."""
    codec = Codec()
    raw = codec.decode(bundle)
    commits = [codec.decode(each) for each in raw[3]]
    target = commits[commit]
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    packed: list[bytes] = []
    for each in commits:
        each[0] = digest_of(packed[-1]) if packed else each[0]
        packed.append(codec.encode(each))
    raw[3] = packed
    raw[5] = sha256(codec.encode(raw[:5])).digest()
    return codec.encode(raw)


ODD: tuple[Any, ...] = (None, True, -1, 10**30, 1.5, "", "x", b"", [], [1], {}, {"type": 1})


def test_an_edited_history_is_refused_or_diverges_and_nothing_else() -> None:
    """Whatever an item of a commit is replaced by, with digests that fit: an answer, or an AlkalineError."""
    bundle = calls_bundle()
    codec = Codec()
    commits = [codec.decode(each) for each in codec.decode(bundle)[3]]
    places: list[tuple[int, list[int | str]]] = []
    for number, commit in enumerate(commits):
        places += [(number, [n]) for n in range(1, len(commit))]
        places += [(number, [n, m]) for n in range(2, len(commit)) for m in range(len(commit[n]))]
    places += [(0, [2, 1, key]) for key in commits[0][2][1]]
    verdicts: Counter[str] = Counter()
    for number, place in places:
        for value in ODD:
            data = edited(bundle, number, place, value)
            verdicts[replay.check([data], [calls, leaf])[0].verdict] += 1
            try:
                history = replay.read(data)
            except AlkalineError:
                continue
            for use in (replay.inspect, replay.format, lambda one: replay.format_diff(replay.diff(one, bundle))):
                try:
                    assert use(history)
                except AlkalineError:
                    verdicts["refused"] += 1
    assert verdicts["diverged"] > 30  # most are refused by their shape before a replay
    assert verdicts["unreadable"] > 100


# --- diff -------------------------------------------------------------------------------------------------------------
def of(*events: ev.Event) -> replay.History:
    """A history of ``events``, one a commit."""
    header = Header("a", "0" * 12, "flow", 1, chain=["flow"])
    started = ev.Started(ev.STARTED, header.to_map(), None)
    return replay.of_events([[(n, event)] for n, event in enumerate((started, *events))])


def done(id: str, name: str, value: Any = None, args: int | None = None) -> ev.StepCompleted:
    return ev.StepCompleted(ev.STEP_COMPLETED, id, name, args, value)


def drew(value: float) -> ev.Drawn:
    return ev.Drawn(ev.DRAWN, "random", value / 1000 % 1)


def told(found: replay.Diff) -> list[tuple[str, int | None, int | None]]:
    return [(change.kind, change.a, change.b) for change in found.changes]


def test_a_step_more_is_one_addition_however_long_the_rest_is() -> None:
    """Numbers and values behind it are aligned again; the shift is counted, not listed."""
    rest = [event for n in range(300) for event in (done(str(n + 1), "work", n, n), drew(n))]
    shifted = [event for n in range(300) for event in (done(str(n + 2), "work", n, n), drew(-n))]
    found = replay.diff(of(*rest), of(done("1", "new"), *shifted))
    assert told(found) == [("added", None, 1)]
    assert (found.common, found.renumbered) == (1, 300)
    assert not found.same
    assert "300 events differ only in the number" in replay.format_diff(found)
    back = replay.diff(of(done("1", "new"), *shifted), of(*rest))
    assert told(back) == [("removed", 1, None)]


def test_parallel_steps_that_ended_in_another_order_have_moved() -> None:
    """The same answers in another order are neither added nor removed."""
    one, two, three = (done(f"{n}.1", "par", n, n) for n in (1, 2, 3))
    assert told(replay.diff(of(one, two, three), of(three, one, two))) == [("moved", 3, 1)]


def test_a_drawn_value_more_is_shown_where_it_was_drawn() -> None:
    """Drawn values have no number of their own: the answer before them says which is which."""
    rest = [event for n in range(5) for event in (done(str(n + 2), "work", n, n), drew(n))]
    found = replay.diff(of(done("1", "first"), drew(1), *rest), of(done("1", "first"), drew(2), drew(3), *rest))
    assert told(found) == [("added", None, 3)]


def test_a_number_that_shifted_is_a_difference_by_itself() -> None:
    """The code would not replay the other history, so the two are not the same."""
    found = replay.diff(of(done("1", "work")), of(done("2", "work")))
    assert not found.same
    assert found.first is None
    assert replay.format_diff(found).splitlines()[-1] == "1 event differs only in the number of the command"


def test_an_outcome_that_turned_is_one_change() -> None:
    """A step, or the run, that failed in one history and completed in the other."""
    failure = {"type": "ValueError", "message": "no"}
    failed = ev.StepFailed(ev.STEP_FAILED, "1", "work", None, failure)
    a = of(failed, ev.Failed(ev.FAILED, failure))
    b = of(done("1", "work", 5), ev.Completed(ev.COMPLETED, 5))
    found = replay.diff(a, b)
    assert told(found) == [("changed", 1, 1), ("changed", 2, 2)]
    assert found.first is not None
    assert found.first.text_a == "step 'work' failed (command 1): ValueError: 'no'"


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        ({"items": [1, {"price": 2}]}, {"items": [1, {"price": 3}]}, "value.items[1].price: 2 -> 3"),
        ({"a": 1}, {"b": 1}, "value.a: 1 -> absent"),
        ([1], [1, 2], "value: 1 items -> 2 items"),
        (1, True, "value: 1 -> True"),
        ("x" * 900 + "a", "x" * 900 + "b", "value from character 900: 'xxxxxxxxxxxxxxxa' -> 'xxxxxxxxxxxxxxxb'"),
    ],
)
def test_a_changed_value_is_shown_at_the_place_that_changed(a: Any, b: Any, where: str) -> None:
    """However large the value is."""
    (change,) = replay.diff(of(done("1", "work", a)), of(done("1", "work", b))).changes
    assert change.where == where
    assert where in replay.format_diff(replay.diff(of(done("1", "work", a)), of(done("1", "work", b))))


# --- sources ----------------------------------------------------------------------------------------------------------
def test_bundles_commits_and_recorded_events_are_the_same_history() -> None:
    """What `export` and `Runtime.history` return, and the raw commits, read alike; other things are refused."""

    async def test() -> None:
        process = Process(version(["a"]))
        await (await process.runtime.start("flow", 0, id="a")).settle()
        bundle = await process.runtime.export("a")
        recorded = await process.runtime.history("a")
        await process.runtime.close()
        commits = Codec().decode(bundle)[3]
        assert replay.read(bundle) == replay.read(commits) == replay.read(recorded)
        assert replay.check({"recorded": recorded}, version(["a"]))[0].ok

    drive(test)
    for wrong in ("text", 5, [5], None):
        with pytest.raises(InvalidInput, match="a history is"):
            replay.read(wrong)  # type: ignore[arg-type]  # what a caller may do by mistake
    with pytest.raises(StoreError, match="does not begin"):
        replay.read([])


def test_what_is_no_commit_is_refused_by_its_type() -> None:
    """Commits that somebody has put together, of whatever they took for one: an error of ours, which says what."""
    started = of().commits[0][0]
    odd: list[Any] = [
        5,
        None,
        "text",
        b"",
        {},
        [5],
        [None],
        [(1,)],
        [(1, 2)],
        [(0, started)],
        [started],
        [[started[0]]],
    ]
    for wrong in odd:
        for commits in ([wrong], [[started], wrong], [[started, wrong]]):
            if wrong == [started] and commits == [wrong]:
                continue  # the one that is right
            with pytest.raises((InvalidInput, StoreError)):
                replay.of_events(commits)
    for ms in (None, "5", 1.5, True, float("nan"), 10**5_000):
        with pytest.raises(InvalidInput, match="duration"):
            replay.duration(ms)  # type: ignore[arg-type]  # what a caller may do by mistake


def test_durations_are_read_at_a_glance() -> None:
    """Two units at most."""
    given = (0, 999, 1_000, 59_999, 60_000, 245_000, 3_600_000, 86_400_000, 8_900_000_000)
    assert [replay.duration(ms) for ms in given] == [
        "0 ms", "999 ms", "1.000 s", "59.999 s", "1 min 00 s", "4 min 05 s", "1 h 00 min", "1 d 00 h", "103 d 00 h",
    ]  # fmt: skip
