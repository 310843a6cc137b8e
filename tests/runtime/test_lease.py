"""Leases: the arithmetic of one, and whose a run is by the clock, by its session, and by the platform's word."""

from __future__ import annotations

import pytest

from alkaline_edge import InvalidInput, StoreError
from alkaline_edge.codec import Codec
from alkaline_edge.host import Capabilities
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime import lease
from alkaline_edge.runtime.lease import Leases
from alkaline_edge.runtime.store import Store
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.support import drive


def a_record(**fields: object) -> ExecutionRecord:
    record = ExecutionRecord("a", "0123456789ab", "flow", 1, "running", 0, 0)
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def leases_of(host: SimulatedHost, seconds: float | None = 30) -> Leases:
    return Leases(Store(host, Codec()), seconds)


def test_a_lease_is_taken_renewed_and_freed() -> None:
    """Taking moves the epoch, renewing only the end; a third of it is left for renewing, a tenth spent is not fresh."""
    host = SimulatedHost()
    leases, record = leases_of(host), a_record(epoch=4)
    now = host.now_ms()
    leases.take(record)
    assert (record.owner, record.lease_until, record.epoch) == (leases.token, now + 30_000, 5)
    assert leases.renew_at(record, now) == now + 10_000
    assert leases.is_fresh(record)
    host.advance(4)
    assert not leases.is_fresh(record)
    leases.renew(record)
    assert (record.lease_until, record.epoch, leases.is_fresh(record)) == (now + 34_000, 5, True)
    assert leases.half == 15_000
    lease.free(record)
    assert (record.owner, record.lease_until, record.epoch) == (None, 0, 5)


def test_a_run_is_another_s_until_its_lease_ends() -> None:
    """By the clock; not for its owner, and not once it has run out."""

    async def body() -> None:
        store = SimulatedStore()
        ours, theirs = (leases_of(SimulatedHost(store, seed=n)) for n in (1, 2))
        record = a_record(version_tag="1")
        theirs.take(record)
        assert await ours.held_by_other(record)
        assert not await theirs.held_by_other(record)
        store.clock.advance(30_000)
        assert not await ours.held_by_other(record)

    drive(body)


def test_an_end_that_is_too_far_away_counts_from_when_it_was_seen() -> None:
    """Its owner's clock was ahead: a record that stays as it is for the length of a lease is nobody's."""
    host = SimulatedHost()
    leases, now = leases_of(host), host.now_ms()
    record = a_record(owner="x", lease_until=now + 10_000_000, updated_at=now + 9_970_000, version_tag="1")
    assert leases.ends_at(record) == now + 30_000
    host.advance(20)
    assert leases.ends_at(record) == now + 30_000
    record.version_tag = "2"
    assert leases.ends_at(record) == now + 50_000


def test_a_new_owner_is_another_one() -> None:
    """After a swap of hosts."""
    leases = leases_of(SimulatedHost())
    before = leases.token
    assert leases.token == before
    leases.begin_anew()
    assert leases.token != before


@pytest.mark.parametrize(
    ("can", "asked"),
    [
        (Capabilities("odd", conditional=False), None),
        (Capabilities("odd", atomic=False), None),
        (Capabilities("odd", conditional=False, single_writer=True), 10.0),
    ],
)
def test_a_host_that_can_t_keep_a_run_safe_is_refused(can: Capabilities, asked: float | None) -> None:
    """By name, with the reason."""
    host = SimulatedHost(capabilities=can)
    with pytest.raises(StoreError, match="odd has no"):
        lease.require(host, asked)


def test_what_is_no_host_is_refused() -> None:
    """At the call that gave it."""
    with pytest.raises(InvalidInput, match="str lacks some"):
        lease.require("memory:")  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize("kind", ["exclusive", "single_writer", "shared"])
def test_where_one_process_writes_an_owner_of_another_session_is_dead(kind: str) -> None:
    """And one of this very session is alive: two runtimes of a process may share its host."""
    options = {} if kind == "shared" else {kind: True}
    host = SimulatedHost(capabilities=Capabilities("simulated", durability="volatile", **options))

    async def test() -> None:
        ours, beside = leases_of(host), leases_of(host)
        elsewhere = leases_of(SimulatedHost(SimulatedStore(clock=host.clock), seed=7))
        for owner, held in ((beside, True), (elsewhere, kind == "shared"), (ours, False)):
            record = a_record()
            owner.take(record)
            assert await ours.held_by_other(record) is held

    drive(test)
