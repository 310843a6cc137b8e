"""``alkaline handover``, ``sync`` and ``serve``, between files and a real server process on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Runtime
from alkaline_edge.runtime.handing import Local
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts.file import FileHost

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-these-tests"
FLOWS = """
from alkaline_edge import workflow

@workflow
async def flow(ctx, n):
    done = [await ctx.step("one", lambda k=k: k) for k in range(n)]
    return [len(done), await ctx.wait_for_signal("go")]
"""


def run(*args: object, code: int = 0, **env: str | None) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args], env={"ALKALINE_STORE": None, **env})
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with a run that waits."""
    (tmp_path / "flows.py").write_text(FLOWS)
    names: dict[str, Any] = {}
    exec(FLOWS, names)
    path = tmp_path / "laptop.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host, workflows=[names["flow"]]) as runtime:
            await (await runtime.start("flow", 3, id="exe_1")).settle()
        await host.close()

    asyncio.run(fill())
    return path


@contextlib.contextmanager
def serving(store: Path, *options: str) -> Iterator[str]:
    """``alkaline serve`` in a process of its own; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = "from alkaline_hosts.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}", "ALKALINE_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", str(store), "--bind", f"127.0.0.1:{port}", *options],
        cwd=store.parent, env=env, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def test_the_verbs_of_a_run_are_asked_of_a_server(store: Path) -> None:
    """list, show, events, diff, check, signal, pause, resume, cancel and delete take a URL as they take a store.

    What they show is what they show of the store, and a refusal is the server's.
    """
    looks: list[list[object]] = [["list"], ["show", "exe_1"], ["events", "exe_1"]]
    here = {look[0]: run(look[0], store, *look[1:]).stdout for look in looks}
    with serving(store, "--workflows", "flows") as url:
        there = {look[0]: run(look[0], url, *look[1:], ALKALINE_TOKEN=TOKEN).stdout for look in looks}
        assert there["list"] == here["list"]
        assert there["events"] == here["events"]
        assert set(there["show"].splitlines()) <= set(here["show"].splitlines())
        listed = json.loads(run("list", url, "--json", "--workflow", "flow", ALKALINE_TOKEN=TOKEN).stdout)
        assert ([each["id"] for each in listed["runs"]], listed["after"]) == (["exe_1"], None)
        assert json.loads(run("show", url, "exe_1", "--json", ALKALINE_TOKEN=TOKEN).stdout)["held_up"] is None
        assert json.loads(run("events", url, "exe_1", "--json", ALKALINE_TOKEN=TOKEN).stdout) == json.loads(
            run("events", store, "exe_1", "--json").stdout
        )
        assert "the same" in run("diff", "exe_1", "exe_1", "--store", url, ALKALINE_TOKEN=TOKEN).stdout
        for verb in ("show", "events"):
            assert "no run" in run(verb, url, "absent", code=4, ALKALINE_TOKEN=TOKEN).stderr
        for verb in ("pause", "resume", "cancel"):
            run(verb, url, "exe_1", ALKALINE_TOKEN=TOKEN)
        run("signal", url, "absent", "go", code=4, ALKALINE_TOKEN=TOKEN)
        deadline = time.monotonic() + 20
        while "deleted" not in (done := CliRunner().invoke(
            alkaline, ["delete", url, "exe_1"], env={"ALKALINE_STORE": None, "ALKALINE_TOKEN": TOKEN}
        )).output:  # fmt: skip
            assert "cancel" in done.stderr
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run("resume", url, "exe_1", code=4, ALKALINE_TOKEN=TOKEN)


def test_a_run_moves_from_a_file_to_a_server_and_its_copy_back(store: Path, tmp_path: Path) -> None:
    """Sync sends the run once; hand-over lets it go on there; its end comes back as a copy and as a bundle."""
    with serving(tmp_path / "edge.alkaline", "--workflows", "flows") as url:
        first = json.loads(run("sync", store, "exe_1", url, "--json", ALKALINE_TOKEN=TOKEN).stdout)
        assert (first["commits"], first["sent"] > 0) == (4, True)
        again = json.loads(run("sync", store, "exe_1", url, "--json", ALKALINE_TARGET_TOKEN=TOKEN).stdout)
        assert again == first | {"sent": 0}
        for _ in range(2):
            said = run("handover", store, "exe_1", url, ALKALINE_TOKEN=TOKEN).stdout
            assert said == "exe_1: handed over, 4 commits; it goes on there (suspended)\n"
        assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"].startswith(url)
        import httpx

        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.post(f"{url}/runs/exe_1/signals/go", json=7, headers=headers).status_code == 202
        deadline = time.monotonic() + 20
        while httpx.get(f"{url}/runs/exe_1", headers=headers).json()["status"] != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run("sync", url, "exe_1", store, ALKALINE_TOKEN=TOKEN)
        record = json.loads(run("show", store, "exe_1", "--json").stdout)
        assert (record["status"], record["result"]) == ("completed", [3, 7])
        file = tmp_path / "whole.alk"
        run("export", url, "exe_1", file, ALKALINE_TOKEN=TOKEN)
        assert run("diff", file, "exe_1", "--store", store).exit_code == 0
        run("import", "--store", url, file, code=3, ALKALINE_TOKEN=TOKEN)


def test_secrets_come_from_the_environment_and_errors_are_one_line(store: Path, tmp_path: Path) -> None:
    """No token, a wrong one, a server that is not there, a store that is not there."""
    said = run("handover", store, "exe_1", "http://127.0.0.1:9", code=3, ALKALINE_TOKEN=TOKEN).stderr
    assert said.startswith("error: http://127.0.0.1:9 was not reached")
    assert said.count("\n") == 1
    assert "use https" in run("sync", store, "exe_1", "http://edge.example", code=2, ALKALINE_TOKEN=TOKEN).stderr
    missing = tmp_path / "none.alkaline"
    run("handover", missing, "exe_1", tmp_path / "other.alkaline", code=4)
    run("sync", store, "ghost", tmp_path / "other.alkaline", code=4)
    assert sorted(path.name for path in tmp_path.glob("*.alkaline")) == ["laptop.alkaline"]
    assert "who may ask" in run("serve", store, code=2, ALKALINE_TOKEN=None).stderr
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None
    with serving(tmp_path / "edge.alkaline") as url:
        wrong = run("sync", store, "exe_1", url, code=2, ALKALINE_KEY="k:another-secret-of-enough")
        assert "does not know" in wrong.stderr
        assert "ALKALINE_TOKEN" in run("sync", store, "exe_1", url, code=2, ALKALINE_TOKEN=None).stderr
        assert "ALKALINE_TOKEN" in run("list", url, code=2, ALKALINE_TOKEN=None).stderr


def test_between_two_files(store: Path, tmp_path: Path) -> None:
    """No network at all."""
    other = tmp_path / "other.alkaline"
    run("handover", store, "exe_1", other)
    assert json.loads(run("show", other, "exe_1", "--json").stdout)["status"] == "suspended"
    assert "same store" in run("handover", other, "exe_1", other, code=2).stderr
    run("handover", other, "exe_1", store)
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["status"] == "suspended"


def test_a_run_on_its_way_is_taken_back_or_reclaimed(store: Path, tmp_path: Path) -> None:
    """From a target that has nothing of it, by handover the other way; from one that is lost, by its name."""
    empty = tmp_path / "empty.alkaline"

    async def freeze(to: Path) -> str:
        host, other = FileHost(store), FileHost(to)
        async with Runtime(host) as a, Runtime(other) as b:
            name = await Local(b).identity()
            await Local(a).freeze("exe_1", str(to), name)
        await host.close()
        await other.close()
        return name

    asyncio.run(freeze(empty))
    assert "hand_over to that store again" in run("signal", store, "exe_1", "go", code=3).stderr
    for ghost in ("exe_1", "ghost"):
        run("handover", tmp_path / "none.alkaline", ghost, store, code=4)
    run("handover", empty, "ghost", store, code=4)
    said = run("handover", empty, "exe_1", store).stdout
    assert said == "exe_1: handed over, 4 commits; it goes on there (suspended)\n"
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None

    name = asyncio.run(freeze(empty))
    empty.unlink()
    assert "--lost" in run("reclaim", store, "exe_1", code=2).stderr
    run("reclaim", store, "exe_1", "--lost", "another", code=2)
    run("reclaim", store, "ghost", "--lost", name, code=4)
    assert "goes on here again" in run("reclaim", store, "exe_1", "--lost", name).stdout
    assert json.loads(run("reclaim", store, "exe_1", "--lost", name, "--json").stdout)["commits"] == 4
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["moved_to"] is None
