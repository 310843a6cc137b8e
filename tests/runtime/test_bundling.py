"""Bundles: what is exported can be imported, and of what somebody has changed nothing is written."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    ConflictError,
    Context,
    InvalidInput,
    StoreError,
    hand_over,
    keys,
    workflow,
)
from alkaline_edge.codec import Codec
from alkaline_edge.host import Batch, Conflict, Put
from alkaline_edge.runtime.moved import ARRIVING
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, change, drive
from tests.travellers import flow, suspended


def test_every_damaged_byte_of_a_bundle_is_refused_and_nothing_is_written() -> None:
    """One bit flipped anywhere: a typed error, and an empty store stays empty."""

    async def test() -> None:
        process = await suspended()
        bundle = await process.runtime.export("a")
        other = Process(flow, host=SimulatedHost(seed=2))
        for place in range(len(bundle)):
            damaged = bundle[:place] + bytes([bundle[place] ^ 0x10]) + bundle[place + 1 :]
            with pytest.raises((InvalidInput, StoreError)):
                await other.runtime.import_(damaged)
        for cut in (0, 1, len(bundle) // 2, len(bundle) - 1):
            with pytest.raises(InvalidInput):
                await other.runtime.import_(bundle[:cut])
        assert other.host.store.entries == {}
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_newer_format_is_refused_with_the_version_that_is_needed() -> None:
    """A history of a later format is left alone, and the message names the format."""

    async def test() -> None:
        process = await suspended()
        codec = Codec()
        raw = codec.decode(await process.runtime.export("a"))
        raw[1] = 9
        with pytest.raises(InvalidInput, match="format 9"):
            await process.runtime.import_(codec.encode(raw))
        record = await process.runtime.get_execution("a")
        key = next(k for k in process.host.store.entries if k.startswith(f"h/{record.run}/a0"))
        first = codec.decode(process.host.store.entries[key].value)
        first[0] = first[0][:13] + b"\x00\x00\x07"
        process.host.store.entries[key] = process.host.store.entries[key]._replace(value=codec.encode(first))
        await process.crash()
        with pytest.raises(StoreError, match="format 7"):
            await process.runtime.history("a")
        await process.runtime.close()

    drive(test)


def test_a_large_signal_that_is_carried_over_can_be_exported() -> None:
    """The header of a history stays in its commit, however large what it carries."""

    @workflow
    async def carries(ctx: Context, n: int) -> Any:
        if n == 0:
            await ctx.wait_for_signal("next")
            ctx.continue_as_new(1)
        return len(await ctx.wait_for_signal("large"))

    async def test() -> None:
        process = Process(carries)
        run = await process.runtime.start("carries", 0, id="c")
        await run.signal("large", "x" * 200_000)
        await run.signal("next")
        assert await run.result() == 200_000
        other = Process(carries, host=SimulatedHost(seed=4))
        imported = await other.runtime.import_(await process.runtime.export("c"))
        assert await imported.result() == 200_000
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


@pytest.mark.parametrize("damage", ["time", "event", "header"])
def test_a_bundle_of_wrong_shapes_with_right_digests_is_refused(damage: str) -> None:
    """An edit that computes every digest anew is still a typed error."""
    from hashlib import sha256

    async def test() -> None:
        process = await suspended()
        codec = Codec()
        raw = codec.decode(await process.runtime.export("a"))
        commit = codec.decode(raw[3][0])
        if damage == "time":
            commit[1] = "soon"
        elif damage == "event":
            commit[2] = {}
        else:
            commit[2][1] = "header"
        raw[3] = [codec.encode(commit)]
        raw[5] = sha256(codec.encode(raw[:5])).digest()
        other = Process(flow, host=SimulatedHost(seed=2))
        with pytest.raises((InvalidInput, StoreError)):
            await other.runtime.import_(codec.encode(raw))
        assert other.host.store.entries == {}
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_run_that_comes_back_rises_above_whoever_had_it_here() -> None:
    """A copy that was driven here has an epoch of its own; who drove it can write the run no more."""

    async def test() -> None:
        process, other = await suspended(), Process(flow, host=SimulatedHost(seed=2))
        await other.runtime.import_(await process.runtime.export("a"))
        await change(other.runtime, epoch=50)
        other.runtime.fleet.hold("a")
        await other.runtime.import_(await process.runtime.export("a", handoff=True), mode="take_over")
        assert (await other.runtime.get_execution("a")).epoch == 51
        other.runtime.fleet.release("a")
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


@pytest.mark.parametrize("generations", [1, 2])
def test_a_copy_makes_no_way_for_a_history_that_parted_from_it(generations: int) -> None:
    """The source came back from a backup and went another way, or is a generation behind: nothing is written over."""

    @workflow
    async def parts(ctx: Context, n: int = 0) -> Any:
        word = await ctx.wait_for_signal("word")
        if generations == 2 and n == 0:
            ctx.continue_as_new(1)
        return [word, await ctx.wait_for_signal("end")]

    async def test() -> None:
        process, other = Process(parts), Process(parts, host=SimulatedHost(seed=2))
        run = await process.runtime.start(parts, id="a")
        await run.settle()
        backup = dict(process.host.store.entries)
        await run.signal("word", 1)
        await run.settle()
        await other.runtime.import_(await process.runtime.export("a"))
        before = await other.runtime.history("a")
        restored = Process(parts, host=SimulatedHost(seed=3))
        for entry in backup.values():
            restored.host.store.apply(Batch("restored", (), (Put(entry.key, entry.value),), ()))
        restored.host.advance(60)
        if generations == 1:
            await restored.runtime.signal("a", "word", 2)
            await restored.runtime.run_due()
            await restored.runtime.settle("a")
        bundle = await restored.runtime.export("a", handoff=True)
        with pytest.raises(ConflictError, match="exists here already"):
            await other.runtime.import_(bundle, mode="take_over")
        assert await other.runtime.history("a") == before
        for each in (process, other, restored):
            await each.runtime.close()

    drive(test)


@pytest.mark.parametrize("how", ["take_over", "hand_over"])
def test_a_budget_that_a_family_shares_goes_with_the_run(how: str) -> None:
    """Children that are started at the new place spend of what is left."""

    @workflow
    async def kid(ctx: Context) -> None:
        ctx.spend(1)

    @workflow(budget=Budget(tokens=100))
    async def parent(ctx: Context) -> None:
        await ctx.child(kid, id="kid")
        await ctx.step("work", lambda: None, cost=60)
        await ctx.wait_for_signal("go")

    async def test() -> None:
        process, other = Process(kid, parent), Process(kid, parent, host=SimulatedHost(seed=2))
        await (await process.runtime.start(parent, id="a")).settle()
        key = keys.shared((await process.runtime.get_execution("a")).run)
        (before,) = await process.host.get([key])
        assert before is not None
        if how == "hand_over":
            await hand_over(process.runtime, "a", other.runtime)
        else:
            await other.runtime.import_(await process.runtime.export("a", handoff=True), mode="take_over")
        (after,) = await other.host.get([key])
        assert after is not None
        assert (
            process.runtime.codec.decode(after.value)[:2] == process.runtime.codec.decode(before.value)[:2] == [61, 0]
        )
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


async def commits_of_import(process: Process, bundle: bytes, act: Any = None) -> list[Batch]:
    """Import the bundle; call ``act`` with the batches so far right before the last of its commits."""
    host, seen = process.host, list[Batch]()
    commit = host.commit

    async def watched(batch: Batch) -> Any:
        seen.append(batch)
        if act is not None and any(put.key == "r/a" and ARRIVING.encode() not in put.value for put in batch.puts):
            host.commit = commit  # type: ignore[method-assign]
            await act(seen)
        return await commit(batch)

    host.commit = watched  # type: ignore[method-assign]
    try:
        await process.runtime.import_(bundle, mode="take_over")
    finally:
        host.commit = commit  # type: ignore[method-assign]
    return seen


def test_an_import_that_another_one_overtakes_writes_no_record() -> None:
    """The other one has claimed the run meanwhile, or has it already and goes on."""

    async def test() -> None:
        process, other = await suspended(), Process(flow, host=SimulatedHost(seed=2))
        bundle = await process.runtime.export("a", handoff=True)

        async def overtake(seen: list[Batch]) -> None:
            await change(other.runtime, attempt=77)

        with pytest.raises(ConflictError):
            await commits_of_import(other, bundle, overtake)
        assert (await other.runtime.store.record("a")).attempt == 77
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_delete_of_what_an_earlier_import_left_that_lands_late_deletes_nothing() -> None:
    """It was on its way as this import went on: what that has written since is not what it was to delete."""

    async def test() -> None:
        process, other = await suspended(), Process(flow, host=SimulatedHost(seed=2))
        bundle = await process.runtime.export("a", handoff=True)
        await other.runtime.import_(bundle)
        await change(other.runtime, moved_to=ARRIVING)
        late: list[Any] = []

        async def lands(seen: list[Batch]) -> None:
            deletes = [batch for batch in seen if batch.deletes and not batch.puts]
            late.extend([await other.host.commit(batch) for batch in deletes])

        await commits_of_import(other, bundle, lands)
        assert late
        assert all(isinstance(each, Conflict) for each in late)
        await other.runtime.signal("a", "go")
        assert (await other.runtime.result("a", None))[0] == [0, 10, 20]
        await process.runtime.close()
        await other.runtime.close()

    drive(test)
