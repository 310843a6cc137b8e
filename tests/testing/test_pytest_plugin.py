"""The pytest plugin, in a pytest of its own: fixtures, golden histories, and what it costs who does not want it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOW = """
from alkaline_edge import Context, workflow

@workflow
async def flow(ctx: Context, n: int) -> str:
    {first}
    return await ctx.wait_for_signal("go")
"""
TESTS = """
from flow import flow

async def ended(trial):
    run = await trial.start(flow, 1, id="exe_1")
    await run.settle()
    await run.signal("go", "done")
    assert await run.result() == "done"
    return await trial.history("exe_1")

def test_it_ends(run_trial, golden_history):
    golden_history("ended", run_trial(ended, flow, stubs={"look": 5}), flow)

async def forgotten(trial):
    await (await trial.start(flow, 1)).settle()

def test_what_is_left_fails(run_trial):
    run_trial(forgotten, flow, stubs={"look": 5})
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own, with the plugin as a user has it."""
    installed = any(each.value == "alkaline_hosts.pytest_plugin" for each in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "alkaline_hosts.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *plugin, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_golden_histories_are_recorded_once_and_hold_from_then_on(tmp_path: Path) -> None:
    """Missing: told. Recorded: passes, the same bytes each time. The code changes: it fails, and says what mends it."""
    (tmp_path / "flow.py").write_text(FLOW.format(first='await ctx.step("look", int, n)'))
    (tmp_path / "test_flow.py").write_text(TESTS)
    done = pytest_in(tmp_path)
    assert "there is no golden history ended.alk" in done.stdout
    assert "run-of-flow-1 is suspended, and waits for signal go" in done.stdout
    assert "2 failed" in done.stdout
    done = pytest_in(tmp_path, "--update-histories", "-k", "ends")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    file = tmp_path / "histories" / "ended.alk"
    recorded = file.read_bytes()
    (tmp_path / "flow.py").write_text(FLOW.format(first='await ctx.step("seek", int, n)'))
    tests = TESTS.replace('{"look": 5}', '{"seek": 5}')
    (tmp_path / "test_flow.py").write_text(tests)
    done = pytest_in(tmp_path, "-k", "ends")
    assert "1 failed" in done.stdout
    assert "ended.alk: exe_1 does not go on (diverged)" in done.stdout
    assert "to mend it: ask for step 'seek' only" in done.stdout
    assert file.read_bytes() == recorded


def test_it_imports_nothing_that_is_not_wanted() -> None:
    """A pytest that tests no workflow loads no kernel by it."""
    program = "import sys, alkaline_hosts.pytest_plugin; print([n for n in sys.modules if n[:13] == 'alkaline_edge'])"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
