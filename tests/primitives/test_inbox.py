"""The inbox: a request counts once, nothing is consumed behind the end, and a run wakes when it should."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from alkaline_edge import Context, Run, Runtime, keys, workflow
from alkaline_edge.runtime.store import Write
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive, kinds


@workflow
async def collects(ctx: Context) -> list[Any]:
    """Every payload up to None."""
    got: list[Any] = []
    while (payload := await ctx.wait_for_signal("s")) is not None:
        got.append(payload)
    return got


async def _put(runtime: Runtime, place: str, entry: str, payload: Any) -> None:
    data = runtime.codec.encode([entry, "signal", "s", payload, 0])
    await runtime.store.commit(Write({}, {f"i/a/{place}": data}))


def test_an_entry_that_the_history_knows_is_dropped_live_and_after_a_crash() -> None:
    """The same entry at another place, as a sender leaves it whose answer was lost: recorded once, and deleted."""

    async def body() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        for place in ("a1", "a2"):  # both at once
            await _put(process.runtime, place, "s-one", 1)
        await process.runtime.run_due()
        await _put(process.runtime, "a3", "s-one", 1)  # behind it, in the same process
        await process.runtime.run_due()
        await process.crash()
        await _put(process.runtime, "a1", "s-one", 1)  # and in the next one
        await process.runtime.run_due()
        assert not [key for key in process.host.store.keys if key.startswith("i/")]
        await process.runtime.signal("a", "s", None)
        assert await Run(process.runtime, "a").result() == [1]
        assert kinds(await process.runtime.history("a")).count("SignalReceived") == 2

    drive(body)


def test_two_senders_of_one_dedupe_key_at_the_same_moment_send_one_signal() -> None:
    """Even where the first one's entry was consumed before the second one commits: the marker is checked with it."""

    async def body() -> None:
        host = SimulatedHost()
        runtime = Runtime(host, workflows=[collects])
        run = await runtime.start(collects, id="a")
        await run.settle()
        first, second = Runtime(host.reopen()), Runtime(host.reopen())
        commit = second.host.commit
        looked = asyncio.Event()

        async def later(batch: Any) -> Any:
            looked.set()
            await asyncio.sleep(0)
            while [key for key in host.store.keys if key.startswith("i/")] or not sent.done():
                await asyncio.sleep(0)
            return await commit(batch)

        second.host.commit = later  # type: ignore[method-assign]
        slow = asyncio.ensure_future(second.signal("a", "s", 1, dedupe="k"))

        async def send() -> None:
            await looked.wait()
            await first.signal("a", "s", 1, dedupe="k")
            await runtime.run_due()

        sent = asyncio.ensure_future(send())
        await slow
        await run.signal("s", None)
        assert await run.result() == [1]

    drive(body)


def test_requests_behind_the_one_that_ends_the_run_are_deleted_and_not_recorded() -> None:
    """The history ends with the outcome."""

    async def body() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        for n, payload in enumerate([1, None, 2, 3]):
            await _put(process.runtime, f"a{n + 1}", f"s-{n}", payload)
        await process.runtime.run_due()
        assert await run.result() == [1]
        assert kinds(await process.runtime.history("a")) == ["Started", "SignalReceived", "SignalReceived", "Completed"]
        assert not [key for key in process.host.store.keys if key.startswith("i/")]

    drive(body)


def test_a_suspended_run_wakes_at_the_first_of_its_timers_and_a_drained_one_at_once() -> None:
    """The record and the index say when; a run that was set aside with work to do is due for whoever comes next."""

    @workflow
    async def waits(ctx: Context) -> Any:
        return await ctx.all(ctx.sleep(500), ctx.sleep(20), ctx.sleep(70), ctx.wait_for_signal("s", timeout=300))

    @workflow
    async def works(ctx: Context) -> int:
        for n in range(10):
            await ctx.step(f"s{n}", asyncio.sleep, 0)
        return 1

    async def body() -> None:
        process = Process(waits, works)
        now = process.host.now_ms()
        await (await process.runtime.start(waits, id="a")).settle()
        record = await process.runtime.get_execution("a")
        assert record.wake_at == now + 20_000
        assert [key for key in process.host.store.keys if key.startswith("t/")] == [f"t/{now + 20_000:013d}/a"]
        run = await process.runtime.start(works, id="b")
        process.runtime.drain()
        await run.settle()
        drained = await process.runtime.get_execution("b")
        assert (drained.status, drained.wake_at is not None and drained.wake_at <= process.host.now_ms()) == (
            "suspended", True,
        )  # fmt: skip

    drive(body)


@pytest.mark.parametrize("seed", range(12))
def test_a_request_is_put_behind_the_last_one_without_reading_them_all(seed: int) -> None:
    """Whatever places are taken, with gaps, and whatever other runs have put there."""
    draw = random.Random(seed)

    async def body() -> None:
        host = SimulatedHost()
        runtime = Runtime(host, workflows=[collects])
        run = await runtime.start(collects, id="a")
        await run.settle()
        sender = Runtime(host.reopen())
        first, count = draw.choice([1, 9, 95, 1_000]), draw.choice([0, 1, 15, 16, 17, 40, 700])
        places = [n for n in range(first, first + count) if draw.random() < draw.choice([1, 0.3])]
        for n in places:
            await _put(sender, keys.position(n), f"s{n}", n)
        for n in range(draw.choice([0, 3])):
            await _put(sender, f"~child{n}", f"c{n}", n)
        calls = sender.host.calls  # type: ignore[attr-defined]
        for n in range(3):
            await sender.signal("a", "s", "mine")
            there = [key for key in host.store.keys if key.startswith("i/a/") and "~" not in key]
            assert max(map(keys.position_of, there)) == max(places, default=0) + n + 1
        assert sender.host.calls - calls < 3 * 45  # type: ignore[attr-defined]
        await runtime.close()

    drive(body)
