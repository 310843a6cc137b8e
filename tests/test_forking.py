"""Forks at every position of histories that hold everything: each goes on to the right end, or is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import Budget, ConflictError, Context, InvalidInput, Runtime, StepOutcomeUnknown, workflow
from alkaline_edge.host import Batch, Capabilities
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from tests.support import Process, drive

SMALL = Capabilities("small", durability="volatile", segment_commits=3, max_value=2000, inline_limit=300)
ran: list[str] = []


def work(name: str, size: int = 1) -> str:
    ran.append(name)
    return name * size


@workflow
async def kid(ctx: Context, n: int) -> int:
    ctx.spend(n)
    await ctx.sleep(1)
    return n


@workflow
async def named(ctx: Context, n: int) -> int:
    return n


async def undo(value: str) -> None:
    ran.append(f"undo {value[:1]}")


@workflow(budget=Budget(tokens=100))
async def everything(ctx: Context, fails: bool) -> Any:
    seen: list[Any] = []
    ctx.on_update("note", lambda note: seen.append(note) or len(seen))
    a = await ctx.step("a", work, "a", 500, compensate=undo)
    ctx.spend(5)
    s = await ctx.wait_for_signal("s")
    k, b = await ctx.all(ctx.child(kid, 7), ctx.step("b", work, "b"))
    await ctx.sleep(1)
    m = await ctx.step("m", work, "m", at_most_once=True)
    ctx.random()
    n = await ctx.child("named", 3, id="explicit")
    ctx.spend(11)
    if fails:
        raise ValueError("on purpose")
    return [len(a), s, k, b, m, n, ctx.patched("x")]


GOOD = [500, "sig", 7, "b", "m", 3, True]


async def to_end(process: Process, id: str) -> Any:
    """Resume, give it what it waits for, and let its time pass: its result, or the error that it ended with."""
    run = await process.runtime.resume(id)
    for _ in range(8):
        await run.settle()
        record = await process.runtime.get_execution(id)
        if record.finished:
            break
        if any("signal" in what for what in record.waiting):
            await run.signal("s", "sig")
        process.host.advance(2)
        await process.runtime.run_due()
    try:
        return await run.result(timeout=5)
    except (ValueError, ConflictError, StepOutcomeUnknown) as error:
        return error


@pytest.mark.parametrize("fails", [False, True])
def test_a_fork_at_every_position_comes_to_its_end(fails: bool) -> None:
    """Steps, signals, an update, timers, children that have ended and that have not, intents, charges, compensation."""

    async def test() -> None:
        process = Process(everything, kid, named, host=SimulatedHost(capabilities=SMALL))
        run = await process.runtime.start(everything, fails, id="a")
        await run.settle()
        assert await run.update("note", "hello") == 1
        await to_end(process, "a")
        source = await process.runtime.get_execution("a")
        history = await process.runtime.history("a")
        ends = []
        for at in range(1, source.cursor_length + 1):
            fork = await process.runtime.fork("a", at)
            end = await to_end(process, fork.id)
            taken = isinstance(end, ConflictError) and "give ctx.child another id" in str(end)
            lost = isinstance(end, StepOutcomeUnknown)
            assert taken or lost or (isinstance(end, ValueError) if fails else end == GOOD), (at, end)
            ends.append("taken" if taken else "lost" if lost else "end")
            record = await process.runtime.get_execution(fork.id)
            assert record.finished
            if not (taken or lost):
                assert record.spent["tokens"] == 16
        assert "end" in ends
        assert "lost" in ends  # the one behind the intent of a step that starts once at most
        after = await process.runtime.get_execution("a")
        assert (after.head, after.version_tag) == (source.head, source.version_tag)
        assert await process.runtime.history("a") == history
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("at", [0, -1, 10**9, 1.5, "1", None, True])
def test_a_position_that_is_none_is_refused(at: Any) -> None:
    """With what would be one, and nothing written."""

    async def test() -> None:
        process = Process(named)
        await (await process.runtime.start("named", 1, id="a")).result()
        before = dict(process.host.store.entries)
        with pytest.raises(InvalidInput, match="fork"):
            await process.runtime.fork("a", at)
        assert process.host.store.entries == before
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("length", [1, 120, 141, 142, 143, 155, 160])
def test_a_fork_of_a_long_id_can_be_moved(length: int) -> None:
    """Its id is an id: it is exported, imported elsewhere, and forked again."""

    async def test() -> None:
        process, other = Process(named), Process(named, host=SimulatedHost(seed=2))
        await (await process.runtime.start("named", 1, id="x" * length)).result()
        fork = await process.runtime.fork("x" * length, 1)
        again = await process.runtime.fork(fork.id, 1)
        for id in (fork.id, again.id):
            await other.runtime.import_(await process.runtime.export(id))
            assert await (await other.runtime.resume(id)).result() == 1
        await process.runtime.close()
        await other.runtime.close()

    drive(test)


def test_a_fork_has_an_account_of_its_own() -> None:
    """What it spends is not taken from the tree that its source spent from; what was spent before counts."""

    @workflow
    async def spender(ctx: Context, n: int) -> int:
        ctx.spend(n)
        await ctx.wait_for_signal("s")
        ctx.spend(n)
        return n

    @workflow(budget=Budget(tokens=50))
    async def root(ctx: Context) -> Any:
        ctx.spend(1)
        return await ctx.child(spender, 20, id="c")

    async def test() -> None:
        process = Process(root, spender)
        await (await process.runtime.start("root", id="r")).settle()
        await process.runtime.signal("c", "s")
        assert await process.runtime.result("r", None) == 20
        shared = {key: entry.value for key, entry in process.host.store.entries.items() if key.startswith("g/")}
        length = (await process.runtime.get_execution("c")).cursor_length
        for at in range(1, length + 1):
            fork = await process.runtime.fork("c", at)
            run = await process.runtime.resume(fork.id)
            await run.settle()
            if not (await process.runtime.get_execution(fork.id)).finished:
                await run.signal("s")
            assert await run.result() == 20
            assert (await process.runtime.get_execution(fork.id)).spent["tokens"] == 40
        left = {key: entry.value for key, entry in process.host.store.entries.items() if key.startswith("g/")}
        assert {key: left[key] for key in shared} == shared
        await process.runtime.close()

    drive(test)


def test_a_fork_has_the_attributes_that_its_source_was_given() -> None:
    """And is found by them."""

    async def test() -> None:
        process = Process(named)
        run = await process.runtime.start(named, 3, id="a", attributes={"customer": "c7"})
        await run.result()
        fork = await process.runtime.fork("a", 1)
        found = await process.runtime.list_executions(attributes={"customer": "c7"})
        assert {record.id for record in found} == {"a", fork.id}
        assert await to_end(process, fork.id) == 3
        assert (await process.runtime.get_execution(fork.id)).attributes == {"customer": "c7"}

    drive(test)


class Cut(SimulatedHost):
    """A process that dies at its commit number ``dies_at``, which is on its way and lands by ``land``."""

    dies_at = -1
    commits = 0

    async def commit(self, batch: Batch) -> Any:
        self.commits += 1
        if self.commits == self.dies_at:
            self.sent = batch
            raise SimulatedCrash
        return await super().commit(batch)

    def land(self) -> None:
        self.store.apply(self.sent)


@pytest.mark.parametrize("dies_at", range(1, 6))
def test_a_fork_that_is_cut_off_can_be_seen_and_deleted(dies_at: int) -> None:
    """What is there of it is listed, is no run to read, and goes with a delete; what lands behind that is refused."""

    async def test() -> None:
        whole = SimulatedHost(capabilities=SMALL)
        process = Process(named, host=whole)
        await (await process.runtime.start("named", 1, id="a", attributes={"size": "large"})).result()
        before = dict(whole.store.entries)
        host = Cut(whole.store, seed=3, capabilities=SMALL)
        host.dies_at = dies_at
        other = Runtime(host, workflows=[named])
        try:
            made = (await other.fork("a", 1, edit={"input": "x" * 5_000})).id
        except SimulatedCrash:
            made = ""
        for record in (await process.runtime.list_executions()).items:
            if record.id == "a":
                continue
            if not made:
                with pytest.raises(ConflictError, match="has not arrived"):
                    await process.runtime.history(record.id)
            await process.runtime.delete(record.id)
        if not made and dies_at > 1:
            host.land()
        assert whole.store.entries == before, sorted(whole.store.entries.keys() - before.keys())
        assert made or dies_at < 5
        await process.runtime.close()

    drive(test)
