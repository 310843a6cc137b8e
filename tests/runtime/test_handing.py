"""Runs that change stores: epochs rise with each move, what lives is not written over, what is half there stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, Runtime, hand_over, keys, workflow
from alkaline_edge.history import Cursor
from alkaline_edge.host import Batch, Put
from alkaline_edge.runtime import arriving
from alkaline_edge.runtime.frozen import may_be_replaced
from alkaline_edge.runtime.handing import Local
from alkaline_edge.runtime.moved import ARRIVING, DELETING
from alkaline_edge.runtime.syncing import sync
from alkaline_edge.testing import SimulatedHost
from tests.support import change, drive
from tests.travellers import kid, parent, unread


async def quick(n: int) -> int:
    return n


@workflow
async def flow(ctx: Context) -> Any:
    await ctx.step("quick", quick, 1)
    return await ctx.wait_for_signal("go")


async def started(seed: int = 0) -> Runtime:
    runtime = Runtime(SimulatedHost(seed=seed), workflows=[flow])
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


def target_of(*workflows: Any) -> Runtime:
    return Runtime(SimulatedHost(seed=5), workflows=workflows or [flow])


def before_commit(runtime: Runtime, number: int, act: Callable[[Batch], Awaitable[Any]]) -> list[Batch]:
    """Call ``act`` right before the commit of that ``number``, from 1; the batches so far, which grow."""
    seen: list[Batch] = []
    commit = runtime.host.commit

    async def watched(batch: Batch) -> Any:
        seen.append(batch)
        if len(seen) == number:
            await act(batch)
        return await commit(batch)

    runtime.host.commit = watched  # type: ignore[method-assign]
    return seen


async def nothing(batch: Batch) -> None:
    """See ``before_commit``."""


def test_a_part_for_another_run_or_one_that_is_being_deleted_is_refused() -> None:
    """And nothing is written beside what is there."""

    async def test() -> None:
        source = await started()
        part = await Local(source).part("a", None)
        other = await started(seed=3)
        with pytest.raises(ConflictError, match="another run has the id"):
            await Local(other).accept(part)
        target = target_of()
        await Local(target).accept(part)
        at = await Local(target).place("a")
        await source.signal("a", "go", 5)
        assert await source.result("a", None) == 5
        rest = await Local(source).part("a", at)
        await change(target, moved_to=DELETING)
        before = [*target.host.store.keys]  # type: ignore[attr-defined]
        with pytest.raises(ConflictError, match="delete"):
            await Local(target).accept(rest)
        assert [*target.host.store.keys] == before  # type: ignore[attr-defined]
        for runtime in (source, other, target):
            await runtime.close()

    drive(test)


def test_a_part_that_comes_late_does_no_harm_to_a_run_that_went_on() -> None:
    """All that it brings is there already: it is answered by where the run stands now."""

    async def test() -> None:
        source, target = await started(), target_of()
        part = await Local(source).part("a", None)
        await hand_over(source, "a", target)
        await target.signal("a", "go", 5)
        assert await target.result("a", None) == 5
        place = await Local(target).accept(part)
        assert place.status == "completed"
        await source.close()
        await target.close()

    drive(test)


def test_a_copy_that_went_another_way_gets_no_part() -> None:
    """It is as long as what is here, and its last commit is another one."""

    async def test() -> None:
        source, target = await started(), target_of()
        await sync(source, target, "a")
        at = await Local(target).place("a")
        assert at is not None
        with pytest.raises(ConflictError, match="went on at the target"):
            await Local(source).part("a", at._replace(head=b"0" * 16))
        await source.close()
        await target.close()

    drive(test)


def test_a_copy_that_is_resumed_while_a_part_is_stored_is_not_paused_by_it() -> None:
    """Whoever changed its record first has the run; the part is refused, and may be sent again."""

    async def test() -> None:
        source, target = await started(), target_of()
        part = await Local(source).part("a", None)
        await Local(target).accept(part)
        at = await Local(target).place("a")
        await source.signal("a", "go", 5)
        assert await source.result("a", None) == 5
        rest = await Local(source).part("a", at)
        before_commit(target, 1, lambda batch: change(target, status="suspended"))
        with pytest.raises(ConflictError, match="changed here meanwhile"):
            await Local(target).accept(rest)
        assert (await target.store.record("a")).status == "suspended"
        await source.close()
        await target.close()

    drive(test)


@pytest.mark.parametrize("lives", [{"status": "running", "owner": "x"}, {"status": "paused", "owner": "x"}])
def test_a_letter_does_not_take_over_a_run_that_somebody_drives(lives: dict[str, Any]) -> None:
    """What goes on here went on from where it was: two of it would act twice."""

    async def test() -> None:
        source, target = await started(), target_of()
        await sync(source, target, "a")
        letter = await Local(source).freeze("a", "there", await Local(target).identity())
        await change(target, **lives)
        with pytest.raises(ConflictError):
            await Local(target).take_over(letter)
        record = await target.store.record("a")
        assert (record.status, record.owner) == (lives["status"], lives["owner"])
        await source.close()
        await target.close()

    drive(test)


def test_a_letter_raises_the_epoch_above_that_of_its_source_and_an_old_one_counts_no_more() -> None:
    """Whoever drove the run at the source could write it here otherwise; and one hand-over begins a run once."""

    async def test() -> None:
        source, target = await started(), Runtime(SimulatedHost(seed=5))  # nobody there takes it up
        await hand_over(source, "a", target)
        left, came = await source.store.record("a"), await target.store.record("a")
        assert came.epoch > left.epoch
        assert [may_be_replaced(left, left.epoch + by) for by in (-1, 0, 1)] == [False, True, True]
        await source.close()
        await target.close()

    drive(test)


def test_requests_are_brought_by_who_has_the_record_alone() -> None:
    """A second import that has claimed it meanwhile brings them itself: each would be there twice."""

    async def test() -> None:
        source, target = await started(), target_of()
        await sync(source, target, "a")
        await source.pause("a")
        await source.settle("a")
        await source.signal("a", "go", 5)
        requests = await arriving.requests_of(source.store, await source.store.record("a"))
        assert requests
        claimed = await target.store.record("a")
        await change(target, moved_to=ARRIVING)
        with pytest.raises(ConflictError):
            await arriving.bring(target.store, claimed, requests, [])
        assert not await target.store.keys_under(keys.requests("a"))
        await source.close()
        await target.close()

    drive(test)


def test_a_run_that_has_yet_to_read_its_childs_large_result_is_not_handed_over() -> None:
    """The result stands in the child's record, which stays here: it is handed over once it has read that."""

    async def test() -> None:
        process = await unread()
        async with Runtime(SimulatedHost(seed=2), workflows=[kid, parent]) as target:
            with pytest.raises(ConflictError, match="before it has read how its child 'kid' ended"):
                await hand_over(process.runtime, "p", target)
            assert (await process.runtime.get_execution("p")).moved_to is None
        await process.runtime.close()

    drive(test)
