"""Schedules on a store: what is started when, and that each tick is started once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import Budget, ConflictError, Context, InvalidInput, NotFound, Runtime, workflow
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore
from alkaline_edge.testing.clock import START_MS
from alkaline_edge.triggers import Cron, Every, Triggers
from tests.support import drive

MINUTE, HOUR = 60_000, 3_600_000
EVEN = START_MS // HOUR * HOUR
"""A whole hour before the virtual clock begins."""


@workflow
async def quick(ctx: Context, input: Any = None) -> Any:
    return await ctx.step("do", lambda: input)


@workflow
async def slow(ctx: Context, seconds: float = 150) -> str:
    await ctx.sleep(seconds)
    return "done"


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


async def started(runtime: Runtime) -> list[str]:
    """The ids of all runs."""
    return sorted(record.id for record in await runtime.list_executions(limit=1_000))


async def serve(runtime: Runtime, seconds: float) -> None:
    await runtime.serve(at(round(runtime.host.now_ms() + seconds * 1000)))


def test_each_tick_starts_one_run_named_by_its_time() -> None:
    """With the schedule's input, attributes and budget; `serve` does it, at the tick and not before."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            made = await triggers.create(
                "minutely", quick, Every(60), {"n": 1}, attributes={"team": "a"}, budget=Budget(tokens=5, usd=0.5)
            )
            assert made.due == START_MS + MINUTE - START_MS % MINUTE
            await serve(runtime, 180)
            ids = await started(runtime)
            assert ids == [
                "minutely@2023-11-14T22:14:00Z",
                "minutely@2023-11-14T22:15:00Z",
                "minutely@2023-11-14T22:16:00Z",
            ]
            record = await runtime.get_execution(ids[0])
            assert (record.created_at, record.result) == (made.due, {"n": 1})
            assert record.attributes == {"team": "a", "schedule": "minutely"}
            assert [run.id for run in await runtime.list_executions(attributes={"schedule": "minutely"})] == ids
            (first, *_) = await runtime.history(ids[0])
            assert first.event.header["accounts"][0][1:] == [5, 500_000]
            assert (await triggers.get("minutely")).started == 3

    drive(test)


def test_run_due_starts_what_is_due_and_says_when_to_come_again() -> None:
    """As an alarm or a page's timer drives it: the next tick counts, and what was started has settled."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            await Triggers(runtime).create("hourly", quick, Every(3600))
            due = await runtime.run_due()
            assert due == EVEN + HOUR
            for n in range(1, 4):
                host.advance((due - host.now_ms()) / 1000)
                due = await runtime.run_due()
                assert due == EVEN + (n + 1) * HOUR
                assert len(await started(runtime)) == n
                assert not runtime.active()

    drive(test)


def test_a_runtime_that_drives_no_schedules_leaves_them_for_others() -> None:
    """It wakes its runs all the same, and comes again less and less often for what it can't do."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as maker:
            for n in range(150):
                await Triggers(maker).create(f"s{n}", quick, Every(60))
        async with Runtime(host, workflows=[slow]) as runtime:
            await runtime.start(slow, 90, id="sleeper")
            await runtime.settle("sleeper")
            host.advance(100)
            again = await runtime.run_due()
            assert (await runtime.get_execution("sleeper")).status == "completed"
            assert await started(runtime) == ["sleeper"]
            assert again is not None
            assert again > host.now_ms()

    drive(test)


@pytest.mark.parametrize(
    ("overlap", "ids", "skipped"),
    [
        ("skip", ["1", "4"], 2),
        ("buffer", ["1", "2"], 1),
        ("allow", ["1", "2", "3", "4"], 0),
        ("cancel", ["1", "2", "3", "4"], 0),
    ],
)
def test_a_tick_while_an_earlier_run_goes_on(overlap: Any, ids: list[str], skipped: int) -> None:
    """Each run takes two and a half ticks: the next ones are left out, wait, run beside it, or take its place."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[slow]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("m", slow, Every(60, at(START_MS)), 150, overlap=overlap)
            await serve(runtime, 4 * 60 + 1)
            found = [id.partition("@")[2] for id in await started(runtime)]
            assert found == [f"2023-11-14T22:{13 + int(n)}:20Z" for n in ids]
            schedule = await triggers.get("m")
            assert (schedule.skipped, schedule.started) == (skipped, len(ids))
            statuses = [record.status for record in await runtime.list_executions()]
            if overlap == "cancel":
                assert statuses == ["cancelled", "cancelled", "cancelled", "suspended"]
            elif overlap == "buffer":
                first, second = [await runtime.get_execution(f"m@{id}") for id in found]
                assert second.created_at >= first.updated_at  # no two beside each other
                assert schedule.waiting == f"m@2023-11-14T22:{13 + 4}:20Z"
            else:
                assert "cancelled" not in statuses

    drive(test)


@pytest.mark.parametrize("overlap", ["buffer", "cancel"])
def test_what_waits_for_a_run_goes_on_when_another_process_ends_it(overlap: Any) -> None:
    """Nobody tells the process that drives the schedule; it looks, and its timer says when."""

    async def test() -> None:
        store = SimulatedStore()
        async with (
            Runtime(SimulatedHost(store), workflows=[slow]) as one,
            Runtime(SimulatedHost(store), workflows=[slow]) as two,
        ):
            triggers = Triggers(one)
            await triggers.create("m", slow, Every(60, at(START_MS)), 10_000, overlap=overlap, max_runs=2)
            await asyncio.gather(serve(one, 121), serve(two, 121))
            first = (await started(one))[0]
            if overlap == "buffer":
                await two.cancel(first)
            await asyncio.gather(serve(one, 300), serve(two, 300))
            assert len(await started(one)) == 2
            assert (await triggers.get("m")).status == "ended"

    drive(test)


def test_ticks_that_nobody_was_there_for_are_caught_up_within_the_window() -> None:
    """In order, as soon as somebody is there again; those before it are left out, and the schedule says so."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("m", quick, Every(60, at(START_MS)), overlap="allow", catch_up=180)
            host.advance(3600 + 30)
            await runtime.run_due()
            assert [id[-9:] for id in await started(runtime)] == ["23:11:20Z", "23:12:20Z", "23:13:20Z"]
            schedule = await triggers.get("m")
            assert (schedule.missed, schedule.started, schedule.due) == (START_MS + MINUTE, 3, START_MS + HOUR + MINUTE)

    drive(test)


def test_a_long_downtime_of_a_schedule_that_skips_costs_one_run_and_few_commits() -> None:
    """A day of minutes is not a day of commits."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[slow]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("m", slow, Every(60), 10**6)
            host.advance(86_000)
            before = host.counts["commit"]
            await runtime.run_due()
            assert len(await started(runtime)) == 1
            assert host.counts["commit"] - before < 12
            schedule = await triggers.get("m")
            assert schedule.started + schedule.skipped == 1433
            assert schedule.due is not None
            assert schedule.due > host.now_ms()

    drive(test)


def test_jitter_starts_a_tick_later_by_the_same_in_every_process() -> None:
    """Never before it, and by no more than was said; the run is named by the tick."""

    async def test() -> None:
        async def once() -> list[int]:
            host = SimulatedHost()
            async with Runtime(host, workflows=[quick]) as runtime:
                await Triggers(runtime).create("j", quick, Every(600), jitter=120, max_runs=6)
                await serve(runtime, 5_000)
                records = await runtime.list_executions()
                assert all(record.id.endswith("0:00Z") for record in records)
                return [record.created_at % 600_000 for record in records]

        late = await once()
        assert late == await once()
        assert len(late) == 6
        assert len(set(late)) > 3
        assert all(0 <= ms <= 120_000 for ms in late)

    drive(test)


def test_a_schedule_ends_by_its_date_or_its_number_of_runs() -> None:
    """Then it has no timer, and asks nobody to come again."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("a", quick, Every(60), max_runs=2)
            await triggers.create("b", quick, Every(60, at(START_MS)), ends_at=at(START_MS + 3 * MINUTE))
            await serve(runtime, 600)
            assert [id[0] for id in await started(runtime)] == ["a", "a", "b", "b", "b"]
            assert [(each.status, each.due, each.wake) for each in await triggers.list()] == [("ended", None, None)] * 2
            assert await runtime.run_due() is None
            with pytest.raises(InvalidInput, match="never tick"):
                await triggers.create("c", quick, Every(60), ends_at=at(host.now_ms()))

    drive(test)


def test_a_paused_schedule_starts_nothing_and_goes_on_with_the_next_tick() -> None:
    """What was due meanwhile is left out; a start by hand is a start all the same."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("p", quick, Every(60))
            await triggers.pause("p")
            await serve(runtime, 600)
            assert await started(runtime) == []
            by_hand = await triggers.trigger("p")
            assert await started(runtime) == [by_hand]
            resumed = await triggers.resume("p")
            assert resumed.due is not None
            assert 0 < resumed.due - host.now_ms() <= MINUTE
            await serve(runtime, 60)
            assert len(await started(runtime)) == 2

    drive(test)


def test_a_start_by_hand_is_one_run_for_each_key() -> None:
    """Sent twice, also by another process, and also where no workflow is here: then whoever has it starts it."""

    async def test() -> None:
        store = SimulatedStore()
        async with Runtime(SimulatedHost(store)) as asking, Runtime(SimulatedHost(store), workflows=[quick]) as runtime:
            triggers, others = Triggers(runtime), Triggers(asking)
            await others.create("h", "quick", Every(3600), "now")
            assert await others.trigger("h", dedupe="k1") == "h@now:k1"
            assert await others.trigger("h", dedupe="k1") == "h@now:k1"
            assert await started(runtime) == []
            await runtime.run_due()
            assert await started(runtime) == ["h@now:k1"]
            assert await triggers.trigger("h", dedupe="k1") == "h@now:k1"
            assert await triggers.trigger("h") != await triggers.trigger("h")
            assert len(await started(runtime)) == 3
            assert (await triggers.get("h")).started == 0

    drive(test)


@pytest.mark.parametrize("overlap", ["buffer", "allow"])
def test_a_backfill_starts_the_ticks_of_the_past_that_were_not_started(overlap: str) -> None:
    """One after the other or side by side, both ends included, and none that was started before."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[slow]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("b", slow, Every(3600), 30)
            tick = EVEN - 5 * HOUR
            await runtime.start(slow, 1, id="b@2023-11-14T19:00:00Z")
            await triggers.backfill("b", at(tick), at(EVEN - HOUR), overlap=overlap)
            await serve(runtime, 400)
            records = list(await runtime.list_executions())
            assert [record.id[-9:-4] for record in records] == ["17:00", "18:00", "19:00", "20:00", "21:00"]
            spans = sorted((r.created_at, r.updated_at) for r in records if r.id != "b@2023-11-14T19:00:00Z")
            beside = any(later[0] < earlier[1] for earlier, later in pairwise(spans))
            assert beside == (overlap == "allow")
            assert not (await triggers.get("b")).filling

    drive(test)


def test_a_schedule_is_made_again_by_each_process_that_begins() -> None:
    """As it stands, or with new settings; or it is refused."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[quick, slow]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("s", quick, Every(60))
            await serve(runtime, 61)
            with pytest.raises(ConflictError, match="already"):
                await triggers.create("s", slow, Every(30))
            joined = await triggers.create("s", slow, Every(30), on_conflict="join")
            assert (joined.workflow, joined.started) == ("quick", 1)
            replaced = await triggers.create("s", slow, Every(30, at(host.now_ms())), on_conflict="replace")
            assert (replaced.workflow, replaced.started, replaced.due) == ("slow", 1, host.now_ms() + 30_000)
            await triggers.end("s")
            assert (await triggers.create("s", slow, Every(30), on_conflict="replace")).status == "active"

    drive(test)


def test_a_deleted_schedule_is_gone_with_its_timer_and_a_new_one_starts_no_tick_again() -> None:
    """A tick's id is its own, whichever schedule of that id it is of."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("d", quick, Every(60, at(START_MS)))
            host.advance(60)
            await runtime.run_due()
            await triggers.delete("d")
            assert [key for key in host.store.keys if key[:2] in ("t/", "c/")] == []
            with pytest.raises(NotFound):
                await triggers.get("d")
            host.advance(-30)  # the clock goes back: the tick lies ahead once more
            await triggers.create("d", quick, Every(60, at(START_MS)))
            host.advance(30)
            await runtime.run_due()
            assert await started(runtime) == ["d@2023-11-14T22:14:20Z"]
            assert (await triggers.get("d")).due == START_MS + 2 * MINUTE

    drive(test)


def test_pages_of_schedules_hold_them_all() -> None:
    """By id, at any size of page."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            triggers = Triggers(runtime)
            for n in range(7):
                await triggers.create(f"s{n}", "quick", Every(60))
            for limit in (1, 3, 7, 8):
                found, after = list[str](), ""
                while True:
                    page = await triggers.list(after, limit)
                    found += [each.id for each in page]
                    if page.after is None:
                        break
                    after = page.after
                assert found == [f"s{n}" for n in range(7)]

    drive(test)


def test_a_look_costs_what_is_due_and_not_what_is_stored() -> None:
    """Of 2,000 schedules two are due."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            counts = []
            for n in range(2_000):
                await triggers.create(f"far{n}", quick, Every(10**6))
                if n in (20, 1_999):
                    for name in ("x", "y"):
                        await triggers.create(name, quick, Every(60), on_conflict="replace")
                    host.advance(60)
                    before = dict(host.counts)
                    await runtime.run_due()
                    counts.append({verb: host.counts[verb] - before[verb] for verb in before})
            assert all(counts[1][verb] <= counts[0][verb] + 2 for verb in counts[0])  # the runs of before are looked at
            assert len(await started(runtime)) == 4

    drive(test)


def test_a_clock_that_was_ahead_holds_no_schedule_up() -> None:
    """Its next tick was reckoned a year ahead; once the clock is right again, it ticks as before."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            host.advance(365 * 86_400)
            await triggers.create("c", quick, Every(60))
            host.advance(-365 * 86_400)
            await runtime.recover()
            await runtime.run_due()
            schedule = await triggers.get("c")
            assert schedule.due is not None
            assert 0 < schedule.due - host.now_ms() <= MINUTE
            host.advance(60)
            await runtime.run_due()
            assert len(await started(runtime)) == 1

    drive(test)


def test_a_schedule_whose_workflow_is_not_here_waits_for_a_process_that_has_it() -> None:
    """And holds up no other schedule meanwhile."""

    async def test() -> None:
        store = SimulatedStore()
        store.clock.auto = False
        async with Runtime(SimulatedHost(store), workflows=[quick]) as one:
            triggers = Triggers(one)
            await triggers.create("a", "slow", Every(60))
            await triggers.create("b", "quick", Every(60))
            store.clock.advance(MINUTE)
            await one.run_due()
            assert [id[0] for id in await started(one)] == ["b"]
        async with Runtime(SimulatedHost(store), workflows=[slow]) as two:
            Triggers(two)
            await two.run_due()
            assert [id[0] for id in await started(two)] == ["a", "b"]

    drive(test)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": "a b"}, "schedule's id"),
        ({"id": "x" * 121}, "120 characters"),
        ({"workflow": 5}, "workflow's name"),
        ({"when": "0 3 * * *"}, "a Cron or an Every"),
        ({"input": object()}, "input"),
        ({"input": "x" * 70_000}, "65536 bytes"),
        ({"overlap": "maybe"}, "overlap is one of"),
        ({"catch_up": -1}, "catch_up"),
        ({"jitter": "much"}, "jitter"),
        ({"ends_at": datetime(2030, 1, 1)}, "aware"),
        ({"max_runs": 0}, "max_runs"),
        ({"attributes": {"a": []}}, "attribute"),
        ({"budget": 5}, "Budget"),
        ({"on_conflict": "merge"}, "on_conflict"),
    ],
)
def test_what_a_schedule_can_not_be_made_of_is_refused(wrong: dict[str, Any], words: str) -> None:
    """Before anything is stored."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[quick]) as runtime:
            given = {"id": "ok", "workflow": quick, "when": Every(60), **wrong}
            with pytest.raises(InvalidInput, match=words):
                await Triggers(runtime).create(**given)
            assert host.store.keys == []

    drive(test)


def test_what_is_asked_of_no_schedule_is_not_found() -> None:
    """By every verb, and ranges that end before they begin are refused."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            triggers = Triggers(runtime)
            for verb in (
                triggers.get,
                triggers.pause,
                triggers.resume,
                triggers.end,
                triggers.delete,
                triggers.trigger,
            ):
                with pytest.raises(NotFound, match="no schedule"):
                    await verb("nobody")
            await triggers.create("s", "quick", Every(60))
            with pytest.raises(InvalidInput, match="not behind its end"):
                await triggers.backfill("s", at(5), at(4))
            with pytest.raises(InvalidInput, match="overlap"):
                await triggers.backfill("s", at(4), at(5), overlap="skip")
            with pytest.raises(InvalidInput, match="Triggers"):
                Triggers(SimulatedHost())  # type: ignore[arg-type]

    drive(test)


# --- many processes, which die ----------------------------------------------------------------------------------------
class Workers:
    """Processes that serve one store and are begun anew when they die; what was started is read off the store."""

    def __init__(self, count: int, crash_at: set[int], kind: Any) -> None:
        self.store = SimulatedStore()
        self.count, self.crash_at, self.kind = count, crash_at, kind
        self.commits = 0

    def fault(self, number: int, verb: str) -> Any:
        if verb != "commit":
            return None
        self.commits += 1
        return self.kind if self.commits in self.crash_at else None

    async def work(self, until: int) -> None:
        """One process after the other."""
        while self.store.clock.now_ms < until:
            died = asyncio.Event()

            def fault(number: int, verb: str, died: asyncio.Event = died) -> Any:
                kind = self.fault(number, verb)
                if kind in ("crash", "crash-after"):
                    died.set()
                return kind

            host = SimulatedHost(self.store, fault=fault)
            runtime = Runtime(host, workflows=[quick, slow], lease=5)
            Triggers(runtime)
            serving = asyncio.ensure_future(runtime.serve(at(until)))
            await asyncio.wait([serving, asyncio.ensure_future(died.wait())], return_when=asyncio.FIRST_COMPLETED)
            host.dead = died.is_set()
            serving.cancel()
            await asyncio.gather(serving, runtime.close(), return_exceptions=True)
            await self.store.clock.sleep(0.5)

    async def go(self, seconds: float) -> None:
        until = self.store.clock.now_ms + round(seconds * 1000)
        await asyncio.gather(*(self.work(until) for _ in range(self.count)))


def begun(store: SimulatedStore) -> list[str]:
    """Every run that was ever recorded."""
    return sorted(key[2:] for key in store.keys if key.startswith("r/"))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.sets(st.integers(1, 60), max_size=8),
    st.sampled_from(["crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict"]),
    st.sampled_from(["skip", "buffer", "allow"]),
)
def test_any_number_of_workers_start_each_tick_once_whatever_dies_when(
    count: int, crash_at: set[int], kind: Any, overlap: Any
) -> None:
    """Ticks that were started, left out or wait are all that there were; none is there twice, and each run ends."""

    async def test() -> None:
        workers = Workers(count, crash_at, kind)
        async with Runtime(SimulatedHost(workers.store)) as maker:
            triggers = Triggers(maker)
            await triggers.create("q", "quick", Every(10, at(START_MS)), overlap=overlap)
            await triggers.create("s", "slow", Every(10, at(START_MS)), 12, overlap=overlap)
            await workers.go(95)
            assert begun(workers.store).count(f"q@{at(START_MS + 10_000):%Y-%m-%dT%H:%M:%SZ}") == 1
            for name in ("q", "s"):
                schedule = await triggers.get(name)
                mine = [id for id in begun(workers.store) if id.startswith(f"{name}@")]
                assert len(mine) == schedule.started
                assert schedule.fired == START_MS + 90_000
                assert schedule.started + schedule.skipped + (schedule.waiting is not None) == 9
            if overlap == "allow":
                assert len(begun(workers.store)) == 18
            crashed_late = workers.store.clock.now_ms
            async with Runtime(SimulatedHost(workers.store), workflows=[quick, slow]) as last:
                workers.store.clock.advance(60_000)
                for run in await last.recover():
                    await run.result()
                await last.run_due()
                assert crashed_late > 0
                for record in await last.list_executions(limit=1_000):
                    assert record.status == "completed"

    drive(test)


def test_a_crash_at_every_commit_of_a_start_leaves_the_tick_started_once_or_not_yet() -> None:
    """One process dies before or behind each of its commits; the next one finds what is due, and nothing twice."""

    async def once(kind: Any, place: int) -> bool:
        workers = Workers(1, {place}, kind)
        workers.store.clock.auto = False
        async with Runtime(SimulatedHost(workers.store)) as maker:
            await Triggers(maker).create("q", "quick", Every(10, at(START_MS)), "x")
            workers.store.clock.advance(10_000)
            died = False
            for _ in range(3):
                host = SimulatedHost(workers.store, fault=workers.fault)
                runtime = Runtime(host, workflows=[quick], lease=5)
                Triggers(runtime)
                try:
                    for run in await runtime.recover():
                        await run.settle()
                    await runtime.run_due()
                    await runtime.close()
                except SimulatedCrash:
                    host.dead = died = True
                    await asyncio.gather(runtime.close(), return_exceptions=True)
                    workers.store.clock.advance(6_000)
                if host.dead:
                    died = True
            (record, *others) = await maker.list_executions()
            assert (record.id, record.status, record.result) == ("q@2023-11-14T22:13:30Z", "completed", "x")
            assert all(other.id > record.id for other in others)
            return died

    async def test() -> None:
        for kind in ("crash", "crash-after"):
            place = 1
            while await once(kind, place):
                place += 1
            assert place > 2

    drive(test)


def test_two_processes_at_one_tick_start_one_run() -> None:
    """Each read the schedule before the other wrote it: the store decides."""

    async def test() -> None:
        store = SimulatedStore()
        store.clock.auto = False
        runtimes = [Runtime(SimulatedHost(store), workflows=[quick]) for _ in range(8)]
        for runtime in runtimes:
            Triggers(runtime)
        await Triggers(runtimes[0]).create("q", quick, Every(60))
        store.clock.advance(MINUTE)
        await asyncio.gather(*(runtime.run_due() for runtime in runtimes))
        assert len(begun(store)) == 1
        for runtime in runtimes:
            await runtime.close()

    drive(test)


def test_a_daily_cron_in_a_zone_runs_once_on_each_day_of_a_year() -> None:
    """Through both changes of the clock."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host, workflows=[quick]) as runtime:
            await Triggers(runtime).create("n", quick, Cron("30 3 * * *", "Europe/Riga"))
            for _ in range(367):
                due = await runtime.run_due()
                assert due is not None
                host.advance((due - host.now_ms()) / 1000)
            ids = await started(runtime)
            days = [(datetime.fromisoformat(id.partition("@")[2]) + timedelta(hours=2)).date() for id in ids]
            assert len(days) == 366
            assert len(set(days)) == 366
            assert (days[-1] - days[0]).days == 365

    drive(test)


def test_a_schedule_that_is_replaced_has_its_new_budget() -> None:
    """And all else that was given with it."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[quick]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("s", quick, Every(60), budget=Budget(tokens=5))
            await triggers.create("s", quick, Every(60), budget=Budget(tokens=9), on_conflict="replace")
            assert (await triggers.get("s")).budget == [9, None]

    drive(test)


def test_a_run_that_can_not_be_read_holds_its_schedule_up() -> None:
    """It may go on where it can be read: no other one is started beside it."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        host.advance((EVEN + HOUR - host.now_ms()) / 1000)
        async with Runtime(host, workflows=[slow]) as runtime:
            triggers = Triggers(runtime)
            await triggers.create("s", slow, Every(60), 100_000.0)
            host.advance(60)
            await runtime.run_due()
            (run,) = await started(runtime)
            await runtime.settle(run)
            key = f"r/{run}"
            host.store.entries[key] = host.store.entries[key]._replace(value=b"\xc1")
            host.advance(60)
            await runtime.run_due()
            schedule = await triggers.get("s")
            assert (schedule.started, schedule.skipped, schedule.running) == (1, 1, [run])

    drive(test)
