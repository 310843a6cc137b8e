"""Workers in the real runtime, one server for the whole session where a test does not kill it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wasm.workers.harness import Worker, WorkerServer

APP = Path(__file__).resolve().parent / "app"
AUDIT = APP.parents[1] / "board" / "audit"


def the_worker(name: str = "app", runtime: str = "current", lease: float = 2.0) -> Worker:
    """The test Worker of that runtime. ``lease``: seconds of its runs on D1."""
    if runtime == "oldest":
        return Worker(name, APP / "entry_oldest.py", [APP], d1=["DB"], kv=["KV"])
    objects = {"STORE": "Store", "RUNS": "Runs", "SEALED": "SealedRuns", "BOARDS": "Boards"}
    return Worker(name, APP / "entry.py", [APP, AUDIT], ["DB"], ["KV"], objects, variables={"LEASE": lease})


@pytest.fixture(scope="session")
def current(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerServer]:
    """The current runtime; tests that share it use names of their own."""
    with WorkerServer(the_worker(), storage=tmp_path_factory.mktemp("current"), snapshot=True) as server:
        yield server


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerServer]:
    """The oldest runtime that is supported."""
    worker = the_worker(runtime="oldest")
    with WorkerServer(worker, storage=tmp_path_factory.mktemp("oldest"), runtime="oldest") as server:
        yield server


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., WorkerServer]]:
    """Makes servers of a test's own, for tests that kill them; each is started, and ended with the test."""
    made: list[WorkerServer] = []

    def make(*workers: Worker) -> WorkerServer:
        storage = tmp_path / f"server{len(made)}"
        made.append(WorkerServer(*(workers or [the_worker()]), storage=storage, snapshot=True))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.kill()
