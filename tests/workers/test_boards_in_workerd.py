"""Boards and schedules in a Durable Object: several calls on one board, ticks by the alarm, kills and clock jumps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.workers.conftest import the_worker
from tests.workers.crowd import Crowd, ask
from wasm.workers.harness import WorkerServer, until

TICKS, APART = 16, 0.25


@pytest.fixture(scope="module")
def faulted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerServer, Crowd, dict[str, Any]]]:
    """A server in which a board and a schedule were under way while it was killed; and what became of the board."""
    storage = tmp_path_factory.mktemp("faulted")
    with WorkerServer(the_worker(), storage=storage, snapshot=True) as server:
        ask(server, "ticks", "schedule", "s", APART, TICKS)
        crowd = Crowd(server, "faulted", seed=13)
        yield server, crowd, crowd.go(tasks=8, kills=2)


def test_no_task_is_lost_run_by_two_or_released_by_a_failed_gate(
    faulted: tuple[WorkerServer, Crowd, dict[str, Any]],
) -> None:
    """Nor is any limit or budget exceeded, whoever dies when, and wherever the clock jumps."""
    _, crowd, found = faulted
    assert crowd.errors == []
    assert found["wrong"] == []
    assert found["tasks"] == 8
    assert found["claims"] >= 8


def test_the_alarm_starts_each_tick_once(faulted: tuple[WorkerServer, Crowd, dict[str, Any]]) -> None:
    """Nobody asks the object for anything: its alarm alone drives the schedule, also behind the kills."""
    server, _, _ = faulted
    runs = until(lambda: len(found := ask(server, "ticks", "runs", "completed")["runs"]) == TICKS and found, 60)
    ticks = sorted(datetime.fromisoformat(run["id"].partition("@")[2]) for run in runs)
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=APART)}
    marks = server.fetch("/marks?run=s").json()
    assert marks.keys() == {run["id"] for run in runs}
    assert sum(marks.values()) <= TICKS + 2  # a step that was under way at a kill is done again


def test_several_calls_work_on_one_board(current: WorkerServer) -> None:
    """Four calls of one object at a time, each a worker of its own: every task is claimed by one of them."""
    ask(current, "several", "fill", 8, 1)
    for _ in range(20):
        calls = [current.begin(f"/rpc?of=BOARDS&name=several&method=work&args=[%22w{n}%22,0.4,{str(n == 3).lower()}]")
                 for n in range(4)]  # fmt: skip
        for call in calls:
            assert call().status == 200
        if ask(current, "several", "tend") == []:
            break
    found = ask(current, "several", "verdict")
    assert found["wrong"] == []
    assert found["tasks"] == 8


def test_steps_that_wait_for_nothing_are_recorded_without_a_wait(current: WorkerServer) -> None:
    """Plain functions and async ones; a commit is awaited where others have their turn, and for the run's record."""
    at_once, awaited = ask(current, "lanes", "lanes", 400)
    assert at_once > 350, f"{awaited} were awaited"
