"""`make fuzz MINUTES=m`: every reader of bytes from outside, guided by coverage, each for its share of the time.

What is found is left in build/fuzz/NAME, and made small; a corpus that was found stays there and is used again.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from .readers import readers

FOLDER = Path(__file__).resolve().parents[2] / "build" / "fuzz"
SECONDS_EACH, MEGABYTES = 10, 2048
"""What one input may take: past it, it is a finding."""
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"cov: (\d+)")


def fuzz(name: str, seconds: int) -> bool:
    """Whether a reader stood ``seconds`` of it."""
    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-timeout={SECONDS_EACH}", f"-rss_limit_mb={MEGABYTES}", "-max_len=65536",
        f"-artifact_prefix={FOLDER / name}/",
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(corpus), *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    printed = done.stdout + done.stderr
    runs, covered = _DONE.search(printed), _COVERED.findall(printed)
    if done.returncode or runs is None:
        print(f"{name:<14} FOUND something; it is in {FOLDER.name}/{name}\n{printed[-6000:]}", flush=True)
        return False
    kept = len(list(corpus.iterdir()))
    print(f"{name:<14} {int(runs[1]):>9,} inputs, {covered[-1]:>6} places covered, {kept:>5} kept", flush=True)
    return True


def main() -> int:
    """Fuzz them all; 1 where one found something."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--only", metavar="NAME", action="append", help="this reader alone; may be repeated")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("coverage-guided fuzzing wants atheris: pip install atheris (CPython 3.11 to 3.13)", file=sys.stderr)
        return 2
    names = options.only or list(readers())
    share = max(1, round(60 * options.minutes / len(names)))
    stood = [fuzz(name, share) for name in names]
    print(f"{sum(stood)} of {len(names)} readers stood {share} seconds each")
    return 0 if all(stood) else 1


if __name__ == "__main__":
    sys.exit(main())
