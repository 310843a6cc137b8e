"""A commit is an activation: what is there together is recorded and applied together, within what the store takes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Runtime, StepInfo, workflow
from alkaline_edge import events as ev
from alkaline_edge.host import Capabilities
from alkaline_edge.lifecycle import Emission
from alkaline_edge.testing import Delay, SimulatedHost
from tests.support import Process, drive


async def commits(runtime: Runtime, id: str = "a") -> list[list[str]]:
    """The names of the events of each commit that wakes the handler."""
    found: dict[int, list[str]] = {}
    for one in await runtime.history(id):
        if one.event[0] not in ev.SYNCHRONOUS | ev.SPECIAL | {ev.STARTED}:
            found.setdefault(one.commit, []).append(type(one.event).__name__)
    return list(found.values())


async def quick(n: int) -> int:
    return n


@workflow
async def fan_out(ctx: Context, count: int) -> list[int]:
    return await ctx.map(lambda n: ctx.step("quick", quick, n), range(count))


@workflow
async def collects(ctx: Context) -> list[Any]:
    got: list[Any] = []
    while (item := await ctx.wait_for_signal("s")) is not None:
        got.append(item)
    return got


@pytest.mark.parametrize(("count", "most"), [(2, 1), (256, 1), (257, 2), (1_000, 4)])
def test_steps_that_have_ended_together_are_one_commit(count: int, most: int) -> None:
    """256 at most."""

    async def body() -> None:
        process = Process(fan_out)
        assert await (await process.runtime.start(fan_out, count, id="a")).result() == list(range(count))
        found = await commits(process.runtime)
        assert [len(one) for one in found] == [256] * (count // 256) + [count % 256] * (count % 256 > 0)
        assert len(found) == most

    drive(body)


def test_on_a_store_that_is_slow_to_commit_a_fan_out_is_a_few_commits() -> None:
    """What ends while a commit is under way goes into the next one."""

    async def lasts(n: int, info: StepInfo) -> int:
        await host.sleep(n / 1000)
        return n

    @workflow
    async def spread(ctx: Context) -> int:
        return len(await ctx.map(lambda n: ctx.step("lasts", lasts, n), range(200)))

    host = SimulatedHost(on_call=lambda number, verb, arguments: Delay(40) if verb == "commit" else None)

    async def body() -> None:
        async with Runtime(host, workflows=[spread]) as runtime:
            assert await (await runtime.start(spread, id="a")).result() == 200
            assert len(await commits(runtime)) <= 7

    drive(body)


@pytest.mark.parametrize("known", [False, True])
def test_a_plain_function_that_may_be_slow_holds_back_nothing_that_has_ended(known: bool) -> None:
    """What ended before it is durable when it runs: it is lost in no crash there."""
    done: list[int] = []

    def slow(n: int) -> int:
        if n == 9:
            process.host.die()
        process.host.advance(20)
        return n

    def plain(n: int) -> int:
        done.append(n)
        return n

    @workflow
    async def flow(ctx: Context) -> Any:
        if known:
            await ctx.step("slow", slow, 1)
        await ctx.step("plain", plain, 0)
        return await ctx.all(*(ctx.step("plain", plain, n) for n in range(1, 4)), ctx.step("slow", slow, 9))

    process = Process(flow)

    async def body() -> None:
        await process.runtime.start(flow, id="a")
        while not process.host.dead:
            await asyncio.sleep(0)
        runtime = await process.crash()
        recorded = [one.event.name for one in await runtime.history("a") if one.event[0] == ev.STEP_COMPLETED]  # type: ignore[union-attr]
        assert recorded == ["slow"] * known + ["plain"] * 4
        assert done == [0, 1, 2, 3]

    drive(body)


def test_signals_that_are_found_together_are_one_commit_and_stay_in_order() -> None:
    """Whoever is cancelled in the same turn gives back what was its own, at its place."""

    @workflow
    async def gives_back(ctx: Context) -> list[Any]:
        takers = [asyncio.ensure_future(ctx.wait_for_signal("s")) for _ in range(3)]
        await ctx.wait_for_signal("stop")
        for n in (2, 0, 1):
            takers[n].cancel()
        await asyncio.gather(*takers, return_exceptions=True)
        assert ctx.pending_signals("s") == [0, 1, 2, 3]
        return [await ctx.wait_for_signal("s") for _ in range(4)]

    async def body() -> None:
        process = Process(gives_back)
        run = await process.runtime.start(gives_back, id="a")
        await run.settle()
        outside = Runtime(process.host.reopen())
        await outside.signal("a", "stop")
        for n in range(4):
            await outside.signal("a", "s", n)
        await process.runtime.run_due()
        assert await run.result() == [0, 1, 2, 3]
        assert await commits(process.runtime) == [["SignalReceived"] * 5]

    drive(body)


def test_a_cancel_and_an_update_stand_alone() -> None:
    """Signals before and behind them are commits of their own; a validator sees what those before it have led to."""

    @workflow
    async def flow(ctx: Context) -> list[Any]:
        got: list[Any] = []

        def check(n: int) -> None:
            assert got == [0, 1]

        ctx.on_update("u", lambda n: [*got], validator=check)
        try:
            while True:
                got.append(await ctx.wait_for_signal("s"))
        finally:
            await ctx.step("clean", quick, len(got))

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        await run.settle()
        outside = Runtime(process.host.reopen())
        for n in range(2):
            await outside.signal("a", "s", n)
        update = asyncio.ensure_future(outside.update("a", "u", 1))
        while sum(key.startswith("i/") for key in process.host.store.keys) < 3:
            await asyncio.sleep(0)
        for n in range(2):
            await outside.signal("a", "s", n)
        await outside.cancel("a")
        await outside.signal("a", "s", 4)
        await process.runtime.run_due()
        assert await update == [0, 1]
        await run.settle()
        found = await commits(process.runtime)
        assert found[:2] == [["SignalReceived"] * 2, ["UpdateReceived"]]
        assert found[2:4] == [["SignalReceived"] * 2, ["CancelRequested"]]

    drive(body)


def test_timers_of_one_moment_are_one_commit_and_others_are_not() -> None:
    """What fires first may withdraw what is due later, however late both are looked at."""

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.map(lambda n: ctx.sleep(10), range(40))
        async with asyncio.timeout(30):
            await asyncio.gather(ctx.sleep(20), ctx.sleep(20), asyncio.sleep(20))
        return "in time"

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        for _ in range(2):
            await run.settle()
            process.host.advance(3_600)
            await process.runtime.run_due()
        assert await run.result() == "in time"
        assert await commits(process.runtime) == [["TimerFired"] * 40, ["TimerFired"] * 3]

    drive(body)


@pytest.mark.parametrize("seed", range(6))
def test_a_commit_is_never_larger_than_the_store_takes(seed: int) -> None:
    """Sizes drawn around the borders: small values stay where they are, and each commit is within its limits."""
    draw = random.Random(seed)
    inline = draw.choice([300, 600, 2_000])
    limits = Capabilities(
        "small", durability="volatile", segment_commits=draw.choice([0, 4]), inline_limit=inline,
        max_value=inline * draw.choice([2, 4]), max_batch_bytes=65_536, max_batch_keys=draw.choice([30, 100]),
    )  # fmt: skip
    sizes = [draw.choice([0, 1, inline // 3, inline - 40, inline, inline * 3]) for _ in range(60)]

    def sized(n: int) -> str:
        if n % 17 == 5:
            raise ValueError("e" * min(1_999, sizes[n]))
        return "v" * sizes[n]

    @workflow
    async def flow(ctx: Context) -> int:
        async def one(n: int) -> int:
            try:
                found = await ctx.step("sized", sized, n)
            except ValueError as error:
                found = str(error)
            return len(found) + len(await ctx.wait_for_signal(f"s{n % 3}"))

        found = await ctx.map(one, range(len(sizes)))
        await ctx.map(lambda n: ctx.sleep(5), range(100))
        return sum(found)

    async def body() -> None:
        process = Process(flow, host=SimulatedHost(capabilities=limits))
        run = await process.runtime.start(flow, id="a")
        outside = Runtime(process.host.reopen())
        for n, size in enumerate(sizes):
            await outside.signal("a", f"s{n % 3}", "p" * size)
        longest = [min(1_999, size) if n % 17 == 5 else size for n, size in enumerate(sizes)]
        assert await run.result() == sum(longest) + sum(sizes)
        runtime = await process.crash()
        events = [one.event for one in await runtime.history("a")]
        assert sum(isinstance(event, ev.TimerFired) for event in events) == 100
        for batch in process.host.batches:
            assert all(len(put.value) <= limits.max_value for put in batch.puts)
        small = [event for event in events if isinstance(event, ev.StepCompleted) and len(event.value) < inline // 2]
        kept = sum(1 for key in process.host.store.entries if key.startswith("b/"))
        assert small
        assert kept <= 4 * len(sizes)

    drive(body)


def test_what_a_store_does_not_take_is_one_steps_failure_and_no_other_ones() -> None:
    """A batch of several that is refused is tried one by one: the others are recorded as they are."""

    @workflow
    async def flow(ctx: Context) -> list[Any]:
        async def one(n: int) -> Any:
            try:
                return await ctx.step("quick", quick, n)
            except InvalidInput as error:
                return type(error).__name__

        return await ctx.map(one, range(5))

    async def body() -> None:
        process = Process(flow)
        commit = process.host.commit

        async def picky(batch: Any) -> Any:
            if any(b"\x95\x01\xa34.1" in put.value for put in batch.puts):  # the completion of command 4.1
                raise InvalidInput("not this one")
            return await commit(batch)

        process.host.commit = picky  # type: ignore[method-assign]
        run = await process.runtime.start(flow, id="a")
        assert await run.result() == [0, 1, 2, "InvalidInput", 4]

    drive(body)


def test_a_request_that_a_store_does_not_take_ends_the_run_and_costs_none_before_it() -> None:
    """Signals that are refused together go one by one: those before it are recorded."""

    async def body() -> None:
        process = Process(collects)
        commit = process.host.commit

        async def picky(batch: Any) -> Any:
            if any(b"\xa4evil" in put.value for put in batch.puts if put.key.startswith("h/")):
                raise InvalidInput("not this one")
            return await commit(batch)

        process.host.commit = picky  # type: ignore[method-assign]
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        outside = Runtime(process.host.reopen())
        for item in ("a", "b", "evil", "c"):
            await outside.signal("a", "s", item)
        await process.runtime.run_due()
        await run.settle()
        assert run.status == "failed"
        events = [one.event for one in await process.runtime.history("a")]
        assert [event.payload for event in events if isinstance(event, ev.SignalReceived)] == ["a", "b"]

    drive(body)


def test_what_steps_have_emitted_is_told_once_where_their_commit_is_refused() -> None:
    """It is given back, and stands in front of the next commit that the store takes."""
    ctxs: list[Context] = []

    async def tells(n: int) -> int:
        ctxs[0].emit("topic", n)
        return n

    @workflow
    async def flow(ctx: Context) -> list[int]:
        ctxs.append(ctx)
        return await ctx.map(lambda n: ctx.step("tells", tells, n), range(4))

    async def body() -> None:
        process = Process(flow)
        commit = process.host.commit

        async def picky(batch: Any) -> Any:
            raws = [put.value for put in batch.puts if put.key.startswith("h/")]
            if any(raw.count(b"\xa5tells") > 1 for raw in raws):
                raise InvalidInput("not together")
            return await commit(batch)

        process.host.commit = picky  # type: ignore[method-assign]
        run = await process.runtime.start(flow, id="a")
        assert await run.result() == [0, 1, 2, 3]
        events = [one.event for one in await process.runtime.history("a")]
        assert sorted(event.data for event in events if isinstance(event, ev.Emitted)) == [0, 1, 2, 3]
        assert sorted(event.data for event in process.events if isinstance(event, Emission)) == [0, 1, 2, 3]

    drive(body)
