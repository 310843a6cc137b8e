"""`alkaline lint` as a person and as CI see it: its lines, its JSON, its exit codes, and which files it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alkaline_hosts._cli.commands import alkaline

GUILTY = """\
import time
from alkaline_edge import workflow

@workflow
async def flow(ctx, n):
    return time.time()
"""
INNOCENT = GUILTY.replace("time.time()", "ctx.now()")


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files with handlers, and some that are nobody's to mend."""
    monkeypatch.chdir(tmp_path)
    for name in (".venv", "node_modules", "src", "src/__pycache__"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "guilty.py").write_text(GUILTY)
    (tmp_path / "innocent.py").write_text(INNOCENT)
    (tmp_path / "notes.txt").write_text(GUILTY)
    return tmp_path


def test_a_finding_is_a_line_with_its_place_its_code_and_its_remedy(project: Path) -> None:
    """In ruff's form, which editors and CI systems read; exit code 1."""
    (line, summary) = run("lint", code=1).stdout.splitlines()
    assert line == (
        "src/guilty.py:6:12: ALK101 time.time() reads the clock, which says something else on replay: use ctx.now()"
    )
    assert summary == "1 finding in 2 files"
    assert "no findings in 1 files" in run("lint", project / "innocent.py").stdout


def test_a_finding_as_json(project: Path) -> None:
    """With the function that it stands in."""
    (found,) = json.loads(run("lint", "--json", "src", code=1).stdout)
    assert found == {
        "file": "src/guilty.py", "line": 6, "column": 12, "code": "ALK101", "handler": "flow",
        "message": "time.time() reads the clock, which says something else on replay", "remedy": "use ctx.now()",
    }  # fmt: skip
    assert json.loads(run("lint", "--json", "innocent.py").stdout) == []


def test_what_can_not_be_read_is_told_and_the_rest_is_linted(project: Path) -> None:
    """Exit code 2; a path that is not there is bad usage, before anything is said."""
    (project / "broken.py").write_text("x = 1\n)\x07")
    said = run("lint", code=2).stdout
    assert "broken.py:2:1: ALK100 this is no Python" in said
    assert "src/guilty.py:6:12: ALK101" in said
    assert "there is no file" in run("lint", "typo.py", code=2).stderr


def test_a_file_that_is_named_is_read_whatever_its_name_and_a_name_prints_as_one_line(project: Path) -> None:
    """Control characters of a file's name are shown as escapes."""
    odd = project / "odd\x1b[31m.txt"
    odd.write_text(GUILTY)
    said = run("lint", odd, "notes.txt", "notes.txt", code=1).stdout
    assert "\x1b" not in said
    assert "2 findings in 2 files" in said


def test_links_that_lead_round_end(project: Path) -> None:
    """A folder that is in itself by a link is read once."""
    (project / "src" / "round").symlink_to(project)
    assert "1 finding in 2 files" in run("lint", code=1).stdout
