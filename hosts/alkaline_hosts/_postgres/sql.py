"""The SQL of the Postgres host: one table, and one function that is a whole commit.

The function makes a commit one statement, so one round trip and one transaction that needs no BEGIN. It is plpgsql
and VOLATILE: at READ COMMITTED each of its statements sees what others have committed by then.

A commit first locks the rows there are, in the order of their keys, and compares versions; then it inserts the keys
that must be absent, in order, where ``ON CONFLICT DO NOTHING`` waits for another's insert and then inserts nothing.
Since every commit takes its locks in that order, a deadlock is rare, and it is an error that wrote nothing.

Several commits go as one statement that calls the function for each, from left to right, each call seeing what those
before it wrote. It is one transaction: a check that fails is the answer of its commit alone, and where the statement
fails, nothing was done, and each is sent by itself.

A notice goes out with the transaction that it tells of. Postgres lets one notifying transaction commit at a time, so
only those notify that others may be waiting for (see ``_servers.notices``).
"""

# ruff: noqa: S608 - what is put into SQL here is a checked name of a table; keys and values are always parameters
from __future__ import annotations

from hashlib import sha256

from .view import view_of

CONFLICT = "AK409"
"""The SQLSTATE with which the function undoes a commit that met another's insert; the keys are in its detail."""
VERSION = 1
"""Of the schema. What a released version made never changes: the next one is a step of its own in ``migrate``."""
PATIENCE_MS = 250
"""For how long several commits in one statement wait for what another transaction holds."""
_LOCK = 0x616C6B616C696E65
"""The advisory lock of the transaction that migrates: ``alkaline`` as a number."""

_COMMIT = """
CREATE FUNCTION {table}_commit_1(
  p_batch text, p_checked text[], p_versions text[], p_put text[], p_values bytea[], p_deleted text[],
  p_notice text
) RETURNS text[] LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
  found_keys text[];
  found_versions text[];
  absent text[];
  done text[];
  failed text[];
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  SELECT array_agg(l.key), array_agg(l.version) INTO found_keys, found_versions FROM (
    SELECT e.key, e.version FROM {table} e WHERE e.key = ANY(p_checked || p_put || p_deleted)
    ORDER BY e.key FOR UPDATE
  ) l;
  failed := ARRAY(
    SELECT c.key FROM unnest(p_checked, p_versions) AS c(key, version)
    LEFT JOIN unnest(found_keys, found_versions) AS f(key, version) ON f.key = c.key
    WHERE c.version IS DISTINCT FROM f.version
  );
  IF cardinality(failed) > 0 THEN
    RETURN failed;
  END IF;
  absent := ARRAY(
    SELECT DISTINCT c.key FROM unnest(p_checked, p_versions) AS c(key, version) WHERE c.version IS NULL
  );
  IF cardinality(absent) > 0 THEN
    WITH inserted AS (
      INSERT INTO {table} (key, value, version)
      SELECT a.key, coalesce(p.value, ''), p_batch FROM unnest(absent) AS a(key)
      LEFT JOIN unnest(p_put, p_values) AS p(key, value) ON p.key = a.key
      ORDER BY a.key COLLATE "C"
      ON CONFLICT (key) DO NOTHING RETURNING key
    ) SELECT array_agg(key) INTO done FROM inserted;
    failed := ARRAY(SELECT unnest(absent) EXCEPT SELECT unnest(done));
    IF cardinality(failed) > 0 THEN
      RAISE EXCEPTION 'another commit was first' USING ERRCODE = '{conflict}', DETAIL = array_to_string(failed, ' ');
    END IF;
  END IF;
  IF cardinality(p_put) > 0 THEN
    INSERT INTO {table} AS e (key, value, version)
    SELECT p.key, p.value, p_batch FROM unnest(p_put, p_values) AS p(key, value)
    WHERE p.key <> ALL(absent) ORDER BY p.key COLLATE "C"
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version;
  END IF;
  p_deleted := p_deleted || ARRAY(SELECT unnest(absent) EXCEPT SELECT unnest(p_put));
  IF cardinality(p_deleted) > 0 THEN
    DELETE FROM {table} e WHERE e.key = ANY(p_deleted);
  END IF;
  IF p_notice IS NOT NULL THEN
    PERFORM pg_notify('{channel}', p_notice);
  END IF;
  RETURN '{{}}';
END $body$
"""


def channel_of(table: str) -> str:
    """The channel of notices: the table's name, or a digest of one that is too long for a channel (63 bytes)."""
    return table if len(table) < 64 else f"alkaline_{sha256(table.encode()).hexdigest()[:32]}"


class Sql:
    """The statements for the table of that name."""

    def __init__(self, table: str) -> None:
        self.get = f"SELECT key, value, version FROM {table} WHERE key = ANY($1::text[])"
        self.list_from = self._list(table, ">=")
        self.list_after = self._list(table, ">")
        self._table = table
        self.commit = f"SELECT {self._call(1)}"
        self._many: dict[int, str] = {}
        self.version = f"SELECT coalesce(max(version), 0) FROM {table}_schema"
        self.migrate = _migration(table)

    def many(self, count: int) -> str:
        """Several commits in one statement. Its row: two columns of no meaning, and the failed keys of each.

        First the rows of all are locked, in the order of their keys, as each locks its own. What it would have to wait
        for longer than PATIENCE_MS makes it fail, so that one commit does not hold up the others for long.
        """
        if count not in self._many:
            columns = [
                f"set_config('lock_timeout', '{PATIENCE_MS}ms', true)",
                "(SELECT count(*) FROM locked)" if count > 1 else "cardinality($1::text[])",
                *(self._call(2 + 7 * n) for n in range(count)),
            ]
            locked = f"SELECT FROM {self._table} WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE"
            with_locked = f"WITH locked AS MATERIALIZED ({locked}) " if count > 1 else ""
            self._many[count] = f"{with_locked}SELECT {', '.join(columns)}"
        return self._many[count]

    def _call(self, first: int) -> str:
        types = ("text", "text[]", "text[]", "text[]", "bytea[]", "text[]", "text")
        return f"{self._table}_commit_1({', '.join(f'${first + n}::{type}' for n, type in enumerate(types))})"

    @staticmethod
    def _list(table: str, relation: str) -> str:
        return (
            f"SELECT key, value, version FROM {table} WHERE key {relation} $1::text AND key < $2::text "
            "ORDER BY key LIMIT $3::bigint"
        )


def _migration(table: str) -> str:
    """One statement that brings the schema to VERSION, whoever else is doing so at the same time."""
    commit = _COMMIT.format(table=table, conflict=CONFLICT, channel=channel_of(table)).strip()
    return f"""
DO $migrate$
BEGIN
  PERFORM pg_advisory_xact_lock({_LOCK});
  CREATE TABLE IF NOT EXISTS {table}_schema (version integer PRIMARY KEY);
  IF coalesce((SELECT max(version) FROM {table}_schema), 0) < 1 THEN
    CREATE TABLE {table} (
      key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, version text NOT NULL
    );
    {commit};
    {view_of(table)};
    INSERT INTO {table}_schema (version) VALUES (1);
  END IF;
END $migrate$
"""
