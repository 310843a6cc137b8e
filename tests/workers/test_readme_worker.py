"""The README's Worker, by the configuration of docs/workers.md, as both stand there, in the real runtime."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wasm.workers.harness import Worker, WorkerServer, until

ROOT = Path(__file__).resolve().parents[2]


def fenced(page: str, language: str) -> str:
    """The one block of a language that a page has."""
    text = (ROOT / page).read_text("utf-8")
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block)


def test_the_readmes_worker_survives_its_death(tmp_path: Path) -> None:
    """Started, killed while it waits, decided after the restart: the run ends with the step and the decision."""
    wanted = json.loads(fenced("docs/workers.md", "jsonc"))
    entry = tmp_path / wanted["main"]
    entry.parent.mkdir()
    entry.write_text(fenced("README.md", "py"))
    objects = {each["name"]: each["class_name"] for each in wanted["durable_objects"]["bindings"]}
    assert list(wanted["exports"]) == list(objects.values())
    worker = Worker(wanted["name"], entry, [entry.parent], objects=objects)
    with WorkerServer(worker, storage=tmp_path / "storage", snapshot=True) as server:
        started = server.fetch("/runs", json.dumps({"workflow": "publish", "id": "exe_1", "input": "tea"}))
        assert started.status == 201, started.body
        until(lambda: server.fetch("/runs/exe_1").json()["status"] == "suspended")
        server.kill()
        server.start()
        assert server.fetch("/runs/exe_1/signals/decision", json.dumps("yes")).status == 202
        until(lambda: server.fetch("/runs/exe_1").json()["status"] == "completed")
        assert server.fetch("/runs/exe_1").json()["result"] == "a page about tea: yes"
