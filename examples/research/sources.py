"""What the agent reads: the standard library's Python files and the language reference that comes with pydoc.

A document is ``asyncio/tasks.py``, a file below the standard library's directory, or ``topic:with``, an entry of
``pydoc_data.topics``. A section is what one class or function, or the module itself, says in prose: its docstring and
its comments, with the line numbers they have in the file.
"""

from __future__ import annotations

import ast
import os
import re
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

TOPIC = "topic:"
_SKIPPED = frozenset(
    ("site-packages", "test", "tests", "idle_test", "__pycache__", "ensurepip", "encodings", "pydoc_data")
)
_STRINGS = re.compile(r'"""(.*?)"""' + "|" + r"'''(.*?)'''", re.DOTALL)
_COMMENT = re.compile(r"^\s*#+ ?(.*)$")


class Section(NamedTuple):
    """The prose of one class, function, module or topic: ``lines`` are (line number, text) pairs."""

    name: str
    lines: tuple[tuple[int, str], ...]

    @property
    def text(self) -> str:
        """All of it as one string."""
        return "\n".join(line for _, line in self.lines)


def library() -> Path:
    """The directory of the standard library of the Python that runs this."""
    return Path(sysconfig.get_path("stdlib"))


def documents() -> list[str]:
    """Every document, in a stable order; tests and vendored packages are left out."""
    root = library()
    names: list[str] = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    if not names:
        raise LookupError("this Python has no .py files for its standard library, so there is nothing to read")
    return sorted(names) + sorted(TOPIC + name for name in _topics())


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics  # 460 KB: loaded by the steps that need it

    return dict(topics)


def _source(document: str) -> str:
    return (library() / document).read_text(encoding="utf-8", errors="replace")


def prose(document: str) -> str:
    """The prose of a document, roughly and quickly: all triple-quoted strings and comment lines. For ranking."""
    if document.startswith(TOPIC):
        return _topics()[document.removeprefix(TOPIC)]
    source = _source(document)
    strings = (double or single for double, single in _STRINGS.findall(source))
    comments = (found[1] for line in source.splitlines() if (found := _COMMENT.match(line)))
    return "\n".join((*strings, *comments))


@lru_cache(maxsize=64)  # the sections of one file are read by many steps
def sections(document: str) -> tuple[Section, ...]:
    """The sections of a document, in order; those that say nothing are left out."""
    if document.startswith(TOPIC):
        return _topic_sections(document.removeprefix(TOPIC))
    source = _source(document)
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a template or a file for another version of Python
        return ()
    lines = source.splitlines()
    owners: list[tuple[str, ast.AST, int, int]] = [("module", tree, 1, len(lines))]
    _collect(tree, "", owners)
    comments = _comments_by_owner(lines, owners)
    found = []
    for number, (name, node, _, _) in enumerate(owners):
        said = [*_docstring(node, lines), *comments.get(number, [])]
        if said:
            found.append(Section(name, tuple(sorted(said))))
    return tuple(found)


def _collect(node: ast.AST, prefix: str, owners: list[tuple[str, ast.AST, int, int]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}{child.name}"
            owners.append((name, child, child.lineno, child.end_lineno or child.lineno))
            _collect(child, f"{name}.", owners)
        else:
            _collect(child, prefix, owners)


def _docstring(node: ast.AST, lines: list[str]) -> list[tuple[int, str]]:
    """The docstring's lines as they stand in the file, so that their numbers are right."""
    body = getattr(node, "body", [])
    if not body or not isinstance(body[0], ast.Expr):
        return []
    value = body[0].value
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return []
    last = value.end_lineno or value.lineno
    said = []
    for number in range(value.lineno, last + 1):
        text = lines[number - 1].strip()
        if number == value.lineno:
            text = re.sub(r"^[rRuUbBfF]*(\"\"\"|'''|\"|')", "", text)
        if number == last:
            text = re.sub(r"(\"\"\"|'''|\"|')\s*(#.*)?$", "", text)
        said.append((number, text.rstrip("\\").strip()))
    return said


def _comments_by_owner(
    lines: list[str], owners: list[tuple[str, ast.AST, int, int]]
) -> dict[int, list[tuple[int, str]]]:
    """Comment lines, each given to the innermost class or function around it."""
    innermost = [0] * (len(lines) + 1)
    for number, (_, _, first, last) in enumerate(owners):  # outer ones come first, inner ones overwrite them
        for line in range(first, min(last, len(lines)) + 1):
            innermost[line] = number
    found: dict[int, list[tuple[int, str]]] = {}
    for line, text in enumerate(lines, 1):
        comment = _COMMENT.match(text)
        if comment and not text.startswith("#!"):
            found.setdefault(innermost[line], []).append((line, comment[1].strip()))
    return found


def _topic_sections(topic: str) -> tuple[Section, ...]:
    """A topic in pieces of about 60 lines, broken at empty lines: some of them are very long."""
    found: list[Section] = []
    piece: list[tuple[int, str]] = []
    for number, line in enumerate(_topics()[topic].splitlines(), 1):
        piece.append((number, line.strip()))
        if len(piece) >= 60 and not line.strip():
            found.append(Section(f"{topic} {len(found) + 1}", tuple(piece)))
            piece = []
    if any(text for _, text in piece):
        found.append(Section(f"{topic} {len(found) + 1}", tuple(piece)))
    return tuple(found)
