"""``python -m tests.mutants``: each bug in a copy of the tree, and the tests of its room, until one fails.

First the test that noticed it the last time runs alone (``noticed.txt``, which ``--write`` writes anew), then those of
its module's name and of its room, for at most ``SECONDS`` of a core. What these let pass is a survivor, and
``--schedules N`` asks the simulator whether it would see it. ``--only WORDS`` runs those whose description or file
holds WORDS. Exit code 1 where one survives.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from .check import NOTICED, ROOT, mutated, noticed
from .table import MUTANTS, Mutant

FAIR = SECONDS = 90
AT_MOST = 400
"""Of a core, and by the clock, for the tests of a room or the simulator: one that takes longer hangs, which is noticed
too. A machine that has much else to do takes its time, and must not be counted for it."""
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "wasm", "node_modules", "__pycache__", ".*_cache", ".hypothesis"
)
PYTEST = ("pytest", "-q", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider", "--timeout", "90")


class Copy:
    """A copy of the tree, and the process that runs commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        self._output = folder.with_suffix(".txt")
        self._good: set[str] = set()
        self.left_out: list[str] = []
        # What is compiled now is told by its bytes from what is changed later, whatever the time.
        for each in ("alkaline_edge", "hosts"):
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(self.folder / each, quiet=1, invalidation_mode=mode)
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--collect-only",
            *sorted({t for m in MUTANTS() for t in m.room()}),
        )
        subprocess.run(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, check=False)
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"], cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def run(self, *command: str) -> tuple[int, str]:
        """The exit code and output of a Python module in the copy; 124 where it hangs."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(json.dumps([str(self.folder), SECONDS, AT_MOST, str(self._output), *command]) + "\n")
        self._worker.stdin.flush()
        code = int(self._worker.stdout.readline())
        return code, self._output.read_text(errors="replace")

    def passes(self, test: str, file: Path, sound: str) -> bool:
        """Whether a test passes where ``file`` is as it should be: one that does not would notice anything."""
        if test not in self._good:
            file.write_text(sound)
            if self.run(*PYTEST, test)[0]:
                self.left_out.append(f"--deselect={test}")
                return False
            self._good.add(test)
        return True

    def close(self) -> None:
        """End the process."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()


def failing(copy: Copy, *tests: str) -> str:
    """The first of these tests that fails; empty where all pass."""
    code, output = copy.run(*PYTEST, *copy.left_out, *tests)
    if code in (0, 4, 5):  # they pass, or there is no such test any more
        return ""
    found = re.search(r"^(?:FAILED|ERROR) ([^\s\[]+)", output, re.MULTILINE)
    if found:
        return found.group(1)
    if code == 124 and SECONDS < FAIR:
        return ""  # so little time says nothing
    hung = re.search(r"File .*?(tests/\S+\.py)\", line \d+, in (test_\w+)", output)
    return f"{hung[1]}::{hung[2]}" if hung else f"its room's tests {'hang' if code == 124 else 'end'}"


def caught_by(mutant: Mutant, copy: Copy, before: str, schedules: int) -> str:
    """What catches it; empty where nothing does."""
    file = copy.folder / mutant.path
    sound = file.read_text()
    file.write_text(mutated(mutant, copy.folder))
    try:
        found = failing(copy, before) if before else ""
        found = found or failing(copy, *mutant.room())
        while "::" in found and not copy.passes(found, file, sound):
            print(f"     {found} fails without a bug too, and is left out", flush=True)
            file.write_text(mutated(mutant, copy.folder))
            found = failing(copy, *mutant.room())
        if found or not schedules:
            return found
        file.write_text(mutated(mutant, copy.folder))
        code, output = copy.run("tests.simulator", "--schedules", str(schedules), "--jobs", "1", "--failures", "0")
        if code:
            kinds = re.findall(r"^ +\d+ times: (.*?) \(seeds", output, re.MULTILINE)
            return f"the simulator: {kinds[0] if kinds else 'it hangs'}"
        return ""
    finally:
        file.write_text(sound)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="a part of the description or of the file's path")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--schedules", type=int, default=0, help="of the simulator, for what the tests let pass")
    parser.add_argument("--begin", type=int, default=1, help="the number of the first one")
    parser.add_argument("--count", type=int, default=10_000, help="how many of them")
    parser.add_argument("--seconds", type=int, default=FAIR, help="of a core; with fewer, what hangs counts as unseen")
    parser.add_argument("--unseen", action="store_true", help="only those that no test on record has noticed")
    parser.add_argument("--write", action="store_true", help="write down which test noticed each")
    given = parser.parse_args()
    global SECONDS
    SECONDS = given.seconds
    every = [mutant for mutant in MUTANTS() if given.only in mutant.words or given.only in mutant.path]
    last = noticed()
    mutants = [mutant for mutant in every if not mutant.equivalent and not (given.unseen and mutant.words in last)]
    mutants = mutants[given.begin - 1 : given.begin - 1 + given.count]
    for mutant in mutants:
        mutated(mutant)  # an error now, and not in an hour
    begun, survivors, by_simulator = time.monotonic(), list[Mutant](), 0
    copies: Queue[Copy] = Queue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        for n in range(given.jobs):
            copies.put(Copy(Path(folder) / str(n)))

        def one(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                return caught_by(mutant, copy, last.get(mutant.words, ""), given.schedules)
            finally:
                copies.put(copy)

        for n, (mutant, what) in enumerate(zip(mutants, pool.map(one, mutants), strict=True), given.begin):
            print(f"{n:3}  {mutant.words}: {what or 'NOT CAUGHT'}", flush=True)
            by_simulator += what.startswith("the simulator")
            if not what:
                survivors.append(mutant)
            if "::" in what:
                last[mutant.words] = what
                if given.write:
                    lines = [f"{each.words}: {last[each.words]}\n" for each in MUTANTS() if each.words in last]
                    NOTICED.write_text("".join(lines))
        while not copies.empty():
            copies.get().close()
    seconds = time.monotonic() - begun
    by_tests = len(mutants) - by_simulator - len(survivors)
    print(f"\n{len(mutants)} mutants in {seconds:.0f} s: the tests of their room caught {by_tests},", end=" ")
    print(f"the simulator alone {by_simulator}")
    for mutant in every:
        if mutant.equivalent:
            print(f"equivalent: {mutant.words} ({mutant.path}): {mutant.equivalent}")
    for mutant in survivors:
        print(f"survives: {mutant.words} ({mutant.path})")
    print(f"{len(mutants)} mutants, {len(survivors)} survivors")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
