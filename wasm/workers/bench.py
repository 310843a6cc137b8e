"""Measures the hosts and the runtime in real workerd, each against the bare binding in the same Worker.

    python bench.py [--kills 50]

Prints a table. Times are wall-clock on this machine, in local storage: production adds the network to every round trip.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from wasm.workers.harness import Worker, WorkerError, WorkerServer, until  # noqa: E402 - needs the path

APP = HERE.parent.parent / "tests" / "workers" / "app"
COUNTS = {"object": 5_000, "d1": 1_000, "kv": 1_000}


def throughput() -> None:
    """Steps per second and the ratios to bare writes, on each binding; the median of three."""
    worker = Worker("bench", HERE / "bench" / "entry.py", d1=["DB"], kv=["KV"], objects={"BENCH": "Bench"})
    print("          bare       commit      step      commit/bare  step/bare  steps/s  resume 1,000")
    with (
        tempfile.TemporaryDirectory() as storage,
        WorkerServer(worker, storage=Path(storage), snapshot=True) as server,
    ):
        for binding, count in COUNTS.items():
            tries = [server.fetch(f"/{binding}?count={count}", seconds=300).json() for _ in range(3)]
            found: dict[str, Any] = {key: statistics.median(one[key] for one in tries) for key in tries[0]}
            bare, commit, step = (found[key] / count * 1e6 for key in ("bare", "commits", "steps"))
            print(
                f"{binding:6} {bare:7.0f} us {commit:7.0f} us {step:7.0f} us {commit / bare:11.2f} {step / bare:11.2f} "
                f"{1e6 / step:8.0f} {found['resume_1000'] * 1000:7.0f} ms"
            )
            for what in ("queries", "round_trips", "operations"):
                if what in found:
                    print(f"{'':8} {what} per step: {found[what] / count:.3f}")


def start_up() -> None:
    """Seconds until workerd serves, with us and without, from sources and from a snapshot."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(5):  # each kind in turn, so that noise hits all alike
        for what, entry in (("empty", "empty.py"), ("alkaline_edge", "entry.py")):
            for snapshot in (False, True):
                objects = {"BENCH": "Bench"} if what != "empty" else {}
                worker = Worker("bench", HERE / "bench" / entry, d1=["DB"], kv=["KV"], objects=objects)
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
    worker = Worker("app", APP / "entry.py", [APP], d1=["DB"], kv=["KV"], objects={"STORE": "Store", "RUNS": "Runs"})
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
    parser.add_argument("--kills", type=int, default=50, help="how often to kill workerd (50)")
    options = parser.parse_args()
    throughput()
    start_up()
    kills(options.kills)


if __name__ == "__main__":
    main()
