"""The command line at its edges: wrong arguments, types that it has no class for, narrow terminals, serve's log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from alkaline_edge import Codec, Context, ExecutionRecord, Runtime, workflow
from alkaline_hosts._cli import looking
from alkaline_hosts._cli import output as _output
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts.file import FileHost

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-these-tests"


@dataclass
class Job:
    n: int


HELD = """
from alkaline_edge import workflow

@workflow
async def held(ctx, how):
    await ctx.step("uno", lambda: 1)
"""


@workflow
async def flow(ctx: Context, job: Any) -> Any:
    await ctx.wait_for_signal("go")
    return job


def codec() -> Codec:
    made = Codec()
    made.register(Job, "Job", asdict, lambda fields: Job(**fields))
    return made


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args], env={"ALKALINE_TOKEN": TOKEN})
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with a run whose input is of a class that the command line does not have."""
    path = tmp_path / "s.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[flow], codec=codec()) as runtime:
            await (await runtime.start(flow, [Job(1), {"a": Job(2)}], id="r")).settle()
        await host.close()

    asyncio.run(fill())
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["signal", "STORE", "r", "n", "[" * 2_000],
        ["signal", "STORE", "r", "n", "[" * 3_000 + "]" * 3_000],
        ["signal", "STORE", "r", "n", "[" * 100 + "]" * 100],
        ["signal", "STORE", "r", "n", "9" * 5_000],
        ["signal", "STORE", "r", "n", "{bad"],
        ["signal", "STORE", "r", "n", '"\\ud800"'],
        ["signal", "STORE", "r", "n\udcff", "1"],
        ["signal", "STORE", "r", "n", "1", "--dedupe", "\udcff"],
        ["signal", "STORE", "r", "n", "1", "--dedupe", ""],
        ["cancel", "STORE", "r", "--reason", "\udcff"],
        ["list", "STORE", "--attribute", "a=\udcff"],
        ["list", "STORE", "--attribute", "\udcff=a"],
        ["list", "STORE", "--attribute", "a=" + "9" * 4_000],
        ["list", "STORE", "--attribute", "a"],
        ["list", "STORE", "--workflow", "\udcff"],
        ["list", "STORE", "--after", "\udcff"],
        ["serve", "STORE", "--bind", "127.0.0.1:99999"],
        ["serve", "STORE", "--bind", "127.0.0.1:\u00b2"],
        ["serve", "STORE", "--bind", "127.0.0.1:-1"],
        ["serve", "STORE", "--bind", "8000"],
        ["serve", "STORE", "--bind", "256.0.0.1:0"],
        ["serve", "STORE", "--codec", "json:loads"],
        ["serve", "STORE", "--log-level", "loud"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("ascii", "replace").decode(),
)
def test_an_argument_that_cant_be_right_is_one_line(store: Path, arguments: list[str]) -> None:
    """Exit code 2 and a reason, also as JSON, never a traceback; the store is left as it was."""
    before = store.read_bytes()
    given = [str(store) if word == "STORE" else word for word in arguments]
    said = run(*given, code=2).stderr
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert said.isprintable() or said[:-1].isprintable()
    assert json.loads(run(*given, "--json", code=2).stderr)["error"] == "ERR_INVALID_INPUT"
    assert store.read_bytes() == before


def test_runs_with_types_of_their_own_are_shown_and_moved_without_the_classes(store: Path, tmp_path: Path) -> None:
    """List, show, events, export, import, diff, sync, handover, signal: the bytes need no class, and stay the same."""
    bundle, other, third = tmp_path / "r.alk", tmp_path / "t.alkaline", tmp_path / "u.alkaline"
    run("list", store)
    run("show", store, "r")
    assert "<Job>" in run("events", store, "r").stdout
    run("export", store, "r", bundle)
    run("import", other, bundle)
    run("diff", bundle, bundle)
    run("diff", bundle, "r", "--store", other)
    run("sync", store, "r", third)
    run("signal", store, "r", "note", "1")
    run("handover", store, "r", tmp_path / "v.alkaline")

    async def goes_on() -> Any:
        host = FileHost(tmp_path / "v.alkaline")
        try:
            async with Runtime(host, workflows=[flow], codec=codec()) as runtime:
                await runtime.signal("r", "go")
                return await runtime.result("r", 10)
        finally:
            await host.close()

    assert asyncio.run(goes_on()) == [Job(1), {"a": Job(2)}]


def test_show_names_what_nobody_has_taken_up(store: Path) -> None:
    """A request that waits for an owner, as it does for as long as the run is stuck elsewhere."""
    assert "not taken up" not in run("show", store, "r").stdout
    run("signal", store, "r", "go", "1")
    said = run("show", store, "r").stdout
    assert "not taken up" in said
    assert "signal go" in said
    assert json.loads(run("show", store, "r", "--json").stdout)["requests"] == ["signal go"]


def test_show_says_what_holds_a_run_up_and_check_at_which_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A divergence writes nothing, so another process says that nobody goes on, and how to find out why."""

    @workflow(name="held")
    async def before(ctx: Context, how: str) -> None:
        await ctx.step("one", lambda: 1)
        if how == "timer":
            await ctx.sleep(0.05)
        await ctx.step("two", asyncio.sleep, 60)

    path = tmp_path / "held.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[before]) as runtime:
            for how in ("timer", "step"):
                await runtime.start("held", how, id=how)
            await runtime.settle("timer")
        await host.close()

    asyncio.run(fill())
    monkeypatch.setattr(looking, "LATE_MS", -1_000)
    for id, why in (("timer", "it is due since"), ("step", "nobody drives it since")):
        said = run("show", path, id).stdout
        assert why in said
        assert "alkaline check" in said
        assert why in json.loads(run("show", path, id, "--json").stdout)["held_up"]
    (tmp_path / "held.py").write_text(HELD)
    monkeypatch.chdir(tmp_path)
    said = run("check", "timer", "--store", path, "--workflows", "held", code=1).stdout
    assert "diverged" in said
    assert "'uno'" in said
    assert "--store" in run("check", "timer", "--workflows", "held", code=2).stderr


@pytest.mark.parametrize("seed", range(5))
def test_a_forged_answer_of_a_server_is_told_as_such(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the place of whatever: one line, and no word to the user that it was their fault."""
    draw = random.Random(seed)
    record: dict[str, Any] = {
        "id": "a", "workflow": "w", "version": 1, "status": "running", "attempt": 0, "cursor_length": 1, "depth": 0,
        "spent": {"tokens": 0, "usd": 0.0}, "waiting": [], "wake_at": None, "parent": None, "attributes": {"t": "x"},
        "created_at": 1, "updated_at": 2, "result": None, "failure": None, "generation": 0, "moved_to": None,
        "stuck": None,
    }  # fmt: skip
    event: dict[str, Any] = {"n": 0, "commit": 0, "at": 1, "kind": "SignalReceived", "entry": "e", "name": "n"}
    event["payload"] = None
    odd: list[Any] = [None, True, -1, 2**70, float("nan"), "\x1b[31m", "", [], {}, [{}], {"a": [1]}, {"code": 1}]
    for verb, whole, answer in (("show", record, "status"), ("list", record, "runs"), ("events", event, "events")):
        for name in whole:
            forged = {**whole, name: draw.choice(odd)}
            if draw.random() < 0.2:
                del forged[name]
            given = {"status": forged, "runs": {"runs": [forged], "after": None}, "events": [forged]}[answer]
            monkeypatch.setattr(looking, "asking", lambda *_, given=given: given)
            arguments = [verb, "http://127.0.0.1:1", *(["a"] if verb != "list" else [])]
            for more in ([], ["--json"]):
                result = CliRunner().invoke(alkaline, [*arguments, *more])
                assert result.exit_code in (0, 3), (name, forged, result.output, result.exception)
                assert "\x1b" not in result.output
                if result.exit_code == 3:
                    assert "the server answered with what is not" in result.stderr, (name, forged, result.stderr)


@pytest.mark.parametrize("seed", range(3))
def test_a_list_in_a_narrow_terminal_has_a_line_a_run(
    seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 80 columns and others, whatever the names are: ids and times whole, the rest cut, nothing wrapped."""
    draw = random.Random(seed)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for width in (80, 81, 100, 109, 110, 132, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        records = [
            ExecutionRecord(
                draw.choice(["exe_0123456789abcdef", "a", "x" * draw.randint(1, 24)]), "0" * 16,
                draw.choice(["nightly", "w" * draw.randint(1, 60)]), draw.randint(1, 99),
                status=draw.choice(["suspended", "completed", "running"]), created_at=0, updated_at=1_790_000_000_000,
                waiting=["signal " + draw.choice(["go", "\u65e5\u672c" * 20, "x" * 90])] * draw.randint(0, 3),
            )
            for _ in range(6)
        ]  # fmt: skip
        _output.print_runs(records)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
        assert len(lines) == 7
        for line, record in zip(lines[1:], records, strict=True):
            assert line.split()[0] == record.id
            assert record.status in line
            assert "2026-09-21 14:13:20" in line
            assert cell_len(line) <= width


FLOWS = """
import logging
import sys
from dataclasses import asdict, dataclass
from alkaline_edge import Codec, Context, workflow

@dataclass
class City:
    name: str

codec = Codec()
codec.register(City, "City", asdict, lambda fields: City(**fields))

def look(name):
    logging.getLogger("flows").info("info from the step")
    return City(name)

@workflow
async def flow(ctx: Context, name: str) -> str:
    ctx.log("info", "line of ctx.log\\x1b[2J", n=1)
    if name == "poison":
        await ctx.sleep(0.01)
        await ctx.step("exit", sys.exit, 3)
    city = await ctx.step("STEP", look, name)
    await ctx.wait_for_signal("go")
    return {}[city.name]
"""


class Serving:
    """``alkaline serve`` in a process, its log in a file."""

    def __init__(self, folder: Path, step: str, flows: str = FLOWS, *options: str) -> None:
        (folder / "flows.py").write_text(flows.replace("STEP", step))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = folder / f"{step}.log"
        env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}",
            "ALKALINE_TOKEN": TOKEN,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        program = "from alkaline_hosts.cli import main; main()"
        arguments = ["serve", "s.alkaline", "--workflows", "flows:flow", "--codec", "flows:codec", *options]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments, "--bind", f"127.0.0.1:{self.port}"],
                cwd=folder, env=env, stdout=out, stderr=out,
            )  # fmt: skip

    def ask(self, path: str, data: bytes | None = None) -> Any:
        url, headers = f"http://127.0.0.1:{self.port}{path}", {"Authorization": f"Bearer {TOKEN}"}
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def until(self, path: str, wanted: Any) -> Any:
        deadline = time.monotonic() + 20
        while not wanted(found := self.ask(path)):
            assert time.monotonic() < deadline, (found, self.log.read_text())
            time.sleep(0.05)
        return found

    def stop(self, by: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(by)
        assert self.process.wait(20) == 0, self.log.read_text()
        return self.log.read_text()


def test_serve_is_watched_without_a_token(tmp_path: Path) -> None:
    """It says that it lives and is ready, shows metrics where that was asked for, and logs JSON, a line an entry."""
    server = Serving(tmp_path, "first", FLOWS, "--metrics", "--log-format", "json")
    try:
        server.ask("/runs?settle=1", b'{"workflow": "flow", "id": "a", "input": "Oslo"}')
        shown = {}
        for path in ("/healthz", "/readyz", "/metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
                shown[path] = answer.read().decode()
        assert (shown["/healthz"], shown["/readyz"]) == ("ok\n", "ok\n")
        assert 'alkaline_runs_started_total{workflow="flow"} 1.0' in shown["/metrics"]
    finally:
        log = server.stop()
    entries = [json.loads(line) for line in log.splitlines()]
    assert {"time", "level", "logger", "message"} <= entries[0].keys()
    (line,) = [entry for entry in entries if "line of ctx.log" in entry["message"]]
    assert (line["run"], line["fields"]) == ("a", {"n": 1})


def test_serve_says_what_it_does(tmp_path: Path) -> None:
    """Where it listens, what handlers and steps log, failed requests, where a run raised, once that one is stuck."""
    server = Serving(tmp_path, "first")
    try:
        assert (
            server.ask("/runs?settle=1", b'{"workflow": "flow", "id": "a", "input": "Oslo"}')["status"] == "suspended"
        )
        server.ask("/runs?settle=1", b'{"workflow": "flow", "id": "b", "input": "Bergen"}')
        server.ask("/runs", b'{"workflow": "flow", "id": "p", "input": "poison"}')
        assert server.ask("/runs?owner=me") == 400
        server.ask("/runs/b/signals/go", b"null")
        server.until("/runs/b", lambda record: record["status"] == "failed")
        record = server.until("/runs/p", lambda record: record["status"] == "failed")
        assert record["failure"]["type"] == "SystemExit"  # no step ends the server, and with it every other run
    finally:
        log = server.stop()
    assert f"listening on http://127.0.0.1:{server.port} for s.alkaline; runs flow v1" in log
    for said in ("line of ctx.log\\x1b[2J n=1", "info from the step", "GET /runs 400: the query takes", "run b failed",
                 "return {}[city.name]", "KeyError: 'Bergen'"):  # fmt: skip
        assert said in log, log
    assert "\x1b" not in log
    server = Serving(tmp_path, "renamed")
    try:
        server.ask("/runs/a/signals/go", b"null")
        record = server.until("/runs/a", lambda record: record["stuck"])
        assert record["stuck"]["code"] == "ERR_DETERMINISM"
        assert "at event 0" in record["stuck"]["message"]
        assert server.ask("/runs?status=suspended")["runs"][0]["stuck"] == record["stuck"]
    finally:
        log = server.stop()
    assert log.count("run a is stuck: ERR_DETERMINISM") == 1
    assert "step 'first'" in log


WAITING = """
import asyncio
import contextlib
from alkaline_edge import Codec, Context, workflow

codec = Codec()

@workflow
async def flow(ctx: Context, kind: str) -> None:
    if kind == "step":
        await ctx.step("slow", asyncio.sleep, 3_600)
    ctx.on_update("slow", lambda _: ctx.sleep(3_600))
    await ctx.wait_for_signal("go")
"""


def test_a_stop_answers_who_waits_and_cuts_nobody_off(tmp_path: Path) -> None:
    """On SIGTERM: who waits for a run has its record, who waits for a reply or still sends 503, all without a trace."""
    server = Serving(tmp_path, "first", WAITING, "--grace", "1")
    try:
        server.ask("/runs?settle=1", b'{"workflow": "flow", "id": "a", "input": "update"}')
        with contextlib.ExitStack() as stack:
            waiting: list[socket.socket] = []
            for path, body, length in (
                ("/runs?settle=1", b'{"workflow": "flow", "id": "w", "input": "step"}', 0),
                ("/runs/a/updates/slow", b"1", 0),
                ("/runs/a/signals/go", b'"half of a te', 500),
                ("/runs/a/signals/go", b"", 500),
            ):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                client.sendall(f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body)
                waiting.append(client)
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            client.sendall(f"GET /runs/a/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
            while b"Started" not in (begun := client.recv(65_536)):
                assert begun, server.log.read_text()
            server.until("/runs/w", lambda record: record["status"] == "running")
            server.until("/runs/a/events", lambda events: any(event["kind"] == "UpdateReceived" for event in events))
            log = server.stop()
            answers = [client.recv(65_536).decode() for client in waiting]
    finally:
        server.stop()
    assert [answer.split(" ", 2)[1] for answer in answers] == ["201", "503", "503", "503"]
    assert '"status": "running"' in answers[0]
    assert "it is recorded" in answers[1]
    assert "is being stopped" in answers[2]
    assert "Traceback" not in log, log
    assert "ERROR" not in log


def test_what_is_wrong_with_a_file_names_it_as_it_was_given(store: Path, tmp_path: Path) -> None:
    """A bundle that is none, a directory, one that is not there: each is told by its name, and nothing is made."""
    junk = tmp_path / "junk.alk"
    junk.write_bytes(b"junk")
    assert f"{junk} can't be imported: " in run("import", store, junk, code=2).stderr
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for target, why in ((tmp_path / "folder", "is a directory"), (tmp_path / "no" / "x.alk", "is no directory")):
        said = run("export", store, "r", target, code=2).stderr
        assert f"{target} can't be written" in said
        assert why in said
    assert sorted(tmp_path.iterdir()) == before
    assert "alkaline list shows" in run("show", store, "nobody", code=4).stderr


def test_a_payload_is_json_as_every_other_door_takes_it(store: Path) -> None:
    """No number that no float holds, no name twice: each with its reason. NaN is a value like others."""
    for payload, why in (("[1e999]", "1e999 is beyond"), ('{"a": 1, "a": 2}', "stands twice")):
        assert why in run("signal", store, "r", "go", payload, code=2).stderr
    run("signal", store, "r", "go", "[NaN, -Infinity]")
