"""What ends a driver's wait: no ending of a step is missed, however slow the store is."""

from __future__ import annotations

import asyncio

from alkaline_edge import Context, Retry, Runtime, workflow
from alkaline_edge.host import Entry
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


class SlowInbox(SimulatedHost):
    """A look into an inbox takes until the step in flight has ended, as it may on a store across a network."""

    looked: asyncio.Event
    ended: asyncio.Event

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        found = await super().list(prefix, after, limit)
        if prefix.startswith("i/exe_1/"):
            self.looked.set()
            await self.ended.wait()
            for _ in range(5):  # the ended task's callbacks have their turn before the answer comes
                await asyncio.sleep(0)
        return found


def test_a_step_that_ends_while_the_inbox_is_read_is_not_waited_for() -> None:
    """The next step starts at once, and not when the lease wants renewing (found on Postgres: ten seconds)."""

    async def body() -> None:
        host = SlowInbox()
        host.looked, host.ended = asyncio.Event(), asyncio.Event()

        async def first() -> int:
            await host.looked.wait()
            host.ended.set()
            return host.now_ms()

        async def second(then: int) -> int:
            return host.now_ms() - then

        @workflow
        async def two(ctx: Context) -> int:
            return await ctx.step(second, await ctx.step(first))

        async with Runtime(host, workflows=[two]) as runtime:
            run = await runtime.start(two, id="exe_1")
            assert await run.result() < 1000

    drive(body)


def test_of_what_is_waited_for_the_earliest_ends_the_wait() -> None:
    """A sleep and a backoff beside a step in flight end at their own times, and not when the lease wants renewing."""

    async def body() -> None:
        host = SimulatedHost()

        async def slow() -> None:
            await host.sleep(9)

        tries: list[int] = []

        async def fails_once() -> int:
            tries.append(host.now_ms())
            if len(tries) == 1:
                raise ValueError("once")
            return tries[1] - tries[0]

        @workflow
        async def beside(ctx: Context) -> list[int]:
            async def nap() -> int:
                began = ctx.now()
                await ctx.sleep(1)
                return round((ctx.now() - began).total_seconds() * 1000)

            slept, again, _ = await asyncio.gather(
                nap(), ctx.step(fails_once, retry=Retry(max_attempts=2, backoff=2)), ctx.step(slow)
            )
            return [slept, again]

        async with Runtime(host, workflows=[beside]) as runtime:
            slept, again = await (await runtime.start(beside)).result()
            assert 1000 <= slept < 1100
            assert 2000 <= again < 2100

    drive(body)
