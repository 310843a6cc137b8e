"""Purging: what is deleted and what is kept, in pages, into an archive, cut off anywhere."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, InvalidInput, Runtime, StoreError, workflow
from alkaline_edge.board import Board
from alkaline_edge.runtime import purging
from alkaline_edge.runtime.purging import Purged
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore
from alkaline_edge.testing.simulated import FAULTS, crash_at, fault_at
from tests.support import Process, drive
from tests.travellers import unread

DAY = 86_400


@workflow
async def quick(ctx: Context, input: Any = None) -> Any:
    return await ctx.step("do", lambda: input)


@workflow
async def failing(ctx: Context, input: Any = None) -> Any:
    raise ValueError("no")


@workflow
async def waiting(ctx: Context, input: Any = None) -> Any:
    return await ctx.wait_for_signal("go")


FLOWS = [quick, failing, waiting]


def host_of(store: SimulatedStore | None = None) -> SimulatedHost:
    host = SimulatedHost(store) if store is not None else SimulatedHost()
    host.clock.auto = False
    return host


async def ended(runtime: Runtime, workflow: Any, id: str, input: Any = None) -> None:
    await (await runtime.start(workflow, input, id=id)).settle()


async def every(runtime: Runtime, age: float, **given: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await runtime.purge(age, after=after, **given)
        found += page.runs
        after = page.after
    return found


def test_what_ended_long_ago_goes_and_all_else_stays() -> None:
    """By age, to the ms; by status; by workflow; and a run that goes on never. Nothing of what went is left."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            empty = set(host.store.keys)
            await ended(runtime, quick, "old", "x" * 100_000)
            await ended(runtime, failing, "broken")
            await ended(runtime, waiting, "waits")
            host.advance(DAY)
            await ended(runtime, quick, "young")
            assert await every(runtime, DAY + 0.001) == []
            assert await every(runtime, DAY, status="cancelled") == []
            assert await every(runtime, DAY, workflow="waiting") == []
            assert await every(runtime, DAY, dry_run=True) == ["broken", "old"]
            assert [record.id for record in await runtime.list_executions()] == ["broken", "old", "waits", "young"]
            assert await every(runtime, DAY, status="failed") == ["broken"]
            assert await every(runtime, DAY, workflow="quick", status="completed") == ["old"]
            assert await every(runtime, DAY) == []
            await runtime.signal("waits", "go")
            await runtime.settle("waits")
            assert sorted(await every(runtime, 0)) == ["waits", "young"]
            assert set(host.store.keys) == empty

    drive(test)


@pytest.mark.parametrize("seed", range(3))
def test_pages_are_bounded_and_miss_none(seed: int) -> None:
    """Whatever the number of runs and the page's size: each old run is named once, and a call looks at a page alone."""
    rng = random.Random(seed)
    count, limit = rng.choice([1, 6, 7, 8, 23]), rng.choice([1, 7])

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            for n in range(count):
                await ended(runtime, rng.choice(FLOWS[:2]), f"r{n}")
            host.advance(10)
            young = [f"y{n}" for n in range(rng.randrange(5))]
            for id in young:
                await ended(runtime, quick, id)
            found, after = list[str](), ""
            while True:
                page = await runtime.purge(10, after=after, limit=limit)
                assert len(page.runs) <= limit
                found += page.runs
                if page.after is None:
                    break
                after = page.after
            assert sorted(found) == sorted(f"r{n}" for n in range(count))
            assert [record.id for record in await runtime.list_executions(limit=100)] == young

    drive(test)


def test_what_somebody_waits_for_is_kept_and_said() -> None:
    """A child whose parent has not read its result, and a run whose task has not: each with what to do."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            board = Board(runtime, "b")
            task = await board.create("do it", id="t", workflow="quick")
            assert await board.claim("w") is None
            (run,) = [record.id for record in await runtime.list_executions(attributes={"task": "b:t"})]
            await runtime.settle(run)
            purged = await runtime.purge(0)
            assert purged.runs == []
            assert "drive the board first" in purged.kept[run]
            await runtime.run_due()
            assert (await board.get(task.id)).state == "done"
            assert (await runtime.purge(0)).runs == [run]

    drive(test)


def test_an_attribute_of_ones_own_is_no_task() -> None:
    """A run with the attribute ``task`` that no board has goes like any other."""

    async def test() -> None:
        async with Runtime(host_of(), workflows=FLOWS) as runtime:
            for n, text in enumerate(["write", "b:t", "a b:c", ":", "b:" + "x" * 300]):
                run = await runtime.start(quick, id=f"r{n}", attributes={"task": text})
                await run.settle()
            assert len((await runtime.purge(0)).runs) == 5

    drive(test)


def test_a_run_goes_to_the_archive_before_it_goes() -> None:
    """History and result can be read there; large ones too. Done twice, it is there once."""

    async def test() -> None:
        host, archive = host_of(), host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a", "x" * 50_000)
            await ended(runtime, failing, "b")
            before = await runtime.history("a")
            assert (await runtime.purge(0, archive=archive, dry_run=True)).runs == ["a", "b"]
            assert not archive.store.keys
            assert (await runtime.purge(0, archive=archive)).runs == ["a", "b"]
            assert len(await runtime.list_executions()) == 0
            async with Runtime(archive) as there:
                assert (await there.get_execution("a")).result == "x" * 50_000
                assert [each.event for each in await there.history("a")] == [each.event for each in before]
                assert (await there.get_execution("b")).status == "failed"
            await ended(runtime, quick, "a", "another run of that id")
            purged = await runtime.purge(0, archive=archive)
            assert purged.runs == []
            assert "another run 'a'" in purged.kept["a"] or "exists here already" in purged.kept["a"]

    drive(test)


@pytest.mark.parametrize("seed", range(6))
def test_a_purge_that_is_cut_off_is_called_again(seed: int) -> None:
    """Killed at any commit, of the store or of the archive: then each run is in the archive, and none is left."""
    rng = random.Random(seed)

    async def test() -> None:
        process, archive = Process(*FLOWS), host_of()
        for n in range(3):
            await ended(process.runtime, quick, f"r{n}", n)
        for _ in range(rng.randrange(1, 4)):
            victim = rng.choice([process.host, archive])
            at, kind = victim.calls + rng.randrange(1, 30), rng.choice(FAULTS)
            victim.fault = fault_at(at, kind)
            try:
                await every(process.runtime, 0, archive=archive)
            except (SimulatedCrash, AlkalineError):
                pass
            await process.crash()
            archive.dead = True
            archive = archive.reopen()
        await every(process.runtime, 0, archive=archive)
        assert len(await process.runtime.list_executions()) == 0
        async with Runtime(archive) as there:
            assert [record.result for record in await there.list_executions()] == [0, 1, 2]
        await process.runtime.close()

    drive(test)


def test_what_can_not_be_is_refused() -> None:
    """Each by the name of its argument, and nothing is deleted."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")
            wrong: list[dict[str, Any]] = [
                {"older_than": -1}, {"older_than": "x"}, {"older_than": 0, "status": "running"},
                {"older_than": 0, "limit": 0}, {"older_than": 0, "limit": 1_001}, {"older_than": 0, "after": "x"},
                {"older_than": 0, "workflow": "a b"}, {"older_than": 0, "dry_run": 1},
                {"older_than": 0, "archive": host}, {"older_than": 0, "archive": 5},
            ]  # fmt: skip
            for given in wrong:
                with pytest.raises((InvalidInput, StoreError)):
                    await runtime.purge(**given)
            assert len(await runtime.list_executions()) == 1

    drive(test)


def test_a_page_that_was_cut_off_in_a_delete_is_ended() -> None:
    """A run that is half deleted is named until it is gone."""

    async def test() -> None:
        process = Process(*FLOWS)
        await ended(process.runtime, quick, "a")
        process.host.fault = crash_at(process.host.calls + 8)
        with pytest.raises((SimulatedCrash, AlkalineError)):
            await process.runtime.purge(0)
        await process.crash()
        assert (await process.runtime.get_execution("a")).moved_to is not None
        assert await process.runtime.purge(0) == Purged(["a"], {}, None)
        await process.runtime.close()

    drive(test)


def test_a_child_whose_parent_has_yet_to_read_its_result_is_kept_also_by_a_dry_run() -> None:
    """What a dry run says would go, goes; and what it keeps, it says."""

    async def test() -> None:
        process = await unread()
        for dry_run in (True, False):
            purged = await process.runtime.purge(0, dry_run=dry_run)
            assert (purged.runs, list(purged.kept)) == ([], ["kid"])
        await process.runtime.close()

    drive(test)


def test_a_delete_that_was_cut_off_behind_its_archiving_is_ended() -> None:
    """What is half gone can't be archived again, and needs not be."""

    async def test() -> None:
        process, archive = Process(*FLOWS), host_of()
        await ended(process.runtime, quick, "a")
        process.host.fault = crash_at(process.host.calls + 8)
        with pytest.raises((SimulatedCrash, AlkalineError)):
            await process.runtime.purge(0)
        await process.crash()
        assert (await process.runtime.get_execution("a")).moved_to is not None
        assert await process.runtime.purge(0, archive=archive) == Purged(["a"], {}, None)
        await process.runtime.close()

    drive(test)


def test_a_store_that_does_not_answer_is_told_and_is_no_runs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that can't reach its store says so, and names no run as kept."""

    async def test() -> None:
        async with Runtime(host_of(), workflows=FLOWS) as runtime:
            await ended(runtime, quick, "a")

            async def gone(*given: Any) -> None:
                raise StoreError("the store does not answer")

            monkeypatch.setattr(purging.moving, "delete", gone)
            with pytest.raises(StoreError, match="does not answer"):
                await runtime.purge(0)
            monkeypatch.undo()

    drive(test)


def test_a_run_that_another_process_has_purged_meanwhile_is_neither_gone_nor_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the other one's to say."""

    async def test() -> None:
        host = host_of()
        async with Runtime(host, workflows=FLOWS) as runtime, Runtime(host_of(host.store)) as other:
            await ended(runtime, quick, "a")
            await ended(runtime, quick, "b")
            check_task = purging._check_task

            async def meanwhile(store: Any, record: Any) -> None:
                await check_task(store, record)
                if record.id == "a":
                    await other.delete("a")

            monkeypatch.setattr(purging, "_check_task", meanwhile)
            assert await runtime.purge(0) == Purged(["b"], {}, None)
            monkeypatch.undo()

    drive(test)
