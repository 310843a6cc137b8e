"""Following a run: each event once, in its place, from any place on, at the cost of what is new."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import (
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Runtime,
    hand_over,
    workflow,
)
from alkaline_edge.runtime.following import Followed
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.support import drive


@workflow
async def counting(ctx: Context, n: int) -> int:
    total = 0
    for k in range(n):
        total += await ctx.step("add", lambda k=k: k)
        if k % 3 == 2:
            await ctx.sleep(1)
            ctx.emit("progress", k)
    return total


@workflow
async def waiting(ctx: Context) -> Any:
    return [await ctx.wait_for_signal("go") for _ in range(2)]


@workflow
async def generations(ctx: Context, n: int) -> Any:
    for k in range(3):
        await ctx.step("work", lambda k=k: k)
    if n == 0:
        return "done"
    return ctx.continue_as_new(n - 1)


async def followed(runtime: Runtime, id: str, after: str = "") -> list[Followed]:
    return [each async for each in runtime.follow(id, after) if isinstance(each, Followed)]


async def recorded(runtime: Runtime, id: str) -> list[tuple[int, int, int, Any]]:
    return [(n, each.commit, each.at, each.event) for n, each in enumerate(await runtime.history(id))]


def plain(found: list[Followed]) -> list[tuple[int, int, int, Any]]:
    return [(each.number, each.commit, each.at, each.event) for each in found]


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(0, 40), join_at=st.integers(0, 45), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_a_follower_hears_each_event_once_wherever_it_begins_and_is_cut(
    steps: int, join_at: int, cuts: list[int]
) -> None:
    """While the run goes on and its commits are sealed (8 a segment), and behind its end: the history as it is."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[counting]) as runtime:
            run = await runtime.start(counting, steps, id="r")
            for _ in range(join_at):
                await asyncio.sleep(0)
            heard: list[Followed] = []
            for count in [*cuts, 10_000]:
                following = runtime.follow("r", heard[-1].place if heard else "")
                async for each in following:
                    assert isinstance(each, Followed)
                    heard.append(each)
                    count -= 1
                    if count < 0:
                        break
                await following.aclose()
                if heard and type(heard[-1].event).__name__ == "Completed":
                    break
            await run.result()
            history = await recorded(runtime, "r")
            assert plain(heard) == history
            assert [each.place for each in heard] == [f"0.{n}" for n in range(len(history))]
            assert plain(await followed(runtime, "r")) == history
            for each in heard:
                assert plain(await followed(runtime, "r", each.place)) == history[each.number + 1 :]

    drive(test)


def test_a_follower_in_another_process_hears_what_this_one_records() -> None:
    """Another runtime on the same store, with none of the code."""

    async def test() -> None:
        store = SimulatedHost()
        async with Runtime(store, workflows=[counting, waiting]) as runtime, Runtime(store.reopen()) as other:
            await (await runtime.start(waiting, id="w")).settle()
            listening = asyncio.ensure_future(followed(other, "w"))
            for _ in range(2):
                await asyncio.sleep(0)
                await runtime.signal("w", "go", 1)
            assert await runtime.result("w", None) == [1, 1]
            assert plain(await listening) == await recorded(runtime, "w")

    drive(test)


def test_a_run_that_continues_as_new_is_followed_into_what_it_is_now() -> None:
    """Each place names its generation, so that none is taken for that of another; what is deleted is passed over."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[generations]) as runtime:
            run = await runtime.start(generations, 3, id="g")
            heard = await followed(runtime, "g")
            assert await run.result() == "done"
            ends = [each for each in heard if type(each.event).__name__ in ("ContinuedAsNew", "Completed")]
            passed = [int(each.place.split(".")[0]) for each in ends]
            assert (passed[0], passed[-1]) == (0, 3)
            assert passed == sorted(set(passed))
            assert len({each.place for each in heard}) == len(heard)
            last = await recorded(runtime, "g")
            assert plain(await followed(runtime, "g", ends[0].place))[-len(last) :] == last
            assert plain(await followed(runtime, "g", "0.1"))[-len(last) :] == last
            assert plain(await followed(runtime, "g", ends[-2].place))[-len(last) :] == last

    drive(test)


def test_what_a_follower_costs_is_what_is_new() -> None:
    """A commit behind a history of 20 or of 2,000: the same few reads; a commit of another run: none."""

    async def reads_behind(steps: int) -> int:
        reads = 0

        def count(number: int, verb: str, arguments: Any) -> None:
            nonlocal reads
            reads += verb in ("get", "list")

        host = SimulatedHost(on_call=count)

        @workflow
        async def long(ctx: Context, n: int) -> Any:
            for _ in range(n):
                await ctx.step("quick", lambda: 1)
            await ctx.step("gate", gate.wait)
            await ctx.step("last", last.wait)

        gate, last = asyncio.Event(), asyncio.Event()
        async with Runtime(host, workflows=[long, counting]) as runtime:
            run = await runtime.start(long, steps, id="r")
            following = runtime.follow("r")
            heard = 0
            async for _ in following:
                heard += 1
                if heard == steps + 1:
                    break
            pending = asyncio.ensure_future(anext(following))
            for _ in range(20):
                await asyncio.sleep(0)
            before = reads
            gate.set()
            await pending
            cost = reads - before
            pending = asyncio.ensure_future(anext(following))
            for _ in range(20):
                await asyncio.sleep(0)
            before = reads
            other = await runtime.start(counting, 2, id="other")
            await other.result()
            assert reads - before <= 3  # those of result()
            last.set()
            await pending
            await following.aclose()
            await run.result()
        return cost

    few, many = drive(lambda: reads_behind(20)), drive(lambda: reads_behind(2_000))
    assert few == many <= 4


def test_bad_places_and_runs_that_are_gone_are_refused() -> None:
    """Text that is no place, a place of another history, a run that is not there, one that was handed over."""

    async def test() -> None:
        async with (
            Runtime(MemoryHost(), workflows=[waiting]) as runtime,
            Runtime(MemoryHost(), workflows=[waiting]) as b,
        ):
            await (await runtime.start(waiting, id="w")).settle()
            for text in ("7", "0.", "0.-1", "0.1 ", "a.b", "0." + "9" * 16, "\u0660.\u0661"):
                with pytest.raises(InvalidInput, match="place of an event"):
                    await followed(runtime, "w", text)
            for text in ("0.9", "1.0"):
                with pytest.raises(ConflictError, match="no place"):
                    await followed(runtime, "w", text)
            with pytest.raises(NotFound):
                await followed(runtime, "none")
            listening = asyncio.ensure_future(followed(runtime, "w"))
            await asyncio.sleep(0)
            await hand_over(runtime, "w", b)
            with pytest.raises(ConflictError, match="handed over"):
                await listening

    drive(test)
