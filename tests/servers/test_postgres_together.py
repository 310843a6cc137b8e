"""Commits that are made at once go to Postgres as one statement, and each has an outcome of its own."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
import pytest

from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts._postgres import clients
from alkaline_hosts.opening import open_host
from alkaline_hosts.postgres import PostgresHost

from .conftest import execute
from .test_postgres import by_asyncpg, each_client
from .test_postgres_faults import stand_by, terminate_in_commit
from .together import held_against_a_model, racing


def put(key: str, value: bytes = b"", *checks: Check) -> Batch:
    return Batch(os.urandom(8).hex(), checks, (Put(key, value),))


@each_client
def test_any_commits_at_once_are_as_if_alone(client: Any, database: str) -> None:
    """Puts, deletes, failed checks and refusals, drawn: each outcome is right, and so is what is there then."""

    async def main() -> None:
        host = await client(database)
        await held_against_a_model(host, 1)
        await host.close()

    asyncio.run(main())


@each_client
def test_two_processes_race_in_groups(client: Any, database: str) -> None:
    """Inserts of one key by groups of two hosts: one winner each, and whoever shares its statement is not harmed."""

    async def main() -> None:
        hosts = [await client(database) for _ in range(2)]
        assert await racing(hosts) == 150
        for host in hosts:
            await host.close()

    asyncio.run(main())


def test_a_hundred_commits_are_a_few_statements(database: str) -> None:
    """One transaction holds many commits: their rows have few transaction ids between them."""

    async def main() -> None:
        host = await by_asyncpg(database)
        await host.commit(put("first"))
        assert all(isinstance(each, Committed) for each in await many(host, 100))
        rows = await execute(database, "SELECT count(DISTINCT xmin::text) FROM alkaline")
        assert rows[0][0] <= 6
        await host.close()

    asyncio.run(main())


async def many(host: Any, count: int) -> list[Any]:
    """The outcomes of so many commits of a key each, made at once."""
    return await asyncio.gather(*(host.commit(put(f"k/{n:03}")) for n in range(count)), return_exceptions=True)


@each_client
def test_a_row_that_another_transaction_holds_stops_its_own_commit_alone(client: Any, database: str) -> None:
    """The others, and those that come behind it, go on while it waits; it ends when it is let go."""

    async def main() -> None:
        host = await client(database)
        await host.commit(put("held", b"1"))
        connection = await asyncpg.connect(database)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT * FROM alkaline WHERE key = 'held' FOR UPDATE")
        stopped = asyncio.ensure_future(host.commit(put("held", b"2")))
        async with asyncio.timeout(20):
            for _ in range(3):
                assert all(isinstance(each, Committed) for each in await many(host, 20))
        assert not stopped.done()
        await transaction.rollback()
        await connection.close()
        assert isinstance(await stopped, Committed)
        await host.close()

    asyncio.run(main())


@each_client
def test_one_that_the_server_refuses_fails_alone(client: Any, database: str) -> None:
    """An error of the server undoes the whole statement: each goes by itself then, and that one is told."""

    async def main() -> None:
        host = await client(database)
        await host.commit(put("first"))
        await execute(database, "ALTER TABLE alkaline ADD CHECK (key <> 'k/007')")
        outcomes = await many(host, 20)
        assert [type(each) for each in outcomes] == [StoreError if n == 7 else Committed for n in range(20)]
        await host.close()

    asyncio.run(main())


@each_client
def test_a_group_whose_answer_is_lost_is_unknown_and_whole(client: Any, database: str) -> None:
    """The backend is ended while the group commits: each is UnknownOutcome, and all of them are there."""

    async def main() -> None:
        host = await client(database)
        await host.commit(put("first"))
        await stand_by(database, "bogus")
        try:
            commits = asyncio.ensure_future(many(host, 12))
            ended = 0
            while not commits.done() and ended < 9:
                ended += 1
                await terminate_in_commit(database)
                await asyncio.sleep(0.05)
                if len(await execute(database, "SELECT 1 FROM alkaline")) == 13:
                    await stand_by(database, "")
                    break
            outcomes = await commits
        finally:
            await stand_by(database, "")
        assert {type(each) for each in outcomes} <= {UnknownOutcome, Committed}
        assert sum(isinstance(each, UnknownOutcome) for each in outcomes) >= 2
        assert len(await execute(database, "SELECT 1 FROM alkaline")) == 13
        again = await asyncio.gather(*(host.commit(put(f"k/{n:03}", b"", Check(f"k/{n:03}", None))) for n in range(12)))
        assert all(isinstance(each, Conflict) for each in again)
        await host.close()

    asyncio.run(main())


@pytest.mark.parametrize("pooled", [False, True])
def test_statements_are_prepared_where_no_pooler_is_in_the_way(
    pooled: bool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler shows a process of its own making: then nothing is prepared, as it would be another's backend soon."""
    if pooled:
        monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda _: 4_000_000_000)

    async def prepared() -> int:
        host = open_host(database)
        assert isinstance(host, PostgresHost)
        for n in range(4):
            await host.commit(put(f"k{n}"))
        rows = await host._client.run("SELECT count(*) FROM pg_prepared_statements", ())
        await host.close()
        return int(rows[0][0])

    found = asyncio.run(prepared())
    assert found == 0 if pooled else 0 < found <= clients.STATEMENTS
