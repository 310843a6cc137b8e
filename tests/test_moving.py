"""Export, import, hand-over, fork, delete, and another host under a runtime."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from alkaline_edge import (
    AlkalineError,
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Run,
    Runtime,
    hand_over,
    workflow,
)
from alkaline_edge.errors import UnknownOutcome
from alkaline_edge.host import Capabilities
from alkaline_edge.runtime import moving
from alkaline_edge.runtime.handing import Local
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from alkaline_edge.testing.simulated import crash_at
from tests.support import Process, drive, kinds
from tests.travellers import flow, kid, parent, ran, suspended, unread


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


@pytest.mark.parametrize("how", ["take_over", "hand_over"])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("driven", [True, False])
def test_a_pause_goes_with_the_run(how: str, begun: bool, driven: bool) -> None:
    """There and back it stays paused and runs no step, until it is resumed; a move pauses nothing by itself."""
    did: list[int] = []

    @workflow
    async def held(ctx: Context) -> int:
        await ctx.wait_for_signal("go")
        await ctx.step("did", lambda: did.append(1))
        return 7

    async def move(a: Runtime, b: Runtime) -> None:
        if how == "hand_over":
            await hand_over(a, "a", b)
        else:
            await b.import_(await a.export("a", handoff=True), mode="take_over")
        await b.run_due()
        await b.settle("a")

    async def test() -> None:
        host = SimulatedHost()
        one, two = Runtime(host, workflows=[held]), Runtime(SimulatedHost(clock=host.clock), workflows=[held])
        run = await one.start(held, id="a")
        if begun:
            await run.settle()
        await move(one, two)
        await move(two, one)
        assert (await one.get_execution("a")).status == "suspended"  # nobody has paused it
        assert "Paused" not in kinds(await one.history("a"))
        await one.pause("a")
        if driven:
            await one.settle("a")
        await one.signal("a", "go")
        for a, b in ((one, two), (two, one), (one, two)):
            await move(a, b)
            assert (await b.get_execution("a")).status == "paused"
            assert did == []
        run = await two.resume("a")
        assert await run.result() == 7
        assert did == [1]

    drive(test)


@pytest.mark.parametrize("how", ["export", "hand_over"])
@pytest.mark.parametrize("cut", range(14))
def test_a_move_that_is_cut_off_and_given_up_leaves_no_pause(how: str, cut: int) -> None:
    """Whoever drives the run next goes on with it: nothing durable says that it was to stop for a move."""
    gate = asyncio.Event()

    async def gated() -> int:
        await gate.wait()
        return 3

    @workflow
    async def works(ctx: Context) -> int:
        await ctx.step("gated", gated)
        await ctx.sleep(0.5)
        return await ctx.step("more", lambda: 4)

    async def test() -> None:
        process, two = Process(works), Runtime(SimulatedHost(seed=4), workflows=[works])
        await process.runtime.start(works, id="a")
        await process.runtime.get_execution("a")
        process.host.fault = crash_at(process.host.calls + cut)
        move = process.runtime.export("a", handoff=True) if how == "export" else hand_over(process.runtime, "a", two)
        task = asyncio.ensure_future(move)
        for _ in range(50):
            await asyncio.sleep(0)
        gate.set()
        with contextlib.suppress(SimulatedCrash, AlkalineError):
            await task
        runtime = await process.crash()
        if (await runtime.get_execution("a")).moved_to is None:
            assert (await runtime.get_execution("a")).status != "paused"
            await runtime.recover()
            await runtime.run_due()
            process.host.advance(1)
            await runtime.run_due()
            assert await Run(runtime, "a").result(timeout=5) == 4
        await runtime.close()
        await two.close()

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

    async def test() -> None:
        process = await unread()
        with contextlib.suppress(ConflictError):
            await process.runtime.delete("kid")
        await process.crash(kid, parent)
        assert await (await process.runtime.resume("p")).result(timeout=60) == 300_000
        with contextlib.suppress(NotFound):
            await process.runtime.delete("kid")
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("how", ["export", "hand_over"])
def test_who_waits_for_a_run_that_leaves_is_told_where_it_went(how: str) -> None:
    """``result`` and ``events`` end: nothing more is to come here."""
    gate = asyncio.Event()

    @workflow
    async def works(ctx: Context) -> int:
        return await ctx.step("gated", gate.wait) + await ctx.step("more", lambda: 4)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[works]) as one, Runtime(SimulatedHost(seed=2)) as two:
            run = await one.start(works, id="a")

            async def listen() -> None:
                async for _ in run.events():
                    pass

            waiting = [asyncio.ensure_future(run.result()), asyncio.ensure_future(listen())]
            move = asyncio.ensure_future(
                one.export("a", handoff=True) if how == "export" else Local(one).freeze("a", "b", "00")
            )
            for _ in range(50):
                await asyncio.sleep(0)
            gate.set()
            await move
            for waiter in waiting:
                with pytest.raises(ConflictError, match="handed over to"):
                    await asyncio.wait_for(waiter, 5)
            assert (await two.list_executions()).items == []

    drive(test)


def test_a_run_that_never_waits_is_handed_over() -> None:
    """It is ahead of every part that is sent: what is missing goes once it has stopped."""

    @workflow
    async def restless(ctx: Context, n: int) -> None:
        await ctx.step("work", lambda: n)
        ctx.continue_as_new(n + 1)

    async def test() -> None:
        one, two = Runtime(SimulatedHost(), workflows=[restless]), Runtime(SimulatedHost(seed=2))
        await one.start(restless, 0, id="a")
        assert (await hand_over(one, "a", two)).status == "suspended"
        assert (await one.get_execution("a")).cursor_length == (await two.get_execution("a")).cursor_length
        await one.close()
        await two.close()

    drive(test)


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_delete_that_is_cut_off_anywhere_is_ended_by_the_next(status: str) -> None:
    """Also of a run whose result, failure or attributes are large: they are gone before its record is."""

    @workflow(name="large")
    async def large(ctx: Context) -> str:
        ctx.set_attributes(**{f"name{n}": "x" * 200 for n in range(5)})
        if status == "failed":
            raise ValueError("y" * 5_000)
        return await ctx.step("make", lambda: "z" * 5_000)

    async def cut(call: int) -> bool:
        host = SimulatedHost(capabilities=Capabilities("simulated", durability="volatile", inline_limit=400))
        process = Process(large, host=host)
        run = await process.runtime.start("large", id="run")
        await run.settle()
        process.host.fault = crash_at(process.host.calls + call)
        try:
            await process.runtime.delete("run")
            ended = True
        except SimulatedCrash:
            ended = False
            other = await process.crash()
            record = await other.store.find("run")
            if record is not None:
                page = await other.list_executions()
                assert (len(page.items), page.unreadable) == (1, {})
                await other.delete("run")
        assert process.host.store.keys == []
        return ended

    async def test() -> None:
        call = 1
        while not await cut(call):
            call += 1
        assert call > 8

    drive(test)


def test_delete_leaves_no_history_of_an_earlier_generation() -> None:
    """A run that has gone on as new has several, and large values of each."""

    @workflow
    async def rounds(ctx: Context, n: int) -> int:
        await ctx.step("big", lambda: "x" * 300_000)
        if n < 3:
            ctx.continue_as_new(n + 1)
        return n

    async def test() -> None:
        process = Process(rounds)
        assert await (await process.runtime.start(rounds, 0, id="a")).result() == 3
        await process.runtime.delete("a")
        assert process.host.store.entries == {}
        await process.runtime.close()

    drive(test)


def test_a_run_that_somebody_has_is_not_given_up() -> None:
    """However long its cancel has waited: whoever has it is busy, and will hear of that."""

    async def test() -> None:
        process = await suspended()
        await process.crash()
        bare = Runtime(process.host.reopen())
        await bare.cancel("a")
        bare.host.advance(61)  # type: ignore[attr-defined]
        record = await bare.store.record("a")
        assert await moving._given_up(bare.store, record)
        record.owner, record.lease_until = "somebody", bare.host.now_ms() + 5_000
        assert not await moving._given_up(bare.store, record)
        await bare.close()

    drive(test)
