"""The README and docs/, run: each Python block in a folder of its own, and what it prints is what the page shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from alkaline_edge.errors import BY_CODE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("SPEC.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
TWICE = "# called twice"
CALL = "from alkaline_hosts.cli import main; main()"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)")


class Block(NamedTuple):
    """A fenced block, with its page and its number there, and the block behind it."""

    page: str
    number: int
    language: str
    text: str
    shown: str | None  # what a text block behind it shows


def blocks(page: Path) -> list[Block]:
    """All that is fenced in a page."""
    found = [(language, text) for language, text in _FENCE.findall(page.read_text("utf-8"))]
    behind = [*found[1:], ("", "")]
    return [
        Block(page.name, number, language, text, behind[number][1] if behind[number][0] == "text" else None)
        for number, (language, text) in enumerate(found)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language == "sh"]


def named(block: Block) -> str:
    return f"{block.page}:{block.number}"


def call(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in ``directory``, as a process of its own."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=180, check=False
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


@pytest.mark.parametrize("block", PYTHON, ids=named)
def test_a_snippet_prints_what_the_page_shows(block: Block, tmp_path: Path) -> None:
    """Each Python block is a whole program; the text block behind it is its output."""
    assert block.shown is not None, "every program shows what it prints"
    assert run_block(block, tmp_path) == block.shown


@pytest.mark.parametrize("block", SHELL, ids=named)
def test_the_command_line_works_on_the_first_programs_store(block: Block, tmp_path: Path) -> None:
    """Each `alkaline` command succeeds and prints something, on the store that the README's first program made."""
    run_block(PYTHON[0], tmp_path)
    for line in block.text.splitlines():
        name, *arguments = line.removeprefix("$ ").split()
        assert name == "alkaline"
        done = call(tmp_path, "-c", CALL, *arguments)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert done.stdout.strip() or "export" in arguments, line


def test_each_block_is_run_by_some_test() -> None:
    """Python, shell and what they print here; the rest by others, or it is a picture."""
    elsewhere = {
        ("README.md", "html"),  # tests/wasm/test_readme_page.py
        ("browser.md", "html"),  # tests/wasm/test_pyscript_page.py
        ("README.md", "py"),  # tests/workers/test_readme_worker.py
        ("board.md", "mermaid"),
        ("concepts.md", "mermaid"),
        ("workers.md", "jsonc"),  # tests/workers/test_readme_worker.py
        ("control.md", "toml"),  # tests/http/test_control.py
        ("cloudflare_workflows.md", "py"),  # tests/hosts/test_cloudflare_workflows.py
    }
    for block in BLOCKS:
        assert block.language in ("python", "sh", "text") or (block.page, block.language) in elsewhere, named(block)


def test_every_error_code_is_explained() -> None:
    """The table names the nine codes, each with its class."""
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| (ERR_\w+) \| `(\w+)` \|", page, re.MULTILINE)
    assert dict(rows) == {code: cls.__name__ for code, cls in BY_CODE.items()}


def test_the_two_commands_come_first() -> None:
    """A reader finds `make demo` and `make test` before the first program."""
    opening = README[: README.index("## A first program")]
    assert "make demo" in opening
    assert "make test" in opening


def test_the_readme_is_read_in_a_minute_and_leads_to_every_page() -> None:
    """It has at most 160 lines, its programs at most 25; each page is linked from it, or from the list it links."""
    assert len(README.splitlines()) <= 160
    for block in blocks(ROOT / "README.md"):
        assert len([line for line in block.text.splitlines() if line.strip()]) <= 25, named(block)
    listed = {f"docs/{link}" for link in _LINK.findall((ROOT / "docs" / "pages.md").read_text("utf-8"))}
    linked = set(_LINK.findall(README))
    assert "docs/pages.md" in linked
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked | listed


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    """To a file of this repository, from where the page stands."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if not link.startswith(("http:", "https:"))]
    for link in links:
        assert (page.parent / link).exists(), link


def test_programs_are_right_for_a_strict_type_checker(tmp_path: Path) -> None:
    """As a user's own files: the package has its types, and what a step returns is named where it is used."""
    programs = [tmp_path / f"program_{number}.py" for number in range(len(PYTHON))]
    for path, block in zip(programs, PYTHON, strict=True):
        path.write_text(block.text)
    # With the project's settings, strict among them: what mypy knows is cached.
    done = call(ROOT, "-m", "mypy", *map(str, programs))
    assert done.returncode == 0, done.stdout
