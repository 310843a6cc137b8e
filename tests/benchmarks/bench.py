"""Ratios against a floor, measured in one run: `make bench`. Nothing here is asserted by a test.

Each figure is the best of several; a floor and what is held against it take turns, so that a machine that slows down
slows both. Targets are those of the design.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
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
from alkaline_edge.runtime.loading import Loader
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from tests.benchmarks import boards, growth

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


async def search_later(n: int) -> dict[str, Any]:
    return search(n)


async def search_behind_a_turn(n: int) -> dict[str, Any]:
    await asyncio.sleep(0)
    return search(n)


@workflow
async def async_steps(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("search", search_later, n)
    await ctx.wait_for_signal("end")


@workflow
async def waiting_steps(ctx: Context, count: int) -> None:
    for n in range(count):
        await ctx.step("search", search_behind_a_turn, n)
    await ctx.wait_for_signal("end")


STEPS = [steps, async_steps, waiting_steps]


@workflow
async def waits(ctx: Context) -> None:
    await ctx.sleep(3600)


class _Once:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _bare(count: int, awaited: _Once) -> None:
    for _ in range(count):
        await awaited


rows: list[dict[str, Any]] = []
"""All that was printed: for the JSON file."""


def row(what: str, figure: str, target: str = "", met: bool | None = None) -> None:
    rows.append({"what": what, "figure": figure, "target": target, "met": met})
    verdict = "" if met is None else ("met" if met else "NOT MET")
    print(f"{what:<58} {figure:>22}   {target:<26} {verdict}", flush=True)


PAGE = ROOT / "docs" / "performance.md"
_TABLE = re.compile(r"(<!-- make bench writes this -->\n).*?(<!-- to here -->)", re.DOTALL)


def with_table(page: str, where: str, figures: list[dict[str, Any]]) -> str:
    """``page`` with the table of ``figures`` in its place."""
    lines = [f"Measured with {where} as it began.", "", "| What | Figure | Target |", "| --- | --- | --- |"]
    lines += [f"| {each['what']} | {each['figure']} | {each['target']} |" for each in figures]
    return _TABLE.sub(lambda found: f"{found[1]}\n{chr(10).join(lines)}\n\n{found[2]}", page, count=1)


def floor_of_replay(commits: list[bytes], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds by ``clock`` to decode the same bytes and to resume a bare coroutine for each."""
    coroutine = _bare(len(commits), _Once())
    coroutine.send(None)
    started = clock()
    for raw in commits[1:]:
        msgpack.unpackb(raw)
        coroutine.send(None)
    spent = clock() - started
    coroutine.close()
    return spent


async def recorded(count: int) -> tuple[Runtime, Any]:
    """A runtime on memory with one suspended run of so many steps, and its record."""
    host = MemoryHost()
    async with Runtime(host, workflows=[steps]) as runtime:
        await (await runtime.start("steps", count, id="a")).settle()
    runtime = Runtime(host, workflows=[steps])
    return runtime, await runtime.get_execution("a")


async def recorded_commits(count: int) -> list[bytes]:
    """The history of a run of so many steps."""
    runtime, record = await recorded(count)
    return await runtime.store.commits(record.run)


async def replay(counts: tuple[int, ...]) -> None:
    """One length after the other, so that each has the memory to itself; ours and the floor by turns."""
    per_step: dict[int, tuple[float, float]] = {}
    for count in counts:
        runtime, record = await recorded(count)
        commits = await runtime.store.commits(record.run)
        ours, floor = [], []
        for _ in range(5 if count > 50_000 else 20):
            gc.collect()
            started = time.perf_counter()
            machine = (await Loader(runtime.store, runtime.registry).load(record, 1)).machine
            ours.append((time.perf_counter() - started) / count * 1e6)
            machine.set_aside()
            del machine
            gc.collect()
            floor.append(floor_of_replay(commits) / count * 1e6)
        a, b = per_step[count] = min(ours), min(floor)
        what = f"replay, {count:,} steps: us per step / floor"
        row(what, f"{a:.2f} / {b:.2f} = {a / b:.2f}", "<= 3 x floor", a / b <= 3)
        if count == counts[0]:
            what = "the fastest peer's replayed step (Temporal, 1,600 us)"
            row(what, f"{1600 / a:.0f} x slower", ">= 100 x", a * 100 <= 1600)
            over = sum(map(len, commits[1:])) / count - PAYLOAD_BYTES
            row("bytes per step in the history, beyond the payload", f"{over:.1f}", "<= 40", over <= 40)
    (a, a_floor), (b, b_floor) = per_step[counts[0]], per_step[counts[-1]]
    ratio, floors = b / a, b_floor / a_floor
    what = f"replay per step, {counts[-1]:,} / {counts[0]:,} steps (the floor's)"
    row(what, f"{ratio:.2f} ({floors:.2f})", "<= 1.2", ratio <= 1.2)


async def live_steps(host: Host, count: int) -> float:
    async with Runtime(host, workflows=[steps]) as runtime:
        started = time.perf_counter()
        await (await runtime.start("steps", count, id="a")).settle()
        return (time.perf_counter() - started) / count


def floor_of_append(folder: str, count: int, size: int) -> float:
    """Seconds per append and fdatasync of as many bytes as a step puts into the file."""
    data = b"x" * size
    fd = os.open(Path(folder, "floor"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        started = time.perf_counter()
        for _ in range(count):
            os.write(fd, data)
            os.fdatasync(fd)
        return (time.perf_counter() - started) / count
    finally:
        os.close(fd)


async def cpu_of_steps(host: Host, name: str, count: int) -> float:
    """CPU seconds a step: what others do on the machine counts for less than in wall time."""
    async with Runtime(host, workflows=STEPS) as runtime:
        gc.collect()
        started = time.process_time()
        await (await runtime.start(name, count, id="a")).settle()
        while (await runtime.get_execution("a")).waiting != ["signal end"]:
            await asyncio.sleep(0)
        return (time.process_time() - started) / count


def live_cpu(count: int) -> None:
    """What a step takes of the processor, on both hosts; on the file without the sync, which is the system's."""
    with tempfile.TemporaryDirectory() as folder:
        hosts: dict[str, tuple[Callable[[str], Host], float]] = {
            "memory": (lambda _: MemoryHost(), 40),
            "file, no sync": (lambda name: FileHost(Path(folder, name), fsync=False), 60),
        }
        found: dict[tuple[str, str], list[float]] = {}
        floors: list[float] = []
        commits = asyncio.run(recorded_commits(count))
        for n in range(7):
            floors.append(floor_of_replay(commits, time.process_time) / count * 1e6)
            for host, (made, _) in hosts.items():
                for flow in STEPS:
                    spent = asyncio.run(cpu_of_steps(made(f"{flow.name}-{n}"), flow.name, count))
                    found.setdefault((host, flow.name), []).append(spent * 1e6)
    words = {"steps": "plain", "async_steps": "async, never waits", "waiting_steps": "async, waits for a turn"}
    for (host, flow_name), spent_each in found.items():
        best, target = min(spent_each), hosts[host][1]
        row(f"live step, {host}, {words[flow_name]}: CPU us", f"{best:.0f}", f"<= {target:.0f}", best <= target)
        ratios = [ours / floor for ours, floor in zip(spent_each, floors, strict=True)]
        row("  / the floor of its replay, by turns", growth.spread(ratios))


def live(count: int) -> None:
    """Steps on both hosts and the floor, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "first.alkaline")
        asyncio.run(live_steps(FileHost(first), count))  # not timed: says how many bytes a step puts into the file
        size = first.stat().st_size / count
        memory, file, floor = [], [], []
        for n in range(7):
            floor.append(floor_of_append(folder, count, round(size)) * 1e6)
            file.append(asyncio.run(live_steps(FileHost(Path(folder, f"{n}.alkaline")), count)) * 1e6)
            memory.append(asyncio.run(live_steps(MemoryHost(), count)) * 1e6)
    a, b, c = min(file), min(floor), min(memory)
    row("live step, file host / append + fdatasync: us", f"{a:.0f} / {b:.0f} = {a / b:.2f}", "<= 1.5", a / b <= 1.5)
    row("live step, memory host / append + fdatasync: us", f"{c:.0f} / {b:.0f} = {c / b:.2f}")
    row("bytes per step in the file, beyond the payload", f"{size - PAYLOAD_BYTES:.1f}")


async def waiting_runs(count: int) -> Runtime:
    """A runtime on memory that has so many suspended runs stored."""
    runtime = Runtime(MemoryHost(), workflows=[waits])
    await runtime.__aenter__()
    runtime.keep_asleep = 10
    for n in range(count):
        await (await runtime.start("waits", id=f"run-{n:06d}")).settle()
    return runtime


async def stored(small: int, large: int) -> None:
    """A `run_due` that wakes nothing and a page of 50, with few and with many runs stored, by turns."""
    few, many = await waiting_runs(small), await waiting_runs(large)
    calls: dict[str, Callable[[Runtime], Any]] = {
        "run_due": lambda runtime: runtime.run_due(),
        "list_executions(limit=50)": lambda runtime: runtime.list_executions(status="suspended", limit=50),
    }
    for name, call in calls.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(50):
            for runtime, times in zip((few, many), spent, strict=True):
                started = time.perf_counter()
                await call(runtime)
                times.append((time.perf_counter() - started) * 1e6)
        a, b = map(min, spent)
        figure = f"{a:.0f} -> {b:.0f} = {b / a:.2f}"
        row(f"{name}: us, {small:,} -> {large:,} runs", figure, "about 1 (<= 1.5)", b / a <= 1.5)
    for runtime in (few, many):
        await runtime.__aexit__(None, None, None)


def package() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True, capture_output=True)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            row("wheel", f"{wheel.stat().st_size / 1024:.0f} KiB, {len(archive.namelist())} files")
    whole = "import time; t = time.perf_counter(); import alkaline_edge; print((time.perf_counter() - t) * 1000)"
    alone = [
        subprocess.run([sys.executable, "-c", whole], check=True, capture_output=True, text=True) for _ in range(7)
    ]
    row("import alkaline_edge in a fresh interpreter: ms", f"{min(float(r.stdout) for r in alone):.1f}")
    code = (
        "import sys, time, asyncio, msgpack\n"
        "before = set(sys.modules)\n"
        "t = time.perf_counter()\n"
        "import alkaline_edge\n"
        "print((time.perf_counter() - t) * 1000)\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('alkaline')))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(7)]
    row("  of which behind asyncio and msgpack: ms", f"{min(float(r.stdout.split()[0]) for r in runs):.1f}")
    row("modules that it adds beside its own", runs[0].stdout.splitlines()[1] or "none")
    first_step()


_FIRST = """
import time
begun = time.process_time()
import asyncio, msgpack
floor = time.process_time()
from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts.memory import MemoryHost
@workflow
async def flow(ctx: Context) -> None:
    await ctx.step("step", lambda: 1)
async def main():
    async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
        await (await runtime.start("flow")).result()
asyncio.run(main())
print((floor - begun) * 1000, (time.process_time() - begun) * 1000)
"""


def first_step() -> None:
    """Import and first step in a fresh interpreter, against importing asyncio and msgpack, which it can't do without.

    From compiled modules, as they are installed: whatever the environment says of writing them.
    """
    with tempfile.TemporaryDirectory() as compiled:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"PYTHONPYCACHEPREFIX": compiled}
        command = [sys.executable, "-c", _FIRST]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True, env=env) for _ in range(10)]
    pairs = [(float(floor), float(whole)) for floor, whole in (each.stdout.split() for each in runs[1:])]
    row("import and first step: CPU ms", f"{min(whole for _, whole in pairs):.1f}")
    row("  / import of asyncio and msgpack", growth.spread([whole / floor for floor, whole in pairs]))


def main() -> None:
    """Print every figure, and write them into a file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/performance.md")
    parser.add_argument(
        "--only", choices=("replay", "live", "cpu", "growth", "stored", "boards", "package"), help="one part of it"
    )
    given = parser.parse_args()
    python, packer = sys.version.split()[0], ".".join(map(str, msgpack.version))
    begun = f"CPython {python}, msgpack {packer}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(begun)
    parts: dict[str, Callable[[], Any]] = {
        "replay": lambda: asyncio.run(replay((1_000, 10_000, 100_000))),
        "live": lambda: live(1_500),
        "cpu": lambda: live_cpu(1_500),
        "growth": lambda: asyncio.run(growth.measure((100, 1_000, 10_000), row)),
        "stored": lambda: asyncio.run(stored(1_000, 100_000)),
        "boards": lambda: boards.measure(row),
        "package": package,
    }
    for name, part in parts.items():
        if given.only in (None, name):
            part()
    if given.json is not None:
        where = {"python": python, "msgpack": packer, "cores": os.cpu_count(), "load": os.getloadavg()}
        given.json.write_text(json.dumps({"where": where, "rows": rows}, indent=1))
    if given.page:
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), begun, rows), "utf-8")


if __name__ == "__main__":
    main()
