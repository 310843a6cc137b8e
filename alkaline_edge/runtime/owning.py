"""Owning runs: start one, or take one up (replay it, then take the lease); drive it, and let go of it again.

The replay comes before the lease is taken, so code that disagrees with the history writes nothing at all. A stale
owner may still append while we read; taking the lease then meets a conflict, and we read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import arguments, keys, lifecycle
from ..budget import Budget, micros
from ..codec import Codec
from ..errors import AlkalineError, ClosedError, ConflictError, CycleDetected, DepthExceeded, InvalidInput
from ..history import Cursor
from ..host import Conflict
from ..interrupts import ends_the_process
from ..names import check_id
from ..retry import Retry
from ..runs import ANCESTRY, ExecutionRecord, Header
from ..workflows import Registry, Workflow
from . import clock, creation, lease, reporting, requests
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
from .store import Store
from .telling import Teller
from .write import Write, indexes_of

if TYPE_CHECKING:
    from .gates import Gates
    from .learning import Learning
    from .places import Word

_TRIES = 20
"""So often a run is read anew whose record changes while it is taken up; whoever changes it has it then."""


class Owner:
    """Starts runs for one runtime, takes them up, and lets go of them.

    ``retry``: the policy of steps that have none; ``budget``: that of new runs whose workflow has none.
    """

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
        budget: Budget | None,
        max_depth: int,
        learning: Learning | None,
        word: Callable[[], Word],
    ) -> None:
        self._store, self._registry, self._leases, self._fleet = store, registry, leases, fleet
        self._teller, self._reports, self.loader, self._scheduled = teller, reports, loader, scheduled
        self._retry, self._pace = retry, Pace(self.gates, learning is not None)
        self._gates: Gates | None = None
        self._learning, self._word = learning, word
        self._budget, self._max_depth = budget, max_depth

    def gates(self) -> Gates:
        """What holds attempts back here."""
        if self._gates is None:
            from .gates import Gates  # most programs have none

            self._gates = Gates(self._store, self._word(), self._learning)
        return self._gates

    async def own(self, id: str, driver: Driver | None = None, record: ExecutionRecord | None = None) -> None:
        """Drive the run ``id`` for as long as it is ours and has something to do."""
        fleet = self._fleet
        try:
            while not fleet.closing and (driver is not None or not fleet.is_held(id)):
                driver, record = driver or await self._take(id, record), None
                if driver is None:
                    return
                fleet.drivers[id] = driver
                ANCESTRY.set(tuple(driver.machine.header.chain))  # its steps begin in this task, or in one made by it
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
                if not again or fleet.stops(id):
                    return
                driver = None
        except AlkalineError as error:
            await self._stuck(id, driver, error)
        except BaseException as error:
            # One run's trouble is no other's: it is named, and left alone. Not so the end of this process, or of this
            # task; and nothing can be awaited by what is collected after its loop has ended.
            of_the_run = isinstance(error, (Exception, SystemExit, KeyboardInterrupt)) and not ends_the_process(error)
            if not of_the_run or asyncio._get_running_loop() is None:
                if driver is not None:
                    driver.machine.set_aside()
                raise
            await self._stuck(id, driver, reporting.unexpected(id, error))

    async def _stuck(self, id: str, driver: Driver | None, error: AlkalineError) -> None:
        """The run can't go on with this code or this store: leave it as it was, and say so."""
        self._fleet.leave_alone(id, error)
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
            self._teller.saw(record)
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
                loaded = await self.loader.load(record, record.attempt + 1)
            before = indexes_of(record)
            await leases.begin()
            await clock.note(store, record, loaded.machine.now_ms, store.host.now_ms())
            now = store.host.now_ms()
            # The next place of the history is free: a stale owner whose commit landed behind our reading shows there.
            end = keys.commit(keys.history(record.run, record.generation), loaded.cursor.length)
            write = Write({keys.record(id): record.version_tag, end: None})
            leases.take(record, write)
            record.attempt += 1 if replayed else 0
            record.waiting, record.wake_at, record.copy = [], None, False
            if record.status != "paused":
                record.status = "running"
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
            header, begun = loaded.machine.header, loaded.machine.began_ms
            parent = None if header.parent is None else (header.parent[0], header.parent[1], header.parent[2])
            self._teller.tell(
                lifecycle.RunResumed(
                    id, now, record.attempt, position, record.workflow, record.run, record.generation, begun, parent
                )
            )
            return driver
        return None

    async def _may_take(self, record: ExecutionRecord) -> bool:
        if record.finished or record.moved_to is not None:
            return False
        if record.status == "paused" and not await requests.is_asked(self._store, record):
            return False
        return not await self._leases.held_by_other(record)

    async def start(
        self,
        definition: Workflow,
        input: Any,
        id: str | None,
        attributes: dict[str, Any] | None,
        start_at: datetime | None,
        budget: Budget | None,
        write: Write | None = None,
        ancestry: Sequence[str] = (),
    ) -> tuple[str, bool]:
        """As ``Runtime.start``, of what was checked: the run's id, and whether it was recorded. Else nothing was.

        ``write``: what else is committed, or not, with the run. Then it is not known what stood in the way: a check of
        its own, or a run with that id. ``ancestry``: the workflows that it comes of, though it is nobody's child.
        """
        header, store = self._header(definition, id, budget, ancestry), self._store
        plain = store.codec.through(definition.given(input), "input")
        now, wake = store.host.now_ms(), None if start_at is None else round(start_at.timestamp() * 1000)
        write = write or Write()
        at_once = wake is None or wake <= now
        if not at_once:
            return await self._made(header, plain, now, attributes, write, wake)
        await self._leases.begin()
        await self._fleet.begin_making(header.id)
        try:
            return await self._made(header, plain, store.host.now_ms(), attributes, write, None)
        finally:
            self._fleet.made(header.id)

    async def _made(
        self,
        header: Header,
        plain: Any,
        now: int,
        attributes: dict[str, Any] | None,
        write: Write,
        wake: int | None,
    ) -> tuple[str, bool]:
        """Record a run, and drive it unless it begins at ``wake``, ms since 1970."""
        store, at_once = self._store, wake is None
        owner, until = (self._leases.token, self._leases.until()) if at_once else (None, 0)
        record, raw = creation.add(store, write, header, plain, now, owner, until, attributes, wake)
        await store.put_ahead(write)
        outcome = await store.commit(write)
        if isinstance(outcome, Conflict):
            return header.id, False
        record.version_tag = outcome.version
        self._teller.tell(lifecycle.RunStarted(header.id, now, header.workflow, header.run, header.generation))
        if at_once and self._fleet.closing:
            await self.hand_back(header.id)
            raise ClosedError(f"the runtime was closed while run {header.id!r} was started: it is recorded, and kept")
        if at_once:
            self.begin(record, raw, plain)
        return header.id, True

    async def join(self, id: str, definition: Workflow, on_conflict: str) -> None:
        """Go on with the run that has the id already, where that is wanted; otherwise ERR_CONFLICT."""
        record = await self._store.record(id)
        if on_conflict == "join" and record.workflow == definition.name:
            if record.moved_to is not None:
                raise ConflictError(f"run {id!r} was handed over to {record.moved_to}: join it there", id=id)
            if not record.finished and not await self._leases.held_by_other(record):
                self._fleet.take_up(id, record=record)
            return
        raise ConflictError(
            f"a run {id!r} of workflow {record.workflow!r} exists already ({record.status}); choose another id, or "
            'pass on_conflict="join" to get that one',
            id=id,
            status=record.status,
        )

    def check_nesting(self, definition: Workflow, ancestry: Sequence[str]) -> None:
        """ERR_CYCLE_DETECTED, or ERR_DEPTH_EXCEEDED, where a run that comes of ``ancestry`` may not be started."""
        chain = [*ancestry, definition.name]
        if definition.name in ancestry and not definition.recursive:
            raise CycleDetected(
                f"workflow {definition.name!r} would come of itself: {' > '.join(chain)}; if that is on purpose, "
                "declare it with @workflow(recursive=True)",
                chain=chain,
            )
        if len(ancestry) > self._max_depth:
            raise DepthExceeded(
                f"workflow {definition.name!r} would be {len(ancestry)} deep, and max_depth is {self._max_depth}; "
                "flatten what starts what, or give Runtime a larger max_depth",
                limit=self._max_depth,
            )

    def _header(
        self, definition: Workflow, id: str | None, budget: Budget | None, ancestry: Sequence[str] = ()
    ) -> Header:
        run = creation.new_run_id(self._store.host)
        chosen = check_id(id) if id is not None else f"exe_{self._store.host.entropy(8).hex()}"
        budget = budget or definition.budget or self._budget
        limits = [[run, budget.tokens, None if budget.usd is None else micros(budget.usd)]] if budget else []
        return Header(
            chosen, run, definition.name, definition.version, chain=[*ancestry, definition.name],
            max_depth=self._max_depth, accounts=limits, totals=[[0, 0] for _ in limits],
            policy=budget.policy() if budget else None,
        )  # fmt: skip

    def begin(self, record: ExecutionRecord, raw: bytes, input: Any) -> None:
        """Drive a run that was just made, and is ours. ``raw`` is its first commit, whose input may stand in blobs."""
        cursor = Cursor()
        time_ms, first = cursor.advance(raw, self.loader.store.codec)[0]
        machine = self.loader.new_machine(started(first)._replace(input=input), time_ms, 1)
        machine.attributes = dict(record.attributes)
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
        inbox_, bell = Inbox(journal, self._fleet), Bell(journal.host)
        children = Children(journal, self._registry, self._fleet)
        attempts = Attempts(journal, self._pace, self._retry, bell, self._fleet)
        endings = Endings(journal, inbox_, children, attempts, self._registry, self._fleet, self._reports)
        return Driver(journal, inbox_, children, attempts, endings, bell, self._fleet, self._teller)

    # --- letting go ------------------------------------------------------------------------------------------------
    async def stop_all(self, seconds: float) -> bool:
        """Stop every driver and hand its lease back; let go of what is asleep. Whether all has ended.

        A step that ignores its cancel is waited for ``seconds``, and then left behind: nothing of it is recorded.
        """
        fleet = self._fleet
        if self._gates is not None:
            await self._gates.end(seconds)
        drivers, ended = list(fleet.drivers.values()), True
        await fleet.stop(seconds)
        for driver in drivers:
            driver.machine.set_aside()
            # Another owner would begin at once what still runs here: that lease is left to run out.
            if isinstance(driver, Driver) and not driver.attempts.lingering and not fleet.is_active(driver.record.id):
                await self._release(driver)
            else:
                ended = False
        for id in list(fleet.asleep):
            fleet.let_go(id)
        fleet.drivers.clear()
        return ended

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


def check_options(
    on_event: object, meter: object, retry: object, budget: object, max_depth: object, codec: object, learning: object
) -> None:
    """ERR_INVALID_INPUT that names the first option which is none."""
    arguments.expect_call(on_event, "Runtime(on_event=)", "a function of a lifecycle event")
    if meter is not None and not callable(getattr(meter, "record", None)):
        raise arguments.refused("Runtime(meter=)", "a Meter, an object with a method record", meter)
    arguments.expect(retry, (Retry, type(None)), "Runtime(retry=)", "a Retry, such as Retry(max_attempts=3)")
    arguments.expect(budget, (Budget, type(None)), "Runtime(budget=)", "a Budget, such as Budget(tokens=1000)")
    arguments.expect(codec, (Codec, type(None)), "Runtime(codec=)", "a Codec")
    if learning is not None:
        from .learning import Learning  # most programs have none

        arguments.expect(learning, Learning, "Runtime(learning=)", "a Learning, such as Learning(most=20)")
    arguments.whole(max_depth, "Runtime(max_depth=)", 0)


def check_start(on_conflict: object, start_at: object, budget: object) -> None:
    """ERR_INVALID_INPUT for what a run can't be started with."""
    if on_conflict not in ("reject", "join"):
        raise InvalidInput(f'on_conflict is "reject" or "join", not {on_conflict!r}')
    if start_at is not None and (not isinstance(start_at, datetime) or start_at.tzinfo is None):
        raise InvalidInput("start_at wants an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)")
    if budget is not None and not isinstance(budget, Budget):
        raise InvalidInput(f"budget is a Budget, such as Budget(tokens=1000), not a {type(budget).__name__}")
