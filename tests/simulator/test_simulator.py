"""The simulator's share of the tests: random programs under random faults, and that it is one seed, one schedule.

``make simulate`` runs as many as one likes. A failure prints its seed, and the program shrunk.
"""

from __future__ import annotations

import os
import time

import pytest

from .programs import show
from .schedule import Schedule, quiet
from .shrink import shrink

SECONDS = 30.0
"""Of this process, at most: a slow machine tries fewer seeds."""
BATCHES = 4
OPEN: tuple[str, ...] = ()
"""What is known to be broken, in the words of the violation: nothing else may be."""


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_programs_under_random_faults(batch: int) -> None:
    """No result but the program's, nothing lost, repeated, reordered or stuck; the seed of a failure is printed."""
    begun = time.process_time()
    count = int(os.environ.get("ALKALINE_SCHEDULES", "800")) // BATCHES
    with quiet():
        for seed in range(1 + batch * 1_000_000, 1 + batch * 1_000_000 + count):
            outcome = Schedule(seed).run()
            if any(not any(known in violation for known in OPEN) for violation in outcome.violations):
                small, places = shrink(outcome, tries=60)
                cuts = ",".join(map(str, places))
                pytest.fail(
                    f"{small.violations[0]}\n{show(small.program)}\nagain: .venv/bin/python -m tests.simulator "
                    f"--only {seed}" + (f" --cut {cuts}" if cuts else "")
                )
            if time.process_time() - begun > SECONDS / BATCHES:
                return


@pytest.mark.parametrize("seed", [3, 5, 11])
def test_one_seed_is_one_schedule(seed: int) -> None:
    """Run twice, the same things happen: the same calls, faults, effects and histories."""
    with quiet():
        first, second = (Schedule(seed) for _ in range(2))
        for one in (first, second):
            one.outcome = one.run()
    assert first.outcome == second.outcome
    assert {n: h.raws for n, h in first.world.histories.items()} == {
        n: h.raws for n, h in second.world.histories.items()
    }
