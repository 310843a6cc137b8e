"""The SQL of the D1 and Durable Object hosts, on SQLite itself, against a model of the contract."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_hosts._cloudflare import sqlite as sqlite
from alkaline_hosts.memory import MemoryStore

KEYS = [f"k/{n}" for n in range(6)]
MANY = [f"m/{n:03d}" for n in range(260)]


class Table:
    """A table as D1 has it: each batch in one transaction that an error rolls back."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.database.execute(sqlite.create_table("BLOB"))
        self.database.execute("PRAGMA case_sensitive_like=OFF")

    def rows(self, statement: sqlite.Statement) -> list[Any]:
        return self.database.execute(*statement).fetchall()

    def apply(self, batch: Batch) -> Committed | Conflict:
        statements = sqlite.commit_statements(batch, bytes)
        assert all(len(parameters) <= sqlite.MAX_PARAMETERS and len(sql) < 100_000 for sql, parameters in statements)
        self.database.execute("BEGIN")
        try:
            for statement in statements:
                self.database.execute(*statement)
        except sqlite3.IntegrityError as error:
            self.database.execute("ROLLBACK")
            if not sqlite.is_conflict(str(error)):
                raise
            checked = [check.key for check in batch.checks]
            versions = dict(row for part in sqlite.get_statements(checked, "key, version") for row in self.rows(part))
            return Conflict(sqlite.failed_checks(batch, versions))
        self.database.execute("COMMIT")
        return Committed(batch.id)


Plan = tuple[dict[str, str], list[str], list[str]]


def plan(keys: list[str], seed: int) -> Plan:
    """What one batch checks (see ``resolve``), puts and deletes: some of ``keys`` each, most often a few."""
    draw = random.Random(seed)

    def some() -> list[str]:
        return draw.sample(keys, draw.choice([0, 1, 2, len(keys) // 3, draw.randint(0, len(keys))]))

    kinds = draw.choice([["now"], ["now"], ["now", "absent"], ["now", "absent", "other"]])
    return {key: draw.choice(kinds) for key in some()}, some(), some()


seeds = st.lists(st.integers(0, 2**32), min_size=1, max_size=8)
kinds = st.sampled_from(["now", "now", "absent", "other"])


def resolve(model: MemoryStore, number: int, planned: Plan) -> Batch:
    """The batch of a plan: "now" is the version that a key has, "absent" is none, "other" one that it never had."""
    checks, puts, deletes = planned

    def version(key: str, kind: str) -> str | None:
        entry = model.entries.get(key)
        return {"now": entry.version if entry else None, "absent": None, "other": "ffffffffffffffff"}[kind]

    return Batch(
        f"{number:016x}",
        tuple(Check(key, version(key, kind)) for key, kind in checks.items()),
        tuple(Put(key, f"{number}\0{key}".encode()) for key in puts),
        tuple(key for key in deletes if key not in puts),
    )


def agree(keys: list[str], seeds: list[int]) -> set[str]:
    """Apply the batches to both; the kinds of outcomes that there were."""
    table, model = Table(), MemoryStore()
    kinds = set()
    for number, seed in enumerate(seeds):
        batch = resolve(model, number, plan(keys, seed))
        expected, found = model.apply(batch), table.apply(batch)
        assert type(found) is type(expected)
        if isinstance(expected, Conflict) and isinstance(found, Conflict):
            assert set(found.keys) == set(expected.keys)
        stored = [tuple(entry) for entry in model.under("", "", 10_000)]
        assert table.rows(sqlite.list_statement("", "", 10_000)) == stored
        kinds.add(type(found).__name__)
    return kinds


@given(seeds)
@settings(max_examples=300, deadline=None)
def test_small_batches_agree_with_the_model(seeds: list[int]) -> None:
    """Any sequence of batches commits, conflicts and leaves behind exactly what the contract says."""
    agree(KEYS, seeds)


@given(seeds)
@settings(max_examples=100, deadline=None)
def test_batches_beyond_one_statement_agree_with_the_model(seeds: list[int]) -> None:
    """So does any sequence of batches that need many statements of 100 parameters."""
    agree(MANY, seeds)


@given(st.lists(st.tuples(st.sampled_from(KEYS[:3]), st.dictionaries(st.sampled_from(KEYS[:3]), kinds)), max_size=12))
@settings(max_examples=300, deadline=None)
def test_steps_agree_with_the_model(steps: list[tuple[str, dict[str, str]]]) -> None:
    """So does any sequence of batches that put one key on few conditions, as steps do; each is one statement."""
    table, model = Table(), MemoryStore()
    for number, (put, checks) in enumerate(steps):
        batch = resolve(model, number, (checks, [put], []))
        expected, found = model.apply(batch), table.apply(batch)
        assert len(sqlite.commit_statements(batch, bytes)) == 1
        assert type(found) is type(expected)
        if isinstance(expected, Conflict) and isinstance(found, Conflict):
            assert set(found.keys) == set(expected.keys)
        assert table.rows(sqlite.list_statement("", "", 100)) == [tuple(entry) for entry in model.under("", "", 100)]


def test_the_plans_make_every_outcome() -> None:
    """The sequences above hold commits and conflicts, small and large: the tests that use them can fail."""
    for keys in (KEYS, MANY):
        assert agree(keys, list(range(60))) == {"Committed", "Conflict"}


@given(st.sampled_from(["", "k", "k/", "k/1", "l", "~", "k~"]), st.sampled_from(["", "j", "k/", "k/1", "k/1/x", "z"]))
def test_list_is_a_range(prefix: str, after: str) -> None:
    """list takes prefix and after as bytes, with no character that means anything else."""
    keys = ["K/1", "j", "k", "k!", "k%", "k/", "k/1", "k/1/x", "k/10", "k/_", "k~", "k~~", "l", "~"]
    table = Table()
    table.apply(Batch("0" * 16, (), tuple(Put(key, b"") for key in keys)))
    expected = sorted(key for key in keys if key.startswith(prefix) and key > after)
    assert [row[0] for row in table.rows(sqlite.list_statement(prefix, after, 100))] == expected
    assert [row[0] for row in table.rows(sqlite.list_statement(prefix, after, 2))] == expected[:2]


def test_the_next_key_the_last_one_before_it_and_whether_any() -> None:
    """The query behind the alarm sees the next timer, the last that is overdue, and whether anything is elsewhere."""
    table = Table()
    sql = sqlite.first_last_and_any("t/", ("i/", "x/s/"))

    def seen(bound: str) -> Any:
        return table.rows(sqlite.Statement(sql, (bound, bound)))

    assert seen("t/1") == [(None, None, 0)]
    table.apply(Batch("0" * 16, (), (Put("t/2", b""), Put("t/1", b""), Put("s/1", b""), Put("t0", b""))))
    assert seen("t/0") == [("t/1", None, 0)]
    assert seen("t/1") == [("t/2", "t/1", 0)]
    table.apply(Batch("0" * 16, (), (Put("x/s/a", b""),)))
    assert seen("t/9") == [(None, "t/2", 1)]


@pytest.mark.parametrize("checks", [0, 1, 2, 25, 48, 49, 50, 51, 98, 99, 100, 147, 148])
def test_no_statement_has_more_parameters_than_it_may(checks: int) -> None:
    """Whatever number of puts and deletes goes with so many checks, of versions, of absences, or of both."""
    for kinds in ((None,), ("0" * 16,), (None, "0" * 16)):
        checked = tuple(Check(f"c/{n:03d}", kinds[n % len(kinds)]) for n in range(checks))
        for puts in (*range(4), *range(46, 52), 97, 98, 99, 100, 101):
            for deletes in (0, 1, 100, 101):
                gone = tuple(f"d/{n:03d}" for n in range(deletes))
                batch = Batch("1" * 16, checked, tuple(Put(f"p/{n:03d}", b"") for n in range(puts)), gone)
                counts = [len(parameters) for _, parameters in sqlite.commit_statements(batch, bytes)]
                assert max(counts, default=0) <= sqlite.MAX_PARAMETERS


@pytest.mark.parametrize("kind", ["absent", "other"])
@pytest.mark.parametrize("puts", [1, 60])
def test_each_check_of_many_counts(kind: str, puts: int) -> None:
    """Wherever the one stands that fails: nothing of its batch is written."""
    table, model = Table(), MemoryStore()
    first = Batch("0" * 16, (), tuple(Put(key, b"") for key in MANY[:120]), ())
    table.apply(first)
    model.apply(first)
    for place in (0, 1, 47, 48, 49, 50, 97, 98, 99, 119):
        checks = {key: kind if n == place else "now" for n, key in enumerate(MANY[:120])}
        batch = resolve(model, 1 + place, (checks, MANY[120 : 120 + puts], []))
        assert table.apply(batch) == Conflict((MANY[place],))
        assert len(table.rows(sqlite.list_statement("", "", 1_000))) == 120
