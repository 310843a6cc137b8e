"""``python -m distribution``: build ``wasm/dist`` from registry packages and the project's sources.

Exit codes: 0 built, 1 not built (the reason is on standard error).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from . import bytecode, crossenv, downloads, lockfile, project_wheel, script
from .layout import CORE_FILES, NPM, REPOSITORY, WASM, BuildError, Target, Work, read_target


def main(arguments: list[str] | None = None) -> int:
    """Run the build and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m distribution", description="Build the Pyodide distribution.")
    parser.add_argument("--dist", type=Path, default=WASM / "dist", help="where the result goes (wasm/dist)")
    parser.add_argument("--work", type=Path, default=WASM / "build", help="where the build works (wasm/build)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="whose packages to build")
    options = parser.parse_args(arguments)
    work = Work(options.work.resolve(), options.dist.resolve())
    started = time.monotonic()
    try:
        build(work, read_target(), options.repository.resolve())
    except BuildError as error:
        print(f"wasm: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in work.dist.rglob("*") if path.is_file())
    print(f"wasm: built {work.dist.name} in {time.monotonic() - started:.0f} s, {size / 1e6:.1f} MB")
    return 0


def build(work: Work, target: Target, repository: Path) -> None:
    """Build ``work.plain``, then ``work.dist`` from it. The old ``work.dist`` stays until the new one is whole."""
    work.root.mkdir(parents=True, exist_ok=True)
    downloads.fetch(work, target)
    crossenv.make(work, target)
    stage_plain(work, target, repository)
    staged = work.root / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(work.plain, staged)
    bytecode.compile_directory(staged, work.root / "compiled")
    lockfile.write(staged, target)
    shutil.rmtree(work.dist, ignore_errors=True)
    shutil.move(staged, work.dist)


def stage_plain(work: Work, target: Target, repository: Path) -> None:
    """Fill ``work.plain``: npm's core files, all wheels, lock files; nothing compiled yet."""
    shutil.rmtree(work.plain, ignore_errors=True)
    work.plain.mkdir(parents=True)
    for name in CORE_FILES:
        shutil.copyfile(NPM / name, work.plain / name)
    for wheel in sorted(_pinned(work)):
        shutil.copyfile(wheel, work.plain / wheel.name)
    script.write(repository, work.plain)
    project_wheel.build_project(work, repository, work.plain)
    project_wheel.build_pure_msgpack(work, downloads.requirements()["msgpack"], work.plain)
    lockfile.write(work.plain, target)


def _pinned(work: Work) -> list[Path]:
    """The downloaded wheels that ``wheels.txt`` pins now; older downloads may still be there."""
    found = []
    for requirement in downloads.requirements().values():
        name, _, version = requirement.partition("==")
        matching = list(work.downloads.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
        if len(matching) != 1:
            raise BuildError(f"expected one wheel of {requirement}, found {[wheel.name for wheel in matching]}")
        found += matching
    return found


if __name__ == "__main__":
    sys.exit(main())
