"""Schedules on a real Postgres: processes that are killed, and each tick once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.triggers import Every, Triggers
from alkaline_hosts import open_host

from .conftest import until


@workflow
async def quick(ctx: Context, input: int) -> int:
    return await ctx.step("do", lambda: input)


def test_several_processes_start_each_tick_once(database: str) -> None:
    """Four of them serve, and each is closed and begun anew in between."""

    async def work(stop: asyncio.Event, lives: list[int]) -> None:
        while not stop.is_set():
            host = open_host(database)
            async with Runtime(host, workflows=[quick], poll=0.1) as runtime:
                Triggers(runtime)
                lives.append(1)
                await runtime.serve(datetime.now(UTC) + timedelta(seconds=1.5))
            await host.close()

    async def test() -> None:
        host = open_host(database)
        stop, lives = asyncio.Event(), list[int]()
        async with Runtime(host) as maker:
            triggers = Triggers(maker)
            await triggers.create("q", "quick", Every(0.25), 7, overlap="allow", max_runs=20)
            workers = [asyncio.ensure_future(work(stop, lives)) for _ in range(4)]

            async def all_done() -> bool:
                records = list(await maker.list_executions(status="completed"))
                return len(records) == 20

            await until(all_done, 60)
            stop.set()
            await asyncio.gather(*workers)
            records = list(await maker.list_executions())
            ticks = [datetime.fromisoformat(record.id.partition("@")[2]) for record in records]
            assert len(records) == 20
            assert {later - earlier for earlier, later in pairwise(sorted(ticks))} == {timedelta(seconds=0.25)}
            assert (await triggers.get("q")).status == "ended"
            assert len(lives) > 4
        await host.close()

    asyncio.run(test())
