"""The journal: what is written is fenced by the record, what was drawn is not lost with it, and the lease is held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, keys, workflow
from alkaline_edge import events as ev
from alkaline_edge.budget import Account
from alkaline_edge.codec import Plain
from alkaline_edge.host import Batch, Capabilities, Put
from alkaline_edge.machine.commands import RunStep
from alkaline_edge.runtime.driver import Driver
from alkaline_edge.runtime.journal import FEW, Journal, Lost
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import Delay, SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.support import drive


@workflow
async def flow(ctx: Context, n: int) -> None:
    await ctx.wait_for_signal("go")


def with_journal(
    test: Callable[[SimulatedHost, Runtime, Journal], Awaitable[None]], capabilities: Capabilities | None = None
) -> None:
    """Run ``test`` with the journal of a run that is ours, and that nothing else advances meanwhile."""

    async def body() -> None:
        host = SimulatedHost(capabilities=capabilities)
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


def test_a_lease_that_ran_out_while_it_was_renewed_is_renewed_again() -> None:
    """The answer of the store came after the end of what it confirmed: nothing begins on that."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        length = journal.record.lease_until - host.now_ms()
        slow = [length * 3, length * 2, 0]
        host.on_call = lambda call, verb, arguments: Delay(slow.pop(0)) if verb == "commit" and slow else None
        host.advance(length / 1000 * 0.7)
        assert await journal.hold() < journal.record.lease_until
        assert slow == []
        assert (await runtime.store.record("a")).lease_until == journal.record.lease_until

    with_journal(test)


def test_the_record_in_a_commit_knows_of_that_commit() -> None:
    """Its length and its head: whoever reads the record next finds a store that has lost the end of the history."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        for n in range(3):
            await journal.append([ev.Paused(ev.PAUSED), ev.Resumed(ev.RESUMED)], record=n != 1)
            record = await runtime.store.record("a")
            behind = 0 if n != 1 else 1
            assert record.cursor_length == journal.cursor.length - behind
            assert (record.head == journal.cursor.head) == (not behind)

    with_journal(test)


def test_a_lost_answer_is_looked_for_where_nobody_else_writes() -> None:
    """A batch holds keys of others too, such as a child's record, which may have moved on by the time it is read back:
    the commit's own key says that it is there."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        theirs = "r/other"

        def befall(call: int, verb: str, arguments: Any) -> Any:
            if verb != "commit" or not any(put.key == theirs for put in arguments[0].puts):
                return None
            host.on_call = overtake
            return "applied-then-error"

        def overtake(call: int, verb: str, arguments: Any) -> Any:
            host.on_call = None
            host.store.apply(Batch("another", (), (Put(theirs, b"2"),), ()))

        host.on_call = befall
        write = Write({keys.record("a"): journal.record.version_tag}, {theirs: b"1"})
        recorded = await journal.append([ev.Paused(ev.PAUSED)], write)
        assert [type(event) for _, event in recorded] == [ev.Paused]
        assert len(await runtime.store.commits(journal.name)) == 2

    with_journal(test)


def test_attributes_go_with_the_next_commit() -> None:
    """Though nothing else of the record has changed."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        await journal.append([ev.Paused(ev.PAUSED)])
        before = (await runtime.store.record("a")).version_tag
        journal.machine.attributes = {"stage": 2}
        await journal.append([ev.Resumed(ev.RESUMED)])
        record = await runtime.store.record("a")
        assert record.attributes == {"stage": 2}
        assert record.version_tag == journal.record.version_tag != before
        await journal.append([ev.Paused(ev.PAUSED)])
        assert (await runtime.store.record("a")).version_tag == record.version_tag

    with_journal(test)


def test_the_place_of_a_commit_must_be_free() -> None:
    """A commit of ours that lands late moves nothing else: it shows there, and there alone."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        late = keys.commit(journal.name, journal.cursor.length)
        host.store.apply(Batch("late", (), (Put(late, b"of an earlier try"),), ()))
        with pytest.raises(Lost) as lost:
            await journal.append([ev.Paused(ev.PAUSED)])
        assert lost.value.keys == (late,)
        assert host.store.entries[late].value == b"of an earlier try"

    with_journal(test)


def test_an_index_key_goes_with_what_it_says() -> None:
    """Those that a write of the record has put are deleted by the next one that has them no more."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        async def written() -> set[str]:
            write = journal.write()
            journal.put_record(write)
            await journal.commit(write)
            return {key for key in host.store.keys if key[:2] in ("t/", "x/")}

        before = await written()
        journal.record.wake_at, journal.machine.attributes = host.now_ms() + 5, {"stage": 1}
        assert len(await written() - before) >= 1
        journal.record.wake_at, journal.machine.attributes = None, {}
        assert await written() == before

    with_journal(test)


def test_a_charge_that_meets_anothers_is_added_to_it() -> None:
    """Whoever shares a budget may spend in between, again and again: the run is not lost for that, and no charge is."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        account, codec = "0" * 12, journal.codec
        key, others = keys.shared(account), 0

        def spends(call: int, verb: str, arguments: Any) -> None:
            nonlocal others
            if verb == "commit" and others < 3 and any(put.key == key for put in arguments[0].puts):
                others += 1
                theirs = Put(key, codec.encode([10 + 5 * others, 0]))
                host.store.apply(Batch(f"theirs-{others}", (), (theirs,), ()))

        journal.machine.purse.accounts, journal.machine.purse.shared = [Account(account, 100, None)], True
        host.on_call = spends
        journal.machine.drawn = [ev.Spent(ev.SPENT, 7, 0, "label", False, None)]
        await journal.append([ev.Paused(ev.PAUSED)])
        assert others == 3
        assert codec.decode(host.store.entries[key].value) == [32, 0]

    with_journal(test)


@pytest.mark.parametrize("attributes", [{}, {"stage": 1}])
def test_a_burst_of_values_goes_ahead_of_what_happened_in_commits_of_a_few(attributes: dict[str, Any]) -> None:
    """In their order, the last few with the event; the record, too, may move with the first of them."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        journal.machine.attributes = dict(attributes)
        journal.machine.drawn = [ev.Drawn(ev.DRAWN, "now", n) for n in range(2 * FEW + 50)]
        recorded = await journal.append([ev.Paused(ev.PAUSED)])
        assert [type(event) for _, event in recorded] == [ev.Paused]
        commits = (await runtime.store.events(journal.name, journal.record.run))[1:]
        assert [len(commit) for commit in commits] == [FEW, FEW, 51]
        values = [event.value for commit in commits for _, event in commit if isinstance(event, ev.Drawn)]
        assert values == list(range(2 * FEW + 50))
        assert journal.machine.drawn == []
        assert (await runtime.store.record("a")).attributes == attributes

    with_journal(test)


def test_a_large_value_is_durable_before_the_commit_that_refers_to_it() -> None:
    """In a batch of its own: together they may be more than the store takes at once."""
    limits = Capabilities(
        "simulated", durability="volatile", inline_limit=1_000, max_value=4_000, max_batch_bytes=9_000
    )

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        host.batches.clear()
        payload = "x" * 3_500
        await journal.append([ev.SignalReceived(ev.SIGNAL_RECEIVED, "entry", "s", payload)])
        puts = [[put.key[:2] for put in batch.puts] for batch in host.batches]
        assert puts[-1] == ["h/"]
        assert len(puts) > 1
        assert all(keys == ["b/"] for keys in puts[:-1])
        ((_, event),) = (await runtime.store.events(journal.name, journal.record.run))[-1]
        assert event.payload == payload  # type: ignore[union-attr]

    with_journal(test, limits)


def test_sealing_moves_the_record() -> None:
    """Whoever has read the history before, and is about to take the run, reads it again: places behind it are free."""
    limits = Capabilities("simulated", durability="volatile", segment_commits=4)

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        sealed, versions = 0, [(await runtime.store.record("a")).version_tag]
        for _ in range(12):
            await journal.happened([ev.Paused(ev.PAUSED)])
            version = (await runtime.store.record("a")).version_tag
            segments = sum(key.startswith("s/") for key in host.store.keys)
            assert (version != versions[-1]) == (segments > sealed)
            sealed = segments
            versions.append(version)
            assert version == journal.record.version_tag
        assert sealed == 3

    with_journal(test, limits)


def test_who_stops_says_what_was_recorded_and_no_more() -> None:
    """A charge that the handler drew and nobody has committed is in no history, so the record does not know of it."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        journal.machine.purse.charge(7, 0)
        journal.machine.drawn = [ev.Spent(ev.SPENT, 7, 0, "label", False, None)]
        driver: Any = SimpleNamespace(record=journal.record, journal=journal, machine=journal.machine)
        await runtime.owner.hand_back("a", driver)
        record = await runtime.store.record("a")
        assert (record.owner, record.spent["tokens"], record.cursor_length) == (None, 0, 1)

    with_journal(test)


def test_who_stops_says_how_far_the_history_goes() -> None:
    """The commits of steps leave the record as it was: the lease is handed back with what they came to."""

    async def test(host: SimulatedHost, runtime: Runtime, journal: Journal) -> None:
        await journal.append([ev.Paused(ev.PAUSED)])
        await journal.append([ev.Resumed(ev.RESUMED)])
        driver: Any = SimpleNamespace(record=journal.record, journal=journal, machine=journal.machine)
        await runtime.owner.hand_back("a", driver)
        record = await runtime.store.record("a")
        assert (record.owner, record.cursor_length, record.head) == (None, 3, journal.cursor.head)

    with_journal(test)


@pytest.mark.parametrize("beside", ["nothing", "drawn", "emitted", "attributes", "large", "shared"])
def test_a_step_is_recorded_at_once_where_nothing_else_goes_with_its_commit(beside: str) -> None:
    """Otherwise nothing is done, and the long way has it all: values in front, the record beside it, blobs before."""

    async def body() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            await runtime.start("flow", 1, id="a")
            driver: Any = runtime.fleet.drivers["a"]
            await runtime.fleet.stop(1)
            journal: Journal = driver.journal
            command, value = RunStep("1", "quick", None, print, (), {}), Plain(7)
            if beside == "drawn":
                journal.machine.drawn = [ev.Drawn(ev.DRAWN, "random", 0.5)]
            elif beside == "emitted":
                journal.machine.give_back([ev.Emitted(ev.EMITTED, "topic", 1)])
            elif beside == "attributes":
                journal.machine.attributes = {"stage": 1}
            elif beside == "large":
                value = Plain("x" * runtime.host.capabilities.inline_limit)
            elif beside == "shared":
                journal.machine.purse.shared = True
            heard = list[int]()
            journal.teller.followed["a"] = [lambda: heard.append(journal.cursor.length)]
            recorded = journal.append_now(command, value)
            assert heard == [2] * (beside == "nothing")  # who follows the run
            if beside == "nothing":
                assert recorded is not None
                assert recorded[1] == ev.StepCompleted(ev.STEP_COMPLETED, "1", "quick", None, 7)
            else:
                assert recorded is None
            assert journal.cursor.length == 1 + (beside == "nothing")
            assert len(await runtime.store.commits(journal.name)) == journal.cursor.length
            driver.machine.set_aside()

    drive(body)
