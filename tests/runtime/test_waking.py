"""Waking: what is due is found by a few reads, and when to be called again is a time that comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, keys, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.host import Entry
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore
from tests.support import drive

YEAR = 365 * 86_400


def manual() -> SimulatedHost:
    host = SimulatedHost()
    host.clock.auto = False
    return host


def test_run_due_alone_finds_a_timer_of_a_clock_ahead_behind_many_others() -> None:
    """A process that only calls run_due, or a new one for each call, finds it in a few calls."""

    @workflow(name="nap", version=1)
    async def nap(ctx: Context, seconds: float) -> None:
        await ctx.sleep(seconds)

    async def body(restarts: bool) -> None:
        host = manual()
        runtime = Runtime(host, workflows=[nap])
        for n in range(230):
            await (await runtime.start(nap, 90_000 + n, id=f"near{n}")).settle()
        host.advance(YEAR)
        await (await runtime.start(nap, 10, id="wrong")).settle()
        host.advance(-YEAR)
        calls = 0
        while (await runtime.get_execution("wrong")).status != "completed":
            calls += 1
            await runtime.run_due()
            host.advance(11)
            if restarts:
                await runtime.close()
                host = host.reopen()
                runtime = Runtime(host, workflows=[nap])
        assert calls < (40 if restarts else 6)
        await runtime.close()

    for restarts in (False, True):
        drive(lambda restarts=restarts: body(restarts))  # type: ignore[misc]


def test_run_due_reads_what_it_returns_and_not_what_is_stored() -> None:
    """Three small reads where nothing is due, however many timers wait; a page of them more once in five seconds."""
    store = SimulatedStore()
    counts: list[tuple[int, int]] = []

    class Counting(SimulatedHost):
        entries = 0

        async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Any]:
            found = await super().list(prefix, after, limit)
            self.entries += len(found)
            return found

    async def body() -> None:
        host = Counting(store)
        host.clock.auto = False
        for n in range(3_000):
            key = keys.timer(host.now_ms() + 1_000_000 + n, f"run{n}")
            store.entries[key] = Entry(key, Codec().encode(host.now_ms()), "0")
        store.keys = sorted(store.entries)
        async with Runtime(host) as runtime:
            for _ in range(8):
                before, host.entries = host.counts["list"], 0
                assert await runtime.run_due() == host.now_ms() + 1_000_000
                counts.append((host.counts["list"] - before, host.entries))
            assert counts[0][0] <= 5
            assert counts[0][1] <= 210
            assert counts[1:] == [(3, 9)] * 7
            assert host.counts["get"] == 0

    drive(body)


def test_serve_finds_a_timer_that_was_set_by_a_clock_ahead() -> None:
    """Behind more timers than a page of nearer ones, too."""
    store = SimulatedStore()

    @workflow(name="nap", version=1)
    async def nap(ctx: Context, seconds: float) -> None:
        await ctx.sleep(seconds)

    async def body() -> None:
        host = SimulatedHost(store)
        host.clock.auto = False
        async with Runtime(host, workflows=[nap]) as runtime:
            for n in range(120):
                await (await runtime.start(nap, 90_000 + n, id=f"near{n}")).settle()
            host.advance(YEAR)
            await (await runtime.start(nap, 10, id="wrong")).settle()
            host.advance(-YEAR)
        host.clock.auto = True
        async with Runtime(host.reopen(), workflows=[nap]) as runtime:
            stop = datetime.fromtimestamp(host.now_ms() / 1000 + 120, UTC)
            await runtime.serve(until=stop)
            assert (await runtime.get_execution("wrong")).status == "completed"

    drive(body)


# --- what can't go on ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("why", ["not registered", "version gone", "diverges"])
@pytest.mark.parametrize("restarts", [False, True])
def test_run_due_never_answers_a_past_time_again_and_again(why: str, restarts: bool) -> None:
    """An alarm that is set to the answer fires a dozen times in an hour, and other runs are on time."""

    def make(name: str, version: int, step: str) -> Any:
        @workflow(name=name, version=version)
        async def flow(ctx: Context) -> None:
            await ctx.step(step, lambda: 1)
            await ctx.sleep(5)

        return flow

    @workflow(name="other", version=1)
    async def other(ctx: Context) -> None:
        for _ in range(10):
            await ctx.sleep(300)

    later = {"not registered": [], "version gone": [make("w", 2, "one")], "diverges": [make("w", 1, "two")]}[why]

    async def body() -> None:
        host = manual()
        async with Runtime(host, workflows=[make("w", 1, "one"), other]) as runtime:
            await (await runtime.start("w", id="a")).settle()
            await (await runtime.start(other, id="b")).settle()
        runtime = Runtime(host, workflows=[*later, other])
        begun, fired = host.now_ms(), 0
        while host.now_ms() - begun < 3_600_000:
            due = await runtime.run_due()
            assert due is not None
            assert due > host.now_ms()
            fired += 1
            host.advance((due - host.now_ms()) / 1000)
            if restarts:
                await runtime.close()
                runtime = Runtime(host, workflows=[*later, other])
        assert fired < 40
        record = await runtime.get_execution("b")
        assert record.status == "completed"
        assert record.updated_at - begun < 3_001_000
        await runtime.close()
        async with Runtime(host, workflows=[make("w", 1, "one")]) as runtime:  # the right code is back
            await runtime.run_due()
            assert (await runtime.get_execution("a")).status == "completed"

    drive(body)
