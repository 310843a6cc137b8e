"""Runs and steps per second with several worker processes, and how long a killed one's runs stand still."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.benchmarks.servers_stage import Log, Stage, Workers, heading, put_runs, row, runtime_at, wrong
from tests.benchmarks.servers_worker import bench

CONCURRENCY = 16
LEASE_OF_RATES = 30.0
BARE_PER_STEP = 2
"""How many bare rows are inserted for each step that is run: they are over too soon otherwise."""


async def started_by_nobody(url: str, count: int, steps: int, seconds: float) -> None:
    """So many runs that are all due in a second, in one batch or few; this process drives none of them."""
    given = {"steps": steps, "seconds": seconds}
    async with runtime_at(url, [bench]) as runtime:
        runs = {f"run-{n:05d}": given for n in range(count)}
        await put_runs(runtime, "bench", runs, datetime.now(UTC) + timedelta(seconds=1))


# --- rates -----------------------------------------------------------------------------------------------------------
async def rates(stage: Stage, workers: tuple[int, ...], runs: int, steps: int, rounds: int) -> None:
    """The floor and the runs by turns; the best of each is printed."""
    heading(
        f"{stage.name}: {runs} runs of {steps} steps, {CONCURRENCY} at once in each worker process; "
        f"floor: {'INSERT, autocommitted' if stage.kind == 'postgres' else 'SET'}, 200 bytes, {CONCURRENCY} at once"
    )
    for count in workers:
        floor, ours = [], []
        for _ in range(rounds):
            floor.append(await bare_per_second(stage, count, runs * steps * BARE_PER_STEP))
            ours.append(await steps_per_second(stage, count, runs, steps))
        a, b = max(floor), max(ours)
        figure = f"{b / steps:,.0f} runs, {b:,.0f} steps"
        row(f"  {count} worker{'s' * (count > 1)}: per second", figure, f"bare {a:,.0f}; bare / steps {a / b:.2f}")


async def bare_per_second(stage: Stage, count: int, inserts: int) -> float:
    """Rows per second, from the first process's beginning to the last one's end."""
    url, log = await stage.bare(), stage.log()
    with Workers() as workers:
        for _ in range(count):
            workers.add("bare", url, log, CONCURRENCY, inserts // count)
        await workers.ready(log)
        workers.go()
        if not await log.until(lambda: len(log.of("done")) == count, 60, "bare inserts"):
            return float("nan")
    spent = max(line.ns for line in log.of("done")) - min(line.ns for line in log.of("begin"))
    return inserts // count * count / spent * 1e9


async def steps_per_second(stage: Stage, count: int, runs: int, steps: int) -> float:
    """Steps per second, from the first step's beginning to the last run's end; judges that each was run once."""
    url, log = await stage.fresh(), stage.log()
    with Workers() as workers:
        for _ in range(count):
            workers.add("serve", url, log, CONCURRENCY, LEASE_OF_RATES)
        await workers.ready(log)
        await started_by_nobody(url, runs, steps, 0)
        await log.until(lambda: len(log.of("completed")) >= runs, 60, f"{stage.name}, {count} workers")
    begun, completed = log.of("begin"), log.of("completed")
    await judge(f"{stage.name}, {count} workers", log, url, runs, steps)
    if not begun or not completed:
        return float("nan")
    return runs * steps / (max(line.ns for line in completed) - begun[0].ns) * 1e9


async def judge(what: str, log: Log, url: str, runs: int, steps: int) -> None:
    """Every run completed, and each step was run once: by the log, and by the store."""
    times = Counter((line.run, line.step) for line in log.of("begin"))
    often = sum(n > 1 for n in times.values())
    if len(times) != runs * steps or often:
        wrong.append(f"{what}: {len(times)} of {runs * steps} steps were run, {often} of them more than once")
    stuck = log.of("stuck")
    if stuck:
        wrong.append(f"{what}: {len(stuck)} runs could not go on, such as {stuck[0]}")
    async with runtime_at(url) as runtime:
        completed, after = 0, ""
        while after is not None:
            page = await runtime.list_executions(status="completed", after=after, limit=500)
            completed, after = completed + len(page), page.after
    if completed != runs or len({line.run for line in log.of("completed")}) != runs:
        wrong.append(f"{what}: {completed} of {runs} runs are completed in the store")


# --- take-over -------------------------------------------------------------------------------------------------------
async def take_over(stage: Stage, kills: int, runs: int, lease: float) -> None:
    """A worker that owns all runs is killed while another one is idle; when does each run's next step begin there?"""
    url, log = await stage.fresh(), stage.log()
    spent: list[float] = []
    with Workers() as workers:
        owner = workers.add("serve", url, log, CONCURRENCY, lease)
        await workers.ready(log)
        await started_by_nobody(url, runs, 100_000, 0.1)
        if not await log.until(lambda: runs_of(log, owner.pid) == runs, 30, "runs that begin"):
            return
        for _ in range(kills):
            heir = workers.add("serve", url, log, CONCURRENCY, lease)
            await workers.ready(log)
            await asyncio.sleep(lease + random.uniform(0, lease))  # any moment between two renewals
            if runs_of(log, heir.pid):
                wrong.append(f"{stage.name}: a run of a live owner was taken over")
            killed = asyncio.get_running_loop().time()  # the clock of the log
            owner.kill()
            owner.wait()
            reached = await log.until(lambda pid=heir.pid: runs_of(log, pid) == runs, 30, "runs taken over")  # type: ignore[misc]
            if not reached:
                return
            first = {line.run: line.ns / 1e9 for line in reversed(log.of("begin")) if line.pid == heir.pid}
            spent += [at - killed for at in first.values()]
            owner = heir
    middle, longest = statistics.median(spent), max(spent)
    heading(f"{stage.name}: a worker is killed in the midst of {runs} runs, {kills} times; lease {lease:g} s")
    for what, figure in (("median", middle), ("longest", longest)):
        over = f"the lease {'+' if figure > lease else '-'} {abs(figure - lease):.2f} s"
        row(f"  until a run's next step begins: {what}", f"{figure:.2f} s = {figure / lease:.2f} leases", over)


def runs_of(log: Log, pid: int) -> int:
    """In how many runs the process has begun a step."""
    return len({line.run for line in log.of("begin") if line.pid == pid})
