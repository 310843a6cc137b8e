"""At most once: no attempt is started twice, wherever processes die, and only its own policy starts another."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from alkaline_edge import Context, Retry, StepInfo, StepOutcomeUnknown, workflow
from alkaline_edge import events as ev

from ..support import Process, drive, kinds

REFUSED = Retry(max_attempts=3, backoff=0, retryable=lambda error: isinstance(error, ConnectionRefusedError))
"""A connection that was refused is known to have done nothing."""


def test_a_second_attempt_that_was_started_is_not_started_again() -> None:
    """Attempt 1 was refused, attempt 2 starts and its process dies: the next one says that its outcome is unknown."""
    starts: list[int] = []

    async def pay(info: StepInfo) -> str:
        starts.append(info.attempt)
        if info.attempt == 1:
            raise ConnectionRefusedError("nothing was sent")
        process.host.dead = True
        return "paid"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        try:
            return await ctx.step("pay", pay, at_most_once=True, retry=REFUSED)
        except StepOutcomeUnknown:
            return "unknown"

    process = Process(flow)

    async def test() -> None:
        await process.runtime.start("flow", id="a")
        while len(starts) < 2:
            await asyncio.sleep(0)
        runtime = await process.crash()
        assert await (await runtime.resume("a")).result() == "unknown"
        assert kinds(await runtime.history("a"))[1:4] == ["StepIntended", "AttemptFailed", "StepIntended"]

    drive(test)
    assert starts == [1, 2]


def test_the_intent_stands_though_the_flag_is_gone() -> None:
    """Code that drops at_most_once while an outcome is unknown does not start the step a second time."""
    starts: list[int] = []

    async def pay() -> str:
        starts.append(1)
        process.host.dead = True
        return "paid"

    def version(once: bool) -> Any:
        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            return await ctx.step("pay", pay, at_most_once=once)

        return flow

    process = Process(version(True))

    async def test() -> None:
        await process.runtime.start("flow", id="a")
        while not starts:
            await asyncio.sleep(0)
        runtime = await process.crash(version(False))
        with pytest.raises(StepOutcomeUnknown):
            await (await runtime.resume("a")).result()

    drive(test)
    assert len(starts) == 1


class World:
    """What the steps of one trial did, and how each of their attempts ends, drawn from ``random``."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.starts: Counter[tuple[str, int]] = Counter()

    async def act(self, info: StepInfo, delay: float) -> str:
        self.starts[info.idempotency_key, info.attempt] += 1
        for _ in range(self.draw.randrange(4)):
            await asyncio.sleep(0)
        kind = self.draw.randrange(6)
        if kind == 0:
            raise ConnectionRefusedError("nothing was sent")
        if kind == 1:
            raise ValueError("the answer was lost")
        if kind == 2:
            await asyncio.sleep(delay)
        return "acted"

    def act_inline(self, info: StepInfo) -> str:
        self.starts[info.idempotency_key, info.attempt] += 1
        if self.draw.randrange(4) == 0:
            raise ConnectionRefusedError("nothing was sent")
        return "acted"


@pytest.mark.parametrize("seed", range(60))
def test_random_crashes_start_no_attempt_twice(seed: int) -> None:
    """Fan-outs, retries, time-outs, races, cancels and compensations: each attempt starts once.

    The process dies at random calls of the store, before or after they are applied. An attempt after the first needs
    a recorded failure of the one before it.
    """
    draw = random.Random(seed)
    world = World(draw)

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        async def one(n: int, **options: Any) -> Any:
            try:
                fn, args = (world.act, (60.0,)) if n % 2 else (world.act_inline, ())
                return await ctx.step(f"act {n}", fn, *args, at_most_once=True, retry=REFUSED, **options)
            except (StepOutcomeUnknown, ConnectionRefusedError, ValueError, TimeoutError) as error:
                return type(error).__name__

        await one(0, compensate=lambda: None)
        await ctx.all(*(one(n, timeout=5) for n in range(1, 5)))
        await ctx.race(a=one(5), b=one(6), c=ctx.sleep(1))
        await one(7, timeout=5)
        raise ValueError("the end")

    process = Process(flow)
    deaths = draw.randrange(1, 4)

    def befall(number: int, verb: str, arguments: Any) -> str | None:
        if process.host.dead or draw.random() > 0.06:
            return None
        return draw.choice(["crash", "crash-after"])

    async def test() -> None:
        process.host.on_call = befall
        for death in range(deaths + 1):
            if death == deaths:
                process.host.on_call = None
            try:
                runtime = process.runtime
                run = await (runtime.start("flow", id="a", on_conflict="join") if not death else runtime.resume("a"))
                if death == 1 and draw.randrange(3) == 0:
                    await run.cancel("enough")
                await asyncio.wait_for(run.result(), 2)
            except BaseException as error:
                if isinstance(error, AssertionError):
                    raise
            if death < deaths:
                await process.crash()
                process.host.on_call = befall
        if not any(entry.startswith("r/") for entry in process.host.store.entries):
            return  # it died before the run was recorded
        history = await process.runtime.history("a")
        assert (await process.runtime.get_execution("a")).finished
        failed = Counter(recorded.event.id for recorded in history if isinstance(recorded.event, ev.AttemptFailed))
        intents = Counter(recorded.event.id for recorded in history if isinstance(recorded.event, ev.StepIntended))
        assert all(count <= 1 + failed[id] for id, count in intents.items())

    drive(test)
    twice = {key: count for key, count in world.starts.items() if count > 1}
    assert not twice
