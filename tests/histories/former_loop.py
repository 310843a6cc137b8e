"""Workflows whose histories version 0.1 wrote with the asyncio of its Python; each waits for the signal ``end``.

The histories of ``former/`` were made by 0.1 on CPython 3.11, 3.12 and 3.13, as `python former_loop.py FOLDER` does.
They say nothing of the rules of their loop, so they are replayed by those of 0.1. Never edit them, nor these.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alkaline_edge import Context, Runtime, Workflow, workflow
from alkaline_edge.testing import SimulatedHost

FORMER: dict[str, Workflow] = {}


async def same(value: Any) -> Any:
    return value


def former(fn: Callable[[Context, list[Any]], Any]) -> None:
    """A workflow that returns the notes of ``fn``, each with a value drawn when it was made."""

    @workflow(name=fn.__name__)
    async def noted(ctx: Context) -> list[Any]:
        notes: list[Any] = []
        await fn(ctx, notes)
        await ctx.wait_for_signal("end")
        return list(await ctx.step("notes", same, notes))

    FORMER[fn.__name__] = noted


def note(ctx: Context, notes: list[Any], what: Any) -> None:
    notes.append([what, round(ctx.random(), 6)])


@former
async def waits_for_steps(ctx: Context, notes: list[Any]) -> None:
    note(ctx, notes, await asyncio.wait_for(ctx.step("a", same, 1), 5))
    note(ctx, notes, await asyncio.gather(ctx.step("b", same, 2), asyncio.wait_for(ctx.step("c", same, 3), 9)))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ctx.wait_for_signal("never"), 2)
    note(ctx, notes, "late")


@former
async def gathers_what_is_done(ctx: Context, notes: list[Any]) -> None:
    tasks = [asyncio.create_task(ctx.step("s", same, n)) for n in range(3)]
    await asyncio.wait(tasks)

    async def beside() -> None:
        for n in range(4):
            note(ctx, notes, n)
            await asyncio.sleep(0)

    side = asyncio.create_task(beside())
    note(ctx, notes, await asyncio.gather(*tasks))
    await side


@former
async def tells_and_cancels(ctx: Context, notes: list[Any]) -> None:
    condition = asyncio.Condition()

    async def waits(n: int) -> None:
        async with condition:
            await condition.wait()
            note(ctx, notes, n)

    tasks = [asyncio.create_task(waits(n)) for n in range(3)]
    await ctx.step("before", same, 0)
    async with condition:
        condition.notify()
    tasks[0].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    note(ctx, notes, [task.done() for task in tasks])
    tasks[2].cancel()
    await asyncio.wait(tasks, timeout=5)


@former
async def lets_in_and_cancels(ctx: Context, notes: list[Any]) -> None:
    gate = asyncio.Semaphore(0)
    waits = [asyncio.create_task(gate.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.release()
    gate.release()
    waits[0].cancel()
    waits[2].cancel()
    for _ in range(4):
        await asyncio.sleep(0)
        note(ctx, notes, [[one.done(), one.cancelled()] for one in waits])
    for _ in range(5):
        gate.release()
    await asyncio.gather(*waits, return_exceptions=True)


@former
async def fails_while_it_is_cancelled(ctx: Context, notes: list[Any]) -> None:
    async def inner() -> None:
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            raise ValueError("in cleanup") from None

    async def outer() -> None:
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())
        note(ctx, notes, "failed")
        await asyncio.sleep(0)
        note(ctx, notes, "went on")
        await ctx.step("went on", same, 1)

    task = asyncio.create_task(outer())
    await ctx.step("first", same, 0)
    task.cancel()
    await asyncio.wait([task])
    note(ctx, notes, task.cancelled())


@former
async def fails_in_a_timeout(ctx: Context, notes: list[Any]) -> None:
    try:
        async with asyncio.timeout(1):
            try:
                await ctx.sleep(5)
            except asyncio.CancelledError as error:
                raise ValueError("instead") from error
    except ValueError as error:
        await ctx.step(f"context {type(error.__context__).__name__}", same, 1)


@former
async def cancels_itself(ctx: Context, notes: list[Any]) -> None:
    async def itself(back: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if back:
            task.uncancel()
        try:
            await ctx.step("s", same, back)
            note(ctx, notes, "not cancelled")
        except asyncio.CancelledError:
            note(ctx, notes, ["cancelled", task.cancelling()])

    async def returns() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    await asyncio.gather(itself(True), itself(False), return_exceptions=True)
    task = asyncio.create_task(returns())
    await asyncio.wait([task])
    note(ctx, notes, task.cancelled())


async def suspended(name: str) -> tuple[bytes, list[Any]]:
    """The history of a run that waits for the signal ``end``, and what it returns behind that."""
    host = SimulatedHost(seed=7)
    async with Runtime(host, workflows=FORMER.values()) as runtime:
        run = await runtime.start(name, id=name)
        return await goes_on(runtime, host, name, stop=True), list(await run.result())


async def goes_on(runtime: Runtime, host: SimulatedHost, name: str, stop: bool = False) -> bytes:
    """Let time pass until the run waits for the signal ``end``, and send it; gives its history before that."""
    while True:
        await (await runtime.resume(name)).settle()
        record = await runtime.get_execution(name)
        if record.waiting == ["signal end"]:
            data = await runtime.export(name) if stop else b""
            await runtime.signal(name, "end")
            return data
        assert record.wake_at is not None, (record.status, record.waiting)
        host.advance(max(0.0, (record.wake_at - host.now_ms()) / 1000))
        await runtime.run_due()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for each in FORMER:
        (folder / f"{each}.alk").write_bytes(asyncio.run(suspended(each))[0])
