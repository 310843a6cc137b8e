"""A run handed to a Durable Object in the real workerd, and back: over HTTP, with a token, nothing lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from alkaline_edge import InvalidInput, Runtime, hand_over, sync
from alkaline_hosts._http.signing import sign
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.remote import Remote
from examples.handoff.agent import journey
from wasm.workers.harness import Worker, WorkerServer

HANDOFF = Path(__file__).resolve().parents[2] / "examples" / "handoff"
TOKEN = "a-token-for-these-tests"
ORIGIN = "https://app.example"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorkerServer]:
    """The Worker of the example."""
    variables = {"TOKEN": TOKEN, "ORIGIN": ORIGIN}
    worker = Worker("app", HANDOFF / "worker.py", [HANDOFF], objects={"RUNS": "Runs"}, variables=variables)
    with WorkerServer(worker, storage=tmp_path) as one:
        yield one


def test_a_run_goes_to_a_durable_object_and_back(server: WorkerServer) -> None:
    """Sync, a kill of workerd, hand-over, going on there, and back; both histories are the same."""

    async def test() -> None:
        home = Runtime(MemoryHost(), workflows=[journey])
        run = await home.start("journey", ["tab", "edge", "server"], id="j")
        await run.settle()
        async with Remote(server.url, token=TOKEN, timeout=120) as edge:
            first = await sync(home, edge, "j")
            assert first.sent > 100_000
            await run.signal("other", "unread by the journey", dedupe="1")
            await run.settle()
            server.kill()
            server.start()
        async with Remote(server.url, token=TOKEN, timeout=120) as edge:
            moved = await hand_over(home, "j", edge)
            assert (await home.get_execution("j")).moved_to is not None
            await edge.signal("j", "arrive-edge", "on", dedupe="2")
            while "arrive-server" not in str((await edge.status("j"))["waiting"]):
                await asyncio.sleep(0.2)
            copy = Runtime(MemoryHost())
            await sync(edge, copy, "j")
            place = await hand_over(edge, "j", home)
            assert place.length > moved.length
            await run.signal("arrive-server", "home")
            result = await run.result()
            assert [one[:2] for one in result["seen"]] == [["tab", "hello"], ["edge", "on"], ["server", "home"]]
            ours, theirs = await home.history("j"), await copy.history("j")
            assert ours[: len(theirs)] == theirs
            await sync(home, edge, "j")
            assert (await edge.status("j"))["status"] == "completed"
        await home.close()

    asyncio.run(asyncio.wait_for(test(), 240))


def test_who_has_no_token_is_told_nothing_and_pages_of_the_origin_may_ask(server: WorkerServer) -> None:
    """The Worker answers as the ASGI app does: 401, CORS, bounds."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        assert client.get("/moves/j").status_code == 401
        assert client.post("/runs", json={"workflow": "journey"}).status_code == 401
        answer = client.options("/moves/accept", headers={"origin": ORIGIN, "access-control-request-method": "POST"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, ORIGIN)
        good = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/moves/j", headers=good).content == b"\xc0"
        assert client.post("/moves/accept", headers=good, content=b"junk").status_code == 400
        assert client.post("/moves/accept", headers=good, content=b"x" * (65 * 1024 * 1024)).status_code == 413

    async def wrong() -> None:
        async with Remote(server.url, token="another-token-for-tests", timeout=120) as edge:
            with pytest.raises(InvalidInput, match="not one that this server accepts"):
                await edge.place("j")

    asyncio.run(wrong())


def test_a_run_goes_to_d1_by_signed_requests_and_a_replay_is_refused(tmp_path: Path) -> None:
    """Each invocation has a runtime of its own; what it took over goes on, and a nonce counts once for the isolate."""
    secret = "a-secret-of-enough-bytes"
    entry = Path(__file__).parent / "moves" / "entry.py"
    worker = Worker("app", entry, [HANDOFF, entry.parent], d1=["DB"], variables={"SECRET": secret})

    async def test(url: str) -> None:
        home = Runtime(MemoryHost(), workflows=[journey])
        await (await home.start("journey", ["tab", "edge", "server"], id="j")).settle()
        async with Remote(url, key=("laptop", secret), timeout=120) as edge:
            await hand_over(home, "j", edge)
            await edge.signal("j", "arrive-edge", "on", dedupe="2")
            while "arrive-server" not in str((await edge.status("j"))["waiting"]):
                await asyncio.sleep(0.2)
            await hand_over(edge, "j", home)
            await home.signal("j", "arrive-server", "home")
            result = await home.result("j", 60)
            assert [one[:2] for one in result["seen"]] == [["tab", "hello"], ["edge", "on"], ["server", "home"]]
        with httpx.Client(base_url=url, timeout=120) as client:
            headers = sign("laptop", secret, "GET", "/moves/j")
            assert client.get("/moves/j", headers=headers).status_code == 200
            assert client.get("/moves/j", headers=headers).status_code == 401
            assert client.get("/moves/k", headers=sign("laptop", secret, "GET", "/moves/j")).status_code == 401
        await home.close()

    with WorkerServer(worker, storage=tmp_path) as server:
        asyncio.run(asyncio.wait_for(test(server.url.rstrip("/")), 240))
