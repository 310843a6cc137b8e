"""``Runtime``: the public verbs, and ``Run``, a handle on one run. Everything else in here is wiring.

The work is done by collaborators, each of which is handed what it needs. From below to above: ``store``, ``lease``,
``telling``; ``loading`` and ``fleet``; ``journal``, ``inbox``, ``children``, ``attempts`` and ``endings``, of which a
``driver`` is made; ``owning``, which makes it; ``waking`` and ``asking``. A test of layers holds who imports whom.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from .. import arguments, lifecycle
from ..budget import TOP_UP, Budget
from ..codec import Codec
from ..errors import AlkalineError, ClosedError, ConflictError, InvalidInput
from ..history import Recorded, decode_all
from ..host import Host
from ..limits import MAX_RUN_DEPTH, MAX_SECONDS, check_seconds
from ..names import check_attributes, check_name, check_text
from ..retry import Retry
from ..runs import ExecutionRecord, Status
from ..structs import In, Out, TypedOut
from ..workflows import Registry, Workflow
from . import requests
from .asking import Asker
from .fleet import Fleet
from .lease import Leases, in_memory, require
from .loading import Loader
from .moved import ARRIVING, gone
from .owning import Owner, check_options, check_start
from .reporting import Reports
from .scheduled import Scheduled
from .store import Store
from .telling import Changes, Meter, Teller, end_of
from .waking import Waker

if TYPE_CHECKING:
    from .chores import Chores
    from .following import Followed
    from .learning import Learned, Learning
    from .listing import Page
    from .purging import Purged

CLOSE_SECONDS = 2.0
"""How long ``close`` waits for steps that ignore their cancel, and for async listeners."""
_LAST = (lifecycle.RunCompleted, lifecycle.RunFailed, lifecycle.RunWasCancelled)


class Runtime:
    """Runs workflows on a host; without one in memory, where all ends with the process.

    ``workflows``: what it can run. ``on_event`` is called with each lifecycle event, ``meter.record`` with each charge.
    ``retry`` and ``budget`` are the defaults of steps and root runs. ``max_depth``: how many parents a run may have.
    ``lease``: seconds for which an owner that went silent keeps its runs. ``codec``: of the values. ``poll``: seconds
    between two looks for what others ask, if None 1 where the host may leave us without word of it and 20 elsewhere.
    ``learning``: when attempts of steps start is learned from earlier ones, see ``alkaline_edge.capacity.Learning``.
    Use it as ``async with``, or call ``close``: that hands leases back.

    Every verb is ERR_CLOSED on a closed runtime, and ERR_STORE where the store does not answer or what it holds is
    damaged: what was to be written is then there whole or not at all. Arguments of the wrong kind are
    ERR_INVALID_INPUT, a run that is not in the store is ERR_NOT_FOUND. What else a verb raises is said by its own text.
    """

    def __init__(
        self,
        host: Host | None = None,
        workflows: Iterable[Workflow] = (),
        on_event: Callable[[lifecycle.LifecycleEvent], Any] | None = None,
        meter: Meter | None = None,
        retry: Retry | None = None,
        budget: Budget | None = None,
        max_depth: int = MAX_RUN_DEPTH,
        lease: float | None = None,
        codec: Codec | None = None,
        poll: float | None = None,
        learning: Learning | None = None,
    ) -> None:
        """ERR_INVALID_INPUT: a number out of range, or something of the wrong kind; ERR_STORE: a host that can't do."""
        lease = None if lease is None else check_seconds(lease, "Runtime(lease=)", 0.001)
        poll = poll if poll is None or poll == float("inf") else check_seconds(poll, "Runtime(poll=)", 0.001)
        require(host := in_memory() if host is None else host, lease is not None)
        check_options(on_event, meter, retry, budget, max_depth, codec, learning)
        self.store = store = Store(host, codec or Codec())
        self.registry = registry = Registry(workflows)
        self._changes = changes = Changes(store)
        self._teller = teller = Teller(on_event, meter, changes)
        self._reports = reports = Reports()
        self.leases = leases = Leases(store, lease)
        self.fleet = fleet = Fleet(store, registry, changes)
        self._scheduled = scheduled = Scheduled(store, teller)
        loader = Loader(store, registry)
        self.owner = Owner(
            store, registry, leases, fleet, teller, reports, loader, scheduled, retry, budget, max_depth, learning,
            lambda: self.chores,
        )  # fmt: skip
        fleet.own = self.owner.own  # the one arrow up, and it is handed in: a driver starts what another one drives
        self._waker = Waker(store, registry, leases, fleet, scheduled, poll)
        self.asker = Asker(store, registry, fleet, changes, reports, loader, scheduled, self._waker)
        self._closing: asyncio.Task[None] | None = None
        changes.attend()

    async def __aenter__(self) -> Runtime:
        """Nothing starts by itself: call start, resume, recover, run_due or serve."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As ``close``."""
        await self.close()

    @property
    def host(self) -> Host:
        """The host of now: ``swap_host`` changes it."""
        return self.store.host

    @property
    def codec(self) -> Codec:
        """The codec of every value."""
        return self.store.codec

    @property
    def chores(self) -> Chores:
        """What else is done than to wake runs, when it is due: see ``chores``."""
        if self._waker.chores is None:
            from .chores import Chores  # most programs have none

            self._waker.chores = Chores(self.store, self._changes, self._waker.attend)
        return self._waker.chores

    @property
    def keep_asleep(self) -> int:
        """How many suspended runs stay in memory, ready to go on without a replay: 1,000 unless you set it."""
        return self.fleet.keep_asleep

    @keep_asleep.setter
    def keep_asleep(self, count: int) -> None:
        self.fleet.keep_asleep = count

    @property
    def learned(self) -> list[Learned]:
        """What this runtime has learned of its steps, by name; nothing without ``learning``."""
        return self.owner.gates().learned()

    # --- starting and going on -------------------------------------------------------------------------------------
    @overload
    async def start(
        self,
        workflow: Workflow[In, Out],
        input: In | None = None,
        id: str | None = None,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> Run[Out]: ...
    @overload
    async def start(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: datetime | None = None,
        budget: Budget | None = None,
    ) -> Run: ...
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

        An ``id`` that is in use is ERR_CONFLICT, or with ``on_conflict="join"`` the run that has it, unless that is of
        another workflow or was handed over. ``attributes``: what ``list_executions`` finds it by. ``start_at``, an
        aware datetime: begin then, when run_due or serve gets there, and not before: what is sent to the run is kept
        until then, and a cancel ends it unbegun. ``budget``: in place of the workflow's own and of the runtime's.
        A workflow that is not registered is ERR_NOT_FOUND; an input that can't be stored is ERR_INVALID_INPUT.
        """
        self._open()
        check_start(on_conflict, start_at, budget)
        definition = self.registry.newest(workflow)
        check_attributes({} if attributes is None else attributes)
        chosen, new = await self.owner.start(definition, input, id, attributes, start_at, budget)
        if not new:
            await self.owner.join(chosen, definition, on_conflict)
        return Run(self, chosen)

    async def resume(self, id: str) -> Run:
        """Go on with a run: after a crash, after ``pause``, or after code that was stuck has been mended.

        One that has ended stays as it is. One that another live owner holds, or that was handed over, is ERR_CONFLICT;
        one whose workflow, or that version of it, is not registered here is ERR_NOT_FOUND. Where no workflow is, it is
        recorded for a runtime that has it.
        """
        self._open()
        # A pause that nobody has consumed stands in no record. Looked for before the record is read, it can't slip by.
        pausing = await requests.first(self.store, id, "pause") is not None
        record = await self.store.record(id)
        if not record.finished:
            drives = bool(self.registry.listed())
            if drives:
                self.registry.exact(record.workflow, record.version)
            if record.moved_to is not None:
                raise gone(record, "resume")
            if await self.leases.held_by_other(record):
                until = self.leases.ends_at(record)
                raise ConflictError(f"run {id!r} is held by another owner until {until} ms; it goes on there", id=id)
            if record.status == "paused" or id in self.fleet.drivers or pausing:
                try:
                    await self.asker.request(id, "resume")
                except ConflictError:
                    if not (await self.store.record(id)).finished:
                        raise
                    return Run(self, id)  # it ended meanwhile: there is nothing left to resume
            if drives:
                self.fleet.stuck.pop(id, None)
                self.fleet.take_up(id)
        return Run(self, id)

    async def retry(self, id: str) -> Run:
        """Try a run that has failed again, from the step that it failed of, also with mended code: docs/steps.md.

        What is recorded is kept; children that failed or ended with it go on too. Code that disagrees with the history
        is ERR_DETERMINISM. ERR_CONFLICT: it would fail at once, as one whose budget is spent until it is topped up, has
        not failed, has undone steps, or failed of a step that starts at most once. A parent that has its failure is
        told nothing.
        """
        self._open()
        from .retrying import Retrier

        await Retrier(self.store, self.registry, self.fleet, self.owner.loader, self._teller, self._reports).retry(id)
        return Run(self, id)

    async def recover(self) -> list[Run]:
        """Take up every running run that no live owner has, as after a crash; returns once they are begun."""
        self._open()
        return [Run(self, id) for id in await self._waker.recover()]

    async def run_due(self) -> int | None:
        """Wake what is due, in order, and wait until it has settled.

        Returns when to call again, in ms since 1970, None if no run waits for a timer: put it into an alarm, a
        setTimeout, a cron. Costs what it wakes, not what is stored.
        """
        self._open()
        return await self._waker.run_due()

    async def serve(self, until: asyncio.Event | datetime | None = None, concurrency: int | None = None) -> None:
        """Recover, wake timers and answer requests until ``until``, or until the runtime is closed.

        ``until``: an event, or an aware datetime. ``concurrency``: drive at most so many runs at once here, and leave
        the others to other processes. A suspended run does not count; one that you start or import here goes on
        whatever the number is. What is being driven at ``until`` goes on; ``close`` hands it to other processes. A
        store that stops answering is asked again; one that does not answer the first time is ERR_STORE. Serving twice
        at a time is ERR_INVALID_INPUT.
        """
        self._open()
        from .serving import Rounds  # only a server needs it, and an import costs a browser's start

        rounds = Rounds(self.store, self.registry, self.leases, self.fleet, self._teller, self._scheduled, self._waker)
        await rounds.serve(until, concurrency)

    # --- asking ----------------------------------------------------------------------------------------------------
    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal; it is durable when this returns. The same ``dedupe`` key counts once in the run's life.

        A run that has ended or was handed over is ERR_CONFLICT; a payload that can't be stored is ERR_INVALID_INPUT.
        """
        self._open()
        name = check_name(name, "the name of a signal")
        if name == TOP_UP:
            raise InvalidInput(f"no signal is called {TOP_UP}; call top_up, which sends it")
        if dedupe is not None:
            dedupe = check_name(dedupe, "a dedupe key")
        await self.asker.request(id, "signal", name, payload, dedupe)

    async def top_up(
        self, id: str, tokens: int = 0, usd: float | None = None, seconds: float | timedelta = 0, key: str | None = None
    ) -> None:
        """Raise the limits of a run's budget by ``tokens``, ``usd``, ``seconds``; the same ``key`` counts once.

        A run that waits for that goes on where it stood; one that has failed for it does once it is tried again
        (``retry``). ERR_CONFLICT: it has ended otherwise, or was handed over.
        """
        self._open()
        await self.asker.top_up(id, tokens, usd, seconds, key)

    async def query(self, id: str, name: str, *args: Any) -> Any:
        """What the run's query handler ``name`` returns; also of suspended and finished runs. Changes nothing.

        A run without such a handler, or that has not begun, is ERR_NOT_FOUND. What the handler raises is raised here.
        """
        self._open()
        check_name(id, "a run id")
        name = check_name(name, "the name of a query")
        return await self.asker.query(id, name, args)

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """Send ``payload`` to the run's update ``name`` and wait for the reply, for as long as that takes.

        What the run's validator or handler raises is raised here, by its type's name. ERR_NOT_FOUND: the run has no
        such update. ERR_CONFLICT: it has ended or left, or does so before it answers. ERR_CLOSED: this runtime was
        closed meanwhile; the request stays.
        """
        self._open()
        name = check_name(name, "the name of an update")
        return await self.asker.update(id, name, payload)

    async def pause(self, id: str) -> None:
        """Ask for a pause: what is in flight ends, and nothing new starts until ``resume``.

        The wish is durable when this returns. A run that has ended or was handed over is ERR_CONFLICT.
        """
        self._open()
        await self.asker.request(id, "pause")

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end: its handler sees CancelledError, cleans up, and the run is cancelled.

        ``reason``: what the record then gives for it. The wish is durable when this returns. A run that has ended or
        was handed over is ERR_CONFLICT.
        """
        self._open()
        if reason is not None:
            reason = check_text(reason, "the reason of a cancel")
        await self.asker.request(id, "cancel", "", reason)

    # --- looking ---------------------------------------------------------------------------------------------------
    async def get_execution(self, id: str) -> ExecutionRecord:
        """The run's record as it stands in the store; ERR_NOT_FOUND without one."""
        self._open()
        record = await self.store.record(id)
        self._teller.saw(record)
        return record

    async def list_executions(
        self,
        status: str | None = None,
        workflow: str | None = None,
        attributes: dict[str, Any] | None = None,
        after: str = "",
        limit: int = 50,
    ) -> Page:
        """A page of records, by id; pass ``page.after`` on for the next one, until it is None.

        Those of a ``status``, of a ``workflow`` by its name, with all of these ``attributes``. ``limit``: 1 to 1,000 of
        them. An unknown status, or an ``after`` of other filters, is ERR_INVALID_INPUT.
        """
        self._open()
        from . import listing  # only who lists needs it, and an import costs a browser's start

        return await listing.page(self.store, status, workflow, attributes, after, limit)

    async def history(self, id: str) -> list[Recorded]:
        """Every event of the run's present history, verified by its digests and the record: damage is ERR_STORE."""
        self._open()
        record, raws = await self.store.whole(await self.store.record(id))
        commits = [await self.store.fill(events, record.run) for events in decode_all(raws, self.store.codec)[1]]
        return [Recorded(n, at, event) for n, events in enumerate(commits) for at, event in events]

    def follow(
        self, id: str, after: str = "", live: bool = False, begin: Callable[[], Awaitable[Any]] | None = None
    ) -> AsyncGenerator[Followed | lifecycle.Published, None]:
        """The run's events as they stand in its history, from the first, and each new one once it is recorded.

        Ends behind the run's last event; ``after``, the ``place`` of an event, begins behind that, in any process, so
        that nothing is missed or told twice. A run that continues as new is followed into its present history. With
        ``live`` also ``Published``, what steps show while they run here, which is recorded nowhere. ``begin`` is
        awaited once this hears, so that nothing is missed of what it sets off: a start, a signal. Costs what is new.
        ERR_CONFLICT: it was handed over, or has no such place; ERR_NOT_FOUND: it is not there; ERR_CLOSED: this runtime
        is closed meanwhile; what keeps the run from going on here is raised. End it early by ``aclose``.
        """
        self._open()
        check_name(id, "a run id")
        arguments.expect_call(begin, "follow(begin=)", "a function that returns what is to be awaited")
        from . import following  # only who watches needs it, and an import costs a browser's start

        return following.Follower(self.store, self.asker, self._teller).follow(id, after, live, begin)

    def listen(self, listener: Callable[[lifecycle.LifecycleEvent], Any]) -> Callable[[], None]:
        """Call ``listener`` with every lifecycle event from here on; the answer unsubscribes it."""
        if not callable(listener):
            raise arguments.refused("listen(listener=)", "a function of a lifecycle event", listener)
        return self._teller.listen(listener)

    def status_of(self, id: str) -> Status | None:
        """The run's status as it was last seen here, without a look at the store; None if it was not."""
        return self._teller.status_of(check_name(id, "a run id"))

    def active(self) -> list[str]:
        """Ids of runs that are being driven or taken up here."""
        return self.fleet.active()

    async def settle(self, id: str) -> None:
        """Until the run, and what it started here, is finished or suspended, or this runtime is being closed."""
        await self.fleet.settle(check_name(id, "a run id"))

    async def result(self, id: str, timeout: float | None) -> Any:
        """As ``Run.result``."""
        check_name(id, "a run id")
        if timeout is not None and timeout != float("inf"):
            timeout = check_seconds(timeout, "result(timeout=)", -MAX_SECONDS)
        return await self.asker.result(id, timeout)

    @property
    def stuck(self) -> dict[str, AlkalineError]:
        """By id, what keeps runs from going on here: their code is not as it was, or the store does not answer."""
        return self.fleet.stuck

    @property
    def crashed(self) -> dict[str, BaseException]:
        """By id, what is no error of the kernel's and ended the driving of a run, such as Ctrl-C."""
        return self.fleet.crashed

    # --- moving ----------------------------------------------------------------------------------------------------
    async def export(self, id: str, handoff: bool = False) -> bytes:
        """The whole run as a bundle. With ``handoff`` the run is frozen here: it goes on where it is imported.

        ERR_CONFLICT: it is being deleted or has not arrived; with ``handoff`` also where another owner holds it, it is
        a copy, it went elsewhere, or a parent or child of it goes on here.
        """
        self._open()
        from . import bundling, frozen  # only a move needs them, and an import costs a browser's start

        freezer = frozen.Freezer(self.store, self.leases, self.fleet)
        return await bundling.export(self.store, freezer, id, handoff)

    async def import_(self, bundle: bytes, mode: str = "copy") -> Run:
        """Store a bundle's run here, as ``mode`` says: "copy", paused until it is resumed, or "take_over", to go on.

        Only a bundle that was exported with ``handoff``, or of a run that has ended, is taken over; the same one again
        changes nothing, also after the run was deleted. A damaged, foreign or newer bundle is ERR_INVALID_INPUT or
        ERR_STORE with nothing written; an id in use is ERR_CONFLICT. Cut off, it may be repeated.
        """
        self._open()
        from . import bundling  # only a move needs it, and an import costs a browser's start

        return Run(self, await bundling.import_(self.store, bundle, mode))

    async def fork(self, id: str, at: int, edit: dict[str, Any] | None = None) -> Run:
        """A new run with the first ``at`` commits of this one's history, paused.

        ``edit`` maps command ids to other step results, and "input" to another input. An ``at`` beyond the history, or
        an id that is not in that part of it, is ERR_INVALID_INPUT.
        """
        self._open()
        from . import forking  # only a fork needs it, and an import costs a browser's start

        return Run(self, await forking.fork(self.store, id, at, {} if edit is None else edit))

    async def delete(self, id: str) -> None:
        """Delete a run and all that belongs to it; interrupted, call it again. Of late starts: docs/retention.md.

        ERR_CONFLICT: it has not ended (cancel it first), its parent has yet to read its result, or its hand-over is
        not confirmed. One whose cancel nobody has taken up for a minute, because its code is gone, may be deleted.
        """
        self._open()
        from . import moving  # only this needs it, and an import costs a browser's start

        await moving.delete(self.store, self.fleet, id)
        self._reports.forget(id)

    async def purge(
        self,
        older_than: float | timedelta,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        after: str = "",
        limit: int = 500,
        archive: Host | None = None,
    ) -> Purged:
        """Delete runs that ended ``older_than`` seconds ago or earlier, of a ``status`` and a ``workflow``, if given.

        A call looks at ``limit`` runs at most: pass ``after`` on until it is None. ``archive``: an open host that such
        a run is stored in first. ``dry_run``: say what would go, and delete nothing. Interrupted, call it again.
        """
        self._open()
        from . import purging  # only who purges needs it, and an import costs a browser's start

        purger = purging.Purger(self.store, self.leases, self.fleet, archive)
        purged = await purger.page(status, workflow, older_than, dry_run, after, limit)
        for id in purged.runs:
            self._reports.forget(id)
        return purged

    async def swap_host(self, host: Host) -> None:
        """Go on upon another host: everything is copied there, and this runtime uses it from then on.

        ``host`` must be empty, or hold the same copy: ERR_CONFLICT. Runs in flight are set aside first and taken up
        again there; what is started or sent meanwhile waits, and is written there. No other process may be writing.
        """
        self._open()
        from . import migrating  # only a move needs it, and an import costs a browser's start

        require(host)
        await self.owner.stop_all(CLOSE_SECONDS)
        release = await self.store.hold()  # else what serve, a waiter or a start writes behind the copy stays there
        try:
            await migrating.migrate(self.host, host, self.store)
            self.leases.begin_anew()  # on the new host it is a new owner
            self.store.use(host)
        finally:
            release()
        self._changes.attend()
        await self.recover()

    # --- ending ----------------------------------------------------------------------------------------------------
    def drain(self) -> None:
        """Start nothing more: what is in flight ends and is recorded, and its run is suspended, due at once.

        For an invocation that comes near a limit of its platform; the next one's ``run_due`` goes on. Signals and
        the like are still taken. Then await what you wait for, and ``close``.
        """
        self.fleet.drain()

    async def close(self) -> None:
        """Stop: steps in flight are dropped unrecorded, leases handed back, suspended runs set aside.

        Whoever waits for something here is told at once: ERR_CLOSED. A second call waits for the first.
        """
        if self._closing is None:
            self.fleet.closing = True
            self._changes.end()
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)  # a caller that is cancelled does not leave it half done

    async def _close(self) -> None:
        # Behind the hand-backs: until then the platform says that this owner lives. It does for as long as what goes on
        # here is none other's to begin: that lease runs out.
        if await self.owner.stop_all(CLOSE_SECONDS):
            self.leases.end()
        self._changes.changed()  # other runtimes on this host may take up at once what was handed back
        self._changes.look_away()
        speaking = self._teller.silence()
        if speaking is not None:
            await asyncio.wait([speaking], timeout=CLOSE_SECONDS)

    def _open(self) -> None:
        if self.fleet.closing:
            raise ClosedError("this runtime is closed; make another one")


class Run(TypedOut[Out]):
    """A run by its id. It holds no state of its own: every call asks the runtime."""

    def __init__(self, runtime: Runtime, id: str) -> None:
        self._runtime = runtime
        self.id = id

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def status(self) -> Status | None:
        """The status as this runtime last saw it; None if it has not. ``get_execution`` asks the store."""
        return self._runtime.status_of(self.id)

    async def settle(self) -> None:
        """Until the run is finished or suspended: what a Worker awaits before it answers.

        One that another process drives is waited for as well, and taken over when its owner is gone. ERR_NOT_FOUND: it
        was deleted; what keeps it from going on here is raised. ERR_CLOSED when this runtime is closed meanwhile.
        """
        await self._runtime.asker.settle(self.id)

    async def result(self, timeout: float | None = None) -> Out:
        """The result, once there is one; what the run failed with is raised.

        While this waits, timers that come due are woken, and the run is taken over when its owner is gone. After
        ``timeout`` seconds: TimeoutError, and the run goes on. A cancelled run is RunCancelled. What keeps the run, or
        a child that it waits for, from going on here is raised: ERR_CONFLICT once it was handed over. ERR_CLOSED when
        this runtime is closed meanwhile.
        """
        found: Out = await self._runtime.result(self.id, timeout)
        return found

    async def signal(self, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """As ``Runtime.signal``."""
        await self._runtime.signal(self.id, name, payload, dedupe)

    async def update(self, name: str, payload: Any = None) -> Any:
        """As ``Runtime.update``."""
        return await self._runtime.update(self.id, name, payload)

    async def query(self, name: str, *args: Any) -> Any:
        """As ``Runtime.query``."""
        return await self._runtime.query(self.id, name, *args)

    async def pause(self) -> None:
        """As ``Runtime.pause``."""
        await self._runtime.pause(self.id)

    async def resume(self) -> Run:
        """As ``Runtime.resume``."""
        return await self._runtime.resume(self.id)

    async def retry(self) -> Run:
        """As ``Runtime.retry``."""
        return await self._runtime.retry(self.id)

    async def cancel(self, reason: str | None = None) -> None:
        """As ``Runtime.cancel``."""
        await self._runtime.cancel(self.id, reason)

    async def events(self) -> AsyncIterator[lifecycle.LifecycleEvent]:
        """Lifecycle events of the run, in this runtime, from now until it ends.

        Where it ends in another process, that end is the last one all the same. ERR_CONFLICT once it was handed over,
        ERR_NOT_FOUND for a run that is not there, ERR_CLOSED when this runtime is closed meanwhile, and what keeps the
        run from going on here is raised.
        """
        runtime, asker, id = self._runtime, self._runtime.asker, self.id
        heard: deque[lifecycle.LifecycleEvent] = deque()
        unsubscribe = runtime.listen(lambda event: heard.append(event) if event.id == id else None)
        try:
            if (await runtime.get_execution(id)).finished and not heard:
                return
            while True:
                while heard:
                    event = heard.popleft()
                    yield event
                    if isinstance(event, _LAST):
                        return
                mark = asker.mark()  # before looking: what is told meanwhile is not waited for
                record = await asker.look(id)
                if record is not None and not heard:
                    if record.finished:
                        yield end_of(record)
                        return
                    if record.moved_to not in (None, ARRIVING):
                        raise gone(record, "wait for")
                    await asker.raise_if_stuck(id)
                if not heard:
                    await asker.wait(id, None, mark, record)
        finally:
            unsubscribe()
