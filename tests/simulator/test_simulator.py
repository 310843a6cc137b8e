"""The simulator's share of the tests: random programs under random faults, and that it is one seed, one schedule.

``make simulate`` runs as many as one likes. A failure prints its seed, and the program shrunk.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import pytest

from .oracle import Oracle
from .programs import Body, Node, Program, show
from .running import Tally, run_many
from .schedule import Schedule, quiet
from .shrink import cut, shrink

SCHEDULES = int(os.environ.get("ALKALINE_SCHEDULES", "20000"))
SECONDS = 300.0
"""Of CPU, at most: a slow machine tries fewer seeds."""
BATCHES = 4


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_programs_under_random_faults(batch: int) -> None:
    """No result but the program's, nothing lost, repeated, reordered or stuck; the seed of a failure is printed."""
    first, total = 1 + batch * 1_000_000, Tally()
    for tally in run_many(range(first, first + SCHEDULES // BATCHES), jobs=1):
        total.add(tally)
        for seed, _ in total.bad:
            with quiet():
                small, places = shrink(Schedule(seed).run(), tries=60)
            cuts = ",".join(map(str, places))
            pytest.fail(
                f"{small.violations[0]}\n{show(small.program)}\nagain: .venv/bin/python -m tests.simulator "
                f"--only {seed}" + (f" --cut {cuts}" if cuts else "")
            )
        if total.seconds > SECONDS / BATCHES:
            return


@pytest.mark.skipif(sys.platform == "emscripten", reason="it has no processes")
def test_a_process_that_dies_is_an_error() -> None:
    """Not a wait for ever: whoever looks for it is told, and nothing of it is left."""
    tallies = run_many(range(1, 251), jobs=1)
    next(tallies)
    (process,) = multiprocessing.active_children()
    process.kill()
    with pytest.raises(RuntimeError, match="ended with -9"):
        list(tallies)
    assert not multiprocessing.active_children()


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


LARGE = Program(
    (
        Body(
            Node("seq", 1, {}, (
                Node("all", 2, {"limit": 0}, (
                    Node("step", 3, {"lasts": 1}), Node("seq", 4, {}, (Node("draw", 5), Node("queue", 6))),
                    Node("sleep", 7, {"seconds": 5}),
                )),
                Node("gather", 8, {}, (Node("step", 9, {"fails": 1, "backoff": 1}), Node("mark", 10))),
                Node("loop", 11, {"times": 4}),
            )),
            generations=2,
        ),
        Body(Node("step", 12)),
    ),
    budget=1_000,
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_failure_is_shrunk_to_what_it_takes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a program with a fault in one kind of node, such a node is left, and how to get there is said."""
    fits = Oracle.fits

    def broken(self: Oracle, node: Node, value: Any, depth: int) -> str | None:
        return "a queue is broken" if node.kind == "queue" and value == [0, 1, 2] else fits(self, node, value, depth)

    monkeypatch.setattr(Oracle, "fits", broken)
    with quiet():
        outcome = Schedule(seed, LARGE, calm=True).run()
        assert "a queue is broken" in outcome.violations[0]
        small, places = shrink(outcome, tries=100)
    assert "a queue is broken" in small.violations[0]
    assert [node.kind for node in small.program.nodes()] == ["queue"]
    assert cut(LARGE, places) == small.program
