"""A source's findings: what its handlers, and what they call, do that a replay does not repeat."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import NamedTuple

from . import rules
from .handlers import Judged, Source
from .judging import Judge, changed_names, own_nodes
from .names import Scope

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
    try:
        tree = ast.parse(data)
        lines = _lines(data)
        source = Source(tree)
        found = _findings(source, file)
    except SyntaxError as error:
        return [_unread(file, error.lineno or 1, error.offset or 1, f"this is no Python: {error.msg}")]
    except (RecursionError, MemoryError):
        return [_unread(file, 1, 1, "this is nested deeper than can be read")]
    except (ValueError, LookupError):
        return [_unread(file, 1, 1, "this is no text in the encoding that it names")]
    return [each for each in found if not _silenced(each, lines)]


def _unread(file: str, line: int, column: int, why: str) -> Finding:
    return Finding(file, line, max(1, column), rules.SYNTAX.code, why, rules.SYNTAX.remedy, None)


def _findings(source: Source, file: str) -> list[Finding]:
    changed: set[tuple[Scope, str]] = set()
    for function in source.functions.values():
        if function.node in source.decorators:
            continue  # what a decorator fills when the module is imported is the same in each process
        for node in own_nodes(function.node):
            for changes in changed_names(function.scope, node):
                owner = function.scope.owner(changes.id)
                if owner is not None and owner is not function.scope and not owner.is_declared_only(changes.id):
                    changed.add((owner, changes.id))
    judged = _reached(source, changed)
    inside = {function.scope for function in judged}
    found: dict[tuple[int, int, str], Finding] = {}
    for function in judged:
        name = "a lambda" if isinstance(function.node, ast.Lambda) else function.node.name
        for line, column, rule, text in Judge(source, function, inside, changed).spots:
            message = rule.message.replace("{name}", text)
            found.setdefault(
                (line, column, rule.code), Finding(file, line, column, rule.code, message, rule.remedy, name)
            )
    return [found[place] for place in sorted(found)]


def _reached(source: Source, changed: set[tuple[Scope, str]]) -> list[Judged]:
    """The handlers, and what runs with them."""
    seen: dict[ast.AST, Judged] = {}
    todo = list(source.handlers)
    while todo:
        function = todo.pop()
        if function.node not in seen:
            seen[function.node] = function
            todo.extend(Judge(source, function, set(), changed).reached)
    return list(seen.values())


def _lines(data: bytes) -> list[str]:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.StringIO(data.decode(encoding), newline=None).read().split("\n")


def _silenced(finding: Finding, lines: list[str]) -> bool:
    """Whether the line says ``# noqa``, of this code or of all."""
    line = lines[finding.line - 1] if finding.line <= len(lines) else ""
    for found in _NOQA.finditer(line):
        codes = found["list"]
        if codes is None or finding.code in re.split(r"[\s,]+", codes.upper()):
            return True
    return False
