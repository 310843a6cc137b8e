"""The example as a person runs it: Chromium, workerd and a server, one history."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alkaline_edge import replay
from examples.handoff.agent import journey

ROOT = Path(__file__).resolve().parents[2]
STORES = ["file", "postgres"]


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_one_run_in_four_places(store: str, tmp_path: Path) -> None:
    """It ends with exit code 0, the digests of what left and what arrived are equal, and the file replays."""
    command = [sys.executable, "-m", "examples.handoff.run", "--directory", str(tmp_path)]
    if store == "file":
        command += ["--store", str(tmp_path / "server.alkaline")]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if " commits " in line]
    places = [re.search(r"(\d+) commits  ([0-9a-f]{32})", line) for line in lines]
    stages = [(int(found[1]), found[2]) for found in places if found is not None]
    left_tab, at_edge, left_edge, at_server, finished = stages
    assert left_tab == at_edge
    assert left_edge == at_server
    assert left_tab[0] < left_edge[0] < finished[0]
    assert "tab emscripten, edge emscripten, server linux" in done.stdout
    (check,) = replay.check({"journey": (tmp_path / "journey.alk").read_bytes()}, [journey])
    assert check.ok
