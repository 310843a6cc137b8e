"""Real kills for hours, store by store: ``make soak HOURS=h STORES=file,postgres``. Each gets its share of the time.

Processes, servers and browsers die by SIGKILL, the disk is full and then is not, the network holds back, cuts and falls
silent. Prints a table; exits 1 where something was lost or a committed step was run again. What can't be run here says
why, and its time goes to the others.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import of_file, of_platforms, of_servers
from .table import Row, table

Soak = Callable[[float, int, Path], Row]
STORES: dict[str, Soak] = {
    "file": of_file.run,
    "postgres": partial(of_servers.run, "postgres"),
    "redis": partial(of_servers.run, "redis"),
    "workerd": of_platforms.workerd,
    "chromium": of_platforms.chromium,
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="of all stores together")
    parser.add_argument("--stores", default=",".join(STORES), help="some of them, with commas between")
    parser.add_argument("--seed", type=int, default=None, help="of the kills; printed")
    given = parser.parse_args()
    names = given.stores.split(",")
    if unknown := set(names) - STORES.keys():
        parser.error(f"there is no store {', '.join(sorted(unknown))}; there are {', '.join(STORES)}")
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"{given.hours:g} hours over {', '.join(names)}, seed {seed}", flush=True)
    left, rows = given.hours * 3600, list[Row]()
    for n, name in enumerate(names):
        seconds = left / (len(names) - n)
        with tempfile.TemporaryDirectory() as directory:
            row = STORES[name](seconds, seed, Path(directory))
        left -= min(seconds, row.seconds)
        rows.append(row)
        print(table([row]), flush=True)
    print(f"\n{table(rows)}")
    lost = sum(row.lost + row.signals_lost + row.doubled for row in rows)
    again = sum(row.again for row in rows)
    kills, commits = sum(row.kills for row in rows), sum(row.commits for row in rows)
    print(f"{kills} kills, {commits} commits acknowledged, {lost} lost or doubled, {again} committed steps run again")
    return 1 if lost or again or any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
