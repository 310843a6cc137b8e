"""The code that the golden histories were made with. It stays as it is: a history is checked against it for ever."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from alkaline_edge import Budget, Context, Retry, workflow

tries: list[int] = []


def flaky() -> str:
    tries.append(1)
    if len(tries) % 2:
        raise ConnectionError("down")
    return "up"


def broken() -> None:
    raise ValueError("for good")


def values() -> list[Any]:
    return [
        None,
        True,
        -1,
        2**70,
        1.5,
        "é",
        b"\x00\xff",
        {"b": [1], "a": {}},
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    ]


@workflow
async def helper(ctx: Context, n: int) -> int:
    return int(await ctx.step("double", lambda: n * 2))


@workflow(budget=Budget(tokens=1_000, usd=2.0))
async def every_kind(ctx: Context, input: dict[str, str]) -> Any:
    total = [0]

    def add(n: int) -> int:
        total[0] += n
        return total[0]

    ctx.on_update("add", add)
    drawn = [ctx.now(), ctx.random(), ctx.uuid(), ctx.patched("golden")]
    ctx.spend(10, "planning", usd=0.5)
    ctx.emit("progress", {"stage": 1})
    first = await ctx.step("values", values, cost=5)
    second = await ctx.step("flaky", flaky, retry=Retry(max_attempts=3, backoff=1))
    try:
        await ctx.step("broken", broken, at_most_once=True)
    except ValueError as error:
        third = str(error)
    branches = await ctx.all(*(ctx.step("branch", lambda n=n: n, n) for n in range(3)))
    async with asyncio.TaskGroup() as group:
        child = group.create_task(ctx.child("helper", 21))
        group.create_task(ctx.sleep(5))
    large = await ctx.step("large", lambda: "x" * 200_000)
    signal = await ctx.wait_for_signal("go", timeout=10_000)
    late = await ctx.wait_for_signal("late", timeout=5, default="none")
    return [len(drawn), first, second, third, branches, child.result(), len(large), signal, late, total[0]]


@workflow
async def cleans_up(ctx: Context) -> None:
    await ctx.step("reserve", lambda: "room", compensate=lambda room: f"released {room}")
    try:
        await ctx.wait_for_signal("never")
    finally:
        await ctx.step("clean", lambda: "clean")


@workflow
async def fails(ctx: Context) -> None:
    await ctx.step("broken", broken)


@workflow
async def in_flight(ctx: Context) -> str:
    await asyncio.gather(ctx.step("a", lambda: 1), ctx.step("b", lambda: 2))
    return str(await ctx.wait_for_signal("go"))


@workflow
async def continues(ctx: Context, n: int) -> None:
    await ctx.step("work", lambda: n)
    if n < 2:
        ctx.continue_as_new(n + 1)
    await ctx.wait_for_signal("go")


WORKFLOWS = [helper, every_kind, cleans_up, fails, in_flight, continues]
