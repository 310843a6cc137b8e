"""Many seeds, in processes that are thrown away: what a schedule leaves behind is never collected, which costs more."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from .schedule import Schedule, quiet

CHUNK = 50
"""Schedules that are run at a stretch."""
CHUNKS = 5
"""And how many of those by one process: about a third of a megabyte a schedule stays in it."""


@dataclass(slots=True)
class Tally:
    """What some schedules came to."""

    count: int = 0
    seconds: float = 0.0
    """Of CPU."""
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    commits: int = 0
    steps: int = 0
    signals: int = 0
    bad: list[tuple[int, list[str]]] = field(default_factory=list)
    """Seeds, and what is wrong with them."""

    def add(self, other: Tally) -> None:
        """Both together."""
        self.count, self.seconds = self.count + other.count, self.seconds + other.seconds
        self.calls, self.commits = self.calls + other.calls, self.commits + other.commits
        self.steps, self.signals = self.steps + other.steps, self.signals + other.signals
        self.faults += other.faults
        self.statuses += other.statuses
        self.bad += other.bad


def run_chunk(seeds: range) -> Tally:
    """What some seeds came to, in this process, which is quiet."""
    tally, begun = Tally(), time.process_time()
    for seed in seeds:
        outcome = Schedule(seed).run()
        one = Tally(1, 0.0, outcome.faults, Counter(outcome.statuses), outcome.calls, outcome.commits,
                    outcome.steps, outcome.signals)  # fmt: skip
        if outcome.violations:
            one.bad.append((seed, outcome.violations))
        tally.add(one)
    tally.seconds = time.process_time() - begun
    return tally


def _for_good() -> None:
    """This process is quiet until its end."""
    _kept.enter_context(quiet())


_kept = ExitStack()


def run_many(seeds: range, jobs: int) -> Iterator[Tally]:
    """As ``run_chunk`` for each chunk of ``seeds``, as they are done."""
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    if sys.platform == "emscripten":  # it has no processes
        with quiet():
            yield from map(run_chunk, chunks)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _for_good, maxtasksperchild=CHUNKS) as pool:
        yield from pool.imap_unordered(run_chunk, chunks)
