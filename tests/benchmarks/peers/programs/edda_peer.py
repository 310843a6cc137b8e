"""Edda on SQLite."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import harness
from edda import EddaApp, WorkflowContext, activity, workflow

logging.disable(logging.WARNING)


@activity
async def step(ctx: WorkflowContext, n: int) -> dict[str, Any]:
    return harness.payload(n)


@workflow
async def sequence(ctx: WorkflowContext, count: int) -> dict[str, int]:
    for n in range(count):
        await step(ctx, n)
    return {"count": count}


@workflow
async def fan(ctx: WorkflowContext, count: int) -> dict[str, int]:
    await asyncio.gather(*(step(ctx, n, activity_id=f"step:{n}") for n in range(count)))
    return {"count": count}


async def _started(folder: Path) -> EddaApp:
    app = EddaApp(service_name="bench", db_url=f"sqlite:///{folder / 'store.sqlite'}")
    await app.initialize()
    return app


async def _ended(app: EddaApp, ids: list[str]) -> None:
    for id in ids:
        while (await app.storage.get_instance(id))["status"] != "completed":
            await asyncio.sleep(0.01)


async def _one(flow: Any, count: int, folder: Path) -> Any:
    app = await _started(folder)
    before = harness.bytes_in(folder)
    with harness.spent(count) as found:
        await _ended(app, [await flow.start(count=count)])
    await app.shutdown()
    found["bytes"] = (harness.bytes_in(folder) - before) / count
    return found


async def many(count: int, folder: Path) -> Any:
    app = await _started(folder)
    await _ended(app, [await sequence.start(count=1)])  # its definition is stored once, and not by two at a time
    with harness.spent(harness.RUNS * count) as found:
        ids = await asyncio.gather(*(sequence.start(count=count) for _ in range(harness.RUNS)))
        await _ended(app, list(ids))
    await app.shutdown()
    return found


async def first(count: int, folder: Path) -> Any:
    await _one(sequence, 1, folder)
    return harness.since_begun()


harness.main({
    "sequence_on_disk": lambda count, folder: _one(sequence, count, folder),
    "fan_on_disk": lambda count, folder: _one(fan, count, folder),
    "many_on_disk": many,
    "first": first,
})  # fmt: skip
