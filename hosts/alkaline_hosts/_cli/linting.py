"""``alkaline lint``: find in handlers, before they run, what a replay does not repeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from alkaline_edge.errors import InvalidInput

from .._lint.linting import Finding, lint_all
from .._lint.rules import CODES
from . import output
from .shell import AS_JSON, EXIT_NO, EXIT_USAGE, reported

_LEFT_OUT = {"node_modules", "__pycache__", "site-packages", "build", "dist", "venv", "env"}
"""Folders in which nobody's own handlers are; what begins with a dot is left out as well."""
_READ = 10_000_000
"""Bytes of a source: what is larger was made by a program."""
_UNREAD = "ALK100"


@click.command("lint", epilog="Codes: " + ", ".join(f"{code} {what}" for code, what in CODES.items()) + ".")
@click.argument("paths", nargs=-1, metavar="[PATHS]")
@AS_JSON
@reported
def lint_(paths: Sequence[str], as_json: bool) -> None:
    """Find what makes handlers differ from one replay to the next, in their source: nothing is imported or run.

    PATHS are files and folders, the current one without any. Judged are functions with @workflow, those that take ctx:
    Context, and what they call of these files outside of steps. A line with # noqa: CODE is left out. Exit code 1
    where something is found, 2 where a source can't be read.
    """
    files = list(dict.fromkeys(file for path in paths or (".",) for file in _sources(path)))
    found = lint_all([str(file) for file in files], lambda file: _read(Path(file)))
    if as_json:
        output.print_json([each._asdict() for each in found])
    else:
        for each in found:
            output.say(_line(each))
        output.note(f"{len(found) or 'no'} finding{'' if len(found) == 1 else 's'} in {len(files)} files")
    if any(each.code == _UNREAD for each in found):
        raise SystemExit(EXIT_USAGE)
    raise SystemExit(EXIT_NO if found else 0)


def _line(found: Finding) -> str:
    return f"{found.file}:{found.line}:{found.column}: {found.code} {found.message}: {found.remedy}"


def _read(file: Path) -> bytes:
    with file.open("rb") as source:
        data = source.read(_READ + 1)
    if len(data) > _READ:
        raise InvalidInput(f"{file} has more than {_READ:,} bytes: leave it out")
    return data


def _sources(path: str) -> Iterator[Path]:
    given = Path(path)
    if given.is_dir():
        for each in sorted(given.iterdir()):
            if each.name.startswith(".") or (each.is_dir() and each.name in _LEFT_OUT) or each.is_symlink():
                continue
            if each.is_dir() or each.suffix == ".py":
                yield from _sources(str(each))
    elif given.exists():
        yield given
    else:
        raise InvalidInput(f"there is no file or folder {path}: name what to lint")
