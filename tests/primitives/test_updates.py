"""Updates: every caller is answered, whatever the run does: a reply, or an error that says why there is none."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from alkaline_edge import AlkalineError, ConflictError, Context, InvalidInput, NotFound, Runtime, workflow
from alkaline_edge import events as ev
from alkaline_edge.machine.execution import Execution
from alkaline_edge.runtime.loading import Loader
from alkaline_edge.testing import Delay, SimulatedHost
from tests.support import Process, drive, kinds


@workflow
async def ends(ctx: Context, how: str) -> str:
    """An update ends the run; its own reply is a few turns of pure code away."""
    done, lock, queue = asyncio.Event(), asyncio.Lock(), asyncio.Queue[int]()

    async def finish(turns: int) -> str:
        done.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        if how == "lock":
            async with lock:
                await queue.put(1)
        if how == "task":
            await asyncio.create_task(asyncio.sleep(0))
        if how == "gather":
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        if how == "draws":
            ctx.random()
        return "accepted"

    ctx.on_update("finish", (lambda x: done.set() or "accepted") if how == "plain" else finish)
    await done.wait()
    if how == "continues":
        how = "over"
        ctx.continue_as_new("over")
    if how == "fails":
        raise ValueError("on purpose")
    return "the end"


@pytest.mark.parametrize(
    "how", ["plain", "lock", "task", "gather", "draws", "continues", "fails", "turns 0", "turns 1", "turns 7"]
)
def test_an_update_that_ends_the_run_is_answered(how: str) -> None:
    """Its reply and the end happen at the same point of the history: the reply comes first, and replays."""

    async def body() -> None:
        process = Process(ends)
        run = await process.runtime.start(ends, how, id="a")
        await run.settle()
        turns = int(how.split()[1]) if how.startswith("turns") else 0
        assert await run.update("finish", turns) == "accepted"
        await run.settle()
        record = await process.runtime.get_execution("a")
        assert record.status == {"fails": "failed", "continues": "suspended"}.get(how, "completed")
        if how != "continues":
            loader = Loader(process.runtime.store, process.runtime.registry)
            machine = (await loader.load(record, 2)).machine  # a replay agrees, and answers nothing again
            assert machine.outcome is not None
            assert not machine.commands

    drive(body)


@workflow
async def busy(ctx: Context, given: list[Any]) -> int:
    """Takes updates of several kinds and ends as it is told, or goes on as new a few times."""
    how, left = given

    async def step(x: Any) -> Any:
        return await ctx.step("u", lambda: x)

    async def waits(x: Any) -> Any:
        return await ctx.wait_for_signal("never")

    ctx.on_update("plain", lambda x: x)
    ctx.on_update("step", step)
    ctx.on_update("waits", waits)
    for _ in range(3):
        await ctx.step("work", lambda: 1)
        await ctx.sleep(0.01)
    if left:
        ctx.continue_as_new([how, left - 1])
    if how == "fail":
        raise ValueError("on purpose")
    if how == "wait":
        await ctx.wait_for_signal("never")
    return 1


@pytest.mark.parametrize("seed", range(16))
def test_every_caller_is_answered_in_every_order(seed: int) -> None:
    """Updates drawn at random against a run that returns, fails, is cancelled, deleted, moved, or continues as new."""
    rng = random.Random(seed)
    how = ("return", "fail", "cancel", "delete", "again", "move", "wait", "return")[seed % 8]

    async def body() -> None:
        host = SimulatedHost(seed=seed, on_call=lambda *_: Delay(rng.randrange(4)) if rng.random() < 0.3 else None)
        answers: Counter[str] = Counter()

        async def ask(asking: Runtime, n: int) -> None:
            await host.sleep(rng.random() * 0.2)
            name = rng.choice(["plain", "step", "waits", "unknown"])
            try:
                assert await asking.update("a", name, n) == n
                answers["replied"] += 1
            except (ConflictError, NotFound) as error:
                answers[error.code] += 1

        async with Runtime(host, workflows=[busy]) as runtime, Runtime(host.reopen()) as client:
            serving = asyncio.ensure_future(runtime.serve())
            run = await runtime.start(busy, ["wait" if how == "cancel" else how, rng.randrange(3)], id="a")
            asked = [asyncio.ensure_future(ask(rng.choice([runtime, client]), n)) for n in range(25)]
            await host.sleep(0.25)
            if how in ("cancel", "wait"):
                await run.cancel()
            if how == "move":
                await _moved(runtime)
            else:
                with pytest.raises(AlkalineError) if how in ("cancel", "wait") else _either():
                    await run.result()
            if how in ("delete", "again"):
                await runtime.delete("a")
            if how == "again":
                await runtime.start(busy, ["wait", 0], id="a")
                await host.sleep(2)
                await runtime.cancel("a")
            done, waiting = await asyncio.wait(asked, timeout=5)
            assert not waiting, answers
            for task in done:
                task.result()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    drive(body)


class _either:
    """A failure of the run is as good as its result."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        return isinstance(error, Exception)


async def _moved(runtime: Runtime) -> None:
    for _ in range(100):
        try:
            await runtime.export("a", handoff=True)
            return
        except ConflictError:
            await runtime.host.sleep(0.01)


def test_an_update_that_is_under_way_at_continue_as_new_is_refused_and_one_that_waits_goes_to_the_next() -> None:
    """The one has a reply that says why, in the history too; the other is answered by the next generation."""

    @workflow
    async def flow(ctx: Context, n: int) -> int:
        async def slow(x: int) -> Any:
            return await ctx.wait_for_signal("release")

        ctx.on_update("slow", slow)
        ctx.on_update("quick", lambda x: [n, x])
        await ctx.wait_for_signal("end")
        if n < 1:
            ctx.continue_as_new(n + 1)
        return n

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, 0, id="a")
        await run.settle()
        slow = asyncio.ensure_future(run.update("slow", 1))
        await process.host.sleep(1)
        await run.signal("end")
        assert await run.update("quick", 5) == [1, 5]
        with pytest.raises(ConflictError, match="continued as new"):
            await slow
        record = await process.runtime.get_execution("a")
        old = await process.runtime.store.events(record.run, record.run)
        assert [type(event).__name__ for commit in old for _, event in commit][-3:] == [
            "SignalReceived", "UpdateReplied", "ContinuedAsNew",
        ]  # fmt: skip

    drive(body)


def test_answered_updates_are_not_answered_again_after_a_crash() -> None:
    """A replay finds the reply in the history, and asks for none."""

    @workflow
    async def flow(ctx: Context) -> int:
        ctx.on_update("u", lambda x: x)
        await ctx.wait_for_signal("end")
        return 1

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        await run.settle()
        for n in range(3):
            assert await run.update("u", n) == n
        await process.crash()
        run = await process.runtime.resume("a")
        assert await run.update("u", 9) == 9
        await run.signal("end")
        await run.result()
        assert kinds(await process.runtime.history("a")).count("UpdateReplied") == 4

    drive(body)


def test_an_update_that_comes_with_the_end_is_not_applied_behind_it() -> None:
    """Recorded behind what ended the handler, it starts nothing: no command follows an outcome."""

    @workflow
    async def flow(ctx: Context) -> int:
        async def asks(x: int) -> int:
            return int(await ctx.step("late", lambda: 1))

        ctx.on_update("u", asks)
        await ctx.wait_for_signal("end")
        return 1

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        await run.settle()
        machine: Execution = process.runtime.fleet.asleep["a"].machine
        at = machine.now_ms
        machine.feed_live([(at, ev.SignalReceived(7, "s1", "end", None)), (at, ev.UpdateReceived(15, "u1", "u", 1))])
        assert machine.outcome is not None
        assert not machine.commands

    drive(body)


def test_a_validator_may_only_read_and_an_update_may_not_continue_as_new() -> None:
    """What they may not do is refused there, with nothing recorded for the first."""

    @workflow
    async def flow(ctx: Context) -> int:
        async def again(x: int) -> None:
            ctx.continue_as_new()

        ctx.on_update("u", lambda x: x, validator=lambda x: ctx.random())
        ctx.on_update("again", again)
        await ctx.wait_for_signal("end")
        return ctx.execution.generation

    async def body() -> None:
        process = Process(flow)
        run = await process.runtime.start(flow, id="a")
        await run.settle()
        with pytest.raises(InvalidInput, match="may only read"):
            await run.update("u", 1)
        assert kinds(await process.runtime.history("a")) == ["Started"]
        with pytest.raises(InvalidInput, match=r"an update can't call ctx\.continue_as_new"):
            await run.update("again", 1)
        await run.signal("end")
        assert await run.result() == 0

    drive(body)


def test_a_large_reply_is_read_back_whole_at_every_size() -> None:
    """A reply above the inline limit, or above the largest value of the host, is kept like any large value."""
    from tests.simulation.engine import CAPABILITIES

    @workflow
    async def flow(ctx: Context) -> int:
        ctx.on_update("u", lambda n: "x" * n)
        await ctx.wait_for_signal("end")
        return 1

    async def body() -> None:
        host = SimulatedHost(capabilities=CAPABILITIES)
        runtime = Runtime(host, workflows=[flow])
        run = await runtime.start(flow, id="a")
        await run.settle()
        for n in (0, 560, 580, 597, 598, 600, 601, 2000, 2048, 2049, 7000):
            assert await run.update("u", n) == "x" * n

    drive(body)
