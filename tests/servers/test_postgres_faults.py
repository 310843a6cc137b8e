"""Answers that are lost while Postgres commits, and workers that are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Runtime, workflow
from alkaline_edge.errors import UnknownOutcome
from alkaline_edge.host import Batch, Check, Conflict, Put
from alkaline_hosts.opening import open_host

from .conftest import execute, until
from .test_postgres import each_client

ROOT = Path(__file__).resolve().parents[2]
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"


async def stand_by(url: str, name: str) -> None:
    """Have each commit wait for the standby ``name``, which there is none of; not at all for ''."""
    await execute(url, f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    await execute(url, "SELECT pg_reload_conf()")

    async def heard() -> bool:
        return bool((await execute(url, "SHOW synchronous_standby_names"))[0][0] == name)

    await until(heard)


async def terminate_in_commit(url: str) -> None:
    """End the backend that waits in COMMIT; its row is there by then."""
    rows = await until(lambda: execute(url, WAITING))
    for row in rows:
        await execute(url, "SELECT pg_terminate_backend($1)", row[0])


@each_client
def test_a_backend_that_is_ended_during_commit_is_unknown(client: Any, database: str) -> None:
    """The client gets an error and the row is there: UnknownOutcome, and the entry's version says whose it is."""

    async def main() -> None:
        host = await client(database)
        await host.commit(Batch(f"{1:016x}", puts=(Put("a", b"1"),)))
        await stand_by(database, "bogus")
        try:
            batch = Batch(f"{2:016x}", (Check("a", f"{1:016x}"),), (Put("a", b"2"),))
            commit = asyncio.ensure_future(host.commit(batch))
            await terminate_in_commit(database)
            with pytest.raises(UnknownOutcome):
                await commit
        finally:
            await stand_by(database, "")
        (entry,) = await host.get(["a"])
        assert (entry.value, entry.version) == (b"2", batch.id)
        assert await host.commit(batch) == Conflict(("a",))  # one's own success, looked at without the version
        await host.close()

    asyncio.run(main())


@each_client
def test_a_backend_that_is_ended_before_commit_wrote_nothing(client: Any, database: str) -> None:
    """Ended while it waits for another's lock: not known from outside either, and nothing is there."""

    async def main() -> None:
        host = await client(database)
        await host.commit(Batch(f"{1:016x}", puts=(Put("a", b"1"),)))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        other = await client(database)
        holder = asyncio.ensure_future(
            execute(database, "WITH l AS MATERIALIZED (SELECT * FROM alkaline FOR UPDATE) SELECT pg_sleep(3) FROM l")
        )
        await until(lambda: execute(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        commit = asyncio.ensure_future(host.commit(Batch(f"{2:016x}", puts=(Put("a", b"2"), Put("b", b"2")))))
        for row in await until(lambda: execute(database, waits)):
            await execute(database, "SELECT pg_terminate_backend($1)", row[0])
        with pytest.raises(UnknownOutcome):
            await commit
        await holder
        assert [entry and entry.value for entry in await other.get(["a", "b"])] == [b"1", None]
        await host.close()
        await other.close()

    asyncio.run(main())


@each_client
def test_the_kernel_finds_out_what_became_of_a_commit(client: Any, database: str) -> None:
    """The backend is ended in the commit of a step's result: the run completes, and that step ran once."""
    ran: list[str] = []
    reached = asyncio.Event()

    @workflow(name="three", version=1)
    async def three(ctx: Any) -> int:
        total = 0
        for n in range(3):
            total += await ctx.step(f"s{n}", effect, n)
        return total

    async def effect(n: int) -> int:
        ran.append(f"s{n}")
        if n == 1:
            await stand_by(database, "bogus")
            reached.set()
        return n

    async def main() -> None:
        host = await client(database)
        try:
            async with Runtime(host, workflows=[three]) as runtime:
                run = await runtime.start("three", id="r")
                ended = asyncio.ensure_future(run.result())
                waited = asyncio.ensure_future(reached.wait())
                await asyncio.wait([ended, waited], return_when=asyncio.FIRST_COMPLETED)
                assert not ended.done(), ended
                await terminate_in_commit(database)
                await stand_by(database, "")
                assert await run.result(timeout=20) == 3
                assert (await runtime.get_execution("r")).attempt == 1
        finally:
            await stand_by(database, "")
        assert ran == ["s0", "s1", "s2"]
        await host.close()

    asyncio.run(main())


WORKER = """
import asyncio, os, sys
from alkaline_edge import Runtime, workflow
from alkaline_hosts.opening import open_host

url, log = sys.argv[1:]

@workflow(name="chain", version=1)
async def chain(ctx, name):
    for n in range(STEPS):
        await ctx.step(f"s{n}", effect, name, n)
    return name

async def effect(name, n):
    line = f"{name} {n} {os.getpid()}\\n".encode()
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.write(out, line)
    os.close(out)
    await asyncio.sleep(0.1)

async def main():
    async with Runtime(open_host(url), workflows=[chain], lease=3.0) as runtime:
        for n in range(RUNS):
            await runtime.start("chain", f"r{n}", id=f"r{n}", on_conflict="join")
        await runtime.serve()

asyncio.run(main())
"""
RUNS, STEPS, WORKERS, KILLS = 12, 40, 4, 6


@pytest.mark.slow
def test_workers_that_are_killed_repeat_no_committed_step(database: str, tmp_path: Path) -> None:
    """Four processes race to start and run the same runs, and owners are killed: all complete, none goes back.

    A step begins when the one before it is committed: behind the line of step n + 1 of a run, there is none of step n.
    """
    log = tmp_path / "log"
    log.touch()
    source = WORKER.replace("STEPS", str(STEPS)).replace("RUNS", str(RUNS))
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}

    def worker() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", source, database, str(log)], env=env, cwd=ROOT)

    async def statuses() -> list[str]:
        host = open_host(database, read_only=True)
        try:
            async with Runtime(host) as runtime:
                return [(await runtime.get_execution(f"r{n}")).status for n in range(RUNS)]
        finally:
            await host.close()

    async def main(workers: list[subprocess.Popen[bytes]]) -> None:
        chance = random.Random(1)

        async def grown(size: int) -> bool:
            return log.stat().st_size > size

        for _ in range(KILLS):
            before = log.stat().st_size
            await until(lambda: grown(before), 30)  # noqa: B023  # awaited at once
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            assert all(process.poll() is None for process in workers), "a worker ended by itself"
            pid = int(log.read_text().split()[-1])  # the one that began the last step: it owns runs
            victim = next(n for n, process in enumerate(workers) if process.pid == pid)
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = worker()

        async def complete() -> bool:
            return set(await statuses()) == {"completed"}

        await until(complete, 120)
        assert all(process.poll() is None for process in workers), "a worker ended by itself"

    workers = [worker() for _ in range(WORKERS)]
    try:
        asyncio.run(main(workers))
    finally:
        for process in workers:
            process.kill()
            process.wait()
    lines: dict[str, list[int]] = defaultdict(list)
    for line in log.read_text().splitlines():
        name, n, _ = line.split()
        lines[name].append(int(n))
    assert len(lines) == RUNS
    for name, steps in lines.items():
        assert steps == sorted(steps), f"{name} ran a committed step again: {steps}"
        assert set(steps) == set(range(STEPS))
    pids = {line.split()[2] for line in log.read_text().splitlines()}
    assert len(pids) > KILLS, "the killed did not all own runs: this run of the test showed less than it says"
    repeated = sum(len(steps) - STEPS for steps in lines.values())
    assert repeated > 0, "no kill met a step in flight: this run of the test showed nothing"
