"""The style's limits: small files and functions, a docstring per module, nothing left for later."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[1] / "alkaline_edge"
MODULES = sorted(KERNEL.rglob("*.py"))
LINES_OF_A_FUNCTION = 70
LINES_OF_A_FILE = 420
LINES_OF_A_CLASS_FILE = 650
CLASS_FILES = {"machine/execution.py", "runtime/runtime.py", "context.py", "board/board.py"}
"""One class each: the machine, the public Runtime, the context and the board, mostly docstrings and short methods."""
LATER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def name_of(path: Path) -> str:
    return path.relative_to(KERNEL).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_small(path: Path) -> None:
    """Up to 70 lines, docstring included."""
    long = {
        node.name: lines
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LINES_OF_A_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_small(path: Path) -> None:
    """Up to 420 lines, and the four that are one class each up to 650."""
    limit = LINES_OF_A_CLASS_FILE if name_of(path) in CLASS_FILES else LINES_OF_A_FILE
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_left_for_later_and_nothing_prints(path: Path) -> None:
    """A kernel writes to no stream, and a mark in the source is no plan."""
    source = path.read_text()
    tree = ast.parse(source)
    assert not LATER.search(source)
    assert "print" not in {getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert ast.get_docstring(tree)


def test_the_exceptions_are_of_the_present() -> None:
    """A file that may be longer is there."""
    assert {name_of(path) for path in MODULES} >= CLASS_FILES
