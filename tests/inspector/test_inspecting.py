"""``alkaline inspect`` and ``alkaline page``, as a shell has them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts._inspector.page import page
from alkaline_hosts.file import FileHost


@workflow
async def approval(ctx: Context) -> Any:
    return await ctx.wait_for_signal("answer")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[FileHost]:
    """The writer of a store that is looked at, alive."""
    host = FileHost(tmp_path / "agent.alkaline")

    async def filled() -> None:
        async with Runtime(host, workflows=[approval]) as runtime:
            await (await runtime.start(approval, id="a")).settle()

    asyncio.run(filled())
    yield host
    asyncio.run(host.close())


async def answered(host: FileHost) -> None:
    """What the run waits for, by the process that has the file."""
    async with Runtime(host, workflows=[approval]) as runtime:
        await runtime.signal("a", "answer", "yes")
        await runtime.resume("a")
        await runtime.settle("a")


def said(*words: str) -> tuple[int, str]:
    """What a command that is refused says."""
    done = CliRunner().invoke(alkaline, words)
    return done.exit_code, done.stderr


def test_inspect_shows_a_store_beside_its_writer_until_interrupted(writer: FileHost, tmp_path: Path) -> None:
    """One line with the address: the token in it opens the runs, without it nobody sees them; nothing is changed."""
    command = [sys.executable, "-m", "alkaline_hosts.cli", "inspect", str(tmp_path / "agent.alkaline"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())
            base, _, fragment = address["url"].partition("#")
            assert base.startswith("http://127.0.0.1:")
            token = fragment.split("&")[0].removeprefix("token=")
            headers = {"authorization": f"Bearer {token}"}
            with httpx.Client(base_url=base, timeout=20) as client:
                assert client.get("/").content == page().html
                assert client.get("/runs").status_code == 401
                assert client.get("/runs", headers=headers).json()["runs"][0]["id"] == "a"
                assert client.get("/runs/a/bundle", headers=headers).content[:2] == b"\x96\xb4"
                assert client.post("/runs/a/cancel", headers=headers).status_code == 403
                asyncio.run(answered(writer))
                assert client.get("/runs/a", headers=headers).json()["result"] == "yes"
                with client.stream("GET", "/runs/a/stream", headers=headers) as stream:
                    kinds = [line for line in stream.iter_lines() if line.startswith("data: {")]
                assert "Completed" in kinds[-2]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            rest = process.stderr.read()
    assert process.returncode in (0, 130)
    assert "Traceback" not in rest


def test_what_cannot_be_shown_is_said_and_nothing_is_served(writer: FileHost, tmp_path: Path) -> None:
    """Not there, not ours, damaged, a server, held by its writer: one line, and the exit code of each."""
    (tmp_path / "notes.txt").write_text("notes, and no store at all")
    whole = (tmp_path / "agent.alkaline").read_bytes()
    (tmp_path / "damaged.alkaline").write_bytes(whole[:60] + b"\xff" + whole[61:])
    (tmp_path / "newer.alkaline").write_bytes(whole[:8] + b"\0\7" + whole[10:])
    for name, code, words in (
        ("nothing.alkaline", 4, "check the path"),
        ("notes.txt", 3, "not an alkaline file"),
        ("damaged.alkaline", 3, "damaged"),
        ("newer.alkaline", 3, "damaged in its header"),
    ):
        exit_code, error = said("inspect", str(tmp_path / name))
        assert (exit_code, words in error) == (code, True), (name, error)
        assert str(tmp_path) not in error
    assert said("inspect", "http://127.0.0.1:1")[0] == 2
    assert "serve --inspect" in said("inspect", "http://127.0.0.1:1")[1]
    exit_code, error = said("inspect", str(tmp_path / "agent.alkaline"), "--write")
    assert exit_code == 3
    assert "one writer" in error


def test_page_writes_the_inspector_to_a_file(tmp_path: Path) -> None:
    """For a disk, for Pages, or to be sent: the same bytes that are served."""
    path = tmp_path / "inspector.html"
    assert CliRunner().invoke(alkaline, ["page", str(path)]).exit_code == 0
    assert path.read_bytes() == page().html
    exit_code, error = said("page", str(tmp_path))
    assert (exit_code, "name a file" in error) == (2, True)


def test_page_is_never_put_in_the_place_of_a_store(writer: FileHost, tmp_path: Path) -> None:
    """The file that was meant for the other argument stays."""
    path = tmp_path / "agent.alkaline"
    before = path.read_bytes()
    exit_code, error = said("page", str(path))
    assert (exit_code, "store" in error) == (2, True)
    assert path.read_bytes() == before


def test_serve_shows_the_page_only_where_a_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has a token to send, and signs nothing."""
    monkeypatch.setenv("ALKALINE_KEY", "k:" + "s" * 40)
    monkeypatch.delenv("ALKALINE_TOKEN", raising=False)
    exit_code, error = said("serve", str(tmp_path / "s.alkaline"), "--inspect", "--bind", "127.0.0.1:0")
    assert (exit_code, "ALKALINE_TOKEN" in error) == (2, True)
