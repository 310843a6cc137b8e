"""The Postgres host over both clients, on a real server."""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any

import asyncpg
import psycopg_pool
import pytest

from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Check, Committed, Conflict, Host, Put
from alkaline_edge.testing import CASES, Case, check_case
from alkaline_hosts.opening import open_host
from alkaline_hosts.postgres import PostgresHost


class Pooled(PostgresHost):
    """A host that closes its pool with it, as a program would."""

    def __init__(self, pool: Any, table: str) -> None:
        super().__init__(pool, table=table)
        self.pool = pool

    async def close(self) -> None:
        await super().close()
        await self.pool.close()


async def by_asyncpg(url: str, table: str = "alkaline") -> Host:
    return Pooled(await asyncpg.create_pool(url, min_size=1, max_size=4), table)


async def by_asyncpg_uncached(url: str, table: str = "alkaline") -> Host:
    return Pooled(await asyncpg.create_pool(url, min_size=1, max_size=4, statement_cache_size=0), table)


async def by_psycopg(url: str, table: str = "alkaline") -> Host:
    pool = psycopg_pool.AsyncConnectionPool(url, min_size=1, max_size=4, open=False)
    await pool.open()
    return Pooled(pool, table)


async def by_psycopg_autocommit(url: str, table: str = "alkaline") -> Host:
    pool = psycopg_pool.AsyncConnectionPool(url, min_size=1, max_size=4, open=False, kwargs={"autocommit": True})
    await pool.open()
    return Pooled(pool, table)


CLIENTS = [by_asyncpg, by_asyncpg_uncached, by_psycopg, by_psycopg_autocommit]
each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


class Store:
    """Tables of their own in the one database."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client, self.table = url, client, f"t{uuid.uuid4().hex}"

    async def open(self) -> Host:
        return await self.client(self.url, self.table)

    async def destroy(self) -> None:
        pass


@each_client
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(client: Any, case: Case, server: str) -> None:
    """The host passes the case, or says by its capabilities why the case does not apply."""

    async def maker() -> Store:
        return Store(server, client)

    asyncio.run(check_case(case, maker, gather=asyncio.gather))


def batch(id: int, **parts: Any) -> Batch:
    return Batch(f"{id:016x}", **{name: tuple(part) for name, part in parts.items()})


@each_client
def test_schema_is_made_once_by_many(client: Any, database: str) -> None:
    """Twelve handles begin at once on an empty database: one table, every commit there. A read made nothing."""

    async def main() -> None:
        hosts = [await client(database) for _ in range(12)]
        assert await hosts[0].get(["a"]) == [None]
        assert await hosts[0].list("") == []
        rows = await asyncpg.connect(database)
        assert await rows.fetchval("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'alkaline%'") == 0
        await rows.close()
        done = await asyncio.gather(*(h.commit(batch(n, puts=[Put(f"k/{n}", b"v")])) for n, h in enumerate(hosts)))
        assert all(isinstance(outcome, Committed) for outcome in done)
        assert len(await hosts[0].list("k/")) == 12
        for host in hosts:
            await host.close()

    asyncio.run(main())


def test_a_newer_schema_is_refused(database: str) -> None:
    """An older program neither reads nor writes it, and says what to do."""

    async def main() -> None:
        host = open_host(database)
        await host.commit(batch(1, puts=[Put("a", b"")]))
        await host.close()
        connection = await asyncpg.connect(database)
        await connection.execute("INSERT INTO alkaline_schema VALUES (2)")
        await connection.close()
        host = open_host(database)
        with pytest.raises(StoreError, match="install the newer version"):
            await host.get(["a"])
        with pytest.raises(StoreError, match="install the newer version"):
            await host.commit(batch(2, puts=[Put("b", b"")]))
        await host.close()

    asyncio.run(main())


@each_client
def test_absence_that_is_only_checked_is_a_fence(client: Any, database: str) -> None:
    """Two commits that each put what the other wants absent: never both. And no placeholder stays."""

    async def main() -> None:
        host = await client(database)
        for n in range(60):
            a, b = f"a/{n}", f"b/{n}"
            outcomes = await asyncio.gather(
                host.commit(batch(2 * n, checks=[Check(a, None)], puts=[Put(b, b"")])),
                host.commit(batch(2 * n + 1, checks=[Check(b, None)], puts=[Put(a, b"")])),
            )
            assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
            assert sum(entry is not None for entry in await host.get([a, b])) == 1
        await host.close()

    asyncio.run(main())


@each_client
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_many_writers_in_any_order(client: Any, isolation: str, database: str) -> None:
    """Racing batches over the same keys in opposite orders, at any isolation: none is lost, none is half there."""

    async def main() -> None:
        name = database.rpartition("/")[2]
        connection = await asyncpg.connect(database)
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        await connection.close()
        host = await client(database)
        keys = [f"k/{n}" for n in range(8)]

        async def write(n: int) -> int:
            order = keys if n % 2 else keys[::-1]
            done = 0
            while done < 10:
                seen = await host.get(order)
                values = [int(entry.value) if entry else 0 for entry in seen]
                assert len(set(values)) == 1, "a batch was seen in part"
                checks = [Check(key, entry and entry.version) for key, entry in zip(order, seen, strict=True)]
                puts = [Put(key, str(values[0] + 1).encode()) for key in order]
                outcome = await host.commit(batch(n * 1000 + uuid.uuid4().int % 2**40, checks=checks, puts=puts))
                done += not isinstance(outcome, Conflict)
            return done

        await asyncio.gather(*(write(n) for n in range(4)))
        assert [entry and entry.value for entry in await host.get(keys)] == [b"40"] * 8
        await host.close()

    asyncio.run(main())


def test_asyncpg_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without its client names the command that installs it."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(InvalidInput, match=r"asyncpg.*pip install 'alkaline-edge\[postgres\]'"):
        open_host("postgresql://localhost/x")


@pytest.mark.parametrize("table", ["", "Runs", "a b", "a;b", "a.b.c", 'a"', "x" * 49])
def test_a_table_has_a_plain_name(table: str) -> None:
    """What would need quoting is refused before anything is sent."""
    with pytest.raises(InvalidInput, match="table is a name"):
        PostgresHost(object(), table=table)


def test_a_server_that_is_not_there() -> None:
    """Nothing was sent, so nothing is unknown."""

    async def main() -> None:
        host = open_host("postgresql://agent@127.0.0.1:1/none")
        with pytest.raises(StoreError, match="nothing was committed") as caught:
            await host.commit(batch(1, puts=[Put("a", b"")]))
        assert type(caught.value) is StoreError
        await host.close()

    asyncio.run(main())
