"""Waking runs: due timers, requests in inboxes, runs whose owner is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import keys
from ..errors import ERR_STORE
from ..runs import ExecutionRecord
from .owning import held_by_other

if TYPE_CHECKING:
    from .runtime import Runtime

PAGE = 100
POLL_SECONDS = 1.0
"""How often others' requests are looked for, where the host does not tell of them, or may miss one."""


def must_look(runtime: Runtime) -> bool:
    """Whether the host may leave us without word of what others commit: it can't ``watch``, or its notices get lost."""
    return not hasattr(runtime.host, "watch") or getattr(runtime.host, "watch_may_miss", False)


async def due_ids(runtime: Runtime, skip: set[str]) -> list[str]:
    """Runs to wake now, in the order of their timers, then those with requests waiting; at most a page of each."""
    now = runtime.host.now_ms()
    found: list[str] = []
    after = ""
    while len(found) < PAGE:
        entries = await runtime.host.list("t/", after, PAGE)
        for entry in entries:
            _, wake_at, id = entry.key.split("/")
            if int(wake_at) > now:
                return found + await _asked(runtime, skip | set(found))
            if id not in skip:
                found.append(id)
        if len(entries) < PAGE:
            break
        after = entries[-1].key
    return found + await _asked(runtime, skip | set(found))


async def _asked(runtime: Runtime, skip: set[str]) -> list[str]:
    """Runs with requests in their inbox."""
    found: list[str] = []
    after = "i/"
    while len(found) < PAGE:
        entries = await runtime.host.list("i/", after, 1)  # one key per run: skip to the next run behind it
        if not entries:
            break
        id = entries[0].key.split("/")[1]
        if id not in skip:
            found.append(id)
        after = f"i/{id}/\x7f"
    return found


async def next_wake(runtime: Runtime, after_ms: int | None = None) -> int | None:
    """When the earliest timer of the store is due, ms since 1970; None without one. ``after_ms``: only later ones."""
    entries = await runtime.host.list("t/", "" if after_ms is None else f"t/{after_ms:013d}/\x7f", 1)
    return int(entries[0].key.split("/")[1]) if entries else None


async def wake_due(runtime: Runtime, skip: set[str]) -> list[str]:
    """Take up everything that is due and not in ``skip``, without waiting for it."""
    woken: list[str] = []
    for id in await due_ids(runtime, skip):
        record = await runtime.store.find(id)
        if record is None or record.finished:
            await sweep(runtime, id, record)
        elif runtime.registry.knows(record.workflow, record.version) and id not in runtime.stuck:
            if id in runtime.drivers:
                runtime.drivers[id].poke()
                woken.append(id)
            elif not held_by_other(runtime, record):
                runtime.take_up(id)
                woken.append(id)
        skip.add(id)
    return woken


async def sweep(runtime: Runtime, id: str, record: ExecutionRecord | None) -> None:
    """Delete what is left of requests to a run that has ended, or that there never was; not those to a new one."""
    await runtime.store.purge((f"i/{id}/",), {keys.record(id): record.version_tag if record is not None else None})


async def run_due(runtime: Runtime) -> int | None:
    """See ``Runtime.run_due``."""
    skip: set[str] = set()
    while not runtime.draining and (woken := await wake_due(runtime, skip)):
        for id in woken:
            await runtime.settle(id)
            wake_at = next((d.record.wake_at for d in [runtime.asleep.get(id)] if d is not None), None)
            if wake_at is not None and wake_at <= runtime.host.now_ms():
                skip.discard(id)  # it went to sleep on a timer that is due already
    return await next_wake(runtime)


def unstick(runtime: Runtime) -> None:
    """Forget that an error of the store had stopped runs here: it may have passed."""
    for id in [id for id, error in runtime.stuck.items() if error.code == ERR_STORE]:
        del runtime.stuck[id]


async def recover(runtime: Runtime) -> list[str]:
    """Take up every running run that no live owner has; return their ids.

    Suspended runs that an error of the store had stopped here are woken again from now on.
    """
    unstick(runtime)
    taken: list[str] = []
    after = ""
    while True:
        entries = await runtime.host.list("x/s/running/", after, PAGE)
        ids = [entry.key.rsplit("/", 1)[1] for entry in entries]
        for record in await records(runtime, ids):
            known = runtime.registry.knows(record.workflow, record.version)
            if record.status != "running" or not known or held_by_other(runtime, record):
                continue
            runtime.stuck.pop(record.id, None)
            runtime.take_up(record.id)
            taken.append(record.id)
        if len(entries) < PAGE:
            return taken
        after = entries[-1].key


async def records(runtime: Runtime, ids: list[str]) -> list[ExecutionRecord]:
    """The records of those of ``ids`` that there are."""
    entries = await runtime.host.get([keys.record(id) for id in ids]) if ids else []
    return [await runtime.store.record_of(entry) for entry in entries if entry is not None]
