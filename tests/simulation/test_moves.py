"""Random moves of one run between three stores, cut anywhere; ``make soak`` runs thousands."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.simulation.moves import schedule

SOAK = "ALKALINE_EXHAUSTIVE" in os.environ


@pytest.mark.parametrize("block", range(4))
def test_any_moves_leave_one_store_that_goes_on(block: int) -> None:
    """Exports, imports, syncs, hand-overs there and back, signals, pauses, cancels, deletes, crashes: one run."""
    for seed in range(block * 100_000, block * 100_000 + (1_000 if SOAK else 12)):
        asyncio.run(asyncio.wait_for(schedule(seed), 60))
