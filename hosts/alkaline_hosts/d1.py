"""Histories in a Cloudflare D1 database, which several Workers may share.

    from workers import import_from_javascript
    host = D1Host(import_from_javascript("cloudflare:workers").env.DB)

A commit is one round trip: one statement, or one ``batch``, which D1 rolls back whole. Its checks are part of its
first statement (see ``_cloudflare.sqlite``). The table is created when it is missed, and never asked for before. An
answer that is lost on the way is ``UnknownOutcome``; an attempt may still land after it.

Values are kept as base64 text: a BLOB comes back from D1 as a list of numbers, measured at 5 to 15 times the time of
the text for 64 KB, and hexadecimal text would halve the largest value.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from alkaline_edge.arguments import whole
from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._cloudflare import sqlite
from ._cloudflare.platform import Allowance, WorkerPlatform, raw_binding, text_of

__all__ = ["D1Host"]

_CAPABILITIES = Capabilities(
    name="Cloudflare D1",
    durability="replicated",
    max_key=sqlite.MAX_KEY,
    max_batch_bytes=16 * 1024 * 1024,
    max_batch_keys=2_000,
    notes=("One invocation of a Worker may make 1,000 queries, 50 on the free plan; see D1Host.queries.",),
)

_T = TypeVar("_T")
_Entries = list[Entry]
_Rows = list[tuple[Any, ...]]

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE IF NOT EXISTS alkaline_schema (version INTEGER PRIMARY KEY)",
        sqlite.create_table("TEXT"),
    ),
)
"""Statements that take the schema from version n to n + 1, n counted from 0. A released one never changes."""

_REFUSED = (
    "SQLITE_TOOBIG",
    "SQLITE_FULL",
    "SQLITE_ERROR",
    "SQLITE_AUTH",
    "SQLITE_RANGE",
    "SQLITE_MISMATCH",
    "SQLITE_CONSTRAINT",
    "D1_TYPE_ERROR",
    "maximum DB size",
    "too many SQL variables",
    "statement too long",
)
"""Parts of D1's messages that say that a statement was refused, so that nothing of its batch was written."""


class D1Host(WorkerPlatform):
    """A store in the D1 database that ``db`` is the binding of, raw or as the Workers SDK wraps it.

    ``max_queries`` refuses, with ERR_STORE and before it is sent, a query that would go over that number since the
    last ``new_invocation``; ``when_low`` says so earlier, while a runtime can still end in good order. ``queries`` and
    ``round_trips`` count what was sent; a batch is one round trip, and each of its statements a query. ``max_row``:
    bytes of a row that this database takes; D1 takes 2,000,000, and the emulators of 2024 half of that.
    """

    _name = _CAPABILITIES.name

    def __init__(self, db: Any, *, max_queries: int | None = None, max_row: int = sqlite.MAX_ROW) -> None:
        super().__init__()
        # A row holds the key, and three bytes of the value as four characters.
        whole(max_row, "D1Host(max_row=)", 2 * (sqlite.MAX_KEY + sqlite.ROW_OVERHEAD))
        if max_queries is not None:
            whole(max_queries, "D1Host(max_queries=)", 0)
        value = (min(max_row, sqlite.MAX_ROW) - sqlite.MAX_KEY - sqlite.ROW_OVERHEAD) // 4 * 3
        self._capabilities = replace(_CAPABILITIES, max_value=value)
        self._db = raw_binding(db, "prepare", "a D1 binding")
        self._allowance = Allowance(max_queries)
        self._prepared: dict[str, Any] = {}
        self.round_trips = 0

    @property
    def capabilities(self) -> Capabilities:
        """D1's abilities and limits."""
        return self._capabilities

    def new_invocation(self) -> None:
        """Count the queries from zero, for a host that outlives its invocation; ``when_low`` is to be called again."""
        self._allowance = Allowance(self._allowance.limit)
        self.round_trips = 0

    @property
    def queries(self) -> int:
        """Queries that were sent in this invocation."""
        return self._allowance.used

    def when_low(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, such as ``Runtime.drain``, once no more than a tenth of ``max_queries`` is left, or 20."""
        self._allowance.when_low(callback)

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get. One consistent read, in one round trip."""
        self._open()
        wanted = list(keys)
        rows = await self._read(sqlite.get_statements(wanted)) if wanted else []
        found = {key: Entry(key, b64decode(value), version) for key, value, version in rows}
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> _Entries:
        """As Host.list, in one round trip."""
        self._open()
        rows = await self._read([sqlite.list_statement(prefix, after, limit)])
        return [Entry(key, b64decode(value), version) for key, value, version in rows]

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit, in one round trip; a conflict takes one more, to say which keys it was."""
        self._open()
        check_batch(batch, self._capabilities)
        statements = sqlite.commit_statements(batch, _text)
        if not statements:
            return Committed(batch.id)
        try:
            await self._with_table(lambda: self._write(statements))
        except _Failed as failed:
            if sqlite.is_conflict(failed.message):
                return Conflict(await self._failed_checks(batch))
            raise _commit_error(failed.message) from None
        return Committed(batch.id)

    # --- statements ------------------------------------------------------------------------------------------------
    async def _write(self, statements: Sequence[sqlite.Statement]) -> None:
        bound = self._bound(statements)
        if len(bound) == 1:
            await _answer(bound[0].run())
        else:
            await _answer(self._db.batch(_array(bound)))

    async def _read(self, statements: Sequence[sqlite.Statement]) -> _Rows:
        """The rows of ``statements``, all read in one transaction."""
        try:
            return await self._with_table(lambda: self._rows(statements))
        except _Failed as failed:
            raise StoreError(f"D1 did not answer a read: {failed.message}") from None

    async def _rows(self, statements: Sequence[sqlite.Statement]) -> _Rows:
        bound = self._bound(statements)
        if len(bound) == 1:
            return [tuple(row) for row in (await _answer(bound[0].raw())).to_py()]
        results = (await _answer(self._db.batch(_array(bound)))).to_py()
        return [tuple(row.values()) for result in results for row in result["results"]]

    def _bound(self, statements: Sequence[sqlite.Statement]) -> Sequence[Any]:
        self._count(len(statements))
        return [self._statement(sql).bind(*parameters) for sql, parameters in statements]

    def _statement(self, sql: str) -> Any:
        """The prepared statement of ``sql``. Batches of a shape share theirs; rare shapes are not kept for ever."""
        prepared = self._prepared.get(sql)
        if prepared is None:
            if len(self._prepared) >= 64:
                self._prepared.clear()
            prepared = self._prepared[sql] = self._db.prepare(sql)
        return prepared

    def _count(self, queries: int) -> None:
        if not self._allowance.has(queries):
            raise StoreError(
                f"this invocation has made {self.queries} of its {self._allowance.limit} D1 queries, and the next call "
                f"needs {queries}; nothing was sent. Go on in another invocation, such as the next cron trigger",
                queries=self.queries,
                limit=self._allowance.limit,
            )
        self._allowance.use(queries)
        self.round_trips += 1

    async def _failed_checks(self, batch: Batch) -> tuple[str, ...]:
        statements = sqlite.get_statements([check.key for check in batch.checks], "key, '', version")
        try:
            rows = await self._read(statements)
        except StoreError:
            rows = []  # the conflict is certain all the same; then every checked key is named
        return sqlite.failed_checks(batch, {row[0]: row[-1] for row in rows})

    # --- the schema ------------------------------------------------------------------------------------------------
    async def _with_table(self, send: Callable[[], Awaitable[_T]]) -> _T:
        """What ``send`` returns; where our table is missed, it is made and ``send`` called once more."""
        try:
            return await send()
        except _Missing:
            await self._migrate()
        try:
            return await send()
        except _Missing:
            raise StoreError(
                f"the database says it has our schema, and the table {sqlite.TABLE} is not there: it was deleted; "
                "restore the database from a backup"
            ) from None

    async def _migrate(self) -> None:
        """Bring the schema to our version in one batch. Another Worker may be doing the same at the same time."""
        version = await self._schema_version()
        if version > len(_MIGRATIONS):
            raise StoreError(
                f"this database has schema version {version}, and this version of alkaline-edge knows "
                f"{len(_MIGRATIONS)}; deploy the newer version"
            )
        if version == len(_MIGRATIONS):
            return  # the other Worker was first
        statements = [sqlite.Statement(sql, ()) for step in _MIGRATIONS[version:] for sql in step]
        statements.append(
            sqlite.Statement("INSERT OR IGNORE INTO alkaline_schema (version) VALUES (?)", (len(_MIGRATIONS),))
        )
        try:
            await self._write(statements)
        except _Failed as failed:
            if await self._schema_version() < len(_MIGRATIONS):
                raise StoreError(f"D1 did not take the schema: {failed.message}") from None

    async def _schema_version(self) -> int:
        """The version of the database's schema, 0 for an empty one."""
        try:
            bound = self._bound([sqlite.Statement("SELECT max(version) FROM alkaline_schema", ())])[0]
            version = (await _answer(bound.raw())).to_py()[0][0]
            return version if isinstance(version, int) else 0
        except _Failed as failed:
            if "no such table" in failed.message:
                return 0
            raise StoreError(f"D1 did not answer a read: {failed.message}") from None


class _Failed(Exception):
    """D1 answered with an error, or did not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Missing(_Failed):
    """Our table is not there; nothing was written."""


async def _answer(promise: Any) -> Any:
    try:
        return await promise
    except Exception as error:
        message = text_of(error)
        raise (_Missing if sqlite.MISSING_ERROR in message else _Failed)(message) from None


def _text(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _array(items: Sequence[Any]) -> Any:
    """``items``, JavaScript objects, as a JavaScript array."""
    from pyodide.ffi import to_js

    return to_js(items)


def _commit_error(message: str) -> StoreError:
    if any(part in message for part in _REFUSED):
        return StoreError(f"D1 refused the batch and nothing was written: {message}")
    return UnknownOutcome(f"D1 did not say what became of the batch: {message}")
