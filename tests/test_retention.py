"""Rules of retention: kept in the store, and done in pages by whichever process gets there."""

from __future__ import annotations

import pytest

from alkaline_edge import AlkalineError, InvalidInput, NotFound, Runtime, keys
from alkaline_edge.retention import Retention
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import crash_at
from tests.runtime.test_purging import FLOWS, ended, failing, host_of, quick
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
