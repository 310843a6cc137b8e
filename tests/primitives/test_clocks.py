"""Clocks that are wrong for a moment, timers in the far future, and when run_due is to be called again."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from alkaline_edge import Context, Retry, Run, Runtime, keys, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.replay import check
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

    Also where it is longer than the clock was ahead, so that the clock has caught up before it ends.
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
        if looked - slept < (wrong - 60) * 1000:  # otherwise it passes for a right one
            if not begun:  # nothing is known of before, so it counts from the first look
                late -= looked - slept
            assert late <= 1, (late, wrong, gap, delay)
        assert early <= max(gap, 0) * 1000 + 1, (early, wrong, gap, delay)
        await runtime.close()

    drive(body)


@pytest.mark.parametrize("seed", range(30))
def test_a_sleep_is_not_early_where_a_clock_was_behind_for_a_while(seed: int) -> None:
    """It is taken up again and again by a clock that is behind all that is known of it, for less than half of that.

    Then the clock is right: the sleep has its length. Which of two clocks is wrong shows in how long they are.
    """
    draw = random.Random(seed)

    async def body() -> None:
        host = manual()
        runtime = Runtime(host, workflows=[naps_after])
        delay = draw.choice([5.0, 5_000.0, 90_000.0, YEAR]) * draw.uniform(0.5, 2)
        await (await runtime.start(naps_after, [0, delay], id="r")).settle()
        begun = host.now_ms()
        behind = draw.choice([180, 3_600, YEAR, 30 * YEAR]) * draw.uniform(1, 1.5)
        host.advance(-behind)
        left = behind * draw.uniform(0, 0.45)
        for _ in range(draw.randrange(1, 6)):
            if (await runtime.get_execution("r")).status == "completed":
                break
            await runtime.signal("r", "any")
            await runtime.settle("r")
            passes = draw.uniform(0, left)
            left -= passes
            host.advance(passes)
            await runtime.run_due()
            if draw.random() < 0.3:
                await runtime.close()
                host = host.reopen()
                runtime = Runtime(host, workflows=[naps_after])
        took = behind * 0.45 - left
        early = (await runtime.get_execution("r")).status == "completed"
        assert not early or took >= delay
        host.advance(behind)
        while (await runtime.get_execution("r")).status != "completed":
            woken = await runtime.run_due()
            if (await runtime.get_execution("r")).status != "completed":
                assert woken is not None
                host.advance((woken - host.now_ms()) / 1000)
        assert early or host.now_ms() >= begun + delay * 1_000 - 20  # each move of the clock is rounded
        await runtime.close()

    drive(body)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("alive", [False, True])
def test_a_run_that_a_clock_ahead_has_made_whole_is_not_as_late_as_that_clock(alive: bool, seed: int) -> None:
    """Its sleep is longer than the clock was ahead. It counts from the first look by a right clock, and to its end.

    Alone in its process, which is the one that made it or not, and beside others that keep it busy.
    """
    draw = random.Random(seed)

    @workflow(name="busy", version=1)
    async def busy(ctx: Context, seconds: float) -> str:
        async def ticks() -> None:
            while True:
                await ctx.sleep(seconds / 7)

        await ctx.race(nap=ctx.sleep(seconds), ticks=ticks())
        return "done"

    async def body() -> None:
        host = manual()
        chosen = draw.choice([busy, naps_after])
        runtime = Runtime(host, workflows=[busy, naps_after])
        wrong = draw.choice([180, 3_600, YEAR, 20 * YEAR]) * draw.uniform(1, 1.5)
        delay = wrong * draw.choice([0.3, 0.6, 1.1, 3, 10])
        host.advance(wrong)
        await (await runtime.start(chosen, delay if chosen is busy else [0, delay], id="r")).settle()
        host.advance(-wrong)
        if not alive:
            await runtime.close()
            host = host.reopen()
            runtime = Runtime(host, workflows=[busy, naps_after])
        host.advance(draw.uniform(0, 0.5) * (wrong - 61))
        looked = host.now_ms()
        while (await runtime.get_execution("r")).status != "completed":
            woken = await runtime.run_due()
            if (await runtime.get_execution("r")).status != "completed":
                assert woken is not None
                host.advance((woken - host.now_ms()) / 1000)
        assert abs(host.now_ms() - looked - delay * 1_000) <= 20, (host.now_ms() - looked) / 1_000 - delay
        await runtime.close()

    drive(body)


@pytest.mark.parametrize("restarts", [False, True])
def test_what_began_by_a_right_clock_is_not_early_for_one_that_was_ahead(restarts: bool) -> None:
    """Of two delays one began before the clock was an hour ahead, and one meanwhile: each is as long as it says."""
    woke: dict[str, int] = {}

    @workflow(name="two", version=1)
    async def two(ctx: Context) -> None:
        async def first() -> None:
            await ctx.sleep(7_000)
            ctx.log("info", "first")

        async def second() -> None:
            await ctx.wait_for_signal("go")
            await ctx.sleep(8_000)
            ctx.log("info", "second")

        await ctx.all(first(), second())

    async def body() -> None:
        host = manual()
        runtime = Runtime(host, workflows=[two])
        await (await runtime.start(two, id="r")).settle()
        begun = host.now_ms()
        host.advance(3_600 + 60)
        await runtime.signal("r", "go")
        await runtime.settle("r")
        host.advance(-3_600)
        while (record := await runtime.get_execution("r")).status != "completed":
            if restarts:
                await runtime.close()
                host = host.reopen()
                runtime = Runtime(host, workflows=[two])
            due = await runtime.run_due()
            fired = [each.event for each in await runtime.history("r")]
            for event in fired:
                woke.setdefault(str(event), (host.now_ms() - begun) // 1_000)
            record = await runtime.get_execution("r")
            if record.status != "completed":
                assert due is not None
                host.advance((due - host.now_ms()) / 1_000)
        times = sorted(at for event, at in woke.items() if "TimerFired" in event)
        assert times == [7_000, 8_000], "the second from the last moment that is known of the right clock"
        assert [each.verdict for each in check(await runtime.export("r"), two)] == ["ok"]
        await runtime.close()

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


def test_once_the_worlds_clock_has_caught_up_a_runs_clock_is_that_one_again() -> None:
    """In one process too, where the run's clock was ahead while it was driven."""

    @workflow
    async def looks(ctx: Context) -> list[float]:
        seen = []
        for wrong in (30, -30, 60, 10):
            await ctx.step("waits", host.advance, wrong)
            seen.append(ctx.now().timestamp() - host.now_ms() / 1000)
        return seen

    host = manual()

    async def body() -> None:
        async with Runtime(host, workflows=[looks]) as runtime:
            behind = await (await runtime.start(looks, id="r")).result()
            assert [round(each) for each in behind] == [0, 30, 0, 0]

    drive(body)
