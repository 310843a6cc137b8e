"""examples/team: a team of agents on a board, on a store in memory and as a program on a file, twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alkaline_edge import Runtime
from alkaline_edge.board import Board
from alkaline_edge.testing import SimulatedHost
from examples.team.team import work
from tests.support import drive

ROOT = Path(__file__).resolve().parents[2]
ANSWER = "12 knots from the west; none before noon; high at 14:20"


def test_the_team_answers_though_a_service_is_down_and_the_editor_is_not_pleased() -> None:
    """Each part is done, checked, written twice, and edited; what was spent is counted."""

    async def test() -> None:
        host, said = SimulatedHost(), list[str]()
        assert await work(host, "wind, rain and tide", said.append) == ANSWER
        assert sorted(line.partition(":")[0] for line in said if ": " in line and "\n" not in line) == [
            "fail", "request_changes",
        ]  # fmt: skip
        async with Runtime(host) as runtime:
            board = Board(runtime, "team")
            head = await board.head()
            assert head.counts == {"done": 5}
            assert head.spent == [200, 0]
            (goal,) = [task for task in await board.list() if "." not in task.id]
            assert [each["outcome"] for each in goal.attempts] == ["review", "changes", "review", "completed"]

    drive(test)


def test_the_program_runs_on_a_file_and_finds_its_answer_there_again(tmp_path: Path) -> None:
    """The second time nothing is left to do."""
    command = [sys.executable, str(ROOT / "examples" / "team" / "team.py"), str(tmp_path / "team.alkaline")]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}"}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == ANSWER
        assert "done (5)" in done.stdout
