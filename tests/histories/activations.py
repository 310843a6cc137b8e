"""Golden histories whose commits wake their handlers with several events, and the code that they were made with.

It stays as it is, like that of ``workflows``: what stands in one commit is applied together, then the handler runs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import Budget, Context, Retry, Runtime, workflow
from alkaline_edge.testing import SimulatedHost

tries: dict[int, int] = {}


async def fetch(n: int) -> Any:
    await asyncio.sleep(0)
    tries[n] = tries.get(n, 0) + 1
    if n % 4 == 1 and tries[n] % 2:
        raise ConnectionError(f"attempt at {n}")
    if n % 7 == 6:
        raise ConnectionError(f"{n} is down for good")
    return n if n != 8 else "x" * 200_000


@workflow
async def one_of_many(ctx: Context, n: int) -> int:
    return int(await ctx.step("double", lambda n: n * 2, n))


@workflow(budget=Budget(tokens=1_000))
async def waves(ctx: Context) -> Any:
    """Steps that complete, fail, are tried again and cost something; each branch draws when it goes on."""
    seen: list[Any] = []

    async def branch(n: int) -> Any:
        try:
            value = await ctx.step(
                "fetch", fetch, n, cost=n % 3 or None, retry=Retry(max_attempts=2, backoff=1), compensate=undo
            )
        except ConnectionError as error:
            value = str(error)
        seen.append([n, round(ctx.random(), 6)])
        ctx.emit("seen", n)
        if n % 2:
            ctx.spend(1, f"branch {n}")
        return len(value) if isinstance(value, str) and n == 8 else value

    first = await ctx.map(branch, range(12))
    second = await asyncio.gather(*(ctx.step("again", fetch, n * 4) for n in range(5) if n != 2))
    quick, value = await ctx.race(a=ctx.step("a", fetch, 0), b=ctx.step("b", fetch, 4))
    return [first, second, quick, value, seen]


async def undo(value: Any) -> None:
    await asyncio.sleep(0)


@workflow
async def timers_of_one_moment(ctx: Context) -> Any:
    order: list[int] = []

    async def sleeps(n: int) -> None:
        await (ctx.sleep(30) if n % 2 else asyncio.sleep(30))
        order.append(n)
        await ctx.step("after", fetch, n * 28)

    await asyncio.gather(*(sleeps(n) for n in range(6)))
    try:
        async with asyncio.timeout(5):
            await ctx.sleep(5)
        order.append(-1)
    except TimeoutError:
        order.append(-2)
    return order


@workflow
async def mail(ctx: Context) -> Any:
    """Signals that come together: for who waits, for who gave up meanwhile, and for nobody yet."""
    got: list[Any] = []
    ctx.on_update("count", lambda _: len(got))

    async def taker(n: int) -> None:
        got.append([n, await ctx.wait_for_signal("item", timeout=900)])
        await ctx.step("store", fetch, n * 28)

    takers = [asyncio.ensure_future(taker(n)) for n in range(3)]
    await ctx.wait_for_signal("stop")
    for task in takers:
        task.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    while (item := await ctx.wait_for_signal("item")) is not None:
        got.append(["later", item])
    return got


@workflow
async def family(ctx: Context) -> Any:
    return await ctx.all(*(ctx.child("one_of_many", n) for n in range(5)))


@workflow
async def many_and_a_cancel(ctx: Context) -> Any:
    await ctx.map(lambda n: ctx.step("take", fetch, n * 4, compensate=undo), range(2))
    try:
        await asyncio.gather(*(ctx.wait_for_signal(f"s{n}") for n in range(3)))
        await ctx.wait_for_signal("never")
    finally:
        await asyncio.gather(*(ctx.step("clean", fetch, n * 4) for n in (3, 4)))


RUNS = ("waves", "timers_of_one_moment", "mail", "family", "many_and_a_cancel")
WORKFLOWS = [one_of_many, waves, timers_of_one_moment, mail, family, many_and_a_cancel]


async def made() -> dict[str, bytes]:
    """A bundle of each run."""
    host = SimulatedHost(seed=11)
    tries.clear()
    async with Runtime(host, workflows=WORKFLOWS) as runtime:
        for name in RUNS:
            await (await runtime.start(name, id=name)).settle()
        host.advance(31)
        await runtime.run_due()
        await runtime.settle("timers_of_one_moment")
        async with Runtime(host.reopen()) as outside:  # it owns nothing: what it sends is found together
            await outside.signal("mail", "stop")
            for n in range(2):
                await outside.signal("mail", "item", n)
            await outside.signal("mail", "item", "behind")
            for n in range(3):
                await outside.signal("many_and_a_cancel", f"s{n}", n)
            await outside.cancel("many_and_a_cancel", "not needed")
            await outside.signal("many_and_a_cancel", "s0", "behind the cancel")
        await runtime.run_due()
        await runtime.settle("mail")
        await runtime.update("mail", "count", None)
        await runtime.signal("mail", "item", None)
        for name in RUNS:
            run = await runtime.resume(name)
            await run.settle()
            host.advance(10)
            await runtime.run_due()
            await run.settle()
        return {f"together-{name.replace('_', '-')}": await runtime.export(name) for name in RUNS}
