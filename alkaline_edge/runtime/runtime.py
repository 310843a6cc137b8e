"""``Runtime``: the public face of the async part. It awaits the host, runs steps, commits, leases, and wakes timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from .. import events as ev
from .. import keys, lifecycle
from ..budget import Budget, micros
from ..codec import Codec
from ..errors import AlkalineError, ClosedError, ConflictError, InvalidInput
from ..events import Event
from ..failures import revive
from ..history import Cursor
from ..host import Conflict, Host
from ..limits import LEASE_SECONDS, MAX_RUN_DEPTH
from ..names import check_attributes, check_id, check_text
from ..records import dataclass
from ..retry import Retry
from ..runs import ExecutionRecord, Header, Status
from ..workflows import Registry, Workflow
from . import asking, creation, listing, owning, reporting, waking
from .driver import Driver
from .lease import Leases
from .moved import gone
from .pace import Pace
from .run import Run
from .store import Store, Write
from .telling import Changes, Teller
from .telling import Meter as Meter  # its public place


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of a history, with the number of its commit and its time (ms since 1970)."""

    commit: int
    at: int
    event: Event


CLOSE_SECONDS = 2.0
"""How long ``close`` waits for steps that ignore their cancel, and for async listeners."""
_runtimes: WeakKeyDictionary[Any, WeakSet[Runtime]] = WeakKeyDictionary()


class Runtime:
    """Runs workflows on a host.

    ``workflows``: what it can run. ``on_event`` is called with each lifecycle event, ``meter.record`` with each charge.
    ``retry`` and ``budget`` are the defaults of steps and root runs. ``lease``: seconds for which an owner that went
    silent keeps its runs. ``poll``: seconds between two looks for what others ask, if None 1 where the host may leave
    us without word of it and 20 elsewhere. Use it as ``async with``, or call ``close``: that hands leases back.
    """

    keep_asleep = 1_000
    """How many suspended runs stay in memory, ready to go on without a replay."""

    def __init__(
        self,
        host: Host,
        workflows: Iterable[Workflow] = (),
        on_event: Callable[[lifecycle.LifecycleEvent], Any] | None = None,
        meter: Meter | None = None,
        retry: Retry | None = None,
        budget: Budget | None = None,
        max_depth: int = MAX_RUN_DEPTH,
        lease: float | None = None,
        codec: Codec | None = None,
        poll: float | None = None,
    ) -> None:
        asking.require(host, lease)
        if max_depth < 0 or (lease is not None and not lease > 0) or (poll is not None and not poll > 0):
            raise InvalidInput("Runtime wants max_depth >= 0, lease > 0 and poll > 0 (seconds)")
        self.host, self.codec = host, codec or Codec()
        self.store = Store(host, self.codec)
        self.registry = Registry(workflows)
        self.retry, self.budget, self.max_depth = retry, budget, max_depth
        self.lease_ms = round((lease or LEASE_SECONDS) * 1000)
        self.leases = Leases(lambda: self.host, self.lease_ms)
        self.teller = Teller(on_event, meter)
        self.changes = Changes(lambda seconds: self.host.sleep(seconds))
        self.closing = self.draining = self.serving = False
        self.concurrency: int | None = None
        self.drivers: dict[str, Driver] = {}
        self.asleep: dict[str, Driver] = {}
        self.stuck: dict[str, AlkalineError] = {}
        self.early: dict[str, tuple[int, str]] = {}
        """Runs that have not begun: the last request that was looked at, and until when (ms since 1970) that counts."""
        self.crashed: dict[str, BaseException] = {}
        self.told_stuck: dict[str, str] = {}
        self.raised: dict[str, BaseException] = {}
        self.statuses: dict[str, Status] = {}
        self.pace = Pace()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.trials = waking.Trials()
        self.walks: dict[str, float] = {}
        self._closing: asyncio.Task[None] | None = None
        self.poll = poll
        self._unwatch: Callable[[], Any] | None = None
        self.attend(host)

    async def __aenter__(self) -> Runtime:
        """Nothing starts by itself: call start, resume, recover, run_due or serve."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As ``close``."""
        await self.close()

    # --- starting and going on -------------------------------------------------------------------------------------
    async def start(
        self,
        workflow: str | Workflow,
        input: Any = None,
        id: str | None = None,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> Run:
        """Record a new run and begin it in the background; returns once it is recorded.

        An ``id`` that is in use is ERR_CONFLICT, or with ``on_conflict="join"`` the run that has it. ``start_at``, an
        aware datetime: begin then, when run_due or serve gets there, and not before: what is sent to the run is kept
        until then, and a cancel ends it unbegun. ``budget``: in place of the workflow's own and of the runtime's.
        """
        self._open()
        if on_conflict not in ("reject", "join"):
            raise InvalidInput(f'on_conflict is "reject" or "join", not {on_conflict!r}')
        if start_at is not None and start_at.tzinfo is None:
            raise InvalidInput("start_at wants an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)")
        definition = self.registry.newest(workflow)
        check_attributes({} if attributes is None else attributes)
        if budget is not None and not isinstance(budget, Budget):
            raise InvalidInput(f"budget is a Budget, such as Budget(tokens=1000), not a {type(budget).__name__}")
        header = self._header(definition, id, budget)
        plain = self.codec.through(definition.given(input), "input")
        now, wake = self.host.now_ms(), None if start_at is None else round(start_at.timestamp() * 1000)
        write = Write()
        at_once = wake is None or wake <= now
        if at_once:
            await self.leases.begin()
        owner = self.token if at_once else None
        record, raw = creation.add(
            self.store, write, header, plain, now, owner, now + self.lease_ms if at_once else 0, attributes, wake
        )
        await self.store.put_ahead(write)
        outcome = await self.store.commit(write)
        if isinstance(outcome, Conflict):
            return await self._join(header.id, definition, on_conflict)
        record.version_tag = outcome.version
        self.tell(lifecycle.RunStarted(header.id, now, definition.name))
        if at_once and self.closing:
            await owning.hand_back(self, header.id)
            raise ClosedError(f"the runtime was closed while run {header.id!r} was started: it is recorded, and kept")
        if at_once:
            self._begin(record, raw, plain)
        return Run(self, header.id)

    def _header(self, definition: Workflow, id: str | None, budget: Budget | None) -> Header:
        run = creation.new_run_id(self.host)
        chosen = check_id(id) if id is not None else f"exe_{self.host.entropy(8).hex()}"
        budget = budget or definition.budget or self.budget
        limits = [[run, budget.tokens, None if budget.usd is None else micros(budget.usd)]] if budget else []
        return Header(
            chosen, run, definition.name, definition.version, chain=[definition.name], max_depth=self.max_depth,
            accounts=limits, totals=[[0, 0] for _ in limits],
        )  # fmt: skip

    def _begin(self, record: ExecutionRecord, raw: bytes, input: Any) -> None:
        cursor = Cursor()
        time_ms, started = cursor.advance(raw, self.codec)[0]
        assert isinstance(started, ev.Started)
        machine = owning.new_machine(self, started._replace(input=input), time_ms, 1)
        machine.attributes = dict(record.attributes)
        record.attempt = 1
        self.saw(record)
        driver = Driver(self, record, machine, cursor)
        driver.unsealed.add(raw)
        try:
            machine.feed([])
        except AlkalineError as error:
            driver.failed = error
        self.take_up(record.id, driver)

    async def _join(self, id: str, definition: Workflow, on_conflict: str) -> Run:
        record = await self.store.record(id)
        if on_conflict == "join" and record.workflow == definition.name:
            if record.moved_to is not None:
                raise ConflictError(f"run {id!r} was handed over to {record.moved_to}: join it there", id=id)
            if not record.finished and not await owning.held_by_other(self, record):
                self.take_up(id)
            return Run(self, id)
        raise ConflictError(
            f"a run {id!r} of workflow {record.workflow!r} exists already ({record.status}); choose another id, or "
            'pass on_conflict="join" to get that one',
            id=id,
            status=record.status,
        )

    async def resume(self, id: str) -> Run:
        """Go on with a run: after a crash, after ``pause``, or after code that was stuck has been mended.

        A run that another live owner holds, or that was handed over, is ERR_CONFLICT.
        """
        self._open()
        # A pause that nobody has consumed stands in no record. Looked for before the record is read, it can't slip by.
        asked = await self.host.list(keys.requests(id), "", 1)
        record = await self.store.record(id)
        if not record.finished:
            self.registry.exact(record.workflow, record.version)
            if record.moved_to is not None:
                raise gone(record, "resume")
            if await owning.held_by_other(self, record):
                raise ConflictError(
                    f"run {id!r} is held by another owner until {record.lease_until} ms; it goes on there", id=id
                )
            if record.status == "paused" or id in self.drivers or asked:
                try:
                    await asking.request(self, id, "resume", "", None)
                except ConflictError:
                    if not (await self.store.record(id)).finished:
                        raise
                    return Run(self, id)  # it ended meanwhile: there is nothing left to resume
            self.stuck.pop(id, None)
            self.take_up(id)
        return Run(self, id)

    async def recover(self) -> list[Run]:
        """Take up every running run that no live owner has, as after a crash; returns once they are begun."""
        self._open()
        return [Run(self, id) for id in await waking.recover(self)]

    async def run_due(self) -> int | None:
        """Wake what is due, in order, and wait until it has settled.

        Returns when to call again, in ms since 1970, None if no run waits for a timer: put it into an alarm, a
        setTimeout, a cron. Costs what it wakes, not what is stored.
        """
        self._open()
        return await waking.run_due(self)

    async def serve(self, until: asyncio.Event | datetime | None = None, concurrency: int | None = None) -> None:
        """Recover, wake timers and answer requests until ``until``, or until the runtime is closed.

        ``concurrency``: drive at most so many runs at once here, and leave the others to other processes. A suspended
        run does not count; one that you start or import here goes on whatever the number is. What is being driven at
        ``until`` goes on; ``close`` hands it to other processes. A store that stops answering is asked again; one that
        does not answer the first time is its error.
        """
        self._open()
        from . import serving  # only a server needs it, and an import costs a browser's start

        await serving.serve(self, until, concurrency)

    # --- asking ----------------------------------------------------------------------------------------------------
    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal; it is durable when this returns. The same ``dedupe`` key counts once in the run's life."""
        self._open()
        asking.check_request("signal", name, dedupe)
        await asking.request(self, id, "signal", name, payload, dedupe)

    async def query(self, id: str, name: str, *args: Any) -> Any:
        """What the run's query handler ``name`` returns; also of suspended and finished runs. Changes nothing."""
        self._open()
        return await asking.query(self, id, name, args)

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """Send a validated request and wait for its reply. What the handler raises is raised here."""
        self._open()
        asking.check_request("update", name, None)
        return await asking.update(self, id, name, payload)

    async def pause(self, id: str) -> None:
        """Ask for a pause: what is in flight ends, and nothing new starts until ``resume``."""
        self._open()
        await asking.request(self, id, "pause", "", None)

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end: its handler sees CancelledError, cleans up, and the run is cancelled."""
        self._open()
        if reason is not None:
            reason = check_text(reason, "the reason of a cancel")
        await asking.request(self, id, "cancel", "", reason)

    # --- looking ---------------------------------------------------------------------------------------------------
    async def get_execution(self, id: str) -> ExecutionRecord:
        """The run's record; ERR_NOT_FOUND without one."""
        self._open()
        record = await self.store.record(id)
        self.saw(record)
        return record

    async def list_executions(
        self,
        status: str | None = None,
        workflow: str | None = None,
        attributes: dict[str, Any] | None = None,
        after: str = "",
        limit: int = 50,
    ) -> listing.Page:
        """A page of records, by id; pass ``page.after`` on for the next one, until it is None."""
        self._open()
        return await listing.page(self, status, workflow, attributes, after, limit)

    async def history(self, id: str) -> list[Recorded]:
        """Every event of the run's present history, verified against its digest chain."""
        self._open()
        record = await self.store.record(id)
        commits = await self.store.events(keys.history(record.run, record.generation), record.run)
        return [Recorded(n, at, event) for n, events in enumerate(commits) for at, event in events]

    # --- moving ----------------------------------------------------------------------------------------------------
    async def export(self, id: str, handoff: bool = False) -> bytes:
        """The whole run as a bundle. With ``handoff`` the run is frozen here: it goes on where it is imported."""
        self._open()
        from . import moving  # only a move needs it, and an import costs a browser's start

        return await moving.export(self, id, handoff)

    async def import_(self, bundle: bytes, mode: str = "copy") -> Run:
        """Store a bundle's run here. "copy": paused, until somebody resumes it. "take_over": it may go on at once.

        Only a bundle that was exported with ``handoff``, or of a run that has ended, is taken over; the same one again
        changes nothing, also after the run was deleted. Damaged, foreign or newer bundles are refused with nothing
        written; an id in use is ERR_CONFLICT. Cut off, it may be repeated.
        """
        self._open()
        from . import moving  # only a move needs it, and an import costs a browser's start

        return await moving.import_(self, bundle, mode)

    async def fork(self, id: str, at: int, edit: dict[str, Any] | None = None) -> Run:
        """A new run with the first ``at`` commits of this one's history, paused.

        ``edit`` maps command ids to other step results, and "input" to another input.
        """
        self._open()
        from . import forking  # only a fork needs it, and an import costs a browser's start

        return await forking.fork(self, id, at, {} if edit is None else edit)

    async def delete(self, id: str) -> None:
        """Delete a run and all that belongs to it. One that has not ended must be cancelled first: ERR_CONFLICT."""
        self._open()
        from . import moving  # only a move needs it, and an import costs a browser's start

        await moving.delete(self, id)

    async def swap_host(self, host: Host) -> None:
        """Go on upon another host: everything is copied there, and this runtime uses it from then on.

        ``host`` must be empty, or hold the same copy. Runs in flight are set aside first and taken up again there.
        """
        self._open()
        from . import moving  # only a move needs it, and an import costs a browser's start

        await moving.swap_host(self, host)

    def drain(self) -> None:
        """Start nothing more: what is in flight ends and is recorded, and its run is suspended, due at once.

        For an invocation that comes near a limit of its platform; the next one's ``run_due`` goes on. Signals and
        the like are still taken. Then await what you wait for, and ``close``.
        """
        self.draining = True
        for driver in list(self.drivers.values()):
            driver.poke()

    async def close(self) -> None:
        """Stop: steps in flight are dropped unrecorded, leases handed back, suspended runs set aside.

        Whoever waits for something here is told at once: ERR_CLOSED. A second call waits for the first.
        """
        if self._closing is None:
            self.closing = True
            self.changes.end()
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)  # a caller that is cancelled does not leave it half done

    async def _close(self) -> None:
        await self.stop_all()
        self.leases.end()
        if self._unwatch is not None:
            self._unwatch()
        self.changed()
        speaking = self.teller.silence()
        if speaking is not None:
            await asyncio.wait([speaking], timeout=CLOSE_SECONDS)

    async def stop_all(self) -> None:
        """Stop every driver and hand its lease back; let go of what is asleep.

        A step that ignores its cancel is waited for CLOSE_SECONDS, and then left behind: nothing of it is recorded.
        """
        drivers = list(self.drivers.values())
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for driver in drivers:
            driver.machine.set_aside()
            # Another owner would begin at once what still runs here: that lease is left to run out.
            if not driver.attempts.lingering and driver.record.id not in self._tasks:
                await owning.release(driver)
        for driver in self.asleep.values():
            driver.machine.set_aside()
        self.asleep.clear()
        self.drivers.clear()

    def attend(self, host: Host) -> None:
        """Hear what others commit to ``host``, where it tells."""
        if self._unwatch is not None:
            self._unwatch()
        watch = getattr(host, "watch", None)
        self._unwatch = watch(self._foreign) if watch is not None else None
        self._siblings = _runtimes.setdefault(host, WeakSet())
        self._siblings.add(self)

    # --- for the other modules of this package ---------------------------------------------------------------------
    @property
    def token(self) -> str:
        """This owner's name."""
        return self.leases.token

    def _open(self) -> None:
        if self.closing:
            raise ClosedError("this runtime is closed; make another one")

    def take_up(self, id: str, driver: Driver | None = None) -> None:
        """Own and drive a run in the background, unless that is under way or there is no room for it."""
        if self.closing or (self.draining and driver is None):
            return
        if id in self._tasks:
            if id in self.drivers:
                self.drivers[id].poke()
            return
        if driver is None and self.room() <= 0:
            return
        if driver is not None:
            self.drivers[id] = driver  # it holds the lease: close hands it back even if the task never began
        self._begin_task(id, owning.own(self, id, driver))

    def _begin_task(self, id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[id] = task
        self.crashed.pop(id, None)

        def ended(task: asyncio.Task[None]) -> None:
            if self._tasks.get(id) is task:
                del self._tasks[id]
            if not task.cancelled() and task.exception() is not None:
                self._crash(id, task.exception())
            self.changed()

        task.add_done_callback(ended)

    def _crash(self, id: str, error: BaseException | None) -> None:
        """What is no error of the kernel's ended a driver: whoever waits for the run is told."""
        if isinstance(error, AlkalineError):
            self.stuck[id] = error
        elif error is not None:
            self.crashed[id] = error
            reporting.run_crashed(id, error)

    def poke(self, id: str) -> None:
        """Something came into the run's inbox: look, or take the run up if it can be run here."""
        driver = self.drivers.get(id)
        if driver is not None:
            driver.poke()
        elif id not in self.stuck:
            self.take_up_if_known(id)

    def take_up_if_known(self, id: str) -> None:
        """Take a run up in the background, if its workflow is registered here."""
        if self.room() <= 0 or id in self._tasks:
            if id in self._tasks:
                self._poked_later(id)
            return

        async def look() -> None:
            record = await self.store.find(id)
            if record is not None and self.registry.knows(record.workflow, record.version):
                await owning.own(self, id)

        self._begin_task(id, look())

    def _poked_later(self, id: str) -> None:
        """The run's task is between two drivers: look again when it has ended."""

        def again(_: asyncio.Task[None]) -> None:
            if not self.closing:
                self.take_up_if_known(id)

        self._tasks[id].add_done_callback(again)

    def room(self) -> float:
        """How many more runs may be driven here."""
        if self.closing or self.draining:
            return 0
        return float("inf") if self.concurrency is None else self.concurrency - len(self._tasks)

    def active(self) -> list[str]:
        """Ids of runs that are being driven or taken up."""
        return list(self._tasks)

    def is_active(self, id: str) -> bool:
        """Whether the run is being driven or taken up."""
        return id in self._tasks

    async def settle(self, id: str) -> None:
        """Until the run, and what it started here, is finished or suspended, or this runtime is being closed."""
        while not self.closing:
            busy = [task for other, task in self._tasks.items() if self._descends(other, id)]
            if not busy:
                return
            await self.changes.wait_for(busy)

    def _descends(self, id: str, ancestor: str) -> bool:
        seen = 0
        current: str | None = id
        while current is not None and seen < 64:
            if current == ancestor:
                return True
            driver = self.drivers.get(current) or self.asleep.get(current)
            current = driver.record.parent if driver is not None else None
            seen += 1
        return False

    def tell(self, event: lifecycle.LifecycleEvent) -> None:
        """Tell listeners, and whoever waits for a change."""
        self.teller.tell(event)
        self.changed()

    def listen(self, listener: Callable[[lifecycle.LifecycleEvent], Any]) -> Callable[[], None]:
        """Call ``listener`` with every lifecycle event from here on; the answer unsubscribes it."""
        return self.teller.listen(listener)

    def meter_charges(self, id: str, events: Sequence[Event]) -> None:
        """Tell the meter what was charged."""
        self.teller.meter_charges(id, events)

    def saw(self, record: ExecutionRecord) -> None:
        """Remember a run's status for ``Run.status``; the oldest are forgotten."""
        self.statuses.pop(record.id, None)
        self.statuses[record.id] = record.status
        while len(self.statuses) > 10_000:
            self.statuses.pop(next(iter(self.statuses)))

    def changed(self) -> None:
        """Wake whoever waits for a change here, and in other runtimes on this host: the host tells them nothing."""
        self.changes.changed()
        for other in self._siblings if len(self._siblings) > 1 else ():
            if other is not self:
                other._foreign()

    def _foreign(self) -> None:
        """Somebody else committed to the store: there may be requests."""
        self.foreign = True
        for driver in () if self.serving else list(self.drivers.values()):  # serve looks for all of them at once
            driver.poke()
        self.changes.changed()

    foreign = False

    async def wait_for_task(self, id: str, seconds: float | None) -> None:
        """Until the run is not being driven any more, or ``seconds`` have passed."""
        await self.changes.wait_for([self._tasks[id]], seconds)

    async def result(self, id: str, timeout: float | None) -> Any:
        """See ``Run.result``."""
        deadline = None if timeout is None else self.host.now_ms() + timeout * 1000
        while True:
            mark = self.changes.mark()
            record = await asking.look(self, id)
            if record is not None:
                if record.finished:
                    return outcome_of(record, self.raised.get(id))
                await asking.raise_if_stuck(self, id)
            await asking.wait(self, id, deadline, mark, record, for_end=True)


def outcome_of(record: ExecutionRecord, cause: BaseException | None = None) -> Any:
    """The result of a finished run, or its failure raised, from what was raised in this process."""
    if record.status == "completed":
        return record.result
    failure = record.failure or {"type": "StepError", "message": "the run failed"}
    if record.status == "cancelled":
        raise asking.cancelled(record)
    raise revive(failure) from cause
