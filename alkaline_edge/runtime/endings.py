"""How a stretch of driving ends: the run is finished, continued as new, suspended or paused, in one commit."""

from __future__ import annotations

from collections.abc import Sequence

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef
from ..errors import InvalidInput
from ..failures import describe
from ..history import digest_of
from ..machine.commands import AwaitSignal, StartTimer
from ..runs import Header
from ..workflows import Registry
from . import creation, lease, requests
from .attempts import Attempts
from .children import Children
from .fleet import Fleet
from .inbox import Inbox
from .journal import Journal, Lost, Refused
from .reporting import Reports

_AT_ONCE = 40
"""Requests that nobody has read and that are deleted with the end; more than that are deleted behind it."""


class Endings:
    """How one run's driving ends."""

    def __init__(
        self,
        journal: Journal,
        inbox: Inbox,
        children: Children,
        attempts: Attempts,
        registry: Registry,
        fleet: Fleet,
        reports: Reports,
    ) -> None:
        self._journal, self._inbox, self._children, self._attempts = journal, inbox, children, attempts
        self._registry, self._fleet, self._reports = registry, fleet, reports
        self._store, self._host, self._codec = journal.store, journal.host, journal.codec
        self._machine, self._clock = journal.machine, journal.clock

    async def finish(self) -> None:
        """Record the outcome, tell the parent, and ask the children that end with the run to end.

        All of that is one commit: no parent hears of an end that a crash undoes, and no child is asked to end by a run
        that goes on; more children than a batch takes are asked just before, since the end is decided. In front of it
        are the replies of updates, each in its own; behind it whoever waits is woken.
        """
        outcome = self._machine.outcome
        await self._inbox.answer_all()
        if isinstance(outcome, ev.ContinuedAsNew):
            # A handler that never waits is told of nothing: so that it can be ended, this generation has not begun, and
            # so that it can be paused, the next one does not before it is resumed.
            cancel, turns = await self._inbox.told() if self._journal.cursor.length == 1 else (None, [])
            if cancel is None:
                await self._continue(outcome, turns)
                return
            self._forget_drawn()  # nor has it spent anything: the record says what the history does
            outcome = ev.Cancelled(ev.CANCELLED, cancel.payload)
        assert outcome is not None  # the driver ends a run once there is one
        await self._end(outcome)

    async def give_up(self, error: Refused) -> None:
        """End the run as failed, since what it did can't be recorded, now or later: otherwise it would be stuck."""
        machine, record = self._machine, self._journal.record
        self._forget_drawn()
        machine.forget_emissions()
        machine.attributes, record.result = dict(self._journal.stored_attributes), None
        record.generation, record.version = machine.header.generation, machine.header.version
        text = f"the run can't be recorded any further, so it ends here: {error}"
        refused = InvalidInput(text, **error.detail, unrecorded=True)
        refused.__cause__ = error
        await self._end(ev.Failed(ev.FAILED, describe(refused, self._codec)), refused)

    def _forget_drawn(self) -> None:
        """Nothing of what the handler drew since the last commit is recorded."""
        for event in self._machine.drawn:
            if isinstance(event, ev.Spent):
                self._machine.purse.charge(-event.tokens, -event.micros)
        self._machine.drawn = []

    async def _end(
        self, outcome: ev.Completed | ev.Failed | ev.Cancelled | None, error: BaseException | None = None
    ) -> None:
        record = self._journal.record
        write = self._journal.write()
        result: BlobRef | None = None
        now = self._host.now_ms()
        match outcome:
            case ev.Completed():
                record.status, record.result = "completed", outcome.value
                result = self._store.reference(outcome.value)
                await self._children.put_outcome(write, "completed", outcome.value)
                told: lifecycle.LifecycleEvent = lifecycle.RunCompleted(record.id, now, outcome.value)
            case ev.Failed():
                record.status, record.failure = "failed", outcome.failure
                result = self._store.reference(outcome.failure)
                self._reports.run_failed(record.id, error or self._machine.error, self._fleet.serving)
                await self._children.put_outcome(write, "failed", outcome.failure)
                told = lifecycle.RunFailed(record.id, now, outcome.failure)
            case ev.Cancelled():
                record.end_cancelled(outcome.reason)
                await self._children.put_outcome(write, "cancelled", record.failure)
                told = lifecycle.RunWasCancelled(record.id, now, outcome.reason)
            case _:
                raise AssertionError("finish is called once there is an outcome")
        lease.free(record)
        record.waiting, record.wake_at = [], None
        asked = await self._children.ask_to_end(write, "its parent has ended")
        inbox = keys.requests(record.id)
        unread = await self._store.keys_under(inbox)
        write.deletes.update(unread[:_AT_ONCE])
        await self._journal.append([outcome], write, record=True, result=result)
        if len(unread) > _AT_ONCE:
            await self._store.purge((inbox,), {keys.record(record.id): record.version_tag})
        self._journal.teller.tell(told)
        for child in asked:
            self._fleet.poke(child)
        if record.parent is not None:
            self._fleet.poke(record.parent)

    async def suspend(self) -> bool:
        """Set the run aside until something wakes it; False if something came in at the last moment.

        The lease goes back in the commit that says what the run waits for: whoever finds it free finds that too.
        """
        machine, record = self._machine, self._journal.record
        if await self._inbox.look():
            return False
        timer_at, attempt_at = self._clock.next_timer_at(), self._attempts.next_at()
        times = [] if timer_at is None else [timer_at]
        times += [] if attempt_at is None else [self._clock.on_host(attempt_at)]
        look_at = self._clock.next_look_at()
        times += [] if look_at is None or not times else [look_at]
        now = self._host.now_ms()
        if self._fleet.stops(record.id) and not all(
            isinstance(c, (StartTimer, AwaitSignal)) for c in machine.commands.values()
        ):
            times.append(now)  # there is more to do than to wait: due at once, for whoever takes the run up
        lease.free(record)
        record.waiting, record.wake_at = machine.waits_in_words(), None
        if self._inbox.paused:
            record.status = "paused"
        else:
            record.status, record.wake_at = "suspended", min(times) if times else None
        write = self._journal.write()
        if machine.drawn:
            await self._journal.append([], write, record=True)
        else:
            self._journal.put_record(write)
            await self._journal.commit(write)
        if self._inbox.paused:
            self._journal.teller.tell(lifecycle.RunPaused(record.id, now))
        else:
            self._journal.teller.tell(lifecycle.RunSuspended(record.id, now, tuple(record.waiting), record.wake_at))
        return True

    async def _continue(self, outcome: ev.ContinuedAsNew, turns: Sequence[ev.Event]) -> None:
        """End this history and begin the next one, in one commit. This one is kept until that one is over too.

        In front of it, each in its own: replies to updates, charges to shared budgets (the next header holds their
        totals), what was drawn beyond what a commit takes, what is forgotten of the generation before the last, and
        large values. A crash between any two leaves this history open, and a replay comes to its end again.
        ``turns``: the pauses and resumes that came meanwhile.
        """
        machine, record, old = self._machine, self._journal.record, self._machine.header
        await self._inbox.refuse_open()
        await self._settle_accounts()
        carry = machine.continuation is not None and machine.continuation[1]
        purse = machine.purse
        header = Header(
            id=old.id,
            run=old.run,
            workflow=old.workflow,
            version=self._registry.newest(old.workflow).version,
            generation=old.generation + 1,
            parent=old.parent,
            chain=old.chain,
            max_depth=old.max_depth,
            accounts=[account.header() for account in purse.accounts],
            shared=purse.shared,
            spent=[purse.tokens, purse.micros],
            totals=[[account.tokens, account.micros] for account in purse.accounts],
            carried=machine.mailbox.carried() if carry else [],
            policy=purse.policy,
        )
        length = self._journal.cursor.length
        if len(machine.drawn) > 1:  # a burst is more than one commit may hold
            await self._journal.append([])
        now = max(self._clock.now_ms(), self._journal.cursor.time_ms)
        write = self._journal.write()
        from . import forgetting  # only who continues as new needs it, and an import costs a browser's start

        if not await forgetting.forget(self._store, old, dict(write.checks), len(machine.mailbox.entries)):
            raise Lost(tuple(write.checks))
        asked = await self._children.ask_to_end(write, "its parent continued as new")
        batch: list[ev.Event] = [*machine.drawn, *turns, outcome]
        slim, blobs = self._store.spill(batch, record.run)
        closing = self._journal.cursor.encode(now, slim, self._codec)
        given = self._registry.given(header.workflow, header.version, outcome.input)
        raw, more = creation.first_commit(self._store, header, given, now)
        if not await self._store.put_blobs({**blobs, **more}, dict(write.checks)):
            raise Lost(tuple(write.checks))
        self._journal.put_commit(write, closing)
        write.deletes |= self._inbox.void()
        record.generation, record.version = header.generation, header.version
        record.cursor_length, record.head = 1, digest_of(raw)
        record.attributes = dict(machine.attributes)
        record.spent, record.updated_at = purse.spent(), now
        record.status = "paused" if self._inbox.paused else "running"
        if self._inbox.paused and length == 1:
            record.waiting = [requests.RESUME]
            lease.free(record)
        self._journal.put_next(write, record)
        write.puts[keys.commit(keys.history(header.run, header.generation), 0)] = raw
        await self._journal.commit(write)
        self._journal.tell_drawn([(now, event) for event in batch])
        self._journal.teller.tell(lifecycle.RunContinuedAsNew(record.id, now, header.generation))
        if turns and self._inbox.paused:
            self._journal.teller.tell(lifecycle.RunPaused(record.id, now))
        for child in asked:
            self._fleet.poke(child)

    async def _settle_accounts(self) -> None:
        """Charges to shared budgets in a commit of their own: the next header begins with the totals behind them."""
        machine = self._machine
        if not machine.purse.shared:
            return
        from . import accounts  # only budgets that are shared need it, and an import costs a browser's start

        if accounts.charges(machine.drawn):
            await self._journal.append([])
            machine.observe_totals()
