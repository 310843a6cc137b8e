"""`make bench-workers` runs: both of its Workers answer with figures, of next to nothing. No figure is looked at."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from wasm.workers import bench
from wasm.workers.harness import WorkerServer


@pytest.mark.parametrize("binding", ["object", "d1", "kv"])
def test_each_binding_is_measured(binding: str, tmp_path: Path) -> None:
    """A bare write, commits of each kind, and a step: a number of microseconds for each round but the first."""
    with WorkerServer(bench.OURS, storage=tmp_path, snapshot=True) as server:
        found = server.fetch(f"/{binding}?count=18", seconds=200).json()
    assert {"bare", "one key", "checked", "two keys", "step"} <= set(found["us"])
    assert len({len(times) for times in found["us"].values()}) == 1
    assert found["resume_1000"] > 0
    assert (bench.TURNS in found["us"]) == (binding == "object")


def test_the_same_job_runs_on_both_engines(tmp_path: Path) -> None:
    """A run of ours, and one of Cloudflare's own in JavaScript, which has come to the sum that it was to come to."""
    with WorkerServer(bench.OURS, storage=tmp_path / "ours", snapshot=True) as server:
        for what in bench.ONLY:
            before = server.cpu_seconds()
            assert server.fetch(f"/object?only={quote(what)}&count=50").json()["us"] >= 0
            assert server.cpu_seconds() > before
    with WorkerServer(bench.THEIRS, storage=tmp_path / "theirs") as server:
        assert server.fetch("/?count=5").json()["total"] == sum(range(5))
