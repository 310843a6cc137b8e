"""DBOS on SQLite. A replay is a fork behind the last step, which reads every recorded result again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import harness
from dbos import DBOS, SetWorkflowID


@DBOS.step()
async def step(n: int) -> Any:
    return harness.payload(n)


@DBOS.workflow()
async def sequence(count: int) -> int:
    for n in range(count):
        await step(n)
    return count


@DBOS.workflow()
async def fan(count: int) -> int:
    await asyncio.gather(*(step(n) for n in range(count)))
    return count


def _launched(folder: Path) -> None:
    url = f"sqlite:///{folder / 'store.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": url, "console_log_level": "ERROR", "run_admin_server": False})
    DBOS.launch()


async def _one(flow: Any, count: int, folder: Path) -> Any:
    _launched(folder)
    before = harness.bytes_in(folder)
    with harness.spent(count) as found:
        await (await DBOS.start_workflow_async(flow, count)).get_result()
    DBOS.destroy()
    found["bytes"] = (harness.bytes_in(folder) - before) / count
    return found


async def _many(count: int, folder: Path) -> Any:
    _launched(folder)
    with harness.spent(harness.RUNS * count) as found:
        handles = [await DBOS.start_workflow_async(sequence, count) for _ in range(harness.RUNS)]
        await asyncio.gather(*(handle.get_result() for handle in handles))
    DBOS.destroy()
    return found


async def replay(count: int, folder: Path) -> Any:
    _launched(folder)
    with SetWorkflowID("a"):
        await (await DBOS.start_workflow_async(sequence, count)).get_result()
    with harness.spent(count) as found:
        await (await DBOS.fork_workflow_async("a", count + 1)).get_result()
    DBOS.destroy()
    return found


async def first(count: int, folder: Path) -> Any:
    await _one(sequence, 1, folder)
    return harness.since_begun()


harness.main({
    "sequence_on_disk": lambda count, folder: _one(sequence, count, folder),
    "fan_on_disk": lambda count, folder: _one(fan, count, folder),
    "many_on_disk": _many,
    "replay": replay,
    "first": first,
})  # fmt: skip
