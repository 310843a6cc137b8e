"""workerd killed with SIGKILL between commits and in the middle of runs: what was acknowledged is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from wasm.workers.harness import WorkerServer, until

from .kills import HOSTS, Appender

Servers = Callable[..., WorkerServer]


def wait(condition: Callable[[], Any]) -> Any:
    return until(condition, 60)


def test_kill_loses_no_acknowledged_commit(servers: Servers) -> None:
    """After each kill every commit that was answered is there, each batch is whole, and the logs go on."""
    server = servers()
    there = dict.fromkeys(HOSTS, 0)
    for kill in range(4):
        appenders = {host: Appender(server, f"/{host}/append?log=a&times=1") for host in HOSTS}
        for appender in appenders.values():
            appender.start()
        for host, appender in appenders.items():
            wait(partial(appender.reached, there[host] + 5 + 3 * kill))
        server.kill()
        for appender in appenders.values():
            appender.join(60)
            assert "lost" in appender.error or "gone" in appender.error or "not running" in appender.error
        server.start()
        for host, appender in appenders.items():
            assert appender.acknowledged > there[host]
            found = server.fetch(f"/{host}/audit?log=a").json()
            assert found["head"] == found["entries"] == found["last"]
            assert appender.acknowledged <= found["head"] <= appender.acknowledged + 1
            there[host] = found["head"]


def start(server: WorkerServer, object: str, workflow: str, input: Any, id: str) -> None:
    body = json.dumps({"workflow": workflow, "input": input, "id": id})
    server.fetch(f"/runs-of/{object}/runs", body)


def status(server: WorkerServer, object: str, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.fetch(f"/runs-of/{object}/runs/{id}").json()
    return found


def test_approval_survives_kills_and_each_step_runs_once(servers: Servers) -> None:
    """A request, a suspension, a kill, a restart, a signal, a kill, a completion: every step was executed once.

    Beside it in the object lies a run that can't be taken up after a kill: it is named, and harms no other.
    """
    server = servers()
    start(server, "one", "poison", "diverges", "exe_0")
    start(server, "one", "approval", "launch", "exe_1")
    wait(lambda: status(server, "one", "exe_1")["status"] == "suspended")
    server.kill()
    server.start()
    assert status(server, "one", "exe_1")["waiting"] == ["signal approve"]
    answer = server.fetch("/runs-of/one/runs/exe_1/signals/approve?dedupe=click", json.dumps("ann"))
    assert answer.status == 202
    server.fetch("/runs-of/one/runs/exe_0/signals/go", "1")
    server.fetch("/runs-of/one/runs/exe_1/signals/approve?dedupe=click", json.dumps("ann"))
    server.kill()
    server.start()
    done = wait(lambda: (found := status(server, "one", "exe_1"))["status"] == "completed" and found)
    assert done["result"] == {"topic": "launch", "answer": "ann"}
    assert server.fetch("/marks?run=exe_1").json() == {"draft": 1, "send": 1, "stamp": 1}
    stuck = wait(lambda: status(server, "one", "exe_0")["stuck"])
    assert stuck["code"] == "ERR_DETERMINISM"


def test_a_run_killed_in_its_steps_goes_on_by_itself(servers: Servers) -> None:
    """Nobody asks for the run after the kill: the alarm does. Only the step that was under way may run twice."""
    server = servers()
    start(server, "march", "marching", [8, 0.3], "exe_2")
    wait(lambda: len(server.fetch("/marks?run=exe_2").json()) >= 3)
    server.kill()
    server.start()
    marks = wait(lambda: len(found := server.fetch("/marks?run=exe_2").json()) == 8 and found)
    assert sorted(marks) == [f"step{n:03d}" for n in range(8)]
    assert sum(marks.values()) <= 9
    wait(lambda: status(server, "march", "exe_2")["status"] == "completed")


def test_overdue_alarm_fires_after_the_restart(servers: Servers) -> None:
    """A timer that came due while nothing ran wakes its run after the start, without any request to its object."""
    server = servers()
    start(server, "sleeper", "nap", 2.0, "exe_3")
    due = wait(lambda: status(server, "sleeper", "exe_3")["wake_at"])
    server.kill()
    wait(lambda: time.time() * 1000 > due)
    server.start()
    assert wait(lambda: server.fetch("/marks?run=exe_3").json()) == {"woken": 1}


def test_a_lost_alarm_is_repaired_on_wake(servers: Servers) -> None:
    """A timer whose alarm is gone is waited for again as soon as anything reaches the object."""
    server = servers()
    start(server, "lost", "nap", 1.0, "exe_4")
    wait(lambda: status(server, "lost", "exe_4")["wake_at"])
    server.fetch("/rpc?name=lost&method=lose_alarm")
    server.kill()
    server.start()
    assert status(server, "lost", "exe_4")["status"] == "suspended"
    assert wait(lambda: server.fetch("/marks?run=exe_4").json()) == {"woken": 1}


def test_an_alarm_that_raises_is_repeated(servers: Servers) -> None:
    """An alarm that fails before its work is called again by the platform and does it; one that fails after, too."""
    server = servers()
    server.fetch("/rpc?name=failing&method=fail_alarms&args=[1,1]")
    start(server, "failing", "nap", 0.5, "exe_5")
    assert wait(lambda: server.fetch("/marks?run=exe_5").json()) == {"woken": 1}
    wait(lambda: server.fetch("/rpc?name=failing&method=failures_left").json() == 0)
    wait(lambda: status(server, "failing", "exe_5")["status"] == "completed")
    assert server.fetch("/marks?run=exe_5").json() == {"woken": 1}
