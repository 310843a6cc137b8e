"""The clients of Postgres that people have, as the host sees them: run one statement, and listen on a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from alkaline_edge.errors import AlkalineError, InvalidInput, StoreError, UnknownOutcome

_LOST = ("08", "40003", "57P", "58", "XX")
"""SQLSTATEs that say nothing of what became of a commit, beside every error that isn't of severity ERROR."""
PULSE = 15.0
"""Seconds after which a listening connection that heard nothing is asked whether it is there, and how long it has."""
ANSWER = 30.0
"""Seconds that a statement of our own pool may take: past them its outcome is unknown, as with a lost connection."""

STATEMENTS = 100
"""Statements that each connection of our own pool keeps prepared, where no pooler is in the way."""


class Failed(Exception):
    """The client raised. ``sent``: the statement may have reached the server; ``refused``: it undid it, and said so."""

    def __init__(self, error: Exception, *, sent: bool, severity: str = "", state: str = "", detail: str = "") -> None:
        super().__init__(f"{type(error).__name__}: {str(error).strip() or 'no message'}")
        self.state, self.detail = state, detail
        self.lost = sent and (severity != "ERROR" or state.startswith(_LOST))
        self.refused = sent and not self.lost
        self.__cause__ = error

    def of_a_commit(self) -> AlkalineError:
        """What a commit that failed like this raises."""
        if self.lost:
            return UnknownOutcome(f"Postgres did not say what became of the batch: {self}")
        return StoreError(f"Postgres refused the batch and nothing was written: {self}")

    def of_a_read(self) -> AlkalineError:
        """What a read that failed like this raises."""
        return StoreError(f"Postgres did not answer a read: {self}")


class Client(Protocol):
    """A pool, whichever library it is of."""

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """The rows of one statement, in a transaction of its own. Raises Failed."""
        ...

    @property
    def listens(self) -> bool:
        """Whether a connection can be spared for ``listen``."""
        ...

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        """Hear the payloads of ``channel`` on a connection of its own until that is lost: then raises Failed.

        ``ready`` is called once nothing is missed any more. The connection is closed in the end, not given back.
        """
        ...

    async def close(self) -> None:
        """Let go of what is ours."""
        ...


def client_of(client: Any) -> Client:
    if isinstance(client, OwnPool):
        return client
    if callable(getattr(client, "acquire", None)):
        return Asyncpg(client)
    if callable(getattr(client, "connection", None)):
        return Psycopg(client)
    raise InvalidInput(
        "PostgresHost takes an asyncpg pool or a psycopg_pool.AsyncConnectionPool; for a URL there is open_host(url)"
    )


class Asyncpg:
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
            raise Failed(error, sent=sent, severity=fields[0], state=fields[1], detail=fields[2]) from error

    @property
    def listens(self) -> bool:
        return bool(self._pool.get_max_size() > 1)

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        lost = asyncio.Event()
        try:
            async with self._pool.acquire() as connection:
                try:
                    connection.add_termination_listener(lambda _: lost.set())
                    await connection.add_listener(channel, lambda *given: heard(given[-1]))
                    ready()
                    while not lost.is_set():
                        try:
                            await asyncio.wait_for(lost.wait(), PULSE)
                        except TimeoutError:
                            await connection.fetch("SELECT 1", timeout=PULSE)
                finally:
                    connection.terminate()
            raise ConnectionError("the listening connection was lost")
        except Exception as error:
            raise Failed(error, sent=False) from error

    async def close(self) -> None:
        """Nothing: the pool is the caller's."""


class OwnPool:
    """A pool of asyncpg that is made when it is first asked, in the event loop that asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None
        self._making = asyncio.Lock()

    listens = True

    async def run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Any]:
        return await (await self._made()).run(sql, arguments)

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        await (await self._made()).listen(channel, ready, heard)

    async def _made(self) -> Asyncpg:
        if self._pool is None:
            async with self._making:
                if self._pool is None:
                    self._pool = await self._connected()
        return Asyncpg(self._pool)

    async def _connected(self) -> Any:
        import asyncpg

        class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
            """We leave nothing in a session, so nothing need be reset: a round trip less for each call."""

            def get_reset_query(self) -> str:
                return ""

        try:
            return await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=10,
                statement_cache_size=STATEMENTS if await self._is_direct() else 0,
                connection_class=Connection,
                command_timeout=ANSWER,
            )
        except Exception as error:  # the message has no password: asyncpg names the server's answer alone
            raise Failed(error, sent=False) from error

    async def _is_direct(self) -> bool:
        """Whether no pooler stands between: one shows a process of its own making, not that of the backend.

        Prepared statements belong to a backend, and a pooler may give each transaction another one.
        """
        import asyncpg

        connection = await asyncpg.connect(self._url, statement_cache_size=0, command_timeout=ANSWER)
        try:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            return bool(backend == connection.get_server_pid())
        finally:
            await connection.close()

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


class Psycopg:
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
            raise Failed(error, sent=sent, severity=severity, state=state, detail=detail) from error

    @property
    def listens(self) -> bool:
        return bool(self._pool.max_size > 1)

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        try:
            connection = await self._pool.getconn()
            try:
                await connection.set_autocommit(True)
                await connection.execute(f'LISTEN "{channel}"')
                ready()
                while True:
                    async for notice in connection.notifies(timeout=PULSE):
                        heard(notice.payload)
                    async with asyncio.timeout(PULSE):
                        await connection.execute("SELECT 1")
            finally:
                await connection.close()
                await self._pool.putconn(connection)
        except Exception as error:
            raise Failed(error, sent=False) from error

    async def close(self) -> None:
        """Nothing: the pool is the caller's."""
