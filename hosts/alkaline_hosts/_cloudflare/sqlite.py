"""The SQL that the hosts on Cloudflare's SQLite share: one table, and a batch as few statements of few parameters.

A batch needs no transaction of several round trips to be conditional. Its first statement holds the checks as an
expression that gives the batch's id where they hold and NULL where not, and writes it into a column that is NOT NULL:
a failed check is a constraint error, which rolls back whatever the statement, or the batch around it, has done. That a
key is absent needs no expression where the batch puts nothing but that key: it is inserted, and not replaced.
"""

# ruff: noqa: S608 - what is put into SQL here is this file's own constants; keys and values are always parameters
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from alkaline_edge.host import Batch, Check, Put

from .._ranges import bounds, end_of

TABLE = "alkaline_entries"
MAX_PARAMETERS = 100
"""Bound parameters of one statement, on D1 and in a Durable Object."""
MAX_ROW = 2_000_000
"""Bytes of one row: key, value and version together."""
ROW_OVERHEAD = 128
"""Bytes of a row that are neither key nor value: the version, and the record's header with room to spare."""
MAX_KEY = 512

CONFLICT_ERRORS = (f"NOT NULL constraint failed: {TABLE}.version", f"UNIQUE constraint failed: {TABLE}.key")
"""What SQLite says when a batch's checks did not hold."""
MISSING_ERROR = f"no such table: {TABLE}"

_HEAD = f"INSERT OR REPLACE INTO {TABLE} (key, value, version) "
_PAIRS = MAX_PARAMETERS // 2


class Statement(NamedTuple):
    """One statement and its parameters, in order."""

    sql: str
    parameters: tuple[Any, ...]


def create_table(value_type: str) -> str:
    """The table. Without a rowid, so that a put writes one row and not one more for the index of its key."""
    return (
        f"CREATE TABLE IF NOT EXISTS {TABLE} "
        f"(key TEXT PRIMARY KEY, value {value_type} NOT NULL, version TEXT NOT NULL) WITHOUT ROWID"
    )


def list_statement(prefix: str, after: str, limit: int) -> Statement:
    """Rows (key, value, version) under ``prefix`` behind ``after``, ascending. A range, never LIKE."""
    start, inclusive, end = bounds(prefix, after)
    relation = ">=" if inclusive else ">"
    sql = f"SELECT key, value, version FROM {TABLE} WHERE key {relation} ? AND key < ? ORDER BY key LIMIT ?"
    return Statement(sql, (start, end, limit))


def get_statements(keys: Sequence[str], columns: str = "key, value, version") -> list[Statement]:
    """Rows of ``keys``, as many statements as their parameters need."""
    parts = [keys[start : start + MAX_PARAMETERS] for start in range(0, len(keys), MAX_PARAMETERS)]
    return [Statement(f"SELECT {columns} FROM {TABLE} WHERE {_among(len(part))}", tuple(part)) for part in parts]


def first_last_and_any(first: str, others: Sequence[str]) -> str:
    """A query of one row: of the keys under the prefix ``first`` the lowest behind a bound and the highest up to it,
    and whether any key is under ``others``. Its two parameters are the bound."""
    found = " OR ".join(f"EXISTS (SELECT 1 FROM {TABLE} WHERE {_under(prefix)})" for prefix in others)
    later = f"SELECT min(key) FROM {TABLE} WHERE {_under(first)} AND key > ?"
    return f"SELECT ({later}), (SELECT max(key) FROM {TABLE} WHERE {_under(first)} AND key <= ?), {found}"


def is_conflict(message: str) -> bool:
    """Whether an error's message says that a batch's checks did not hold."""
    return any(error in message for error in CONFLICT_ERRORS)


def commit_statements(batch: Batch, encode: Callable[[bytes], Any]) -> list[Statement]:
    """``batch`` as statements for one transaction. ``encode(bytes)`` is what a value is bound as.

    No statement at all for an empty batch. The checks come before the first write, since a batch may put a key that
    it checks.
    """
    id, checks, puts, deletes = batch
    if len(puts) == 1 and not deletes and len(checks) <= 2:
        single = _single(checks, puts[0], id, encode)
        if single is not None:
            return [single]
    statements: list[Statement] = []
    if checks and puts and 2 * (len(checks) + len(puts)) + 2 <= MAX_PARAMETERS:
        statements.append(_put(checks, puts, id, encode))
    else:
        # _PAIRS - 1: a check statement counts how many of its checks hold, and that number is a parameter too.
        for start in range(0, len(checks), _PAIRS - 1):
            statements.append(_check(checks[start : start + _PAIRS - 1]))
        for start in range(0, len(puts), _PAIRS - 1):
            statements.append(_put((), puts[start : start + _PAIRS - 1], id, encode))
    for start in range(0, len(deletes), MAX_PARAMETERS):
        part = deletes[start : start + MAX_PARAMETERS]
        statements.append(Statement(f"DELETE FROM {TABLE} WHERE {_among(len(part))}", part))
    return statements


def failed_checks(batch: Batch, versions: dict[str, str]) -> tuple[str, ...]:
    """The keys whose checks fail against ``versions``; all of the checked where none does, since one did before."""
    failed = tuple(check.key for check in batch.checks if versions.get(check.key) != check.version)
    return failed or tuple(check.key for check in batch.checks)


def _single(checks: Sequence[Check], put: Put, id: str, encode: Callable[[bytes], Any]) -> Statement | None:
    """The statement of what nearly every step is: one key, put where another has a version and it is absent itself.

    None where the checks are of another shape.
    """
    key, value = put
    new, there = False, None
    for check in checks:
        if check.version is None and check.key == key and not new:
            new = True
        elif check.version is not None and there is None:
            there = check
        else:
            return None
    if there is None:
        return Statement(_single_sql(new, False), (id, key, encode(value)))
    return Statement(_single_sql(new, True), (there.key, there.version, id, key, encode(value)))


@lru_cache(maxsize=4)
def _single_sql(new: bool, there: bool) -> str:
    version = f"CASE WHEN {_holds(1, 0)} THEN ? END" if there else "?"
    return f"INSERT {'' if new else 'OR REPLACE '}INTO {TABLE} (version, key, value) VALUES ({version}, ?, ?)"


def _put(checks: Sequence[Check], puts: Sequence[Put], id: str, encode: Callable[[bytes], Any]) -> Statement:
    """A statement that puts, and fails where ``checks`` don't hold."""
    there, absent, parameters = _split(checks)
    parameters.append(id)
    for key, value in puts:
        parameters += (key, encode(value))
    return Statement(_put_sql(there, absent, len(puts)), tuple(parameters))


def _check(checks: Sequence[Check]) -> Statement:
    """A statement that fails where ``checks`` don't hold, and writes nothing where they do."""
    there, absent, parameters = _split(checks)
    return Statement(_check_sql(there, absent), tuple(parameters))


def _split(checks: Sequence[Check]) -> tuple[int, int, list[Any]]:
    """How many checks want a version, how many an absence, and the parameters of ``_holds``."""
    parameters: list[Any] = []
    absent: list[Any] = []
    for key, version in checks:
        if version is None:
            absent.append(key)
        else:
            parameters += (key, version)
    there = len(parameters) // 2
    if there > 1:
        parameters.append(there)
    return there, len(absent), parameters + absent


# The texts depend on nothing but the numbers of checks and puts, and Python in WebAssembly is slow at making them.
@lru_cache(maxsize=256)
def _put_sql(there: int, absent: int, puts: int) -> str:
    version = f"CASE WHEN {_holds(there, absent)} THEN ? END" if there or absent else "?"
    return f"{_HEAD}SELECT column1, column2, {version} FROM (VALUES {', '.join(['(?, ?)'] * puts)})"


@lru_cache(maxsize=64)
def _check_sql(there: int, absent: int) -> str:
    return f"{_HEAD}SELECT '', '', NULL WHERE NOT coalesce({_holds(there, absent)}, 0)"


def _holds(there: int, absent: int) -> str:
    """An expression that is 1 where all checks hold; its depth does not grow with their number."""
    parts: list[str] = []
    if there == 1:
        parts.append(f"(SELECT version FROM {TABLE} WHERE key = ?) = ?")
    elif there:
        parts.append(
            f"(SELECT count(*) FROM (VALUES {', '.join(['(?, ?)'] * there)}) AS c "
            f"CROSS JOIN {TABLE} AS e ON e.key = c.column1 AND e.version = c.column2) = ?"
        )
    if absent:
        parts.append(f"NOT EXISTS (SELECT 1 FROM {TABLE} WHERE {_among(absent)})")
    return " AND ".join(parts)


def _among(count: int) -> str:
    return "key = ?" if count == 1 else f"key IN ({', '.join('?' * count)})"


def _under(prefix: str) -> str:
    return f"key >= '{prefix}' AND key < '{end_of(prefix)}'"


FENCED = frozenset(_single_sql(new, True) for new in (False, True))
"""The statements of a step, whose first ``FENCE`` parameters are the same until its run's record is written again."""
FENCE = 2
