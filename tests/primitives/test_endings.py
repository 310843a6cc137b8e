"""Runtime.drain: an invocation that nears a limit stops between two steps, and the next one goes on there."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.host import Batch, Committed, Conflict
from alkaline_edge.testing import SimulatedHost
from tests.support import drive

ran: Counter[str] = Counter()


def count(name: str) -> str:
    ran[name] += 1
    return name


async def slow(name: str, gate: asyncio.Event) -> str:
    await gate.wait()
    return count(name)


@workflow(name="many", version=1)
async def many(ctx: Context, steps: int) -> int:
    for n in range(steps):
        await ctx.step(f"s{n}", count, f"s{n}")
    return steps


class Metered(SimulatedHost):
    """Calls ``low`` at every hundredth commit."""

    commits = 0
    low = staticmethod(lambda: None)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        self.commits += 1
        if self.commits % 100 == 0:
            self.low()
        return await super().commit(batch)


def test_a_long_run_goes_on_in_the_next_invocation() -> None:
    """Each invocation ends well before it has made 110 commits, and no step runs twice."""

    async def body() -> None:
        ran.clear()
        host = Metered()
        invocations = 0
        async with Runtime(host, workflows=[many]) as runtime:
            host.low = runtime.drain
            run = await runtime.start("many", 350, id="exe_1")
            await run.settle()
            record = await runtime.get_execution("exe_1")
            assert (record.status, record.owner) == ("suspended", None)
            assert record.wake_at is not None
            assert record.wake_at <= host.now_ms()
        while (await host_status(host)) != "completed":
            invocations += 1
            before = host.commits
            async with Runtime(host, workflows=[many]) as runtime:
                host.low = runtime.drain
                await runtime.run_due()
            assert 50 < host.commits - before < 110
            assert invocations < 10
        assert invocations == 3
        assert set(ran.values()) == {1}
        assert len(ran) == 350

    drive(body)


async def host_status(host: SimulatedHost) -> str:
    async with Runtime(host) as reader:
        return str((await reader.get_execution("exe_1")).status)


def test_what_is_in_flight_is_recorded_first() -> None:
    """Branches that are under way end and are recorded; what they would do next is left for the next invocation."""
    ran.clear()

    async def branch(ctx: Context, name: str, gate: asyncio.Event) -> None:
        await ctx.step(name, slow, name, gate)
        await ctx.step(f"{name} again", count, f"{name} again")

    async def body() -> None:
        gate = asyncio.Event()

        @workflow(name="fan", version=1)
        async def fan(ctx: Context) -> str:
            await ctx.all(*[branch(ctx, f"b{n}", gate) for n in range(3)])
            return "done"

        host = SimulatedHost()
        async with Runtime(host, workflows=[fan]) as runtime:
            run = await runtime.start("fan", id="exe_1")
            await asyncio.sleep(0.01)
            runtime.drain()
            await asyncio.sleep(0.01)
            assert (await runtime.get_execution("exe_1")).status == "running"
            gate.set()
            await run.settle()
            assert ran == {"b0": 1, "b1": 1, "b2": 1}
            assert await runtime.run_due() is not None
            assert ran.total() == 3
        async with Runtime(host, workflows=[fan]) as runtime:
            await runtime.run_due()
            assert await (await runtime.resume("exe_1")).result() == "done"
        assert set(ran.values()) == {1}
        assert ran.total() == 6

    drive(body)


@pytest.mark.parametrize("kind", ["signal", "sleep"])
def test_a_run_that_only_waits_is_suspended_as_ever(kind: str) -> None:
    """A run with nothing to do but to wait is not called due."""

    @workflow(name="waiting", version=1)
    async def waiting(ctx: Context) -> None:
        if kind == "signal":
            await ctx.wait_for_signal("go")
        await ctx.sleep(3600)

    async def body() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[waiting]) as runtime:
            runtime.drain()
            run = await runtime.start("waiting", id="exe_1")
            await run.settle()
            record = await runtime.get_execution("exe_1")
            assert record.status == "suspended"
            assert record.wake_at is None if kind == "signal" else record.wake_at > host.now_ms()  # type: ignore[operator]

    drive(body)
