"""The view of a store's runs: what psql shows is what the runtime says."""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alkaline_edge import Codec, Runtime, workflow
from alkaline_edge.host import Batch, Check, Put
from alkaline_hosts.opening import open_host
from examples.handoff.postgres import find

from .conftest import execute


async def for_long() -> None:
    await asyncio.sleep(3600)


@workflow(name="any", version=3)
async def anything(ctx: Any, what: str) -> Any:
    ctx.set_attributes(customer="Zoë \u2603", share=-0.1, urgent=True, number=2**40, nothing="", nul="a\0b")
    if what == "running":
        return await ctx.step(for_long)
    if what == "suspended":
        async with asyncio.timeout(3600):
            await ctx.wait_for_signal("approval")
    if what == "failed":
        raise ValueError("a reason\nof two lines")
    if what == "paused":
        return await ctx.sleep(60)
    if what == "cancelled":
        return await ctx.wait_for_signal("never")
    ctx.spend(70_000, "all of it")
    return {"pages": ["x" * 40] * 400, "sum": 0.5, "raw": b"\0\1", "at": datetime.now(UTC), "big": 2**70}


def plain(record: Any) -> dict[str, Any]:
    """What the view should say of a record."""

    def time(ms: int | None) -> datetime | None:
        return None if ms is None else datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)

    failure = record.failure
    return {
        "id": record.id, "workflow": record.workflow, "version": record.version, "status": record.status,
        "waiting": ", ".join(record.waiting) or None, "wake_at": time(record.wake_at),
        "updated": time(record.updated_at), "created": time(record.created_at),
        "failure": failure and f"{failure['type']}: {failure['message']}",
        "attributes": {**record.attributes, "nul": "(a text with NUL in it)"} if record.attributes else {},
        "parent": record.parent, "owner": record.owner,
        "lease_until": time(record.lease_until) if record.owner else None,
        "attempt": record.attempt, "commits": record.cursor_length, "tokens": record.spent["tokens"],
        "moved_to": record.moved_to,
    }  # fmt: skip


async def each_status(url: str, table: str = "alkaline") -> dict[str, dict[str, Any]]:
    """What the view should say of six runs, one in each status."""
    host = open_host(url)
    async with Runtime(host, workflows=[anything]) as runtime:
        for what in ("running", "suspended", "completed", "failed", "paused", "cancelled"):
            run = await runtime.start(anything, what, id=what)
            if what != "running":
                await run.settle()
        await runtime.pause("paused")
        await runtime.cancel("cancelled", "enough")
        for what in ("paused", "cancelled"):
            await runtime.settle(what)
        expected = {r.id: plain(r) for r in await runtime.list_executions()}
        found = {row["id"]: shown(row) for row in await execute(url, "SELECT * FROM alkaline_runs")}
        assert found == expected
        assert {id: row["status"] for id, row in found.items()} == {id: id for id in found}
    await host.close()
    return expected


def shown(row: Any) -> dict[str, Any]:
    return {**row, "attributes": json.loads(row["attributes"])}


def test_a_run_in_each_status(database: str) -> None:
    """Every column of every status is what ``list_executions`` says."""
    expected = asyncio.run(each_status(database))
    assert expected["suspended"]["waiting"]
    assert expected["running"]["owner"]
    assert expected["completed"]["tokens"] == 70_000
    assert expected["failed"]["failure"] == "ValueError: a reason\nof two lines"


def test_psql_shows_it(database: str) -> None:
    """The line that docs/hosts.md gives, from another search path than the one the store was made with."""
    asyncio.run(each_status(database))
    sql = "SET search_path TO pg_catalog; SELECT id, workflow, version, failure FROM public.alkaline_runs " \
        "WHERE status = 'failed' ORDER BY updated DESC LIMIT 5"  # fmt: skip
    done = subprocess.run([find("psql"), "-AtX", database, "-c", sql], check=True, capture_output=True, text=True)
    assert done.stdout == "SET\nfailed|any|3|ValueError: a reason\nof two lines\n"


def test_what_is_no_record_is_null(database: str) -> None:
    """A sealed, cut off or foreign record keeps its row: id, workflow and status are known, the rest is null."""

    async def main() -> None:
        host = open_host(database)
        whole = Codec().encode({"version": 1, "waiting": ["x"], "failure": None})
        values = [b"", b"\xc1", b"AE sealed", whole[:-1], whole + b"\0", b"\xdf\xff\xff\xff\xff", b"\x81\xa1\xff\x01"]
        for n, value in enumerate(values):
            keys = (f"r/{n}", f"x/s/running/w/{n}")
            await host.commit(Batch(f"{n:016x}", (Check(keys[0], None),), (Put(keys[0], value), Put(keys[1], b"\xc0"))))
        await host.close()
        rows = await execute(database, "SELECT * FROM alkaline_runs ORDER BY id")
        assert [tuple(row)[:5] for row in rows] == [(str(n), "w", None, "running", None) for n in range(len(values))]
        assert {value for row in rows for value in tuple(row)[4:]} == {None}

    asyncio.run(main())


def values() -> list[Any]:
    chance = random.Random(7)
    edges = [0, 1, 31, 32, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1]
    floats = [0.0, -0.0, 0.1, -1.5, 1e300, -1e-300, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, math.pi]
    floats += [chance.uniform(-1, 1) * 10.0 ** chance.randint(-300, 300) for _ in range(200)]
    return [
        None, True, False, *edges, *(-n for n in edges if n <= 2**63), *floats,
        *("x" * n for n in (0, 31, 32, 255, 256, 70_000)), "ä\u2603\U0001f600\"\\",
        [], list(range(15)), list(range(16)), ["y"] * 300, {}, {f"k{n:02}": n for n in range(15)},
        {f"k{n:03}": [n, {"z": None}] for n in range(20)},
    ]  # fmt: skip


@pytest.mark.parametrize("wanted", [True, False])
def test_every_form_of_a_value(wanted: bool, database: str) -> None:
    """Each width of each type comes back as it was, and ends where it ends, also where it is passed over."""

    async def main() -> None:
        host = open_host(database)
        await host.commit(Batch("0" * 16, puts=(Put("k", b""),)))
        await host.close()
        all_values = [*values(), b"raw", b"x" * 300, datetime.now(UTC), 2**80, -(2**100)]
        encoded = [Codec().encode(value) for value in all_values]
        sql = "SELECT u.place, u.value FROM unnest($1::bytea[], $2::int[]) WITH ORDINALITY AS d(data, size, n), " \
            "LATERAL alkaline_unpack_1(d.data, $3, 0) u ORDER BY d.n"  # fmt: skip
        rows = await execute(database, sql, encoded, [len(data) for data in encoded], wanted)
        assert [row["place"] for row in rows] == [len(data) for data in encoded]
        if wanted:
            found = [json.loads(row["value"]) for row in rows]
            for value, expected in zip(found, values(), strict=False):
                assert (float(value) if isinstance(expected, float) else value) == expected
            assert all("bytes)" in value for value in found[len(values()) :])

    asyncio.run(main())


def test_what_has_no_number_in_json(database: str) -> None:
    """NaN and the infinities are texts."""

    async def main() -> None:
        host = open_host(database)
        await host.commit(Batch("0" * 16, puts=(Put("k", b""),)))
        await host.close()
        encoded = [Codec().encode(value) for value in (math.nan, math.inf, -math.inf)]
        rows = await execute(
            database, "SELECT (alkaline_unpack_1(d, true, 0)).value FROM unnest($1::bytea[]) d", encoded
        )
        assert [json.loads(row[0]) for row in rows] == ["NaN", "Infinity", "-Infinity"]

    asyncio.run(main())
