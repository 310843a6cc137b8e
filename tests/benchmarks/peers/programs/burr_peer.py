"""Burr with its SQLite persister: an action that loops. It has no replay; a state is read back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import harness
from burr.core import ApplicationBuilder, State, action, expr
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister


@action(reads=["n"], writes=["n", "last"])
async def step(state: State) -> State:
    return state.update(n=state["n"] + 1, last=harness.payload(state["n"]))


@action(reads=["n"], writes=[])
async def end(state: State) -> State:
    return state


async def _run(count: int, persister: Any, id: str) -> None:
    builder = (
        ApplicationBuilder()
        .with_actions(step, end)
        .with_transitions(("step", "step", expr(f"n < {count}")), ("step", "end"))
        .with_state(n=0)
        .with_entrypoint("step")
        .with_identifiers(app_id=id, partition_key="p")
    )
    application = await (builder.with_state_persister(persister) if persister else builder).abuild()
    await application.arun(halt_after=["end"])


async def _one(count: int, folder: Path, on_disk: bool) -> Any:
    persister = await AsyncSQLitePersister.from_values(str(folder / "store.sqlite"), "t") if on_disk else None
    if persister is not None:
        await persister.initialize()
    with harness.spent(count) as found:
        await _run(count, persister, "a")
    if persister is not None:
        await persister.cleanup()
        found["bytes"] = harness.bytes_in(folder) / count
    return found


async def _many(count: int, folder: Path, on_disk: bool) -> Any:
    persister = await AsyncSQLitePersister.from_values(str(folder / "store.sqlite"), "t") if on_disk else None
    if persister is not None:
        await persister.initialize()
    with harness.spent(harness.RUNS * count) as found:
        await asyncio.gather(*(_run(count, persister, str(n)) for n in range(harness.RUNS)))
    if persister is not None:
        await persister.cleanup()
    return found


async def first(count: int, folder: Path) -> Any:
    await _one(1, folder, False)
    return harness.since_begun()


harness.main({
    "sequence_on_disk": lambda count, folder: _one(count, folder, True),
    "many_on_disk": lambda count, folder: _many(count, folder, True),
    "first": first,
})  # fmt: skip
