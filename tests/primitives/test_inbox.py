"""The inbox: a request counts once, nothing is consumed behind the end, and a run wakes when it should."""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import Context, Run, Runtime, workflow
from alkaline_edge.runtime.write import Write
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


def test_requests_behind_the_one_that_ends_the_run_are_deleted_and_not_recorded() -> None:
    """The history ends with the outcome; what was in its commit is in it, and nothing of any later one."""

    async def body() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        for n, payload in enumerate([1, None, 2]):
            await _put(process.runtime, f"a{n + 1}", f"s-{n}", payload)
        data = process.runtime.codec.encode(["p-3", "pause", "", None, 0])
        await process.runtime.store.commit(Write({}, {"i/a/a4": data}))
        await _put(process.runtime, "a5", "s-4", 3)
        await process.runtime.run_due()
        assert await run.result() == [1]
        assert kinds(await process.runtime.history("a")) == ["Started", *["SignalReceived"] * 3, "Completed"]
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
