"""Runs sealed by WebCrypto in the real runtime: what the object stores tells nothing, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from alkaline_edge.host import Batch, Put
from alkaline_hosts.memory import MemoryHost
from tests.sealing.support import INSTALLED, sealed
from wasm.workers.harness import WorkerServer, until

Servers = Callable[..., WorkerServer]
BASE = "/sealed-runs-of/one/runs"


def status(server: WorkerServer) -> dict[str, Any]:
    found: dict[str, Any] = server.fetch(f"{BASE}/exe_1").json()
    return found


def stored(server: WorkerServer) -> dict[str, bytes]:
    return {key: bytes.fromhex(value) for key, value in server.fetch("/stored?name=one").json()}


def test_a_sealed_run_survives_a_kill_and_shows_nothing(servers: Servers) -> None:
    """Started, suspended, killed, signalled, completed: each step ran once, and no value is readable."""
    server = servers()
    body = json.dumps({"workflow": "approval", "input": "the lichens of Lapland", "id": "exe_1"})
    assert server.fetch(BASE, body).status == 201
    until(lambda: status(server)["status"] == "suspended")
    server.kill()
    server.start()
    assert status(server)["waiting"] == ["signal approve"]
    assert server.fetch(f"{BASE}/exe_1/signals/approve", json.dumps("ada lovelace")).status == 202
    done = until(lambda: (found := status(server))["status"] == "completed" and found)
    assert done["result"] == {"topic": "the lichens of Lapland", "answer": "ada lovelace"}
    assert server.fetch("/marks?run=exe_1").json() == {"draft": 1, "send": 1, "stamp": 1}
    values = stored(server)
    assert {key.partition("/")[0] for key in values} >= {"r", "h", "x"}
    assert all(value.startswith(b"\xc1ae\x01\x03new") for value in values.values())
    whole = b"".join(values.values())
    for secret in (b"lichens", b"lovelace", b"approve", b"draft"):
        assert secret not in whole
    if INSTALLED:
        assert "ada lovelace" in asyncio.run(opened(values))


async def opened(values: dict[str, bytes]) -> str:
    """What a server reads of them with the same keys."""
    plain = MemoryHost()
    for number, (key, value) in enumerate(values.items()):
        await plain.commit(Batch(f"{number:016x}", (), (Put(key, value),)))
    return "".join(str(entry.value) for entry in await sealed(plain).list(""))
