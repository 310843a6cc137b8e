"""The bell that a driver sleeps by: rung by hand or by the clock, with no new alarm where an earlier one is set."""

from __future__ import annotations

import asyncio

from alkaline_edge.runtime.bell import Bell
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


class Sleeper(SimulatedHost):
    """Counts its sleeps."""

    sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(seconds)


def test_it_rings_at_its_time_or_when_it_is_rung() -> None:
    """Whichever is first; a ring that nobody waits for is not kept."""

    async def body() -> None:
        host = SimulatedHost()
        bell, before = Bell(host), host.now_ms()
        bell.ring()
        await bell.wait(before + 5_000, before)
        assert host.now_ms() == before + 5_000
        waiting = asyncio.ensure_future(bell.wait(before + 3_600_000, host.now_ms()))
        await asyncio.sleep(0)
        bell.ring()
        await waiting
        assert host.now_ms() == before + 5_000
        await bell.silence()

    drive(body)


def test_an_alarm_that_rings_earlier_is_kept() -> None:
    """A new one costs more than a wait too many; one that would ring too late is replaced."""

    async def body() -> None:
        host = Sleeper()
        bell, now = Bell(host), host.now_ms()
        for at, sleeps in ((60_000, 1), (90_000, 1), (30_000, 2), (60_000, 2)):
            waiting = asyncio.ensure_future(bell.wait(now + at, now))
            await asyncio.sleep(0)
            bell.ring()
            await waiting
            assert host.sleeps == sleeps
        await bell.silence()

    drive(body)
