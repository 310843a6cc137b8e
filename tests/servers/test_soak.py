"""The soak in short, and that its judgement sees what it is there for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from examples.handoff.postgres import find

from . import soak
from .redis_server import PROGRAM
from .soak_worker import Evidence


def is_installed(store: str) -> bool:
    if store == "redis":
        return PROGRAM is not None
    try:
        find("initdb")
    except FileNotFoundError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_short_soak(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Workers and the server are killed and the network is bad: nothing committed runs again, no signal is lost."""
    if not is_installed(store):
        pytest.skip(f"{store} is not installed")
    held = asyncio.run(soak.run(store, 12, workers=3, seed=5, directory=tmp_path, restarts=2))
    said = capsys.readouterr().out
    assert held, said
    rows = {line[:52].strip(): line[52:].strip() for line in said.splitlines()}
    assert rows["server killed"] == "2"
    assert rows["of those, the other one took over"] == "1"
    for what in ("workers killed", "runs complete", "connections: cut", "connections: refused"):
        assert int(rows[what]) > 2, said  # a soak goes on until that has happened
    assert rows["runs complete"] == rows["runs started"]


@pytest.mark.parametrize(
    ("lines", "again", "repeated"),
    [
        (["begin r a0 1", "begin r b0 1", "begin r c0 1", "begin r a1 1"], 0, 0),
        (["begin r a0 1", "begin r a0 2", "begin r b0 2", "begin r b0 3"], 0, 2),
        (["begin r a0 1", "begin r b0 1", "begin r a0 2"], 1, 1),
        (["begin r a0 1", "done r a0 1", "begin r a0 2"], 1, 1),
        (["begin r b0 1", "begin r c0 1", "done r b0 1", "begin r c0 2", "begin r b0 2"], 1, 2),
        (["begin r a0 1", "begin r a1 1", "begin s a0 1"], 0, 0),
    ],
)
def test_a_committed_step_that_is_run_again_is_seen(lines: list[str], again: int, repeated: int) -> None:
    """One whose result was told of, or which a later step proves; another run's and a lost result's are none."""
    evidence = Evidence(lines)
    assert (len(evidence.again), evidence.repeated) == (again, repeated)
