"""`make bench-wasm` runs: each part that needs no browser, with next to nothing to measure. No figure is looked at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import bench
import pytest


@pytest.mark.parametrize("lock", ["pyodide-lock.json", "pyodide-lock-pure.json"], ids=["c", "pure"])
def test_replays_are_measured_in_node(dist: Path, lock: str) -> None:
    """Each length has its row, with ours, the floor and their ratio, whichever msgpack it is."""
    words = "\n".join(bench.replayed(dist, lock, (20, 40)))
    for steps in (20, 40):
        assert re.search(rf"replay, {steps} steps: us per step / floor +[\d.]+ / [\d.]+ = [\d.]+ ", words)
    assert "replay per step, 40 / 20 steps" in words


def test_a_part_that_fails_is_no_figure(dist: Path) -> None:
    """What does not run to its end in Pyodide ends the benchmark too, and prints no row."""
    with pytest.raises(subprocess.CalledProcessError):
        bench.replayed(dist, "pyodide-lock.json", ())


def test_starts_are_measured_in_node(dist: Path) -> None:
    """Each of the figures of a start is a number of milliseconds."""
    found = bench.in_node(dist)
    assert len(found) == len(bench.WHAT)
    assert all(isinstance(each, (int, float)) and each >= 0 for each in found)
