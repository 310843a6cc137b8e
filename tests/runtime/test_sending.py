"""Sending: a request stands behind the last one, found by a few reads, and counts once whoever else sends."""

from __future__ import annotations

import asyncio
import builtins
import random
from collections.abc import Iterable
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, Run, Runtime, keys, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.host import Batch, Entry, Put
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.support import drive


@workflow
async def collects(ctx: Context) -> list[Any]:
    """Every payload up to None."""
    got: list[Any] = []
    while (payload := await ctx.wait_for_signal("s")) is not None:
        got.append(payload)
    return got


async def waiting() -> tuple[SimulatedHost, Runtime, Run]:
    """The run "a" of ``collects``, which waits for its first signal."""
    host = SimulatedHost()
    runtime = Runtime(host, workflows=[collects])
    run = await runtime.start(collects, id="a")
    await run.settle()
    return host, runtime, run


async def put(runtime: Runtime, place: str, entry: str, payload: Any) -> None:
    data = runtime.codec.encode([entry, "signal", "s", payload, 0])
    await runtime.store.commit(Write({}, {f"i/a/{place}": data}))


def test_a_signal_is_refused_where_the_run_ends_before_it_is_in_the_store() -> None:
    """Its sender had read a record that went on; the commit says no, and nothing is left behind."""

    async def body() -> None:
        host, runtime, run = await waiting()
        outside = Runtime(host.reopen())
        commit = outside.host.commit

        async def later(batch: Any) -> Any:
            outside.host.commit = commit  # type: ignore[method-assign]
            await runtime.signal("a", "s", None)
            assert await run.result() == []
            return await commit(batch)

        outside.host.commit = later  # type: ignore[method-assign]
        with pytest.raises(ConflictError):
            await outside.signal("a", "s", 1)
        assert not [key for key in host.store.keys if key.startswith("i/")]

    drive(body)


def test_two_senders_of_one_dedupe_key_at_the_same_moment_send_one_signal() -> None:
    """Even where the first one's entry was consumed before the second one commits: the marker is checked with it."""

    async def body() -> None:
        host, runtime, run = await waiting()
        first, second = Runtime(host.reopen()), Runtime(host.reopen())
        commit = second.host.commit
        looked = asyncio.Event()

        async def later(batch: Any) -> Any:
            looked.set()
            await asyncio.sleep(0)
            while [key for key in host.store.keys if key.startswith("i/")] or not sent.done():
                await asyncio.sleep(0)
            return await commit(batch)

        second.host.commit = later  # type: ignore[method-assign]
        slow = asyncio.ensure_future(second.signal("a", "s", 1, dedupe="k"))

        async def send() -> None:
            await looked.wait()
            await first.signal("a", "s", 1, dedupe="k")
            await runtime.run_due()

        sent = asyncio.ensure_future(send())
        await slow
        await run.signal("s", None)
        assert await run.result() == [1]

    drive(body)


def test_two_senders_who_find_the_same_place_free_lose_neither_signal() -> None:
    """The place is checked with the commit that takes it: the later one looks for another."""

    async def body() -> None:
        host, _runtime, run = await waiting()
        first, second = Runtime(host.reopen()), Runtime(host.reopen())
        commit = second.host.commit

        async def later(batch: Any) -> Any:
            second.host.commit = commit  # type: ignore[method-assign]
            await first.signal("a", "s", "first")
            return await commit(batch)

        second.host.commit = later  # type: ignore[method-assign]
        await second.signal("a", "s", "second")
        await run.signal("s", None)
        assert await run.result() == ["first", "second"]

    drive(body)


class Counting(MemoryHost):
    """Counts the keys that are read."""

    read = 0

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        found = await super().get(keys)
        self.read += len(found)
        return found

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> builtins.list[Entry]:
        found = await super().list(prefix, after, limit)
        self.read += len(found)
        return found


@pytest.mark.parametrize("others", [0, 3])
def test_a_send_reads_the_end_of_the_inbox(others: int) -> None:
    """With 10,000 requests waiting a send reads as few keys as with 100, also where others send in between.

    The first of a process finds the end in a number of keys that hardly grows.
    """

    async def test(waiting: int) -> tuple[int, int]:
        host = Counting()
        async with Runtime(host, workflows=[collects]) as runtime:
            run = await runtime.start(collects, id="r")
            await run.settle()

        def request(n: int) -> Put:
            return Put(keys.inbox("r", keys.position(n)), Codec().encode([f"s{n}", "signal", "s", n, 0]))

        puts = tuple(request(n) for n in range(1, waiting + 1))
        for start in range(0, waiting, 5_000):
            await host.commit(Batch(f"{start:016x}", (), puts[start : start + 5_000]))
        async with Runtime(host) as runtime:
            host.read = 0
            await runtime.signal("r", "s")
            first, host.read = host.read, 0
            for n in range(others):
                await host.commit(Batch(f"{n + 1:016x}", (), (request(waiting + 2 + n),)))
            await runtime.signal("r", "s")
            again = host.read
            entries = await host.list(keys.requests("r"), "", 20_000)
            assert [keys.position_of(entry.key) for entry in entries] == list(range(1, waiting + others + 3))
        return first, again

    async def both() -> None:
        few, many = await test(100), await test(10_000)
        assert many[1] == few[1] <= 4 + 8 * bool(others)
        assert many[0] <= 2 * few[0]

    drive(both)


@pytest.mark.parametrize("seed", range(12))
def test_a_request_is_put_behind_the_last_one_without_reading_them_all(seed: int) -> None:
    """Whatever places are taken, with gaps, and whatever other runs have put there."""
    draw = random.Random(seed)

    async def body() -> None:
        host, runtime, _ = await waiting()
        sender = Runtime(host.reopen())
        first, count = draw.choice([1, 9, 95, 1_000]), draw.choice([0, 1, 15, 16, 17, 40, 700])
        places = [n for n in range(first, first + count) if draw.random() < draw.choice([1, 0.3])]
        for n in places:
            await put(sender, keys.position(n), f"s{n}", n)
        for n in range(draw.choice([0, 3])):
            await put(sender, f"~child{n}", f"c{n}", n)
        calls = sender.host.calls  # type: ignore[attr-defined]
        for n in range(3):
            await sender.signal("a", "s", "mine")
            there = [key for key in host.store.keys if key.startswith("i/a/") and "~" not in key]
            assert max(map(keys.position_of, there)) == max(places, default=0) + n + 1
        assert sender.host.calls - calls < 3 * 45  # type: ignore[attr-defined]
        await runtime.close()

    drive(body)
