"""Every check of replay at every position: a change of the code is refused wherever a page or a commit ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alkaline_edge import (
    Codec,
    ConflictError,
    Context,
    DeterminismError,
    Retry,
    Runtime,
    StepOutcomeUnknown,
    Workflow,
    replay,
    workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.activations import page_of, together
from alkaline_edge.host import Capabilities
from alkaline_edge.machine.execution import Execution, Sources
from alkaline_edge.runs import Header
from alkaline_edge.runtime import store as stores
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.file import FileHost
from tests.support import Process, drive

Op = tuple[Any, ...]
Commits = list[list[tuple[int, Any]]]

KINDS: dict[str, Callable[[int], Op]] = {
    "step": lambda n: ("step", f"s{n}", n),
    "once": lambda n: ("once", f"o{n}", n),
    "retried": lambda n: ("retried", f"r{n}", n),
    "undone": lambda n: ("undone", f"c{n}", n),
    "pair": lambda n: ("pair", f"a{n}", f"b{n}"),
    "wave": lambda n: ("wave", f"w{n}", 2 + n % 3),
    "mail": lambda n: ("mail", f"m{n}", 2 + n % 2),
    "now": lambda n: ("now",),
    "random": lambda n: ("random",),
    "uuid": lambda n: ("uuid",),
    "spend": lambda n: ("spend", n + 1, f"l{n}"),
    "patched": lambda n: ("patched", f"p{n}"),
    "emit": lambda n: ("emit", f"t{n}"),
    "sleep": lambda n: ("sleep", 5),
    "signal": lambda n: ("signal", f"g{n}"),
    "child": lambda n: ("child", n),
}


@workflow(name="leaf")
async def leaf(ctx: Context, n: int) -> int:
    return n


async def obey(ctx: Context, op: Op) -> None:
    match op:
        case ("step", name, n):
            await ctx.step(name, lambda _: n, n)
        case ("once", name, n):
            await ctx.step(name, lambda _: n, n, at_most_once=True)
        case ("retried", name, n):
            tries: list[int] = []

            def flaky(_: int) -> int:
                tries.append(1)
                if len(tries) == 1:
                    raise ConnectionError("down")
                return n

            await ctx.step(name, flaky, n, retry=Retry(max_attempts=2, backoff=1))
        case ("undone", name, n):
            await ctx.step(name, lambda _: n, n, compensate=lambda value: value)
        case ("pair", one, two):
            await ctx.all(ctx.step(one, lambda: 1), ctx.step(two, lambda: 2))
        case ("wave", name, n):

            async def branch(k: int) -> None:
                await ctx.step(name, lambda _: k, k)
                ctx.random()

            await ctx.map(branch, range(n))
        case ("mail", name, n):
            await ctx.all(*(ctx.wait_for_signal(f"{name}.{k}") for k in range(n)))
        case ("spend", tokens, label):
            ctx.spend(tokens, label)
        case ("patched" | "emit" as what, name):
            getattr(ctx, what)(name)
        case ("sleep", seconds):
            await ctx.sleep(seconds)
        case ("signal", name):
            await ctx.wait_for_signal(name)
        case ("child", n):
            await ctx.child(leaf, n)
        case (what,):
            getattr(ctx, what)()


def code(ops: list[Op], name: str = "program") -> Workflow:
    @workflow(name=name)
    async def program(ctx: Context) -> Any:
        for op in ops:
            await obey(ctx, op)
        return await ctx.wait_for_signal("end")

    return program


def recorded(ops: list[Op]) -> Commits:
    """The commits of a run of ``ops`` that waits for its end."""
    out: list[Commits] = []

    async def test() -> None:
        process = Process(code(ops), leaf)
        run = await process.runtime.start("program", id="a")
        await run.settle()
        while (waiting := (await process.runtime.get_execution("a")).waiting) != ["signal end"]:
            process.host.advance(7)
            for each in waiting:
                if each.startswith("signal "):
                    await run.signal(each.removeprefix("signal "))
            await process.runtime.run_due()
            await run.settle()
        history = replay.read(await process.runtime.export("a"))
        timed = list(history.events())
        grouped: dict[int, list[tuple[int, Any]]] = {}
        for line, each in zip(replay.inspect(history), timed, strict=True):
            grouped.setdefault(line.commit, []).append(each)
        out.append(list(grouped.values()))
        await process.runtime.close()

    drive(test)
    return out[0]


def verdict(commits: Commits, definition: Workflow, cuts: list[int]) -> str:
    """ "fits", or "refused": ``definition`` replays ``commits``, which come in pages that end behind ``cuts``."""
    (start, started), *first = commits[0]
    machine = Execution(
        definition, Header.from_map(started.header), started.input, Codec(), Sources(lambda: 0, bytes), Context
    )
    machine.start(start)
    pages, page = [], first
    for n, commit in enumerate(commits[1:], 1):
        if n in cuts:
            pages.append(page)
            page = []
        page = page + together(commit)
    try:
        for one in [*pages, page]:
            machine.feed(page_of(one), more=True)
        machine.feed([], more=False)
    except DeterminismError:
        return "refused"
    finally:
        machine.set_aside()
    return "fits"


def changes(ops: list[Op], draw: random.Random) -> Iterator[list[Op]]:
    """Each kind of change at each position."""
    for at in range(len(ops)):
        kind = draw.choice(list(KINDS))
        before, op, after = ops[:at], ops[at], ops[at + 1 :]
        yield [*before, KINDS[kind](90 + at), op, *after]
        yield [*before, *after]
        yield [*before, KINDS[kind](80 + at), *after]
        yield [*before, (op[0], *(f"{x}x" if isinstance(x, str) else x for x in op[1:])), *after]
        yield [*before, (op[0], *(x if isinstance(x, str) else x + 1 for x in op[1:])), *after]
        if after:
            yield [*before, after[0], op, *after[1:]]
    yield [*ops, KINDS[draw.choice(list(KINDS))](70)]


STEPS = {"step", "undone", "once", "retried"}


def trace(ops: list[Op]) -> list[Any]:
    """What of a program leaves a mark that a replay must find again.

    A timer is known by its place, whatever its length, and a step whatever its policy. Signals that are waited for one
    right after the other may have come in any order.
    """
    marks: list[Any] = []
    for op in ops:
        if op[0] in ("signal", "mail"):
            names = [op[1]] if op[0] == "signal" else [f"{op[1]}.{n}" for n in range(op[2])]
            if marks and marks[-1][0] == "signals":
                names += marks.pop()[1:]
            marks.append(("signals", *sorted(names)))
        elif op[0] not in ("patched", "emit"):
            marks.append(("sleep",) if op[0] == "sleep" else ("a step", *op[1:]) if op[0] in STEPS else op)
    return marks


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_program_is_refused_at_every_border(seed: int) -> None:
    """Insert, drop, retype, rename or swap one call at any position: refused, wherever the pages end."""
    draw = random.Random(seed)
    ops = [KINDS[draw.choice(list(KINDS))](n) for n in range(draw.randint(3, 9))] + [("step", "last", 0)]
    commits = recorded(ops)
    borders = list(range(1, len(commits)))
    pagings = [[], borders, *([border] for border in borders), draw.sample(borders, len(borders) // 2)]
    for cuts in pagings:
        assert verdict(commits, code(ops), cuts) == "fits"
    for changed in changes(ops, draw):
        old, new = trace(ops), trace(changed)
        fits = new[: len(old)] == old
        for cuts in pagings:
            assert verdict(commits, code(changed), cuts) == ("fits" if fits else "refused"), (ops, changed, cuts)


@pytest.mark.parametrize(("page", "segment"), [(1, 0), (2, 0), (3, 0), (500, 2), (500, 3)])
@pytest.mark.parametrize("way", ["resume", "take-over", "woken"])
def test_a_divergence_at_a_page_of_the_store_writes_nothing(
    page: int, segment: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On resume, on take-over by another runtime, when a timer wakes it: the bytes stay, and the old code goes on."""
    monkeypatch.setattr(stores, "PAGE", page)
    ops: list[Op] = [("step", f"s{n}", n) for n in range(6)] + [("sleep", 600)]

    async def test() -> None:
        for at in range(6):
            host = SimulatedHost(capabilities=Capabilities("plain", durability="volatile", segment_commits=segment))
            process = Process(code(ops), leaf, host=host)
            await (await process.runtime.start("program", id="a")).settle()
            before = await process.runtime.history("a")
            changed = code([*ops[:at], ("now",), *ops[at:]])
            if way == "take-over":
                runtime = Runtime(process.host, workflows=[changed, leaf])
                process.host.advance(60)
            else:
                runtime = await process.crash(changed, leaf)
            if way == "woken":
                process.host.advance(3600)
                await runtime.run_due()
            else:
                await (await runtime.resume("a")).settle()
            assert isinstance(runtime.stuck["a"], DeterminismError)
            assert await runtime.history("a") == before
            old = await process.crash(code(ops), leaf)
            await old.signal("a", "end", "well")
            process.host.advance(3600)
            await old.run_due()
            assert await (await old.resume("a")).result() == "well"

    drive(test)


def test_a_divergence_at_a_page_of_a_file_writes_nothing(tmp_path: Any) -> None:
    """Commit 499 is the last of the first page of a file: a value drawn right there was written once."""

    async def run(ops: list[Op]) -> tuple[Any, int]:
        host = FileHost(str(tmp_path / "store"), fsync=False)
        async with Runtime(host, workflows=[code(ops)]) as runtime:
            if not await runtime.list_executions():
                await runtime.start("program", id="a")
            before = len(await runtime.history("a"))
            await (await runtime.resume("a")).settle()
            found = runtime.stuck.get("a"), len(await runtime.history("a")) - before
        await host.close()
        return found

    async def test() -> None:
        ops: list[Op] = [("step", "s", 1)] * 505
        await run(ops)
        for at in (497, 498, 499, 500):
            stuck, grown = await run([*ops[:at], ("now",), *ops[at:]])
            assert isinstance(stuck, DeterminismError)
            assert grown == 0
        assert await run(ops) == (None, 0)

    drive(test)


def test_an_intent_is_compared_by_name_and_arguments() -> None:
    """A step that was started at most once is not another one that has its number now."""
    commits = recorded([("step", "s", 1), ("once", "charge", 5), ("step", "last", 0)])
    cut = [commit[:] for commit in commits]
    at = next(n for n, commit in enumerate(cut) if any(event[0] == ev.STEP_INTENDED for _, event in commit))
    cut = cut[: at + 1]  # the process died right behind the intent
    for pages in ([], [at]):
        assert verdict(cut, code([("step", "s", 1), ("once", "charge", 5)]), pages) == "fits"
        for other in (("once", "refund", 5), ("once", "charge", 6), ("sleep", 5), ("signal", "x"), ("now",)):
            assert verdict(cut, code([("step", "s", 1), other]), pages) == "refused", other


def test_what_was_started_at_most_once_under_another_name_is_refused_and_kept() -> None:
    """The new code writes nothing, and the old code still learns that the outcome is unknown."""

    def flow_of(name: str) -> Workflow:
        @workflow(name="flow")
        async def flow(ctx: Context) -> str:
            try:
                await ctx.step(name, process.host.die, at_most_once=True)
            except StepOutcomeUnknown as error:
                return str(error.detail["step"])
            return "ran"

        return flow

    process = Process(flow_of("charge"))

    async def test() -> None:
        await process.runtime.start("flow", id="a")
        while not process.host.dead:
            await asyncio.sleep(0)
        runtime = await process.crash(flow_of("refund"))
        before = await runtime.history("a")
        await (await runtime.resume("a")).settle()
        assert isinstance(runtime.stuck["a"], DeterminismError)
        assert await runtime.history("a") == before
        runtime = await process.crash(flow_of("charge"))
        assert await (await runtime.resume("a")).result() == "charge"

    drive(test)


def events_of(definition: Workflow, act: Any = None) -> Commits:
    """The commits of a run, after ``act(process, run)`` if there is one."""
    out: list[Commits] = []

    async def test() -> None:
        process = Process(definition, leaf)
        run = await process.runtime.start(definition, id="a")
        await run.settle()
        if act is not None:
            await act(process, run)
        grouped: dict[int, list[tuple[int, Any]]] = {}
        for one in await process.runtime.history("a"):
            grouped.setdefault(one.commit, []).append((one.at, one.event))
        out.append(list(grouped.values()))
        await process.runtime.close()

    drive(test)
    return out[0]


def answering(reply: Any, name: str = "u") -> Workflow:
    @workflow(name="program")
    async def program(ctx: Context) -> Any:
        async def answer(n: int) -> Any:
            if isinstance(reply, Exception):
                raise reply
            if reply == "later":
                await ctx.wait_for_signal("later")
            return reply

        ctx.on_update(name, answer)
        await ctx.wait_for_signal("end")

    return program


@pytest.mark.parametrize("page", [0, 1, 2])
def test_replies_to_updates_are_compared(page: int) -> None:
    """Another reply, none where there was one, an error where there was none, or another name: refused."""

    async def ask(process: Process, run: Any) -> None:
        assert await run.update("u", 1) == [5]

    commits = events_of(answering([5]), ask)
    assert verdict(commits, answering([5]), [page]) == "fits"
    for other in (answering([6]), answering("later"), answering(ValueError("no")), answering([5], "v")):
        assert verdict(commits, other, [page]) == "refused"


def test_nothing_that_was_recorded_stands_behind_the_end_of_the_code() -> None:
    """Code that returns after the first of two signals would have ended before the second one came."""

    def waits(times: int) -> Workflow:
        @workflow(name="program")
        async def program(ctx: Context) -> None:
            for _ in range(times):
                await ctx.wait_for_signal("s")

        return program

    async def send(process: Process, run: Any) -> None:
        for _ in range(2):
            process.host.advance(1)
            await run.signal("s")
            await run.settle()

    commits = events_of(waits(3), send)
    for page in range(3):
        assert verdict(commits, waits(3), [page]) == "fits"
        assert verdict(commits, waits(2), [page]) == "fits"
        assert verdict(commits, waits(1), [page]) == "refused"


def test_attempts_and_charges_are_compared_though_nobody_waits_for_the_step() -> None:
    """A step that lost a race is known by its name in whatever it left behind."""

    def racing(name: str, cost: int | None = None) -> Workflow:
        @workflow(name="program")
        async def program(ctx: Context) -> None:
            def down() -> None:
                raise ConnectionError("down")

            step = ctx.step(name, down, retry=Retry(max_attempts=9, backoff=50), cost=cost)
            await ctx.race(slow=step, quick=ctx.sleep(1))
            await ctx.wait_for_signal("end")

        return program

    async def on(process: Process, run: Any) -> None:
        process.host.advance(2)
        await process.runtime.run_due()
        await run.settle()

    commits = events_of(racing("call"), on)
    at, timed = next((n, e) for n, commit in enumerate(commits) for e in commit if e[1][0] == ev.ATTEMPT_FAILED)
    commits[at].remove(timed)
    commits.append([timed])  # the attempt that ended when the race was over
    commits.append([(timed[0], ev.StepCharged(ev.STEP_CHARGED, timed[1].id, 5, 0, None))])
    assert verdict(commits, racing("call"), []) == "fits"
    assert verdict(commits, racing("other"), []) == "refused"
    commits[-1] = [(timed[0], ev.StepCharged(ev.STEP_CHARGED, "77", 5, 0, None))]
    assert verdict(commits, racing("call"), []) == "refused"


def test_emissions_behind_the_last_event_are_told_once_and_new_ones_are_told() -> None:
    """What the last block emitted is not repeated by a replay, and what it emits next is not lost."""

    @workflow
    async def flow(ctx: Context) -> None:
        ctx.emit("first", 1)
        await ctx.step(lambda: 1)
        ctx.emit("second", 2)
        ctx.now()
        ctx.emit("third", 3)
        await ctx.wait_for_signal("go")
        ctx.emit("fourth", 4)
        await ctx.wait_for_signal("go")

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).settle()
        for expected in (["first", "second", "third"], ["first", "second", "third", "fourth"]):
            history = await (await process.crash()).history("a")
            assert [one.event.topic for one in history if isinstance(one.event, ev.Emitted)] == expected
            run = await process.runtime.resume("a")
            await run.settle()
            await run.signal("go")
            await run.settle()

    drive(test)


@pytest.mark.parametrize("now", ["step", "sleep", "signal", "child"])
def test_what_became_of_a_refused_child_is_no_answer_to_anything_else(now: str) -> None:
    """A child whose id was in use has an end and no beginning in the history: only a child takes it, by its number."""

    @workflow(name="program")
    async def asks(ctx: Context) -> None:
        try:
            await ctx.child(leaf, 1, id="a")
        except ConflictError:
            await ctx.wait_for_signal("end")

    @workflow(name="program")
    async def changed(ctx: Context) -> None:
        try:
            match now:
                case "step":
                    await ctx.step("s", lambda: 1)
                case "sleep":
                    await ctx.sleep(1)
                case "signal":
                    await ctx.wait_for_signal("s")
                case _:
                    await ctx.child(leaf, 2, id="b")
        except ConflictError:
            pass
        await ctx.wait_for_signal("end")

    async def test() -> None:
        process = Process(asks, leaf)
        await (await process.runtime.start(asks, id="a")).settle()
        before = await process.runtime.history("a")
        assert [type(each.event) for each in before] == [ev.Started, ev.ChildFinished]
        runtime = await process.crash(changed, leaf)
        await runtime.signal("a", "end")
        await runtime.settle("a")
        if now == "child":
            assert (await runtime.get_execution("a")).status == "completed"
        else:
            assert isinstance(runtime.stuck["a"], DeterminismError)
            assert await runtime.history("a") == before
        await runtime.close()

    drive(test)
