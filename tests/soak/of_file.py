"""The file host under kills and a disk that is full now and then, and what must hold then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from alkaline_edge import Runtime
from alkaline_edge import events as ev
from alkaline_hosts.file import FileHost
from tests.servers.soak_worker import soak

from . import judging
from .file_worker import everything
from .judging import Found
from .table import Row

ROOT = Path(__file__).resolve().parents[2]
END = 180.0
"""Seconds that the last process has, to end what there is."""


class Worker:
    """The process, whose lines are read as long as it lives and a little longer."""

    def __init__(self, path: Path, runs: int, full: bool, lines: list[str]) -> None:
        command = [sys.executable, str(Path(__file__).with_name("file_worker.py")), str(path), str(runs)]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
        self.process = subprocess.Popen(
            [*command, "full" if full else "free"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = lines
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self.process.stdout if line.endswith("\n"))

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> str:
        """SIGKILL; what it said on stderr before."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stderr is not None
        with self.process.stderr as said:
            return said.read()


def run(seconds: float, seed: int, directory: Path) -> Row:
    """Kill and start again for so long, and judge."""
    row, chance, lines = Row("file"), random.Random(seed), list[str]()
    path = directory / "soak.alkaline"
    begun = time.monotonic()
    while (left := begun + seconds - time.monotonic()) > 0:
        worker = Worker(path, 1_000_000, chance.random() < 0.5, lines)
        # Some die as they open the store, most in the middle of their work.
        ended = worker.ends_within(min(max(1.0, left), chance.choice((0.3, 1.5, 3.0, 6.0)) * chance.uniform(0.5, 1.5)))
        said = worker.kill()
        row.kills += not ended
        if ended:
            row.wrong.append(f"a process ended by itself with exit code {worker.process.returncode}: {said[-300:]}")
    last = Worker(path, 0, False, lines)  # it starts none: one that was lost must not be there again
    if not last.ends_within(END):
        row.wrong.append("the last process did not bring every run to its end")
    if said := last.kill().strip():
        row.wrong.append(f"the last process said: {said[-300:]}")
    row.seconds = time.monotonic() - begun
    asyncio.run(judge(path, lines, row))
    return row


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Runtime]:
    """A runtime on the file, which is closed behind it."""
    host = FileHost(path)
    try:
        async with Runtime(host, workflows=[soak]) as runtime:
            yield runtime
    finally:
        await host.close()


async def judge(path: Path, lines: list[str], row: Row) -> None:
    """Compare what was acknowledged with what is there."""
    row.faults = sum(line.startswith("full") for line in lines)
    records: dict[str, Found] = {}
    async with opened(path) as runtime:
        for record in await everything(runtime):
            history = await runtime.history(record.id)  # raises where its chain of digests is broken
            steps = [each.event.name for each in history if each.event[0] == ev.STEP_COMPLETED]  # type: ignore[union-attr]
            result = record.result if record.status == "completed" else None
            records[record.id] = Found(record.status, str(record.waiting), result, steps)
    judging.judge(lines, records, row)
