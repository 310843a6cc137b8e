"""Places: who asks for a limit in one process, and what that costs where many do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import ConflictError, Runtime
from alkaline_edge.capacity import Limit, Limits
from alkaline_edge.names import Need
from alkaline_edge.runtime.places import ASKING, Places
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


def test_many_that_wait_in_one_process_cost_what_gets_through() -> None:
    """A fan-out of 200 at a limit of 2: a few calls of the store for each, however many wait beside it."""

    async def test() -> None:
        per: list[float] = []
        for count in (20, 200):
            host = SimulatedHost()
            async with Runtime(host) as runtime:
                await Limits(runtime).set(Limit("a", concurrency=2))
                places = Places(runtime.store, runtime.chores)
                before = sum(host.counts.values())
                await asyncio.gather(
                    *(places.run(Need("a"), lambda host=host: host.clock.sleep(0.01)) for _ in range(count))
                )
                per.append((sum(host.counts.values()) - before) / count)
        assert per[1] < 1.3 * per[0], per

    drive(test)


def test_the_highest_priority_is_next_among_those_who_wait_here() -> None:
    """Behind the few that have asked already, and whoever is cancelled leaves its turn to the next."""

    async def test() -> None:
        host, order = SimulatedHost(), list[int]()

        def work(n: int) -> Any:
            async def done() -> None:
                order.append(n)
                await host.clock.sleep(0.01)

            return done

        async with Runtime(host) as runtime:
            await Limits(runtime).set(Limit("a", concurrency=1))
            places = Places(runtime.store, runtime.chores)
            tasks = []
            for n in range(ASKING + 10):
                tasks.append(asyncio.ensure_future(places.run(Need("a", priority=n), work(n))))
                await asyncio.sleep(0)
            tasks[-1].cancel()
            tasks[2].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert sorted(order) == sorted(set(range(ASKING + 9)) - {2})
            late = [n for n in order if n >= ASKING]
            assert late == sorted(late, reverse=True)
            assert places._asking == places._queues == {}

    drive(test)


def test_a_turn_that_comes_as_its_owner_is_cancelled_is_the_next_ones() -> None:
    """Else it would be lost to this process, one at a time, until nobody here could ask any more."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            places = Places(runtime.store, runtime.chores)
            for _ in range(ASKING):
                await places._turn(Need("a"))
            first, second = (asyncio.ensure_future(places._turn(Need("a"))) for _ in range(2))
            await asyncio.sleep(0)
            places._next("a")
            first.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert first.cancelled()
            assert second.done()

    drive(test)


def test_two_that_name_the_same_limits_in_either_order_do_not_wait_for_each_other() -> None:
    """Each would hold one place and ask for the other's."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            for name in ("a", "b"):
                await Limits(runtime).set(Limit(name, concurrency=1))
            places = Places(runtime.store, runtime.chores)
            needs = [Need("a"), Need("b")]
            work = [
                asyncio.ensure_future(places.run_all(each, lambda: host.clock.sleep(1)))
                for each in (needs, needs[::-1])
            ]
            await host.clock.sleep(60)
            assert all(each.done() for each in work)
            await asyncio.gather(*work)

    drive(test)


class Ahead(SimulatedHost):
    """A process whose clock is so many ms ahead."""

    ahead = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead


@pytest.mark.parametrize("apart", [0, 9_000, 11_000, 29_000])
def test_clocks_that_are_apart_cost_no_more_than_a_look_now_and_then(apart: int) -> None:
    """By more than a hold, too: whoever is ahead takes others for gone, and nobody asks as fast as it can."""

    async def test() -> int:
        first = SimulatedHost()
        ahead = Ahead(first.store, seed=2)
        ahead.ahead = apart
        runtimes = [Runtime(first), Runtime(ahead)]
        await Limits(runtimes[0], 10.0).set(Limit("a", concurrency=1))
        before = sum(first.counts.values()) + sum(ahead.counts.values())

        async def asked(runtime: Runtime) -> None:
            try:
                await Limits(runtime, 10.0).run("a", lambda: first.clock.sleep(3.0))
            except ConflictError:
                assert apart > 10_000

        await asyncio.gather(*(asked(runtime) for runtime in runtimes for _ in range(3)))
        for runtime in runtimes:
            await runtime.close()
        return sum(first.counts.values()) + sum(ahead.counts.values()) - before

    calls = drive(test)
    assert calls < 600, calls
