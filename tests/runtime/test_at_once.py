"""A step that ends at once, on a host whose commits wait for nothing: recorded without a turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, commits_now
from alkaline_edge.runtime.driver import BREATH_ROUNDS
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.opening import open_host
from tests.support import Process, drive

SYNCHRONOUS = Capabilities("now", durability="volatile", synchronous=True, segment_commits=8, inline_limit=300)
SLOW = Capabilities("later", durability="volatile", segment_commits=8, inline_limit=300)
DONE: list[int] = []


def effect(n: int) -> int:
    DONE.append(n)
    return n


@workflow
async def row(ctx: Context, count: int) -> list[int]:
    return [await ctx.step("effect", effect, n) for n in range(count)]


def flaky(n: int) -> Any:
    if n % 5 == 4:
        raise ValueError(n)
    return "x" * (n * 37 % 700)  # some of it over the inline limit


async def awaited(n: int) -> int:
    await asyncio.sleep(0)
    return n


@workflow
async def row_awaited(ctx: Context, count: int) -> list[int]:
    return [await ctx.step("awaited", awaited, n) for n in range(count)]


@workflow
async def mixed(ctx: Context, seed: int) -> list[Any]:
    """Steps of all kinds, with what a commit may hold beside them."""
    draw, found = random.Random(seed), list[Any]()
    for n in range(draw.randint(1, 25)):
        kind = draw.choice(
            ["plain", "plain", "plain", "raises", "async", "once", "costs", "now", "sleep", "two", "emit"]
        )
        if kind == "plain":
            found.append(len(await ctx.step("flaky", flaky, 5 * n)))
        elif kind == "raises":
            try:
                await ctx.step("flaky", flaky, 4)
            except ValueError as error:
                found.append(str(error))
        elif kind == "async":
            found.append(await ctx.step("awaited", awaited, n))
        elif kind == "once":
            found.append(await ctx.step("effect", effect, n, at_most_once=True))
        elif kind == "costs":
            found.append(await ctx.step("effect", effect, n, cost=3))
        elif kind == "now":
            found.append(ctx.now().year)
        elif kind == "sleep":
            await ctx.sleep(n % 3)
        elif kind == "two":
            found += await ctx.all(ctx.step("effect", effect, n), ctx.step("effect", effect, n + 1))
        else:
            ctx.emit("topic", n)
            ctx.set_attributes(n=n)
    return found


async def through(seed: int, capabilities: Capabilities) -> tuple[Any, list[Any]]:
    """The result of ``mixed`` and what its history holds."""
    process = Process(mixed, host=SimulatedHost(capabilities=capabilities))
    run = await process.runtime.start(mixed, seed, id="a")
    while not (await process.runtime.get_execution("a")).finished:
        await run.settle()
        process.host.advance(3)
        await process.runtime.run_due()
    events = [one.event for one in await process.runtime.history("a")][1:]
    result = await run.result()
    await process.crash()
    assert [one.event for one in await process.runtime.history("a")][1:] == events
    return result, events


@pytest.mark.parametrize("seed", range(25))
def test_a_history_is_the_same_whether_its_steps_were_recorded_at_once(seed: int) -> None:
    """Steps that raise, wait, cost, are large or run at most once, among those that end at once."""

    async def test() -> None:
        assert await through(seed, SYNCHRONOUS) == await through(seed, SLOW)

    drive(test)


@pytest.mark.parametrize("kind", [
    "crash", "crash-after", "applied-then-error", "error-before", "rejected", "applied-then-conflict",
])  # fmt: skip
def test_whatever_befalls_a_commit_no_recorded_step_runs_again(kind: Any) -> None:
    """At each callback of a run in turn; what was recorded is found by the next process."""

    async def befallen(at: int) -> bool:
        """Whether the run had ended before that callback."""
        DONE.clear()
        host = SimulatedHost(capabilities=SYNCHRONOUS, fault=lambda n, verb: kind if n == at else None)
        process = Process(row, host=host)
        with contextlib.suppress(SimulatedCrash, Exception):
            await (await process.runtime.start(row, 6, id="a")).settle()
        reached = host.calls >= at
        await process.crash()
        with contextlib.suppress(Exception):  # there is no such run, where its start was what was refused
            run = await process.runtime.resume("a")
            assert await run.result() == list(range(6))
            again = [n for n in range(6) if DONE.count(n) > 1]
            assert len(again) <= 1, f"{kind} at {at}: {DONE}"
        await process.runtime.close()
        return not reached

    async def test() -> None:
        at = 1
        while not await befallen(at):
            at += 1
        assert at > 8

    drive(test)


def test_a_step_that_ends_at_once_takes_no_turn_no_task_and_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on the host's loop: 200 steps need no more of it than the turns that others are given now and then."""

    async def counted(count: int) -> tuple[int, int]:
        loop, turns, tasks = asyncio.get_running_loop(), 0, 0
        call_soon, create_task = loop.call_soon, loop.create_task

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal turns
            turns += 1
            return call_soon(*args, **options)

        def making(*args: Any, **options: Any) -> Any:
            nonlocal tasks
            tasks += 1
            return create_task(*args, **options)

        async with Runtime(SimulatedHost(capabilities=SYNCHRONOUS), workflows=[row]) as runtime:
            with monkeypatch.context() as patch:
                patch.setattr(loop, "call_soon", counting)
                patch.setattr(loop, "create_task", making)
                assert await (await runtime.start(row, count)).result() == list(range(count))
        return turns, tasks

    async def test() -> None:
        few, many = await counted(200), await counted(400)
        assert many[1] - few[1] <= 200 // BREATH_ROUNDS
        assert many[0] - few[0] <= 200 // 4  # sealing a segment of 8 takes a commit that waits

    drive(test)


@pytest.mark.parametrize("flow", [row, row_awaited])
def test_a_run_of_a_few_steps_is_recorded_at_once_from_its_first(flow: Any) -> None:
    """Before the driver has ever waited: each step is one commit that waits for nothing, also one that itself waits."""

    class Host(MemoryHost):
        now = 0

        async def commit(self, batch: Batch) -> Committed | Conflict:
            return self.store.apply(batch)

        def commit_now(self, batch: Batch) -> Committed | Conflict:
            self.now += 1
            return self.store.apply(batch)

    async def test() -> None:
        host = Host()
        host.capabilities = dataclasses.replace(host.capabilities, threads=False)
        async with Runtime(host, workflows=[flow]) as runtime:
            await (await runtime.start(flow, 5)).result()
        assert host.now == 5

    drive(test)


def test_what_comes_in_is_heard_though_no_step_waits() -> None:
    """A cancel that the second step asks for ends a run of steps that end at once, within a breath."""

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[]) as runtime:

            def ask(n: int) -> None:
                DONE.append(n)
                if n == 1:
                    asyncio.ensure_future(runtime.cancel("a"))  # noqa: RUF006  # it is over within the test

            @workflow
            async def endless(ctx: Context) -> None:
                for n in range(100_000):
                    await ctx.step("ask", ask, n)

            DONE.clear()
            async with Runtime(runtime.host, workflows=[endless]) as other:
                run = await other.start(endless, id="a")
                await run.settle()
                assert run.status == "cancelled"
            assert len(DONE) < 10 * BREATH_ROUNDS

    drive(test)


def test_whoever_has_a_commit_of_their_own_sees_each() -> None:
    """A subclass, a method set on the object, and a wrapper that hands on what it does not know."""

    class Counting(MemoryHost):
        count = 0

        async def commit(self, batch: Batch) -> Committed | Conflict:
            self.count += 1
            return await super().commit(batch)

    assert commits_now(MemoryHost()) is not None
    assert commits_now(Counting()) is None
    patched = MemoryHost()
    patched.commit = patched.commit  # type: ignore[method-assign]
    assert commits_now(patched) is None
    assert commits_now(open_host("memory:", read_only=True)) is None

    async def test() -> None:
        host = Counting()
        async with Runtime(host, workflows=[row]) as runtime:
            await (await runtime.start(row, 20)).result()
        assert host.count >= 21

    drive(test)
