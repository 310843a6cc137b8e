"""``durability="replicated"``: what is answered is on a replica, and a failover to it loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Committed, Put
from alkaline_hosts._redis import clients

from .pairs import RedisPair
from .redis_server import RedisServer
from .test_redis import by_url
from .test_redis_settings import refusal

Start = Callable[..., RedisServer]


def put(n: int) -> Batch:
    return Batch(f"{n:016x}", puts=(Put(f"k{n:03d}", b"x"),))


def test_a_server_without_a_replica_is_refused(redis_of: Start) -> None:
    """It is told what is missing, and what the server can promise as it is."""
    text = asyncio.run(refusal(by_url(redis_of().url, durability="replicated")))
    assert "no replica is connected to it" in text
    assert "REPLICAOF" in text
    assert "durability='disk'" in text


def test_what_no_replica_has_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that the replica did not receive in time is unknown, alone and among others; so is a read of it.

    Once the replica goes on, the same read says that it is there.
    """
    monkeypatch.setattr(clients, "PATIENCE", 100)

    async def main(pair: RedisPair) -> None:
        host = by_url(pair.primary.url, durability="replicated")
        assert await host.commit(put(0)) == Committed(put(0).id)
        assert pair.other.process is not None
        os.kill(pair.other.process.pid, signal.SIGSTOP)
        try:
            found = await asyncio.gather(*(host.commit(put(n)) for n in range(1, 4)), return_exceptions=True)
            assert [type(each) for each in found] == [UnknownOutcome] * 3
            assert "0 of 1 replicas" in str(found[0])
            with pytest.raises(StoreError, match="replicas"):
                await host.list("k")
        finally:
            os.kill(pair.other.process.pid, signal.SIGCONT)
        monkeypatch.setattr(clients, "PATIENCE", 20_000)
        assert [entry.key for entry in await host.list("k")] == ["k000", "k001", "k002", "k003"]
        await host.close()

    with RedisPair(tmp_path) as pair:
        asyncio.run(main(pair))


def test_a_failover_in_the_middle_of_commits_loses_none_that_was_answered(tmp_path: Path) -> None:
    """The primary is killed while commits are under way, and the replica takes over."""

    async def commit_until_killed(pair: RedisPair) -> int:
        host, told = by_url(pair.primary.url, durability="replicated"), 0
        killing = asyncio.get_running_loop().call_later(0.3, pair.kill)
        try:
            while True:
                await host.commit(put(told))
                told += 1
        except StoreError:
            killing.cancel()
            await host.close()
            return told

    async def there(pair: RedisPair) -> int:
        host = by_url(pair.primary.url, durability="replicated")
        entries = await host.list("k", limit=10_000)
        await host.close()
        return len(entries)

    with RedisPair(tmp_path) as pair:
        told = asyncio.run(commit_until_killed(pair))
        pair.start()
        assert pair.fail_overs == 1
        assert 0 < told <= asyncio.run(there(pair)) <= told + 1
