"""Waking runs: due timers, requests in inboxes, runs whose owner is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import keys
from ..errors import InvalidInput, StoreError
from ..host import Entry
from ..limits import CLOCKS_DIFFER_MS
from ..runs import ExecutionRecord
from ..workflows import Registry
from .fleet import LEAST_PAUSE_MS, LONGEST_PAUSE_MS, Fleet
from .lease import Leases
from .requests import is_asked, waits_for_resume
from .scheduled import Scheduled
from .store import Store

if TYPE_CHECKING:
    from .chores import Chores

PAGE = 100
POLL_SECONDS = 1.0
"""How often others' requests are looked for, where the host does not tell of them, or may miss one."""
IDLE_SECONDS = 20.0
"""The same where it tells: for what no commit says, such as an owner that died."""
MISDATED_MS = 5_000
"""How long at least between two looks at a page of timers for those that were set by a clock that was ahead."""
_FEW = 8
"""So many timers are read at first."""


class Waker:
    """Finds what is to be woken in one runtime's store. ``poll``: seconds between two looks, None for the defaults."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        leases: Leases,
        fleet: Fleet,
        scheduled: Scheduled,
        poll: float | None,
    ) -> None:
        self._store, self._registry, self._leases, self._fleet = store, registry, leases, fleet
        self._scheduled, self._poll = scheduled, poll
        self.chores: Chores | None = None
        """What else this runtime does at a time; None as long as nobody has asked it to do anything."""
        self._misdated_after: str | None = None
        self._misdated_at = 2**63
        """When timers of a clock that was ahead were last looked for, ms since 1970."""
        self._walks: dict[str, float] = {}
        """By parent: when the running runs are next looked through for children whose owner is gone (ms since 1970)."""

    def must_look(self) -> bool:
        """Whether we may have no word of what others commit: the host can't ``watch``, or its notices get lost."""
        return not hasattr(self._store.host, "watch") or getattr(self._store.host, "watch_may_miss", False)

    def poll_ms(self) -> int:
        """How long at most between two looks for what others ask."""
        often = self.must_look() or self._fleet.concurrency is not None  # what nobody had room for tells nobody
        seconds = self._poll or (POLL_SECONDS if often else IDLE_SECONDS)
        return max(1, round(seconds * 1000))

    async def due_ids(self, skip: set[str]) -> list[str]:
        """Runs to wake now, in the order of their timers, then those with requests waiting; at most a page of each."""
        now = self._store.host.now_ms()
        ahead = self._store.codec.encode(now + CLOCKS_DIFFER_MS)  # no time above it has smaller bytes
        found: list[str] = []
        after, limit = "", _FEW  # most often none is due
        while len(found) < PAGE:
            entries = await self._store.unreadable.entries(keys.TIMERS, after, limit)
            later = False
            for wake_at, id, entry in self._store.unreadable.timers(entries):
                if wake_at > now:
                    if not keys.in_order(entry.key):
                        continue
                    later = True
                    if entry.value <= ahead or not self.is_misdated(entry, now):
                        continue
                if id not in skip and (not keys.is_chore(id) or self.may_do(id)):
                    found.append(id)
            if later or len(entries) < limit:
                break
            after, limit = entries[-1].key, PAGE
        found += [id for id in await self.misdated(now) if id not in skip and id not in found]
        found += [id for id in self.wanted() if id not in skip and id not in found]
        return found + await self._asked(skip | set(found))

    async def _asked(self, skip: set[str]) -> list[str]:
        """Runs with requests in their inbox."""
        found: list[str] = []
        after = keys.INBOXES
        while len(found) < PAGE:
            # One key for each run: from it on to the next run behind it.
            entries = await self._store.unreadable.entries(keys.INBOXES, after, 1)
            if not entries:
                break
            id = entries[0].key.split("/")[1]
            if id not in skip and not await self._scheduled.attended(id):
                found.append(id)
            after = keys.behind_requests(id)
        return found

    async def misdated(self, now: int) -> list[str]:
        """Runs whose timers were set by a clock that was ahead, in a page of the timers that are not due.

        The pages follow each other, look by look. The first begins anywhere, and the nearest timers are looked at with
        it: a process may not live for a second look. A look costs a page whatever is found, so it is taken now and
        then, and at once where the clock has gone back.
        """
        if self._misdated_at <= now < self._misdated_at + MISDATED_MS:
            return []
        self._misdated_at, behind = now, keys.timers_after(now)
        entries: list[Entry] = []
        if self._misdated_after is None:
            entries += await self._store.unreadable.entries(keys.TIMERS, behind, PAGE)
            far = 2 << (16 + int.from_bytes(self._store.host.entropy(2), "big") % 26)  # a minute to a hundred years
            self._misdated_after = keys.timers_after(now + far)
        page = await self._store.unreadable.entries(keys.TIMERS, max(self._misdated_after, behind), PAGE)
        self._misdated_after = page[-1].key if len(page) == PAGE else ""
        timers = self._store.unreadable.timers([*entries, *page])
        found = dict.fromkeys(id for _, id, entry in timers if self.is_misdated(entry, now))
        return [id for id in found if not keys.is_chore(id) or self.may_do(id)]

    async def attend(self) -> None:
        """Wake what is due, without waiting for it, where no ``serve`` of this process does."""
        if not self._fleet.serving and not self._fleet.draining:
            await self.wake_due(set())

    def may_do(self, id: str) -> bool:
        """Whether a chore can be done here, and now."""
        return self.chores is not None and self.chores.may_do(id)

    def wanted(self) -> list[str]:
        """The chores that are to be done whatever their timers say."""
        return [] if self.chores is None else self.chores.wanted()

    def is_misdated(self, timer: Entry, now: int) -> bool:
        """Whether a timer was set by a clock that was ahead: its run is woken, and finds out when it is due."""
        try:
            written = self._store.opened(timer)
        except (StoreError, InvalidInput):
            return False  # damaged, as what only says when it was set: it counts when it is due
        return type(written) is int and written > now + CLOCKS_DIFFER_MS

    async def next_wake(self, after_ms: int | None = None) -> int | None:
        """When the store's earliest timer is due, ms since 1970; None without one. ``after_ms``: only later ones."""
        after = "" if after_ms is None else keys.timers_after(after_ms)
        far: int | None = None
        while entries := await self._store.unreadable.entries(keys.TIMERS, after, 1):
            for at, _, entry in self._store.unreadable.timers(entries):
                far = at if far is None else min(at, far)
                if keys.in_order(entry.key):
                    return far
            after = entries[0].key
        return far

    async def wake_due(self, skip: set[str]) -> list[str]:
        """Take up everything that is due and not in ``skip``, without waiting for it."""
        woken: list[str] = []
        for id in await self.due_ids(skip):
            if self.chores is not None and keys.is_chore(id):
                done = await self.chores.do(id)
                woken += [id, *done.started] if done else []
                if done is None or not done.moved:
                    skip.add(id)
                continue
            records, damaged = await self._store.unreadable.records([id])
            record = records[0] if records else None
            if id in damaged:
                self._fleet.leave_alone(id, damaged[id])
            elif record is None or record.finished:
                await self.sweep(id, record)
            elif id in self._fleet.drivers:
                self._fleet.drivers[id].poke()
                woken.append(id)
            elif (record.copy or waits_for_resume(record)) and not await is_asked(self._store, record):
                pass  # its requests wait for the run: taken up for them, it would be let go of and found again
            elif self._fleet.may_try(record) and not await self._leases.held_by_other(record):
                self._fleet.take_up(id, record=record)
                woken.append(id)
            skip.add(id)
        return woken

    async def look_after(self, record: ExecutionRecord) -> float:
        """What a waiter does for a run that is not driven here: wake what is due, take over from an owner that is gone.

        Returns when to look again, ms since 1970.
        """
        now = self._store.host.now_ms()
        until = float("inf")
        if not self._fleet.serving and not self._fleet.draining:
            await self.wake_due(set())
            if self._fleet.is_active(record.id):
                return now
            wake_at = await self.next_wake(now)
            until = min(until, wake_at if wake_at is not None else until, await self._take_over(record))
        if self.must_look() or self._fleet.serving or record.status == "running":
            until = min(until, now + self.poll_ms())
        return until

    async def _take_over(self, record: ExecutionRecord) -> float:
        """Take up the run if its owner is gone, and children of it if it waits for them; when the next lease ends."""
        if record.status == "running":
            return await self._take_up_orphan(record)
        until = float("inf")
        if record.status != "suspended" or not any(text.startswith("child ") for text in record.waiting):
            return until
        walk_at = self._walks.get(record.id, 0)
        if walk_at > self._store.host.now_ms() and self.must_look():  # a store for many: it is not read at each turn
            return walk_at
        after = ""
        while True:
            entries = await self._store.unreadable.entries(keys.with_status("running"), after, PAGE)
            for child in await self._store.records(self._store.unreadable.ids(entries)):
                if child.status == "running" and await self._descends(child, record.id):
                    until = min(until, await self._take_up_orphan(child))
            if len(entries) < PAGE:
                break
            after = entries[-1].key
        self._walks[record.id] = min(until, self._store.host.now_ms() + self._leases.half)
        return until

    async def _take_up_orphan(self, record: ExecutionRecord) -> float:
        if self._fleet.is_active(record.id) or not self._fleet.may_try(record):
            return float("inf")
        if await self._leases.held_by_other(record):
            return self._leases.ends_at(record)
        self._fleet.take_up(record.id, record=record)
        return float("inf")

    async def _descends(self, record: ExecutionRecord, ancestor: str) -> bool:
        current: ExecutionRecord | None = record
        for _ in range(64):
            if current is None or current.parent is None:
                return False
            if current.parent == ancestor:
                return True
            current = await self._store.unreadable.record(current.parent)
        return False

    async def sweep(self, id: str, record: ExecutionRecord | None) -> None:
        """Delete what is left of requests to a run that has ended, or that there never was; not those to a new one."""
        await self._store.purge(
            (keys.requests(id),), {keys.record(id): record.version_tag if record is not None else None}
        )

    async def run_due(self) -> int | None:
        """See ``Runtime.run_due``."""
        skip: set[str] = set()
        while not self._fleet.draining and (woken := await self.wake_due(skip)):
            for id in woken:
                await self._fleet.settle(id)
                wake_at = next((d.record.wake_at for d in [self._fleet.asleep.get(id)] if d is not None), None)
                if wake_at is not None and wake_at <= self._store.host.now_ms():
                    skip.discard(id)  # it went to sleep on a timer that is due already
        return await self.next_call()

    async def next_call(self) -> int | None:
        """When to call ``run_due`` again, ms since 1970; None if no run waits for a timer. Never a time in the past.

        What is due and was left could not go on here: its code is not, or it is stuck. It is tried again after as long
        as it is overdue, so the pause doubles, whichever process asks.
        """
        now = self._store.host.now_ms()
        timers = self._store.unreadable.timers
        earliest = timers(await self._store.unreadable.entries(keys.TIMERS, "", 1))
        if earliest and earliest[0][0] > now and keys.in_order(earliest[0][2].key):
            return earliest[0][0]  # most often nothing is due, and nothing of 0.1's stands before it
        first = timers(await self._store.unreadable.entries(keys.TIMERS, "", PAGE))
        overdue = [at for at, _, _ in first if at <= now]
        times = [at for at in [await self.next_wake(now)] if at is not None]
        times += [at for at, _, entry in first if not keys.in_order(entry.key)]
        later = min(times, default=None)
        if not overdue:
            return later
        least = 0 if self._fleet.draining else LEAST_PAUSE_MS  # what a drained run left is for the next call
        again = now + min(LONGEST_PAUSE_MS, max(least, 0 if self._fleet.draining else now - overdue[-1]))
        return again if later is None else min(again, later)

    async def _wake_misdated(self) -> list[str]:
        """Take up runs whose timers a clock that was ahead has set: no alarm rings for them in time."""
        misdated = [id for id in await self.misdated(self._store.host.now_ms()) if not keys.is_chore(id)]
        records, _ = await self._store.unreadable.records(misdated)
        taken = [r for r in records if self._fleet.may_try(r) and not await self._leases.held_by_other(r)]
        for record in taken:
            self._fleet.take_up(record.id, record=record)
        return [record.id for record in taken]

    async def recover(self) -> list[str]:
        """Take up every running run that no live owner has; return their ids.

        Suspended runs that an error of the store had stopped here are woken again from now on, and those whose timers a
        clock that was ahead has set are looked for, as by ``run_due``.
        """
        self._fleet.unstick()
        taken = await self._wake_misdated()
        after = ""
        while True:
            entries = await self._store.unreadable.entries(keys.with_status("running"), after, PAGE)
            records, damaged = await self._store.unreadable.records(self._store.unreadable.ids(entries))
            for id, error in damaged.items():
                self._fleet.leave_alone(id, error)
            for record in records:
                known = self._registry.knows(record.workflow, record.version)
                if record.status != "running" or not known or await self._leases.held_by_other(record):
                    continue
                self._fleet.stuck.pop(record.id, None)
                self._fleet.take_up(record.id, record=record)
                taken.append(record.id)
            if len(entries) < PAGE:
                return taken
            after = entries[-1].key
