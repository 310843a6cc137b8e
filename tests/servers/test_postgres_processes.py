"""Several real processes on one Postgres: they share runs, stop when they are told to, and fence who was away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Runtime, workflow
from alkaline_edge import events as ev
from alkaline_hosts.opening import open_host

from .conftest import until

ROOT = Path(__file__).resolve().parents[2]
FLOWS = """
import asyncio, os
from pathlib import Path
from alkaline_edge import workflow

LOG = Path(__file__).with_name("log")

def say(*words):
    out = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
    os.close(out)

async def effect(run, n, seconds):
    say("begin", run, n, os.getpid())
    await asyncio.sleep(seconds)
    say("end", run, n, os.getpid())

@workflow(name="chain", version=1)
async def chain(ctx, given):
    count, seconds = given
    for n in range(count):
        await ctx.step(f"s{n}", effect, ctx.execution.id, n, seconds)
"""
WORKER = """
import asyncio, sys
from alkaline_edge import Runtime
from alkaline_hosts.opening import open_host
from flows import chain

async def main():
    async with Runtime(open_host(sys.argv[1]), workflows=[chain], lease=float(sys.argv[2])) as runtime:
        await runtime.serve()

asyncio.run(main())
"""
Spawn = Callable[..., subprocess.Popen[bytes]]


@workflow(name="chain", version=1)
async def chain(ctx: Any, given: Any) -> None:
    """Only its name is used: to start runs that others drive."""


class Log:
    """What the steps wrote: begin or end, run, number, process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, word: str = "") -> list[tuple[str, str, int, int]]:
        lines = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [(word_, run, int(n), int(pid)) for word_, run, n, pid in lines if word in ("", word_)]

    def most_at_once(self, pid: int) -> int:
        most = now = 0
        for word, _, _, each in self.lines():
            if each == pid:
                now += 1 if word == "begin" else -1
                most = max(most, now)
        return most

    async def until(self, true: Callable[[list[tuple[str, str, int, int]]], Any], seconds: float = 25) -> None:
        async def look() -> bool:
            return bool(true(self.lines("begin")))

        await until(look, seconds)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def spawn(database: str, tmp_path: Path) -> Iterator[Spawn]:
    """Starts ``alkaline serve``, or with ``lease=`` a worker without HTTP; all are killed in the end."""
    (tmp_path / "flows.py").write_text(FLOWS)
    processes: list[subprocess.Popen[bytes]] = []
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}:{tmp_path}", "ALKALINE_TOKEN": "a-token-of-the-tests"}

    def start(*options: str, lease: float | None = None) -> subprocess.Popen[bytes]:
        if lease is not None:
            command = ["-c", WORKER, database, str(lease)]
        else:
            with socket.create_server(("127.0.0.1", 0)) as free:
                bind = f"127.0.0.1:{free.getsockname()[1]}"
            main = "from alkaline_hosts.cli import main; main()"
            command = ["-c", main, "serve", database, "--workflows", "flows", "--bind", bind, *options]
        processes.append(subprocess.Popen([sys.executable, *command], env=env, cwd=tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


async def made(url: str, count: int, given: tuple[int, float]) -> None:
    """Runs that whoever serves begins at once."""
    host = open_host(url)
    async with Runtime(host, workflows=[chain]) as runtime:
        for n in range(count):
            start_at = datetime.fromtimestamp(host.now_ms() / 1000, UTC) + timedelta(seconds=0.5)
            await runtime.start("chain", given, id=f"r{n}", start_at=start_at)
    await host.close()


async def completed(url: str, count: int) -> None:
    host = open_host(url, read_only=True)

    async def all_are() -> bool:
        return len(await host.list("x/s/completed/chain/")) == count

    await until(all_are, 60)
    await host.close()


def test_a_server_that_is_told_to_stop_hands_its_runs_over(spawn: Spawn, database: str, log: Log) -> None:
    """SIGTERM: what is in flight ends and is recorded, the exit code is 0, another goes on: no step is run twice."""

    async def main() -> None:
        first, second = spawn("--concurrency", "3"), spawn("--concurrency", "3")
        await made(database, 8, (12, 0.2))
        for leaving in (first, second):
            await log.until(lambda begun, pid=leaving.pid: sum(line[3] == pid for line in begun) >= 12)
            leaving.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.wait, 25) == 0
            if leaving is first:
                first = spawn("--concurrency", "3")
        await completed(database, 8)
        begun = Counter(line[:3] for line in log.lines("begin"))
        assert set(begun.values()) == {1}
        assert len(begun) == 8 * 12
        assert sorted(line[1:] for line in log.lines("end")) == sorted(line[1:] for line in log.lines("begin"))
        pids = {line[3] for line in log.lines()}
        assert len(pids) == 3
        shared = [
            run for run in {line[1] for line in log.lines()} if len({x[3] for x in log.lines() if x[1] == run}) > 1
        ]
        assert len(shared) >= 3  # it did not wait for its runs, only for their steps
        assert max(log.most_at_once(pid) for pid in pids) == 3

    asyncio.run(main())


@pytest.mark.parametrize("how", ["grace", "second signal"])
def test_a_step_that_takes_too_long_is_left_to_another(how: str, spawn: Spawn, database: str, log: Log) -> None:
    """A step of an hour: after the grace, or at the second signal, its run is handed over before its lease ends."""

    async def main() -> None:
        await made(database, 3, (1, 3600))
        first = spawn("--grace", "1" if how == "grace" else "3600")
        await log.until(lambda begun: len(begun) == 3)
        second = spawn()
        first.send_signal(signal.SIGINT)
        if how == "second signal":
            with pytest.raises(subprocess.TimeoutExpired):
                await asyncio.to_thread(first.wait, 2)
            first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, 25) == 0
        await log.until(lambda begun: sum(line[3] == second.pid for line in begun) == 3, 20)

    asyncio.run(main())


def test_a_server_whose_store_does_not_answer_ends_with_its_error(spawn: Spawn, tmp_path: Path) -> None:
    """A wrong address is a line and an exit code, not a server that serves nothing."""
    main = "from alkaline_hosts.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}", "ALKALINE_TOKEN": "a-token-of-the-tests"}
    command = [sys.executable, "-c", main, "serve", "postgresql://agent@127.0.0.1:1/none", "--bind", "127.0.0.1:0"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.decode().startswith("error: Postgres did not answer")


def test_a_worker_that_was_away_for_longer_than_its_lease_writes_nothing(spawn: Spawn, database: str, log: Log) -> None:
    """Stopped in the middle of its steps and woken when another has its runs: each step is recorded once."""

    async def main() -> None:
        await made(database, 4, (30, 0.1))
        first = spawn(lease=2.0)
        await log.until(lambda begun: len(begun) >= 12)
        second = spawn(lease=2.0)
        first.send_signal(signal.SIGSTOP)
        await log.until(lambda begun: len({line[1] for line in begun if line[3] == second.pid}) == 4)
        before = len(log.lines())
        first.send_signal(signal.SIGCONT)
        await log.until(lambda begun: any(line[3] == first.pid for line in log.lines()[before:]))
        await completed(database, 4)
        host = open_host(database, read_only=True)
        async with Runtime(host, workflows=[chain]) as runtime:
            for n in range(4):
                history = await runtime.history(f"r{n}")  # verified against its digest chain
                done = [each.event.name for each in history if isinstance(each.event, ev.StepCompleted)]
                assert done == [f"s{k}" for k in range(30)]
                assert (await runtime.get_execution(f"r{n}")).epoch >= 2
        await host.close()

    asyncio.run(main())
