"""The store: what a batch's proof is, and a store that moves to another host under all who hold it."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, keys, workflow
from alkaline_edge import events as ev
from alkaline_edge.codec import BlobRef, Codec
from alkaline_edge.errors import StoreError, UnknownOutcome
from alkaline_edge.history import Cursor
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Put
from alkaline_edge.runtime.pages import Gap
from alkaline_edge.runtime.store import Store
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import Delay, SimulatedHost, fault_at
from tests.support import drive


@pytest.mark.parametrize("proof", [None, "r/b"])
def test_a_batch_whose_answer_was_lost_is_known_by_its_proof(proof: str | None) -> None:
    """The key that it names, otherwise the first that it puts: read back, and believed once it is there."""
    asked: list[Any] = []

    class Asked(SimulatedHost):
        async def get(self, keys: Any) -> Any:
            asked.append(list(keys))
            return await super().get(keys)

    async def body() -> None:
        store = Store(Asked(fault=fault_at(1, "applied-then-error")), Codec())
        write = Write({"r/a": None}, {"r/a": b"1", "r/b": b"2"})
        write.proof = proof
        outcome = await store.commit(write)
        assert isinstance(outcome, Committed)
        assert asked == [[proof or "r/a"]]
        entry = (await store.host.get(["r/b"]))[0]
        assert entry is not None
        assert entry.version == outcome.version

    drive(body)


def test_a_conflict_of_our_own_making_is_a_commit() -> None:
    """The first try landed, its answer was lost, and the second meets it: nothing was lost, and nothing done twice."""

    async def body() -> None:
        store = Store(SimulatedHost(fault=fault_at(1, "applied-then-error")), Codec())
        assert isinstance(await store.commit(Write({"r/a": None}, {"r/a": b"1"})), Committed)
        assert isinstance(await store.commit(Write({"r/a": None}, {"r/a": b"2"})), Conflict)

    drive(body)


def test_who_holds_a_store_goes_on_upon_its_new_host() -> None:
    """``use`` changes the host and its limits, and no reference."""
    one, two = SimulatedHost(), SimulatedHost()
    store = Store(one, Codec())
    store.use(two)
    assert store.host is two
    assert store.limits is two.capabilities


@pytest.mark.parametrize("gaps", [0, 1, 2, 3])
def test_a_gap_in_a_history_is_read_again_before_it_is_believed(gaps: int) -> None:
    """A segment may be sealed between the two listings: three readings in a row that lack a commit are a loss."""
    readings: list[int] = []

    async def read() -> str:
        readings.append(len(readings))
        if len(readings) <= gaps:
            raise Gap
        return "whole"

    async def body() -> None:
        store = Store(SimulatedHost(), Codec())
        if gaps < 3:
            assert await store.without_gap(read) == "whole"
        else:
            with pytest.raises(StoreError, match="has a gap"):
                await store.without_gap(read)

    drive(body)
    assert len(readings) == min(3, gaps + 1)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_each_try_of_a_batch_is_known_as_ours_however_late_it_lands(lost: int) -> None:
    """The first was not there when it was looked for, and is what a later one meets: nothing of it was refused."""

    class Slow(SimulatedHost):
        late: list[Any]

        async def commit(self, batch: Any) -> Any:
            if len(self.late) < lost:
                self.late.append(batch)
                raise UnknownOutcome("the answer was lost")
            self.store.apply(self.late[0])
            return await super().commit(batch)

    async def body() -> None:
        host = Slow()
        host.late = []
        outcome = await Store(host, Codec()).commit(Write({"r/a": None}, {"r/a": b"1"}))
        assert outcome == Committed(host.late[0].id)

    drive(body)


def test_no_commit_begins_while_a_store_moves_and_none_is_under_way() -> None:
    """What comes meanwhile goes to the host of then; what has begun is waited for."""

    async def body() -> None:
        one, two = SimulatedHost(on_call=lambda call, verb, arguments: Delay(1_000)), SimulatedHost()
        store = Store(one, Codec())
        early = asyncio.ensure_future(store.commit(Write({}, {"r/a": b"1"})))
        while not one.counts["commit"]:
            await asyncio.sleep(0)
        release = await store.hold()
        assert early.done()
        late = asyncio.ensure_future(store.commit(Write({}, {"r/b": b"2"})))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not late.done()
        assert one.counts["commit"] == 1
        store.use(two)
        release()
        await late
        assert (two.store.keys, one.store.keys) == (["r/b"], ["r/a"])

    drive(body)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_question_that_is_not_answered_is_asked_again(failures: int) -> None:
    """What became of a batch whose answer was lost is not guessed: it is there, and found once the store answers."""

    class Away(SimulatedHost):
        left = failures

        async def get(self, keys: Any) -> Any:
            if self.left:
                self.left -= 1
                raise StoreError("away")
            return await super().get(keys)

    async def body() -> None:
        host = Away(fault=fault_at(1, "applied-then-error"))
        outcome = await Store(host, Codec()).commit(Write({"r/a": None}, {"r/a": b"1"}))
        assert outcome == Committed(host.store.entries["r/a"].version)
        assert len(host.batches) == 1

    drive(body)


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 450])
def test_a_prefix_is_purged_whole_and_nothing_beside_it(count: int) -> None:
    """However many keys it has; what its fence does not hold for is left."""

    async def body() -> None:
        host = SimulatedHost()
        store = Store(host, Codec())
        puts = {f"h/run/{n:04d}": b"" for n in range(count)}
        host.store.apply(
            Batch("1", (), tuple(Put(key, value) for key, value in {**puts, "h/run0": b"", "r/a": b""}.items()), ())
        )
        assert await store.purge(["h/run/"], {"r/a": "another"}) is (count == 0)
        assert len(host.store.keys) == count + 2
        assert await store.purge(["h/run/", "h/none/"], {"r/a": "1"})
        assert host.store.keys == ["h/run0", "r/a"]

    drive(body)


def test_a_history_is_read_once_from_segments_and_what_stands_between_and_behind_them() -> None:
    """Loose commits between two segments in their place, and what is found in both of them once."""
    codec, cursor = Codec(), Cursor()
    raws = []
    for n in range(10):
        raws.append(cursor.encode(n, [ev.Emitted(ev.EMITTED, "n", n)], codec))
        cursor.advance(raws[-1], codec)

    async def body(loose: list[int]) -> None:
        host = SimulatedHost(capabilities=Capabilities("simulated", durability="volatile", segment_commits=3))
        puts = [Put(keys.segment("run", first), b"".join(raws[first:last])) for first, last in ((0, 3), (4, 7), (7, 9))]
        puts += [Put(keys.commit("run", n), raws[n]) for n in loose]
        host.store.apply(Batch("1", (), tuple(puts), ()))
        if {3, 9} <= set(loose):
            assert await Store(host, codec).commits("run") == raws
        elif 3 in loose:
            assert await Store(host, codec).commits("run") == raws[:9]
        else:
            with pytest.raises(StoreError, match="gap"):
                await Store(host, codec).commits("run")

    for loose in ([3, 9], [3], [9], [], [2, 3, 4, 8, 9], list(range(10)), [3, 5, 6]):
        drive(lambda loose=loose: body(loose))  # type: ignore[misc]


@pytest.mark.parametrize("damage", ["none", "flipped", "cut", "gone", "longer"])
def test_a_large_value_is_read_whole_or_refused(damage: str) -> None:
    """By its length and its digest: in chunks, of which one is changed, shorter, missing, or one too many."""

    async def body() -> None:
        store, run = Store(SimulatedHost(), Codec()), "ab" * 6
        data = store.codec.encode("x" * 5_000)
        ref = BlobRef(sha256(data).digest(), len(data))
        chunks = [data[at : at + 1_000] for at in range(0, len(data), 1_000)]
        if damage == "flipped":
            chunks[2] = chunks[2][:500] + b"y" + chunks[2][501:]
        elif damage == "cut":
            chunks[-1] = chunks[-1][:-1]
        elif damage == "gone":
            del chunks[3]
        elif damage == "longer":
            chunks[-1] += b"x"
        prefix = keys.chunks(run, ref.digest)
        await store.commit(Write({}, {f"{prefix}{keys.position(n)}": chunk for n, chunk in enumerate(chunks)}))
        if damage == "none":
            assert await store.blob(run, ref) == "x" * 5_000
        else:
            with pytest.raises(StoreError, match="missing or damaged"):
                await store.blob(run, ref)

    drive(body)


def test_a_run_that_ends_while_it_is_read_is_read_again() -> None:
    """Its record and its history are of one moment."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go")

    class Ending(Store):
        async def commits(self, name: str) -> list[bytes]:
            found = await super().commits(name)
            if not (await self.record("run")).finished:
                await runtime.signal("run", "go", 1)
                assert await runtime.result("run", timeout=None) == 1
            return found

    runtime = Runtime(SimulatedHost(), workflows=[flow])

    async def body() -> None:
        run = await runtime.start(flow, id="run")
        await run.settle()
        store = Ending(runtime.host, Codec())
        record, commits = await store.whole(await store.record("run"))
        assert (record.status, record.cursor_length) == ("completed", len(commits))

    drive(body)
