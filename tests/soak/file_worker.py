"""The one process of a file: it starts runs, sends them their signals, drives them, and is killed at any moment.

    python file_worker.py PATH RUNS FULL

What it did goes to stdout, a line each, as ``soak_worker`` writes it. Each new process sends the signals of every run
that goes on once more, under their old keys. With FULL its files may not grow for a moment, now and then: the disk is
full, and then is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alkaline_edge import AlkalineError, Runtime
from alkaline_hosts.file import FileHost
from tests.servers import soak_worker
from tests.servers.soak_worker import SIGNALS, heard, say, soak

AT_ONCE = 8
LEASE = 2.0
FREE = resource.RLIM_INFINITY


async def told(ask: Any, *what: Any) -> None:
    """Until the store says yes; then it is written down."""
    while True:
        try:
            await ask()
        except AlkalineError as error:
            if error.code == "ERR_CONFLICT":  # the run has ended meanwhile
                return
            if error.code != "ERR_STORE":
                raise
            await asyncio.sleep(0.1)
        else:
            say(*what)
            return


async def send(runtime: Runtime, id: str, chance: random.Random) -> None:
    """Its signals, in order."""
    for n in range(SIGNALS):
        await asyncio.sleep(chance.uniform(0, 1))
        await told(lambda n=n: runtime.signal(id, "go", n, dedupe=f"go{n}"), "sent", id, n)  # type: ignore[misc]


async def start(runtime: Runtime, most: int, chance: random.Random) -> None:
    """Runs one after the other, so that some go on at any time; ends with the last one."""
    sending: dict[str, asyncio.Task[None]] = {}
    while True:
        going = [each.id async for each in unfinished(runtime)]
        for id in going:
            if id not in sending:
                sending[id] = asyncio.ensure_future(send(runtime, id, chance))
        made = len(await everything(runtime))
        if not going and made >= most:
            return
        for n in range(made, min(most, made + AT_ONCE - len(going))):
            await told(lambda n=n: runtime.start(soak, id=f"r{n}", on_conflict="join"), "started", f"r{n}", "-")  # type: ignore[misc]
        await asyncio.sleep(0.2)


async def unfinished(runtime: Runtime) -> AsyncIterator[Any]:
    """Runs that have not ended."""
    for record in await everything(runtime):
        if not record.finished:
            yield record


async def everything(runtime: Runtime) -> list[Any]:
    """All runs."""
    found: list[Any] = []
    after = ""
    while True:
        page = await runtime.list_executions(after=after, limit=500)
        found += page.items
        if not page.after:
            return found
        after = page.after


async def crowd(path: Path, chance: random.Random) -> None:
    """Let no file grow for a while, from somewhere within the next commits on."""
    while True:
        await asyncio.sleep(chance.uniform(0.2, 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + chance.randrange(3_000), FREE))
        say("full", "-", "-")
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FREE, FREE))


async def work(path: Path, most: int, full: bool) -> None:
    """Until all runs have ended, or until killed."""
    soak_worker.log = 1
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    chance = random.Random()
    async with Runtime(FileHost(path), workflows=[soak], lease=LEASE, on_event=heard) as runtime:
        crowding = asyncio.ensure_future(crowd(path, chance)) if full else None
        serving = asyncio.ensure_future(serve(runtime))
        try:
            while True:
                try:
                    await start(runtime, most, chance)
                    return
                except AlkalineError as error:
                    if error.code != "ERR_STORE":
                        raise
                    await asyncio.sleep(0.1)
        finally:
            if crowding is not None:
                crowding.cancel()
                resource.setrlimit(resource.RLIMIT_FSIZE, (FREE, FREE))
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def serve(runtime: Runtime) -> None:
    """As long as it is not cancelled."""
    while True:
        with contextlib.suppress(AlkalineError):
            await runtime.serve()
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "full"))
