"""Work beside a beat, and several pieces of it at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge.runtime.crew import Crew, beside
from alkaline_edge.testing import SimulatedCrash, VirtualClock
from tests.support import drive


async def run(work: Any, fails_at: int = 10**6) -> tuple[Any, int]:
    """How ``work`` ended beside a beat each second, and how often that beat."""
    clock, beats = VirtualClock(), 0

    async def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == fails_at:
            raise ConnectionError("lost")

    return await beside(work(clock), beat, 1.0, clock.sleep), beats


def test_work_ends_as_it_returned_or_raised_and_beats_until_then() -> None:
    """Once for each second."""

    async def returns(clock: VirtualClock) -> str:
        await clock.sleep(3.5)
        return "done"

    async def raises(clock: VirtualClock) -> None:
        raise ValueError("no")

    async def leaves(clock: VirtualClock) -> None:
        raise SystemExit(3)

    async def cancels_itself(clock: VirtualClock) -> None:
        raise asyncio.CancelledError

    async def test() -> None:
        assert await run(returns) == (("returned", "done"), 3)
        for work, kind in ((raises, ValueError), (leaves, SystemExit), (cancels_itself, asyncio.CancelledError)):
            (how, error), beats = await run(work)
            assert (how, type(error), beats) == ("raised", kind, 0)

    drive(test)


def test_work_is_cancelled_when_the_beat_fails_or_it_is_stopped() -> None:
    """It cleans up before anybody is told."""

    async def test() -> None:
        clean: list[str] = []

        async def works(clock: VirtualClock) -> None:
            try:
                await clock.sleep(100)
            finally:
                clean.append("up")

        (how, error), beats = await run(works, fails_at=2)
        assert (how, str(error), beats, clean) == ("lost", "lost", 2, ["up"])
        clock = VirtualClock(auto=False)

        async def beat() -> None:
            raise AssertionError("no time has passed")

        task = asyncio.ensure_future(beside(works(clock), beat, 1.0, clock.sleep))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        assert await task == ("stopped", None)
        assert clean == ["up", "up"]

    drive(test)


def test_what_ends_a_process_is_raised_by_who_asks() -> None:
    """By the work and by the crew; the others are stopped."""

    async def dies(clock: VirtualClock) -> None:
        raise SimulatedCrash

    async def test() -> None:
        with pytest.raises(SimulatedCrash):
            await run(dies)
        changes: list[int] = []
        crew = Crew(2, lambda: changes.append(1))
        ended: list[str] = []

        async def piece(name: str, error: BaseException | None = None) -> None:
            try:
                if error is not None:
                    raise error
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        crew.add(piece("waits"))
        assert crew.free
        crew.add(piece("dies", SimulatedCrash()))
        assert not crew.free
        for _ in range(3):
            await asyncio.sleep(0)
        assert crew.free
        assert changes == [1]
        with pytest.raises(SimulatedCrash):
            crew.check()
        await crew.end()
        assert ended == ["dies", "waits"]
        await crew.end()

    drive(test)
