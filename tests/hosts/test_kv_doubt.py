"""What a KV log refuses to believe: forks wherever they stand, a view short of one commit, bytes that were edited."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge.errors import StoreError
from alkaline_edge.host import Conflict
from alkaline_hosts._kv import values
from alkaline_hosts._kv.log import CHECKPOINT_COMMITS
from alkaline_hosts._kv.namespace import Counted
from alkaline_hosts.cloudflare_kv import KVHost
from alkaline_hosts.memory import MemoryHost
from tests.hosts.kv_simulator import SimulatedKV
from tests.hosts.test_cloudflare_kv import batch, fill, run, single


def fresh() -> SimulatedKV:
    """One that shows each write at once."""
    return SimulatedKV(lag=0, list_lag=0)


def name_of(kv: SimulatedKV, position: int, kind: str = "log") -> str:
    """The key of the newest commit, or checkpoint, at that position."""
    return [key for key in kv.writes if f"/{kind}/{position:010d}-" in key][-1]


async def refused(host: Any, reason: str | None) -> None:
    with pytest.raises(StoreError) as error:
        await host.list("k/")
    assert error.value.detail.get("reason") == reason


def test_a_commit_that_does_not_follow_is_a_fork_though_its_place_is_free() -> None:
    """Of two at one position one is gone: what comes behind names the digest of the one that is not there."""

    async def body() -> None:
        kv = fresh()
        one = single(kv)
        await fill(one, 2)
        two = single(kv)
        await two.list("k/")
        await fill(one, 2, 2)
        mine = name_of(kv, 3)
        await two.commit(batch({"k/other": b"2"}))
        del kv.writes[mine]
        await refused(single(kv), "forked")

    run(body)


@pytest.mark.parametrize("behind", [0, 1, 5])
def test_a_fork_beside_a_checkpoint_is_found(behind: int) -> None:
    """Also one at the very position of the checkpoint, which nobody reads any more."""

    async def body() -> None:
        kv = fresh()
        one = single(kv)
        await fill(one, CHECKPOINT_COMMITS - 1 - behind)
        two = single(kv)
        await two.list("k/")
        await fill(one, 1 + behind, CHECKPOINT_COMMITS)
        assert name_of(kv, CHECKPOINT_COMMITS, "base")
        assert len(await single(kv).list("k/")) == CHECKPOINT_COMMITS
        puts = kv.counts["put"]
        kv.fault = lambda operation, number: "lost" if operation == "put" and number > puts + 1 else None
        await two.commit(batch({"k/other": b"2"}))  # and no checkpoint of its own
        await refused(single(kv), "forked")

    run(body)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_a_view_that_is_short_of_the_token_is_refused(missing: int) -> None:
    """By one commit as by many; and so is one that is short of what this very host has seen before."""

    async def body() -> None:
        kv = fresh()
        host = single(kv)
        await fill(host, 5)
        token = host.resume_token
        await host.refresh()
        for n in range(missing):
            del kv.writes[name_of(kv, 5 - n)]
        await refused(single(kv, resume=token), "stale")
        await refused(host, "stale")
        assert len(await single(kv).list("k/")) == 5 - missing

    run(body)


def test_a_token_of_another_store_is_refused() -> None:
    """As long, and with another end."""

    async def body() -> None:
        kv, other = fresh(), fresh()
        ours, theirs = single(kv), single(other)
        await fill(ours, 3)
        await fill(theirs, 3)
        assert len(await single(kv, resume=ours.resume_token).list("k/")) == 3
        await refused(single(kv, resume=theirs.resume_token), "forked")

    run(body)


def test_a_checkpoint_that_was_edited_is_refused() -> None:
    """Though it can be read: its name says what its bytes are."""

    async def body() -> None:
        kv = fresh()
        await fill(single(kv), CHECKPOINT_COMMITS + 3)
        (write,) = kv.writes[name_of(kv, CHECKPOINT_COMMITS, "base")]
        assert write.value is not None
        assert write.value.count(b"k/00042") == 1
        write.value = write.value.replace(b"k/00042", b"k/00043")
        with pytest.raises(StoreError, match="damaged"):
            await single(kv).list("k/")

    run(body)


def test_a_commit_of_a_newer_format_is_refused_with_what_to_do() -> None:
    """This version does not know what it says."""

    async def body() -> None:
        kv = fresh()
        await fill(single(kv), 2)
        (write,) = kv.writes[name_of(kv, 2)]
        assert write.value is not None
        assert write.value[:2] == b"\x95\x01"
        write.value = b"\x95\x02" + write.value[2:]
        with pytest.raises(StoreError, match="format 2, and this version reads 1"):
            await single(kv).list("k/")

    run(body)


class Coordinated:
    """A KVHost with a coordinator, whose clock is in ``now`` (ms)."""

    def __init__(self) -> None:
        self.kv, self.now = fresh(), 1_700_000_000_000
        self.front = MemoryHost(now_ms=lambda: self.now)
        self.host = KVHost(self.kv.at("here"), coordinator=self.front, large=100)


def test_an_entry_that_was_written_past_the_host_is_refused() -> None:
    """Whatever its first byte is, if it is none of the two that say where the value stands."""

    async def body() -> None:
        for first in (b"\2", b"\xff", b"a", b""):
            store = Coordinated()
            await store.front.commit(batch({"k/1": first and first + b"large/1"}))
            with pytest.raises(StoreError, match="was not written through a KVHost"):
                await store.host.list("k/")

    run(body)


def test_a_sweep_leaves_what_a_commit_under_way_may_refer_to() -> None:
    """A value is written before the entry that refers to it: only what is older than a commit takes may go."""

    async def body() -> None:
        store = Coordinated()
        await store.host.commit(batch({"k/1": b"x" * 200}))
        conflict = await store.host.commit(batch({"k/1": b"y" * 200}, {"k/1": None}))
        assert conflict == Conflict(("k/1",))
        store.now += 3_599_000
        store.kv.now += 3_599
        assert await store.host.sweep(older_than=3_600) == 0
        store.now += 2_000
        assert await store.host.sweep(older_than=3_600) == 1
        assert [entry.value for entry in await store.host.list("k/")] == [b"x" * 200]

    run(body)


@pytest.mark.parametrize("page", [1, 2, 3, 500])
def test_a_sweep_looks_at_every_entry_before_it_deletes(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """However many pages there are: a value that one of the last refers to stays."""
    monkeypatch.setattr(values, "PAGE", page)

    async def body() -> None:
        store = Coordinated()
        for n in range(6):
            await store.host.commit(batch({f"k/{n}": b"%d" % n * 200}))
        store.now += 10_000
        store.kv.now += 10
        assert await store.host.sweep(older_than=1) == 0
        assert len(await store.host.list("k/")) == 6

    run(body)


def test_a_page_without_keys_is_not_the_last_where_kv_says_that_there_are_more() -> None:
    """KV gives such pages: what has been deleted has its place in them."""

    class Sparse:
        async def list(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
            return {None: ([], "1"), "1": (["a"], "2"), "2": ([], "3"), "3": (["b"], None)}[cursor]  # type: ignore[return-value]

        async def get(self, key: str) -> None: ...

        async def put(self, key: str, value: bytes) -> None: ...

        async def delete(self, key: str) -> None: ...

    async def body() -> None:
        assert await Counted(Sparse(), None).keys("") == ["a", "b"]

    run(body)
