"""Whole runs whose values are at, below and above each limit that a host declares: callables, D1's SQL, Cloudflare KV.

Every value goes into the store, is read by another process, moves to the next host and back, and comes out whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge import Context, Run, Runtime, hand_over, workflow
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry, Host
from alkaline_edge.limits import check_batch
from alkaline_hosts import d1, durable_object
from alkaline_hosts._cloudflare import sqlite
from alkaline_hosts._kv.log import SPILL_BYTES
from alkaline_hosts.memory import MemoryHost
from tests.hosts.kv_simulator import SimulatedKV
from tests.hosts.test_callbacks import Backing
from tests.hosts.test_cloudflare_kv import single
from tests.hosts.test_sqlite_batches import Table
from tests.support import drive

SMALL = Capabilities("small", durability="volatile", inline_limit=500, max_value=3_000, max_batch_bytes=9_000,
                     max_batch_keys=40, segment_commits=6)  # fmt: skip
"""Limits that a border can be drawn at without moving megabytes."""


class SqlHost(MemoryHost):
    """The statements of D1 and of a Durable Object on SQLite, with the limits of the one or the other."""

    def __init__(self, table: Table, limits: Capabilities) -> None:
        super().__init__()
        self._table, self.capabilities = table, limits

    def _entries(self, statements: Iterable[sqlite.Statement]) -> list[Entry]:
        return [Entry(k, bytes(v), version) for part in statements for k, v, version in self._table.rows(part)]

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        wanted = list(keys)
        found = {entry.key: entry for entry in self._entries(sqlite.get_statements(wanted))}
        return [found.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> Any:
        return self._entries([sqlite.list_statement(prefix, after, limit)])

    async def commit(self, batch: Batch) -> Committed | Conflict:
        check_batch(batch, self.capabilities)
        return self._table.apply(batch)


def callables() -> Callable[[], Host]:
    backing = Backing()
    return lambda: backing.host(capabilities=SMALL)


def sql(limits: Capabilities) -> Callable[[], Host]:
    table = Table()
    return lambda: SqlHost(table, limits)


def kv() -> Callable[[], Host]:
    namespace = SimulatedKV(lag=0, list_lag=0, ttl=0)
    return lambda: single(namespace)


def cut(real: Capabilities) -> Capabilities:
    """The limits of a real host in their proportions, a hundredth of them in bytes."""
    return replace(real, inline_limit=real.inline_limit // 100, max_value=max(2_500, real.max_value // 100),
                   max_batch_bytes=real.max_batch_bytes // 100, max_batch_keys=real.max_batch_keys // 50)  # fmt: skip


HOSTS: dict[str, Callable[[], Callable[[], Host]]] = {
    "callables": callables,
    "d1": lambda: sql(cut(replace(d1._CAPABILITIES, max_value=1_400_000))),
    "a durable object": lambda: sql(cut(durable_object._CAPABILITIES)),
    "kv": kv,
}


def borders(limits: Capabilities) -> list[int]:
    """The sizes at which something is cut on a host, as far as a test can write as much."""
    room = max(1, min(limits.max_value, limits.max_batch_bytes) // 2)
    found = [limits.inline_limit, limits.max_value, limits.max_value - 1_024, limits.max_batch_bytes, room]
    found += [2 * (limits.max_value - 1_024), limits.max_batch_bytes // 2, SPILL_BYTES, room // 3]
    return [size for size in found if size < 400_000]


@workflow
async def mirror(ctx: Context, given: list[int]) -> Any:
    """The sizes of all that it makes and is sent, up to an empty signal; then the same again as a new generation."""
    sizes, generation = [], given[0]
    ctx.on_update("u", lambda text: text + "!")
    for n, size in enumerate(given[1:]):
        sizes.append(len(await ctx.step(f"s{n}", lambda size=size: "s" * size)))
    while (text := await ctx.wait_for_signal("in"))[1:]:
        sizes.append(len(text))
    if generation == 0:
        ctx.continue_as_new([1, *given[1:]])
    return ["r" * max(given[1:]), sizes]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", HOSTS)
def test_runs_at_the_borders_of_a_host_are_whole(name: str, seed: int) -> None:
    """By each door, in two processes, through a move to another host and back, and deleted without a rest."""
    draw = random.Random(f"{name} {seed}")

    async def test() -> None:
        open_ = HOSTS[name]()
        limits = open_().capabilities
        sizes = [max(2, draw.choice(borders(limits)) + draw.randint(-40, 40)) for _ in range(draw.randint(3, 9))]
        runtime = Runtime(open_(), workflows=[mirror])
        run = await runtime.start(mirror, [0, *sizes], id="a")
        for generation in range(2):
            await run.settle()
            for size in sizes[:2]:
                await runtime.signal("a", "in", "i" * size)
            assert len(await Run(runtime, "a").update("u", "u" * sizes[-1])) == sizes[-1] + 1
            await runtime.close()
            runtime = Runtime(open_(), workflows=[mirror])  # the next process
            if generation:
                # What one host keeps inline, another one has to take as one value: real inline limits are that small.
                host = MemoryHost()
                host.capabilities = replace(host.capabilities, inline_limit=2 * limits.inline_limit)
                there = Runtime(host, workflows=[mirror])
                await hand_over(runtime, "a", there)
                await there.signal("a", "in", "i" * sizes[2])  # too large to stay inline here, maybe, and not there
                await hand_over(there, "a", runtime)
                await there.close()
            await runtime.signal("a", "in", "i")
            run = await runtime.resume("a")
        text, got = await run.result()
        assert (len(text), got) == (max(sizes), [*sizes, *sizes[:3]])
        assert await Run(runtime, "a").result() == [text, got]
        bundle = await runtime.export("a")
        await runtime.delete("a")
        assert await (await runtime.import_(bundle)).result() == [text, got]
        await runtime.delete("a")
        left = [entry.key for entry in await runtime.host.list("")]
        assert not [key for key in left if not key.startswith("m/")]
        await runtime.close()

    drive(test)
