"""Sealing: a history reads back byte for byte, however its values' sizes cut the segments, and whoever cut them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import Context, Runtime, sync, workflow
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.runtime.segments import Tail, cut, keys_of, lengths, room_of
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore, VirtualClock
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from tests.support import Process, drive


class Remembering(SimulatedStore):
    """Knows every commit of a history that was ever stored, whatever was sealed or deleted since."""

    def __init__(self) -> None:
        super().__init__(clock=VirtualClock())
        self.commits: dict[str, dict[int, bytes]] = {}

    def apply(self, batch: Batch) -> Committed | Conflict:
        outcome = super().apply(batch)
        if isinstance(outcome, Committed):
            for key, value in batch.puts:
                if key.startswith("h/"):
                    _, name, place = key.split("/")
                    self.commits.setdefault(name, {})[int(place[1:])] = value
        return outcome


def limits(draw: random.Random) -> Capabilities:
    """Limits that a short run meets: a few commits to a segment, and values that cut it short."""
    most = draw.choice([900, 1500, 3000, 60_000])
    return Capabilities(
        "small", durability="volatile", segment_commits=draw.choice([1, 2, 3, 8]), max_value=most,
        max_batch_bytes=most * draw.choice([2, 8]), max_batch_keys=draw.choice([24, 30, 10_000]),
        inline_limit=draw.choice([100, 250, 400]),
    )  # fmt: skip


def sizes(draw: random.Random, can: Capabilities) -> list[int]:
    """Lengths of values at, below and above each border."""
    borders = [0, can.inline_limit, can.max_value // 2, can.max_value // can.segment_commits]
    return [max(0, draw.choice(borders) + draw.randint(-60, 20)) for _ in range(draw.randint(3, 30))]


@workflow
async def crawl(ctx: Context, given: list[int]) -> Any:
    for size in given:
        for _ in range(size % 3):
            ctx.now()
        await ctx.step("page", lambda size=size: "x" * size)
    ctx.patched("second")
    await ctx.wait_for_signal("go on")
    return len(given)


async def whole(process: Process, store: Remembering, id: str) -> list[bytes]:
    """The run's commits as they are read, held against what was ever stored."""
    record = await process.runtime.get_execution(id)
    found = await process.runtime.store.commits(record.run)
    known = store.commits[record.run]
    assert found == [known[n] for n in range(len(known))]
    assert len(found) >= record.cursor_length
    return found


@pytest.mark.parametrize("seed", range(30))
def test_a_history_reads_back_whatever_cuts_its_segments(seed: int) -> None:
    """Sizes, limits and crashes at random; then a copy and a fork of it, each read back and run to its end."""
    draw = random.Random(seed)

    async def test() -> None:
        can, store = limits(draw), Remembering()
        process = Process(crawl, host=SimulatedHost(store, capabilities=can))
        given = sizes(draw, can)
        await process.runtime.start("crawl", given, id="a")
        for _ in range(draw.randint(1, 4)):
            at = draw.randint(1, 60)
            process.host.fault = lambda n, verb, at=at + process.host.calls: "crash" if n == at else None
            with contextlib.suppress(SimulatedCrash):
                await (await process.runtime.resume("a")).settle()
            await process.crash()
            await whole(process, store, "a")
        await (await process.runtime.resume("a")).settle()
        commits = await whole(process, store, "a")
        await process.crash()
        other = Process(crawl, host=SimulatedHost(seed=2, capabilities=limits(draw)))
        if max(map(len, commits)) <= other.host.capabilities.max_value:
            await (sync if draw.random() < 0.5 else _bundle)(process.runtime, other.runtime, "a")
            copy = await other.runtime.get_execution("a")
            assert await other.runtime.store.commits(copy.run) == commits
            await _finish(other.runtime, "a", len(given))
        fork = await process.runtime.fork("a", draw.randint(1, len(commits)))
        await _finish(process.runtime, fork.id, len(given))
        await _finish(process.runtime, "a", len(given))
        await whole(process, store, "a")
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


async def _bundle(source: Runtime, target: Runtime, id: str) -> None:
    await target.import_(await source.export(id))


async def _finish(runtime: Runtime, id: str, result: Any) -> None:
    run = await runtime.resume(id)
    await run.settle()
    await run.signal("go on")
    assert await run.result() == result


@pytest.mark.parametrize("make", [MemoryHost, "file"], ids=["memory", "file"])
def test_pages_of_forty_kilobytes_are_read_again(make: Any, tmp_path: Path) -> None:
    """Results that are well within the inline limit, more of them than half of a value holds, on real limits."""

    async def test() -> None:
        host = FileHost(str(tmp_path / "store.alkaline"), fsync=False) if make == "file" else make()
        async with Runtime(host, workflows=[crawl]) as runtime:
            await (await runtime.start("crawl", [40_000] * 600, id="r")).settle()
            record = await runtime.get_execution("r")
            assert len(await runtime.store.commits(record.run)) == record.cursor_length
            if make != "file":
                assert len(await runtime.store.keys_under(f"h/{record.run}/")) <= 256
        await host.close()
        host = FileHost(str(tmp_path / "store.alkaline"), fsync=False) if make == "file" else MemoryHost(host.store)
        async with Runtime(host, workflows=[crawl]) as runtime:
            await _finish(runtime, "r", 600)

    asyncio.run(test())


def _damage(store: SimulatedStore, name: str, most: int, room: int) -> None:
    """Lay the history out as alkaline_edge 0.1 did: a segment that is cut short forgets the rest of its commits."""
    prefix = f"h/{name}/"
    keys = sorted((k for k in store.keys if k.startswith(prefix)), key=lambda k: int(k.rsplit("/", 1)[1][1:]))
    entries = [store.entries[key] for key in keys]
    for first in range(0, len(entries) - most + 1, most):
        group = entries[first : first + most]
        count = cut([entry.value for entry in group], 0, most, room)
        key = f"s/{name}/{keys[first].rsplit('/', 1)[1]}"
        store.entries[key] = Entry(key, b"".join(entry.value for entry in group[:count]), group[0].version)
        for entry in group[:count]:
            del store.entries[entry.key]
    store.keys = sorted(store.entries)


@pytest.mark.parametrize("most", [2, 3, 7])
def test_a_history_that_an_older_version_sealed_with_holes_is_read_whole(most: int) -> None:
    """Every commit is still there under its own key, between two segments: it is found there, and the run goes on."""

    async def test() -> None:
        plain = Capabilities("small", durability="volatile", segment_commits=0, max_value=2000, inline_limit=500)
        process = Process(crawl, host=SimulatedHost(Remembering(), capabilities=plain))
        await (await process.runtime.start("crawl", [400] * 40, id="a")).settle()
        record = await process.runtime.get_execution("a")
        commits = await process.runtime.store.commits(record.run)
        _damage(process.host.store, record.run, most, 1000)
        process.host.capabilities = Capabilities(
            "small", durability="volatile", segment_commits=most, max_value=2000, inline_limit=500
        )
        await process.crash()
        assert await process.runtime.store.commits(record.run) == commits
        before = await process.runtime.history("a")
        await _finish(process.runtime, "a", 40)
        assert (await process.runtime.history("a"))[: len(before)] == before
        await process.runtime.close()

    drive(test)


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    most=st.integers(1, 12),
    value=st.integers(1, 900),
    keys=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_every_commit_is_sealed_once_or_stays_loose(sizes: list[int], most: int, value: int, keys: int) -> None:
    """Commits of any length, cut by count, bytes and keys: each is in one segment or under its own key, in order."""
    can = Capabilities("any", max_value=value, max_batch_keys=keys, segment_commits=most)
    tail, places, history = Tail(), dict[str, bytes](), [bytes([n]) * size for n, size in enumerate(sizes)]
    for n, raw in enumerate(history):
        places[f"h/x/{n}"] = raw
        tail.add(raw)
        if tail.due(can):
            write = Write()
            sealed = tail.seal(write, "x", n + 1, can)
            assert sealed >= 1
            assert len(write.deletes) <= max(1, keys - 20)
            for key in write.deletes:
                del places[f"h/x/{int(key.rsplit('/', 1)[1][1:])}"]
            places.update({f"s/x/{int(key.rsplit('/', 1)[1][1:])}": value for key, value in write.puts.items()})
            assert all(len(value) <= room_of(can) for value in write.puts.values())
            tail.drop(sealed)
        assert len(tail) <= max(most, 2)
    ordered = sorted(places.items(), key=lambda item: int(item[0].rsplit("/", 1)[1]))
    assert b"".join(value for _, value in ordered) == b"".join(history)


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(0, 9), st.integers(1, 900))
@settings(max_examples=200, deadline=None)
def test_what_is_imported_is_cut_by_count_and_bytes(sizes: list[int], most: int, value: int) -> None:
    """Every commit once, in order; a group is as long as the host takes, and a large commit stands alone."""
    can = Capabilities("any", max_value=value, segment_commits=most)
    history = [b"x" * size for size in sizes]
    groups = list(lengths(history, can))
    assert [n for first, count in groups for n in range(first, first + count)] == list(range(len(history)))
    for first, count in groups:
        group = history[first : first + count]
        assert count <= max(1, most)
        assert count == 1 or sum(map(len, group)) <= room_of(can)
        rest = history[first + count :]
        assert not rest or count == max(1, most) or sum(map(len, group)) + len(rest[0]) > room_of(can)
    assert keys_of(can) == 200
    assert keys_of(Capabilities("few", max_batch_keys=5)) == 1
