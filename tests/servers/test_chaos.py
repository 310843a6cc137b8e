"""What the bad network of the soak does with a commit that it delivers twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge.host import Batch, Check, Committed, Put
from alkaline_hosts.opening import open_host

from .chaos import Chaos
from .conftest import until
from .redis_server import RedisServer
from .repeating import OfPostgres, OfRedis

BLIND = Batch("1" * 16, puts=(Put("blind", b"1"),))
CHECKED = Batch("2" * 16, checks=(Check("checked", None),), puts=(Put("checked", b"1"),))


async def delivers_twice(url: str, port: int, repeats: Callable[[], Any]) -> None:
    """Both commits go through a network that delivers every commit twice; others follow before the second time."""
    async with Chaos(port, 1, delay=0, cut=0, silent=0, twice=1.0, repeats=repeats) as chaos:
        chaos.repeating.clear()
        far, near = open_host(url.replace(f":{port}/", f":{chaos.port}/")), open_host(url)
        for commit in (BLIND, CHECKED):
            assert await far.commit(commit) == Committed(commit.id)
        for key in ("blind", "checked"):
            assert await near.commit(Batch("3" * 16, puts=(Put(key, b"2"),))) == Committed("3" * 16)
        chaos.repeating.set()

        async def is_over() -> bool:
            return chaos.done["twice"] == 2

        await until(is_over)
        values = [entry.value for entry in await near.get(["blind", "checked"]) if entry]
        assert values == [b"1", b"2"], "what checks nothing is done again, and what checks is not"
        for host in (far, near):
            await host.close()


def test_redis_is_told_twice(redis_always: RedisServer) -> None:
    """A commit without a check is done twice, over what others wrote; one with a check once."""
    asyncio.run(delivers_twice(f"{redis_always.url}?name=twice", redis_always.port, OfRedis))


def test_postgres_is_told_twice(database: str) -> None:
    """The same, by the statement that was parsed earlier on its connection."""
    port = int(database.rpartition(":")[2].split("/")[0])
    asyncio.run(delivers_twice(database, port, OfPostgres))


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (4 + len(body)).to_bytes(4) + body


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_commit_is_found_wherever_its_bytes_are_cut(size: int) -> None:
    """Pieces of a connection of Postgres are of any size."""
    tls, start = b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x0c\0\x03\0\0a\0b\0"
    parsed, other = (message(b"P", text) for text in (b"s1\0SELECT a_commit_1($1)\0\0\0", b"s2\0SELECT 1\0\0\0"))
    bound = message(b"B", b"\0s1\0") + message(b"E", b"") + message(b"S", b"")
    content = tls + start + parsed + other + message(b"B", b"\0s2\0") + message(b"S", b"") + bound * 2
    repeats = OfPostgres()
    found = [commit for at in range(0, len(content), size) for commit in repeats.commits(content[at : at + size])]
    assert found == [[start, parsed + bound]] * 2
