"""Requests and timers in one order: what was accepted before a deadline is applied before its timer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Context, Run, RunCancelled, Runtime, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import Process, drive

Wake = Callable[[Runtime], Awaitable[Any]]


async def _recover(runtime: Runtime) -> None:
    await runtime.recover()
    await runtime.run_due()


async def _serve(runtime: Runtime) -> None:
    over = asyncio.Event()
    serving = asyncio.ensure_future(runtime.serve(over))
    with pytest.raises(TimeoutError):
        await Run(runtime, "a").result(timeout=5)
    over.set()
    await serving


WAKES: dict[str, Wake] = {
    "recover": _recover,
    "run_due": lambda runtime: runtime.run_due(),
    "resume": lambda runtime: runtime.resume("a"),
    "join": lambda runtime: runtime.start("waiting", id="a", on_conflict="join"),
}


@workflow
async def waiting(ctx: Context, how: str) -> Any:
    """Waits a minute for a signal, in each of the ways that there are."""
    if how == "timeout=":
        return await ctx.wait_for_signal("s", timeout=60, default="late")
    if how == "race":
        return (await ctx.race(late=ctx.sleep(60), s=ctx.wait_for_signal("s")))[1] or "late"
    try:
        if how == "nested":
            async with asyncio.timeout(90), asyncio.timeout(60):
                return [await ctx.wait_for_signal("s"), await ctx.wait_for_signal("s")]
        if how == "wait_for":
            return await asyncio.wait_for(ctx.wait_for_signal("s"), 60)
        async with asyncio.timeout(60):
            return await ctx.wait_for_signal("s")
    except TimeoutError:
        return "late"


async def _down(process: Process, seconds: float) -> None:
    """The process dies, and comes back after ``seconds``."""
    before = process.host.now_ms()
    await process.crash()
    process.host.advance(seconds - (process.host.now_ms() - before) / 1000)


@pytest.mark.parametrize("wake", WAKES)
@pytest.mark.parametrize("how", ["timeout=", "race", "asyncio.timeout", "nested", "wait_for"])
def test_a_signal_that_was_accepted_before_the_deadline_wins_after_a_downtime(how: str, wake: str) -> None:
    """Both are found when the process comes back: the earlier one is applied first, whatever wakes the run."""

    async def body() -> None:
        for at, late in ((30, False), (59.999, False), (60, True), (90, True)):
            process = Process(waiting)
            await (await process.runtime.start(waiting, how, id="a")).settle()
            process.host.clock.auto = False
            await _down(process, at)
            client = Runtime(process.host)
            for n in (1, 2):
                await client.signal("a", "s", n)
            await _down(process, 100)
            await WAKES[wake](process.runtime)
            want = "late" if late else [1, 2] if how == "nested" else 1
            assert await Run(process.runtime, "a").result() == want, at

    drive(body)


@pytest.mark.parametrize("at", [30, 90])
def test_a_run_that_is_still_in_memory_keeps_the_order_too(at: float) -> None:
    """A runtime whose loop was held up finds a signal of another process and its own timer at once."""

    async def body() -> None:
        host = SimulatedHost(clock=VirtualClock(auto=False))
        runtime, client = Runtime(host, workflows=[waiting]), Runtime(host.reopen())
        run = await runtime.start(waiting, "timeout=", id="a")
        await run.settle()
        host.advance(at)
        await client.signal("a", "s", "in time")
        host.advance(100)
        await runtime.run_due()
        assert await run.result() == ("in time" if at < 60 else "late")

    drive(body)


@pytest.mark.parametrize("at", [30, 70])
def test_a_signal_for_a_wait_whose_deadline_passes_while_a_step_blocks_is_in_time(at: float) -> None:
    """A step holds the loop past the deadline; what another process sent before goes first."""
    host = SimulatedHost(clock=VirtualClock(auto=False))
    other = Runtime(host.reopen())

    async def blocks() -> None:
        host.advance(at)
        await other.signal("a", "s", "in time")
        host.advance(200)

    @workflow
    async def both(ctx: Context) -> Any:
        return (await ctx.all(ctx.wait_for_signal("s", timeout=60, default="late"), ctx.step(blocks)))[0]

    async def body() -> None:
        run = await Runtime(host, workflows=[both]).start(both, id="a")
        assert await run.result() == ("in time" if at < 60 else "late")

    drive(body)


@pytest.mark.parametrize("at", [30, 90])
def test_a_cancel_and_a_childs_end_keep_their_place_before_a_timer(at: float) -> None:
    """Not signals alone: a cancel, an update, and how a child ended count from when they were accepted."""

    @workflow
    async def kid(ctx: Context) -> str:
        return str(await ctx.wait_for_signal("go"))

    @workflow
    async def parent(ctx: Context) -> Any:
        try:
            async with asyncio.timeout(60):
                return await ctx.child(kid, id="kid")
        except TimeoutError:
            return "late"

    @workflow
    async def sleeper(ctx: Context) -> str:
        ctx.on_update("u", lambda x: x)
        await ctx.sleep(60)
        return "slept"

    async def body() -> None:
        process = Process(kid, parent, sleeper)
        for flow, id in ((parent, "p"), (sleeper, "c")):
            await (await process.runtime.start(flow, id=id)).settle()
        process.host.clock.auto = False
        await _down(process, at)
        kids = Runtime(process.host, workflows=[kid])
        await kids.signal("kid", "go", "the child")
        await Run(kids, "kid").settle()
        await kids.cancel("c", "enough")
        await _down(process, 100)
        await process.runtime.run_due()
        runtime = process.runtime
        assert await Run(runtime, "p").result() == ("late" if at > 60 else "the child")
        if at > 60:
            assert await Run(runtime, "c").result() == "slept"
        else:
            with pytest.raises(RunCancelled, match="enough"):
                await Run(runtime, "c").result()

    drive(body)


@workflow
async def diary(ctx: Context, deadlines: list[float]) -> list[Any]:
    """Writes down what came, in its order: timers by number, signals by payload."""
    log: list[Any] = []

    async def timer(n: int) -> None:
        await ctx.sleep(deadlines[n])
        log.append(["timer", n])

    async def signals() -> None:
        while (payload := await ctx.wait_for_signal("s")) is not None:
            log.append(["signal", payload])

    await ctx.all(signals(), ctx.map(timer, range(len(deadlines))))
    return log


@pytest.mark.parametrize("seed", range(4))
def test_many_requests_and_timers_drawn_at_random_come_in_the_order_of_time(seed: int) -> None:
    """A process that is there now and then, and senders that always are: the log is that of an ideal world."""
    rng = random.Random(seed)
    count = (3, 40, 130, 260)[seed]
    deadlines = [rng.randrange(1, 2000) / 4 for _ in range(count)]
    sent = sorted(rng.randrange(1, 2000) / 4 for _ in range(count))
    up = sorted(rng.sample(range(1, 500), rng.randrange(4)))

    async def body() -> None:
        process = Process(diary)
        process.host.clock.auto = False
        began = process.host.now_ms()
        await (await process.runtime.start(diary, deadlines, id="a")).settle()
        await process.runtime.close()
        moments = sorted([*((at, "send", n) for n, at in enumerate(sent)), *((float(at), "up", -1) for at in up)])
        client = Runtime(process.host)
        for at, what, n in moments:
            process.host.advance(max(0.0, at - (process.host.now_ms() - began) / 1000))
            if what == "send":
                await client.signal("a", "s", n)
            else:
                async with Runtime(process.host, workflows=[diary]) as there:
                    await there.run_due()
        process.host.advance(1000)
        await client.signal("a", "s", None)
        last = Runtime(process.host, workflows=[diary])
        await last.run_due()
        log = await Run(last, "a").result()
        timed = sorted([*((at, 0, n) for n, at in enumerate(deadlines)), *((at, 1, n) for n, at in enumerate(sent))])
        # A timer that is due at the moment of a signal goes first; those of one moment by number.
        assert log == [["signal" if kind else "timer", n] for _, kind, n in timed]

    drive(body)


def test_a_senders_clock_that_is_ahead_takes_nothing_from_a_request_that_arrived_before_another_in_time() -> None:
    """The places say who was first: of two requests the earlier counts as accepted no later than the other one."""

    async def body() -> None:
        host = SimulatedHost(clock=VirtualClock(auto=False))
        runtime = Runtime(host, workflows=[waiting])
        await (await runtime.start(waiting, "nested", id="a")).settle()
        await runtime.close()
        client = Runtime(host)
        host.advance(30 + 3600)
        await client.signal("a", "s", "fast clock")
        host.advance(1 - 3600)
        await client.signal("a", "s", "right clock")
        host.advance(100)
        last = Runtime(host, workflows=[waiting])
        await last.run_due()
        assert await Run(last, "a").result() == ["fast clock", "right clock"]

    drive(body)


def test_a_request_that_does_not_say_when_it_was_accepted_is_in_time() -> None:
    """Version 0.1 wrote requests of four items; nothing is known against them."""

    async def body() -> None:
        host = SimulatedHost(clock=VirtualClock(auto=False))
        runtime = Runtime(host, workflows=[waiting])
        await (await runtime.start(waiting, "timeout=", id="a")).settle()
        await runtime.close()
        old = Codec().encode(["s0123456789abcdef", "signal", "s", "old"])
        await runtime.store.commit(Write({}, {"i/a/a1": old}))
        host.advance(100)
        last = Runtime(host, workflows=[waiting])
        await last.run_due()
        assert await Run(last, "a").result() == "old"

    drive(body)
