"""The command line: as a person types it, as a pipe reads it, as a script judges its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Codec, Context, Retry, Runtime, workflow
from alkaline_hosts._cli.commands import alkaline
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
    assert "is not JSON" in run("signal", store, "exe_1", "go", "plain", code=2).stderr
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
        assert "do this from that process" in done.stderr
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


# --- names and values from strangers ----------------------------------------------------------------------------------
class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def bad() -> None:
    raise ConnectionError("down [/b]\nand \x1b[31mout\x9b0m")


@workflow(name="strange")
async def strange(ctx: Context) -> Any:
    await ctx.step("look [/bold]", lambda: {"see": "[/b] [red]x[/red] \x1b]0;title\x07", "n": float("nan")})
    await ctx.step("long", lambda: "y" * 5_000 + "end")
    with contextlib.suppress(ConnectionError):
        await ctx.step("bad\x1b[2J", bad)
    await ctx.wait_for_signal("go [/b]\x1b[2J\nnext")


@workflow(name="registered")
async def registered(ctx: Context) -> Any:
    return [await ctx.step("point", lambda: Point(3))]


@pytest.fixture
def odd_store(tmp_path: Path) -> Path:
    """A run whose names and values hold markup and escapes, and one with a type that only its program knows."""
    path = tmp_path / "odd.alkaline"
    codec = Codec()
    codec.register(Point, "Point", lambda point: point.x, Point)

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[strange, registered], codec=codec) as runtime:
            await (await runtime.start("strange", id="odd")).settle()
            await (await runtime.start("registered", id="point")).result()
        await host.close()

    asyncio.run(fill())
    return path


def test_markup_and_escapes_in_a_history_are_only_shown(odd_store: Path, tmp_path: Path) -> None:
    """Each row stays one line of printable characters, in a pipe; nothing is taken for colours or commands."""
    run("export", odd_store, "odd", tmp_path / "odd.alk")
    for arguments in (["list", odd_store], ["show", odd_store, "odd"], ["events", odd_store, "odd"]):
        text = run(*arguments).stdout
        assert "[/b" in text
        assert all(line.isprintable() for line in text.splitlines())
    assert len(run("events", odd_store, "odd").stdout.splitlines()) == 1 + 4
    said = run("diff", "odd", "point", "--store", odd_store, code=1).stdout
    assert all(line.isprintable() for line in said.splitlines())


def test_in_a_terminal_too_escapes_are_shown_and_states_are_coloured(odd_store: Path) -> None:
    """As a terminal: our own colours and nobody else's; a long value is cut with its length beside it."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "alkaline_hosts.cli", "events", str(odd_store), "odd"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\x1b[" in done.stdout
    for hostile in ("\x1b[2J", "\x1b]0;", "\x9b", "\x07"):
        assert hostile not in done.stdout
    assert "5,005 characters" in " ".join(done.stdout.split())
    assert "yyyend" not in done.stdout


def test_a_pipe_gets_values_whole_and_aligned(odd_store: Path) -> None:
    """No truncation and no trailing blanks; every column begins at one place, with time in UTC."""
    lines = run("events", odd_store, "odd").stdout.splitlines()
    assert any("yyyend" in line for line in lines)
    column = lines[0].index("event")
    assert {line[column - 1] for line in lines} == {" "}
    assert all(line[column] != " " for line in lines)
    assert all(re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line) for line in lines[1:])
    assert not any(line != line.rstrip() or "\t" in line for line in lines)


def test_json_is_json_whatever_the_values_are(odd_store: Path) -> None:
    """NaN becomes text, as JSON has no word for it."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    events = json.loads(run("events", odd_store, "odd", "--json").stdout, parse_constant=refuse)
    assert events[1]["value"]["n"] == "nan"


def test_types_that_only_their_program_knows_are_shown_by_name(odd_store: Path, tmp_path: Path) -> None:
    """One run with a registered type does not hide the others, and can be compared."""
    assert "point" in run("list", odd_store).stdout
    assert '[{"<Point>": 3}]' in run("show", odd_store, "point").stdout
    assert run("diff", "point", "point", "--store", odd_store).exit_code == 0


# --- stores -----------------------------------------------------------------------------------------------------------
def test_the_store_may_come_from_an_option_or_the_environment(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--store replaces STORE; with ALKALINE_STORE it may be left out, and still be given."""
    assert "exe_1" in run("list", "--store", store).stdout
    assert "suspended" in run("show", "exe_1", "--store", store).stdout
    assert "no store is given" in run("list", code=2).stderr
    monkeypatch.setenv("ALKALINE_STORE", str(store))
    assert "exe_1" in run("list").stdout
    assert "suspended" in run("show", "exe_1").stdout
    assert "suspended" in run("show", store, "exe_1").stdout
    run("signal", "exe_1", "go", "1")
    run("signal", "exe_1", "go")
    run("signal", store, "exe_1", "go", "1")
    assert "there is no file no:" in run("show", "exe_1", "--store", store.with_name("no"), code=4).stderr
    assert "arguments are" in run("show", "a", "b", "c", code=2).stderr


def test_pause_resume_and_delete_do_what_messages_advise(store: Path) -> None:
    """A pause holds until the run is resumed, by a command without its code; only what has ended is deleted."""

    async def served() -> str:
        host = FileHost(store)
        async with Runtime(host, workflows=[research]) as runtime:
            for one in await runtime.recover():
                await one.settle()
            await runtime.run_due()
            await runtime.settle("exe_1")
            status = (await runtime.get_execution("exe_1")).status
        await host.close()
        return status

    assert "asked to pause" in run("pause", store, "exe_1").stdout
    assert asyncio.run(served()) == "paused"
    refused = run("delete", store, "exe_1", code=3).stderr
    assert "cancel" in refused
    assert "may go on" in run("resume", store, "exe_1").stdout
    assert asyncio.run(served()) == "suspended"
    run("signal", store, "exe_1", "go", "1")
    assert asyncio.run(served()) == "completed"
    assert json.loads(run("delete", store, "exe_1", "--json").stdout) == {"run": "exe_1", "deleted": True}
    for command in ("show", "pause", "resume", "delete"):
        run(command, store, "exe_1", code=4)


def test_a_mistyped_store_is_not_created(tmp_path: Path) -> None:
    """Neither by a command that reads nor by one that writes to a run."""
    missing = tmp_path / "typo.alkaline"
    for command in (
        ["list"], ["show", "x"], ["signal", "x", "go"], ["cancel", "x"],
        ["pause", "x"], ["resume", "x"], ["delete", "x"],
    ):  # fmt: skip
        said = run(command[0], missing, *command[1:], code=4).stderr
        assert said == "error: there is no file typo.alkaline: check the path of the store\n"
    run("export", missing, "x", tmp_path / "x.alk", "--handoff", code=4)
    (tmp_path / "junk").write_bytes(b"junk")
    assert "not msgpack" in run("import", missing, tmp_path / "junk", code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["junk"]


def test_an_export_that_fails_leaves_no_file_and_freezes_nothing(store: Path, tmp_path: Path) -> None:
    """A hand-over to a place that can't be written costs nothing; an older export stays whole."""
    run("export", store, "exe_1", tmp_path / "missing" / "x.alk", "--handoff", code=2)
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None
    old = tmp_path / "old.alk"
    old.write_bytes(b"before")
    run("export", store, "ghost", old, code=4)
    assert old.read_bytes() == b"before"
    assert [path.name for path in tmp_path.glob("*.part")] == []
    run("export", store, "exe_1", old, "--handoff")
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is not None
    assert "handed over" in run("signal", store, "exe_1", "go", code=3).stderr


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "x", "--bogus"],
        ["frob"],
        ["show"],
        ["list", "x", "--limit", "many"],
        ["check"],
        ["signal", "x", "--dedupe"],
    ],
)
def test_bad_usage_is_one_line_with_code_2(arguments: list[str]) -> None:
    """And one line of JSON with --json."""
    said = run(*arguments, code=2).stderr
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    told = json.loads(run(arguments[0], "--json", *arguments[1:], code=2).stderr)
    assert told["error"] == "ERR_INVALID_INPUT"


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("1 / 0", "subject", "ZeroDivisionError"),
        ("def (", "subject", "SyntaxError"),
        ("raise SystemExit(0)", "subject", "SystemExit"),
        ("raise ValueError('two\\nlines \\x1b[2J')", "subject", "two lines \\x1b[2J"),
        ("x = 1", "subject", "is not a workflow"),
        ("x = 1", "subject:x", "is not a workflow"),
        ("x = [1]", "subject:x", "is not a workflow"),
        ("x = 1", "subject:y", "has no 'y'"),
    ],
)
def test_code_that_can_not_be_used_for_a_check_is_bad_input(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, said: str
) -> None:
    """Whatever the module does when it is imported: one line, code 2, no traceback."""
    run("export", store, "exe_1", tmp_path / "1.alk")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "subject", raising=False)
    (tmp_path / "subject.py").write_text(source)
    stderr = run("check", tmp_path / "1.alk", "--workflows", name, code=2).stderr
    sys.modules.pop("subject", None)
    assert said in stderr
    assert len(stderr.splitlines()) == 1


def test_check_judges_every_file_and_takes_a_list_and_a_codec(
    odd_store: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file that does not fit does not hide the others; the worst decides the exit code."""
    run("export", store, "exe_1", tmp_path / "1.alk")
    run("export", store, "exe_2", tmp_path / "2.alk")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "several.py").write_text(
        _FITS.replace('name="research"', 'name="other"')
        + _FITS
        + "from alkaline_edge import Codec\nall_of_them = [research]\ncodec = Codec()\n"
    )
    said = run("check", "1.alk", "2.alk", "--workflows", "several:all_of_them", "--codec", "several:codec").stdout
    assert "2 of 2 fit" in said
    told = json.loads(run("check", "1.alk", "2.alk", "--workflows", "several", "--json").stdout)
    assert [(one["verdict"], one["run"]) for one in told] == [("ok", "exe_1"), ("ok", "exe_2")]
    (tmp_path / "elsewhere.py").write_text(_FITS.replace('name="research"', 'name="other"'))
    assert run("check", "1.alk", "--workflows", "elsewhere", code=1).stdout.startswith("unknown")
    (tmp_path / "3.alk").write_bytes(b"junk")
    said = run("check", "3.alk", "1.alk", "--workflows", "several", code=2).stdout
    assert [line.split()[0] for line in said.splitlines() if not line.startswith(" ")] == ["unreadable", "ok", "1"]
    assert (
        "not a Codec" in run("check", "1.alk", "--workflows", "several", "--codec", "several:research", code=2).stderr
    )


def test_diff_takes_a_file_beside_a_run(store: Path, tmp_path: Path) -> None:
    """A name that is a file is a file; any other is a run of the store, and without one it is an error."""
    run("export", store, "exe_1", tmp_path / "1.alk")
    assert "the same" in run("diff", tmp_path / "1.alk", "exe_1", "--store", store).stdout
    assert "there is no file exe_1" in run("diff", tmp_path / "1.alk", "exe_1", code=2).stderr
    run("diff", tmp_path / "1.alk", "ghost", "--store", store, code=4)


def test_without_its_libraries_it_says_what_to_install(tmp_path: Path) -> None:
    """One sentence and code 2, no traceback."""
    (tmp_path / "click.py").write_text("raise ImportError('no click', name='click')")
    command = [sys.executable, "-c", "from alkaline_hosts.cli import main; main()", "list"]
    paths = os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep), *_PACKAGES])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 2
    assert done.stderr == "alkaline needs click: pip install 'alkaline-edge[cli]'\n"


_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = [str(_ROOT), str(_ROOT / "hosts")]


def test_an_output_that_can_not_show_a_character_gets_its_number(tmp_path: Path) -> None:
    """ASCII on stdout, as in some CI: no crash, no lost line."""
    path = tmp_path / "uni.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[research]) as runtime:
            await (await runtime.start("research", "über 日本", id="u")).settle()
        await host.close()

    asyncio.run(fill())
    command = [sys.executable, "-m", "alkaline_hosts.cli", "events", str(path), "u"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\xfcber \\u65e5\\u672c" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(odd_store: Path) -> None:
    """More output than a pipe holds, and a reader that closes it: code 0 and nothing on stderr."""
    host = FileHost(odd_store)

    async def fill() -> None:
        async with Runtime(host, workflows=[research]) as runtime:
            await (await runtime.start("research", "x" * 300_000, id="large")).settle()
        await host.close()

    asyncio.run(fill())
    command = [sys.executable, "-m", "alkaline_hosts.cli", "events", str(odd_store), "large"]
    for extra in ([], ["--json"]):
        with subprocess.Popen([*command, *extra], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            assert (process.stderr.read(), process.wait(60)) == (b"", 0)
