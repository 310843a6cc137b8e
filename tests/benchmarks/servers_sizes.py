"""Moving a long run between hosts, and what a large store costs who asks for a little of it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from alkaline_edge import Context, Runtime, hand_over, workflow
from tests.benchmarks.servers_stage import RUNS_IN_A_BATCH, Stage, heading, put_runs, row, runtime_at, wrong

PAYLOAD = {"title": "x" * 70, "url": "y" * 70, "n": 12345}
INPUT = "x" * 100
DUE = 10
PAGES: dict[str, dict[str, Any]] = {
    "100 of all": {"limit": 100},
    "100 of a status": {"limit": 100, "status": "suspended"},
    "5 of an attribute": {"limit": 5, "attributes": {"user": "42"}},
}


def search(n: int) -> dict[str, Any]:
    return {**PAYLOAD, "n": 10_000 + n}


@workflow
async def long(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("search", search, n)
    await ctx.wait_for_signal("end")


@workflow
async def brief(ctx: Context, input: str) -> str:
    return input


# --- moving ----------------------------------------------------------------------------------------------------------
async def timed(what: Awaitable[Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it took."""
    started = time.perf_counter()
    return await what, time.perf_counter() - started


async def moving(stages: list[Stage], steps: int) -> None:
    """A run goes from a file to each server in turn and back to a file, once by a bundle and once handed over."""
    heading(f"a run of {steps:,} steps, each with a result of about 160 bytes")
    directory = stages[0].directory
    places: list[tuple[str, Callable[[str], Awaitable[str]]]] = [("file", partial(file_in, directory))]
    places += [(stage.name, partial(store_on, stage)) for stage in stages]
    places += places[:1]
    source = await file_in(directory, "first")
    async with runtime_at(source, [long]) as runtime:
        run, spent = await timed(runtime.start("long", steps, id="a"))
        _, settled = await timed(run.settle())
        row("  run on a file, for comparison", f"{spent + settled:.2f} s")
        head = (await runtime.get_execution("a")).head
    for n, ((from_, _), (to, make)) in enumerate(itertools.pairwise(places)):
        copy, target = await make(f"copy{n}"), await make(f"moved{n}")
        heads = await one_move(source, copy, target, from_, to, steps)
        if set(heads) != {head}:
            wrong.append(f"{from_} to {to}: the history is not the same there")
        source = target


async def file_in(directory: Path, name: str) -> str:
    return str(directory / f"{name}.alkaline")


async def store_on(stage: Stage, name: str) -> str:
    return await stage.fresh()


async def one_move(source: str, copy: str, target: str, from_: str, to: str, steps: int) -> list[bytes]:
    """Export there, import here, and hand over into another store; the heads of the histories that arrived."""
    workflows = [long]
    async with (
        runtime_at(source, workflows) as there,
        runtime_at(copy, workflows) as here,
        runtime_at(target, workflows) as next_,
    ):
        bundle, spent = await timed(there.export("a"))
        size = f"{len(bundle):,} bytes, {len(bundle) / steps:.1f} a step"
        row(f"  export from {from_}", f"{spent:.2f} s", size)
        _, spent = await timed(here.import_(bundle))
        row(f"  import into {to}", f"{spent:.2f} s")
        _, spent = await timed(hand_over(there, "a", next_))
        row(f"  hand_over {from_} -> {to}", f"{spent:.2f} s")
        return [(await runtime.get_execution("a")).head for runtime in (here, next_)]


# --- many runs -------------------------------------------------------------------------------------------------------
async def stored(stage: Stage, small: int, large: int, repeat: int) -> None:
    """The same calls with few and with many runs stored, by turns."""
    few, many = await stage.fresh(), await stage.fresh()
    async with runtime_at(few, [brief]) as a, runtime_at(many, [brief]) as b:
        later = datetime.now(UTC) + timedelta(days=1)
        spent = 0.0
        for runtime, count in ((a, small), (b, large)):
            runs = {f"run-{n:06d}": INPUT for n in range(count)}
            _, spent = await timed(put_runs(runtime, "brief", runs, later))
        await stage.quiet()
        heading(
            f"{stage.name}: {small:,} and {large:,} suspended runs stored, by the code of start, {RUNS_IN_A_BATCH} to "
            f"a batch ({spent:.0f} s); median of {repeat}"
        )
        for name, filters in PAGES.items():
            await compare(f"list_executions, {name}", a, b, repeat, partial(list_page, **filters))
        await compare("run_due, nothing is due", a, b, repeat, lambda runtime, n: timed(runtime.run_due()))
        await compare(f"run_due, {DUE} runs begin and end", a, b, max(3, repeat // 3), wake)


async def compare(name: str, a: Runtime, b: Runtime, repeat: int, call: Callable[[Runtime, int], Any]) -> None:
    """One line: milliseconds on each, and their ratio."""
    spent: tuple[list[float], list[float]] = ([], [])
    for n in range(repeat):
        for runtime, times in zip((a, b), spent, strict=True):
            times.append((await call(runtime, n))[1] * 1000)
    few, many = map(statistics.median, spent)
    row(f"  {name}", f"{few:.2f} -> {many:.2f} ms", f"ratio {many / few:.2f}")


async def list_page(runtime: Runtime, n: int, **filters: Any) -> tuple[Any, float]:
    """A first page, which must be full."""
    found, spent = await timed(runtime.list_executions(**filters))
    if len(found) != filters["limit"]:
        wrong.append(f"list_executions({filters}) found {len(found)}")
    return found, spent


async def wake(runtime: Runtime, n: int) -> tuple[Any, float]:
    """A ``run_due`` that has some runs to wake, and must have brought them to their end."""
    ids = [f"due-{n}-{each}" for each in range(DUE)]
    await put_runs(runtime, "brief", dict.fromkeys(ids, INPUT), datetime.now(UTC) + timedelta(milliseconds=50))
    await runtime.host.sleep(0.06)
    next_, spent = await timed(runtime.run_due())
    for id in ids:
        if (await runtime.get_execution(id)).status != "completed":
            wrong.append(f"run_due left {id} behind")
    return next_, spent
