"""Measures the hosts and the runtime in real workerd, each against the bare binding in the same Worker.

    python bench.py [--kills 50] [throughput] [cpu] [peers] [starts] [kills]

Prints a table. Times are wall-clock on this machine, in local storage: production adds the network to every round trip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from wasm.workers.harness import Worker, WorkerError, WorkerServer, until  # noqa: E402 - needs the path

APP = HERE.parent.parent / "tests" / "workers" / "app"
AUDIT = APP.parents[1] / "board" / "audit"
CLAIMS = APP.parents[1] / "benchmarks" / "shared"
OURS = Worker("bench", HERE / "bench" / "entry.py", [CLAIMS], d1=["DB"], kv=["KV"], objects={"BENCH": "Bench"})
THEIRS = Worker("flows", HERE / "bench" / "workflows.js", workflows={"MANY": "Many"})
"""The Worker that is measured, and one in JavaScript on Cloudflare's own engine."""
COUNTS = {"object": 13_500, "d1": 360, "kv": 360}
TARGETS = {("object", "step"): 3.0} | {
    (binding, what): 1.3 for binding in ("d1", "kv") for what in ("one key", "checked", "two keys")
}
"""Times the bare write."""
TURNS = "bare, with turns"
"""A bare write that gives other requests their turn as often as the host does: the platform goes to its disk then."""


def throughput() -> None:
    """What a commit and a step cost on each binding, against bare writes that take turns with them in one Worker."""
    print("x: times the bare write of the same round, the median of all rounds (their middle half, and least to least)")
    with (
        tempfile.TemporaryDirectory() as storage,
        WorkerServer(OURS, storage=Path(storage), snapshot=True) as server,
    ):
        for binding, count in COUNTS.items():
            tries = [server.fetch(f"/{binding}?count={count}", seconds=300).json() for _ in range(2)]
            times = {what: [us for one in tries for us in one["us"][what]] for what in tries[0]["us"]}
            for what, spent in times.items():
                print(_row(f"{binding}: {what}", spent, times["bare"], TARGETS.get((binding, what))))
            if TURNS in times:
                print(_row(f"{binding}: step / bare, with turns", times["step"], times[TURNS], None))
            resume = statistics.median(one["resume_1000"] for one in tries)
            print(f"{binding + ': a run of 1,000 steps taken up again':42} {resume * 1000:7.0f} ms")
            for what in ("queries", "round_trips", "operations"):
                if what in tries[0]:
                    print(f"{binding + ': ' + what + ' per step':42} {tries[0][what] / count:10.3f}")
        rates = [[server.fetch(f"/object?count=200&workers={n}").json() for n in (1, 8)] for _ in range(3)]
        one, eight = (statistics.median(rate[n] for rate in rates) for n in (0, 1))
        print(f"object: claims with their ends a second, 1 and 8 workers: {one:,.0f}, {eight:,.0f}")


def _row(what: str, times: list[float], bare: list[float], target: float | None) -> str:
    ratios = [a / b for a, b in zip(times, bare, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    verdict = "" if target is None else f"  <= {target:g}: {'met' if middle <= target else 'NOT MET'}"
    least = min(times) / min(bare)
    return (
        f"{what:42} {statistics.median(times):7.0f} us  {middle:5.2f} x ({low:.2f} to {high:.2f}, {least:.2f}){verdict}"
    )


ONLY = ("bare", TURNS, "step, in memory", "step")


def of_cpu(rounds: int = 9, count: int = 3_000) -> None:
    """What a bare write and a step in a Durable Object take of the processors, with all that workerd does for them.

    Load and disk are hardly in it, as they are in what the clock says. In memory: the kernel alone, on no storage.
    """
    spent: dict[str, list[float]] = {what: [] for what in ONLY}
    with tempfile.TemporaryDirectory() as storage, WorkerServer(OURS, storage=Path(storage), snapshot=True) as server:
        for _ in range(rounds + WARM):
            for what, times in spent.items():
                times.append(_asked(server, f"/object?only={quote(what)}", count)[1])
    spent = {what: times[WARM:] for what, times in spent.items()}
    for what, times in spent.items():
        print(_row(f"object, of CPU: {what}", times, spent["bare"], TARGETS.get(("object", what))))
    print(_row("object, of CPU: step / bare, with turns", spent["step"], spent[TURNS], None))
    print(_row("object, of CPU: step / in memory", spent["step"], spent["step, in memory"], None))


WARM = 3
"""Rounds that are thrown away: until V8 has compiled what is hot."""


def peers(rounds: int = 7, count: int = 200) -> None:
    """The same job on Cloudflare's own engine in JavaScript, a run of each in turn: what a step of ``count`` costs."""
    kinds = ("by the clock", "of CPU")
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        one = WorkerServer(OURS, storage=Path(first), snapshot=True)
        with one, WorkerServer(THEIRS, storage=Path(second)) as other:
            for _ in range(WARM):
                _asked(one, "/object?only=step", 1_000)
            for _ in range(rounds + 1):
                found["ours"].append(_asked(one, "/object?only=step", count))
                found["theirs"].append(_asked(other, "/?job=many", count))
    for n, kind in enumerate(kinds):
        ours, theirs = ([each[n] for each in times[1:]] for times in found.values())
        print(f"{f'object: step of {count}, {kind}, start and end in it':54} {statistics.median(ours):7.0f} us")
        print(_row(f"Workflows in JavaScript: step, {kind} / ours", theirs, ours, None))


def _asked(server: WorkerServer, path: str, count: int) -> tuple[float, float]:
    """Microseconds of one of ``count``: as the Worker says, by its clock, and of CPU by the whole of workerd."""
    before = server.cpu_seconds()
    us = server.fetch(f"{path}&count={count}", seconds=300).json()["us"]
    return us, (server.cpu_seconds() - before) / count * 1e6


def start_up() -> None:
    """Seconds until workerd serves, with us and without, from sources and from a snapshot."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(5):  # each kind in turn, so that noise hits all alike
        for what, entry in (("empty", "empty.py"), ("alkaline_edge", "entry.py")):
            for snapshot in (False, True):
                objects = {"BENCH": "Bench"} if what != "empty" else {}
                worker = Worker("bench", HERE / "bench" / entry, [CLAIMS], d1=["DB"], kv=["KV"], objects=objects)
                with (
                    tempfile.TemporaryDirectory() as storage,
                    WorkerServer(worker, storage=Path(storage), snapshot=snapshot) as server,
                ):
                    server.fetch("/ready").json()
                    how = "from a snapshot" if snapshot else "from sources"
                    times.setdefault((what, how), []).append(server.start_seconds)
    for (what, how), seconds in sorted(times.items(), key=lambda item: item[0][1]):
        print(f"start {what:14} {how:16} best {min(seconds):5.2f} s, median {statistics.median(seconds):5.2f} s")


def _reached(counts: list[int], least: int) -> bool:
    return counts[-1] >= least


def kills(count: int) -> None:
    """Acknowledged commits that are missing after SIGKILL, over ``count`` kills at growing distances."""
    objects = {"STORE": "Store", "RUNS": "Runs"}
    worker = Worker("app", APP / "entry.py", [APP, AUDIT], d1=["DB"], kv=["KV"], objects=objects)
    acknowledged = [0]

    def append(server: WorkerServer) -> None:
        try:
            while True:
                acknowledged.append(server.fetch("/object/kills/append?log=a&times=1").json())
        except WorkerError:
            return

    lost = total = 0
    with tempfile.TemporaryDirectory() as storage, WorkerServer(worker, storage=Path(storage), snapshot=True) as server:
        for kill in range(count):
            before = acknowledged[-1]
            thread = threading.Thread(target=append, args=(server,), daemon=True)
            thread.start()
            until(partial(_reached, acknowledged, before + 1 + kill * 7 % 40), 60)
            server.kill()
            thread.join(30)
            server.start()
            found = server.fetch("/object/kills/audit?log=a").json()
            if not found["head"] == found["entries"] == found["last"]:
                raise SystemExit(f"a batch was torn: {found}")
            lost += max(0, acknowledged[-1] - found["head"])
            total += acknowledged[-1] - before
            acknowledged.append(found["head"])
    print(f"kills: {count}, acknowledged commits: {total}, lost: {lost}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Measure the Cloudflare hosts in real workerd.")
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "throughput": lambda _: throughput(),
        "cpu": lambda _: of_cpu(),
        "peers": lambda _: peers(),
        "starts": lambda _: start_up(),
        "kills": lambda options: kills(options.kills),
    }
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="which to measure; all unless said")
    parser.add_argument("--kills", type=int, default=50, help="how often to kill workerd (50)")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} as it began: above the cores, ratios are worse")
    for name in options.parts or parts:
        parts[name](options)


if __name__ == "__main__":
    main()
