"""The commands that set runs going, list them by time, and listen to them: on a file, and on a server's URL."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Context, ExecutionRecord, Runtime, workflow
from alkaline_edge.board import Board
from alkaline_edge.triggers import Every, Triggers
from alkaline_hosts._cli import boards, looking, operating, schedules
from alkaline_hosts._cli import output as _output
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts._http.runs import RunsApi
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost

FLOWS = """
from alkaline_edge import Context, workflow

@workflow
async def greet(ctx: Context, name: str = "you") -> str:
    seen = []
    ctx.on_query("seen", lambda *args: [seen, *args])
    ctx.on_update("note", lambda note: seen.append(note) or len(seen))
    first = await ctx.step("hello", lambda: f"hello {name}")
    if name == "nobody":
        raise ValueError("there is nobody")
    return first + await ctx.wait_for_signal("go")
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    yield
    sys.modules.pop("flows", None)


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


def test_a_run_is_started_asked_told_forked_and_tried_again() -> None:
    """With its code it runs here until it waits; without, it is recorded for whoever has it."""
    code = ("--workflows", "flows")
    assert "suspended, waits for signal go" in run("start", "s", "greet", '"Ada"', "--id", "a", *code).stdout
    assert json.loads(run("query", "s", "a", "seen", "[1]", *code).stdout) == [[], 1]
    assert json.loads(run("update", "--db", "s", "a", "note", '"x"', *code).stdout) == 1
    assert json.loads(run("query", "s", "a", "seen", *code).stdout) == [["x"]]
    made = json.loads(run("fork", "s", "a", "2", "--resume", "--json").stdout)["run"]
    assert json.loads(run("show", "s", made, "--json").stdout)["status"] in ("suspended", "paused")
    later = json.loads(run("start", "s", "greet", "--id", "b", "--attribute", "team=a", "--json").stdout)
    assert (later["status"], later["waiting"]) == ("suspended", ["timer start_at"])
    failed = run("start", "s", "greet", '"nobody"', "--id", "c", *code).stdout
    assert "failed, ValueError: there is nobody" in failed
    assert "to be tried again" in run("retry", "s", "c").stdout
    assert "only one that has failed" in run("retry", "s", "c", code=3).stderr


def test_what_is_wrong_is_said_before_anything_is_written() -> None:
    """A store without the code, input that is no JSON, arguments that are no list, a number that is none."""
    assert "--workflows" in run("update", "s", "a", "note", code=2).stderr
    assert "--workflows" in run("query", "s", "a", "note", code=2).stderr
    assert "quote a text" in run("start", "s", "greet", "Ada", code=2).stderr
    assert "JSON list" in run("query", "s", "a", "seen", "1", "--workflows", "flows", code=2).stderr
    assert "COMMITS" in run("fork", "s", "a", "two", code=2).stderr
    assert "its own code" in run("start", "http://127.0.0.1:9", "greet", "--workflows", "flows", code=2).stderr
    assert "--since" in run("list", "s", "--since", "yesterday", code=2).stderr
    assert "--by id" in run("list", "s", "--after", "r/a", code=2).stderr
    assert "by time" in run("list", "s", "--by", "id", "--roots", code=2).stderr
    assert not Path("s").exists()


@workflow
async def parent(ctx: Context, n: int) -> Any:
    return await ctx.child("leaf", n)


@workflow
async def leaf(ctx: Context, n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return n


@pytest.fixture
def store() -> Path:
    """Runs of three parents and their children, a minute apart; the last one failed."""
    path = Path("runs.alkaline").absolute()

    async def fill() -> None:
        host = FileHost(path)
        now = host.now_ms()
        for n in range(3):
            host.now_ms = lambda n=n: now + (n - 3) * 3_600_000  # type: ignore[method-assign]
            async with Runtime(host, workflows=[parent, leaf]) as runtime:
                await (await runtime.start("parent", n, id=f"p{n}")).settle()
        await host.close()

    asyncio.run(fill())
    return path


def test_a_list_has_the_newest_first_roots_and_counts(store: Path) -> None:
    """By id it has pages, as before."""
    ids = [line.split()[0] for line in run("list", store).stdout.splitlines()[1:]]
    assert ids == ["p2", "p2~1", "p1", "p1~1", "p0", "p0~1"]
    roots = json.loads(run("list", store, "--roots", "--json").stdout)
    assert [each["id"] for each in roots["runs"]] == ["p2", "p1", "p0"]
    assert roots["counts"] == {"completed": 2, "failed": 1}
    assert len(json.loads(run("list", store, "--since", "150m", "--json").stdout)["runs"]) == 4
    noon = (datetime.now(UTC) - timedelta(minutes=90)).isoformat()
    assert len(json.loads(run("list", store, "--since", noon, "--by", "created", "--json").stdout)["runs"]) == 2
    assert "2 of 6" in run("list", store, "--limit", 2).stdout
    first = json.loads(run("list", store, "--by", "id", "--limit", 4, "--json").stdout)
    rest = json.loads(run("list", store, "--by", "id", "--after", first["after"], "--json").stdout)
    assert [each["id"] for each in first["runs"] + rest["runs"]] == sorted(ids)
    shown = run("top", store).stdout
    assert "6 runs: 4 completed, 2 failed" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["p2", "p2~1"]
    assert json.loads(run("top", store, "--json").stdout)["counts"] == {"completed": 4, "failed": 2}


@pytest.mark.parametrize("width", [40, 80])
def test_a_list_has_a_line_a_run_however_long_an_id_is(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longest id that there is, cut in a terminal; the status and the time stay."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    record = ExecutionRecord("x" * 160, "0" * 12, "w" * 90, 1, "suspended", 0, 1_790_000_000_000, waiting=["signal go"])
    _output.print_runs([record])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    if width == 80:
        assert "suspended" in lines[1]
        assert "14:13:20" in lines[1]


def test_a_run_is_followed_to_its_end(store: Path) -> None:
    """A line an event, from a place on too; the exit code says whether it failed."""
    lines = run("tail", store, "p0").stdout.splitlines()
    assert "run started" in lines[0]
    assert "run completed" in lines[-1]
    events = [json.loads(line) for line in run("tail", store, "p2", "--json", code=1).stdout.splitlines()]
    assert [each["event"] for each in events] == ["Started", "ChildStarted", "ChildFinished", "Failed"]
    rest = run("tail", store, "p2", "--after", events[1]["place"], "--json", code=1).stdout.splitlines()
    assert [json.loads(line)["event"] for line in rest] == ["ChildFinished", "Failed"]
    assert "no run" in run("tail", store, "absent", code=4).stderr


def test_a_run_is_followed_while_another_process_drives_it(tmp_path: Path) -> None:
    """A file that is open for writing elsewhere is read beside it."""
    path, heard = tmp_path / "live.alkaline", list[str]()

    async def drive() -> None:
        host = FileHost(path)

        @workflow
        async def slow(ctx: Context) -> None:
            for _ in range(3):
                await ctx.step("work", asyncio.sleep, 0.03)

        async with Runtime(host, workflows=[slow]) as runtime:
            handle = await runtime.start("slow", id="a")
            code = [sys.executable, "-m", "alkaline_hosts.cli", "tail", str(path), "a", "--every", "0.05"]
            process = await asyncio.create_subprocess_exec(*code, stdout=subprocess.PIPE)
            await handle.result()
            out, _ = await process.communicate()
            assert process.returncode == 0
            heard.extend(out.decode().splitlines())
        await host.close()

    asyncio.run(drive())
    assert len(heard) == 5
    assert "run completed" in heard[-1]


class Server:
    """A server's verbs without a wire, where the commands ask one."""

    def __init__(self, api: RunsApi) -> None:
        self.api = api

    async def __aenter__(self) -> RunsApi:
        return self.api

    async def __aexit__(self, *_: object) -> None: ...


def test_the_same_commands_ask_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes to the verb of its name, and shows what that answers."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    from flows import greet  # type: ignore[import-not-found]  # written by the fixture

    url, loop = "http://127.0.0.1:9", asyncio.new_event_loop()
    runtime = loop.run_until_complete(_opened(greet))
    api = RunsApi(runtime)

    def asking(_: Any, ask: Any) -> Any:
        return loop.run_until_complete(ask(api))

    for module in (operating, looking, boards, schedules):
        monkeypatch.setattr(module, "asking", asking)
    monkeypatch.setattr("alkaline_hosts._cli.moving.asking", asking)
    monkeypatch.setattr(operating, "remote", lambda *_: Server(api))
    monkeypatch.setattr(operating.asyncio, "run", loop.run_until_complete)
    assert "a: " in run("start", url, "greet", '"Ada"', "--id", "a").stdout
    loop.run_until_complete(runtime.settle("a"))
    assert json.loads(run("query", url, "a", "seen", "[2]").stdout) == [[], 2]
    assert json.loads(run("update", url, "a", "note", '"x"').stdout) == 1
    assert "forked of a at 1" in run("fork", url, "a", "1").stdout
    assert json.loads(run("list", url, "--json", "--roots").stdout)["counts"] == {"suspended": 1, "paused": 1}
    run("signal", url, "a", "go", '"!"')
    loop.run_until_complete(runtime.settle("a"))
    assert "run completed" in run("tail", url, "a").stdout.splitlines()[-1]
    run("start", url, "greet", '"nobody"', "--id", "b")
    loop.run_until_complete(runtime.settle("b"))
    assert "run failed" in run("tail", url, "b", code=1).stdout
    assert "fails again at once" in run("retry", url, "b", code=3).stderr
    loop.run_until_complete(Triggers(runtime).create("often", greet, Every(60)))
    loop.run_until_complete(Board(runtime, "work").create("look it up", id="t"))
    assert "often" in run("schedules", "list", url).stdout
    assert "look it up" in run("board", "view", url, "work").stdout
    assert "look it up" in run("board", "list", url, "work", "--state", "ready").stdout
    loop.run_until_complete(runtime.close())
    loop.close()


async def _opened(flow: Any) -> Runtime:
    return Runtime(MemoryHost(), workflows=[flow])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    """What `completions` prints asks alkaline itself, which answers for the words so far."""
    assert "_ALKALINE_COMPLETE" in run("completions", shell).stdout
    asked = {"_ALKALINE_COMPLETE": f"{shell}_complete", "COMP_WORDS": "alkaline ret", "COMP_CWORD": "1"}
    if shell == "fish":
        asked["COMP_CWORD"] = "ret"
    said = CliRunner().invoke(alkaline, [], prog_name="alkaline", env=asked).stdout
    assert "retry" in said
    assert "retention" in said
