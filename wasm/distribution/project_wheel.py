"""The two wheels that are built here: the project's own, and the pure msgpack."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .crossenv import environment, run_pyodide
from .layout import BuildError, Work

SOURCES = ("pyproject.toml", "README.md", "alkaline_edge", "hosts/alkaline_hosts")


def build_project(work: Work, repository: Path, out: Path) -> Path:
    """Build the project's wheel with ``pyodide build`` and return its path in ``out``.

    The build runs on a copy: pyodide-build leaves a directory beside the sources. Without isolation, since the
    backend is pinned in ``requirements.txt`` and an isolated build would fetch the newest one.
    """
    shutil.rmtree(work.source, ignore_errors=True)
    for name in SOURCES:
        _copy(repository / name, work.source / name)
    before = set(out.glob("*.whl"))
    run_pyodide(work, "build", str(work.source), "--outdir", str(out), "--no-isolation")
    return _only_new(out, before, "pyodide build")


def build_pure_msgpack(work: Work, requirement: str, out: Path) -> Path:
    """Build msgpack without its C extension from the sdist in ``work.downloads``; return the wheel's path."""
    before = set(out.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command += ["--find-links", str(work.downloads), "--no-binary", "msgpack", "--no-cache-dir"]
    command += ["--wheel-dir", str(out), requirement]
    # The list of extra indexes that a machine's pip may be configured with can't be read with --no-index.
    settings = environment(work) | {"MSGPACK_PUREPYTHON": "1", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, env=settings, capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise BuildError(f"the pure msgpack wheel was not built:\n{done.stdout}{done.stderr}")
    wheel = _only_new(out, before, "pip wheel msgpack")
    if not wheel.name.endswith("-none-any.whl"):
        raise BuildError(f"{wheel.name} is not a pure wheel")
    return wheel


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
    else:
        shutil.copyfile(source, target)


def _only_new(out: Path, before: set[Path], what: str) -> Path:
    new = sorted(set(out.glob("*.whl")) - before)
    if len(new) != 1:
        raise BuildError(f"{what}: expected one new wheel in {out.name}, found {[wheel.name for wheel in new]}")
    return new[0]
