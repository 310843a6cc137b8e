"""Histories in a Postgres database, which any number of processes may share.

    host = PostgresHost(await asyncpg.create_pool(url))            # or psycopg_pool.AsyncConnectionPool
    host = open_host("postgresql://agent@db.example/agents")       # a pool of its own, of asyncpg

A commit is one statement: a function of ours that checks and writes (see ``_postgres``). Nothing is kept in a session,
so a pooler in transaction mode may stand between. An asyncpg pool behind one wants ``statement_cache_size=0``, as
asyncpg's documentation says; a pool of our own has it. The schema is made at the first commit, and never by a read.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from alkaline_edge.errors import AlkalineError, ClosedError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch, check_key

from ._postgres import CONFLICT, VERSION, Sql
from ._sqlite import end_of

CAPABILITIES = Capabilities(
    name="Postgres",
    threads=True,
    notes=(
        "A commit waits for the server's disk even where synchronous_commit is off; a server with fsync=off does not.",
        "What survives the loss of the machine is what its replication says.",
    ),
)
ATTEMPTS = 8
"""How often a commit that Postgres rolled back for a deadlock or a serialization failure is sent."""
Entries = list[Entry]
_TABLE = re.compile(r"(?:[a-z_][a-z0-9_]{0,47}\.)?[a-z_][a-z0-9_]{0,47}")
_MISSING = "42P01"
_AGAIN = ("40001", "40P01")
_LOST = ("08", "40003", "57P", "58", "XX")
"""SQLSTATEs that say nothing of what became of a commit, beside every error that isn't of severity ERROR."""


class PostgresHost:
    """A store in the tables ``table`` and ``table``_schema of the database that ``client`` is a pool of.

    ``client``: an asyncpg pool, or an AsyncConnectionPool of psycopg 3. It stays the caller's, open after ``close``.
    ``table``: lowercase letters, digits and _, with a schema before a dot if wanted.
    """

    def __init__(self, client: Any, *, table: str = "alkaline") -> None:
        if not isinstance(table, str) or not _TABLE.fullmatch(table):
            raise InvalidInput("table is a name of lowercase letters, digits and _, up to 48, such as alkaline")
        self._client = _client_of(client)
        self._sql, self._table = Sql(table), table
        self._ready = self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """Postgres's abilities, and our limits."""
        return CAPABILITIES

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. One consistent read, in one round trip."""
        self._open()
        wanted = list(keys)
        known = [key for key in wanted if "\0" not in key]  # Postgres takes no NUL in a text; such a key is never put
        found = {entry.key: entry for entry in await self._read(self._sql.get, known)} if known else {}
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> Entries:
        """As Host.list, in one round trip."""
        self._open()
        end = end_of(prefix)
        if after >= prefix:
            return await self._read(self._sql.list_after, after, end, limit)
        return await self._read(self._sql.list_from, prefix, end, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit, in one round trip."""
        self._open()
        check_batch(batch, CAPABILITIES)
        id, checks, puts, deletes = batch
        for key in (*(check.key for check in checks), *deletes):
            check_key(key, CAPABILITIES.max_key)
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
        )
        for attempt in range(1, ATTEMPTS + 1):
            try:
                failed = (await self._client.run(self._sql.commit, arguments))[0][0]
            except _Failed as error:
                if error.state == CONFLICT:
                    return Conflict(tuple(error.detail.split(" ")))
                if error.state not in _AGAIN or error.lost or attempt == ATTEMPTS:
                    raise error.of_a_commit() from error.__cause__
                # Rolled back whole. The wait only keeps two from meeting again.
                await asyncio.sleep(random.random() * 0.01 * 2**attempt)  # noqa: S311
            else:
                return Conflict(tuple(failed)) if failed else Committed(id)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """As Host.close. A pool that was handed in stays open."""
        if not self._closed:
            self._closed = True
            await self._client.close()

    def now_ms(self) -> int:
        """The system's clock."""
        return time.time_ns() // 1_000_000

    def entropy(self, n: int) -> bytes:
        """The system's entropy."""
        return os.urandom(n)

    async def sleep(self, seconds: float) -> None:
        """Real seconds."""
        await asyncio.sleep(seconds)

    async def run_in_thread(self, fn: Callable[..., object], *args: object) -> object:
        """For sync steps marked ``in_thread``."""
        return await asyncio.to_thread(fn, *args)

    def _open(self) -> None:
        if self._closed:
            raise ClosedError("this host is closed; make another one")

    async def _read(self, sql: str, *arguments: Any) -> Entries:
        """The entries that ``sql`` finds; none where there is no schema yet, since a read makes none."""
        try:
            if not self._ready and await self._schema_version() == 0:
                return []
            return [Entry(key, bytes(value), version) for key, value, version in await self._client.run(sql, arguments)]
        except _Failed as error:
            raise error.of_a_read() from error.__cause__

    # --- the schema --------------------------------------------------------------------------------------------------
    async def _prepare(self) -> None:
        """Bring the schema to our version; other processes may be doing the same."""
        try:
            if await self._schema_version() == VERSION:
                return
            try:
                await self._client.run(self._sql.migrate, ())
            except _Failed:  # where the default isolation is higher, what another has made meanwhile is an error
                if await self._schema_version() != VERSION:
                    raise
            self._ready = True
        except _Failed as error:
            raise StoreError(f"Postgres did not take the schema, nothing was committed: {error}") from error.__cause__

    async def _schema_version(self) -> int:
        """The version of the database's schema, 0 where there is none. ERR_STORE for one newer than ours."""
        try:
            version = int((await self._client.run(self._sql.version, ()))[0][0])
        except _Failed as error:
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


def open_postgres(url: str) -> PostgresHost:
    """The store at ``url``, over a pool of its own, which connects when it is first asked. For ``open_host``."""
    try:
        import asyncpg  # noqa: F401  # a missing client is said now, not at the first commit
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the postgres host needs {error.name}, which is not installed: pip install 'alkaline-edge[postgres]'"
        ) from error
    return PostgresHost(_OwnPool(url))


# --- the clients -----------------------------------------------------------------------------------------------------
class _Failed(Exception):
    """The client raised. ``sent``: the statement may have reached the server."""

    def __init__(self, error: Exception, *, sent: bool, severity: str = "", state: str = "", detail: str = "") -> None:
        super().__init__(f"{type(error).__name__}: {str(error).strip() or 'no message'}")
        self.state, self.detail = state, detail
        self.lost = sent and (severity != "ERROR" or state.startswith(_LOST))
        self.__cause__ = error

    def of_a_commit(self) -> AlkalineError:
        """What a commit that failed like this raises."""
        if self.lost:
            return UnknownOutcome(f"Postgres did not say what became of the batch: {self}")
        return StoreError(f"Postgres refused the batch and nothing was written: {self}")

    def of_a_read(self) -> AlkalineError:
        """What a read that failed like this raises."""
        return StoreError(f"Postgres did not answer a read: {self}")


class _Client(Protocol):
    """A pool, whichever library it is of."""

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """The rows of one statement, in a transaction of its own. Raises _Failed."""
        ...

    async def close(self) -> None:
        """Let go of what is ours."""
        ...


def _client_of(client: Any) -> _Client:
    if isinstance(client, _OwnPool):
        return client
    if callable(getattr(client, "acquire", None)):
        return _Asyncpg(client)
    if callable(getattr(client, "connection", None)):
        return _Psycopg(client)
    raise InvalidInput(
        "PostgresHost takes an asyncpg pool or a psycopg_pool.AsyncConnectionPool; for a URL there is open_host(url)"
    )


class _Asyncpg:
    """Over a pool of asyncpg."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        sent = False
        try:
            async with self._pool.acquire() as connection:
                sent = True
                rows: Sequence[Any] = await connection.fetch(sql, *arguments)
                return rows
        except Exception as error:
            fields = [str(getattr(error, name, None) or "") for name in ("severity_en", "sqlstate", "detail")]
            raise _Failed(error, sent=sent, severity=fields[0], state=fields[1], detail=fields[2]) from error

    async def close(self) -> None:
        """Nothing: the pool is the caller's."""


class _OwnPool:
    """A pool of asyncpg that is made when it is first asked, in the event loop that asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None
        self._making = asyncio.Lock()

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        if self._pool is None:
            async with self._making:
                if self._pool is None:
                    self._pool = await self._connected()
        return await _Asyncpg(self._pool).run(sql, arguments)

    async def _connected(self) -> Any:
        import asyncpg

        class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
            """We leave nothing in a session, so nothing need be reset: a round trip less for each call."""

            def get_reset_query(self) -> str:
                return ""

        try:
            return await asyncpg.create_pool(
                self._url, min_size=1, max_size=10, statement_cache_size=0, connection_class=Connection
            )
        except Exception as error:  # the message has no password: asyncpg names the server's answer alone
            raise _Failed(error, sent=False) from error

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


class _Psycopg:
    """Over a pool of psycopg 3."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        from psycopg import AsyncRawCursor
        from psycopg.rows import tuple_row

        sent = False
        try:
            async with self._pool.connection() as connection:  # commits at its end, unless it is in autocommit
                sent = True
                cursor = AsyncRawCursor(connection, row_factory=tuple_row)
                query: Any = sql  # psycopg's type is of literals; this text is of _postgres and has no values in it
                await cursor.execute(query, arguments or None, prepare=False, binary=True)
                rows: Sequence[Any] = await cursor.fetchall() if cursor.description else ()
            return rows
        except Exception as error:
            diagnosis = getattr(error, "diag", None)
            severity = getattr(diagnosis, "severity_nonlocalized", None) or ""
            detail = getattr(diagnosis, "message_detail", None) or ""
            state = getattr(error, "sqlstate", None) or ""
            raise _Failed(error, sent=sent, severity=severity, state=state, detail=detail) from error

    async def close(self) -> None:
        """Nothing: the pool is the caller's."""
