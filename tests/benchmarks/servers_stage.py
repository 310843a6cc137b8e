"""What every part of bench_servers stands on: a server's empty stores, worker processes, their log, and the table."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from alkaline_edge import Runtime
from alkaline_edge.host import Committed
from alkaline_edge.runtime import creation
from alkaline_edge.runtime.write import Write
from alkaline_hosts.opening import open_host
from tests.servers.soak import server_of

ROOT = Path(__file__).resolve().parents[2]
RUNS_IN_A_BATCH = 500
NAMES = {"postgres": "Postgres", "redis": "Redis"}
wrong: list[str] = []
"""What did not hold. The program's exit code is 1 with anything in it."""


def row(what: str, figure: str, note: str = "") -> None:
    """One line of the table."""
    print(f"{what:<56} {figure:>32}   {note}".rstrip(), flush=True)


def heading(text: str) -> None:
    """A line above a part of the table."""
    print(f"\n{text}", flush=True)


class Stage:
    """A server of one kind, and a directory. ``fresh`` gives the URL of one empty store after another."""

    def __init__(self, kind: str, server: Any, directory: Path) -> None:
        self.kind, self.server, self.directory = kind, server, directory
        self.name = NAMES[kind]
        self._made = 0

    async def fresh(self) -> str:
        """An empty store: a database of its own in Postgres, a name of its own in Redis."""
        self._made += 1
        name = f"bench{self._made}"
        if self.kind == "redis":
            return f"{self.server.url}?name={name}"
        import asyncpg

        connection = await asyncpg.connect(self.server.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        return str(self.server.url).replace("/postgres", f"/{name}")

    async def bare(self) -> str:
        """Where bare rows go."""
        if self.kind == "redis":
            return str(self.server.url)
        import asyncpg

        url = await self.fresh()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, value bytea NOT NULL)")
        await connection.close()
        return url

    async def quiet(self) -> None:
        """Wait until the server has done what a load leaves behind: a Postgres checkpoint, a Redis rewrite."""
        if self.kind == "postgres":
            import asyncpg

            connection = await asyncpg.connect(self.server.url)
            await connection.execute("CHECKPOINT")
            await connection.close()
            return
        while self.server.ask("INFO", "persistence")["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.1)

    def log(self) -> Log:
        """A new, empty log."""
        self._made += 1
        return Log(self.directory / f"log{self._made}")


@contextlib.contextmanager
def staged(kind: str, directory: Path) -> Iterator[Stage]:
    """A stage whose server runs for as long."""
    own = directory / kind
    own.mkdir()
    with server_of(kind, own / "server") as server:
        yield Stage(kind, server, own)


class Line(NamedTuple):
    """A line of the log; see servers_worker."""

    what: str
    run: str
    step: str
    pid: int
    ns: int


class Log:
    """What worker processes wrote, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.lines: list[Line] = []
        self._read = 0

    def look(self) -> list[Line]:
        """All lines so far."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for each in whole.decode().splitlines():
            what, run, step, pid, ns = each.split()
            self.lines.append(Line(what, run, step, int(pid), int(ns)))
        return self.lines

    def of(self, what: str) -> list[Line]:
        """The lines that say ``what``."""
        return [line for line in self.look() if line.what == what]

    async def until(self, reached: Callable[[], bool], seconds: float, what: str) -> bool:
        """Wait until ``reached``; False, and one thing more that is wrong, where the log stands still for so long."""
        count, since = -1, time.monotonic()
        while not reached():
            if len(self.lines) != count:
                count, since = len(self.lines), time.monotonic()
            if time.monotonic() - since > seconds:
                wrong.append(f"{what}: nothing happened for {seconds:g} s")
                return False
            await asyncio.sleep(0.05)
        return True


class Workers:
    """Worker processes, killed at the end."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[bytes]] = []

    def add(self, what: str, url: str, log: Log, *arguments: Any) -> subprocess.Popen[bytes]:
        """One more; see servers_worker for the arguments."""
        program = Path(__file__).with_name("servers_worker.py")
        command = [sys.executable, str(program), what, url, str(log.path), *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
        process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE)
        self.all.append(process)
        return process

    async def ready(self, log: Log) -> None:
        """Wait until each has said that it is."""
        pids = {process.pid for process in self.all if process.poll() is None}
        reached = await log.until(lambda: pids <= {line.pid for line in log.of("ready")}, 30, "workers that start")
        if not reached:
            raise RuntimeError("a worker process did not start")

    def go(self) -> None:
        """Tell all of them to begin."""
        for process in self.all:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


@contextlib.asynccontextmanager
async def runtime_at(url: str | Path, workflows: Sequence[Any] = ()) -> Any:
    """A runtime on the store at ``url``, and its host closed behind it."""
    host = open_host(str(url))
    async with Runtime(host, workflows=list(workflows)) as runtime:
        yield runtime
    await host.close()


async def put_runs(runtime: Runtime, workflow: str, runs: Mapping[str, Any], start_at: datetime) -> None:
    """Runs that wait for their beginning, by what ``start`` makes its batch with, many to a batch.

    The runtime drives none of them, however late it is: ``runs`` are their ids and inputs.
    """
    definition, at, ids = runtime.registry.newest(workflow), round(start_at.timestamp() * 1000), list(runs)
    for first in range(0, len(ids), RUNS_IN_A_BATCH):
        write, now = Write(), runtime.host.now_ms()
        for id in ids[first : first + RUNS_IN_A_BATCH]:
            header = runtime._header(definition, id)
            creation.add(runtime.store, write, header, runs[id], now, attributes={"user": id[-2:]}, start_at=at)
        assert isinstance(await runtime.store.commit(write), Committed)
