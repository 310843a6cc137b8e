"""Limits on a store: steps of many processes wait for each other, and a place of one that died comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import ConflictError, Context, InvalidInput, NotFound, Retry, Runtime, StepInfo, workflow
from alkaline_edge.capacity import Limit, Limits
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.support import drive


class Service:
    """What is limited: it counts who is in it."""

    def __init__(self, store: SimulatedStore) -> None:
        self.clock = store.clock
        self.inside = self.most = 0
        self.starts: list[int] = []
        self.order: list[str] = []

    async def ask(self, name: str = "", seconds: float = 1.0) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.starts.append(self.clock.now_ms)
        self.order.append(name)
        try:
            await self.clock.sleep(seconds)
        finally:
            self.inside -= 1
        return name


def test_steps_of_several_processes_share_a_limit() -> None:
    """Three at a time, however many runs there are; and each gets its turn."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        runtimes: list[Runtime] = []
        made: list[Limits] = []

        def caller_of(at: list[Limits]) -> Any:
            @workflow(name="caller")
            async def caller(ctx: Context, n: int) -> list[str]:
                ask = at[0].around("model", service.ask)
                return await ctx.map(lambda m: ctx.step("ask", ask, f"{n}.{m}"), range(4))

            return caller

        for _ in range(4):
            at: list[Limits] = []
            runtimes.append(Runtime(SimulatedHost(store), workflows=[caller_of(at)]))
            at.append(Limits(runtimes[-1]))
            made.append(at[0])
        await made[0].set(Limit("model", concurrency=3))
        runs = [await runtime.start("caller", n) for n, runtime in enumerate(runtimes)]
        results = [await run.result() for run in runs]
        assert results == [[f"{n}.{m}" for m in range(4)] for n in range(4)]
        assert service.most == 3
        assert (await made[0].state("model")).holding == {}
        for runtime in runtimes:
            await runtime.close()

    drive(test)


def test_a_rate_holds_over_all_processes() -> None:
    """Ten starts at five in ten seconds."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        async with Runtime(SimulatedHost(store)) as one, Runtime(SimulatedHost(store)) as two:
            sides = [Limits(one), Limits(two)]
            await sides[0].set(Limit("api", rate=5, per=10, burst=1))
            await asyncio.gather(*(sides[n % 2].run("api", lambda: service.ask(seconds=0.1)) for n in range(10)))
            gaps = [later - earlier for earlier, later in zip(service.starts, service.starts[1:], strict=False)]
            assert all(2_000 <= gap <= 2_300 for gap in gaps), gaps

    drive(test)


def test_the_highest_priority_and_the_key_that_holds_least_come_first() -> None:
    """Whoever asked first."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        async with Runtime(SimulatedHost(store)) as runtime:
            limits = Limits(runtime)
            await limits.set(Limit("m", concurrency=1))

            async def ask(name: str, key: str, priority: int = 0) -> None:
                await limits.run("m", lambda: service.ask(name), key=key, priority=priority)

            asked = [asyncio.ensure_future(ask("first", "a"))]
            await store.clock.sleep(0.1)
            for name, key, priority in (("a2", "a", 0), ("a3", "a", 0), ("b1", "b", 0), ("urgent", "a", 9)):
                asked.append(asyncio.ensure_future(ask(name, key, priority)))
                await store.clock.sleep(0.01)
            state = await limits.state("m")
            assert (state.holding, state.waiting, state.limit.concurrency) == ({"a": 1}, 4, 1)
            await asyncio.gather(*asked)
            assert service.order == ["first", "urgent", "b1", "a2", "a3"]

    drive(test)


def test_the_place_of_a_process_that_died_comes_back() -> None:
    """After its hold; one that lives keeps it for as long as its work takes."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        dying = SimulatedHost(store)
        async with Runtime(SimulatedHost(store)) as runtime:
            limits, gone = Limits(runtime, hold=5), Limits(Runtime(dying), hold=5)
            await limits.set(Limit("m", concurrency=1))
            held = asyncio.ensure_future(gone.run("m", lambda: service.ask("dead", 1_000)))
            await store.clock.sleep(20)  # renewed meanwhile
            assert (await limits.state("m")).holding == {"": 1}
            waits = asyncio.ensure_future(limits.run("m", lambda: service.ask("next")))
            await store.clock.sleep(3)
            assert not waits.done()
            before = store.clock.now_ms
            dying.dead = True
            assert await waits == "next"
            assert store.clock.now_ms - before < 8_000
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)

    drive(test)


def test_work_whose_place_was_lost_is_stopped() -> None:
    """The clock jumped, and another one came in: it is told so, and may try again."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        async with Runtime(SimulatedHost(store)) as one, Runtime(SimulatedHost(store)) as two:
            first, second = Limits(one, hold=6), Limits(two, hold=6)
            await first.set(Limit("m", concurrency=1))
            slow = asyncio.ensure_future(first.run("m", lambda: service.ask("slow", 60)))
            await store.clock.sleep(0.5)
            other = asyncio.ensure_future(second.run("m", lambda: service.ask("other", 4)))
            await store.clock.sleep(0.5)
            store.clock.advance(7_000)
            with pytest.raises(ConflictError, match="was lost"):
                await slow
            assert await other == "other"
            assert service.inside == 0

    drive(test)


def test_a_limit_that_is_not_there_limits_nothing_and_one_that_is_deleted_lets_all_through() -> None:
    """Also those who wait for it."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        async with Runtime(SimulatedHost(store)) as runtime:
            limits = Limits(runtime)
            assert await limits.run("none", service.ask) == ""
            with pytest.raises(NotFound, match="no limit"):
                await limits.state("none")
            await limits.set(Limit("m", concurrency=1))
            asked = [asyncio.ensure_future(limits.run("m", lambda: service.ask("", 50))) for _ in range(3)]
            await store.clock.sleep(1)
            await limits.delete("m")
            await asyncio.gather(*asked)
            assert service.most == 3
            assert not [key for key in store.keys if key.startswith("l/")]

    drive(test)


def test_a_limited_function_is_a_step_as_any_other() -> None:
    """Its StepInfo, its name, its errors and retries; a plain function, too; and a replay waits for nothing."""

    async def test() -> None:
        store = SimulatedStore()
        seen: list[str] = []

        def plain(info: StepInfo, n: int) -> int:
            seen.append(f"{info.step} {info.attempt}")
            if info.attempt == 1:
                raise ConnectionError("down")
            return n + 1

        async with Runtime(SimulatedHost(store)) as outer:
            limits = Limits(outer)
            await limits.set(Limit("m", concurrency=1))

            @workflow
            async def caller(ctx: Context, n: int) -> Any:
                found = await ctx.step(limits.around("m", plain), n, retry=Retry(max_attempts=2, backoff=0))
                return [found, await ctx.wait_for_signal("go")]

            async with Runtime(SimulatedHost(store), workflows=[caller]) as runtime:
                run = await runtime.start(caller, 1, id="a")
                await run.settle()
            before = store.drawn
            async with Runtime(SimulatedHost(store), workflows=[caller]) as runtime:
                await runtime.signal("a", "go", "on")
                assert await (await runtime.resume("a")).result() == [2, "on"]
            assert seen == ["plain 1", "plain 2"]
            assert store.drawn > before

    drive(test)


def test_what_is_no_limit_is_refused() -> None:
    """By each verb."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            limits = Limits(runtime)
            wrong: Any = limits  # what a type checker would refuse
            for ask in (
                wrong.set("m"), wrong.delete("a b"), wrong.state(5), wrong.run("m", None, key=5),
                wrong.run("m", None, priority=10**6), wrong.run("a/b", None),
            ):  # fmt: skip
                with pytest.raises(InvalidInput):
                    await ask
            with pytest.raises(InvalidInput, match="around"):
                limits.around("m", 5)  # type: ignore[arg-type]
            for made in (lambda: Limits(5), lambda: Limits(runtime, hold=0)):  # type: ignore[arg-type]
                with pytest.raises(InvalidInput, match="Limits"):
                    made()

    drive(test)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 5),
    st.sets(st.integers(1, 120), max_size=10),
    st.sampled_from(["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]),
)
def test_no_crash_lets_too_many_in_or_keeps_a_place_for_ever(
    concurrency: int, processes: int, crash_at: set[int], kind: Any
) -> None:
    """Each piece of work is done at last; who is dead is in nobody's way for longer than a hold."""

    async def test() -> None:
        store = SimulatedStore()
        service = Service(store)
        commits = 0
        done: set[int] = set()

        async def process(number: int) -> None:
            nonlocal commits
            while True:
                died = asyncio.Event()

                def fault(_: int, verb: str, died: asyncio.Event = died) -> Any:
                    nonlocal commits
                    if verb != "commit":
                        return None
                    commits += 1
                    found = kind if commits in crash_at else None
                    if found in ("crash", "crash-after"):
                        died.set()
                    return found

                host = SimulatedHost(store, fault=fault)
                runtime = Runtime(host)
                limits = Limits(runtime, hold=4)

                async def work(host: SimulatedHost = host, limits: Limits = limits) -> None:
                    for n in range(3):
                        await limits.run("m", lambda: service.ask(seconds=2), key=str(number))
                        done.add(number * 10 + n)

                working = asyncio.ensure_future(work())
                dying = asyncio.ensure_future(died.wait())
                await asyncio.wait([working, dying], return_when=asyncio.FIRST_COMPLETED)
                host.dead = died.is_set()
                working.cancel()
                dying.cancel()
                await asyncio.gather(working, runtime.close(), return_exceptions=True)
                if not host.dead:
                    return

        async with Runtime(SimulatedHost(store)) as runtime:
            limits = Limits(runtime)
            await limits.set(Limit("m", concurrency=concurrency))
            await asyncio.gather(*(process(number) for number in range(processes)))
            assert service.most <= concurrency
            assert done == {number * 10 + n for number in range(processes) for n in range(3)}
            state = await limits.state("m")
            assert state.waiting == 0

    drive(test)


def test_the_place_of_a_process_that_died_is_not_shown_as_held() -> None:
    """Once its hold is over, also where nobody has asked for it since."""

    async def test() -> None:
        store = SimulatedStore()
        dying = SimulatedHost(store)
        async with Runtime(SimulatedHost(store)) as runtime:
            limits = Limits(runtime, hold=5)
            await limits.set(Limit("m", concurrency=1))
            held = asyncio.ensure_future(Limits(Runtime(dying), hold=5).run("m", lambda: store.clock.sleep(1_000)))
            await store.clock.sleep(1)
            assert (await limits.state("m")).holding == {"": 1}
            dying.dead = True
            await store.clock.sleep(6)
            assert (await limits.state("m")).holding == {}
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)

    drive(test)
