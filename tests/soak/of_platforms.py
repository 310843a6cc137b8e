"""Chromium and workerd: logs that a page or a Worker appends to without a pause, runs, and SIGKILL of all of it.

A page says which commits it was told of, and so does whoever asks a Worker; after each kill all of them must be there.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from .judging import Found, judge
from .table import Row

ROOT = Path(__file__).resolve().parents[2]
BROWSER = ROOT / "wasm" / ".venv" / "bin" / "python"
DIST = ROOT / "wasm" / "dist"


def chromium(seconds: float, seed: int, directory: Path) -> Row:
    """IndexedDB in a browser that is killed; its driver needs an environment of its own, which ``make`` has made.

    Logs of commits, then runs in two tabs, then the plain page that shows what Chromium does without our help: how
    often it forgot an origin then is printed and is not in the row.
    """
    if not BROWSER.exists() or not (DIST / "pyodide-lock.json").exists():
        return Row("chromium", left_out="make -C wasm ready builds what it needs")
    begun, row = time.monotonic(), Row("chromium")
    if found := _asked(row, "kills.py", DIST, directory / "logs", seconds * 0.4, seed):
        row.kills, row.commits, row.lost = found["kills"], found["acknowledged"], found["lost"]
        row.forgotten = found["forgotten"]
    if found := _asked(row, "killed_runs.py", DIST, directory / "runs", seconds * 0.4, seed):
        row.kills += found["kills"]
        row.forgotten += found["forgotten"]
        for profile in found["profiles"]:
            judge(profile["lines"], {id: Found(*each) for id, each in profile["records"].items()}, row)
    for how in ((), ("fresh",)):
        if found := _asked(row, "plain_kills.py", directory / "-".join(("plain", *how)), seconds * 0.1, *how):
            print(f"chromium: plain IndexedDB{' behind a deleted database' if how else ''}: {dict(found)}", flush=True)
    row.seconds = time.monotonic() - begun
    return row


def _asked(row: Row, program: str, *arguments: object) -> Any:
    """What a program of ``tests/wasm`` says in its last line; what goes wrong goes to ``row``."""
    command = [str(each) for each in (BROWSER, ROOT / "tests" / "wasm" / program, *arguments)]
    done = subprocess.run(command, cwd=ROOT / "tests" / "wasm", capture_output=True, text=True, check=False)
    *said, last = done.stdout.splitlines() or [""]
    print("".join(f"chromium: {line}\n" for line in said), end="", flush=True)
    if done.returncode:
        row.wrong.append(f"{program} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
        return None
    return json.loads(last)


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
