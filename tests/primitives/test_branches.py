"""Branches: all, race, map, and asyncio's own gather, TaskGroup, timeout, wait, Queue and Event inside a handler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, DeterminismError, StepError, workflow
from tests.support import Process, drive


async def double(n: int) -> int:
    return n * 2


def both_ways(flow: Any, expected: Any, input: Any = None) -> None:
    """The result is the same live, and when a new process replays the run from the top."""

    @workflow(name="outer")
    async def outer(ctx: Context, value: Any) -> Any:
        result = await flow(ctx, value)
        await ctx.wait_for_signal("end")
        return result

    async def test() -> None:
        process = Process(outer)
        run = await process.runtime.start("outer", input, id="a")
        while (await process.runtime.get_execution("a")).waiting != ["signal end"]:
            await process.runtime.run_due()
            process.host.advance(1)
        await process.crash()
        await process.runtime.signal("a", "end")
        run = await process.runtime.resume("a")
        assert await run.result() == expected
        await process.runtime.close()

    drive(test)


def test_all_returns_results_in_order() -> None:
    """ctx.all keeps the order of its arguments, whatever ends first."""

    async def flow(ctx: Context, _: Any) -> Any:
        return await ctx.all(*(ctx.step("double", double, n) for n in range(5)))

    both_ways(flow, [0, 2, 4, 6, 8])


def test_map_runs_at_most_limit_at_once() -> None:
    """ctx.map never has more branches in flight than its limit."""
    flying, most = [0], [0]

    async def count(n: int) -> int:
        flying[0] += 1
        most[0] = max(most[0], flying[0])
        for _ in range(20):
            await asyncio.sleep(0)
        flying[0] -= 1
        return n

    async def flow(ctx: Context, _: Any) -> Any:
        return await ctx.map(lambda n: ctx.step("count", count, n), range(10), limit=3)

    both_ways(flow, list(range(10)))
    assert most == [3]


def test_the_first_error_of_all_cancels_the_rest() -> None:
    """ctx.all raises the first error, and the other branches are withdrawn with their cleanup done."""

    async def fail() -> None:
        raise ValueError("no")

    async def flow(ctx: Context, _: Any) -> Any:
        cleaned: list[str] = []

        async def waits() -> None:
            try:
                await ctx.wait_for_signal("never")
            finally:
                cleaned.append(await ctx.step("clean", double, 4) and "cleaned")

        try:
            await ctx.all(waits(), ctx.step("fail", fail))
        except ValueError as error:
            return [str(error), cleaned]

    both_ways(flow, ["no", ["cleaned"]])


def test_race_gives_the_first_and_cancels_the_losers() -> None:
    """ctx.race returns key and value of the winner; the loser's step is withdrawn."""

    async def flow(ctx: Context, _: Any) -> Any:
        return await ctx.race(slow=ctx.sleep(500), fast=ctx.step("double", double, 21), never=ctx.wait_for_signal("x"))

    both_ways(flow, ["fast", 42])


def test_an_error_that_wins_the_race_is_raised() -> None:
    """ctx.race raises when the first to end has failed."""

    async def fail() -> None:
        raise KeyError("first")

    async def flow(ctx: Context, _: Any) -> Any:
        try:
            await ctx.race(a=ctx.step("fail", fail), b=ctx.sleep(10))
        except KeyError as error:
            return str(error)

    both_ways(flow, "first")


def test_asyncio_gather_task_group_and_wait_work() -> None:
    """Plain asyncio inside a handler is durable and deterministic."""

    async def flow(ctx: Context, _: Any) -> Any:
        gathered = await asyncio.gather(*(ctx.step("double", double, n) for n in range(3)))
        async with asyncio.TaskGroup() as group:
            a = group.create_task(ctx.step("double", double, 10))
            b = group.create_task(ctx.sleep(3))
        task = asyncio.create_task(ctx.step("double", double, 11))
        done, pending = await asyncio.wait({task}, return_when=asyncio.ALL_COMPLETED)
        return [gathered, a.result(), b.result(), len(done), len(pending), task.result()]

    both_ways(flow, [[0, 2, 4], 20, None, 1, 0, 22])


def test_asyncio_timeout_and_wait_for_are_durable_timers() -> None:
    """A timeout inside a handler fires by recorded time, and is silent when the work is done in time."""

    async def flow(ctx: Context, _: Any) -> Any:
        out: list[Any] = []
        try:
            async with asyncio.timeout(30):
                await ctx.wait_for_signal("never")
        except TimeoutError:
            out.append("timeout")
        try:
            await asyncio.wait_for(ctx.sleep(100), 5)
        except TimeoutError:
            out.append("wait_for")
        async with asyncio.timeout(1000):
            out.append(await ctx.step("double", double, 1))
        await asyncio.sleep(2)
        return out

    both_ways(flow, ["timeout", "wait_for", 2])


def test_queue_event_lock_and_semaphore_work() -> None:
    """asyncio's own primitives connect branches in a deterministic order."""

    async def flow(ctx: Context, _: Any) -> Any:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=1)
        ready, lock, gate = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
        seen: list[Any] = []

        async def produce() -> None:
            await ready.wait()
            for n in range(3):
                await queue.put(await ctx.step("double", double, n))
            await queue.put(None)

        async def consume() -> None:
            ready.set()
            while (item := await queue.get()) is not None:
                async with lock, gate:
                    seen.append(await ctx.step("double", double, item))

        await asyncio.gather(produce(), consume())
        return seen

    both_ways(flow, [0, 4, 8])


@pytest.mark.parametrize("together", ["gather", "all", "map"])
def test_one_more_step_in_a_branch_renames_nothing_in_another(together: str) -> None:
    """Ids belong to branches: a patched branch grows, and its sibling's recorded steps still fit."""

    def make(longer: bool) -> Any:
        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            async def left() -> list[int]:
                out = [await ctx.step("double", double, 1)]
                if longer:
                    await ctx.all(ctx.step("extra", double, 0), ctx.step("extra", double, 0))
                    out.append(await ctx.step("extra", double, 2))
                await ctx.wait_for_signal("more")
                return out

            async def right() -> list[int]:
                out = [await ctx.step("double", double, n) for n in (3, 4)]
                await ctx.wait_for_signal("more")
                return out

            if together == "gather":
                return await asyncio.gather(left(), right())
            return await (ctx.all(left(), right()) if together == "all" else ctx.map(lambda f: f(), [left, right]))

        return flow

    async def test() -> None:
        process = Process(make(False))
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        await process.crash(make(True))
        await process.runtime.signal("a", "more")
        await process.runtime.signal("a", "more")
        assert await (await process.runtime.resume("a")).result() == [[2, 4], [6, 8]]
        await process.runtime.close()

    drive(test)


async def _thread() -> Any:
    return await asyncio.to_thread(lambda: 1)


async def _executor() -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, lambda: 1)


async def _socket() -> Any:
    return await asyncio.open_connection("127.0.0.1", 9)


@pytest.mark.parametrize("misuse", [_thread, _executor, _socket])
def test_what_a_replay_can_not_repeat_is_refused_by_its_line(misuse: Any) -> None:
    """Threads, executors and sockets in a handler: ERR_DETERMINISM that names the line and says ctx.step."""

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            return await misuse()
        except Exception:
            return "swallowed"

    async def test() -> None:
        process = Process(flow)
        with pytest.raises(DeterminismError) as caught:
            run = await process.runtime.start("flow", id="a")
            await run.result()
        assert "put it in ctx.step" in str(caught.value)
        assert "test_branches.py:" in str(caught.value)
        assert "/" not in str(caught.value)
        await process.runtime.close()

    drive(test)


def test_awaiting_a_future_of_the_hosts_loop_is_refused_by_its_line() -> None:
    """Even an `except Exception` around it can't hide it, and the run is left as it was."""

    async def test() -> None:
        foreign = asyncio.get_running_loop().create_future()

        @workflow
        async def flow(ctx: Context) -> Any:
            await ctx.step("double", double, 1)
            try:
                await foreign
            except Exception:
                pass
            return "hidden"

        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(DeterminismError, match=r"test_branches\.py:\d+ in flow awaits .* put it in ctx\.step"):
            await run.result()
        assert (await process.runtime.get_execution("a")).status == "running"
        await process.runtime.close()

    drive(test)


def test_a_handler_that_nothing_can_wake_is_named() -> None:
    """A forgotten Event is not a run that waits for ever: the line is named."""

    @workflow
    async def flow(ctx: Context) -> Any:
        await asyncio.Event().wait()

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(DeterminismError, match=r"test_branches\.py:\d+ in flow .*not durable"):
            await run.result()
        await process.runtime.close()

    drive(test)


def test_a_background_tasks_error_does_not_vanish() -> None:
    """A task group raises what its task raised."""

    async def fail() -> None:
        raise RuntimeError("lost")

    @workflow
    async def flow(ctx: Context) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("fail", fail))
        except BaseExceptionGroup as errors:
            return [str(error) for error in errors.exceptions if isinstance(error, StepError)]

    async def test() -> None:
        process = Process(flow)
        assert await (await process.runtime.start("flow", id="a")).result() == ["lost"]
        await process.runtime.close()

    drive(test)
