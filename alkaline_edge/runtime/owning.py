"""Owning runs: take one up (replay it, then take the lease), drive it, and let go of it again.

The replay comes before the lease is taken, so code that disagrees with the history writes nothing at all. A stale
owner may still append while we read; taking the lease then meets a conflict, and we read again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .. import keys, lifecycle
from ..errors import AlkalineError
from ..history import Cursor
from ..host import Conflict
from ..retry import Retry
from ..runs import ExecutionRecord
from ..workflows import Registry
from . import clock, inbox, lease, reporting
from .attempts import Attempts
from .bell import Bell
from .children import Children
from .driver import Driver
from .endings import Endings
from .fleet import Fleet
from .inbox import Inbox
from .journal import Journal, Lost
from .lease import Leases
from .loading import Loaded, Loader, started
from .pace import Pace
from .reporting import Reports
from .scheduled import Scheduled
from .segments import Tail
from .store import Store, Write, indexes_of
from .telling import Teller

_TRIES = 20
"""So often a run is read anew whose record changes while it is taken up; whoever changes it has it then."""


class Owner:
    """Takes runs up for one runtime, and lets go of them. ``retry``: the policy of steps that have none."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        leases: Leases,
        fleet: Fleet,
        teller: Teller,
        reports: Reports,
        loader: Loader,
        scheduled: Scheduled,
        retry: Retry | None,
    ) -> None:
        self._store, self._registry, self._leases, self._fleet = store, registry, leases, fleet
        self._teller, self._reports, self._loader, self._scheduled = teller, reports, loader, scheduled
        self._retry, self._pace = retry, Pace()

    async def own(self, id: str, driver: Driver | None = None, record: ExecutionRecord | None = None) -> None:
        """Drive the run ``id`` for as long as it is ours and has something to do."""
        fleet = self._fleet
        try:
            while not fleet.closing:
                driver, record = driver or await self._take(id, record), None
                if driver is None:
                    return
                fleet.drivers[id] = driver
                try:
                    await driver.drive()
                except Lost:
                    self._leases.lost(id, driver.journal.held_until)
                    driver.machine.set_aside()
                    driver = None
                    continue
                finally:
                    fleet.drivers.pop(id, None)
                fleet.trials.forget(id)
                self._leases.kept(id)
                now, again = driver.record, driver.inbox.poked
                if now.finished:
                    driver.machine.set_aside()
                    return
                if now.generation != driver.machine.header.generation:  # it continued as new: a history of its own
                    driver.machine.set_aside()
                    driver = None
                    continue
                fleet.put_to_sleep(now, driver.journal.loaded)
                if not again or fleet.draining:
                    return
                driver = None
        except AlkalineError as error:
            await self._stuck(id, driver, error)
        except (Exception, SystemExit) as error:  # one run's trouble is no other's: it is named, and left alone
            if asyncio._get_running_loop() is None:  # collected after its loop had ended: nothing can be awaited
                raise
            await self._stuck(id, driver, reporting.unexpected(id, error))
        except BaseException:  # the end of this process, or of this task
            if driver is not None:
                driver.machine.set_aside()
            raise

    async def _stuck(self, id: str, driver: Driver | None, error: AlkalineError) -> None:
        """The run can't go on with this code or this store: leave it as it was, and say so."""
        self._fleet.stuck[id] = error
        self._fleet.trials.failed(id, self._store.host.now_ms())
        self._reports.run_is_stuck(id, error)
        if driver is not None:
            driver.machine.set_aside()
            await self._release(driver)
        self._teller.tell(lifecycle.RunStuck(id, self._store.host.now_ms(), error.code, str(error)))

    # --- taking ----------------------------------------------------------------------------------------------------
    async def _take(self, id: str, record: ExecutionRecord | None) -> Driver | None:
        """The driver of a run that we now own; None when there is nothing to do or somebody else has it.

        ``record``: as it was just read. The lease is taken only if it is still so.
        """
        store, leases = self._store, self._leases
        for _ in range(_TRIES):
            record = record or await store.record(id)
            if not record.finished and record.moved_to is None and self._scheduled.early(record):
                if await self._scheduled.attend(record):
                    record = None
                    continue
                return None
            if not await self._may_take(record):
                return None
            loaded = self._fleet.wake(record)
            replayed = loaded is None
            if loaded is None:
                loaded = await self._loader.load(record, record.attempt + 1)
            before = indexes_of(record)
            await leases.begin()
            await clock.note(store, record, loaded.machine.loop.now_ms, store.host.now_ms())
            now = store.host.now_ms()
            leases.take(record)
            record.attempt += 1 if replayed else 0
            record.waiting, record.wake_at, record.copy = [], None, False
            if record.status != "paused":
                record.status = "running"
            # The next place of the history is free: a stale owner whose commit landed behind our reading shows there.
            end = keys.commit(keys.history(record.run, record.generation), loaded.cursor.length)
            write = Write({keys.record(id): record.version_tag, end: None})
            store.put_record(write, record, before)
            outcome = await store.commit(write)
            if isinstance(outcome, Conflict):
                loaded.machine.set_aside()
                record = None
                continue
            record.version_tag = outcome.version
            self._teller.saw(record)
            driver = self._driver(record, loaded)
            self._fleet.stuck.pop(id, None)
            position = loaded.machine.position if replayed else 0
            self._teller.tell(lifecycle.RunResumed(id, now, record.attempt, position))
            return driver
        return None

    async def _may_take(self, record: ExecutionRecord) -> bool:
        if record.finished or record.moved_to is not None:
            return False
        if record.status == "paused" and not await inbox.is_asked(self._store, record):
            return False
        return not await self._leases.held_by_other(record)

    def begin(self, record: ExecutionRecord, raw: bytes, input: Any) -> None:
        """Drive a run that was just made, and is ours. ``raw`` is its first commit, whose input may stand in blobs."""
        cursor = Cursor()
        time_ms, first = cursor.advance(raw, self._loader.store.codec)[0]
        machine = self._loader.new_machine(started(first)._replace(input=input), time_ms, 1)
        machine.calls.attributes = dict(record.attributes)
        record.attempt = 1
        self._teller.saw(record)
        driver = self._driver(record, Loaded(machine, cursor, Tail([raw])))
        try:
            machine.feed([])
        except AlkalineError as error:
            driver.failed = error
        self._fleet.take_up(record.id, driver)

    def _driver(self, record: ExecutionRecord, loaded: Loaded) -> Driver:
        """What drives one run, put together."""
        journal = Journal(self._store, self._leases, self._teller, record, loaded)
        inbox_, children, bell = Inbox(journal), Children(journal, self._registry, self._fleet), Bell(journal.host)
        attempts = Attempts(journal, self._pace, self._retry, bell, self._fleet)
        endings = Endings(journal, inbox_, children, attempts, self._registry, self._fleet, self._reports)
        return Driver(journal, inbox_, children, attempts, endings, bell, self._fleet, self._teller)

    # --- letting go ------------------------------------------------------------------------------------------------
    async def stop_all(self, seconds: float) -> None:
        """Stop every driver and hand its lease back; let go of what is asleep.

        A step that ignores its cancel is waited for ``seconds``, and then left behind: nothing of it is recorded.
        """
        fleet = self._fleet
        drivers = list(fleet.drivers.values())
        await fleet.stop(seconds)
        for driver in drivers:
            driver.machine.set_aside()
            # Another owner would begin at once what still runs here: that lease is left to run out.
            if isinstance(driver, Driver) and not driver.attempts.lingering and not fleet.is_active(driver.record.id):
                await self._release(driver)
        for id in list(fleet.asleep):
            fleet.let_go(id)
        fleet.drivers.clear()

    async def _release(self, driver: Driver) -> None:
        """Hand the lease back; if that fails, it ends by itself.

        The record is read again: the driver's own may say already what a commit that failed was to make true.
        """
        await self.hand_back(driver.record.id, driver)

    async def hand_back(self, id: str, driver: Driver | None = None) -> None:
        """End our lease of a run; if that fails, it ends by itself."""
        try:
            record = await self._store.find(id)
            if record is None or record.finished or record.owner != self._leases.token:
                return
            before = indexes_of(record)
            lease.free(record)
            if driver is not None and driver.journal.is_at(record) and not driver.machine.drawn:
                record.spent = driver.machine.purse.spent()
                record.cursor_length, record.head = driver.journal.cursor.length, driver.journal.cursor.head
            write = Write({keys.record(id): record.version_tag})
            self._store.put_record(write, record, before)
            await self._store.commit(write)
        except AlkalineError:
            pass  # the lease runs out, and whoever takes the run up replays what was recorded
