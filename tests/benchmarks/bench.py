"""Ratios against a floor, measured in one run: `make bench`. Nothing here is asserted by a test.

Each figure is the best of several; a floor and what is held against it take turns, so that a machine that slows down
slows both. Targets are those of the design.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgpack

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.host import Host
from alkaline_edge.runtime import owning
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = {"title": "x" * 40, "url": "y" * 40, "n": 12345}
"""A step's result of about 100 bytes, so that an event has about 140."""
PAYLOAD_BYTES = len(msgpack.packb(PAYLOAD))


def search(n: int) -> dict[str, Any]:
    return {**PAYLOAD, "n": 10_000 + n}


@workflow
async def steps(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("search", search, n)
    await ctx.wait_for_signal("end")


@workflow
async def waits(ctx: Context) -> None:
    await ctx.sleep(3600)


class _Once:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _bare(count: int, awaited: _Once) -> None:
    for _ in range(count):
        await awaited


def row(what: str, figure: str, target: str = "", met: bool | None = None) -> None:
    verdict = "" if met is None else ("met" if met else "NOT MET")
    print(f"{what:<58} {figure:>22}   {target:<26} {verdict}", flush=True)


def best(measure: Callable[[], float], times: int) -> float:
    return min(measure() for _ in range(times))


def floor_of_replay(commits: list[bytes]) -> float:
    """Seconds to decode the same bytes and to resume a bare coroutine for each."""
    coroutine = _bare(len(commits), _Once())
    coroutine.send(None)
    started = time.perf_counter()
    for raw in commits[1:]:
        msgpack.unpackb(raw)
        coroutine.send(None)
    spent = time.perf_counter() - started
    coroutine.close()
    return spent


async def recorded(count: int) -> tuple[Runtime, Any]:
    """A runtime on memory with one suspended run of so many steps, and its record."""
    host = MemoryHost()
    async with Runtime(host, workflows=[steps]) as runtime:
        await (await runtime.start("steps", count, id="a")).settle()
    runtime = Runtime(host, workflows=[steps])
    return runtime, await runtime.get_execution("a")


async def replay(counts: tuple[int, ...]) -> None:
    per_step: dict[int, float] = {}
    for count in counts:
        runtime, record = await recorded(count)
        commits = await runtime.store.commits(record.run)
        ours, floor = [], []
        for _ in range(3 if count > 50_000 else 7):
            gc.collect()
            started = time.perf_counter()
            machine, _, _ = await owning.load(runtime, record, 1)
            ours.append(time.perf_counter() - started)
            machine.set_aside()
            gc.collect()
            floor.append(floor_of_replay(commits))
        a, b = min(ours) / count * 1e6, min(floor) / count * 1e6
        per_step[count] = a
        row(
            f"replay, {count:,} steps: us per step / floor",
            f"{a:.2f} / {b:.2f} = {a / b:.2f}",
            "<= 3 x floor",
            a / b <= 3,
        )
        if count == counts[0]:
            size = sum(map(len, commits[1:])) / count
            over = size - PAYLOAD_BYTES
            row("bytes per step in the history, beyond the payload", f"{over:.1f}", "<= 40", over <= 40)
            row(
                "the fastest peer's replayed step (DBOS, 1,600-2,000 us)",
                f"{1600 / a:.0f} x slower",
                ">= 100 x",
                a * 100 <= 1600,
            )
    ratio = per_step[counts[-1]] / per_step[counts[0]]
    row(f"replay per step, {counts[-1]:,} / {counts[0]:,} steps", f"{ratio:.2f}", "<= 1.2", ratio <= 1.2)


async def live_steps(host: Host, count: int) -> float:
    async with Runtime(host, workflows=[steps]) as runtime:
        started = time.perf_counter()
        await (await runtime.start("steps", count, id="a")).settle()
        return (time.perf_counter() - started) / count


def floor_of_append(folder: str, count: int) -> float:
    """Seconds per append and fdatasync of as many bytes as a step puts into the file."""
    data = b"x" * 165
    fd = os.open(Path(folder, "floor"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        started = time.perf_counter()
        for _ in range(count):
            os.write(fd, data)
            os.fdatasync(fd)
        return (time.perf_counter() - started) / count
    finally:
        os.close(fd)


def live() -> None:
    memory = best(lambda: asyncio.run(live_steps(MemoryHost(), 3_000)), 5)
    row("live step, memory host: us", f"{memory * 1e6:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        ours, floor = [], []
        for n in range(5):
            floor.append(floor_of_append(folder, 1_500))
            path = Path(folder, f"run-{n}.alkaline")
            ours.append(asyncio.run(live_steps(FileHost(path), 1_500)))
        a, b = min(ours) * 1e6, min(floor) * 1e6
        row("live step, file host / append + fdatasync: us", f"{a:.0f} / {b:.0f} = {a / b:.2f}", "<= 1.5", a / b <= 1.5)
        size = path.stat().st_size / 1_500 - PAYLOAD_BYTES
        row("bytes per step in the file, beyond the payload", f"{size:.1f}")


async def waiting_runs(count: int) -> tuple[float, float]:
    """Seconds for a `run_due` that wakes nothing, and for a page of 50, with so many suspended runs stored."""
    host = MemoryHost()
    async with Runtime(host, workflows=[waits]) as runtime:
        runtime.keep_asleep = 10
        for n in range(count):
            await (await runtime.start("waits", id=f"run-{n:06d}")).settle()

        async def timed(call: Callable[[], Any]) -> float:
            started = time.perf_counter()
            await call()
            return time.perf_counter() - started

        due = min([await timed(runtime.run_due) for _ in range(20)])
        page = min([await timed(lambda: runtime.list_executions(status="suspended")) for _ in range(20)])
        return due, page


def stored(small: int, large: int) -> None:
    few, many = asyncio.run(waiting_runs(small)), asyncio.run(waiting_runs(large))
    for name, a, b in (("run_due", few[0], many[0]), ("list_executions, a page of 50", few[1], many[1])):
        figure = f"{a * 1e6:.0f} -> {b * 1e6:.0f} = {b / a:.2f}"
        row(f"{name}: us, {small:,} -> {large:,} runs", figure, "about 1", b / a <= 1.5)


def package() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True, capture_output=True)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            row("wheel", f"{wheel.stat().st_size / 1024:.0f} KiB, {len(archive.namelist())} files")
    code = (
        "import sys, time, asyncio, msgpack\n"
        "before = set(sys.modules)\n"
        "t = time.perf_counter()\n"
        "import alkaline_edge\n"
        "print((time.perf_counter() - t) * 1000)\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('alkaline')))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(7)]
    row("import alkaline_edge, behind asyncio and msgpack: ms", f"{min(float(r.stdout.split()[0]) for r in runs):.1f}")
    row("modules that it adds beside its own", runs[0].stdout.splitlines()[1] or "none")


def main() -> None:
    """Print every figure."""
    print(f"CPython {sys.version.split()[0]}, msgpack {'.'.join(map(str, msgpack.version))}, {os.cpu_count()} cores")
    asyncio.run(replay((1_000, 10_000, 100_000)))
    live()
    stored(1_000, 100_000)
    package()


if __name__ == "__main__":
    main()
