"""The support agent as a user calls it: killed, decided on in another process, and nothing done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "support_agent" / "agent.py"


def call(folder: Path, *arguments: str, die_at: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STORE": str(folder / "support.alkaline"), "DIE_AT": die_at}
    environment.pop("MODEL", None)
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("die_at", ["request 2", "request 3"])
def test_it_is_killed_and_nothing_that_is_recorded_is_done_again(tmp_path: Path, die_at: str) -> None:
    """What it was killed in is done again, and that alone."""
    killed = 0
    for words in (("ask", "Please refund order 7"), ("decide", "yes")):
        done = call(tmp_path, *words, die_at=die_at)
        if done.returncode == -signal.SIGKILL:
            killed += 1
            done = call(tmp_path, *words, die_at=die_at)
        assert done.returncode == 0, done.stderr
        assert ("to be decided: refund" in done.stdout) == (words[0] == "ask")
        words_live = [line.removeprefix("  ... ") for line in done.stdout.splitlines() if line.startswith("  ... ")]
    assert done.stdout.splitlines()[-1] == "Order 7: 12 euros are on their way back."
    assert words_live == ["Order ", "7: ", "12 euros are on their way back."], "the model's words, live, once"
    assert killed == 1
    once = Counter(["request 1", "look_up 7", "request 2", "refund 7", "request 3"])
    assert Counter((tmp_path / "support.log").read_text().splitlines()) == once + Counter([die_at])


def test_a_refusal_is_what_the_model_is_told(tmp_path: Path) -> None:
    """No money goes back, and the history shows each step once."""
    assert call(tmp_path, "ask", "Please refund order 7").returncode == 0
    done = call(tmp_path, "decide", "no")
    assert done.stdout.splitlines()[-1] == "Order 7: The tool call was denied.."
    assert "refund" not in (tmp_path / "support.log").read_text()
    shown = call(tmp_path, "show").stdout.splitlines()
    assert shown.count("StepCompleted support__model.request_stream") == 3
    assert shown.count("StepCompleted mcp look_up") == 1
    assert shown[-1] == "Completed "
