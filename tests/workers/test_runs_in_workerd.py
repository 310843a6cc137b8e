"""The ready-made classes: over RPC, over HTTP, on D1 with several Workers, and under requests that are cancelled."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.workers.conftest import the_worker
from wasm.workers.harness import WorkerServer, until

Servers = Callable[..., WorkerServer]


def rpc(server: WorkerServer, name: str, method: str, *args: Any) -> Any:
    return server.fetch(f"/rpc?name={name}&method={method}&args={quote(json.dumps(args))}").json()


def start(server: WorkerServer, workflow: str, input: Any, id: str, query: str = "", **where: Any) -> Any:
    body = json.dumps({"workflow": workflow, "input": input, "id": id})
    return json.loads(server.fetch(f"/runs{query}", body, **where).body)


def status(server: WorkerServer, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.fetch(f"/runs/{id}").json()
    return found


def test_verbs_over_rpc(current: WorkerServer) -> None:
    """Every verb of the class is a method that another Worker calls with plain values."""
    record = rpc(current, "rpc", "start", "asked", 1, "run")
    assert (record["id"], record["workflow"]) == ("run", "asked")
    until(lambda: rpc(current, "rpc", "status", "run")["status"] == "suspended")
    assert rpc(current, "rpc", "query", "run", "numbers") == [1]
    assert rpc(current, "rpc", "update", "run", "add", 5) == 6
    rpc(current, "rpc", "signal", "run", "stop")
    done = until(lambda: (found := rpc(current, "rpc", "status", "run"))["status"] == "completed" and found)
    assert done["result"] == [1, 5]
    kinds = [event["kind"] for event in rpc(current, "rpc", "events", "run")]
    assert kinds[0] == "Started"
    assert kinds[-1] == "Completed"
    assert len(rpc(current, "rpc", "events", "run", 2)) == len(kinds) - 2
    assert [run["id"] for run in rpc(current, "rpc", "runs", "completed")["runs"]] == ["run"]


def test_verbs_over_http(current: WorkerServer) -> None:
    """The same over HTTP, with statuses that fit the errors."""
    base = "/runs-of/http/runs"
    assert current.fetch(base, json.dumps({"workflow": "asked", "input": 1, "id": "r1"})).status == 201
    assert current.fetch(base, json.dumps({"workflow": "asked", "input": 1, "id": "r1"})).status == 409
    assert current.fetch(base, json.dumps({"workflow": "unheard of"})).status == 404
    assert current.fetch(base, "{").status == 400
    assert current.fetch(f"{base}/none").status == 404
    assert current.fetch(f"{base}/r1/updates/add", "3").json() == 4
    refused = current.fetch(f"{base}/r1/updates/add", '"three"')
    assert (refused.status, "a number is wanted" in str(refused.body)) == (422, True)
    assert current.fetch(f"{base}/r1/queries/numbers").json() == [1, 3]
    assert current.fetch(f"{base}/r1/cancel", "").status == 202
    until(lambda: current.fetch(f"{base}/r1").json()["status"] == "cancelled")
    assert [run["id"] for run in current.fetch(f"{base}?status=cancelled").json()["runs"]] == ["r1"]


def test_settle_answers_when_the_run_rests(current: WorkerServer) -> None:
    """With ?settle=1 the answer to the start is the finished run."""
    body = json.dumps({"workflow": "many", "input": 10})
    assert str(current.fetch("/runs-of/settled/runs?settle=1", body).body).count('"completed"') == 1


def test_one_object_for_many_runs_and_one_for_each(current: WorkerServer) -> None:
    """One object lists all of its runs; an object per run knows its own alone. Alarms wake both kinds."""
    ids = ["a", "b", "c"]
    for id in ids:
        for object in ("together", f"alone-{id}"):
            body = json.dumps({"workflow": "nap", "input": 0.3, "id": id})
            assert current.fetch(f"/runs-of/{object}/runs", body).status == 201

    def of(object: str) -> dict[str, str]:
        return {run["id"]: run["status"] for run in current.fetch(f"/runs-of/{object}/runs").json()["runs"]}

    until(lambda: of("together") == dict.fromkeys(ids, "completed"))
    until(lambda: all(of(f"alone-{id}") == {id: "completed"} for id in ids))
    assert current.fetch("/marks?run=a").json() == {"woken": 2}


def test_an_object_answers_while_a_run_takes_thousands_of_quick_steps(current: WorkerServer) -> None:
    """Steps that never wait do not keep the object from others: it answers in the middle of the run."""
    body = json.dumps({"workflow": "many", "input": 5_000, "id": "busy"})
    assert current.fetch("/runs-of/busy/runs", body).status == 201
    asked = 0
    while (found := current.fetch("/runs-of/busy/runs/busy").json())["status"] == "running":
        asked += 1
    assert found["result"] == sum(range(5_000))
    assert asked >= 5


@pytest.mark.parametrize("base", ["/runs-of/heavy", ""], ids=["object", "d1"])
def test_values_beyond_a_row_are_kept_in_parts(current: WorkerServer, base: str) -> None:
    """A step's result of 5 MB, more than a row holds, is the same after the wait, when the history is read again."""
    body = json.dumps({"workflow": "heavy", "input": 5_000_000, "id": "heavy"})
    assert current.fetch(f"{base}/runs", body).status == 201
    until(lambda: current.fetch(f"{base}/runs/heavy").json()["status"] == "suspended")
    assert current.fetch(f"{base}/runs/heavy/signals/go", "").status == 202
    done = until(lambda: (found := current.fetch(f"{base}/runs/heavy").json())["status"] == "completed" and found)
    value = bytes(range(251)) * (5_000_000 // 251 + 1)
    assert done["result"] == [len(value), hashlib.sha256(value).hexdigest()]


def test_a_finished_run_is_archived_in_kv(current: WorkerServer) -> None:
    """A history that ended on D1 is a bundle in KV, gone from D1, and read again elsewhere."""
    start(current, "many", 30, "old", "?settle=1")
    assert current.fetch("/archive?id=old").json() == {"left": [], "events": 32}
    assert current.fetch("/runs/old").status == 404


def test_two_workers_race_on_one_d1(servers: Servers) -> None:
    """Two Workers add to one counter in one database: no addition is lost, and some had to try again."""
    server = servers(the_worker("a"), the_worker("b"))
    server.fetch("/d1/counter?name=n", worker="a")
    answers = [server.begin("/d1/contend?name=n&times=40", worker=worker) for worker in "abab"]
    assert sum(answer().json() for answer in answers) > 0
    assert server.fetch("/d1/counter?name=n", worker="b").json() == 160


def test_two_workers_never_advance_one_run_twice(servers: Servers) -> None:
    """Runs on one D1, started by one Worker while both are woken by cron again and again: each step runs once.

    The lease is longer than anything here takes: what a Worker that was held up for longer does, may be done again.
    """
    server = servers(the_worker("a", lease=600), the_worker("b", lease=600))
    ids: list[str] = []
    seconds = 0.3
    while len(ids) < 4:
        start(server, "nap", seconds, id := f"exe_{seconds}_{len(ids)}", worker="a")
        found = until(lambda: (now := status(server, id)["status"]) in ("suspended", "completed") and now)
        if found == "completed":  # the machine was so slow that it was time before anybody could wait
            seconds *= 2
        else:
            ids.append(id)

    def woken() -> bool:
        fired = [server.begin_scheduled(worker=worker) for worker in "ab"]
        assert [answer() for answer in fired] == ["ok", "ok"]
        return all(status(server, id)["status"] == "completed" for id in ids)

    until(woken, 240)
    for id in ids:
        assert server.fetch(f"/marks?run={id}").json() == {"woken": 1}


def test_cron_wakes_a_run_on_d1_after_a_kill(servers: Servers) -> None:
    """A run on D1 whose Worker was killed in its steps is taken up by the cron trigger once its lease has ended."""
    server = servers()
    start(server, "marching", [6, 0.3], "exe_1")
    until(lambda: len(server.fetch("/marks?run=exe_1").json()) >= 2)
    server.kill()
    server.start()

    def done() -> bool:
        server.scheduled()
        return bool(status(server, "exe_1")["status"] == "completed")

    until(done, 60)
    marks = server.fetch("/marks?run=exe_1").json()
    assert sorted(marks) == [f"step{n:03d}" for n in range(6)]
    assert sum(marks.values()) <= 7


def test_a_run_of_thousands_of_steps_stays_under_the_queries_of_an_invocation(servers: Servers) -> None:
    """A run stops before its invocation has made 1,000 queries, and the next one goes on: no step runs twice."""
    server = servers(the_worker(lease=600))  # a renewal is a query, and how many there are is a matter of time
    assert server.fetch("/runs", json.dumps({"workflow": "thousands", "input": 2_500, "id": "long"})).status == 201
    until(lambda: status(server, "long")["status"] == "suspended", 60)
    invocations = 1
    while status(server, "long")["status"] != "completed":
        assert server.scheduled() == "ok"
        invocations += 1
        assert invocations <= 4
    assert status(server, "long")["result"] == sum(range(2_500))
    found = server.fetch("/invocations").json()
    assert found["counted"] == 2_500
    assert sum(queries > 800 for queries in found["queries"]) == 2
    assert max(found["queries"]) <= 1_000


@pytest.mark.parametrize("base", ["/runs-of/hung-up", ""], ids=["object", "d1"])
def test_a_request_cancelled_mid_run(current: WorkerServer, base: str) -> None:
    """A client that hangs up in the middle of a run loses the answer, and the run completes all the same."""
    server, id = current, f"cancelled{len(base)}"
    body = json.dumps({"workflow": "marching", "input": [6, 0.2], "id": id}).encode()
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname, url.port)) as client:
        head = f"POST {base}/runs?settle=1 HTTP/1.1\r\nHost: worker\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        until(lambda: server.fetch(f"/marks?run={id}").json(), what="the first step")

    def done() -> bool:
        server.scheduled()
        return bool(server.fetch(f"{base}/runs/{id}").json()["status"] == "completed")

    until(done, 60)
    marks = server.fetch(f"/marks?run={id}").json()
    assert sorted(marks) == [f"step{n:03d}" for n in range(6)]
    assert sum(marks.values()) <= 7


@pytest.mark.parametrize("host", ["d1", "kv"])
def test_a_run_in_the_oldest_runtime(oldest: WorkerServer, host: str) -> None:
    """A run suspends in one runtime and is finished by another in the runtime of 2024, each step executed once."""
    found = oldest.fetch(f"/approval/{host}").json()
    assert found == [["signal approve"], "launch: ann", ["draft", "send"]]


def test_a_poison_run_harms_no_other_run_of_its_object(current: WorkerServer) -> None:
    """A step or a handler raises, behind a timer, what ends a process: others wake, and each is named."""
    ends = (
        *("SystemExit", "GeneratorExit", "handler SystemExit", "BaseException"),
        *("KeyboardInterrupt", "handler KeyboardInterrupt"),
    )
    for n, how in enumerate(ends):
        rpc(current, "poisoned", "start", "poison", how, how.replace(" ", "-"))
        rpc(current, "poisoned", "start", "nap", 0.5, f"nap-{n}")

    def found(state: str) -> dict[str, Any]:
        return {run["id"]: run for run in rpc(current, "poisoned", "runs", state)["runs"]}

    until(lambda: len(found("completed")) == len(ends))
    failed = until(lambda: (runs := found("failed")) and len(runs) == len(ends) and runs)
    assert {run["failure"]["type"] for run in failed.values()} == {how.split()[-1] for how in ends}
    rpc(current, "poisoned", "start", "nap", 0.1, "after")
    until(lambda: rpc(current, "poisoned", "status", "after")["status"] == "completed")
