"""One class on two engines in workerd: Cloudflare's own Workflows, and this kernel in a Durable Object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hosts.test_cloudflare_workflows import EXPECTED, SHOP
from wasm.workers.harness import Worker, WorkerServer, until

APP = Path(__file__).resolve().parent / "workflows"
CONFIGS = {
    "told": None,
    "once": {"retries": {"limit": 0, "delay": 5}},
    "thrice": {"retries": {"limit": 2, "delay": "5"}, "timeout": "1 minute"},
    "linear": {"retries": {"limit": 1, "delay": 5, "backoff": "linear"}},
}


def finished(server: WorkerServer, path: str, status: str, result: str) -> Any:
    """What a run of either engine comes to."""
    found = until(lambda: (shown := server.fetch(path).json())["status"] == status and shown, 60, path)
    return found[result]


def test_both_engines_give_the_same_and_ours_survives_a_kill(tmp_path: Path) -> None:
    """Results, attempts and what dependencies ran are equal; the run on this kernel goes on behind a SIGKILL."""
    worker = Worker(
        "shop",
        APP / "entry.py",
        [APP, SHOP],
        objects={"RUNS": "Runs"},
        workflows={"ORDER": "Order", "ATTEMPTS": "Attempts"},
    )
    order, attempts = {"amount": 21, "ms": 3000, "list": True}, {"configs": CONFIGS}
    decision = json.dumps({"by": "ann"})
    with WorkerServer(worker, storage=tmp_path, snapshot=True) as server:
        server.fetch("/theirs/attempts/two", json.dumps(attempts))
        server.fetch("/theirs/order/one", json.dumps(order))
        server.fetch("/theirs/order/one/decision", decision)
        server.fetch("/runs", json.dumps({"workflow": "Attempts", "id": "two", "input": attempts}))
        server.fetch("/runs", json.dumps({"workflow": "Order", "id": "one", "input": order}))
        server.fetch("/runs", json.dumps({"workflow": "Order", "id": "killed", "input": order}))
        server.fetch("/runs/one/signals/decision", decision)
        theirs = finished(server, "/theirs/order/one", "complete", "output")
        ours = finished(server, "/runs/one", "completed", "result")
        assert theirs == ours
        assert theirs == EXPECTED | {"did": theirs["did"]}
        counted = finished(server, "/theirs/attempts/two", "complete", "output")
        assert sorted(counted) == sorted(finished(server, "/runs/two", "completed", "result"))
        assert [counted.count(name) for name in CONFIGS] == [1, 1, 3, 2]
        server.kill()
        server.start()
        server.fetch("/runs/killed/signals/decision", decision)
        found = finished(server, "/runs/killed", "completed", "result")
        assert found == EXPECTED | {"id": "killed", "did": found["did"]}
