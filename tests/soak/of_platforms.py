"""Chromium and workerd: logs that a page or a Worker appends to without a pause, and SIGKILL of all of it.

A page says which commits it was told of, and so does whoever asks a Worker; after each kill all of them must be there.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

from .table import Row

ROOT = Path(__file__).resolve().parents[2]
BROWSER = ROOT / "wasm" / ".venv" / "bin" / "python"
DIST = ROOT / "wasm" / "dist"


def chromium(seconds: float, seed: int, directory: Path) -> Row:
    """IndexedDB in a browser that is killed; its driver needs an environment of its own, which ``make`` has made."""
    if not BROWSER.exists() or not (DIST / "pyodide-lock.json").exists():
        return Row("chromium", left_out="make -C wasm ready builds what it needs")
    begun = time.monotonic()
    command = [BROWSER, ROOT / "tests" / "wasm" / "kills.py", DIST, directory, str(seconds), str(seed)]
    done = subprocess.run(command, cwd=ROOT / "tests" / "wasm", capture_output=True, text=True, check=False)
    row = Row("chromium", seconds=time.monotonic() - begun)
    if done.returncode:
        row.wrong.append(f"it ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        return row
    *said, last = done.stdout.splitlines()
    print("".join(f"{line}\n" for line in said), end="", flush=True)
    found = json.loads(last)
    row.kills, row.commits, row.lost = found["kills"], found["acknowledged"], found["lost"]
    row.forgotten = found["forgotten"]
    return row


def workerd(seconds: float, seed: int, directory: Path) -> Row:
    """A Durable Object, D1 and KV, in turn; and for the other half of the time boards in a Durable Object.

    Eight workers do those, and its clock jumps. ``runs`` are their claims.
    """
    from tests.workers.crowd import worked_boards
    from tests.workers.kills import NotBuilt, killed_while_appending

    begun, chance, row = time.monotonic(), random.Random(seed), Row("workerd")
    try:
        for acknowledged, lost, wrong in killed_while_appending(seconds / 2, chance, directory):
            row.kills += 1
            row.commits += acknowledged
            row.lost += lost
            row.wrong += wrong
    except NotBuilt as error:
        return Row("workerd", left_out=str(error))
    for crowd, found in worked_boards(seconds / 2, chance, directory):
        row.kills += crowd.kills
        row.faults += crowd.jumps
        row.runs += found["claims"]
        row.wrong += found["wrong"] + crowd.errors
    row.seconds = time.monotonic() - begun
    return row
