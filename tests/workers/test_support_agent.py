"""examples/support_agent in workerd: Pydantic AI, a tool of a real MCP server, an approval; workerd is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp.test_servers import until_it_listens
from tests.servers.ports import free_port
from tests.workers.test_streams_in_workerd import stream
from wasm.workers.harness import HERE, Worker, WorkerServer, until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "support_agent"
DONE = "Order 7: 12 euros are on their way back."
ENTRY = Path(__file__).parent / "support_agent" / "entry.py"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The shop's server, by the SDK, over HTTP; and what it was asked."""
    port, log = free_port(), tmp_path / "orders.log"
    log.touch()
    command = [sys.executable, str(EXAMPLE / "orders.py"), str(port)]
    with subprocess.Popen(command, env=os.environ | {"ORDERS_LOG": str(log)}) as process:
        try:
            until_it_listens(port, process)
            yield f"http://127.0.0.1:{port}/mcp", log
        finally:
            process.kill()


def test_the_agent_runs_at_the_edge_is_killed_and_asks_nothing_again(shop: tuple[str, Path], tmp_path: Path) -> None:
    """Killed in the middle of the last request, which alone is made again; the stream has it to the end."""
    orders, log = shop
    worker = Worker(
        "support",
        ENTRY,
        [ENTRY.parent, EXAMPLE],
        kv=["MARKS"],
        objects={"RUNS": "Runs"},
        variables={"ORDERS": orders},
        modules=[HERE / "build" / "modules" / "agents"],
    )
    server = WorkerServer(worker, storage=tmp_path / "storage")
    server.start()
    try:
        body = {"workflow": "help_out", "input": "Please refund order 7", "id": "a"}
        assert server.fetch("/runs", json.dumps(body)).status == 201
        waits = until(lambda: waiting(server), 60, "the agent asks")
        assert log.read_text().splitlines() == ["look_up 7"]
        said = server.fetch(f"/runs/a/queries/{waits}").json()
        assert said["message"] == 'The agent wants: refund {"order": "7", "euros": 12}'
        assert server.fetch(f"/runs/a/signals/{waits}", json.dumps({"approvals": {"none": True}})).status == 202
        assert server.fetch(f"/runs/a/signals/{waits}", "true").status == 202
        until(lambda: server.fetch("/marks").json() == [1, 1, 1], 60, "the last request is under way")
        server.kill()

        server.start()
        followed = list(stream(server, "/runs/a/stream")[1])
        assert server.fetch("/runs/a").json()["result"] == DONE
        assert server.fetch("/marks").json() == [1, 1, 2]
        assert log.read_text().splitlines() == ["look_up 7", "refund 7"]
        said = [value for kind, value in followed if kind == "published" and value["topic"] == "text"]
        words = "".join(value["data"] for value in said)
        assert words in DONE, "what is left of them by the time that somebody watches"
        assert followed[-1][0] == "end"
    finally:
        server.kill()


def waiting(server: WorkerServer) -> str:
    """The signal that the agent waits for, once it does."""
    names = server.fetch("/runs/a").json()["waiting"]
    return names[0].removeprefix("signal ") if names and names[0].startswith("signal event:") else ""
