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
from typing import TYPE_CHECKING
from zlib import crc32

from .. import keys, lifecycle
from ..errors import ERR_STORE, AlkalineError, InvalidInput
from ..records import NamedTuple
from . import scheduled, waking
from .owning import held_by_other, is_asked

if TYPE_CHECKING:
    from .runtime import Runtime

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


async def serve(runtime: Runtime, until: asyncio.Event | datetime | None, concurrency: int | None) -> None:
    """See ``Runtime.serve``."""
    if isinstance(until, datetime) and until.tzinfo is None:
        raise InvalidInput("serve(until=...) wants an aware datetime or an asyncio.Event")
    if concurrency is not None and not concurrency >= 1:
        raise InvalidInput("serve(concurrency=...) is how many runs are driven at once: 1 or more, None for any number")
    if runtime.serving:
        raise InvalidInput("this runtime is serving already; one call of serve does all there is to do")
    rounds = _Rounds(runtime)
    runtime.serving, runtime.concurrency = True, concurrency
    quiet = runtime.listen(rounds.heard)
    try:
        await _serve(runtime, rounds, until)
    finally:
        quiet()
        runtime.serving, runtime.concurrency = False, None


async def _serve(runtime: Runtime, rounds: _Rounds, until: asyncio.Event | datetime | None) -> None:
    end_ms = until.timestamp() * 1000 if isinstance(until, datetime) else NEVER
    event = until if isinstance(until, asyncio.Event) else None
    answered = False
    while not runtime.closing and runtime.host.now_ms() < end_ms and not (event is not None and event.is_set()):
        mark = runtime.changes.mark()
        try:
            await rounds.go()
            answered = True
        except AlkalineError as error:
            if error.code != ERR_STORE or not answered:  # a store that never answered is a mistake to be told of
                raise
            rounds.failed(error)
        pause = (min(rounds.next_ms(), end_ms) - runtime.host.now_ms()) / 1000
        if not runtime.closing:
            await runtime.changes.wait(min(waking.poll_ms(runtime) / 1000, max(0.0, pause)), mark, event)


class _Rounds:
    """What one serving process knows of the runs that wait in the store. All times are ms since 1970."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._found: list[Waiting] = []
        self._more = self._again = False
        self._not_ours: set[str] = set()
        self._looked = self._renew_at = self._walk_at = self._walked = self._others_until = 0
        self._here: float = 0
        self._there: float = 0
        self._lease_ends = NEVER
        self._asked_after, self._running_after, self._misdated_after = keys.INBOXES, "", ""
        self._pages, self._pages_of_all = 1, 0

    # --- when --------------------------------------------------------------------------------------------------------
    def heard(self, event: lifecycle.LifecycleEvent) -> None:
        """A lifecycle event of this process: a run of its own may have the next timer."""
        if isinstance(event, lifecycle.RunSuspended) and event.wake_at is not None:
            self._here = min(self._here, event.wake_at)

    def failed(self, error: AlkalineError) -> None:
        """The store did not answer: ask again in a while."""
        self._looked, self._found = self.runtime.host.now_ms(), []
        self._there = self._lease_ends = NEVER
        self._walk_at = self._looked + round(waking.POLL_SECONDS * 1000)
        self._more = self._again = False
        asyncio.get_running_loop().call_exception_handler(
            {"message": "alkaline_edge: the store does not answer; serve goes on asking", "exception": error}
        )

    def next_ms(self) -> float:
        """When to go again if nothing happens before."""
        times = [self._here, self._look_at()]
        if self._space() > 0:
            times += [waiting.at for waiting in self._found]
        return 0 if self._starved() else min(times)

    def _starved(self) -> bool:
        """Whether there is room, nothing is known that could use it, and more was waiting when it was looked for."""
        return self._more and not self._found and self.runtime.room() > 0

    def _space(self) -> int:
        """How many runs may be taken up now; 0 until half of those that are being taken are done."""
        taking = len(self.runtime.active()) - len(self.runtime.drivers)
        return 0 if taking > TAKING // 2 else int(max(0, min(self.runtime.room(), TAKING - taking)))

    def _look_at(self) -> float:
        soon = self._looked + APART_MS
        at = min(self._there, self._lease_ends, self._walk_at, self._looked + waking.poll_ms(self.runtime))
        if self._others():  # most timers are theirs
            at = max(at, soon)
        return min(at, soon) if self._again else at

    def _others(self) -> bool:
        return self.runtime.host.now_ms() < self._others_until

    def _saw_others(self) -> None:
        self._others_until = self.runtime.host.now_ms() + OTHERS_MS

    # --- looking and taking ------------------------------------------------------------------------------------------
    async def go(self) -> None:
        """Look, where it is time to, and take up what there is room for."""
        runtime, now = self.runtime, self.runtime.host.now_ms()
        if now >= self._here:
            self._wake_own(now)
        told, runtime.foreign = runtime.foreign, False
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
        for id, driver in list(self.runtime.asleep.items()):
            wake_at = driver.record.wake_at
            if wake_at is None or id in self.runtime.stuck:
                continue
            if wake_at <= now:
                self.runtime.take_up(id)
            else:
                self._here = min(self._here, wake_at)

    async def _look(self, now: int) -> None:
        """Find what waits in the store. Three calls where nothing does."""
        runtime, starved = self.runtime, self._starved()
        self._looked, self._more, self._again = now, False, False
        if now >= self._renew_at:
            self._renew_at = now + runtime.lease_ms // 2
            self._not_ours.clear()
            waking.unstick(runtime)
        asked = await self._asked()
        walk = starved or now >= min(self._walk_at, self._lease_ends)
        if runtime.room() <= 0:
            self._there = self._lease_ends = NEVER
            self._walk_at = max(self._walk_at, now + waking.poll_ms(runtime))  # once there is room, it is starved
            self._more = True
            return
        due = await self._due(now)
        if walk:
            due += await self._misdated(now)
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

    def _put(self, found: list[Waiting], now: int) -> None:
        """Keep what was found, in this process's order: in memory first, the rest after a delay, where others are."""
        if self._others():
            delays = {(waiting.id, waiting.version): waiting.at for waiting in self._found}
            for n, waiting in enumerate(found):
                if waiting.id not in self.runtime.asleep and waiting.found_at == now:
                    delay = crc32(f"{self.runtime.token} {waiting.id}".encode()) % SPREAD_MS
                    found[n] = waiting._replace(at=delays.get((waiting.id, waiting.version), now + delay))
            found.sort(key=lambda waiting: waiting.at)
        self._found = found

    def _take(self, chosen: list[Waiting]) -> None:
        for waiting in chosen[: self._space()]:
            self._found.remove(waiting)
            self.runtime.take_up(waiting.id)

    async def _take_later(self, now: int) -> None:
        """Take up what was left earlier, unless it has changed since."""
        ripe = [waiting for waiting in self._found if waiting.at <= now][: self._space()]
        if not ripe:
            return
        versions = {r.id: r.version_tag for r in await waking.records(self.runtime, [w.id for w in ripe])}
        for waiting in ripe:
            if versions.get(waiting.id) != waiting.version:
                self._found.remove(waiting)
        self._take([waiting for waiting in ripe if versions.get(waiting.id) == waiting.version])

    async def _takeable(self, ids: list[str], now: int, only: str | None) -> list[Waiting]:
        """Those of ``ids`` that can be driven here, and are not by somebody else."""
        runtime = self.runtime
        found: list[Waiting] = []
        records = {record.id: record for record in await waking.records(runtime, ids)}
        for id in ids:
            record = records.get(id)
            if record is None or record.finished:
                await waking.sweep(runtime, id, record)
            elif (
                record.moved_to is not None
                or not runtime.registry.knows(record.workflow, record.version)
                or (record.copy and not await is_asked(runtime, record))
            ):
                self._not_ours.add(id)
            elif await held_by_other(runtime, record):
                self._saw_others()
                if only == "running":  # a live owner renews it long before
                    self._lease_ends = min(self._lease_ends, runtime.leases.ends_at(record))
            elif only is None or record.status == only:
                runtime.stuck.pop(id, None)
                found.append(Waiting(id, record.version_tag, now, now))
        return found

    # --- what waits --------------------------------------------------------------------------------------------------
    def _passed_over(self, id: str) -> bool:
        """Whether a run need not be looked at: it is being driven here, can't go on here, or is none of ours."""
        runtime = self.runtime
        left = id in runtime.stuck and not runtime.trials.ripe(id, runtime.host.now_ms())
        return left or id in self._not_ours or runtime.is_active(id)

    async def _due(self, now: int) -> list[str]:
        """Runs whose timer is due, the oldest first, at most about a page. Notes when the next timer is."""
        found: list[str] = []
        after, limit = "", 8  # most often none is due
        self._there = NEVER
        while True:
            entries = await self.runtime.host.list(keys.TIMERS, after, limit)
            for entry in entries:
                wake_at, id = keys.timer_of(entry.key)
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

    async def _misdated(self, now: int) -> list[str]:
        """Runs whose timers were set by a clock that was ahead, from where the last look ended, in a page of timers."""
        after = max(self._misdated_after, keys.timers_after(now))
        entries = await self.runtime.host.list(keys.TIMERS, after, waking.PAGE)
        self._misdated_after = entries[-1].key if len(entries) == waking.PAGE else ""
        found = [keys.timer_of(entry.key)[1] for entry in entries if waking.is_misdated(self.runtime, entry, now)]
        return [id for id in found if not self._passed_over(id)]

    async def _asked(self) -> list[str]:
        """Runs with requests, from where the last look ended, at most a page. Those that are driven here are told."""
        found: list[str] = []
        for _ in range(waking.PAGE):
            entries = await self.runtime.host.list(keys.INBOXES, self._asked_after, 1)  # one key for each run
            if not entries:
                self._asked_after = keys.INBOXES
                return found
            id = entries[0].key.split("/")[1]
            self._asked_after = keys.behind_requests(id)
            if id in self.runtime.drivers:
                self.runtime.drivers[id].poke()
            elif not self._passed_over(id) and not await scheduled.attended(self.runtime, id):
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
        self._walk_at = now + waking.poll_ms(self.runtime)
        for _ in range(self._pages):
            entries = await self.runtime.host.list(keys.with_status("running"), self._running_after, waking.PAGE)
            self._pages_of_all += 1
            for entry in entries:
                id = entry.key.rsplit("/", 1)[1]
                if not self._passed_over(id):
                    found.append(id)
            if len(entries) < waking.PAGE:
                looks = max(1, self.runtime.lease_ms // 2 // waking.poll_ms(self.runtime))
                self._pages, self._pages_of_all = -(-self._pages_of_all // looks), 0
                self._running_after = ""
                return found
            self._running_after = entries[-1].key
        self._more = True
        return found
