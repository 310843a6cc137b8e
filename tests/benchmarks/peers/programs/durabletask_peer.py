"""Microsoft's durabletask with its backend in memory, which it talks to over gRPC in the same process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker


def step(ctx: Any, n: int) -> Any:
    return harness.payload(n)


def sequence(ctx: Any, count: int) -> Any:
    for n in range(count):
        yield ctx.call_activity(step, input=n)
    return count


def fan(ctx: Any, count: int) -> Any:
    yield task.when_all([ctx.call_activity(step, input=n) for n in range(count)])
    return count


def _with_worker(job: Callable[[TaskHubGrpcClient], Any]) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    backend = create_test_backend(port=port, max_history_size=1_000_000)
    worker = TaskHubGrpcWorker(host_address=f"127.0.0.1:{port}")
    for orchestrator in (sequence, fan):
        worker.add_orchestrator(orchestrator)
    worker.add_activity(step)
    worker.start()
    try:
        return job(TaskHubGrpcClient(host_address=f"127.0.0.1:{port}"))
    finally:
        worker.stop()
        backend.stop()


def _ended(client: TaskHubGrpcClient, ids: list[str]) -> None:
    for id in ids:
        state = client.wait_for_orchestration_completion(id, timeout=600)
        assert state is not None
        assert state.runtime_status.name == "COMPLETED", state


def _one(flow: Any, count: int) -> Any:
    def job(client: TaskHubGrpcClient) -> Any:
        with harness.spent(count) as found:
            _ended(client, [client.schedule_new_orchestration(flow, input=count)])
        return found

    return _with_worker(job)


def many(count: int, folder: Path) -> Any:
    def job(client: TaskHubGrpcClient) -> Any:
        with harness.spent(harness.RUNS * count) as found:
            _ended(client, [client.schedule_new_orchestration(sequence, input=count) for _ in range(harness.RUNS)])
        return found

    return _with_worker(job)


def first(count: int, folder: Path) -> Any:
    _one(sequence, 1)
    return harness.since_begun()


harness.main({
    "sequence": lambda count, folder: _one(sequence, count),
    "fan": lambda count, folder: _one(fan, count),
    "many": many,
    "first": first,
})  # fmt: skip
