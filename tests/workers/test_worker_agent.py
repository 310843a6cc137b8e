"""examples/worker_agent as an author has it: by its own configuration, in the real runtime, killed in the middle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wasm.workers.harness import Worker, WorkerServer, until

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "worker_agent"


def configuration() -> dict[str, Any]:
    """wrangler.jsonc without its comments."""
    text = (PROJECT / "wrangler.jsonc").read_text()
    found: dict[str, Any] = json.loads(re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda m: m[1] or "", text))
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorkerServer]:
    """The project with the bindings that its configuration names, and an approval key."""
    wanted = configuration()
    worker = Worker(
        wanted["name"],
        PROJECT / wanted["main"],
        [(PROJECT / wanted["main"]).parent],
        d1=[one["binding"] for one in wanted["d1_databases"]],
        kv=[one["binding"] for one in wanted["kv_namespaces"]],
        objects={one["name"]: one["class_name"] for one in wanted["durable_objects"]["bindings"]},
        variables={"APPROVAL_KEY": "sesame"},
    )
    with WorkerServer(worker, storage=tmp_path / "storage", snapshot=True) as server:
        yield server


def test_configuration_is_complete() -> None:
    """What the example binds is what its configuration declares: SQLite storage, a cron, one dependency."""
    wanted = configuration()
    assert wanted["exports"] == {"Runs": {"type": "durable-object", "storage": "sqlite"}}
    assert "python_workers" in wanted["compatibility_flags"]
    assert wanted["triggers"]["crons"]
    assert (PROJECT / wanted["main"]).exists()
    assert 'dependencies = ["alkaline-edge"]' in (PROJECT / "pyproject.toml").read_text()


def test_request_approval_kill_and_completion(server: WorkerServer) -> None:
    """A request, a suspension, a kill, a restart, an approval, a kill: it completes, and each step is recorded once."""
    body = {"workflow": "publish", "id": "launch", "input": {"topic": "the launch", "notes": "- one <b>\n- two"}}
    assert server.fetch("/runs", json.dumps(body)).status == 201
    until(lambda: server.fetch("/runs/launch").json()["status"] == "suspended")
    assert server.fetch("/runs/launch/queries/draft").json()["points"] == ["one <b>", "two"]
    server.kill()
    server.start()
    decision = json.dumps({"approved": True, "by": "ann"})
    assert server.fetch("/runs/launch/signals/decision", decision).status == 401
    headers = {"authorization": "Bearer sesame"}
    assert server.fetch("/runs/launch/signals/decision?dedupe=ann", decision, headers=headers).status == 202
    server.kill()
    server.start()
    done = until(lambda: (found := server.fetch("/runs/launch").json())["status"] == "completed" and found, 60)
    assert done["result"] == {"published": "/pages/the-launch", "by": "ann"}
    assert done["spent"]["tokens"] == 10
    events = server.fetch("/runs/launch/events").json()
    assert [event["name"] for event in events if event["kind"] == "StepCompleted"] == ["draft", "publish", "index"]
    page = server.fetch("/pages/the-launch")
    assert (page.status, "<li>one &lt;b&gt;</li>" in str(page.body)) == (200, True)
    assert server.fetch("/pages/none").status == 404
    assert "worker-agent" in str(server.fetch("/").body)
    assert server.scheduled() == "ok"
    [run] = server.fetch("/digests/runs").json()["runs"]
    assert (run["status"], run["result"]["count"]) == ("completed", 1)
    assert "The launch" in str(server.fetch(f"/pages/{run['result']['page'].removeprefix('/pages/')}").body)


def test_rejection(server: WorkerServer) -> None:
    """A rejected draft is not published."""
    body = {"workflow": "publish", "id": "no", "input": {"topic": "no"}}
    server.fetch("/runs?settle=1", json.dumps(body))
    decision = json.dumps({"approved": False, "by": "bob"})
    server.fetch("/runs/no/signals/decision", decision, headers={"authorization": "Bearer sesame"})
    done = until(lambda: (found := server.fetch("/runs/no").json())["status"] == "completed" and found)
    assert done["result"] == {"published": None, "by": "bob"}
    assert server.fetch("/pages/no").status == 404
