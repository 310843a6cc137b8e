"""What every program here shares: one job from the command line, one line of JSON. Standard library alone.

A program is called as ``python NAME.py JOB COUNT FOLDER`` by a Python that has the peer. It has a function for each
job that it can do, which takes COUNT and FOLDER and returns what `spent` measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter()
"""Before the program imports its library: this module comes first."""
RUNS = 200
"""The runs of the job `many`; its COUNT is the steps of each."""


def payload(n: int) -> dict[str, Any]:
    """A step's result of 108 bytes in msgpack."""
    return {"title": "x" * 40, "url": "y" * 40, "n": 10_000 + n}


@contextmanager
def spent(items: int) -> Iterator[dict[str, float]]:
    """CPU time of this process and time on the wall, in microseconds an item, of what stands inside."""
    found: dict[str, float] = {}
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    yield found
    found["cpu"] = (time.process_time() - cpu) / items * 1e6
    found["wall"] = (time.perf_counter() - wall) / items * 1e6


def bytes_in(folder: Path) -> int:
    """What stands in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def since_begun() -> dict[str, float]:
    """Milliseconds since the program began: its imports and its first step."""
    return {"ms": (time.perf_counter() - BEGUN) * 1000}


def main(jobs: dict[str, Callable[[int, Path], Any]]) -> None:
    """Do the job that the command line names."""
    job, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if job not in jobs:
        print(json.dumps({"cannot": job}))
        return
    found = jobs[job](count, folder)
    if isinstance(found, Awaitable):

        async def wait() -> Any:
            return await found

        found = asyncio.run(wait())
    print(json.dumps(found))
