"""Histories that 0.1 wrote go on: asyncio in their handlers is the platform's own, as it was then."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from alkaline_edge import DeterminismError, Runtime, StoreError, replay
from alkaline_edge import events as ev
from alkaline_edge.replay import History
from alkaline_edge.runs import Header
from alkaline_edge.testing import SimulatedHost
from tests.histories import former_loop
from tests.support import drive

FOLDER = Path(__file__).parents[1] / "histories" / "former"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
READABLE = {OWN, "3.13", *(["3.12"] if sys.version_info < (3, 12) else [])}
"""Whose histories are the same here: this Python's own, and those of the rules of today. 3.12 has most of them."""
FILES = sorted(path for path in FOLDER.glob("*/*.alk") if path.parent.name in READABLE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_history_of_the_former_loop_is_replayed(path: Path) -> None:
    """What 0.1 wrote on this Python, and what it wrote on a newer one."""
    (checked,) = replay.check([path.read_bytes()], former_loop.FORMER.values())
    assert checked.ok, checked.message


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == OWN], ids=lambda path: str(path.stem))
def test_a_run_of_the_former_loop_goes_on(path: Path) -> None:
    """Its draws are given out in the order in which they were made, and the run ends."""
    data = path.read_bytes()
    drawn = [event.value for _, event in replay.read(data).events() if isinstance(event, ev.Drawn)]

    async def main() -> None:
        host = SimulatedHost(seed=3)
        async with Runtime(host, workflows=former_loop.FORMER.values()) as runtime:
            await runtime.import_(data)
            await runtime.resume(path.stem)
            await former_loop.goes_on(runtime, host, path.stem)
            notes = await (await runtime.resume(path.stem)).result()
            assert [value for _, value in notes] == [round(value, 6) for value in drawn]
            header = Header.from_map((await runtime.history(path.stem))[0].event[1])
            assert header.former, "a history keeps its rules"

    drive(main)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on wait_for makes no task")
def test_the_same_history_by_the_rules_of_today_is_another() -> None:
    """What the mark decides: by today's rules the ids of wait_for's steps are other ones."""
    history = replay.read((FOLDER / "3.11" / "waits_for_steps.alk").read_bytes())
    assert replay.check([history], former_loop.FORMER.values())[0].ok
    marked = History(history.header.by_our_rules(), history.commits)
    assert replay.check([marked], former_loop.FORMER.values())[0].verdict == "diverged"


def test_a_divergence_of_a_former_history_is_told_once_and_writes_nothing() -> None:
    """Both ways of replaying it are tried; the words are those of the first, and the history stays."""
    data = (FOLDER / "3.13" / "waits_for_steps.alk").read_bytes()

    async def main() -> None:
        host = SimulatedHost(seed=3)
        async with Runtime(host, workflows=[other]) as runtime:
            await runtime.import_(data)
            before = await runtime.history("waits_for_steps")
            with pytest.raises(DeterminismError, match="the code and the history disagree at event"):
                await (await runtime.resume("waits_for_steps")).result()
            assert await runtime.history("waits_for_steps") == before

    other = former_loop.Workflow(former_loop.same, "waits_for_steps", takes_input=False)
    drive(main)


def test_new_histories_say_their_rules_and_newer_ones_are_refused() -> None:
    """A reader that does not know the rules of a history leaves it alone."""

    async def main() -> None:
        data, _ = await former_loop.suspended("waits_for_steps")
        header = replay.read(data).events()[0][1][1]
        assert header["loop"] == ev.LOOP_RULES
        with pytest.raises(StoreError, match="rules 3 of the handler's loop"):
            Header.from_map({**header, "loop": 3})

    asyncio.run(main())
