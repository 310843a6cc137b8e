"""Worker processes, take-over, moves and large stores, on a Postgres and a Redis of its own: `make bench-servers`.

No time is asserted; exits 1 where a run was lost or a step was run twice. Postgres has its defaults (synchronous_commit
on), Redis syncs its append-only file at each commit (appendfsync always). A floor and what is held against it take
turns in one run of the program.

    python -m tests.benchmarks.bench_servers --quick --store postgres --only rates
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from alkaline_edge import AlkalineError
from alkaline_hosts.opening import open_host
from tests.benchmarks import servers_sizes, servers_work
from tests.benchmarks.servers_stage import Stage, heading, row, staged, wrong
from tests.benchmarks.shared.claims import claims


class Size(NamedTuple):
    """How much of everything."""

    workers: tuple[int, ...] = (1, 2, 4)
    runs: int = 400
    rounds: int = 2
    kills: int = 5
    steps_moved: int = 10_000
    stored: int = 100_000
    repeat: int = 30
    tasks: int = 400


QUICK = Size(workers=(1, 2), runs=40, rounds=1, kills=1, steps_moved=300, stored=5_000, repeat=5, tasks=40)
STEPS, LEASE, OWNED = 10, 2.0, 8
Part = Callable[[list[Stage], Size], Awaitable[None]]


async def rates(stages: list[Stage], size: Size) -> None:
    """Steps per second against bare inserts."""
    for stage in stages:
        await servers_work.rates(stage, size.workers, size.runs, STEPS, size.rounds)


async def take_over(stages: list[Stage], size: Size) -> None:
    """How long a dead worker's runs stand still."""
    for stage in stages:
        await servers_work.take_over(stage, size.kills, OWNED, LEASE)


async def moving(stages: list[Stage], size: Size) -> None:
    """A long run from host to host."""
    await servers_sizes.moving(stages, size.steps_moved)


async def stored(stages: list[Stage], size: Size) -> None:
    """Pages and timers of a large store."""
    for stage in stages:
        await servers_sizes.stored(stage, 1_000, size.stored, size.repeat)


async def claimed(stages: list[Stage], size: Size) -> None:
    """Tasks of a board a second that are claimed and ended, by one worker and by eight of one process."""
    heading(f"boards: {size.tasks} tasks claimed and ended")
    for stage in stages:
        for workers in (1, 8):
            host: Any = open_host(await stage.fresh())
            rate = await claims(host, workers, size.tasks)
            await host.close()
            row(f"{stage.name}, {workers} workers: claims with their ends a second", f"{rate:,.0f}")


PARTS: dict[str, Part] = {part.__name__: part for part in (rates, take_over, moving, stored, claimed)}


async def measure(stores: list[str], parts: list[str], size: Size) -> None:
    """Print what was asked for."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        stages = [stack.enter_context(staged(store, Path(directory))) for store in stores]
        for part in parts:
            try:
                await PARTS[part](stages, size)
            except (RuntimeError, AlkalineError) as error:  # the rest is measured all the same
                wrong.append(f"{part}: {error}")


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", choices=("postgres", "redis", "both"), default="both")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part of it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, whose figures say nothing")
    given = parser.parse_args()
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    print(f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    began = time.monotonic()
    stores = ["postgres", "redis"] if given.store == "both" else [given.store]
    asyncio.run(measure(stores, [given.only] if given.only else list(PARTS), QUICK if given.quick else Size()))
    print(f"\n{time.monotonic() - began:.0f} s", flush=True)
    for each in wrong:
        print(f"WRONG: {each}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
