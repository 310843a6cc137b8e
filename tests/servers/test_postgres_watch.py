"""Notices of other hosts' commits: heard, missed, and not sent where nobody waits."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import psycopg_pool
import pytest

from alkaline_edge import Runtime, workflow
from alkaline_edge.host import Batch, Put
from alkaline_edge.runtime import waking
from alkaline_hosts import postgres
from alkaline_hosts._servers import listening as _listening
from alkaline_hosts.opening import open_host

from .conftest import execute, until
from .test_postgres import Pooled, each_client

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN|^SELECT 1$'"


def put(n: int, *keys: str) -> Batch:
    return Batch(f"{n:016x}", puts=tuple(Put(key, b"") for key in keys))


class Heard:
    """How often a host's watch has called."""

    def __init__(self, host: Any) -> None:
        self.count = 0
        self.stop = host.watch(self)
        self.sleeping = asyncio.ensure_future(host.sleep(60))

    def __call__(self) -> None:
        self.count += 1

    async def more_than(self, count: int) -> int:
        async def more() -> bool:
            return self.count > count

        await until(more)
        return self.count

    def end(self) -> None:
        self.stop()
        self.sleeping.cancel()


@each_client
def test_what_others_wait_for_is_heard_and_ones_own_is_not(
    client: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host's request in an inbox calls; one's own does not; two watchers of one host both hear."""
    monkeypatch.setattr(_listening, "TOGETHER", 0.0)  # else several notices make one call

    async def main() -> None:
        host, other = await client(database), await client(database)
        first, second = Heard(host), Heard(host)
        begun = await first.more_than(0)
        for n in range(5):
            await host.commit(put(n + 1, f"i/r/own{n}"))
        # What was sent is heard in order, so an own notice that counted would be behind `begun` by now.
        await other.commit(put(9, "i/r/a1"))
        assert await first.more_than(begun) == begun + 1
        assert second.count == first.count
        second.stop()
        await other.commit(put(10, "i/r/a2"))
        assert await first.more_than(begun + 1) > second.count
        first.end()
        second.end()
        await host.close()
        await other.close()

    asyncio.run(main())


def test_only_what_somebody_may_wait_for_is_told(database: str) -> None:
    """A step, a lease and a timer that is not due cost the server no notice."""

    async def main() -> None:
        host = open_host(database)
        now = host.now_ms()
        heard: list[str] = []
        connection = await asyncpg.connect(database)
        await connection.add_listener("alkaline", lambda *given: heard.append(given[-1]))
        silent = ["h/r/a1", "r/r", "x/s/running/w/r", "x/w/w/r", f"t/{now + 60_000:013d}/r", "g/r", "d/r/1"]
        await host.commit(put(1, *silent))
        for n, key in enumerate(["i/r/a1", "u/r/e", f"t/{now:013d}/r", "x/s/completed/w/r", "x/s/failed/w/r"]):
            await host.commit(put(n + 2, key))

        async def five() -> bool:
            return len(heard) == 5

        await until(five)
        await connection.close()
        await host.close()

    asyncio.run(main())


@each_client
def test_a_listening_connection_that_is_lost_comes_back(client: Any, database: str) -> None:
    """The server ends it: the watcher is called once for what it may have missed, and hears again."""

    async def main() -> None:
        host, other = await client(database), await client(database)
        heard = Heard(host)
        count = await heard.more_than(0)
        for _ in range(2):
            for row in await until(lambda: execute(database, LISTENERS)):
                await execute(database, "SELECT pg_terminate_backend($1)", row[0])
            count = await heard.more_than(count)
        await other.commit(put(1, "i/r/a1"))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())


@each_client
@pytest.mark.parametrize("how", ["unsubscribe", "close"])
def test_the_connection_is_let_go(client: Any, how: str, database: str) -> None:
    """After the last watcher has gone, or the host is closed, nobody listens, and the pool closes at once."""

    async def main() -> None:
        host = await client(database)
        heard = Heard(host)
        await heard.more_than(0)
        assert await execute(database, LISTENERS)
        if how == "unsubscribe":
            heard.end()
            heard.stop()  # twice is allowed
        async with asyncio.timeout(10):
            await host.close()
        heard.sleeping.cancel()

        async def nobody() -> bool:
            return not await execute(database, LISTENERS)

        await until(nobody)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg"])
def test_the_only_connection_of_a_pool_is_not_taken(kind: str, database: str) -> None:
    """A pool of one: commits go on, nothing listens, and a signal is found by looking."""

    async def pool() -> Any:
        if kind == "asyncpg":
            return await asyncpg.create_pool(database, min_size=1, max_size=1)
        made = psycopg_pool.AsyncConnectionPool(database, min_size=1, max_size=1, open=False)
        await made.open()
        return made

    async def main() -> None:
        await signalled(Pooled(await pool(), "alkaline"), open_host(database))
        assert await execute(database, LISTENERS) == []

    asyncio.run(main())


@workflow(name="asks", version=1)
async def asks(ctx: Any) -> Any:
    return await ctx.wait_for_signal("answer")


async def signalled(host: Any, other: Any, listening: str = "") -> None:
    """A run waits at one host, and is signalled by a process that does not run it. Both are closed.

    ``listening``: the database where the signal is sent only once somebody listens.
    """
    async with Runtime(host, workflows=[asks]) as runtime, Runtime(other) as outside:
        run = await runtime.start("asks", id="r")
        await run.settle()
        result = asyncio.ensure_future(run.result(timeout=30))
        if listening:
            await until(lambda: execute(listening, LISTENERS))
        await outside.signal("r", "answer", 42)
        assert await result == 42
    await host.close()
    await other.close()


@each_client
def test_a_signal_arrives_by_its_notice(client: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a day between two looks, the run gets its signal all the same."""
    monkeypatch.setattr(waking, "POLL_SECONDS", 86_400.0)

    async def main() -> None:
        await signalled(await client(database), await client(database), database)

    asyncio.run(main())


def test_a_signal_arrives_without_its_notice(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices are lost, as behind a pooler: the run is woken by looking."""
    monkeypatch.setattr(postgres, "is_awaited", lambda batch, now_ms: False)

    async def main() -> None:
        await signalled(open_host(database), open_host(database))

    asyncio.run(main())


@pytest.mark.parametrize("table", ["alkaline", "public.runs", "a" * 48 + "." + "b" * 48])
def test_a_channel_fits(table: str, database: str) -> None:
    """Whatever the table is called, its channel is one that Postgres takes, and no other table's."""

    async def main() -> None:
        if "." in table:
            await execute(database, f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
        pools = [await asyncpg.create_pool(database, min_size=1, max_size=3) for _ in range(2)]
        host, other = (Pooled(pool, table) for pool in pools)
        heard = Heard(host)
        count = await heard.more_than(0)
        await other.commit(put(1, "i/r/a1"))
        await heard.more_than(count)
        heard.end()
        await host.close()
        await other.close()

    asyncio.run(main())
