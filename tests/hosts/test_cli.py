"""The command line: as a person types it, as a pipe reads it, as a script judges its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Budget, Codec, Context, Retry, Runtime, keys, workflow
from alkaline_edge.runtime.remembering import Memory, Summary
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
    assert [line.split()[0] for line in run("list", store).stdout.splitlines()] == ["id", "exe_2", "exe_1"]
    assert "exe_1" not in run("list", store, "--status", "completed").stdout
    assert "no runs" in run("list", store, "--attribute", "team=b").stdout
    assert "exe_2" in run("list", store, "--attribute", "rank=7").stdout
    first = json.loads(run("list", store, "--by", "id", "--limit", 1, "--json").stdout)
    second = json.loads(run("list", store, "--by", "id", "--limit", 1, "--after", first["after"], "--json").stdout)
    assert [run["id"] for run in first["runs"] + second["runs"]] == ["exe_1", "exe_2"]
    assert f"--after {first['after']}" in run("list", store, "--by", "id", "--limit", 1).stdout


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
            asked = await host.list(keys.requests("exe_1"), "", 10)
            result = await runtime.result("exe_1", 10)
        await host.close()
        return len(asked), result

    assert asyncio.run(go_on()) == (1, {"ok": True})
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
    await ctx.step(
        "look [/bold]", lambda: {"see": "[/b] [red]x[/red] \x1b]0;title\x07", "n": float("nan"), "z": 10**5_000}
    )
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
    """NaN becomes text, as JSON has no word for it, and so does an integer that Python does not write in decimal."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    events = json.loads(run("events", odd_store, "odd", "--json").stdout, parse_constant=refuse)
    assert events[1]["value"]["n"] == "nan"
    assert events[1]["value"]["z"] == hex(10**5_000)


def test_bytes_are_base64_in_json(tmp_path: Path) -> None:
    """They are told from a text, and can be read back."""
    path = tmp_path / "bytes.alkaline"

    @workflow
    async def has_bytes(ctx: Context) -> bytes:
        return b"\xff\x00"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[has_bytes]) as runtime:
            await (await runtime.start(has_bytes, id="b")).result()
        await host.close()

    asyncio.run(fill())
    assert json.loads(run("show", path, "b", "--json").stdout)["result"] == {"base64": "/wA="}


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


@pytest.mark.parametrize("how", ["itself", "a link to it", "another store"])
def test_an_export_never_replaces_a_store(how: str, store: Path, tmp_path: Path) -> None:
    """A slip of the hand in the order of the arguments would cost every run in it."""
    target = tmp_path / "target"
    if how == "itself":
        target = store
    elif how == "a link to it":
        target.symlink_to(store)
    else:
        target.write_bytes(store.read_bytes())
    before = target.read_bytes()
    for options in ((), ("--handoff",)):
        said = run("export", store, "exe_1", target, *options, code=2).stderr
        assert "is a store, and its runs would be lost" in said
    assert target.read_bytes() == before
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None


def test_an_export_goes_through_links_and_into_pipes_and_spares_what_lies_beside(store: Path, tmp_path: Path) -> None:
    """What is no file, such as /dev/stdout, is written into and not replaced; a link stays one."""
    run("export", store, "exe_1", tmp_path / "plain.alk")
    bundle = (tmp_path / "plain.alk").read_bytes()
    (tmp_path / "link.alk").symlink_to(tmp_path / "behind.alk")
    (tmp_path / "link.alk.part").write_bytes(b"somebody's")
    run("export", store, "exe_1", tmp_path / "link.alk")
    assert (tmp_path / "link.alk").is_symlink()
    assert (tmp_path / "behind.alk").read_bytes() == bundle
    assert (tmp_path / "link.alk.part").read_bytes() == b"somebody's"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(pipe.read_bytes)
        assert run("export", store, "exe_1", pipe).stdout == ""
        assert reading.result(20) == bundle
    assert pipe.is_fifo()


def test_an_export_into_what_is_no_file_leaves_it_what_it_is(store: Path, tmp_path: Path) -> None:
    """Also where something waits in it to be read: that is no bundle's place in a directory."""
    run("export", store, "exe_1", tmp_path / "plain.alk")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fd, b"somebody's ")
        run("export", store, "exe_1", pipe)
        assert pipe.is_fifo()
        assert os.read(fd, 65_536) == b"somebody's " + (tmp_path / "plain.alk").read_bytes()
    finally:
        os.close(fd)


def test_a_hand_over_to_a_file_that_can_not_be_made_costs_nothing(store: Path, tmp_path: Path) -> None:
    """It is found out before the run is stopped here for good."""
    run("export", store, "exe_1", tmp_path / ("x" * 250), "--handoff", code=2)
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None


def test_a_file_that_is_no_bundle_is_read_up_to_what_one_may_have(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless device is refused as too large, by every command that reads one."""
    monkeypatch.setattr("alkaline_hosts._cli.files.MAX_BUNDLE_BYTES", 1_000)
    for arguments in (["import", tmp_path / "new", "/dev/zero"], ["diff", "/dev/zero", "/dev/zero"]):
        if Path("/dev/zero").exists():
            assert "error: " in run(*arguments, code=2).stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("spelled", ["./{name}", "file:{name}", "link"])
def test_a_run_is_not_moved_into_its_own_store_however_that_is_spelled(
    spelled: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, before anything is opened twice."""
    monkeypatch.chdir(store.parent)
    Path("link").symlink_to(store.name)
    for verb in ("sync", "handover"):
        said = run(verb, store, "exe_1", spelled.format(name=store.name), code=2).stderr
        assert "source and target are the same store" in said


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
        ["list", ""],
        ["show", "", "exe_1"],
        ["serve", "x", "--grace", "nan"],
        ["serve", "x", "--grace", "inf"],
        ["serve", "x", "--grace", "-1"],
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
        ("raise GeneratorExit", "subject", "GeneratorExit"),
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


def test_schedules_are_made_changed_and_looked_at(store: Path) -> None:
    """Each verb of a schedule, on a store beside its runs; what is wrong is one line."""
    assert "no schedules" in run("schedules", "list", store).stdout
    made = json.loads(
        run("schedules", "create", store, "nightly", "research", "--cron", "30 3 * * *", "--zone", "Europe/Riga",
            "--input", '"news"', "--json").stdout
    )  # fmt: skip
    assert (made["workflow"], made["when"], made["input"]) == ("research", "30 3 * * * Europe/Riga", "news")
    run("schedules", "create", store, "often", "research", "--every", 60, "--overlap", "buffer", "--max-runs", 5)
    lines = run("schedules", "list", store).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "nightly", "often"]
    assert "more: --after nightly" in run("schedules", "list", store, "--limit", 1).output
    assert "paused" in run("schedules", "pause", store, "often").stdout
    assert "paused" in run("schedules", "show", store, "often").stdout
    run("schedules", "resume", store, "often")
    assert "often@now:k" in run("schedules", "trigger", store, "often", "--dedupe", "k").stdout
    run("schedules", "backfill", store, "often", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+00:00")
    shown = json.loads(run("schedules", "show", store, "often", "--json").stdout)
    assert (shown["asked"], len(shown["filling"]), shown["status"]) == (["often@now:k"], 1, "active")
    assert "ended" in run("schedules", "end", store, "often").stdout
    run("schedules", "delete", store, "often")
    assert "often" not in run("schedules", "list", store).stdout
    run("schedules", "show", store, "often", code=4)
    run("schedules", "pause", store, "often", code=4)
    run("schedules", "create", store, "nightly", "research", "--every", 60, code=3)
    run("schedules", "create", store, "nightly", "research", "--every", 60, "--replace")
    for wrong in (["--every", 60, "--cron", "* * * * *"], [], ["--cron", "nonsense"], ["--every", 0],
                  ["--every", 60, "--ends-at", "soon"], ["--every", 60, "--input", "{"]):  # fmt: skip
        run("schedules", "create", store, "x", "research", *wrong, code=2)
    run("schedules", "show", "http://127.0.0.1:1", "often", code=2)


def test_a_board_is_looked_at_and_changed(store: Path) -> None:
    """Each verb of a task, on a store beside its runs; what can't be done in its state is one line."""
    assert "no tasks" in run("board", "view", store, "work").output
    run("board", "create", store, "work", "find it", "--id", "a", "--body", '{"q": 1}', "--priority", 3)
    run("board", "create", store, "work", "use it", "--id", "b", "--parent", "a", "--assignee", "me", "--key", "k")
    assert json.loads(run("board", "create", store, "work", "again", "--key", "k", "--json").stdout)["id"] == "b"
    run("board", "create", store, "work", "maybe", "--id", "c", "--triage")
    assert run("board", "view", store, "work").stdout.splitlines() == [
        "triage (1)", "  c maybe", "todo (1)", "  b (me) use it", "ready (1)", "  a find it P+3",
    ]  # fmt: skip
    assert "  [todo] b (me) use it" in run("board", "view", store, "work", "--graph").stdout
    run("board", "create", store, "other", "tell of it", "--id", "t", "--parent", "work/b")
    assert run("board", "view", store, "other", "--graph").stdout.splitlines() == [
        "[todo] work/b (me) use it",
        "  [todo] t tell of it",
    ]
    run("board", "link", store, "work", "a", "other/t", code=3)
    assert "more: --after a" in run("board", "list", store, "work", "--limit", 1).output
    assert "[todo] b" in run("board", "list", store, "work", "--state", "todo", "--assignee", "me").stdout
    for verb, *words, state in (
        ("comment", "c", "hm", "triage"), ("accept", "c", "ready"), ("block", "c", "wait", "blocked"),
        ("unblock", "c", "go on", "ready"), ("assign", "c", "you", "ready"), ("link", "c", "a", "todo"),
        ("unlink", "c", "a", "ready"), ("top-up", "c", "5", "ready"), ("cancel", "c", "cancelled"),
        ("reopen", "c", "ready"), ("cancel", "c", "cancelled"), ("archive", "c", "archived"),
    ):  # fmt: skip
        assert run("board", verb, store, "work", *words).stdout.startswith(f"[{state}] c"), verb
    shown = json.loads(run("board", "show", store, "work", "c", "--json").stdout)
    assert [each["text"] for each in shown["said"]] == ["hm", "go on"]
    assert "alkaline: hm" in run("board", "show", store, "work", "c").stdout
    assert "purged" in run("board", "purge", store, "work", "c").stdout
    kinds = [event["kind"] for event in json.loads(run("board", "events", store, "work", "--json").stdout)]
    assert kinds[:3] == ["create", "link", "create"]
    assert "purge c" in run("board", "events", store, "work", "--after", len(kinds) - 1).stdout
    run("board", "approve", store, "work", "a", code=3)
    run("board", "request-changes", store, "work", "a", "x", code=3)
    run("board", "reclaim", store, "work", "a", code=3)
    run("board", "link", store, "work", "a", "b", code=3)
    run("board", "show", store, "work", "c", code=4)
    run("board", "top-up", store, "work", "a", "many", code=2)
    run("board", "create", store, "work", "x", "--body", "{", code=2)
    run("board", "show", "http://127.0.0.1:1", "work", "a", code=2)


def test_what_was_learned_is_shown(store: Path) -> None:
    """Of each step, and that there is nothing yet."""
    assert "nothing was learned" in run("learned", store).output

    async def learn() -> None:
        host = FileHost(store)
        async with Runtime(host) as runtime:
            await Memory(runtime.store).save([Summary("ask", 8.5, 1_250.0, [1_250], 0)])
        await host.close()

    asyncio.run(learn())
    assert run("learned", store).stdout.startswith("ask: 8.5 at once, 1.25 s each, 1970-01-01")
    assert json.loads(run("learned", store, "--json").stdout)[0]["durations"] == [1_250]


def test_a_named_budget_is_set_looked_at_and_topped_up(store: Path) -> None:
    """What is not there is not found, and what is no amount is refused."""
    run("budget", "show", store, "team", code=4)
    run("budget", "top-up", store, "team", "--tokens", 5, code=4)
    assert "team: 100 tokens, 2.5 usd" in run("budget", "set", store, "team", "--tokens", 100, "--usd", 2.5).stdout
    run("budget", "top-up", store, "team", "--tokens", 50, "--key", "order 7")
    assert "150 tokens" in run("budget", "top-up", store, "team", "--tokens", 50, "--key", "order 7").stdout
    shown = json.loads(run("budget", "show", store, "team", "--json").stdout)
    assert (shown["limits"], shown["spent"]) == ([150, 2_500_000], [0, 0])
    run("budget", "set", store, "team", "--tokens", -1, code=2)
    run("budget", "set", store, "team", "--warn", 2, code=2)
    run("budget", "show", "http://127.0.0.1:1", "team", code=2)


def test_runs_that_ended_are_purged_and_rules_are_kept(store: Path, tmp_path: Path) -> None:
    """A dry run first, an archive, and a rule; a store that is not there is not created."""
    run("purge", tmp_path / "nothing", "--older-than", "0s", code=4)
    run("purge", store, "--older-than", "5", code=2)
    run("purge", store, code=2)
    run("purge", "http://127.0.0.1:1", "--older-than", "1d", "--archive", tmp_path / "old", code=2)
    assert "0 would go" in run("purge", store, "--older-than", "1d", "--dry-run").stdout
    assert run("purge", store, "--older-than", "0s", "--dry-run").stdout.splitlines()[0] == "exe_2"
    archive = tmp_path / "old.alkaline"
    gone = json.loads(run("purge", store, "--older-than", "0s", "--archive", archive, "--json").stdout)
    assert gone == {"runs": ["exe_2"], "kept": {}, "dry_run": False}
    run("show", store, "exe_2", code=4)
    assert "completed" in run("show", archive, "exe_2").stdout
    run("retention", "list", tmp_path / "nothing", code=4)
    assert "no rules" in run("retention", "list", store).stdout
    said = run("retention", "set", store, "old", "--older-than", "30d", "--status", "failed", "--every", "90m").stdout
    assert "old: failed runs that ended 30d ago, every 90m; 0 are purged" in said
    assert json.loads(run("retention", "list", store, "--json").stdout)[0]["older_than"] == 30 * 86_400_000
    run("retention", "delete", store, "new", code=4)
    run("retention", "delete", store, "old")
    assert "no rules" in run("retention", "list", store).stdout
    run("retention", "list", "http://127.0.0.1:1", code=2)


def test_a_run_that_waits_for_its_budget_is_topped_up(tmp_path: Path) -> None:
    """By the same word as a named budget, of the run itself; what is no amount is bad usage."""
    path = tmp_path / "agent.alkaline"

    @workflow(name="agent", budget=Budget(tokens=5, on_exceeded="pause"))
    async def agent(ctx: Context) -> Any:
        return await ctx.step("call", lambda: "called", cost=9)

    async def go_on() -> str | None:
        host = FileHost(path)
        async with Runtime(host, workflows=[agent]) as runtime:
            run = await runtime.start(agent, id="a", on_conflict="join")
            await runtime.run_due()
            await run.settle()
            status = run.status
        await host.close()
        return status

    assert asyncio.run(go_on()) == "suspended"
    assert "alkaline.top_up" in run("show", path, "a").stdout
    run("top-up", path, "a", code=2)
    run("top-up", path, "a", "--tokens", -1, code=2)
    run("top-up", path, "b", "--tokens", 5, code=4)
    for _ in range(2):
        run("top-up", path, "a", "--tokens", 4, "--key", "order 7")
    assert asyncio.run(go_on()) == "completed"
