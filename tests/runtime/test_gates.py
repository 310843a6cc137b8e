"""Gates: a step or a workflow names limits, its attempts wait for places of them, and no history says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, Runtime, replay, workflow
from alkaline_edge.capacity import Limit, Limits, Need
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.support import drive


class Service:
    """What is limited: it counts who is in it."""

    def __init__(self, store: SimulatedStore) -> None:
        self.clock = store.clock
        self.inside = self.most = 0
        self.order: list[Any] = []

    async def ask(self, what: Any = None, seconds: float = 1.0) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.order.append(what)
        try:
            await self.clock.sleep(seconds)
        finally:
            self.inside -= 1
        return what


def test_steps_that_name_a_limit_share_it_with_every_process() -> None:
    """Three at a time in all; the histories are those of runs that were limited by nothing."""
    histories: list[Any] = []

    async def test(limited: bool) -> None:
        store = SimulatedStore()
        service = Service(store)

        @workflow(name="flow", limits="model" if limited else None)
        async def flow(ctx: Context, n: int) -> Any:
            plain = await ctx.step("plain", service.ask, n, limits=())
            return [plain, *await ctx.map(lambda k: ctx.step("ask", service.ask, [n, k]), range(4))]

        async with (
            Runtime(SimulatedHost(store), workflows=[flow]) as one,
            Runtime(SimulatedHost(store, seed=1), workflows=[flow]) as two,
        ):
            await Limits(one).set(Limit("model", concurrency=3))
            runs = [await runtime.start(flow, n, id=f"r{n}") for n, runtime in enumerate([one, two, one])]
            assert [await run.result() for run in runs] == [[n, *([n, k] for k in range(4))] for n in range(3)]
            assert service.most == 3 if limited else service.most > 3
            state = await Limits(one).state("model")
            assert (state.holding, state.waiting) == ({}, 0)
            events = [[each.event for each in await one.history(f"r{n}")] for n in range(3)]
            histories.append([sorted(map(repr, each[1:])) for each in events])
            assert all(each.ok for each in replay.check({"r0": await one.export("r0")}, [flow]))

    drive(lambda: test(False))
    drive(lambda: test(True))
    assert histories[0] == histories[1]


def test_each_place_that_is_needed_is_held_and_none_waits_for_the_other() -> None:
    """Two limits, named in either order by many steps: all get through."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)

        @workflow
        async def flow(ctx: Context) -> Any:
            both = [["a", Need("b", priority=5)], ["b", "a"]]
            return await ctx.map(lambda k: ctx.step("ask", service.ask, k, limits=both[k % 2]), range(8))

        async with Runtime(SimulatedHost(store), workflows=[flow]) as runtime:
            await Limits(runtime).set(Limit("a", concurrency=2))
            await Limits(runtime).set(Limit("b", concurrency=1))
            assert await (await runtime.start(flow)).result() == [*range(8)]
            assert service.most == 1

    drive(test)


def test_a_timeout_begins_when_the_place_is_held() -> None:
    """A step that waits its turn for long is not late for that."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)

        @workflow
        async def flow(ctx: Context) -> Any:
            return await ctx.map(lambda k: ctx.step("ask", service.ask, k, 10, limits="a", timeout=15), range(5))

        async with Runtime(SimulatedHost(store), workflows=[flow]) as runtime:
            await Limits(runtime).set(Limit("a", concurrency=1))
            assert await (await runtime.start(flow)).result() == [*range(5)]

    drive(test)


def test_the_place_of_a_process_that_died_comes_back() -> None:
    """And its run goes on elsewhere, by a place of its own."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)

        @workflow
        async def flow(ctx: Context) -> Any:
            return await ctx.step("ask", service.ask, 1, 100, limits="a")

        dead = SimulatedHost(store)
        first = Runtime(dead, workflows=[flow])
        await Limits(first).set(Limit("a", concurrency=1))
        await first.start(flow, id="r")
        for _ in range(50):
            await asyncio.sleep(0)
        assert service.inside == 1
        dead.dead = True
        async with Runtime(SimulatedHost(store, seed=1), workflows=[flow]) as second:
            store.clock.advance(120_000)
            await second.recover()
            assert await second.result("r", None) == 1
            assert (await Limits(second).state("a")).holding == {}

    drive(test)


def test_sync_functions_at_most_once_steps_and_retries_wait_as_well() -> None:
    """Each attempt needs a place; whatever a step is, it gives it back."""
    tries: list[int] = []

    async def test() -> None:
        def flaky() -> str:
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError
            return "done"

        @workflow
        async def flow(ctx: Context) -> Any:
            once = await ctx.step("once", lambda: 1, at_most_once=True, limits="a")
            with pytest.raises(ValueError, match="invalid literal"):
                await ctx.step("bad", int, "x", limits="a")
            return [once, await ctx.step("flaky", flaky, retry=Retry(max_attempts=5, backoff=1), limits=["a"])]

        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            await Limits(runtime).set(Limit("a", rate=1, per=1))
            assert await (await runtime.start(flow)).result() == [1, "done"]
            assert (await Limits(runtime).state("a")).holding == {}

    drive(test)


def test_a_limit_that_is_none_is_refused_where_it_is_named() -> None:
    """By the call in the handler, which may catch it, and by the decorator."""

    async def test() -> None:
        said: list[str] = []

        @workflow
        async def flow(ctx: Context) -> Any:
            for wrong in (5, [5], "a b", Need("a", key="x" * 300), Need("a", priority=5_000), b"a"):
                try:
                    await ctx.step("ask", lambda: 1, limits=wrong)  # type: ignore[call-overload]
                except InvalidInput as error:
                    said.append(str(error))
            return await ctx.step("ask", lambda: 1, limits="there is none".replace(" ", "-"))

        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            assert await (await runtime.start(flow)).result() == 1
            assert len(said) == 6
        with pytest.raises(InvalidInput):
            workflow(limits=5)(flow.fn)

    drive(test)
