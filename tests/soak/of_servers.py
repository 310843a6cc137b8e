"""Postgres and Redis: the soak of ``tests/servers`` as a row."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.servers.soak import soaked

from .table import Row

WORKERS = 3
BETWEEN = 45.0
"""Seconds from one kill of the server to the next."""


def run(store: str, seconds: float, seed: int, directory: Path) -> Row:
    """For so many seconds, and the wait for the last runs."""
    begun = time.monotonic()
    restarts = max(2, round(seconds / BETWEEN))
    soaking, evidence = asyncio.run(soaked(store, seconds, WORKERS, seed, directory, restarts))
    count = soaking.count
    return Row(
        store,
        seconds=time.monotonic() - begun,
        kills=count["workers killed"] + count["server killed"],
        faults=sum(soaking.network.values()),
        runs=len(soaking.ids),
        commits=count["commits"],
        lost=count["commits lost"],
        again=len(evidence.again),
        repeated=evidence.repeated - len(evidence.again),
        signals=count["signals"],
        signals_lost=count["signals lost"],
        doubled=count["signals doubled"],
        wrong=soaking.wrong,
    )
