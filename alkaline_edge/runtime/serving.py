"""``serve``: looking again and again for what waits in the store, and taking up what this process has room for.

Several processes may serve one store. Each run has one owner whatever they do; what matters here is that they don't
all reach for the same run at the same moment, where all but one would replay and commit for nothing. So a process
reaches at once for the runs that it has in memory, and, once it has noticed that there are others, for the rest in an
order and after a delay of its own.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import zip_longest
from zlib import crc32

from .. import keys, lifecycle
from ..arguments import whole
from ..errors import ERR_STORE, AlkalineError, InvalidInput
from ..structs import NamedTuple
from ..workflows import Registry
from . import waking
from .fleet import Fleet
from .lease import Leases
from .requests import is_asked, waits_for_resume
from .scheduled import Scheduled
from .store import Store
from .telling import Teller
from .waking import Waker

APART_MS = 100
"""The least time between two looks, whatever asks for the second, unless there is room and more was seen to wait."""
SPREAD_MS = 200
"""A run that is not in memory here is left to other processes for up to this long, where there are any."""
OTHERS_MS = 60_000
"""For how long it is believed that there are other processes, since one was last noticed."""
TAKING = 16
"""How many runs are read and leased at the same time: the longer that takes, the more are others' by then."""
NEVER = float("inf")


class Waiting(NamedTuple):
    """A run that may be taken up from ``at`` on (ms since 1970), found with its record at ``version``."""

    id: str
    version: str
    at: int
    found_at: int


class Rounds:
    """What one serving process knows of the runs that wait in the store. All times are ms since 1970."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        leases: Leases,
        fleet: Fleet,
        teller: Teller,
        scheduled: Scheduled,
        waker: Waker,
    ) -> None:
        self._store, self._registry, self._leases, self._fleet = store, registry, leases, fleet
        self._teller, self._changes, self._scheduled, self._waker = teller, teller.changes, scheduled, waker
        self._found: list[Waiting] = []
        """What may be taken up here, in this process's order."""
        self._more = False
        """There was more than could be looked at: with room for it and nothing found, the next look is at once."""
        self._again = False
        """Something asked for a look before its time: it comes APART_MS after the last one."""
        self._not_ours: set[str] = set()
        """Runs whose code is not here, or that went elsewhere. Forgotten now and then: they may come back."""
        self._looked = 0
        """When the store was last looked at."""
        self._renew_at = 0
        """When what may pass by itself is forgotten: whose a run is not, and errors of the store."""
        self._walked = self._walk_at = 0
        """When the running runs were last looked through, for owners that are gone, and when they next are."""
        self._others_until = 0
        """Until when it is believed that other processes serve this store."""
        self._here: float = 0
        """When the next timer of a run in memory is due: it costs no look at the store."""
        self._there: float = 0
        """When the next timer of the store is due."""
        self._lease_ends = NEVER
        """When the first lease of another owner ends, unless it is renewed."""
        self._asked_after, self._running_after = keys.INBOXES, ""
        """Where the last look at each kind ended: the next one goes on there, so that all have their turn."""
        self._pages, self._pages_of_all = 1, 0
        """Pages of running runs for each look, and how many there were so far in this pass over all of them."""

    # --- the loop ----------------------------------------------------------------------------------------------------
    async def serve(self, until: asyncio.Event | datetime | None, concurrency: int | None) -> None:
        """See ``Runtime.serve``."""
        fleet = self._fleet
        if not isinstance(until, (asyncio.Event, datetime, type(None))) or (
            isinstance(until, datetime) and until.tzinfo is None
        ):
            raise InvalidInput("serve(until=...) wants an aware datetime or an asyncio.Event")
        if concurrency is not None:  # how many runs are driven at once; None: any number
            whole(concurrency, "serve(concurrency=)", 1)
        if fleet.serving:
            raise InvalidInput("this runtime is serving already; one call of serve does all there is to do")
        fleet.serving, fleet.concurrency = True, concurrency
        quiet = self._teller.listen(self._heard)
        try:
            await self._serve(until)
        finally:
            quiet()
            fleet.serving, fleet.concurrency = False, None

    async def _serve(self, until: asyncio.Event | datetime | None) -> None:
        end_ms = until.timestamp() * 1000 if isinstance(until, datetime) else NEVER
        event = until if isinstance(until, asyncio.Event) else None
        fleet, changes, answered = self._fleet, self._changes, False
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        while not fleet.closing and self._store.host.now_ms() < end_ms and not (event is not None and event.is_set()):
            mark = changes.mark()  # before looking: what changes meanwhile is looked at again
            try:
                await self._go()
                answered = True
            except AlkalineError as error:
                if error.code != ERR_STORE or not answered:  # a store that never answered is a mistake to be told of
                    raise
                self._failed(error)
            if task is not None and task.cancelling() > cancels:
                raise asyncio.CancelledError  # a client of the host's took it for its own, as wait_for of 3.11 does
            pause = (min(self._next_ms(), end_ms) - self._store.host.now_ms()) / 1000
            if not fleet.closing:
                await changes.wait(min(self._waker.poll_ms() / 1000, max(0.0, pause)), mark, event)

    # --- when --------------------------------------------------------------------------------------------------------
    def _heard(self, event: lifecycle.LifecycleEvent) -> None:
        """A lifecycle event of this process: a run of its own may have the next timer."""
        if isinstance(event, lifecycle.RunSuspended) and event.wake_at is not None:
            self._here = min(self._here, event.wake_at)

    def _failed(self, error: AlkalineError) -> None:
        """The store did not answer: ask again in a while."""
        self._looked, self._found = self._store.host.now_ms(), []
        self._there = self._lease_ends = NEVER
        self._walk_at = self._looked + round(waking.POLL_SECONDS * 1000)
        self._more = self._again = False
        asyncio.get_running_loop().call_exception_handler(
            {"message": "alkaline_edge: the store does not answer; serve goes on asking", "exception": error}
        )

    def _next_ms(self) -> float:
        """When to go again if nothing happens before."""
        times = [self._here, self._look_at()]
        if self._space() > 0:
            times += [waiting.at for waiting in self._found]
        return 0 if self._starved() else min(times)

    def _starved(self) -> bool:
        """Whether there is room, nothing is known that could use it, and more was waiting when it was looked for."""
        return self._more and not self._found and self._fleet.room() > 0

    def _space(self) -> int:
        """How many runs may be taken up now; 0 until half of those that are being taken are done."""
        taking = len(self._fleet.active()) - len(self._fleet.drivers)
        return 0 if taking > TAKING // 2 else int(max(0, min(self._fleet.room(), TAKING - taking)))

    def _look_at(self) -> float:
        soon = self._looked + APART_MS
        at = min(self._there, self._lease_ends, self._walk_at, self._looked + self._waker.poll_ms())
        if self._others():  # most timers are theirs
            at = max(at, soon)
        return min(at, soon) if self._again else at

    def _others(self) -> bool:
        return self._store.host.now_ms() < self._others_until

    def _saw_others(self) -> None:
        self._others_until = self._store.host.now_ms() + OTHERS_MS

    # --- looking and taking ------------------------------------------------------------------------------------------
    async def _go(self) -> None:
        """Look, where it is time to, and take up what there is room for."""
        now = self._store.host.now_ms()
        if now >= self._here:
            self._wake_own(now)
        told, self._changes.foreign = self._changes.foreign, False
        if told:  # of a run that was handed back, too, which is found by walking
            self._saw_others()
            self._walk_at = min(self._walk_at, self._walked + round(waking.POLL_SECONDS * 1000))
        # Each run that ends elsewhere gives notice: the first is answered at once, a flood of them APART_MS apart.
        if self._starved() or now >= min(self._look_at(), self._looked + APART_MS):
            await self._look(now)
            self._take([waiting for waiting in self._found if waiting.at <= now == waiting.found_at])
        else:
            self._again = True
        await self._take_later(now)

    def _wake_own(self, now: int) -> None:
        """Take up the runs in memory whose timers are due: nobody needs to be asked for them."""
        self._here = NEVER
        for id, driver in list(self._fleet.asleep.items()):
            wake_at = driver.record.wake_at
            if wake_at is None or id in self._fleet.stuck:
                continue
            if wake_at <= now:
                self._fleet.take_up(id)
            else:
                self._here = min(self._here, wake_at)

    async def _look(self, now: int) -> None:
        """Find what waits in the store. Three calls where nothing does."""
        starved = self._starved()
        self._looked, self._more, self._again = now, False, False
        if now >= self._renew_at:
            self._renew_at = now + self._leases.half
            self._not_ours.clear()
            self._fleet.unstick(damaged=False)
        asked = await self._asked()
        walk = starved or now >= min(self._walk_at, self._lease_ends)
        if self._fleet.room() <= 0:
            self._there = self._lease_ends = NEVER
            self._walk_at = max(self._walk_at, now + self._waker.poll_ms())  # once there is room, it is starved
            self._more = True
            return
        due = await self._due(now)
        if walk:
            misdated = await self._waker.misdated(now)
            due += [id for id in misdated if not self._passed_over(id)]
        due = await self._do_chores(due)
        running = await self._running(now) if walk else []
        kinds = [
            await self._takeable(ids, now, only) for ids, only in ((due, None), (asked, None), (running, "running"))
        ]
        found = {waiting.id: waiting for each in zip_longest(*kinds) for waiting in each if waiting is not None}
        if not walk:  # what an earlier walk found is not out of the world
            found.update((waiting.id, waiting) for waiting in self._found if waiting.id not in found)
        self._put(list(found.values()), now)
        self._again = self._again or (self._more and not self._found)
        self._more = self._more and bool(self._found)

    async def _do_chores(self, due: list[str]) -> list[str]:
        """Do what is due and is no run; what is left of ``due``. The next look finds what is due of it by then."""
        chores = self._waker.chores
        if chores is None:
            return due
        wanted = {id for id in due if keys.is_chore(id)} | set(chores.wanted())
        for id in sorted(wanted):
            await chores.do(id)
            self._again = True
        return [id for id in due if id not in wanted]

    def _put(self, found: list[Waiting], now: int) -> None:
        """Keep what was found, in this process's order: in memory first, the rest after a delay, where others are."""
        if self._others():
            delays = {(waiting.id, waiting.version): waiting.at for waiting in self._found}
            for n, waiting in enumerate(found):
                if waiting.id not in self._fleet.asleep and waiting.found_at == now:
                    delay = crc32(f"{self._leases.token} {waiting.id}".encode()) % SPREAD_MS
                    found[n] = waiting._replace(at=delays.get((waiting.id, waiting.version), now + delay))
            found.sort(key=lambda waiting: waiting.at)
        self._found = found

    def _take(self, chosen: list[Waiting]) -> None:
        for waiting in chosen[: self._space()]:
            self._found.remove(waiting)
            self._fleet.take_up(waiting.id)

    async def _take_later(self, now: int) -> None:
        """Take up what was left earlier, unless it has changed since."""
        ripe = [waiting for waiting in self._found if waiting.at <= now][: self._space()]
        if not ripe:
            return
        versions = {r.id: r.version_tag for r in await self._store.records([w.id for w in ripe])}
        for waiting in ripe:
            if versions.get(waiting.id) != waiting.version:
                self._found.remove(waiting)
        self._take([waiting for waiting in ripe if versions.get(waiting.id) == waiting.version])

    async def _takeable(self, ids: list[str], now: int, only: str | None) -> list[Waiting]:
        """Those of ``ids`` that can be driven here, and are not by somebody else."""
        found: list[Waiting] = []
        readable, damaged = await self._store.unreadable.records(ids)
        records = {record.id: record for record in readable}
        for id in ids:
            record = records.get(id)
            if id in damaged:
                self._fleet.leave_alone(id, damaged[id])
            elif record is None or record.finished:
                await self._waker.sweep(id, record)
            elif (
                record.moved_to is not None
                or not self._registry.knows(record.workflow, record.version)
                or (record.copy and not await is_asked(self._store, record))
            ):
                self._not_ours.add(id)
            elif waits_for_resume(record) and not await is_asked(self._store, record):
                pass
            elif await self._leases.held_by_other(record):
                self._saw_others()
                if only == "running":  # a live owner renews it long before
                    self._lease_ends = min(self._lease_ends, self._leases.ends_at(record))
            elif only is None or record.status == only:
                self._fleet.stuck.pop(id, None)
                found.append(Waiting(id, record.version_tag, now, now))
        return found

    # --- what waits --------------------------------------------------------------------------------------------------
    def _passed_over(self, id: str) -> bool:
        """Whether a run need not be looked at: it is being driven here, can't go on here, or is none of ours."""
        if keys.is_chore(id):
            return not self._waker.may_do(id)
        return self._fleet.is_left_alone(id) or id in self._not_ours or self._fleet.is_active(id)

    async def _due(self, now: int) -> list[str]:
        """Runs whose timer is due, the oldest first, at most about a page. Notes when the next timer is."""
        found: list[str] = []
        after, limit = "", 8  # most often none is due
        self._there = NEVER
        while True:
            entries = await self._store.unreadable.entries(keys.TIMERS, after, limit)
            for wake_at, id, entry in self._store.unreadable.timers(entries):
                if wake_at > now:
                    self._there = min(self._there, wake_at)
                    if keys.in_order(entry.key):
                        return found
                    continue
                if not self._passed_over(id):
                    found.append(id)
            if len(entries) < limit:
                return found
            if len(found) >= waking.PAGE:
                self._more = True
                return found
            after, limit = entries[-1].key, waking.PAGE

    async def _asked(self) -> list[str]:
        """Runs with requests, from where the last look ended, at most a page. Those that are driven here are told."""
        found: list[str] = []
        for _ in range(waking.PAGE):
            entries = await self._store.unreadable.entries(keys.INBOXES, self._asked_after, 1)  # one key for each run
            if not entries:
                self._asked_after = keys.INBOXES
                return found
            id = entries[0].key.split("/")[1]
            self._asked_after = keys.behind_requests(id)
            if id in self._fleet.drivers:
                self._fleet.drivers[id].poke()
            elif not self._passed_over(id) and not await self._scheduled.attended(id):
                found.append(id)
        self._more = self._again = True
        return found

    async def _running(self, now: int) -> list[str]:
        """Running runs, so many pages of them that all are seen twice in the time of a lease.

        Those of a dead owner are among them, those that were handed back, and children that nobody had room for.
        """
        found: list[str] = []
        self._lease_ends = NEVER
        self._walked = now
        self._walk_at = now + self._waker.poll_ms()
        prefix, reading = keys.with_status("running"), self._store.unreadable
        for _ in range(self._pages):
            entries = await reading.entries(prefix, self._running_after, waking.PAGE)
            self._pages_of_all += 1
            found += [id for id in reading.ids(entries) if not self._passed_over(id)]
            if len(entries) < waking.PAGE:
                looks = max(1, self._leases.half // self._waker.poll_ms())
                self._pages, self._pages_of_all = -(-self._pages_of_all // looks), 0
                self._running_after = ""
                return found
            self._running_after = entries[-1].key
        self._more = True
        return found
