"""LangGraph's functional API, with its checkpointers in memory and in SQLite. A replay resumes behind an interrupt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import harness
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.types import Command, interrupt


@task
async def step(n: int) -> Any:
    return harness.payload(n)


async def _sequence(count: int) -> int:
    for n in range(count):
        await step(n)
    return count


async def _fan(count: int) -> int:
    await asyncio.gather(*(step(n) for n in range(count)))
    return count


async def _held(count: int) -> int:
    for n in range(count):
        await step(n)
    return int(interrupt("end"))


async def _one(flow: Any, count: int, folder: Path, on_disk: bool) -> Any:
    async def run(saver: Any) -> Any:
        graph = entrypoint(checkpointer=saver)(flow)
        with harness.spent(count) as found:
            await graph.ainvoke(count, {"configurable": {"thread_id": "a"}})
        return found

    if not on_disk:
        return await run(InMemorySaver())
    async with AsyncSqliteSaver.from_conn_string(str(folder / "store.sqlite")) as saver:
        found = await run(saver)
    found["bytes"] = harness.bytes_in(folder) / count
    return found


async def _many(count: int, folder: Path, on_disk: bool) -> Any:
    async def run(saver: Any) -> Any:
        graph = entrypoint(checkpointer=saver)(_sequence)
        with harness.spent(harness.RUNS * count) as found:
            await asyncio.gather(
                *(graph.ainvoke(count, {"configurable": {"thread_id": str(n)}}) for n in range(harness.RUNS))
            )
        return found

    if not on_disk:
        return await run(InMemorySaver())
    async with AsyncSqliteSaver.from_conn_string(str(folder / "store.sqlite")) as saver:
        return await run(saver)


async def replay(count: int, folder: Path) -> Any:
    graph = entrypoint(checkpointer=InMemorySaver())(_held)
    config: Any = {"configurable": {"thread_id": "a"}}
    await graph.ainvoke(count, config)
    with harness.spent(count) as found:
        await graph.ainvoke(Command(resume=1), config)
    return found


async def first(count: int, folder: Path) -> Any:
    await _one(_sequence, 1, folder, False)
    return harness.since_begun()


harness.main({
    "sequence": lambda count, folder: _one(_sequence, count, folder, False),
    "sequence_on_disk": lambda count, folder: _one(_sequence, count, folder, True),
    "fan": lambda count, folder: _one(_fan, count, folder, False),
    "fan_on_disk": lambda count, folder: _one(_fan, count, folder, True),
    "many": lambda count, folder: _many(count, folder, False),
    "many_on_disk": lambda count, folder: _many(count, folder, True),
    "replay": replay,
    "first": first,
})  # fmt: skip
