"""Clocks that are wrong for a moment, timers in the far future, and when run_due is to be called again."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alkaline_edge import Context, Retry, Runtime, keys, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.replay import check
from alkaline_edge.runtime import Run
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore
from tests.support import drive

YEAR = 365 * 86_400


@workflow(name="naps", version=1)
async def naps(ctx: Context, rounds: int) -> str:
    for _ in range(rounds):
        await ctx.wait_for_signal("go")
        await ctx.sleep(10)
    return "done"


@workflow(name="naps_after", version=1)
async def naps_after(ctx: Context, given: list[float]) -> str:
    for _ in range(int(given[0])):
        await ctx.wait_for_signal("go")
    await ctx.sleep(given[1])
    return "done"


def manual() -> SimulatedHost:
    host = SimulatedHost()
    host.clock.auto = False
    return host


@pytest.mark.parametrize("seed", range(25))
def test_a_sleep_is_as_long_as_it_says_however_wrong_the_clock_was(seed: int) -> None:
    """The clock jumps both ways by drawn amounts, and is right again: the next sleep is not early, and not late."""
    draw = random.Random(seed)

    async def body() -> None:
        host = manual()
        host.advance(-host.now_ms() / 1000 + 2_000_000_000)
        runtime = Runtime(host, workflows=[naps])
        run = await runtime.start(naps, 6, id="r")
        await run.settle()
        for n in range(6):
            wrong = draw.choice([0, 1, -1]) * draw.choice([0.05, 30, 3_600, YEAR]) * draw.uniform(0.5, 1.5)
            host.advance(wrong)
            await runtime.signal("r", "go")
            await runtime.settle("r")
            host.advance(-wrong)
            if draw.random() < 0.5:
                await runtime.close()
                host = host.reopen()
                runtime = Runtime(host, workflows=[naps])
            await runtime.run_due()
            # What was set by a clock less than a minute ahead is believed.
            early, late = (9.5, 0.6) if not 0 < wrong <= 61 else (9.5, wrong + 1)
            host.advance(early)
            await runtime.run_due()
            if wrong >= 0:
                assert (await runtime.get_execution("r")).waiting == ["timer sleep"]
            host.advance(late)
            await runtime.run_due()
            record = await runtime.get_execution("r")
            assert record.status == "completed" if n == 5 else record.waiting == ["signal go"], (n, wrong, record)
        times = [each.at for each in await runtime.history("r")]
        assert times == sorted(times)
        assert [each.verdict for each in check(await runtime.export("r"), naps)] == ["ok"]
        await runtime.close()

    drive(body)


def test_a_clock_that_was_a_year_ahead_for_a_moment_delays_nobody() -> None:
    """An hour after a sleep of ten seconds the run is done, though nobody with a right clock looked in between."""

    async def body() -> None:
        host = manual()
        async with Runtime(host, workflows=[naps]) as runtime:
            run = await runtime.start(naps, 1, id="r")
            await run.settle()
            host.advance(YEAR)
            await run.signal("go")
            await run.settle()
            host.advance(-YEAR)
            host.advance(3_600)
            await runtime.run_due()
            assert (await runtime.get_execution("r")).status == "completed"

    drive(body)


@pytest.mark.parametrize("seed", range(40))
def test_a_sleep_set_by_a_wrong_clock_counts_from_what_is_known_of_the_right_one(seed: int) -> None:
    """Early by no more than the time since the run was last written with a right clock, and not late.

    Only a delay that is longer than the clock was ahead is late, by as much at most.
    """
    draw = random.Random(seed)
    seconds = [0.2, 5.0, 100.0, 4_000.0, 90_000.0]

    async def body() -> None:
        host = manual()
        begun = draw.random() < 0.8  # with a right clock
        wrong = draw.choice([120, 3_600, YEAR, 50 * YEAR])
        waits = draw.randrange(1, 4)
        runtime = Runtime(host, workflows=[naps_after])
        host.advance(0 if begun else wrong)
        await (await runtime.start(naps_after, [waits, delay := draw.choice(seconds) * draw.random()], id="r")).settle()
        gap = draw.choice(seconds) * draw.random()
        host.advance(gap + (wrong if begun else 0))
        for _ in range(waits):  # each takes the run up and lets it go
            await runtime.signal("r", "go")
            await runtime.settle("r")
        host.advance(-wrong)
        slept = host.now_ms()
        if draw.random() < 0.5:
            await runtime.close()
            host = host.reopen()
            runtime = Runtime(host, workflows=[naps_after])
        host.advance(draw.choice(seconds) * draw.random())
        looked = host.now_ms()
        while (record := await runtime.get_execution("r")).status != "completed":
            woken = await runtime.run_due()
            record = await runtime.get_execution("r")
            if record.status != "completed":
                assert woken is not None
                host.advance((woken - host.now_ms()) / 1000)
        late = host.now_ms() - max(looked, slept + delay * 1000)
        early = slept + delay * 1000 - host.now_ms()
        if begun and looked - slept < (wrong - 60) * 1000:  # otherwise it passes for a right one, or nothing is known
            longer = delay > wrong - 61  # the clock has caught up before: it may have been behind instead
            assert late <= (wrong * 1000 if longer else 1), (late, wrong, gap, delay)
        assert early <= max(gap, 0) * 1000 + 1, (early, wrong, gap, delay)
        await runtime.close()

    drive(body)


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


def test_a_retry_after_a_moment_of_a_wrong_clock_is_not_a_year_late() -> None:
    """The failed attempt was recorded in a year's time: the next one is due after its backoff."""
    attempts: list[int] = []

    async def body() -> None:
        host = manual()

        def fail() -> str:
            attempts.append(host.now_ms())
            if len(attempts) == 1:
                raise ValueError("not yet")
            return "ok"

        @workflow(name="trying", version=1)
        async def trying(ctx: Context) -> str:
            return await ctx.step("fail", fail, retry=Retry(max_attempts=2, backoff=300, cap=300))

        runtime = Runtime(host, workflows=[trying])
        host.advance(YEAR)
        await (await runtime.start(trying, id="r")).settle()
        host.advance(-YEAR)
        await runtime.run_due()
        host.advance(301)
        await runtime.run_due()
        assert (await runtime.get_execution("r")).status == "completed"
        await runtime.close()

    drive(body)


def test_a_date_is_waited_for_by_the_worlds_clock() -> None:
    """sleep_until after a moment of a wrong clock: not before that date."""

    async def body() -> None:
        host = manual()
        date = datetime.fromtimestamp(host.now_ms() / 1000, UTC) + timedelta(hours=1)

        @workflow(name="until", version=1)
        async def until(ctx: Context) -> str:
            await ctx.wait_for_signal("go")
            await ctx.sleep_until(date)
            return "done"

        runtime = Runtime(host, workflows=[until])
        run = await runtime.start(until, id="r")
        await run.settle()
        host.advance(1_000)
        await run.signal("go")
        await run.settle()
        host.advance(2_500)
        await runtime.run_due()
        assert (await runtime.get_execution("r")).status == "suspended"
        host.advance(101)
        await runtime.run_due()
        assert (await runtime.get_execution("r")).status == "completed"
        await runtime.close()

    drive(body)


# --- the order of timers -------------------------------------------------------------------------------------------
def test_timers_stand_in_the_order_of_their_times() -> None:
    """Around each border of digits, and read back as they were written."""
    draw = random.Random(1)
    times = [0, 1, 10**12, 10**13 - 1, 10**13, 10**13 + 1, 10**14 - 1, 10**14, 10**15, 10**16]
    times += [draw.randrange(10 ** draw.randrange(1, 17)) for _ in range(500)]
    made = sorted(keys.timer(at, "id") for at in times)
    assert [keys.timer_of(key)[0] for key in made] == sorted(times)
    assert all(keys.in_order(key) for key in made)
    assert all(keys.timer(at, "~") < keys.timers_after(at) < keys.timer(at + 1, "") for at in times)


@pytest.mark.parametrize("years", [1, 100, 255, 256, 300, 3_000])
@pytest.mark.parametrize("written", ["now", "by 0.1"])
def test_a_far_timer_delays_nobody(years: int, written: str) -> None:
    """It stands behind the near ones, also where 0.1 put it before them; nothing of it is left when it was woken."""
    store = SimulatedStore()

    @workflow(name="nap", version=1)
    async def nap(ctx: Context, seconds: float) -> str:
        await ctx.race(nap=ctx.sleep(seconds), signal=ctx.wait_for_signal("up"))
        return "woke"

    async def body() -> None:
        host = SimulatedHost(store)
        host.clock.auto = False
        async with Runtime(host, workflows=[nap]) as runtime:
            await (await runtime.start(nap, years * YEAR, id="far")).settle()
            await (await runtime.start(nap, 5, id="near")).settle()
            record = await runtime.get_execution("far")
        key = keys.timer(record.wake_at or 0, "far")
        assert key in store.entries
        if written == "by 0.1":
            for old in keys.misplaced(key):
                entry = store.entries.pop(key)
                store.keys.remove(key)
                store.entries[old] = entry._replace(key=old, value=b"\xc0")
                store.keys.append(old)
                store.keys.sort()
        host = host.reopen()
        host.advance(31)
        async with Runtime(host, workflows=[nap]) as runtime:
            assert await runtime.run_due() == record.wake_at
            assert (await runtime.get_execution("near")).status == "completed"
            assert (await runtime.get_execution("far")).status == "suspended"
            await runtime.signal("far", "up")
            assert await Run(runtime, "far").result() == "woke"
        assert not [key for key in store.keys if key.startswith("t/")]

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


def test_a_timer_says_when_it_was_set() -> None:
    """Its value is the clock of who set it."""

    async def body() -> None:
        host = manual()
        async with Runtime(host, workflows=[naps]) as runtime:
            run = await runtime.start(naps, 1, id="r")
            await run.signal("go")
            await run.settle()
        (timer,) = [entry for key, entry in host.store.entries.items() if key.startswith("t/")]
        assert Codec().decode(timer.value) == host.now_ms()

    drive(body)
