"""That the soak's judgement sees what it is there for; ``make soak`` runs it for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.servers import soak_worker
from tests.servers.soak_worker import SIGNALS, soak

from . import judging
from .judging import Found
from .of_file import judge, opened
from .table import Row, table


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["started r0 -"], ""),
        (["started r0 -", "sent r0 0", "begin r0 a0 1", "begin r0 a0 2"], ""),
        (["started r0 -", "started r1 -"], "lost"),
        (["started r0 -", "begin r0 a9 1", "done r0 a9"], "lost"),
        (["started r0 -", "begin r0 a0 1", "begin r0 b0 1", "begin r0 a0 2"], "again"),
        (["started r0 -", "stuck r0 ERR_DETERMINISM"], "wrong"),
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_seen(tmp_path: Path, lines: list[str], what: str) -> None:
    """A run, a step's result, a step that ran although it was committed, a run that could not go on."""
    path, row = tmp_path / "soak.alkaline", Row("file")
    soak_worker.opened(tmp_path / "log")  # where its steps write

    async def make() -> None:
        async with opened(path) as runtime:
            run = await runtime.start(soak, id="r0")
            for n in range(SIGNALS):
                await run.signal("go", n)
            await run.cancel("the test has seen enough")
            await run.settle()
        await judge(path, [f"{line} 1 1" for line in lines], row)

    asyncio.run(make())
    assert row.wrong.pop(0).startswith("r0 is cancelled")  # this one did not come to its end
    assert (row.lost > 0, row.again > 0, bool([one for one in row.wrong if "could not go on" in one])) == (
        what == "lost", what == "again", what == "wrong",
    )  # fmt: skip


def test_signals_and_whole_runs_that_are_gone_are_seen() -> None:
    """A run that was started or had a step, and is not there; a signal that was lost, doubled, or out of order."""
    lines = ["started r0", "started r1", "begin r2 a0", "done r2 a0", "sent r0 0", "sent r0 0", "wrong - broken"]
    row = Row("chromium")
    judging.judge(lines, {"r0": Found("completed", "", [0, 0, 2], [])}, row)
    assert (row.lost, row.doubled, row.signals_lost) == (2, 1, 1)
    assert (row.runs, row.commits, row.signals) == (2, 3, 1)
    assert row.wrong == ["r0 got the signals [0, 0, 2]", "a page said: wrong - broken"]


def test_the_table_says_what_was_left_out_and_what_was_wrong() -> None:
    """A row for each store, and below them whatever did not hold."""
    rows = [Row("file", 12.4, 3, commits=40, lost=1, wrong=["r0 is gone"]), Row("workerd", left_out="not built")]
    first, *rest = table(rows).splitlines()[1:]
    assert first.split() == ["file", "12", "3", "0", "0", "40", "1", "0", "0", "0", "0", "0", "0"]
    assert rest == [
        "workerd    left out: not built",
        "WRONG: file: r0 is gone",
    ]
