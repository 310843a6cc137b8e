"""What the soak's workers run, what they write down about it, and what that proves.

python soak_worker.py URL LOG CONCURRENCY LEASE
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from alkaline_edge import AlkalineError, Context, Runtime, workflow
from alkaline_edge.errors import ERR_STORE
from alkaline_edge.lifecycle import RunStuck, StepFinished
from alkaline_hosts.opening import open_host

ROUNDS, SIGNALS = 6, 3
PAYLOAD = "x" * 100
log = -1


def say(*words: Any) -> None:
    """One line of the log, whole, whatever others write at the same time: who and when stand at its end."""
    os.write(log, (" ".join(map(str, [*words, os.getpid(), time.time_ns() // 1_000_000])) + "\n").encode())


def opened(path: Path) -> None:
    """Write to ``path`` from now on."""
    global log
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def effect(run: str, key: str, seconds: float) -> str:
    """The step's effect is its line. Names are a letter and the round: a0, then b0 beside c0, then a1 ..."""
    say("begin", run, key)
    await asyncio.sleep(seconds)
    return f"{os.getpid()} {PAYLOAD}"


@workflow(name="soak", version=1)
async def soak(ctx: Context) -> Any:
    """Rounds of a step, two steps side by side, a timer, and in some a signal; returns the signals."""
    got: list[Any] = []
    run = ctx.execution.id
    for n in range(ROUNDS):
        await ctx.step(f"a{n}", effect, run, f"a{n}", 0.02)
        await ctx.all(*(ctx.step(f"{letter}{n}", effect, run, f"{letter}{n}", 0.1 * ctx.random()) for letter in "bc"))
        await ctx.sleep(0.1 + 0.5 * ctx.random())
        if n % (ROUNDS // SIGNALS) == 0:
            got.append(await ctx.wait_for_signal("go"))
    return got


def heard(event: Any) -> None:
    """A result is committed when this is told of it."""
    if isinstance(event, StepFinished):
        say("done", event.id, event.name)
    elif isinstance(event, RunStuck) and event.code != ERR_STORE:
        say("stuck", event.id, event.code)


async def work(url: str, path: Path, concurrency: int, lease: float) -> None:
    """Serve until killed."""
    opened(path)
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # the store is away now and then
    while True:
        host = open_host(url)
        try:
            async with Runtime(host, workflows=[soak], lease=lease, on_event=heard) as runtime:
                await runtime.serve(concurrency=concurrency)
        except AlkalineError as error:
            if error.code != ERR_STORE:  # which serve raises where the store was away as it began
                raise
        await asyncio.sleep(0.5)


# --- what the log proves ---------------------------------------------------------------------------------------------
def stage(key: str) -> int:
    """How many steps must have been committed one after the other before this one begins."""
    return 2 * int(key[1:]) + (key[0] != "a")


class Evidence:
    """What the lines say. ``again``: committed steps that were run again; ``repeated``: steps whose result was lost;
    ``done``: runs and steps whose result was committed."""

    def __init__(self, lines: list[str]) -> None:
        self.again: list[str] = []
        self.stuck: list[str] = []
        self.begun = self.repeated = 0
        furthest: dict[str, int] = defaultdict(int)
        begun: set[tuple[str, str]] = set()
        self.done: set[tuple[str, str]] = set()
        for line in lines:
            word, run, key = line.split()[:3]
            if word == "stuck":
                self.stuck.append(line)
            elif word == "done":
                self.done.add((run, key))
            else:
                # A step of a later stage had begun: the handler had seen this one's result, which was durable then.
                if stage(key) < furthest[run] or (run, key) in self.done:
                    self.again.append(line)
                self.repeated += (run, key) in begun
                self.begun += 1
                begun.add((run, key))
                furthest[run] = max(furthest[run], stage(key))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
