"""Commits that are made at once go to Redis in one round trip, and each has an outcome of its own."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Any

import pytest

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put

from .redis_proxy import Loss, Proxy
from .redis_server import RedisServer
from .test_redis_faults import by_url, once
from .together import held_against_a_model, racing


def put(key: str, *checks: Check) -> Batch:
    return Batch(os.urandom(8).hex(), checks, (Put(key, b"1"),))


async def many(host: Any, count: int) -> list[Any]:
    """The outcomes of so many commits of a key each, made at once."""
    commits = (host.commit(put(f"k/{n:03}", Check(f"k/{n:03}", None))) for n in range(count))
    return await asyncio.gather(*commits, return_exceptions=True)


def test_any_commits_at_once_are_as_if_alone(redis_always: RedisServer) -> None:
    """Puts, deletes, failed checks and refusals, drawn: each outcome is right, and so is what is there then."""

    async def main() -> None:
        host = by_url(redis_always.url, uuid.uuid4().hex)
        await held_against_a_model(host, 2)
        await host.close()

    asyncio.run(main())


def test_two_processes_race_in_groups(redis_always: RedisServer) -> None:
    """Puts of one key by groups of two hosts: one winner each."""

    async def main() -> None:
        name = uuid.uuid4().hex
        hosts = [by_url(redis_always.url, name) for _ in range(2)]
        assert await racing(hosts) == 150
        for host in hosts:
            await host.close()

    asyncio.run(main())


def test_a_hundred_commits_are_a_few_round_trips(redis_of: Any) -> None:
    """Counted in pieces that come to the server."""

    async def main() -> None:
        async with Proxy(redis_of().port) as proxy:
            host = by_url(proxy.url)
            await host.commit(put("first"))
            before = proxy.commits
            assert all(isinstance(each, Committed) for each in await many(host, 100))
            assert proxy.commits - before <= 6
            await host.close()

    asyncio.run(main())


@pytest.mark.parametrize("loss", ["before", "after"])
def test_a_group_whose_answers_are_lost_is_unknown(loss: Loss, redis_of: Any) -> None:
    """The connection ends in the third round trip: those of it are UnknownOutcome, and no other is."""
    server = redis_of()

    async def main() -> None:
        direct = by_url(server.url)
        await direct.commit(put("first"))
        async with Proxy(server.port, once(3, loss)) as proxy:
            host = by_url(proxy.url)
            await host.get(["first"])  # the settings are read, so all of the commits go on at once
            outcomes = await many(host, 30)
            assert {type(each) for each in outcomes} == {Committed, UnknownOutcome}
            await host.close()
        known = [f"k/{n:03}" for n, each in enumerate(outcomes) if isinstance(each, Committed) or loss == "after"]
        assert [entry.key for entry in await direct.list("k/")] == known
        again = await many(direct, 30)
        assert sum(isinstance(each, Conflict) for each in again) == len(known)
        await direct.close()

    asyncio.run(main())


def test_a_server_that_has_forgotten_the_scripts(redis_of: Any) -> None:
    """Those that it did not do for that reason are sent again, each with the script."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await many(host, 5)
        commits = asyncio.ensure_future(many(host, 40))
        await asyncio.sleep(0)
        server.ask("SCRIPT", "FLUSH")
        outcomes = await commits
        assert [isinstance(each, Conflict) for each in outcomes] == [n < 5 for n in range(40)]
        assert len(await host.list("k/")) == 40
        await host.close()

    asyncio.run(main())


def test_a_server_that_takes_no_writes_refuses_each(redis_of: Any) -> None:
    """Out of memory: each is refused by itself, nothing is written, and all goes on once there is room."""
    server = redis_of()

    async def main() -> None:
        host = by_url(server.url)
        await host.commit(put("first"))
        server.ask("CONFIG", "SET", "maxmemory", "1")
        assert {type(each) for each in await many(host, 10)} == {StoreError}
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert {type(each) for each in await many(host, 10)} == {Committed}
        await host.close()

    asyncio.run(main())
