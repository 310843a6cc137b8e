"""MemoryHost: what it has beside the contract. The contract itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import random
import sys
import threading

import pytest

from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts._ranges import CHUNK
from alkaline_hosts.memory import MemoryHost, MemoryStore
from tests.support import drive


def test_stores_are_apart_unless_shared() -> None:
    """Two hosts have two stores; hosts given one store see the same keys, also after one is closed."""

    async def main() -> None:
        store = MemoryStore()
        one, two, other = MemoryHost(store), MemoryHost(store), MemoryHost()
        await one.commit(Batch("1" * 16, (), (Put("a", b"1"),)))
        await one.close()
        assert [entry and entry.value for entry in await two.get(["a"])] == [b"1"]
        assert await other.get(["a"]) == [None]

    asyncio.run(main())


def test_clock_and_entropy_can_be_replaced() -> None:
    """``now_ms`` and ``entropy`` given to the host are what it answers with."""
    host = MemoryHost(now_ms=lambda: 42, entropy=lambda n: b"\x07" * n)
    assert (host.now_ms(), host.entropy(3)) == (42, b"\x07\x07\x07")


@pytest.mark.skipif(sys.platform == "emscripten", reason="no threads")
def test_a_thread_runs_a_function() -> None:
    """``run_in_thread`` runs elsewhere than on the loop's thread, and returns what the function returns."""
    assert MemoryHost().capabilities.threads
    assert asyncio.run(MemoryHost().run_in_thread(threading.get_ident)) != threading.get_ident()  # type: ignore[arg-type]


def test_like_a_dict_that_is_sorted() -> None:
    """2,000 random batches leave what a plain dict and ``sorted`` say, in every listing and in every conflict."""
    random_ = random.Random(7)
    store, plain = MemoryStore(), {}  # type: ignore[var-annotated]
    for n in range(2_000):
        names = random_.sample([f"{a}/{b}" for a in "abc" for b in range(6)], 3)
        checks = [(names[0], random_.choice([None, plain.get(names[0], (None, None))[1], "stale"]))]
        batch = Batch(f"{n:016x}", tuple(Check(*c) for c in checks), (Put(names[0], b"%d" % n),), (names[1],))
        holds = all(plain.get(key, (None, None))[1] == version for key, version in checks)
        assert isinstance(store.apply(batch), Committed if holds else Conflict)
        if holds:
            plain[names[0]] = (b"%d" % n, batch.id)
            plain.pop(names[1], None)
        prefix, after, limit = random_.choice(["", "a", "b/", "c/3"]), random_.choice(["", "a/3", "b", "z"]), n % 7 + 1
        wanted = [key for key in sorted(plain) if key.startswith(prefix) and key > after][:limit]
        assert [(e.key, e.value, e.version) for e in store.under(prefix, after, limit)] == [
            (key, *plain[key]) for key in wanted
        ]


def test_a_commit_moves_no_more_keys_in_a_large_store_than_in_a_small_one() -> None:
    """The keys are kept in short lists: one that held all of them was moved by each commit, 600 us at 500,000 keys."""

    async def test() -> None:
        host = MemoryHost()
        for n in range(0, 20_000, 500):
            puts = tuple(Put(f"k/{(m * 7919) % 20_011:05d}", b"") for m in range(n, n + 500))
            await host.commit(Batch(f"{n:016x}", (), puts, ()))
        assert len(host.store.keys) == 20_000
        assert [*host.store.keys] == sorted(host.store.entries)
        assert max(map(len, host.store.keys._chunks)) <= 2 * CHUNK

    drive(test)
