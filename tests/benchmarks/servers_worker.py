"""The worker processes of bench_servers, what they run and what they write down about it.

python servers_worker.py serve URL LOG CONCURRENCY LEASE
python servers_worker.py bare URL LOG CONCURRENCY COUNT      (it begins when a line comes in)

A line of the log: what happened, to which run, at which step, in which process, when (ns; one clock for all processes).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.lifecycle import RunCompleted, RunStuck
from alkaline_hosts.opening import open_host

PAYLOAD = "x" * 160
"""A step's result: with what stands around it in the history, about 200 bytes."""
ROW = b"x" * 200
log = -1


def say(what: str, run: str = "-", step: Any = "-") -> None:
    """One line of the log, whole, whatever others write at the same time."""
    os.write(log, f"{what} {run} {step} {os.getpid()} {time.monotonic_ns()}\n".encode())


def opened(path: Path) -> None:
    """Write to ``path`` from now on."""
    global log
    log = os.open(path, os.O_WRONLY | os.O_APPEND)


async def effect(run: str, n: int, seconds: float) -> str:
    """A step: its effect is its line."""
    say("begin", run, n)
    if seconds:
        await asyncio.sleep(seconds)
    return PAYLOAD


@workflow(name="bench", version=1)
async def bench(ctx: Context, input: dict[str, Any]) -> None:
    """``steps`` steps, one after the other, of ``seconds`` each."""
    for n in range(input["steps"]):
        await ctx.step("effect", effect, ctx.execution.id, n, input["seconds"])


def heard(event: Any) -> None:
    """Write down what the judge wants to know."""
    if isinstance(event, RunCompleted):
        say("completed", event.id)
    elif isinstance(event, RunStuck):
        say("stuck", event.id, event.code)


async def serve(url: str, concurrency: int, lease: float) -> None:
    """Serve until killed."""
    async with Runtime(open_host(url), workflows=[bench], lease=lease, on_event=heard) as runtime:
        say("ready")
        await runtime.serve(concurrency=concurrency)


# --- the floor -------------------------------------------------------------------------------------------------------
Insert = Callable[[], Awaitable[Any]]


async def postgres_inserts(url: str, concurrency: int) -> list[Insert]:
    """For each of so many connections, one autocommitted INSERT, prepared."""
    import asyncpg

    def insert_on(statement: Any) -> Insert:
        return lambda: statement.fetch(ROW)

    inserts = []
    for _ in range(concurrency):
        connection = await asyncpg.connect(url)
        inserts.append(insert_on(await connection.prepare("INSERT INTO bare (value) VALUES ($1)")))
    return inserts


async def redis_inserts(url: str, concurrency: int) -> list[Insert]:
    """For each of so many connections, one SET of a new key."""
    from redis.asyncio import Redis

    numbers = iter(range(sys.maxsize))

    def insert_on(client: Any) -> Insert:
        return lambda: client.set(f"bare:{os.getpid()}:{next(numbers)}", ROW)

    clients = [Redis.from_url(url, single_connection_client=True) for _ in range(concurrency)]
    for client in clients:
        await client.ping()
    return [insert_on(client) for client in clients]


async def bare(url: str, concurrency: int, count: int) -> None:
    """So many inserts, on as many connections as there are inserts at once."""
    connect = postgres_inserts if url.startswith("postgresql:") else redis_inserts
    left = iter(range(count))

    async def loop(insert: Insert, left: Iterator[int]) -> None:
        for _ in left:
            await insert()

    inserts = await connect(url, concurrency)
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    say("begin")
    await asyncio.gather(*(loop(insert, left) for insert in inserts))
    say("done")
    await asyncio.sleep(3600)  # until killed


if __name__ == "__main__":
    opened(Path(sys.argv[3]))
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2], int(sys.argv[4]), float(sys.argv[5])))
    else:
        asyncio.run(bare(sys.argv[2], int(sys.argv[4]), int(sys.argv[5])))
