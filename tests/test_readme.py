"""The README and docs/, run: each Python block in a folder of its own, and what it prints is what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import BY_CODE
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts.memory import MemoryHost

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("SPEC.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TWICE = "# called twice"
CALL = "from alkaline_hosts.cli import main; main()"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)")


@workflow
async def flow(ctx: Context) -> None:
    """Stands for a reader's own."""


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


def indented(page: Path) -> list[str]:
    """The lines that are set as code by four spaces, outside of fences; below a list by seven."""
    found, fenced, listed = [], False, False
    for line in page.read_text("utf-8").splitlines():
        fenced ^= line.startswith("```")
        listed = bool(re.match(r"([-*]|\d+\.) ", line)) or (listed and not re.match(r"\S", line))
        least = 7 if listed else 4
        if not fenced and line.startswith(" " * least):
            found.append(line[least:] if listed else line[4:])
    return found


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


INDENTED = [(page, line) for page in [*PAGES, ROOT / "CONTRIBUTING.md"] for line in indented(page)]
NOT_RUN = {
    "pip": "asks a registry", "pipx": "asks a registry", "git": "wants a release", "uv": "deploys, and asks a registry",
    "curl": "wants a server: tests/workers/test_readme_worker.py asks it the same", "psql": "wants a server",
    "(umask": "makes keys in a home directory", ".venv/bin/python": "a program of ours that has its own tests",
    "$": "tests/lint/test_findings.py", "src/agent.py:6:12:": "its output",
}  # fmt: skip
"""What indented lines begin with that no test runs, and why. ``alkaline`` and ``make`` are held to what there is."""
FRAGMENTS = {"telemetry.md": 3, "testing.md": 8, "workers.md": 7}
"""Pages with indented lines that are no commands, and how many those are: run in the tests below."""


@pytest.mark.parametrize(("page", "line"), INDENTED, ids=lambda each: each.name if isinstance(each, Path) else None)
def test_an_indented_command_is_one_that_there_is(page: Path, line: str) -> None:
    """A verb of ``alkaline`` with its options, or a target of make; what begins otherwise is listed with the reason."""
    words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    name = words[0].removeprefix(".venv/bin/")
    if name == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert targets, line
        for target in targets:
            assert re.search(rf"^(?:\S+ )*{target}(?: \S+)*:", MAKEFILE, re.MULTILINE), line
    elif name == "alkaline":
        end = next((n for n, word in enumerate(words) if word in (">>", ">", "|")), len(words))
        context = alkaline.make_context("alkaline", words[1:end], resilient_parsing=True)
        verb = alkaline.get_command(context, words[1])
        assert verb is not None, line
        taken = [option for parameter in verb.params for option in parameter.opts]
        options = [word.split("=")[0] for word in words[2:end] if word.startswith("--")]
        assert not set(options) - set(taken), line
    elif page.name not in FRAGMENTS:
        assert words[0] in NOT_RUN, f"{page.name}: {line}"


def test_what_is_not_run_is_of_the_present() -> None:
    """A reason that no line needs any more is taken out."""
    used = {line.split()[0] for _, line in INDENTED if line.split()[0] in NOT_RUN}
    assert used == NOT_RUN.keys()


def fragment(page: str) -> str:
    """The indented lines of a page that are no commands."""
    commands = ("alkaline", "uv", "curl")
    found = [line for line in indented(ROOT / "docs" / page) if line.split()[0] not in commands]
    assert len(found) == FRAGMENTS[page]
    return "\n".join(found)


def test_a_fragment_of_telemetry_makes_what_it_says() -> None:
    """An exporter that a runtime takes."""
    known: dict[str, Any] = {"Runtime": Runtime, "host": MemoryHost(), "agent": flow, "token": "t"}
    exec(fragment("telemetry.md"), known)
    assert type(known["exporter"]).__name__ == "OtlpExporter"


def test_a_fragment_of_testing_passes_as_a_test(tmp_path: Path) -> None:
    """With the workflow of the page's own program, and a history that is recorded first."""
    program = next(block.text for block in PYTHON if block.page == "testing.md" and "def article" in block.text)
    head = program.split("async def main")[0].split("\nasync def test_")[0].split("\ndef test_")[0]
    (tmp_path / "test_article.py").write_text(f"{head}\n\n{fragment('testing.md')}\n")
    for more in (["--update-histories"], []):
        done = call(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more)
        assert done.returncode == 0, done.stdout


def test_a_fragment_of_workers_names_this_package() -> None:
    """TOML, with the name that pip knows."""
    project = tomllib.loads(fragment("workers.md"))
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    assert project["project"]["dependencies"] == [ours]


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
