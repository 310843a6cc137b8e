"""The virtual clock under many sleepers: their order, what they cost, and those that are gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge.testing import VirtualClock
from tests.support import drive


@pytest.mark.parametrize("seed", range(10))
def test_sleepers_wake_at_their_moments_in_order(seed: int) -> None:
    """Drawn sleeps, some cancelled on the way: each of the others wakes at its deadline, and nobody before another."""
    draw = random.Random(seed)

    async def body() -> None:
        clock = VirtualClock()
        begun = clock.now_ms
        woken: list[int] = []

        async def nap(ms: int) -> None:
            await clock.sleep(ms / 1000)
            assert clock.now_ms - begun == ms
            woken.append(ms)

        times = [draw.randrange(1, 10**6) for _ in range(300)]
        tasks = [asyncio.ensure_future(nap(ms)) for ms in times]
        await asyncio.sleep(0)
        gone = set(draw.sample(range(300), 150))
        for n in gone:
            tasks[n].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert woken == sorted(ms for n, ms in enumerate(times) if n not in gone)
        assert clock.next_deadline is None

    drive(body)


def test_a_sleep_among_many_sleepers_costs_little_more_than_among_few() -> None:
    """Counted in callbacks of the loop: a sleeper has none while it sleeps."""

    def turns(others: int) -> int:
        calls = 0

        async def body() -> None:
            nonlocal calls
            clock = VirtualClock()
            tasks = [asyncio.ensure_future(clock.sleep(10**6)) for _ in range(others)]
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            plain: Callable[..., Any] = loop.call_soon

            def counted(*args: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                return plain(*args, **named)

            loop.call_soon = counted  # type: ignore[method-assign]
            for _ in range(50):
                await clock.sleep(1)
            loop.call_soon = plain  # type: ignore[method-assign]
            for task in tasks:
                task.cancel()

        drive(body)
        return calls

    assert turns(500) <= turns(2) * 1.2


def test_a_sleeper_whose_check_raises_is_told_and_moves_no_time() -> None:
    """A process that is dead does not wake, and time does not go to its deadline."""

    async def body() -> None:
        clock = VirtualClock()
        begun = clock.now_ms

        def dead() -> None:
            raise RuntimeError("dead")

        sleeping = asyncio.ensure_future(clock.sleep(5, dead))
        await clock.sleep(60)
        with pytest.raises(RuntimeError):
            await sleeping
        assert clock.now_ms - begun == 60_000

    drive(body)
