"""Runs that change stores: epochs rise with each move, what lives is not written over, what is half there stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, Runtime, keys, workflow
from alkaline_edge.history import Cursor
from alkaline_edge.host import Batch, Put
from alkaline_edge.runtime import arriving
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.moved import ARRIVING
from alkaline_edge.runtime.syncing import sync
from alkaline_edge.runtime.write import Write, indexes_of
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


async def quick(n: int) -> int:
    return n


@workflow
async def flow(ctx: Context) -> Any:
    await ctx.step("quick", quick, 1)
    return await ctx.wait_for_signal("go")


async def change(runtime: Runtime, **fields: Any) -> None:
    """Write the record of run a with other values."""
    record = await runtime.store.record("a")
    before = indexes_of(record)
    for name, value in fields.items():
        setattr(record, name, value)
    write = Write({"r/a": record.version_tag})
    runtime.store.put_record(write, record, before)
    await runtime.store.commit(write)


async def started() -> Runtime:
    runtime = Runtime(SimulatedHost(), workflows=[flow])
    await (await runtime.start(flow, id="a")).settle()
    return runtime


def test_the_epoch_rises_as_a_run_leaves_and_as_it_arrives() -> None:
    """So whoever had it before can write it no more, in neither store."""

    async def test() -> None:
        source, target = await started(), Runtime(SimulatedHost(seed=5), workflows=[flow])
        before = (await source.store.record("a")).epoch
        bundle = await source.export("a", handoff=True)
        frozen = await source.store.record("a")
        assert (frozen.epoch, frozen.owner) == (before + 1, None)
        await target.store.host.commit(Batch("1", (), (), ()))
        target.fleet.hold("a")
        await target.import_(bundle, mode="take_over")
        assert (await target.store.record("a")).epoch == frozen.epoch + 1
        target.fleet.release("a")
        await source.close()
        await target.close()

    drive(test)


def test_what_has_not_arrived_is_not_exported() -> None:
    """Half of a history would be taken for all of it elsewhere."""

    async def test() -> None:
        runtime = await started()
        await change(runtime, moved_to=ARRIVING, status="paused", owner=None)
        for handoff in (False, True):
            with pytest.raises(ConflictError, match="has not arrived here yet"):
                await runtime.export("a", handoff=handoff)
        await runtime.close()

    drive(test)


def test_what_an_earlier_try_left_is_not_read_behind_what_arrives() -> None:
    """An import that was cut off has written keys that a later bundle of the run has no place for."""

    async def test() -> None:
        source = await started()
        bundle = await source.export("a", handoff=True)
        record = await source.store.record("a")
        host = SimulatedHost(seed=5)
        target = Runtime(host, workflows=[flow])
        await target.import_(bundle, mode="copy")
        await change(target, moved_to=ARRIVING)
        stray = keys.commit(keys.history(record.run, record.generation), 7)
        host.store.apply(Batch("stray", (), (Put(stray, b"of an earlier try"),), ()))
        run = await target.import_(bundle, mode="take_over")
        assert stray not in host.store.keys
        await run.signal("go", 5)
        assert await run.result() == 5
        await source.close()
        await target.close()

    drive(test)


@pytest.mark.parametrize(
    ("fields", "part", "last", "refused"),
    [
        ({"status": "suspended"}, 5, -1, True),
        ({"status": "running", "owner": "somebody"}, 5, -1, True),
        ({"status": "completed"}, 5, -1, True),
        ({"status": "paused", "owner": "somebody"}, 5, -1, True),
        ({"status": "paused"}, 5, 5, True),
        ({"status": "paused"}, 5, 4, False),
        ({"status": "suspended", "moved_to": "elsewhere"}, 5, 9, False),
    ],
)
def test_a_part_is_stored_where_the_run_is_a_copy_or_has_left(
    fields: dict[str, Any], part: int, last: int, refused: bool
) -> None:
    """A run that goes on here, or was taken over here since the part was made, is not written over."""

    async def test() -> None:
        runtime = await started()
        record = await runtime.store.record("a")
        record.owner = None
        for name, value in fields.items():
            setattr(record, name, value)
        given: Any = SimpleNamespace(epoch=part)
        if refused:
            with pytest.raises(ConflictError, match="only a paused copy"):
                Local(runtime)._accepts(record, given, SimpleNamespace(last=last))
        else:
            Local(runtime)._accepts(record, given, SimpleNamespace(last=last))
        await runtime.close()

    drive(test)


async def another_end(record: Any) -> Cursor:
    """Shorter than what is sent, and with another last commit."""
    return Cursor(1, b"0" * 16)


def test_what_does_not_follow_from_what_is_here_is_refused() -> None:
    """A part whose place is right and whose history is another; a letter for a copy that is not what was frozen."""

    async def test() -> None:
        source, target = await started(), Runtime(SimulatedHost(seed=5), workflows=[flow])
        await sync(source, target, "a")
        here, there = Local(source), Local(target)
        part = await here.part("a", None)
        letter = await here.freeze("a", "there", await there.identity())
        there._end = another_end  # type: ignore[method-assign]
        source_end = await here._end(await source.store.record("a"))
        assert source_end.length >= 2
        with pytest.raises(ConflictError, match="does not follow"):
            await there.accept(part)
        with pytest.raises(ConflictError, match="not what was frozen"):
            await there.take_over(letter)
        await source.close()
        await target.close()

    drive(test)


def test_requests_of_an_earlier_stay_went_with_the_run() -> None:
    """They left with it: read again as it comes back, each would count twice."""

    async def test() -> None:
        runtime = await started()
        await change(runtime, moved_to="elsewhere", status="paused", owner=None)
        place = keys.inbox("a", keys.position(1))
        runtime.store.host.store.apply(Batch("1", (), (Put(place, b"of then"),), ()))  # type: ignore[attr-defined]
        await arriving.claim(runtime.store, await runtime.store.record("a"))
        assert not await runtime.store.keys_under(keys.requests("a"))
        assert (await runtime.store.record("a")).moved_to == ARRIVING
        await runtime.close()

    drive(test)
