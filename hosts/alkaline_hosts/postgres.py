"""Histories in a Postgres database, which any number of processes may share.

    host = PostgresHost(await asyncpg.create_pool(url))            # or psycopg_pool.AsyncConnectionPool
    host = open_host("postgresql://agent@db.example/agents")       # a pool of its own, of asyncpg

A commit is one statement: a function of ours that checks and writes (see ``_postgres.sql``). Those that the runs of a
process make at the same time go as one, in one transaction, each with an outcome of its own. Nothing is kept in a
session, so a pooler in transaction mode may stand between. An asyncpg pool behind one wants
``statement_cache_size=0``, as asyncpg's documentation says; a pool of our own sees whether there is one. The schema is
made at the first commit, and never by a read.

A commit that others may be waiting for tells them by NOTIFY, and who waits LISTENs on one connection of the pool.
Behind a pooler in transaction mode, on a pool of one connection, or while that connection is lost, nothing is heard:
whatever waits also looks by itself, every second. A notice saves that second, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alkaline_edge.errors import AlkalineError, InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch, check_key

from ._postgres.clients import Failed, OwnPool, client_of
from ._postgres.sql import CONFLICT, VERSION, Sql, channel_of
from ._ranges import bounds
from ._servers.lanes import ALONE, Lanes
from ._servers.listening import Listening
from ._servers.notices import is_awaited
from ._system import Threaded

__all__ = ["PostgresHost"]

_CAPABILITIES = Capabilities(
    name="Postgres",
    threads=True,
    notes=(
        "A commit waits for the server's disk even where synchronous_commit is off; a server with fsync=off does not.",
        "What survives the loss of the machine is what its replication says.",
    ),
)
_ATTEMPTS = 8
"""How often a commit that Postgres rolled back for a deadlock or a serialization failure is sent."""
_Entries = list[Entry]
_Arguments = tuple[str, list[str], list[str | None], list[str], list[bytes], list[str], str | None]
"""Those of a commit: its id, checked keys, their versions, put keys, their values, deleted keys, and its notice."""
_TABLE = re.compile(r"(?:[a-z_][a-z0-9_]{0,47}\.)?[a-z_][a-z0-9_]{0,47}")
_MISSING = "42P01"
_AGAIN = ("40001", "40P01")


class PostgresHost(Threaded):
    """A store in the tables ``table`` and ``table``_schema of the database that ``client`` is a pool of.

    ``client``: an asyncpg pool, or an AsyncConnectionPool of psycopg 3. It stays the caller's, open after ``close``.
    ``table``: lowercase letters, digits and _, with a schema before a dot if wanted; another is ERR_INVALID_INPUT.
    """

    watch_may_miss = True
    """Notices may be lost, so whoever waits looks by itself as well."""

    def __init__(self, client: Any, *, table: str = "alkaline") -> None:
        if not isinstance(table, str) or not _TABLE.fullmatch(table):
            raise InvalidInput("table is a name of lowercase letters, digits and _, up to 48, such as alkaline")
        self._client = client_of(client)
        self._sql, self._table = Sql(table), table
        self._ready = False
        self._lanes: Lanes[_Arguments, Sequence[str]] = Lanes(self._commit_many, self._commit_one)
        self._name = os.urandom(8).hex()
        self._listening = Listening(self._client, channel_of(table), self._name)

    @property
    def capabilities(self) -> Capabilities:
        """Postgres's abilities, and our limits."""
        return _CAPABILITIES

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. One consistent read, in one round trip."""
        self._open()
        wanted = list(keys)
        known = [key for key in wanted if "\0" not in key]  # Postgres takes no NUL in a text; such a key is never put
        found = {entry.key: entry for entry in await self._read(self._sql.get, known)} if known else {}
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> _Entries:
        """As Host.list, in one round trip."""
        self._open()
        start, inclusive, end = bounds(prefix, after)
        return await self._read(self._sql.list_from if inclusive else self._sql.list_after, start, end, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit, in one round trip, which commits that are made at the same time share."""
        self._open()
        check_batch(batch, _CAPABILITIES)
        id, checks, puts, deletes = batch
        for key in (*(check.key for check in checks), *deletes):
            check_key(key, _CAPABILITIES.max_key)
        if not (checks or puts or deletes):
            return Committed(id)
        if not self._ready:
            await self._prepare()
        arguments = (
            id,
            [check.key for check in checks],
            [check.version for check in checks],
            [put.key for put in puts],
            [bytes(put.value) for put in puts],
            [*deletes],
            self._name if is_awaited(batch, self.now_ms()) else None,
        )
        failed = await self._lanes.send(arguments, sum([len(put.value) for put in puts]))
        return Conflict(tuple(failed)) if failed else Committed(id)

    async def _commit_many(self, batches: Sequence[_Arguments]) -> Sequence[object]:
        """The keys whose checks failed, of each batch; or what became of it otherwise. One statement, so all or none.

        Where it can't be done as it is, or would wait for what another transaction holds, each goes by itself.
        """
        try:
            row = (await self._client.run(self._sql.many(len(batches)), _together(batches)))[0]
        except Failed as error:
            if error.lost or not error.refused:
                return [_with_cause(error.of_a_commit(), error) for _ in batches]
            if len(batches) == 1 and error.state == CONFLICT:
                return [error.detail.split(" ")]
            return [ALONE for _ in batches]
        return [*row[2:]]

    async def _commit_one(self, batch: _Arguments) -> Sequence[str]:
        """The same for one batch, which waits for whatever it has to wait for."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                failed: Sequence[str] = (await self._client.run(self._sql.commit, batch))[0][0]
            except Failed as error:
                if error.state == CONFLICT:
                    return error.detail.split(" ")
                if error.state not in _AGAIN or error.lost or attempt == _ATTEMPTS:
                    raise error.of_a_commit() from error.__cause__
                # Rolled back whole. The wait only keeps two from meeting again.
                await asyncio.sleep(random.random() * 0.01 * 2**attempt)  # noqa: S311
            else:
                return failed
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """As Host.close; commits that are under way are ended. A pool that was handed in stays open."""
        if not self._closed:
            await super().close()
            await self._lanes.drain()
            await self._listening.close()
            await self._client.close()

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when another process may have committed what somebody waits for; returns the way to stop.

        Several commits may make one call. It listens from the first ``sleep`` on, which is when something first waits,
        and calls once when it begins to, also after a connection that was lost. A notice may be missed (see the top of
        this module): look now and then as well.
        """
        self._open()
        return self._listening.add(callback)

    async def sleep(self, seconds: float) -> None:
        """Return after about ``seconds`` real seconds; the first call begins to listen."""
        self._listening.begin()
        await super().sleep(seconds)

    async def _read(self, sql: str, *arguments: Any) -> _Entries:
        """The entries that ``sql`` finds; none where there is no schema yet, since a read makes none."""
        try:
            if not self._ready and await self._schema_version() == 0:
                return []
            return [Entry(key, bytes(value), version) for key, value, version in await self._client.run(sql, arguments)]
        except Failed as error:
            raise error.of_a_read() from error.__cause__

    # --- the schema --------------------------------------------------------------------------------------------------
    async def _prepare(self) -> None:
        """Bring the schema to our version; other processes may be doing the same."""
        try:
            if await self._schema_version() == VERSION:
                return
            try:
                await self._client.run(self._sql.migrate, ())
            except Failed:  # where the default isolation is higher, what another has made meanwhile is an error
                if await self._schema_version() != VERSION:
                    raise
            self._ready = True
        except Failed as error:
            raise StoreError(f"Postgres did not take the schema, nothing was committed: {error}") from error.__cause__

    async def _schema_version(self) -> int:
        """The version of the database's schema, 0 where there is none. ERR_STORE for one newer than ours."""
        try:
            version = int((await self._client.run(self._sql.version, ()))[0][0])
        except Failed as error:
            if error.state != _MISSING:
                raise
            return 0
        if version > VERSION:
            raise StoreError(
                f"the tables {self._table} have schema version {version}, and this version of alkaline-edge knows "
                f"{VERSION}; install the newer version"
            )
        self._ready = version == VERSION
        return version


def _together(batches: Sequence[_Arguments]) -> list[Any]:
    """The arguments of several commits in one statement: all keys, to lock rows in order, then those of each."""
    locked = {key for _, checked, _, put, _, deleted, _ in batches for key in (*checked, *put, *deleted)}
    return [list(locked), *(argument for batch in batches for argument in batch)]


def _with_cause(error: AlkalineError, failed: Failed) -> AlkalineError:
    error.__cause__ = failed.__cause__
    return error


def open_postgres(url: str) -> PostgresHost:
    """The store at ``url``, over a pool of its own, which connects when it is first asked. For ``open_host``."""
    try:
        import asyncpg  # noqa: F401  # a missing client is said now, not at the first commit
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the postgres host needs {error.name}, which is not installed: pip install 'alkaline-edge[postgres]'"
        ) from error
    return PostgresHost(OwnPool(url))
