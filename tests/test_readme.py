"""The README, run: every Python block in a directory of its own, and what it prints is what the README shows."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from alkaline_edge.errors import BY_CODE

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TWICE = "# called twice"
CALL = "from alkaline_hosts.cli import main; main()"


class Block(NamedTuple):
    """A fenced block, with its number in the file."""

    number: int
    language: str
    text: str


BLOCKS = [Block(number, *found.groups()) for number, found in enumerate(_FENCE.finditer(README))]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language in ("sh", "console")]


def call(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in ``directory``, as a process of its own."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def run_block(block: Block, directory: Path) -> str:
    """What a block prints. One that is called twice is killed the first time."""
    program = directory / "program.py"
    program.write_text(block.text)
    printed = ""
    if TWICE in block.text:
        first = call(directory, program.name)
        assert first.returncode == -signal.SIGKILL, first.stderr
        printed = first.stdout
    done = call(directory, program.name)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return printed + done.stdout


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"block{block.number}")
def test_a_snippet_prints_what_the_readme_shows(block: Block, tmp_path: Path) -> None:
    """Each Python block is a whole program; the text block behind it is its output."""
    shown = BLOCKS[block.number + 1]
    assert shown.language == "text", "every program in the README shows what it prints"
    assert run_block(block, tmp_path) == shown.text


@pytest.mark.skipif(importlib.util.find_spec("alkaline_hosts.cli") is None, reason="the command line is not here yet")
@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"block{block.number}")
def test_the_command_line_works_on_the_first_programs_store(block: Block, tmp_path: Path) -> None:
    """Each `alkaline` command succeeds and prints something, on the store that the first program made."""
    run_block(PYTHON[0], tmp_path)
    for line in block.text.splitlines():
        name, *arguments = line.removeprefix("$ ").split()
        assert name == "alkaline"
        done = call(tmp_path, "-c", CALL, *arguments)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout.strip() or "export" in arguments, line


def test_every_error_code_is_explained() -> None:
    """The table names the nine codes, each with its class."""
    rows = re.findall(r"^\| (ERR_\w+) \| `(\w+)` \|", README, re.MULTILINE)
    assert dict(rows) == {code: cls.__name__ for code, cls in BY_CODE.items()}


def test_the_two_commands_come_first() -> None:
    """A reader finds `make demo` and `make test` before the first program."""
    opening = README[: README.index("## A first program")]
    assert "make demo" in opening
    assert "make test" in opening


def test_the_page_on_http_shows_what_its_program_prints(tmp_path: Path) -> None:
    """Its routes are those of the server, and its program runs."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "http.md").read_text("utf-8")
    program, shown = (Block(number, *found.groups()) for number, found in enumerate(_FENCE.finditer(page)))
    assert run_block(program, tmp_path) == shown.text


def test_programs_are_right_for_a_strict_type_checker(tmp_path: Path) -> None:
    """As a user's own files: the package has its types, and what a step returns is named where it is used."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "http.md").read_text("utf-8")
    texts = [*(block.text for block in PYTHON), _FENCE.findall(page)[0][1]]
    for number, text in enumerate(texts):
        (tmp_path / f"program_{number}.py").write_text(text)
    root = (
        Path(__file__).resolve().parents[1]
    )  # with the project's settings, strict among them: what it knows is cached
    done = call(root, "-m", "mypy", *(str(tmp_path / f"program_{number}.py") for number in range(len(texts))))
    assert done.returncode == 0, done.stdout
