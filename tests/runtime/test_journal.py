"""The journal: what is written is fenced by the record, what was drawn is not lost with it, and the lease is held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge import events as ev
from alkaline_edge.runtime.driver import Driver
from alkaline_edge.runtime.journal import Journal, Lost
from alkaline_edge.runtime.store import Write
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


@workflow
async def flow(ctx: Context, n: int) -> None:
    await ctx.wait_for_signal("go")


def with_journal(test: Callable[[SimulatedHost, Runtime, Journal], Awaitable[None]]) -> None:
    """Run ``test`` with the journal of a run that is ours, and that nothing else advances meanwhile."""

    async def body() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[flow]) as runtime:
            await runtime.start("flow", 1, id="a")
            driver: Any = runtime.fleet.drivers["a"]
            assert isinstance(driver, Driver)
            await runtime.fleet.stop(1)  # before it began
            await test(host, runtime, driver.journal)
            driver.machine.set_aside()

    drive(body)


def test_what_another_owner_moved_is_not_written() -> None:
    """Lost names the key that moved; the values that were drawn are there for whoever writes next."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        theirs = Write()
        runtime.store.put_record(theirs, await runtime.store.record("a"))
        await runtime.store.commit(theirs)
        drawn = [ev.Drawn(ev.DRAWN, "random", 0.5)]
        journal.machine.drawn = list(drawn)
        with pytest.raises(Lost) as lost:
            await journal.append([ev.Paused(ev.PAUSED)])
        assert lost.value.keys == ("r/a",)
        assert journal.machine.drawn == drawn
        assert (await runtime.store.commits(journal.name))[1:] == []

    with_journal(test)


def test_a_commit_holds_what_was_drawn_before_what_happened() -> None:
    """In one batch, whose proof is the commit: the record moves with it only where that was asked for."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        journal.machine.drawn = [ev.Drawn(ev.DRAWN, "random", 0.5)]
        before = journal.record.version_tag
        recorded = await journal.append([ev.Paused(ev.PAUSED)])
        assert [type(event) for _, event in recorded] == [ev.Paused]
        assert journal.machine.drawn == []
        events = await runtime.store.events(journal.name, journal.record.run)
        assert [type(event) for _, event in events[1]] == [ev.Drawn, ev.Paused]
        assert journal.record.version_tag == before
        write = journal.write()
        await journal.append([ev.Resumed(ev.RESUMED)], write, record=True)
        assert write.proof == f"h/{journal.name}/a2"
        assert journal.record.version_tag != before
        assert journal.is_at(await runtime.store.record("a"))

    with_journal(test)


def test_the_lease_is_whole_before_what_may_keep_us_from_renewing_it() -> None:
    """And renewed before any effect once a third of it is left; nothing is written while it lasts."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        until = journal.record.lease_until
        length = until - host.now_ms()
        host.advance(length / 1000 / 5)
        await journal.hold()
        assert journal.record.lease_until == until
        assert await journal.hold(full=True) == host.now_ms()
        assert journal.record.lease_until == host.now_ms() + length
        host.advance(length / 1000 * 0.7)
        await journal.hold()
        assert journal.record.lease_until == host.now_ms() + length
        assert (await runtime.store.record("a")).lease_until == journal.record.lease_until

    with_journal(test)
