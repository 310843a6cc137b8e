"""Waking runs: due timers, requests in inboxes, runs whose owner is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import keys
from ..errors import ERR_STORE
from ..host import Entry
from ..runs import ExecutionRecord
from . import scheduled
from .owning import held_by_other

if TYPE_CHECKING:
    from .runtime import Runtime

PAGE = 100
POLL_SECONDS = 1.0
"""How often others' requests are looked for, where the host does not tell of them, or may miss one."""
IDLE_SECONDS = 20.0
"""The same where it tells: for what no commit says, such as an owner that died."""
CLOCKS_DIFFER_MS = 60_000
"""By how much the clocks of the processes that share a store may differ."""
LEAST_PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 3_600_000
"""How long a run that can't go on here is left alone: twice as long each time, up to an hour."""


def must_look(runtime: Runtime) -> bool:
    """Whether the host may leave us without word of what others commit: it can't ``watch``, or its notices get lost."""
    return not hasattr(runtime.host, "watch") or getattr(runtime.host, "watch_may_miss", False)


def poll_ms(runtime: Runtime) -> int:
    """How long at most between two looks for what others ask."""
    often = must_look(runtime) or runtime.concurrency is not None  # what nobody had room for tells nobody
    seconds = runtime.poll or (POLL_SECONDS if often else IDLE_SECONDS)
    return max(1, round(seconds * 1000))


class Trials:
    """Runs that could not go on here: how often that was found, and when each may be tried again.

    Code does not change within a process, so this is for what passes by itself. Another process tries at once.
    """

    def __init__(self) -> None:
        self._failed: dict[str, tuple[int, int]] = {}

    def failed(self, id: str, now: int) -> None:
        """The run was tried at ``now`` (ms since 1970), in vain."""
        times, _ = self._failed.get(id, (0, 0))
        self._failed[id] = (times + 1, now + min(LONGEST_PAUSE_MS, LEAST_PAUSE_MS << min(times, 20)))

    def ripe(self, id: str, now: int) -> bool:
        """Whether the run may be tried."""
        return self._failed.get(id, (0, 0))[1] <= now

    def forget(self, id: str) -> None:
        """The run went on."""
        self._failed.pop(id, None)


async def due_ids(runtime: Runtime, skip: set[str]) -> list[str]:
    """Runs to wake now, in the order of their timers, then those with requests waiting; at most a page of each."""
    now = runtime.host.now_ms()
    found: list[str] = []
    after, over = "", False
    while len(found) < PAGE:
        entries = await runtime.host.list(keys.TIMERS, after, PAGE)
        for entry in entries:
            wake_at, id = keys.timer_of(entry.key)
            if wake_at > now and not keys.in_order(entry.key):
                continue
            if wake_at > now and not is_misdated(runtime, entry, now):
                # What stands behind it on this page may still have been set by a clock that was ahead.
                over = over or keys.in_order(entry.key)
            elif id not in skip:
                found.append(id)
        if over:
            break
        if len(entries) < PAGE:
            break
        after = entries[-1].key
    return found + await _asked(runtime, skip | set(found))


async def _asked(runtime: Runtime, skip: set[str]) -> list[str]:
    """Runs with requests in their inbox."""
    found: list[str] = []
    after = keys.INBOXES
    while len(found) < PAGE:
        entries = await runtime.host.list(keys.INBOXES, after, 1)  # one key per run: skip to the next run behind it
        if not entries:
            break
        id = entries[0].key.split("/")[1]
        if id not in skip and not await scheduled.attended(runtime, id):
            found.append(id)
        after = keys.behind_requests(id)
    return found


def is_misdated(runtime: Runtime, timer: Entry, now: int) -> bool:
    """Whether a timer was set by a clock that was ahead: its run is woken, and sets it anew."""
    written = runtime.codec.decode(timer.value)
    return type(written) is int and written > now + CLOCKS_DIFFER_MS


def timers(entries: list[Entry]) -> list[tuple[int, str]]:
    """When each of these timers is due (ms since 1970), and whose it is."""
    return [keys.timer_of(entry.key) for entry in entries]


async def next_wake(runtime: Runtime, after_ms: int | None = None) -> int | None:
    """When the earliest timer of the store is due, ms since 1970; None without one. ``after_ms``: only later ones."""
    after = "" if after_ms is None else keys.timers_after(after_ms)
    far: int | None = None
    while entries := await runtime.host.list(keys.TIMERS, after, 1):
        at, _ = keys.timer_of(entries[0].key)
        if keys.in_order(entries[0].key):
            return at if far is None else min(at, far)
        far, after = (at if far is None else min(at, far)), entries[0].key
    return far


async def wake_due(runtime: Runtime, skip: set[str]) -> list[str]:
    """Take up everything that is due and not in ``skip``, without waiting for it."""
    woken: list[str] = []
    for id in await due_ids(runtime, skip):
        record = await runtime.store.find(id)
        if record is None or record.finished:
            await sweep(runtime, id, record)
        elif id in runtime.drivers:
            runtime.drivers[id].poke()
            woken.append(id)
        elif may_try(runtime, record) and not await held_by_other(runtime, record):
            runtime.take_up(id)
            woken.append(id)
        skip.add(id)
    return woken


def may_try(runtime: Runtime, record: ExecutionRecord) -> bool:
    """Whether the run can be driven by this process, as far as is known: its code is here, and it is not stuck."""
    if record.moved_to is not None or not runtime.registry.knows(record.workflow, record.version):
        return False
    return record.id not in runtime.stuck or runtime.trials.ripe(record.id, runtime.host.now_ms())


async def look_after(runtime: Runtime, record: ExecutionRecord) -> float:
    """What a waiter does for a run that is not driven here: wake what is due, and take over from an owner that is gone.

    Returns when to look again, ms since 1970.
    """
    now = runtime.host.now_ms()
    until = float("inf")
    if not runtime.serving and not runtime.draining:
        await wake_due(runtime, set())
        if runtime.is_active(record.id):
            return now
        wake_at = await next_wake(runtime, now)
        until = min(until, wake_at if wake_at is not None else until, await _take_over(runtime, record))
    if must_look(runtime) or runtime.serving or record.status == "running":
        until = min(until, now + poll_ms(runtime))
    return until


async def _take_over(runtime: Runtime, record: ExecutionRecord) -> float:
    """Take up the run if its owner is gone, and children of it if it waits for them; when the next lease ends."""
    if record.status == "running":
        return await _take_up_orphan(runtime, record)
    until = float("inf")
    if record.status != "suspended" or not any(text.startswith("child ") for text in record.waiting):
        return until
    walk_at = runtime.walks.get(record.id, 0)
    if walk_at > runtime.host.now_ms() and must_look(runtime):  # a store for many: it is not read at each turn
        return walk_at
    after = ""
    while True:
        entries = await runtime.host.list(keys.with_status("running"), after, PAGE)
        for child in await records(runtime, [entry.key.rsplit("/", 1)[1] for entry in entries]):
            if child.status == "running" and await _descends(runtime, child, record.id):
                until = min(until, await _take_up_orphan(runtime, child))
        if len(entries) < PAGE:
            break
        after = entries[-1].key
    runtime.walks[record.id] = min(until, runtime.host.now_ms() + runtime.lease_ms // 2)
    return until


async def _take_up_orphan(runtime: Runtime, record: ExecutionRecord) -> float:
    if runtime.is_active(record.id) or not may_try(runtime, record):
        return float("inf")
    if await held_by_other(runtime, record):
        return runtime.leases.ends_at(record)
    runtime.take_up(record.id)
    return float("inf")


async def _descends(runtime: Runtime, record: ExecutionRecord, ancestor: str) -> bool:
    current: ExecutionRecord | None = record
    for _ in range(64):
        if current is None or current.parent is None:
            return False
        if current.parent == ancestor:
            return True
        current = await runtime.store.find(current.parent)
    return False


async def sweep(runtime: Runtime, id: str, record: ExecutionRecord | None) -> None:
    """Delete what is left of requests to a run that has ended, or that there never was; not those to a new one."""
    await runtime.store.purge(
        (keys.requests(id),), {keys.record(id): record.version_tag if record is not None else None}
    )


async def run_due(runtime: Runtime) -> int | None:
    """See ``Runtime.run_due``."""
    skip: set[str] = set()
    while not runtime.draining and (woken := await wake_due(runtime, skip)):
        for id in woken:
            await runtime.settle(id)
            wake_at = next((d.record.wake_at for d in [runtime.asleep.get(id)] if d is not None), None)
            if wake_at is not None and wake_at <= runtime.host.now_ms():
                skip.discard(id)  # it went to sleep on a timer that is due already
    return await next_call(runtime)


async def next_call(runtime: Runtime) -> int | None:
    """When to call ``run_due`` again, ms since 1970; None if no run waits for a timer. Never a time in the past.

    What is due and was left could not go on here: its code is not, or it is stuck. It is tried again after as long as
    it is overdue, so the pause doubles, whichever process asks.
    """
    now = runtime.host.now_ms()
    first = await runtime.host.list(keys.TIMERS, "", PAGE)
    overdue = [at for at, _ in timers(first) if at <= now]
    times = [at for at in [await next_wake(runtime, now)] if at is not None]
    times += [keys.timer_of(entry.key)[0] for entry in first if not keys.in_order(entry.key)]
    later = min(times, default=None)
    if not overdue:
        return later
    least = 0 if runtime.draining else LEAST_PAUSE_MS  # what a drained run left is for the next call
    again = now + min(LONGEST_PAUSE_MS, max(least, 0 if runtime.draining else now - overdue[-1]))
    return again if later is None else min(again, later)


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
        entries = await runtime.host.list(keys.with_status("running"), after, PAGE)
        ids = [entry.key.rsplit("/", 1)[1] for entry in entries]
        for record in await records(runtime, ids):
            known = runtime.registry.knows(record.workflow, record.version)
            if record.status != "running" or not known or await held_by_other(runtime, record):
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
