"""The README's Worker, as it stands there, in the real runtime."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wasm.workers.harness import Worker, WorkerServer, until

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readmes_worker_survives_its_death(tmp_path: Path) -> None:
    """Started, killed while it waits, decided after the restart: the run ends with the step and the decision."""
    [source] = re.findall(r"^```py\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    entry = tmp_path / "src" / "entry.py"
    entry.parent.mkdir()
    entry.write_text(source)
    worker = Worker("readme", entry, [entry.parent], objects={"RUNS": "Runs"})
    with WorkerServer(worker, storage=tmp_path / "storage", snapshot=True) as server:
        started = server.fetch("/runs", json.dumps({"workflow": "publish", "id": "exe_1", "input": "tea"}))
        assert started.status == 201, started.body
        until(lambda: server.fetch("/runs/exe_1").json()["status"] == "suspended")
        server.kill()
        server.start()
        assert server.fetch("/runs/exe_1/signals/decision", json.dumps("yes")).status == 202
        until(lambda: server.fetch("/runs/exe_1").json()["status"] == "completed")
        assert server.fetch("/runs/exe_1").json()["result"] == "a page about tea: yes"
