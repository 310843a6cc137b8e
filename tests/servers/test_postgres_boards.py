"""A board on a real Postgres: eight workers, each with connections of its own, that are stopped and begun anew."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from alkaline_edge import Runtime
from alkaline_edge.board import Board, Claim
from alkaline_hosts import open_host

TASKS = 20


def test_eight_workers_do_each_task_once_and_in_the_order_of_their_links(database: str) -> None:
    """Workers are stopped in the middle of their work and begun anew: what they held is done by others."""
    done: list[tuple[str, str]] = []

    async def work(name: str, stop: asyncio.Event) -> None:
        random = Random(name)
        while not stop.is_set():
            host = open_host(database)
            async with Runtime(host, poll=0.1) as runtime:

                async def do(claim: Claim) -> Any:
                    await asyncio.sleep(random.random() / 50)
                    if random.random() < 0.1:
                        raise ConnectionError("by chance")
                    return claim.token

                working = asyncio.ensure_future(Board(runtime, "b").work(do, worker=name, concurrency=2, poll=0.05))
                ends = asyncio.ensure_future(stop.wait())
                await asyncio.wait([working, ends], timeout=1 + random.random(), return_when=asyncio.FIRST_COMPLETED)
                working.cancel()
                ends.cancel()
                await asyncio.gather(working, ends, return_exceptions=True)
            await host.close()

    async def test() -> None:
        host = open_host(database)
        async with Runtime(host) as runtime:
            board, random = Board(runtime, "b"), Random(5)
            for n in range(TASKS):
                parents = random.sample([f"t{m}" for m in range(n)], min(n, random.choice((0, 1, 2))))
                await board.create("t", id=f"t{n}", parents=parents, ttl=2, max_failures=50)
            stop = asyncio.Event()
            workers = [asyncio.ensure_future(work(f"w{n}", stop)) for n in range(8)]
            async with asyncio.timeout(90):
                while (await board.head()).counts != {"done": TASKS}:
                    await asyncio.sleep(0.1)
            stop.set()
            await asyncio.gather(*workers)
            events, after = list[Any](), 0
            while page := await board.events(after, 500):
                events += page
                after = page[-1].number
            assert [event.number for event in events] == list(range(1, len(events) + 1))
            completed = {event.task: event.number for event in events if event.kind == "complete"}
            done.extend((event.task, event.kind) for event in events if event.kind == "complete")
            assert len(done) == len(completed) == TASKS
            for task in await board.list(limit=100):
                claims = [event.number for event in events if event.task == task.id and event.kind == "claim"]
                assert len(claims) == task.epoch
                assert all(completed[parent] < min(claims) for parent, _ in task.parents)
        await host.close()

    asyncio.run(test())
