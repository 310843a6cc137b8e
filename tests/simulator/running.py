"""Many seeds, in processes that are thrown away: what a schedule leaves behind is never collected, which costs more."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait

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


def run_many(seeds: range, jobs: int) -> Iterator[Tally]:
    """As ``run_chunk`` for each chunk of ``seeds``, as they are done.

    The processes are forked from a server that has one thread, never from this process, which has as many as the tests
    before have left: a lock that one of those held would be held in the child for ever. One that dies is an error.
    """
    if sys.platform == "emscripten":  # it has no processes
        with quiet():
            yield from map(run_chunk, _cut(seeds, CHUNK))
        return
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    waiting = iter(_cut(seeds, CHUNK * CHUNKS))
    running: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        while True:
            for part in islice(waiting, jobs - len(running)):
                reader, writer = processes.Pipe(duplex=False)
                running[reader] = processes.Process(target=_run_part, args=(part, writer), daemon=True)
                running[reader].start()
                writer.close()  # the child's alone now: its end is seen when it ends
            if not running:
                return
            ended = wait(list(running))
            for reader in [reader for reader in running if reader in ended]:
                try:
                    tally = reader.recv()
                except EOFError:
                    process = running.pop(reader)
                    process.join()
                    if process.exitcode:
                        raise RuntimeError(f"a process of the simulator ended with {process.exitcode}") from None
                else:
                    yield tally
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _cut(seeds: range, size: int) -> list[range]:
    return [seeds[n : n + size] for n in range(0, len(seeds), size)]


def _run_part(seeds: range, writer: Connection) -> None:
    with quiet():
        for chunk in _cut(seeds, CHUNK):
            writer.send(run_chunk(chunk))
