"""Forgetting: a run that goes on as new for ever stays bounded, and what still counts is kept."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from alkaline_edge import Context, Run, RunCancelled, Runtime, workflow
from alkaline_edge.runtime import forgetting
from alkaline_edge.testing import SimulatedHost
from tests.simulation.engine import CAPABILITIES
from tests.support import Process, drive


@workflow
async def eternal(ctx: Context, n: int) -> None:
    """Never ends."""
    ctx.on_update("u", lambda x: "y" * 700)
    await ctx.step("large", lambda: f"{n}" * 800)
    await ctx.wait_for_signal("go")
    ctx.continue_as_new(n + 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_continues_as_new_for_ever_stays_bounded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals with and without a dedupe key, updates, pauses, large values, crashes: as many keys later as before."""
    monkeypatch.setattr(forgetting, "KEPT", 5)
    monkeypatch.setattr(forgetting, "_EVERY", 4)
    rng = random.Random(seed)

    async def body() -> None:
        process = Process(eternal, host=SimulatedHost(capabilities=CAPABILITIES, seed=seed))
        run = await process.runtime.start(eternal, 0, id="r")
        most: list[int] = []
        for n in range(120):
            if n % 40 == 0:
                most.append(0)
            await run.settle()
            run = Run(process.runtime, "r")
            if rng.random() < 0.7:
                assert await run.update("u", n) == "y" * 700
            if rng.random() < 0.3:
                await run.pause()
                await run.resume()
                await run.settle()
            if rng.random() < 0.1:
                await process.crash()
                run = await process.runtime.resume("r")
            key = f"key {n}"
            for _ in range(2):  # sent twice, it counts once
                await run.signal("go", dedupe=key)
            await run.settle()
            most[-1] = max(most[-1], len(process.host.store.keys))
        assert (await process.runtime.get_execution("r")).generation == 120
        assert most[2] <= most[0] * 1.2, most
        kinds = Counter(key[0] for key in process.host.store.keys)
        assert kinds["d"] <= 3 * 5 + 6 * 5, kinds
        assert kinds["u"] <= 5 + 6, kinds
        assert kinds["h"] + kinds["s"] <= 20, kinds
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        await process.runtime.delete("r")
        assert not [key for key in process.host.store.keys if not key.startswith("m/")]

    drive(body)


def test_a_dedupe_key_counts_through_the_next_generation_and_among_the_newest() -> None:
    """With hundreds of requests in one generation all its keys count in the next one; later the newest do."""

    @workflow
    async def flow(ctx: Context, got: list[int]) -> list[int]:
        while (n := await ctx.wait_for_signal("s")) is not None:
            got.append(n)
            if n == -1:
                ctx.continue_as_new(got)
        return got

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, [], id="r")
        sent: list[int] = []
        for generation in range(4):
            for n in range(130):
                await run.signal("s", generation * 130 + n, dedupe=f"{generation} {n}")
                sent.append(generation * 130 + n)
            await run.signal("s", -1)
            sent.append(-1)
            await run.settle()
            for n in range(130):  # every key of the generation before
                await run.signal("s", 9999, dedupe=f"{generation} {n}")
        await run.signal("s")
        assert await run.result() == sent

    drive(body)


def most_keys(kept: int) -> int:
    """Markers of three kinds and replies that are kept, and those of 17 generations that are not yet looked through.

    Two histories with their large values, the record and its indexes come to the rest.
    """
    return 4 * kept + 17 * 4 + 40


def test_a_run_that_goes_on_for_ever_leaves_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals with a key and without one, updates, large payloads and values: ten times over what is kept."""
    monkeypatch.setattr(forgetting, "KEPT", 25)

    @workflow
    async def eternal(ctx: Context, n: int) -> int:
        ctx.on_update("u", lambda text: len(text))
        got = [await ctx.wait_for_signal("s"), await ctx.wait_for_signal("s")]
        await ctx.step("large", lambda: "v" * 900 + str(n))
        assert len(got[0]) in (1, 900)
        if n < 260:
            ctx.continue_as_new(n + 1)
        return n

    async def body() -> None:
        host = SimulatedHost(capabilities=CAPABILITIES)
        async with Runtime(host, workflows=[eternal]) as runtime:
            run = await runtime.start(eternal, 1, id="a")
            await run.settle()
            most = 0
            for n in range(1, 261):
                text = ("x" if n % 50 else "x" * 899) + str(n % 10) * (n % 50 == 0)
                if n % 4 == 0:
                    assert await run.update("u", text) == len(text)
                await run.signal("s", text[:900], dedupe=f"key {n}")
                await run.signal("s", n)
                await run.settle()
                most = max(most, len(host.store.keys))
            assert await run.result() == 260
            assert most <= most_keys(25)

    drive(body)
