"""``python -m tests.simulator --schedules 10000 --seed 1``: random schedules, in as many processes as there are cores.

``--only SEED`` runs one again and shows it; ``--cut 3,0,7`` with it, as a failure prints it, the shrunk program.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from .programs import show
from .running import Tally, run_many
from .schedule import Outcome, Schedule, quiet
from .shrink import cut, kind_of, shrink


def report(outcome: Outcome, places: list[int]) -> None:
    """Print a failure so that a person can read and repeat it."""
    print(f"\nseed {outcome.seed} {'fails' if outcome.violations else 'holds'}:")
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
    begun = said = time.monotonic()
    total = Tally()
    for tally in run_many(seeds, given.jobs):
        total.add(tally)
        for seed, violations in tally.bad:
            print(f"  seed {seed}: {violations[0]:.200}", flush=True)
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"  {total.count} schedules, {len(total.bad)} with violations", flush=True)
    seconds = time.monotonic() - begun
    kinds: dict[str, list[tuple[int, list[str]]]] = {}
    for seed, violations in total.bad:
        kinds.setdefault(kind_of(violations[0]), []).append((seed, violations))
    for several in list(kinds.values())[: given.failures]:
        with quiet():
            report(*shrink(Schedule(min(several)[0]).run()))
    for kind, several in sorted(kinds.items(), key=lambda each: -len(each[1])):
        print(f"{len(several):6} times: {kind} (seeds {', '.join(str(seed) for seed, _ in sorted(several)[:6])})")
    print(f"{total.count / seconds:.0f} schedules per second, {total.count / total.seconds:.0f} for each core's second")
    print(f"{total.calls} host calls, {total.commits} commits, {total.steps} steps run, {total.signals} signals sent")
    print("faults that took effect: " + ", ".join(f"{kind} {n}" for kind, n in total.faults.most_common()))
    print("runs: " + ", ".join(f"{status} {n}" for status, n in total.statuses.most_common()))
    print(f"{total.count} schedules, {len(total.bad)} violations")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
