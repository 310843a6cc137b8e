"""Export, import, hand-over, fork, delete, and another host under a runtime."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from alkaline_edge import (
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Run,
    Runtime,
    StoreError,
    hand_over,
    migrate,
    workflow,
)
from alkaline_edge.codec import Codec
from alkaline_edge.errors import UnknownOutcome
from alkaline_edge.runtime import inbox
from alkaline_edge.runtime.handing import Local
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from tests.support import Process, drive, kinds

ran: list[Any] = []


async def work(n: int) -> Any:
    ran.append(n)
    return n * 10


@workflow
async def flow(ctx: Context, size: int) -> Any:
    ran_before = [await ctx.step("work", work, n) for n in range(3)]
    big = await ctx.step("big", lambda: "x" * size)
    await ctx.wait_for_signal("go")
    return [ran_before, len(big), await ctx.wait_for_signal("more", timeout=5, default="none")]


async def suspended(size: int = 10) -> Process:
    ran.clear()
    process = Process(flow)
    await (await process.runtime.start("flow", size, id="a")).settle()
    return process


def test_a_copy_is_paused_and_goes_on_when_it_is_resumed() -> None:
    """An imported run never resumes by itself; resumed, it repeats no step, large values included."""

    async def test() -> None:
        process = await suspended(size=400_000)
        bundle = await process.runtime.export("a")
        other = Process(flow, host=SimulatedHost(seed=2))
        await other.runtime.import_(bundle)
        await other.runtime.recover()
        await other.runtime.run_due()
        assert (await other.runtime.get_execution("a")).status == "paused"
        assert await other.runtime.export("a") != b""
        run = await other.runtime.resume("a")
        await run.signal("go")
        assert await run.result() == [[0, 10, 20], 400_000, "none"]
        assert ran == [0, 1, 2]
        with pytest.raises(ConflictError, match="exists here already"):
            await other.runtime.import_(bundle)
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_hand_over_freezes_the_source_and_carries_unread_signals_and_dedupe_keys() -> None:
    """At no moment can two hosts advance the run; doing it twice changes nothing."""

    async def test() -> None:
        process = await suspended()
        await process.runtime.signal("a", "go", dedupe="k")
        await process.runtime.settle("a")
        bundle = await process.runtime.export("a", handoff=True)
        assert await process.runtime.export("a", handoff=True) == bundle
        for refused in (process.runtime.resume("a"), process.runtime.signal("a", "x")):
            with pytest.raises(ConflictError, match="handed over"):
                await refused
        await process.runtime.recover()
        await process.runtime.run_due()
        other = Process(flow, host=SimulatedHost(seed=2))
        run = await other.runtime.import_(bundle, mode="take_over")
        await other.runtime.import_(bundle, mode="take_over")
        await run.signal("go", dedupe="k")
        assert await run.result() == [[0, 10, 20], 10, "none"]
        assert kinds(await other.runtime.history("a")).count("SignalReceived") == 1
        assert (await process.runtime.get_execution("a")).moved_to is not None
        back = await other.runtime.export("a", handoff=True)
        home = await process.runtime.import_(back, mode="take_over")
        assert await home.result() == [[0, 10, 20], 10, "none"]
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


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


@pytest.mark.parametrize("damage", ["gap", "swap", "edit", "tail"])
def test_a_damaged_history_is_found(damage: str) -> None:
    """A gap, a swap, an edit or a lost end is ERR_STORE, and nothing runs."""

    async def test() -> None:
        process = await suspended()
        record = await process.runtime.get_execution("a")
        entries = process.host.store.entries
        keys = sorted(k for k in entries if k.startswith(f"h/{record.run}/"))
        if damage == "gap":
            del entries[keys[2]]
        elif damage == "tail":
            del entries[keys[-1]]
        elif damage == "swap":
            a, b = entries[keys[1]], entries[keys[2]]
            entries[keys[1]], entries[keys[2]] = a._replace(value=b.value), b._replace(value=a.value)
        else:
            entry = entries[keys[1]]
            entries[keys[1]] = entry._replace(value=entry.value[:-1] + bytes([entry.value[-1] ^ 1]))
        process.host.store.keys = sorted(entries)
        await process.crash()
        ran.clear()
        with pytest.raises(StoreError, match=r"restore it|Restore it"):
            await (await process.runtime.resume("a")).result()
        assert ran == []
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


def test_a_fork_goes_on_from_a_commit_with_an_edited_result() -> None:
    """The original is untouched; the fork repeats only what comes behind the place."""

    async def test() -> None:
        process = await suspended()
        ran.clear()
        fork = await process.runtime.fork("a", 3, edit={"2": 777})
        assert (await process.runtime.get_execution(fork.id)).status == "paused"
        await fork.resume()
        await fork.signal("go")
        assert await fork.result() == [[0, 777, 20], 10, "none"]
        assert ran == [2]
        assert (await process.runtime.get_execution("a")).status == "suspended"
        with pytest.raises(InvalidInput, match="nothing in the first 2 commits is called 9"):
            await process.runtime.fork("a", 2, edit={"9": 1})
        await process.runtime.close()

    drive(test)


def test_delete_leaves_nothing_behind() -> None:
    """A run that has not ended is refused; one that has goes with all its keys."""

    async def test() -> None:
        process = await suspended(size=400_000)
        with pytest.raises(ConflictError, match="cancel it first"):
            await process.runtime.delete("a")
        await process.runtime.signal("a", "go", dedupe="k")
        await process.runtime.result("a", None)
        await process.runtime.delete("a")
        assert process.host.store.entries == {}
        with pytest.raises(NotFound):
            await process.runtime.get_execution("a")
        await process.runtime.close()

    drive(test)


def test_a_runtime_goes_on_upon_another_host() -> None:
    """swap_host copies everything, and the run ends there; a host that holds other runs is refused."""

    async def test() -> None:
        process = await suspended()
        target = SimulatedHost(seed=3)
        await process.runtime.swap_host(target)
        await process.runtime.signal("a", "go")
        assert await process.runtime.result("a", None) == [[0, 10, 20], 10, "none"]
        assert ran == [0, 1, 2]
        assert (await Runtime(process.host.reopen(), workflows=[flow]).get_execution("a")).status == "suspended"
        foreign = Process(flow, host=SimulatedHost(seed=9))
        await foreign.runtime.start("flow", 1, id="other")
        with pytest.raises(ConflictError, match="empty store"):
            await migrate(target, foreign.host)
        await process.runtime.close()
        await foreign.runtime.close()

    drive(test)


@pytest.mark.parametrize("how", ["take_over", "hand_over"])
def test_the_pause_of_a_move_that_was_cut_off_does_not_go_with_the_run(how: str) -> None:
    """Nobody has read it when the run is moved for good: it would be paused where it arrives, by nobody's wish."""

    @workflow
    async def waits(ctx: Context) -> int:
        await ctx.wait_for_signal("go")
        return 7

    async def test() -> None:
        process = Process(waits)
        one, two = process.runtime, Runtime(SimulatedHost(), workflows=[waits])
        run = await one.start(waits, id="a")
        await run.settle()
        await inbox.send(one.store, "a", "pause", "", None, mark=inbox.OF_A_MOVE)  # and there it was cut off
        if how == "hand_over":
            await hand_over(one, "a", two)
        else:
            await two.import_(await one.export("a", handoff=True), mode="take_over")
        await two.run_due()
        assert (await two.get_execution("a")).status == "suspended"
        await two.signal("a", "go")
        assert await Run(two, "a").result() == 7

    drive(test)


def test_a_move_that_is_refused_after_it_stopped_the_run_lets_it_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has taken the run up meanwhile: nobody wished it paused."""
    gate = asyncio.Event()

    async def gated() -> int:
        await gate.wait()
        return 3

    @workflow
    async def works(ctx: Context) -> int:
        return await ctx.step("gated", gated) + await ctx.step("more", lambda: 4)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[works]) as runtime:
            run = await runtime.start(works, id="a")
            answers = iter([False])

            async def held_by_other(record: Any) -> bool:
                return next(answers, True)

            monkeypatch.setattr(runtime.leases, "held_by_other", held_by_other)
            export = asyncio.ensure_future(runtime.export("a", handoff=True))
            for _ in range(50):
                await asyncio.sleep(0)
            gate.set()
            with pytest.raises(ConflictError, match="held by another owner"):
                await export
            monkeypatch.undo()
            assert await run.result(timeout=5) == 7

    drive(test)


@pytest.mark.parametrize("state", ["paused", "suspended", "running"])
def test_a_run_whose_code_is_gone_is_deleted_a_minute_after_its_cancel(state: str) -> None:
    """Not before, not while somebody has it, and not while its parent waits for it; nothing of it is left."""

    async def stays() -> None:
        await asyncio.Event().wait()

    @workflow
    async def lost(ctx: Context) -> None:
        if state == "running":
            await ctx.step("stays", stays)
        await ctx.wait_for_signal("never")

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        runtime = Runtime(host, workflows=[lost])
        run = await runtime.start(lost, id="a")
        if state == "running":
            await asyncio.sleep(0)
        else:
            await run.settle()
        if state == "paused":
            await run.pause()
            await run.settle()
        host.dead = True
        host = host.reopen()
        other = Runtime(host)
        host.advance(31)  # its lease is over
        with pytest.raises(ConflictError, match="cancel it first"):
            await other.delete("a")
        await other.cancel("a", "its code is gone")
        host.advance(59)
        with pytest.raises(ConflictError, match="a minute after its cancel"):
            await other.delete("a")
        host.advance(1.1)
        await other.delete("a")
        assert list(host.store.keys) == []

    drive(test)


def test_a_paused_run_is_cancelled_before_it_is_deleted() -> None:
    """It has not ended; a copy of it, and a fork that nobody has resumed, are deleted as they are."""

    async def test() -> None:
        process, other = await suspended(), Process(flow, host=SimulatedHost(seed=2))
        await other.runtime.import_(await process.runtime.export("a"))
        await process.runtime.pause("a")
        await process.runtime.settle("a")
        with pytest.raises(ConflictError, match="is paused; cancel it first"):
            await process.runtime.delete("a")
        fork = await process.runtime.fork("a", 2)
        await process.runtime.delete(fork.id)
        await other.runtime.delete("a")
        assert other.host.store.entries == {}
        await process.runtime.cancel("a")
        await process.runtime.settle("a")
        await process.runtime.delete("a")
        assert process.host.store.entries == {}
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


@pytest.mark.parametrize("kind", ["crash", "crash-after", "applied-then-error", "applied-then-conflict"])
def test_a_delete_that_was_cut_says_so_until_it_is_done(kind: str) -> None:
    """Nobody takes what is half gone for a damaged run: verbs name the one that ends it; then nothing is left."""

    async def test() -> None:
        for at in range(1, 40):
            process = await suspended(size=400_000)
            await process.runtime.cancel("a")
            await process.runtime.settle("a")
            calls = process.host.calls
            process.host.fault = lambda n, verb, at=calls + at: kind if n == at else None
            with contextlib.suppress(SimulatedCrash, ConflictError, UnknownOutcome):
                await process.runtime.delete("a")
            done = process.host.calls < calls + at
            await process.crash()
            record = await process.runtime.store.find("a")
            if record is not None and record.moved_to is not None:
                for verb in (process.runtime.export, Local(process.runtime).place):
                    with pytest.raises(ConflictError, match="call delete again"):
                        await verb("a")
            if record is not None:
                await process.runtime.delete("a")
            assert process.host.store.entries == {}
            await process.runtime.close()
            if done:
                return
        raise AssertionError("delete never ended without a fault")

    drive(test)


def test_a_child_is_not_deleted_before_its_parent_has_read_its_large_result() -> None:
    """The parent reads it from the child's record; with it gone, the parent would wait for ever."""

    @workflow
    async def kid(ctx: Context) -> str:
        await ctx.wait_for_signal("go")
        return "y" * 300_000

    @workflow
    async def parent(ctx: Context) -> int:
        return len(await ctx.child(kid, id="kid"))

    async def test() -> None:
        process = Process(kid, parent)
        await (await process.runtime.start("parent", id="p")).settle()
        await process.crash(kid)
        await process.runtime.signal("kid", "go")
        await (await process.runtime.resume("kid")).result()
        with contextlib.suppress(ConflictError):
            await process.runtime.delete("kid")
        await process.crash(kid, parent)
        assert await (await process.runtime.resume("p")).result(timeout=60) == 300_000
        with contextlib.suppress(NotFound):
            await process.runtime.delete("kid")
        await process.runtime.close()

    drive(test)
