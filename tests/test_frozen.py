"""A hand-over that its target refuses, or whose target is lost: the run goes on where it comes from, and only there."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from alkaline_edge import (
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Runtime,
    StoreError,
    hand_over,
    keys,
    reclaim,
    sync,
    workflow,
)
from alkaline_edge.history import digest_of
from alkaline_edge.host import Batch, Check
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.write import Write, indexes_of
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive

ran: list[int] = []


@workflow
async def flow(ctx: Context, n: int) -> Any:
    await ctx.step("one", lambda: ran.append(1))
    got = [await ctx.wait_for_signal("go") for _ in range(n)]
    await ctx.step("two", lambda: ran.append(2))
    return got


class Side(Process):
    """A store with a runtime on it, and the peer that it is."""

    def __init__(self, seed: int) -> None:
        super().__init__(flow, host=SimulatedHost(seed=seed))

    @property
    def local(self) -> Local:
        """This side of a move."""
        return Local(self.runtime)


async def frozen(paused: bool = False) -> tuple[Side, Side, bytes]:
    """A run that was frozen on its way from one store to the other, and its letter; two signals are unread."""
    ran.clear()
    a, b = Side(1), Side(2)
    run = await a.runtime.start("flow", 3, id="a")
    await run.settle()
    if paused:
        await run.pause()
        await run.settle()
    for n in range(2):
        await Runtime(a.host).signal("a", "go", n, dedupe=str(n))
    return a, b, await a.local.freeze("a", "b", await b.local.identity())


async def ends(side: Side) -> None:
    """The run goes on there, with all that it was sent."""
    await side.runtime.signal("a", "go", 0, dedupe="0")
    await side.runtime.signal("a", "go", 2)
    assert await side.runtime.result("a", None) == [0, 1, 2]
    assert ran == [1, 2]


async def alive(*sides: Side) -> list[Side]:
    """Where the run can go on."""
    records = [(side, await side.runtime.store.find("a")) for side in sides]
    return [side for side, r in records if r is not None and r.moved_to is None and not r.copy and r.workflow == "flow"]


@pytest.mark.parametrize("there", ["nothing", "a copy", "another run"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_run_is_taken_back_from_a_target_that_has_not_taken_it_over(there: str, paused: bool) -> None:
    """hand_over the other way ends the limbo; the letter that was on its way is void, however late it comes."""

    async def test() -> None:
        a, b, letter = await frozen(paused)
        if there == "a copy":
            await sync(a.runtime, b.runtime, "a")
        if there == "another run":
            await (await b.runtime.start("flow", 9, id="a")).settle()
            ran.remove(1)
            with pytest.raises(ConflictError, match="another run"):
                await hand_over(a.runtime, "a", b.runtime)
        with pytest.raises(ConflictError, match="from that store to this one, which takes the run back"):
            await a.runtime.signal("a", "go")
        place = await hand_over(b.runtime, "a", a.runtime)
        assert (place.status, place.moved_to) == ("paused" if paused else "suspended", None)
        with pytest.raises(ConflictError, match="renounced"):
            await b.local.take_over(letter)
        if there != "another run":
            assert await alive(a, b) == [a]
            assert (await hand_over(a.runtime, "a", b.runtime)).moved_to is None  # a new hand-over is another one
            assert await alive(a, b) == [b]
            await hand_over(b.runtime, "a", a.runtime)
        if paused:
            assert (await a.runtime.get_execution("a")).status == "paused"
            await a.runtime.resume("a")
        await ends(a)

    drive(test)


@pytest.mark.parametrize("after", [False, True])
def test_taking_back_cut_anywhere_is_repeated(after: bool) -> None:
    """Each call of either side lost, or its answer; meanwhile whoever brings the letter finds one store that has it."""

    async def test(cut: int, late: str) -> int:
        a, b, letter = await frozen()
        calls = 0

        class Cut:
            def __init__(self, side: Side) -> None:
                self.name, self.local = "cut", side.local

            def __getattr__(self, verb: str) -> Any:
                async def call(*args: Any) -> Any:
                    nonlocal calls
                    calls += 1
                    here = calls - 1 == cut
                    if here and not after:
                        raise OSError("cut")
                    answer = await getattr(self.local, verb)(*args)
                    if here:
                        raise OSError("cut")
                    return answer

                return call

        try:
            await hand_over(Cut(b), "a", Cut(a))  # type: ignore[arg-type]
        except OSError:
            assert len(await alive(a, b)) <= 1
        if late == "letter":
            await sync(a.runtime, b.runtime, "a")
            with contextlib.suppress(ConflictError):
                await b.local.take_over(letter)
        if late == "hand_over":
            with contextlib.suppress(ConflictError):
                await hand_over(a.runtime, "a", b.runtime)
        assert len(await alive(a, b)) <= 1
        if (await a.runtime.get_execution("a")).moved_to is not None:
            await hand_over(b.runtime, "a", a.runtime)
        assert await alive(a, b) == [a]
        await ends(a)
        return calls

    calls = drive(lambda: test(-1, ""))
    assert calls == 7
    for cut in range(calls):
        for late in ("", "letter", "hand_over"):
            drive(lambda cut=cut, late=late: test(cut, late))  # type: ignore[misc]  # bound now


def test_a_run_that_arrived_unconfirmed_is_handed_back_with_what_it_did_there() -> None:
    """Nothing is renounced: it went on there. And what it was taken over from there goes nowhere twice."""

    async def test() -> None:
        a, b, letter = await frozen()
        await sync(a.runtime, b.runtime, "a")
        await b.local.take_over(letter)
        await b.runtime.settle("a")
        with pytest.raises(ConflictError, match="taken over here: call hand_over again"):
            await b.local.renounce(letter, await a.local.identity())
        await hand_over(b.runtime, "a", a.runtime)
        assert await alive(a, b) == [a]
        await ends(a)

    drive(test)


def test_a_hand_over_is_renounced_for_one_store_alone() -> None:
    """Whoever else asks for it is told; a store that is not the letter's renounces nothing."""

    async def test() -> None:
        a, b, letter = await frozen()
        c = Side(3)
        first = await b.local.renounce(letter, await a.local.identity())
        assert await b.local.renounce(letter, await a.local.identity()) == first
        with pytest.raises(ConflictError, match="in favour of another store"):
            await b.local.renounce(letter, await c.local.identity())
        with pytest.raises(InvalidInput, match="another store"):
            await c.local.renounce(letter, await a.local.identity())
        await a.local.take_over(first)
        await ends(a)

    drive(test)


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_run_whose_target_is_lost_is_reclaimed(confirmed: bool) -> None:
    """By the name of the very store that is lost; from what is here, with the requests that had not been read."""

    async def test() -> None:
        a, b, letter = await frozen()
        if confirmed:
            ran.clear()
            await sync(a.runtime, b.runtime, "a")
            await Local(Runtime(b.host)).take_over(letter)
            await a.local.confirm("a", await b.local.identity())
        name = await b.local.identity()
        with pytest.raises(ConflictError, match="call reclaim here" if not confirmed else "cancel|handed over"):
            await a.runtime.delete("a") if not confirmed else await a.runtime.cancel("a")
        with pytest.raises(InvalidInput, match=r"b \[\w+\].*in the brackets"):
            await reclaim(a.runtime, "a", "ffff")
        with pytest.raises(NotFound):
            await reclaim(a.runtime, "none", name)
        for _ in range(2):
            place = await reclaim(a.runtime, "a", name)
            assert place.moved_to is None
        ran[:] = [1]
        await ends(a)
        bundle = await a.runtime.start("flow", 1, id="file")
        await bundle.settle()
        await a.runtime.export("file", handoff=True)
        with pytest.raises(ConflictError, match="a bundle"):
            await reclaim(a.runtime, "file", name)

    drive(test)


def test_a_store_that_was_thought_lost_is_found_out_when_it_comes_back() -> None:
    """It went on there after all: neither side takes the other's run, and the message says what to do."""

    async def test() -> None:
        a, b, letter = await frozen()
        await sync(a.runtime, b.runtime, "a")
        await b.local.take_over(letter)
        await b.runtime.settle("a")
        await reclaim(a.runtime, "a", await b.local.identity())
        await a.runtime.settle("a")
        for one, two in ((a, b), (b, a)):
            with pytest.raises(ConflictError, match=r"may go on|went on|fast-forwarded"):
                await hand_over(one.runtime, "a", two.runtime)
            assert (await one.runtime.get_execution("a")).moved_to is None  # refused before it was stopped

    drive(test)


@pytest.mark.parametrize("lost", [False, True])
def test_a_frozen_record_vouches_for_the_whole_history(lost: bool) -> None:
    """Also for what its last owner committed and died before it told the record: an end that is lost later is found.

    Where it is lost before, nothing is frozen: the run's history is not what its record knows.
    """

    async def test() -> None:
        a, b = Side(1), Side(2)
        await (await a.runtime.start("flow", 1, id="a")).settle()
        store = a.runtime.store
        record = await store.record("a")
        commits = await store.commits(keys.history(record.run, record.generation))
        last = (await a.host.list(f"h/{record.run}/"))[-1]
        assert record.cursor_length == len(commits) > 1
        if lost:
            await a.host.commit(Batch("ab" * 8, (Check(last.key, last.version),), (), (last.key,)))
            with pytest.raises(StoreError, match="does not end as its record says"):
                await a.local.freeze("a", "b", await b.local.identity())
            return
        before = indexes_of(record)
        record.cursor_length, record.head = len(commits) - 1, digest_of(commits[-2])
        write = Write({keys.record("a"): record.version_tag})
        store.put_record(write, record, before)
        await store.commit(write)
        await a.local.freeze("a", "b", await b.local.identity())
        frozen = await store.record("a")
        assert (frozen.cursor_length, frozen.head) == (len(commits), digest_of(commits[-1]))
        await a.host.commit(Batch("cd" * 8, (Check(last.key, last.version),), (), (last.key,)))
        with pytest.raises(StoreError, match="does not end as its record says"):
            await a.runtime.history("a")

    drive(test)
