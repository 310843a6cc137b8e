"""A source's findings: what its handlers, and what they call, do that a replay does not repeat."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from . import rules
from .handlers import Judged, Source
from .judging import Judge, changed_names, own_nodes
from .names import Scope
from .project import Project

MODULES = 5
"""So often a call may lead from one module into another one."""
_NOQA = re.compile(r"#\s*noqa(?P<codes>\s*:\s*(?P<list>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?(?![:\w])", re.IGNORECASE)


class Finding(NamedTuple):
    """One finding: where, its code, what is wrong, what to do; ``handler``: the function it stands in."""

    file: str
    line: int
    column: int
    code: str
    message: str
    remedy: str
    handler: str | None


def lint(data: bytes, file: str) -> list[Finding]:
    """What is found in the source ``data``, in the order of its lines. What is no Python is one finding, ALK100."""
    return lint_all([file], lambda _: data)


def lint_all(files: Sequence[str], read: Callable[[str], bytes]) -> list[Finding]:
    """What is found in ``files``, file by file: in their handlers, and in what these call of any of the files.

    ``read`` gives what stands in one. What is found in a function that two handlers call is one finding.
    """
    project, found = Project(files, read), dict[tuple[str, int, int, str], Finding]()
    for file in files:
        for each in _lint(project, file):
            found.setdefault((each.file, each.line, each.column, each.code), each)
    return list(found.values())


def _lint(project: Project, file: str) -> list[Finding]:
    try:
        found = _findings(project, file)
    except SyntaxError as error:
        return [_unread(file, error.lineno or 1, error.offset or 1, f"this is no Python: {error.msg}")]
    except (RecursionError, MemoryError):
        return [_unread(file, 1, 1, "this is nested deeper than can be read")]
    except (ValueError, LookupError):
        return [_unread(file, 1, 1, "this is no text in the encoding that it names")]
    return [each for each in found if not _silenced(each, project.lines(each.file))]


def _unread(file: str, line: int, column: int, why: str) -> Finding:
    return Finding(file, line, max(1, column), rules.SYNTAX.code, why, rules.SYNTAX.remedy, None)


def _changed(source: Source) -> set[tuple[Scope, str]]:
    """What functions of a source change that belongs to none of them."""
    changed: set[tuple[Scope, str]] = set()
    for function in source.functions.values():
        if function.node in source.decorators:
            continue  # what a decorator fills when the module is imported is the same in each process
        for node in own_nodes(function.node):
            for changes in changed_names(function.scope, node):
                owner = function.scope.owner(changes.id)
                if owner is not None and owner is not function.scope and not owner.is_declared_only(changes.id):
                    changed.add((owner, changes.id))
    return changed


def _findings(project: Project, file: str) -> list[Finding]:
    judged = _reached(project.source(file).handlers)
    inside = {function.scope for function in judged}
    sources = {function.source for function in judged}
    changed = set[tuple[Scope, str]]().union(*map(_changed, sources))
    found: dict[tuple[str, int, int, str], Finding] = {}
    for function in judged:
        name = "a lambda" if isinstance(function.node, ast.Lambda) else function.node.name
        where = project.file_of(function.source)
        for line, column, rule, text in Judge(function.source, function, inside, changed).spots:
            message = rule.message.replace("{name}", text)
            found.setdefault(
                (where, line, column, rule.code), Finding(where, line, column, rule.code, message, rule.remedy, name)
            )
    return [found[place] for place in sorted(found, key=lambda place: (place[0] != file, place))]


def _reached(handlers: Iterable[Judged]) -> list[Judged]:
    """The handlers, and what runs with them, through as many modules as MODULES says."""
    seen: dict[ast.AST, Judged] = {}
    todo = [(each, 0) for each in handlers]
    while todo:
        function, far = todo.pop(0)  # what is near is judged first, so that nothing near is taken for far
        if function.node in seen:
            continue
        seen[function.node] = function
        for each in Judge(function.source, function, set(), set()).reached:
            further = far + (each.source is not function.source)
            if further <= MODULES:
                todo.append((each, further))
    return list(seen.values())


def _silenced(finding: Finding, lines: list[str]) -> bool:
    """Whether the line says ``# noqa``, of this code or of all."""
    line = lines[finding.line - 1] if finding.line <= len(lines) else ""
    for found in _NOQA.finditer(line):
        codes = found["list"]
        if codes is None or finding.code in re.split(r"[\s,]+", codes.upper()):
            return True
    return False
