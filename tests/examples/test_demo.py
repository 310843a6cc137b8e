"""The demo in its small form, and its checks against logs that were tampered with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("rich", reason="needs the extra `cli`: the demo draws with rich")
import demo  # it ends the program where rich is missing
from demonstration import evidence  # found once the examples are
from demonstration.agents import Effect, Kill


def test_killed_agents_finish_as_those_left_alone(tmp_path: Path) -> None:
    """Real processes, killed for real: every check holds, nothing keeps running, and the output is plain text."""
    command = [sys.executable, demo.__file__, "--steps", "40", "--kills", "2", "--pace", "0.04", "--seed", "7"]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path), "--picture", str(tmp_path / "demo.svg")],
        capture_output=True,
        text=True,
        timeout=demo.LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9 2:" in done.stdout
    assert "Everything holds" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    reports = [(tmp_path / name / "report.md").read_bytes() for name in ("killed", "left-alone")]
    assert reports[0] == reports[1]
    picture = (tmp_path / "demo.svg").read_text("utf-8")
    assert "Everything&#160;holds" in picture
    assert "http" not in picture.replace("http://www.w3.org/", "").replace("https://www.textualize.io", "")
    log = (tmp_path / "killed" / "effects.jsonl").read_text().splitlines()
    assert len({json.loads(line)["pid"] for line in log}) >= 3


def effect(phase: str, command: str, pid: int, attempt: int = 1) -> Effect:
    """A line of an effects log."""
    return Effect(phase, f"step {command}", command, attempt, pid, 0)


def test_a_committed_step_that_runs_again_is_found() -> None:
    """A step that was committed when its process was killed, and begins in the next one, is named."""
    log = [effect("begin", "1", 10), effect("end", "1", 10), effect("begin", "1", 11)]
    assert evidence.begun_again(log, [Kill(10, 0, {"1": "step 1"})]) == ["step 1"]
    assert evidence.begun_again(log, [Kill(10, 0, {})]) == []


def test_a_step_lost_in_flight_is_told_from_one_that_had_ended() -> None:
    """What ran twice is listed with the kill that cost it, and with how far it had come."""
    log = [effect("begin", "1", 10), effect("end", "1", 10), effect("begin", "2", 10)]
    log += [effect("begin", "1", 11), effect("begin", "2", 11)]
    found = evidence.ran_twice(log, [Kill(10, 0, {})])
    assert found == [evidence.Twice("step 1", 1, 1, True), evidence.Twice("step 2", 1, 1, False)]


def test_kills_spread_over_the_way() -> None:
    """One kill in each equal part of the run, in order."""
    drawn = demo.moments(Random(1), 5, 200)
    assert drawn == sorted(drawn)
    assert all(4 + 39.2 * n <= moment + 1 and moment < 4 + 39.2 * (n + 1) for n, moment in enumerate(drawn))
