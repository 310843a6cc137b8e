"""Owning runs: take one up (replay it, then take the lease), drive it, and let go of it again.

The replay comes before the lease is taken, so code that disagrees with the history writes nothing at all. A stale
owner may still append while we read; taking the lease then meets a conflict, and we read again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys, lifecycle
from ..context import Context
from ..errors import AlkalineError, DeterminismError, StoreError
from ..history import Cursor
from ..host import Conflict
from ..machine.execution import Execution, Sources
from ..runs import ExecutionRecord, Header
from . import reporting, scheduled
from .driver import Driver, Lost
from .segments import Tail
from .store import Write, indexes_of

if TYPE_CHECKING:
    from .runtime import Runtime

logger = logging.getLogger("alkaline_edge")


async def own(runtime: Runtime, id: str, driver: Driver | None = None) -> None:
    """Drive the run ``id`` for as long as it is ours and has something to do."""
    try:
        while not runtime.closing:
            driver = driver or await take(runtime, id)
            if driver is None:
                return
            runtime.drivers[id] = driver
            try:
                await driver.drive()
            except Lost:
                driver.machine.set_aside()
                driver = None
                continue
            finally:
                runtime.drivers.pop(id, None)
            record, again = driver.record, driver.poked
            runtime.trials.forget(id)
            if record.finished:
                driver.machine.set_aside()
                return
            if record.generation != driver.machine.header.generation:
                driver.machine.set_aside()
                driver = None
                continue
            put_to_sleep(runtime, driver)
            if not again or runtime.draining:
                return
            driver = None
    except AlkalineError as error:
        await _stuck(runtime, id, driver, error)
    except (asyncio.CancelledError, KeyboardInterrupt):
        if driver is not None:
            driver.machine.set_aside()
        raise
    except BaseException as error:  # one run's trouble is no other's: it is named, logged and left alone
        await _stuck(runtime, id, driver, unexpected(id, error))


def unexpected(id: str, error: BaseException) -> StoreError:
    """What becomes of an error that is none of ours, raised while a run was read, replayed or driven."""
    logger.error("run %r could not be driven", id, exc_info=error)
    stuck = StoreError(
        f"run {id!r} could not be read or driven: {type(error).__name__} came out of where no error may; it is left as "
        "it was, and the traceback is in the log. Resume it once the cause is mended, or fork or restore it",
        id=id,
        error=type(error).__name__,
    )
    stuck.__cause__ = error
    return stuck


async def _stuck(runtime: Runtime, id: str, driver: Driver | None, error: AlkalineError) -> None:
    """The run can't go on with this code or this store: leave it as it was, and say so."""
    runtime.stuck[id] = error
    runtime.trials.failed(id, runtime.host.now_ms())
    reporting.run_is_stuck(runtime, id, error)
    if driver is not None:
        driver.machine.set_aside()
        await release(driver)
    runtime.tell(lifecycle.RunStuck(id, runtime.host.now_ms(), error.code, str(error)))


async def release(driver: Driver) -> None:
    """Hand the lease back; if that fails, it ends by itself.

    The record is read again: the driver's own may say already what a commit that failed was to make true.
    """
    runtime, store = driver.runtime, driver.store
    try:
        record = await store.find(driver.record.id)
        if record is None or record.finished or record.owner != runtime.token:
            return
        before = indexes_of(record)
        record.owner, record.lease_until = None, 0
        same = record.generation == driver.machine.header.generation and record.version_tag == driver.record.version_tag
        if same and not driver.machine.drawn:
            record.spent = driver.machine.purse.spent()
            record.cursor_length, record.head = driver.cursor.length, driver.cursor.head
        write = Write({keys.record(record.id): record.version_tag})
        store.put_record(write, record, before)
        await store.commit(write)
    except AlkalineError:
        pass  # the lease runs out, and whoever takes the run up replays what was recorded


async def hand_back(runtime: Runtime, id: str) -> None:
    """End our lease of a run that nobody drives yet; if that fails, it ends by itself."""
    try:
        record = await runtime.store.find(id)
        if record is None or record.finished or record.owner != runtime.token:
            return
        before = indexes_of(record)
        record.owner, record.lease_until = None, 0
        write = Write({keys.record(id): record.version_tag})
        runtime.store.put_record(write, record, before)
        await runtime.store.commit(write)
    except AlkalineError:
        pass


async def take(runtime: Runtime, id: str) -> Driver | None:
    """The driver of a run that we now own; None when there is nothing to do or somebody else has it."""
    for _ in range(20):
        record = await runtime.store.record(id)
        if not record.finished and record.moved_to is None and scheduled.early(runtime, record):
            if await scheduled.attend(runtime, record):
                continue
            return None
        if not await _may_take(runtime, record):
            return None
        machine, cursor, unsealed, replayed = await _wake_or_load(runtime, record)
        before = indexes_of(record)
        await runtime.leases.begin()
        now = runtime.host.now_ms()
        record.owner, record.lease_until = runtime.token, now + runtime.lease_ms
        record.epoch += 1
        record.attempt += 1 if replayed else 0
        record.waiting, record.wake_at, record.copy = [], None, False
        if record.status != "paused":
            record.status = "running"
        # The next place of the history is free: a stale owner whose commit landed behind our reading shows there.
        end = keys.commit(keys.history(record.run, record.generation), cursor.length)
        write = Write({keys.record(id): record.version_tag, end: None})
        runtime.store.put_record(write, record, before)
        outcome = await runtime.store.commit(write)
        if isinstance(outcome, Conflict):
            machine.set_aside()
            continue
        record.version_tag = outcome.version
        runtime.saw(record)
        driver = Driver(runtime, record, machine, cursor)
        driver.unsealed = unsealed
        runtime.stuck.pop(id, None)
        runtime.tell(lifecycle.RunResumed(id, now, record.attempt, machine.position if replayed else 0))
        return driver
    return None


async def _may_take(runtime: Runtime, record: ExecutionRecord) -> bool:
    if record.finished or record.moved_to is not None:
        return False
    if record.status == "paused" and not await is_asked(runtime, record):
        return False
    return not await held_by_other(runtime, record)


async def is_asked(runtime: Runtime, record: ExecutionRecord) -> bool:
    """Whether a paused run has a request to answer. A copy's requests wait for the run, unless it is resumed itself."""
    after = ""
    while True:
        entries = await runtime.host.list(keys.requests(record.id), after, 100 if record.copy else 1)
        if not record.copy or not entries:
            return bool(entries)
        if any(runtime.codec.decode(entry.value)[1] == "resume" for entry in entries):
            return True
        after = entries[-1].key


async def held_by_other(runtime: Runtime, record: ExecutionRecord) -> bool:
    """Whether a live owner that is not us has the run."""
    return await runtime.leases.held_by_other(record)


async def _wake_or_load(runtime: Runtime, record: ExecutionRecord) -> tuple[Execution, Cursor, Tail, bool]:
    asleep = runtime.asleep.pop(record.id, None)
    if asleep is not None:
        if asleep.record.version_tag == record.version_tag:
            return asleep.machine, asleep.cursor, asleep.unsealed, False
        asleep.machine.set_aside()
    machine, cursor, unsealed = await load(runtime, record, record.attempt + 1)
    return machine, cursor, unsealed, True


def put_to_sleep(runtime: Runtime, driver: Driver) -> None:
    """Keep a suspended run in memory, so that waking it needs no replay. The oldest make room."""
    runtime.asleep[driver.record.id] = driver
    while len(runtime.asleep) > runtime.keep_asleep:
        oldest = next(iter(runtime.asleep))
        runtime.asleep.pop(oldest).machine.set_aside()


async def load(runtime: Runtime, record: ExecutionRecord, attempt: int) -> tuple[Execution, Cursor, Tail]:
    """Replay a run's history from the top: the machine at its end, the cursor, and the commits not yet sealed.

    What 0.1 wrote is replayed by the asyncio of this Python and, where that differs, once more by the rules of today:
    another Python may have written it.
    """
    former: DeterminismError | None = None

    async def read() -> tuple[Execution, Cursor, Tail]:
        nonlocal former
        loading = _Loading(runtime, record, attempt, by_our_rules=former is not None)
        try:
            async for sealed, _, page in runtime.store.pages(keys.history(record.run, record.generation)):
                await loading.page(sealed, page)
            return loading.finish()
        except BaseException as error:
            machine = loading.machine
            if machine is not None:
                machine.set_aside()
            if not isinstance(error, DeterminismError):
                raise
            if former is not None:
                raise former from None
            if machine is None or not machine.header.former:
                raise
            former = error
        return await read()

    return await runtime.store.without_gap(read)


class _Loading:
    """Reads a history page by page into a new machine."""

    def __init__(self, runtime: Runtime, record: ExecutionRecord, attempt: int, by_our_rules: bool) -> None:
        self._runtime, self._record, self._attempt = runtime, record, attempt
        self._by_our_rules = by_our_rules
        self._cursor = Cursor()
        self._unsealed = Tail()
        self.machine: Execution | None = None

    async def page(self, sealed: bool, raws: list[bytes]) -> None:
        """Verify and feed one page."""
        store, run = self._runtime.store, self._record.run
        blobs = store.codec.blobs_seen
        timed = self._cursor.advance_all(raws, store.codec)
        if store.codec.blobs_seen != blobs:
            timed = await store.fill(timed, run)
        if sealed:
            self._unsealed.clear()
        else:
            for raw in raws:
                self._unsealed.add(raw)
        if self.machine is None:
            time_ms, started = timed.pop(0)
            self.machine = new_machine(self._runtime, started, time_ms, self._attempt, self._by_our_rules)
            self.machine.attributes = dict(self._record.attributes)  # those given at the start stand nowhere else
        machine = self.machine
        machine.feed(timed, more=True)

    def finish(self) -> tuple[Execution, Cursor, Tail]:
        """Run the handler to the end of what is recorded."""
        machine, record = self.machine, self._record
        if machine is None:
            raise StoreError(
                f"run {record.id!r} has a record and no history: the store lost it, or a part was deleted; restore it",
                id=record.id,
            )
        if self._cursor.length < record.cursor_length:
            raise StoreError(
                f"run {record.id!r} has {self._cursor.length} commits, and its record knows of {record.cursor_length}: "
                "the store lost or rolled back the end of its history; restore it",
                id=record.id,
            )
        settled = record.status in ("suspended", "paused") and self._cursor.length == record.cursor_length
        machine.feed([], more=False, quiet=settled)
        return machine, self._cursor, self._unsealed


def new_machine(runtime: Runtime, started: Any, time_ms: int, attempt: int, by_our_rules: bool = False) -> Execution:
    """The machine of a history that begins with ``started``."""
    if not isinstance(started, ev.Started):
        raise StoreError("the history does not begin with a Started event: it is damaged, restore it")
    header = Header.from_map(started.header)
    if by_our_rules:
        header = header.by_our_rules()
    definition = runtime.registry.exact(header.workflow, header.version)
    machine = Execution(
        definition,
        header,
        started.input,
        runtime.codec,
        Sources(runtime.host.now_ms, runtime.host.entropy),
        Context,
        attempt,
        runtime.registry.newest,
    )
    machine.start(time_ms)
    return machine


async def forget_generation(runtime: Runtime, record: ExecutionRecord) -> None:
    """Delete the history before the previous one: a run that continues as new for ever stays bounded."""
    old = record.generation - 2
    if old >= 0:
        name = keys.history(record.run, old)
        await runtime.store.purge((keys.segments(name), keys.commits(name)))
