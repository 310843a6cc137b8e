"""Rules of retention: kept in the store, and done in pages by whichever process gets there."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import AlkalineError, InvalidInput, NotFound, Runtime, keys
from alkaline_edge.retention import Purged, Retention
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import crash_at
from tests.runtime.test_purging import DAY, FLOWS, ended, failing, host_of, quick
from tests.support import Process, drive


def test_a_rule_purges_time_and_again_and_says_how_many() -> None:
    """At once and then every so often, by ``run_due``; what came meanwhile goes the next time."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")
            await ended(runtime, failing, "b")
            retention = Retention(runtime)
            await retention.set("done", 100, status="completed", every=3_600)
            assert await runtime.run_due() == host.now_ms() + 3_600_000
            assert len(await runtime.list_executions()) == 2
            host.advance(3_600)
            await ended(runtime, quick, "c")
            await runtime.run_due()
            assert [record.id for record in await runtime.list_executions()] == ["b", "c"]
            (rule,) = await retention.list()
            assert (rule.purged, rule.kept, rule.after) == (1, {}, "")
            await retention.delete("done")
            assert await runtime.run_due() is None
            assert not [key for key in host.store.keys if key.startswith((keys.RULES, keys.TIMERS))]

    drive(test)


def test_a_rule_goes_on_page_by_page_in_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes and a crash: each page is looked at, and the count is that of one of them at most twice."""
    monkeypatch.setattr("alkaline_edge.retention.LIMIT", 2)

    async def test() -> None:
        process = Process(*FLOWS)
        for n in range(9):
            await ended(process.runtime, quick, f"r{n}")
        await Retention(process.runtime).set("all", 0)
        process.host.fault = crash_at(process.host.calls + 40)
        with pytest.raises((SimulatedCrash, AlkalineError)):
            await process.runtime.run_due()
        await process.crash()
        other = Runtime(SimulatedHost(process.host.store), workflows=FLOWS)
        for runtime in (process.runtime, other):
            Retention(runtime)
            await runtime.run_due()
            await runtime.close()
        assert not [key for key in process.host.store.keys if key.startswith(keys.RECORDS)]

    drive(test)


def test_a_rule_with_an_archive_waits_for_a_process_that_has_it() -> None:
    """Without one nothing is deleted; with it all is there."""

    async def test() -> None:
        host, archive = host_of(), host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")
            await Retention(runtime).set("old", 0, archive=True)
            await runtime.run_due()
            assert len(await runtime.list_executions()) == 1
            host.advance(120)
            Retention(runtime, archive)
            await runtime.run_due()
            assert len(await runtime.list_executions()) == 0
        async with Runtime(archive) as there:
            assert len(await there.list_executions()) == 1

    drive(test)


def test_what_can_not_be_is_refused() -> None:
    """A rule that is none is not stored."""

    async def test() -> None:
        async with Runtime(host_of()) as runtime:
            retention = Retention(runtime)
            for given in [{"older_than": -1}, {"older_than": 0, "status": "paused"}, {"older_than": 0, "every": 0}]:
                with pytest.raises(InvalidInput):
                    await retention.set("r", **given)
            with pytest.raises(InvalidInput):
                await retention.set("a rule", 5)
            with pytest.raises(NotFound):
                await retention.delete("r")
            assert await retention.list() == []

    drive(test)


def test_a_rule_that_is_set_anew_has_its_count_still_and_spares_other_workflows() -> None:
    """Other numbers are other numbers: what was purged was purged, and what is not named is not."""

    async def test() -> None:
        async with Runtime(host_of(), workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")
            await ended(runtime, failing, "b")
            retention = Retention(runtime)
            await retention.set("done", 0, workflow="quick")
            await runtime.run_due()
            assert [record.id for record in await runtime.list_executions()] == ["b"]
            assert (await retention.set("done", 5, workflow="quick")).purged == 1
            assert [rule.purged for rule in await retention.list()] == [1]

    drive(test)


def test_a_rule_that_another_process_changes_while_a_page_is_purged_stands_as_changed() -> None:
    """Who looked at the page writes nothing over it: the rule keeps its new age."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime, Runtime(SimulatedHost(host.store)) as other:
            await ended(runtime, quick, "a")
            await Retention(runtime).set("all", 0)
            purge = runtime.purge

            async def meanwhile(*given: Any) -> Purged:
                runtime.purge = purge  # type: ignore[method-assign]
                await Retention(other).set("all", 100)
                return await purge(*given)

            runtime.purge = meanwhile  # type: ignore[method-assign, assignment]
            await runtime.run_due()
            assert [rule.older_than for rule in await Retention(other).list()] == [100_000]

    drive(test)


def test_why_runs_are_kept_is_known_over_all_pages_of_a_time_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is forgotten only as the next one begins."""
    monkeypatch.setattr("alkaline_edge.retention.LIMIT", 2)

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            for n in range(6):
                await ended(runtime, quick, f"r{n}")
            retention = Retention(runtime)
            await retention.set("all", 0)
            key = next(key for key in host.store.keys if key.startswith(keys.RECORDS) and key.endswith("r1"))
            entry = host.store.entries[key]
            host.store.entries[key] = entry._replace(value=b"\xc1")
            await runtime.run_due()
            (rule,) = await retention.list()
            assert rule.purged == 5
            assert list(rule.kept) == ["r1"]
            host.store.entries[key] = entry
            host.advance(3_600)
            await runtime.run_due()
            (rule,) = await retention.list()
            assert (rule.purged, rule.kept) == (6, {})

    drive(test)


def test_a_clock_that_was_ahead_holds_no_rule_up() -> None:
    """A rule that was looked at in the far future is looked at now, and not once that has come."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")
            retention = Retention(runtime)
            host.advance(10 * DAY)
            await retention.set("all", 2 * DAY, every=20 * DAY)
            await runtime.run_due()
            host.clock.now_ms -= 10 * DAY * 1000
            await ended(runtime, quick, "b")
            host.advance(3 * DAY)
            await runtime.chores.do(keys.chore("retention", "all"))
            assert len(await runtime.list_executions()) == 0

    drive(test)


def test_a_store_has_a_bounded_number_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and one of those that are there may be changed still."""
    monkeypatch.setattr("alkaline_edge.retention.MAX_RULES", 3)

    async def test() -> None:
        async with Runtime(host_of()) as runtime:
            retention = Retention(runtime)
            for n in range(3):
                await retention.set(f"r{n}", 5)
            with pytest.raises(InvalidInput, match="3 rules"):
                await retention.set("one-more", 5)
            await retention.set("r1", 6)
            assert len(await retention.list()) == 3

    drive(test)
