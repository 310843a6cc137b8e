"""A workflow for each primitive of asyncio and anyio, which notes in which order things happen.

`python -m tests.primitives.flows write FOLDER` makes the histories of them all, and `check FOLDER` replays those that
another Python made: tests/versions.sh runs both on every CPython that it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alkaline_edge import Context, Runtime, Workflow, replay, workflow
from alkaline_edge.testing import SimulatedHost

anyio: Any = importlib.import_module("anyio")
importlib.import_module("anyio.functools")
importlib.import_module("anyio.lowlevel")

FLOWS: dict[str, Workflow] = {}
EAGER = sys.version_info >= (3, 12)


async def same(value: Any) -> Any:
    return value


async def broken() -> None:
    raise ValueError("no")


class Notes:
    """What happened, in order. Each note draws a value, so that a history pins the order across all tasks."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.seen: list[Any] = []

    def __call__(self, what: Any) -> None:
        self.seen.append([what, round(self.ctx.random(), 6)])


def flow(fn: Callable[[Context, Notes], Any]) -> Callable[[Context, Notes], Any]:
    """Register ``fn`` as a workflow that reports its notes by a step, waits for a signal, and reports again."""

    @workflow(name=fn.__name__)
    async def noted(ctx: Context) -> Any:
        note = Notes(ctx)
        got = await fn(ctx, note)
        await ctx.step("report", same, [note.seen, got])
        await ctx.wait_for_signal("end")
        return await ctx.step("report again", same, [note.seen, got])

    FLOWS[fn.__name__] = noted
    return fn


def worker(ctx: Context, note: Notes, fail: bool = False, cleanup: bool = False) -> Callable[[int], Any]:
    """A coroutine that waits, and says when it is cancelled and when it ends."""

    async def work(n: int) -> int:
        note(f"begin {n}")
        try:
            await ctx.step("work", same, n)
            if fail and n == 1:
                raise ValueError(str(n))
            await ctx.sleep(5 + n % 3)
        except asyncio.CancelledError:
            note(f"cancelled {n}")
            if cleanup:
                await ctx.step("clean", same, n)
                note(f"cleaned {n}")
            raise
        note(f"end {n}")
        return n

    return work


async def caught(note: Notes, awaitable: Any) -> Any:
    try:
        return await awaitable
    except BaseExceptionGroup as group:
        note(["group", [type(one).__name__ for one in group.exceptions]])
    except asyncio.CancelledError:
        note("CancelledError")
    except Exception as error:
        note([type(error).__name__, str(error)])


# --- gather ---------------------------------------------------------------------------------------------------------
@flow
async def gather_plain(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)
    return await asyncio.gather(*(work(n) for n in range(6)))


@flow
async def gather_fails(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True)
    await caught(note, asyncio.gather(*(work(n) for n in range(5))))
    outer = asyncio.gather(*(work(n) for n in range(5)), return_exceptions=True)
    return [repr(one) for one in await outer]


@flow
async def gather_cancelled(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, cleanup=True)
    outer = asyncio.gather(*(work(n) for n in range(5)))
    await ctx.step("between", same, 0)
    outer.cancel()
    await caught(note, outer)
    await ctx.step("behind", same, 0)


@flow
async def gather_of_what_is_done(ctx: Context, note: Notes) -> Any:
    tasks = [asyncio.create_task(ctx.step("s", same, n)) for n in range(3)]
    for task in tasks:
        await task

    async def other() -> None:
        for n in range(4):
            note(f"other {n}")
            await asyncio.sleep(0)

    side = asyncio.create_task(other())
    note(await asyncio.gather(*tasks))
    note(await asyncio.gather(tasks[0], ctx.step("more", same, 9), tasks[0]))
    failed = asyncio.create_task(ctx.step("broken", broken))
    await asyncio.wait([failed])
    await caught(note, asyncio.gather(failed, ctx.sleep(1)))
    await side
    return await asyncio.gather()


@flow
async def sets_of_gatherings(ctx: Context, note: Notes) -> Any:
    outers = [asyncio.gather(ctx.step("s", same, n), asyncio.sleep(0)) for n in range(9)]
    done, _ = await asyncio.wait(outers)
    for one in done:
        note(outers.index(one))  # type: ignore[arg-type]  # it is one of them
    for one in {*outers, *(asyncio.shield(ctx.step("s", same, n)) for n in range(9))}:
        note(await ctx.step("each", same, 1 if one.done() else 0))


# --- groups ---------------------------------------------------------------------------------------------------------
@flow
async def group_plain(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(n), name=f"n{n}") for n in range(5)]
    return [task.result() for task in tasks]


@flow
async def group_fails(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True, cleanup=True)

    async def group() -> None:
        async with asyncio.TaskGroup() as several:
            for n in range(9):
                several.create_task(work(n))
            await ctx.sleep(100)

    await caught(note, group())
    await ctx.step("behind", same, 0)


@flow
async def group_body_fails(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)

    async def group() -> None:
        async with asyncio.TaskGroup() as several:
            for n in range(7):
                several.create_task(work(n))
            await ctx.step("broken", broken)

    await caught(note, group())


@flow
async def group_fails_while_it_is_cancelled(ctx: Context, note: Notes) -> Any:
    """The inner failure and the outer cancel come in one turn."""

    async def inner() -> None:
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            note("inner cancelled")
            raise ValueError("in cleanup") from None

    async def outer() -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())
                group.create_task(ctx.sleep(100))
        except* ValueError:
            note("failed")
        task = asyncio.current_task()
        assert task is not None
        note(["cancelling", task.cancelling()])
        await asyncio.sleep(0)
        note("went on")
        await ctx.step("went on", same, 1)

    task = asyncio.create_task(outer())
    await ctx.step("first", same, 0)
    task.cancel()
    await caught(note, task)
    note(task.cancelled())


@flow
async def group_within_a_group_and_a_timeout(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True)

    async def both() -> None:
        async with asyncio.timeout(3), asyncio.TaskGroup() as outer:
            outer.create_task(work(0))
            async with asyncio.TaskGroup() as inner:
                for n in range(2, 6):
                    inner.create_task(work(n))

    await caught(note, both())
    await ctx.step("behind", same, 0)


@flow
async def cancel_and_uncancel(ctx: Context, note: Notes) -> Any:
    async def itself(back: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("mine")
        task.cancel()
        note(task.cancelling())
        if back:
            task.uncancel()
            note(task.uncancel())
        try:
            await ctx.step("s", same, back)
            note("not cancelled")
        except asyncio.CancelledError:
            note(["cancelled", task.cancelling()])
        while task.cancelling():
            task.uncancel()
        await ctx.step("then", same, back)

    await caught(note, asyncio.gather(itself(True), itself(False), return_exceptions=True))
    task = asyncio.create_task(itself(True))
    await asyncio.sleep(0)
    task.cancel()
    task.uncancel()
    await caught(note, task)


@flow
async def cancelled_before_it_returns(ctx: Context, note: Notes) -> Any:
    async def itself() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 1

    task = asyncio.create_task(itself())
    note(await caught(note, task))
    await ctx.step("then", same, 0)


# --- timeouts -------------------------------------------------------------------------------------------------------
@flow
async def timeouts(ctx: Context, note: Notes) -> Any:
    async def late(seconds: float | None, sleep: float) -> Any:
        async with asyncio.timeout(seconds) as limit:
            await ctx.sleep(sleep)
        return limit.expired()

    note(await late(5, 1))
    note(await late(None, 1))
    await caught(note, late(1, 5))
    await caught(note, late(0, 5))
    await caught(note, late(-1, 5))
    async with asyncio.timeout(1) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + 9)
        await ctx.sleep(5)
    note(limit.when() is not None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 2):
            await ctx.wait_for_signal("never")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            async with asyncio.timeout(1):
                try:
                    await ctx.sleep(9)
                finally:
                    note("cleanup")
                    await ctx.step("cleanup", same, 1)
    await ctx.step("behind", same, 0)


@flow
async def timeout_of_an_error(ctx: Context, note: Notes) -> Any:
    async def fails() -> None:
        async with asyncio.timeout(1):
            try:
                await ctx.sleep(5)
            except asyncio.CancelledError as error:
                raise ValueError("instead") from error

    try:
        await fails()
    except ValueError as error:
        note([type(error.__context__).__name__, type(error.__cause__).__name__])

    async def group() -> None:
        async with asyncio.timeout(1), asyncio.TaskGroup() as several:
            several.create_task(fails())
            several.create_task(ctx.sleep(3))

    await caught(note, group())


# --- wait_for, wait, as_completed, shield ---------------------------------------------------------------------------
@flow
async def wait_for_steps(ctx: Context, note: Notes) -> Any:
    note(await asyncio.wait_for(ctx.step("a", same, 1), 5))
    note(await asyncio.wait_for(ctx.step("b", same, 2), None))
    await caught(note, asyncio.wait_for(ctx.wait_for_signal("never"), 2))
    await caught(note, asyncio.wait_for(ctx.step("never", same, 3), 0))
    task = asyncio.create_task(ctx.step("task", same, 4))
    note(await asyncio.wait_for(task, 3))
    note(await asyncio.wait_for(task, 0))
    await caught(note, asyncio.wait_for(asyncio.create_task(ctx.sleep(9)), 1))
    await caught(note, asyncio.wait_for(ctx.step("broken", broken), 1))
    await ctx.step("behind", same, 0)


@flow
async def wait_for_with_cleanup(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, cleanup=True)

    async def swallows() -> str:
        try:
            await ctx.sleep(50)
        except asyncio.CancelledError:
            await ctx.step("swallowed", same, 1)
        return "kept"

    async def several() -> Any:
        return await asyncio.gather(work(1), asyncio.wait_for(asyncio.wait_for(work(2), 40), 1), work(3))

    await caught(note, several())
    note(await caught(note, asyncio.wait_for(swallows(), 1)))
    outer = asyncio.create_task(asyncio.wait_for(work(7), 90))
    await ctx.step("between", same, 0)
    outer.cancel()
    await caught(note, outer)


@flow
async def wait_for_beside_others(ctx: Context, note: Notes) -> Any:
    """Who begins first, and who draws first, is the same whether or not wait_for makes a task."""

    async def drawing(n: int) -> None:
        note(n)
        await asyncio.sleep(0)
        note(n)
        await ctx.step("drawn", same, n)
        note(n)

    await asyncio.gather(drawing(1), asyncio.wait_for(drawing(2), 9), drawing(3), asyncio.wait_for(drawing(4), None))


@flow
async def wait_walks_its_sets(ctx: Context, note: Notes) -> Any:
    tasks = [asyncio.create_task(ctx.step(f"s{n}", same, n)) for n in range(12)]
    done, pending = await asyncio.wait(tasks)
    for task in done:
        note(await ctx.step("after", same, task.result()))
    work = worker(ctx, note, fail=True)
    tasks = [asyncio.create_task(work(n)) for n in range(20)]
    for when in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION):
        done, pending = await asyncio.wait(tasks, return_when=when)
        note([[tasks.index(one) for one in some] for some in (done, pending)])
    done, pending = await asyncio.wait(tasks, timeout=5.5)
    for task in pending:
        task.cancel()
    note([tasks.index(one) for one in done | pending])
    note([tasks.index(one) for one in {*tasks[::3], *tasks[::2]} - done])  # type: ignore[arg-type]
    await asyncio.wait(tasks)


@flow
async def all_tasks_in_order(ctx: Context, note: Notes) -> Any:
    tasks = [asyncio.create_task(ctx.sleep(n + 1), name=f"t{n}") for n in range(20)]
    await ctx.step("s", same, 1)
    for task in asyncio.all_tasks():
        if task in tasks:
            note(task.get_name())
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@flow
async def as_completed_plain(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)
    for one in asyncio.as_completed([work(n) for n in range(9)]):
        note(await one)
    tasks = [asyncio.create_task(work(n)) for n in range(9)]
    for one in asyncio.as_completed({*tasks}, timeout=6):
        await caught(note, one)
    await asyncio.gather(*tasks)


@flow
async def as_completed_async(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)
    tasks = [asyncio.create_task(work(n)) for n in range(4)]
    async for one in asyncio.as_completed([*tasks, work(5)]):  # type: ignore[attr-defined, unused-ignore]
        note([one.result(), one in tasks])


@flow
async def shielded(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)
    inner = asyncio.create_task(work(1))
    outer = asyncio.create_task(asyncio.wait_for(asyncio.shield(inner), 2))
    await caught(note, outer)
    other = asyncio.shield(work(2))
    await ctx.step("between", same, 0)
    other.cancel()
    await caught(note, other)
    note(await inner)


# --- locks and queues -----------------------------------------------------------------------------------------------
@flow
async def queues(ctx: Context, note: Notes) -> Any:
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    ranked: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()
    last: asyncio.LifoQueue[int] = asyncio.LifoQueue()

    async def takes(who: int) -> None:
        while True:
            n = await queue.get()
            note([who, n])
            await ctx.step("take", same, n)
            ranked.put_nowait((-n, who))
            last.put_nowait(n)
            queue.task_done()

    takers = [asyncio.create_task(takes(who)) for who in range(3)]
    for n in range(8):
        await queue.put(n)
    await queue.join()
    for taker in takers:
        taker.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    while not ranked.empty():
        note([await ranked.get(), await last.get()])
    await caught(note, asyncio.wait_for(queue.get(), 1))


@flow
async def events_and_locks(ctx: Context, note: Notes) -> Any:
    event, lock = asyncio.Event(), asyncio.Lock()

    async def enters(n: int) -> None:
        await event.wait()
        async with lock:
            note(f"in {n}")
            await ctx.step("inside", same, n)
            note(f"out {n}")

    tasks = [asyncio.create_task(enters(n)) for n in range(6)]
    await ctx.step("before", same, 0)
    event.set()
    await ctx.step("then", same, 0)
    tasks[3].cancel()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    note(lock.locked())


@flow
async def semaphores(ctx: Context, note: Notes) -> Any:
    for kind in (asyncio.Semaphore, asyncio.BoundedSemaphore):
        gate = kind(2)

        async def enters(n: int, gate: asyncio.Semaphore = gate) -> None:
            async with gate:
                note(f"in {n}")
                await ctx.step("inside", same, n)
            note(f"out {n}")

        tasks = [asyncio.create_task(enters(n)) for n in range(8)]
        await ctx.step("before", same, 0)
        for n in (2, 3, 6):
            tasks[n].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    gate = asyncio.Semaphore(0)
    waits = [asyncio.create_task(gate.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.release()
    gate.release()
    waits[0].cancel()  # it was let in already
    waits[2].cancel()
    await asyncio.sleep(0)
    gate.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    note([[one.done(), one.cancelled()] for one in waits])
    gate.release()
    gate.release()
    await asyncio.gather(*waits, return_exceptions=True)


@flow
async def conditions(ctx: Context, note: Notes) -> Any:
    condition, state = asyncio.Condition(), [0]

    async def waits(n: int) -> None:
        async with condition:
            try:
                await condition.wait_for(lambda: state[0] >= n)
                note(f"told {n}")
            except asyncio.CancelledError:
                note(f"cancelled {n} {condition.locked()}")
                raise
            await ctx.step("inside", same, n)

    tasks = [asyncio.create_task(waits(n % 3)) for n in range(7)]
    await ctx.step("before", same, 0)
    for n in (1, 2):
        async with condition:
            state[0] = n
            condition.notify(2)
            tasks[n + 3].cancel()
        await ctx.step("told", same, n)
    async with condition:
        condition.notify_all()
        tasks[6].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@flow
async def a_condition_told_and_cancelled(ctx: Context, note: Notes) -> Any:
    """What is told and cancelled in one turn passes the word on."""
    condition = asyncio.Condition()

    async def waits(n: int) -> None:
        async with condition:
            await condition.wait()
            note(f"told {n}")

    tasks = [asyncio.create_task(waits(n)) for n in range(3)]
    await ctx.step("before", same, 0)
    async with condition:
        condition.notify()
    tasks[0].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    note([task.done() for task in tasks])
    async with condition:
        condition.notify_all()
    await asyncio.gather(*tasks, return_exceptions=True)


@flow
async def barriers(ctx: Context, note: Notes) -> Any:
    barrier = asyncio.Barrier(3)

    async def meets(n: int) -> None:
        await ctx.sleep(n)
        note([n, await barrier.wait()])
        await ctx.step("met", same, n)

    await asyncio.gather(*(meets(n) for n in range(6)))
    late = asyncio.create_task(meets(1))
    await ctx.sleep(2)
    await barrier.abort()
    await caught(note, late)


@flow
async def sleeps(ctx: Context, note: Notes) -> Any:
    async def naps(n: int) -> None:
        for _ in range(n):
            note(n)
            await asyncio.sleep(0)
        await asyncio.sleep(n / 10)
        note(["woke", n])

    await asyncio.gather(*(naps(n) for n in range(5)))
    note(await asyncio.sleep(0.5, "result"))
    loop = asyncio.get_running_loop()
    loop.call_soon(note, "soon")
    loop.call_later(1, note, "later")
    loop.call_at(loop.time() + 2, note, "at")
    await asyncio.sleep(3)


@flow
async def tasks_made_by_hand(ctx: Context, note: Notes) -> Any:
    loop = asyncio.get_running_loop()
    work = worker(ctx, note)
    made = [asyncio.Task(work(1), loop=loop), asyncio.ensure_future(work(2)), loop.create_task(work(3), name="named")]
    for task in made:
        note([await task, task.get_name() if task.get_name() == "named" else ""])


if EAGER:

    @flow
    async def eager_tasks(ctx: Context, note: Notes) -> Any:
        loop = asyncio.get_running_loop()
        work = worker(ctx, note, fail=True)
        task_type: Any = asyncio.Task
        by_hand = [task_type(work(n), loop=loop, eager_start=True) for n in (2, 3)]
        note("made")
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        made = [asyncio.create_task(work(n)) for n in (4, 5)]
        note("made by a factory")
        note(await asyncio.gather(*made, work(6), same(7)))

        async def group() -> None:
            async with asyncio.TaskGroup() as several:
                for n in range(4):
                    several.create_task(work(n))

        await caught(note, group())
        note(await asyncio.gather(*by_hand))
        loop.set_task_factory(None)
        note(loop.get_task_factory() is None)


@flow
async def generators_left_early(ctx: Context, note: Notes) -> Any:
    async def numbers() -> Any:
        try:
            for n in range(9):
                yield await ctx.step("n", same, n)
        finally:
            note("closed")
            await ctx.step("closed", same, 0)

    async for n in numbers():
        note(n)
        if n == 2:
            break
    await ctx.step("behind", same, 0)


@flow
async def branches(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True, cleanup=True)
    note(await ctx.all(work(0), work(2), limit=1))
    await caught(note, ctx.map(work, range(5)))
    await caught(note, ctx.race(b=asyncio.wait_for(work(3), 3), c=work(4)))


# --- corners ----------------------------------------------------------------------------------------------------------
@flow
async def timeouts_around_groups(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, cleanup=True)

    async def nested() -> None:
        async with asyncio.timeout(9):
            async with asyncio.TaskGroup() as outer:
                outer.create_task(work(7))
                async with asyncio.timeout(2), asyncio.TaskGroup() as inner:
                    for n in range(4):
                        inner.create_task(work(n))

    await caught(note, nested())
    await ctx.step("behind", same, 0)


@flow
async def a_wait_for_the_first_exception_with_a_timeout(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True)
    tasks = [asyncio.create_task(work(n)) for n in (0, 2, 1, 5)]
    done, pending = await asyncio.wait(tasks, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
    note([[tasks.index(one) for one in some] for some in (done, pending)])
    done, pending = await asyncio.wait(pending or tasks, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
    note([[tasks.index(one) for one in some] for some in (done, pending)])
    await asyncio.gather(*tasks, return_exceptions=True)


@flow
async def a_shield_that_is_cancelled_from_inside(ctx: Context, note: Notes) -> Any:
    inner = asyncio.create_task(ctx.sleep(9))
    outer = asyncio.shield(inner)
    await ctx.step("between", same, 0)
    inner.cancel()
    await caught(note, outer)
    late = asyncio.shield(ctx.step("fails", broken))
    late.cancel()
    await caught(note, late)
    await ctx.sleep(1)


if sys.version_info >= (3, 13):

    @flow
    async def a_queue_that_is_shut(ctx: Context, note: Notes) -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        takers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await ctx.step("before", same, 0)
        queue.shutdown()
        note([type(one).__name__ for one in await asyncio.gather(*takers, return_exceptions=True)])


@flow
async def a_barrier_that_breaks_and_is_reset(ctx: Context, note: Notes) -> Any:
    barrier = asyncio.Barrier(3)

    async def meets(n: int) -> None:
        try:
            await barrier.wait()
            note(["met", n])
        except asyncio.BrokenBarrierError:
            note(["broken", n])
        await ctx.step("met", same, n)

    tasks = [asyncio.create_task(meets(n)) for n in range(2)]
    await ctx.step("before", same, 0)
    await barrier.reset()
    await asyncio.gather(*tasks)
    tasks = [asyncio.create_task(meets(n)) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await ctx.step("between", same, 0)
    await barrier.abort()
    await asyncio.gather(*tasks, return_exceptions=True)
    note([barrier.broken, barrier.n_waiting])


@flow
async def a_group_inside_an_async_generator(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note)

    async def several() -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(n)) for n in range(4)]
            for task in tasks:
                yield await task
            note("all")

    note([n async for n in several()])

    async def leaves() -> None:
        async with contextlib.aclosing(several()) as some:
            async for n in some:
                note(n)
                if n == 1:
                    break

    await caught(note, leaves())  # a group takes GeneratorExit for an error
    await ctx.step("behind", same, 0)


@flow
async def comprehensions(ctx: Context, note: Notes) -> Any:
    async def numbers() -> Any:
        for n in range(5):
            yield await ctx.step("n", same, n)

    note([n async for n in numbers() if n % 2])
    note({str(n): await ctx.step("square", same, n * n) async for n in numbers()})
    note([await one for one in [ctx.step("late", same, n) for n in range(3)]])
    note(sum([n async for n in numbers()]))


@flow
async def context_variables(ctx: Context, note: Notes) -> Any:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    async def sets(n: int) -> int:
        token = var.set(n)
        await ctx.sleep(n % 3 + 1)
        seen = var.get()
        var.reset(token)
        return seen

    note(await asyncio.gather(*(sets(n) for n in range(1, 6))))
    var.set(9)
    shared = contextvars.copy_context()
    note(await asyncio.create_task(sets(3), context=shared))
    asyncio.get_running_loop().call_later(1, lambda: note(["later", var.get()]), context=shared)
    await ctx.sleep(2)
    note(var.get())


@flow
async def futures_and_tasks_in_sets(ctx: Context, note: Notes) -> Any:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(9)]
    for one in {*futures}:
        note(futures.index(one))
        await ctx.step("each", same, futures.index(one))
        one.set_result(None)
    done, _ = await asyncio.wait(futures)
    note([futures.index(one) for one in done])
    tasks = [loop.create_task(ctx.step("s", same, n)) for n in range(9)]
    for task in {*tasks}:
        note(await ctx.step("of a task", same, tasks.index(task)))
    done, _ = await asyncio.wait(tasks)
    for task in done:
        note(tasks.index(task))


@flow
async def a_group_whose_tasks_make_tasks(ctx: Context, note: Notes) -> Any:
    async def grows(group: asyncio.TaskGroup, n: int) -> None:
        note(n)
        await ctx.step("grow", same, n)
        if n < 4:
            group.create_task(grows(group, n + 1))
            group.create_task(grows(group, n + 3))
        else:
            raise ValueError(str(n))

    async def all_of_it() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(grows(group, 0))

    await caught(note, all_of_it())


@flow
async def callbacks_and_handles(ctx: Context, note: Notes) -> Any:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(ctx.sleep(2))
    for n in range(5):
        task.add_done_callback(lambda _, n=n: note(["done", n]))
    handle = loop.call_later(5, note, "never")
    later = loop.call_at(loop.time() + 1, note, "soon")
    await task
    handle.cancel()
    note([handle.cancelled(), later.cancelled(), later.when() <= loop.time()])
    await ctx.sleep(9)


@flow
async def a_cancel_with_a_message(ctx: Context, note: Notes) -> Any:
    async def holds() -> None:
        try:
            await ctx.wait_for_signal("never")
        except asyncio.CancelledError as error:
            note(["told", [str(one) for one in error.args]])
            await asyncio.shield(ctx.step("tidy", same, 1))
            raise

    task = asyncio.create_task(holds())
    await ctx.step("one", same, 1)
    task.cancel("enough")
    await ctx.step("two", same, 2)
    task.cancel("again")
    await caught(note, task)


@flow
async def a_lock_that_changes_hands_under_cancels(ctx: Context, note: Notes) -> Any:
    lock = asyncio.Lock()

    async def holds(n: int) -> None:
        async with asyncio.timeout(n + 1), lock:
            note(["in", n])
            await ctx.sleep(2)
            note(["out", n])

    results = await asyncio.gather(*(holds(n) for n in range(7)), return_exceptions=True)
    note([type(one).__name__ for one in results])
    note(lock.locked())


# --- anyio -----------------------------------------------------------------------------------------------------------
@flow
async def anyio_groups(ctx: Context, note: Notes) -> Any:
    work = worker(ctx, note, fail=True, cleanup=False)
    async with anyio.create_task_group() as group:
        for n in (0, 2, 3):
            group.start_soon(work, n)
    try:
        async with anyio.create_task_group() as group:
            for n in range(9):
                group.start_soon(work, n)
    except* ValueError:
        note("failed")
    await ctx.step("behind", same, 0)


@flow
async def anyio_scopes(ctx: Context, note: Notes) -> Any:
    async def within(n: int) -> None:
        with anyio.CancelScope():
            try:
                await ctx.sleep(100 + n)
            finally:
                note(f"left {n}")
                with anyio.CancelScope(shield=True):
                    await ctx.step("clean", same, n)

    with anyio.move_on_after(2) as scope:
        async with anyio.create_task_group() as group:
            for n in range(7):
                group.start_soon(within, n)
    note(scope.cancelled_caught)
    try:
        with anyio.fail_after(1):
            await anyio.sleep(50)
    except TimeoutError:
        note("late")
    with anyio.move_on_after(1):  # branches that tidy up do not know of the scope, and take their time
        await ctx.all(*(worker(ctx, note, cleanup=True)(n) for n in range(3)))
    await anyio.lowlevel.checkpoint()
    await ctx.step("behind", same, 0)


@flow
async def anyio_streams_and_locks(ctx: Context, note: Notes) -> Any:
    send, receive = anyio.create_memory_object_stream(2)
    lock, gate, limiter = anyio.Lock(), anyio.Semaphore(2), anyio.CapacityLimiter(2)
    event, condition = anyio.Event(), anyio.Condition()

    async def takes(who: int) -> None:
        async with receive.clone() as mine:
            async for n in mine:
                note([who, n])
                async with lock, gate, limiter:
                    await ctx.step("take", same, n)
        async with condition:
            condition.notify_all()

    async def waits() -> None:
        await event.wait()
        async with condition:
            await condition.wait()
        note("told")

    async with anyio.create_task_group() as group:
        group.start_soon(waits)
        for who in range(3):
            group.start_soon(takes, who)
        event.set()
        async with send:
            for n in range(9):
                await send.send(n)
        receive.close()
    await anyio.sleep(1)


@flow
async def anyio_starts_and_shields(ctx: Context, note: Notes) -> Any:
    async def serves(n: int, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        await ctx.step("boot", same, n)
        task_status.started(n)
        try:
            await ctx.sleep(50)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(3):
                await ctx.step("down", same, n)
                await ctx.sleep(9)
            note(["down", n])

    async with anyio.create_task_group() as group:
        for n in range(3):
            note(await group.start(serves, n))
        group.cancel_scope.cancel()
    await ctx.step("behind", same, 0)


@flow
async def anyio_nested_deadlines(ctx: Context, note: Notes) -> Any:
    with anyio.move_on_after(8) as outer:
        try:
            with anyio.fail_after(5), anyio.fail_after(3):
                await ctx.sleep(50)
        except TimeoutError:
            note(["late", anyio.current_time() < outer.deadline])
        with anyio.move_on_after(1) as short:
            short.deadline += 2
            await ctx.sleep(50)
        note(short.cancelled_caught)
        await anyio.sleep_forever()
    note(outer.cancelled_caught)


@flow
async def anyio_streams_between_groups(ctx: Context, note: Notes) -> Any:
    send, receive = anyio.create_memory_object_stream(0)

    async def feeds(n: int, mine: Any) -> None:
        async with mine:
            for k in range(3):
                await mine.send([n, await ctx.step("feed", same, k)])

    async with anyio.create_task_group() as group, receive:
        async with send:
            for n in range(3):
                group.start_soon(feeds, n, send.clone())
        async for one in receive:
            note(one)
    try:
        send.send_nowait(1)
    except anyio.ClosedResourceError:
        note("closed")


@flow
async def anyio_within_asyncio_and_back(ctx: Context, note: Notes) -> Any:
    async def group(n: int) -> None:
        async with anyio.create_task_group() as several:
            several.start_soon(ctx.sleep, 20 + n)
            async with asyncio.TaskGroup() as inner:
                inner.create_task(ctx.sleep(n))
                inner.create_task(ctx.sleep(n + 1))
            several.cancel_scope.cancel()
        note(n)

    await asyncio.wait_for(asyncio.gather(*(group(n) for n in range(4))), 30)
    await caught(note, asyncio.wait_for(group(9), 5))
    event = anyio.Event()
    async with anyio.create_task_group() as several:
        several.start_soon(event.wait)
        await ctx.step("then", same, 0)
        event.set()


@flow
async def anyio_limiters(ctx: Context, note: Notes) -> Any:
    """Who waits is let in in order, also when the limit is raised or somebody in the queue is cancelled."""
    limiter = anyio.CapacityLimiter(1)
    scopes: dict[int, Any] = {}

    async def enters(n: int) -> None:
        with anyio.CancelScope() as scopes[n]:
            async with limiter:
                note(f"in {n}")
                await ctx.step("inside", same, n)
            note([f"out {n}", limiter.available_tokens])

    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(enters, n)
        await ctx.step("before", same, 0)
        scopes[2].cancel()
        scopes[5].cancel()
        limiter.total_tokens = 3
        await ctx.step("raised", same, 0)
        limiter.total_tokens = 1
    await limiter.acquire_on_behalf_of("somebody")
    note([limiter.borrowed_tokens, limiter.statistics().tasks_waiting])
    with anyio.move_on_after(1):
        await limiter.acquire_on_behalf_of("another")
    limiter.release_on_behalf_of("somebody")
    await limiter.acquire_on_behalf_of("another")
    try:
        limiter.acquire_nowait()
    except anyio.WouldBlock:
        note("would block")


@flow
async def anyio_locks_semaphores_and_conditions(ctx: Context, note: Notes) -> Any:
    lock, gate, condition, state = anyio.Lock(fast_acquire=True), anyio.Semaphore(2), anyio.Condition(), [0]
    scopes: dict[int, Any] = {}

    async def waits(n: int) -> None:
        with anyio.CancelScope() as scopes[n]:
            async with condition:
                while state[0] < n % 3:
                    await condition.wait()
                note(f"told {n}")
                await ctx.step("told", same, n)
            async with gate:
                await ctx.sleep(1)
                async with lock:
                    note(f"in {n}")
                    await ctx.step("inside", same, n)
        note([n, scopes[n].cancelled_caught])

    async with anyio.create_task_group() as group:
        for n in range(7):
            group.start_soon(waits, n)
        for told in (1, 2):
            await ctx.step("before", same, told)
            async with condition:
                state[0] = told
                condition.notify(2)
                scopes[told + 3].cancel()
        await ctx.step("then", same, 0)
        async with condition:
            condition.notify_all()
            scopes[6].cancel()
    note([lock.statistics().locked, gate.value, condition.statistics().tasks_waiting])


@flow
async def anyio_errors_of_groups(ctx: Context, note: Notes) -> Any:
    """What fails beside what tidies up, within groups of groups: the errors come in one order."""
    work = worker(ctx, note, fail=True, cleanup=True)

    async def inner(n: int) -> None:
        async with anyio.create_task_group() as group:
            for k in range(3):
                group.start_soon(work, 10 * n + k)
            await ctx.step("broken", broken) if n == 2 else await ctx.sleep(n)
            raise KeyError(n)

    async def outer() -> None:
        async with anyio.create_task_group() as group:
            for n in range(1, 4):
                group.start_soon(inner, n)
            await work(1)

    def leaves(error: BaseException) -> list[str]:
        if isinstance(error, BaseExceptionGroup):
            return [leaf for one in error.exceptions for leaf in leaves(one)]
        return [type(error).__name__]

    try:
        await outer()
    except BaseExceptionGroup as group:
        note(leaves(group))
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class():
            note("cancelled at once")
            raise
    note(scope.cancelled_caught)
    await anyio.lowlevel.cancel_shielded_checkpoint()


@flow
async def anyio_waits_for_signals(ctx: Context, note: Notes) -> Any:
    """A suspension within scopes and groups: a deadline, an approval and a feed, all durable."""
    send, receive = anyio.create_memory_object_stream(1)

    async def asks(n: int) -> None:
        with anyio.move_on_after(n) as scope:
            await ctx.wait_for_signal(f"never {n}")
        await send.send([n, scope.cancelled_caught])

    async with anyio.create_task_group() as group:
        for n in (3, 1, 2):
            group.start_soon(asks, n)
        for _ in range(3):
            note(await receive.receive())
    with anyio.fail_after(9_999):
        note(await ctx.wait_for_signal("end"))
    send.close()
    try:
        receive.receive_nowait()
    except anyio.EndOfStream:
        note("ended")


@flow
async def anyio_under_a_task_factory(ctx: Context, note: Notes) -> Any:
    """A factory and an exception handler of the user's own, which libraries set and ask for."""
    loop, made, told = asyncio.get_running_loop(), [], []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(1)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(worker(ctx, note), n)
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)
    loop.call_exception_handler({"message": "nobody looked", "exception": ValueError("seen")})
    assert loop.get_exception_handler() is not None
    loop.set_exception_handler(None)
    return [len(made), told]


@flow
async def anyio_gathers_and_caches(ctx: Context, note: Notes) -> Any:
    """What anyio 4.15 and newer bring beside the groups."""
    work = worker(ctx, note)
    note(await anyio.gather(work(3), work(1)))
    note(await anyio.amap(work, [4, 2]))
    async with anyio.as_completed(work(5), work(6), work(7)) as ends:
        async for one in ends:
            note(one.return_value)
    future: Any = anyio.Future()

    async def sets() -> None:
        future.return_value = await ctx.step("sets", same, 8)

    @anyio.functools.cache
    async def kept(n: int) -> Any:
        return await ctx.step("kept", same, n)

    async with anyio.create_task_group() as group:
        group.start_soon(sets)
        for n in (1, 2, 1):
            group.start_soon(kept, n)
        note(await future)
    return kept.cache_info().misses


# --- running them ---------------------------------------------------------------------------------------------------
async def ended(name: str, crash: bool = False, again: int = 0) -> bytes:
    """The history of one flow, as a bundle. With ``crash`` each suspension ends a process, and the next one goes on."""
    host = SimulatedHost(seed=7)
    runtime = Runtime(host, workflows=FLOWS.values())
    run = await runtime.start(name, id=name)
    for _ in range(1000):
        await run.settle()
        record = await runtime.get_execution(name)
        if record.status != "suspended":
            break
        if "signal end" in record.waiting:
            await runtime.signal(name, "end")
        else:
            assert record.wake_at is not None, record.waiting
            host.advance(max(0.0, (record.wake_at - host.now_ms()) / 1000))
        if crash:
            await runtime.close()
            host = host.reopen()
            junk(again)
            runtime = Runtime(host, workflows=FLOWS.values())
        await runtime.run_due()
        run = await runtime.resume(name)
    await run.result()
    data = await runtime.export(name)
    await runtime.close()
    return data


_junk: list[bytearray] = []


def junk(seed: int) -> None:
    """Move what is allocated next, as another process would."""
    random.seed(seed)
    _junk.extend(bytearray(random.randint(1, 900)) for _ in range(random.randint(1, 2000)))
    random.shuffle(_junk)
    del _junk[len(_junk) // 2 :]


async def write(folder: Path) -> None:
    """Make the history of every flow."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FLOWS:
        (folder / f"{name}.alk").write_bytes(await ended(name))


def check(folder: Path) -> list[str]:
    """Replay every history of ``folder``; what went wrong, in words."""
    found = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.alk")) if path.stem in FLOWS}
    assert found, f"no histories in {folder}"
    return [f"{one.name}: {one.message}" for one in replay.check(found, FLOWS.values()) if not one.ok]


if __name__ == "__main__":
    verb, where = sys.argv[1], Path(sys.argv[2])
    if verb == "write":
        asyncio.run(write(where))
    else:
        junk(len(str(where)) + sys.version_info[1])
        failed = check(where)
        print(*failed, sep="\n\n")
        sys.exit(bool(failed))
