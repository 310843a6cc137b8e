"""The command line: as a person types it, as a pipe reads it, as a script judges its exit codes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Context, Retry, Runtime, workflow
from alkaline_hosts._commands import alkaline
from alkaline_hosts.file import FileHost


def fail() -> None:
    raise ConnectionError("down")


@workflow(name="research")
async def research(ctx: Context, topic: str) -> Any:
    ctx.set_attributes(team="a", rank=7)
    await ctx.step("search", lambda: {"found": topic}, cost=12)
    try:
        await ctx.step("flaky", fail, retry=Retry(max_attempts=2, backoff=0))
    except ConnectionError:
        pass
    return await ctx.wait_for_signal("go")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with two runs: one suspended, one completed."""
    path = tmp_path / "agent.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[research]) as runtime:
            for id in ("exe_1", "exe_2"):
                await (await runtime.start("research", f"topic of {id}", id=id)).settle()
            await runtime.signal("exe_2", "go", "done")
            await runtime.result("exe_2", None)
        await host.close()

    asyncio.run(fill())
    return path


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


def test_list_filters_and_pages(store: Path) -> None:
    """Runs by status and attribute; --after goes on where a page ended."""
    assert [line.split()[0] for line in run("list", store).stdout.splitlines()] == ["id", "exe_1", "exe_2"]
    assert "exe_1" not in run("list", store, "--status", "completed").stdout
    assert "no runs" in run("list", store, "--attribute", "team=b").stdout
    assert "exe_2" in run("list", store, "--attribute", "rank=7").stdout
    first = json.loads(run("list", store, "--limit", 1, "--json").stdout)
    second = json.loads(run("list", store, "--limit", 1, "--after", first["after"], "--json").stdout)
    assert [run["id"] for run in first["runs"] + second["runs"]] == ["exe_1", "exe_2"]


def test_show_and_events_tell_what_happened(store: Path) -> None:
    """Status, what it waits for, what it spent; and each event in order, by number."""
    shown = run("show", store, "exe_1").stdout
    assert "suspended" in shown
    assert "signal go" in shown
    assert "12 tokens" in shown
    lines = run("events", store, "exe_2").stdout.splitlines()
    assert "run started" in lines[1]
    assert "attempt 1 of step 'flaky' failed" in "".join(lines)
    assert "run completed" in lines[-1]
    events = json.loads(run("events", store, "exe_2", "--json").stdout)
    assert [event["event"] for event in events][:2] == ["Started", "StepCharged"]


def test_export_diff_and_import_move_a_run(store: Path, tmp_path: Path) -> None:
    """A bundle goes to another store as a paused copy; diff says 0 for the same and 1 for others."""
    a, b, other = tmp_path / "1.alk", tmp_path / "2.alk", tmp_path / "other.alkaline"
    run("export", store, "exe_1", a)
    run("export", store, "exe_2", b)
    assert "the same" in run("diff", a, a).stdout
    assert "run completed" in run("diff", a, b, code=1).stdout
    assert not json.loads(run("diff", "exe_1", "exe_2", "--store", store, "--json", code=1).stdout)["same"]
    run("import", other, a)
    assert json.loads(run("show", other, "exe_1", "--json").stdout)["status"] == "paused"
    assert "exists here already" in run("import", other, a, code=3).stderr


def test_check_replays_against_code_with_an_exit_code_for_ci(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 where the code fits, 1 where it does not, 2 for what is no history; the message shows both sides."""
    bundle = tmp_path / "1.alk"
    run("export", store, "exe_1", bundle)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "changed.py").write_text(_FITS.replace("    try:", '    await ctx.step("added", fail)\n    try:'))
    (tmp_path / "fits.py").write_text(_FITS)
    (tmp_path / "junk.alk").write_bytes(b"junk")
    assert run("check", bundle, "--workflows", "fits").stdout.startswith("ok")
    said = run("check", bundle, "--workflows", "changed:research", code=1).stdout
    assert "diverged" in said
    assert "the history has: step 'flaky'" in said.replace("attempt 1 of ", "")
    assert "unreadable" in run("check", tmp_path / "junk.alk", "--workflows", "fits", code=2).stdout
    assert "can't be imported" in run("check", bundle, "--workflows", "nowhere", code=2).stderr


_FITS = """
from alkaline_edge import Retry, workflow

def fail(): ...

@workflow(name="research")
async def research(ctx, topic):
    await ctx.step("search", lambda: None, cost=12)
    try:
        await ctx.step("flaky", fail, retry=Retry(max_attempts=2, backoff=0))
    except ConnectionError:
        pass
    return await ctx.wait_for_signal("go")
"""


def test_signal_and_cancel_are_recorded_for_the_next_runtime(store: Path) -> None:
    """Both reach the run when somebody goes on with it; a payload that is not JSON is refused with its quoting."""
    assert "must be JSON" in run("signal", store, "exe_1", "go", "plain", code=2).stderr
    run("signal", store, "exe_1", "go", '{"ok": true}', "--dedupe", "k")
    run("signal", store, "exe_1", "go", '{"ok": true}', "--dedupe", "k")

    async def go_on() -> Any:
        host = FileHost(store)
        async with Runtime(host, workflows=[research]) as runtime:
            result = await runtime.result("exe_1", 10)
        await host.close()
        return result

    assert asyncio.run(go_on()) == {"ok": True}
    assert "takes no cancel" in run("cancel", store, "exe_2", code=3).stderr


def test_exit_codes_and_one_line_errors(store: Path, tmp_path: Path) -> None:
    """4 for no such run, 3 for a store that is not ours, 2 for bad usage; --json puts the error on stderr too."""
    assert run("show", store, "ghost", code=4).stderr.startswith("error: there is no run 'ghost'")
    said = json.loads(run("show", store, "ghost", "--json", code=4).stderr)
    assert said["error"] == "ERR_NOT_FOUND"
    foreign = tmp_path / "foreign"
    foreign.write_text("hello")
    assert "not an alkaline file" in run("list", foreign, code=3).stderr
    assert foreign.read_text() == "hello"
    run("list", store, "--status", "odd", code=2)
    assert "no host for ftp" in run("list", "ftp://x", code=2).stderr


def test_it_reads_beside_a_live_writer_and_says_so_when_it_would_have_to_write(store: Path) -> None:
    """list works while another process holds the file; signal names the lock."""
    writer = FileHost(store)
    try:
        assert "exe_1" in run("list", store).stdout
        command = [sys.executable, "-m", "alkaline_hosts.cli", "signal", str(store), "exe_1", "go"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 3
        assert "another process" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    finally:
        asyncio.run(writer.close())


def test_piped_output_is_plain_and_whole(store: Path) -> None:
    """Through a real pipe: no escape codes, no cut values; a reader that leaves early is no error."""
    command = [sys.executable, "-m", "alkaline_hosts.cli", "events", str(store), "exe_2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "\x1b" not in done.stdout
    assert "topic of exe_2" in done.stdout
    early = subprocess.run(
        f"{sys.executable} -m alkaline_hosts.cli list {store} --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert early.stdout == "{\n"
    assert early.stderr == ""
