"""The examples as a ladder: at most eight, each with a README that begins the next; the first two run as programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
RUNGS = ("hello", "approval", "research", "support_agent", "team", "browser_agent", "worker_agent", "handoff")
PARTS = {"demonstration", "agents_sdk", "langgraph_graph"}
"""Folders that are part of a rung: of the demo, and the fourth one in other frameworks."""


def run(folder: Path, *arguments: str) -> str:
    """What a program prints, run in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'hosts'}", "PYTHONUTF8": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_there_are_at_most_eight_and_each_says_what_it_is() -> None:
    """Each folder is a rung or a part of one; a rung has a README that begins with its name and says how it is run."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders - PARTS == set(RUNGS)
    assert len(RUNGS) <= 8
    for name in RUNGS:
        text = (EXAMPLES / name / "README.md").read_text("utf-8")
        assert text.startswith("# "), name
        assert re.search(r"python examples/|python agent\.py|pywrangler|make ", text), name
        for link in re.findall(r"\]\(([^)#:\s]+)\)", text):
            assert (EXAMPLES / name / link).exists(), f"{name}: {link}"


def test_each_rung_is_listed_in_their_order() -> None:
    """docs/pages.md has the ladder, from the first rung to the last."""
    text = (ROOT / "docs" / "pages.md").read_text("utf-8")
    assert tuple(name for name in re.findall(r"\]\(\.\./examples/(\w+)\)", text) if name not in PARTS) == RUNGS


def test_hello_finds_what_the_first_process_recorded(tmp_path: Path) -> None:
    """The second process prints the same greeting, with the same time."""
    program = str(EXAMPLES / "hello" / "hello.py")
    first = run(tmp_path, program)
    assert first.startswith("Hello Ada, first met at ")
    assert run(tmp_path, program) == first


def test_approval_waits_without_a_process_and_undoes_what_was_refused(tmp_path: Path) -> None:
    """Order 7 is approved from another process, order 8 is refused; nothing is reserved twice."""
    program = str(EXAMPLES / "approval" / "approval.py")
    assert run(tmp_path, program, "order", "7").splitlines() == [
        "reserved the goods of order 7, at attempt 2",
        "order 7 waits for: approval.py decide 7 yes",
    ]
    assert run(tmp_path, program, "decide", "7", "yes") == ""
    assert run(tmp_path, program, "order", "7") == "order 7 is on its way from shelf 2\n"
    run(tmp_path, program, "order", "8")
    run(tmp_path, program, "decide", "8", "no")
    assert run(tmp_path, program, "order", "8").splitlines() == [
        "released shelf 3",
        "Refused: order 8 was not approved",
    ]
