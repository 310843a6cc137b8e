"""``python -m tests.simulator --schedules 10000 --seed 1``: random schedules, in as many processes as there are cores.

``--only SEED`` runs one again and shows it; ``--cut 3,0,7`` with it, as a failure prints it, the shrunk program.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from typing import Any

from .programs import show
from .schedule import Outcome, Schedule, quiet
from .shrink import cut, kind_of, shrink

CHUNK = 50


def run_chunk(seeds: range) -> tuple[int, Counter[str], Counter[str], list[tuple[int, list[str]]], int, int]:
    """What some seeds came to."""
    faults: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    bad: list[tuple[int, list[str]]] = []
    calls = steps = 0
    with quiet():
        for seed in seeds:
            outcome = Schedule(seed).run()
            faults += outcome.faults
            ended += Counter(outcome.statuses)
            calls, steps = calls + outcome.calls, steps + outcome.steps
            if outcome.violations:
                bad.append((seed, outcome.violations))
    return len(seeds), faults, ended, bad, calls, steps


def report(outcome: Outcome, places: list[int]) -> None:
    """Print a failure so that a person can read and repeat it."""
    print(f"\nseed {outcome.seed} fails:")
    for violation in outcome.violations[:4]:
        print(f"  {violation[:1500]}")
    print("the program, shrunk:" if places else "the program:")
    print("\n".join(f"  {line}" for line in show(outcome.program).splitlines()))
    print(f"from outside: {'; '.join(outcome.plan)}")
    print(f"under {outcome.setting}")
    cuts = f" --cut {','.join(map(str, places))}" if places else ""
    print(f"again: .venv/bin/python -m tests.simulator --only {outcome.seed}{cuts}", flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.simulator", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="run this seed alone, and show it")
    parser.add_argument("--cut", default="", help="what is left out of its program, as a failure printed it")
    parser.add_argument("--failures", type=int, default=5, help="how many kinds of failures are shrunk and shown")
    given = parser.parse_args()
    if given.only is not None:
        schedule = Schedule(given.only)
        if given.cut:
            schedule = Schedule(given.only, cut(schedule.program, map(int, given.cut.split(","))))
        with quiet():
            outcome = schedule.run()
        report(outcome, [])
        return 1 if outcome.violations else 0
    return run_all(given)


def run_all(given: Any) -> int:
    """Many seeds."""
    seeds = range(given.seed, given.seed + given.schedules)
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    begun, done, calls, steps = time.monotonic(), 0, 0, 0
    faults: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    kinds: dict[str, list[tuple[int, list[str]]]] = {}
    said = begun
    with multiprocessing.get_context("fork").Pool(given.jobs, maxtasksperchild=20) as pool:
        for count, some_faults, some_ended, bad, some_calls, some_steps in pool.imap_unordered(run_chunk, chunks):
            done, calls, steps = done + count, calls + some_calls, steps + some_steps
            faults += some_faults
            ended += some_ended
            for seed, violations in bad:
                kinds.setdefault(kind_of(violations[0]), []).append((seed, violations))
            if time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"  {done} schedules, {sum(map(len, kinds.values()))} with violations", flush=True)
    seconds = time.monotonic() - begun
    for several in list(kinds.values())[: given.failures]:
        with quiet():
            report(*shrink(Schedule(min(several)[0]).run()))
    for kind, several in sorted(kinds.items(), key=lambda each: -len(each[1])):
        print(f"{len(several):6} times: {kind} (seeds {', '.join(str(seed) for seed, _ in sorted(several)[:6])})")
    print(f"{done / seconds:.0f} schedules per second, {calls} host calls, {steps} steps run")
    print("faults that took effect: " + ", ".join(f"{kind} {n}" for kind, n in faults.most_common()))
    print("runs: " + ", ".join(f"{status} {n}" for status, n in ended.most_common()))
    print(f"{done} schedules, {sum(map(len, kinds.values()))} violations")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
