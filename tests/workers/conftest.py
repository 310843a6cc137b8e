"""Workers in the real runtime, one server for the whole session where a test does not kill it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collector import Collected, collecting
from tests.workers.looking import TOKEN, Pages, showing_pages
from wasm.workers.harness import Worker, WorkerServer

APP = Path(__file__).resolve().parent / "app"
AUDIT = APP.parents[1] / "board" / "audit"


def the_worker(name: str = "app", runtime: str = "current", lease: float = 2.0, **variables: str) -> Worker:
    """The test Worker of that runtime. ``lease``: seconds of its runs on D1. ``variables``: more of its environment."""
    if runtime == "oldest":
        return Worker(name, APP / "entry_oldest.py", [APP], d1=["DB"], kv=["KV"])
    objects = {"STORE": "Store", "RUNS": "Runs", "SEALED": "SealedRuns", "BOARDS": "Boards", "SEEN": "SeenRuns"}
    return Worker(
        name, APP / "entry.py", [APP, AUDIT], ["DB"], ["KV"], objects, variables={"LEASE": lease, **variables}
    )


@pytest.fixture(scope="session")
def collected() -> Iterator[Collected]:
    """What the Worker's exporter has posted."""
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def pages() -> Iterator[Pages]:
    """An origin of its own, whose pages the Worker lets in."""
    with showing_pages() as found:
        yield found


@pytest.fixture(scope="session")
def current(tmp_path_factory: pytest.TempPathFactory, collected: Collected, pages: Pages) -> Iterator[WorkerServer]:
    """The current runtime; tests that share it use names of their own."""
    worker = the_worker(COLLECTOR=collected.url, ORIGIN=pages.origin, TOKEN=TOKEN)
    with WorkerServer(worker, storage=tmp_path_factory.mktemp("current"), snapshot=True) as server:
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
