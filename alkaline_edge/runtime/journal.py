"""The journal of a run that is ours: commits to its history, fenced by its record, and the lease that allows them.

A batch of events is durable before the handler sees it, and what the handler drew stands before the next event. Every
batch checks the record's version, so an owner that was replaced can't write: it meets ``Lost``.
"""

from __future__ import annotations

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef, Plain, pack
from ..errors import InvalidInput
from ..events import Event
from ..history import digest_of, plain_event
from ..host import Conflict
from ..machine.commands import RunStep
from ..runs import ExecutionRecord
from .clock import RunClock
from .lease import Leases
from .loading import Loaded
from .store import Store
from .telling import Teller
from .write import Write, indexes_of

FEW = 200
"""So many drawn values go with an event at most, fewer where a store takes little; others go ahead of it."""
TOGETHER = 256
"""So many events that wake the handler go into one commit at most: what a crash can lose stays small."""
_REFERENCE = 128
"""About how many bytes an event takes whose value stands in blobs."""
LEAST = 128
"""The fewest bytes of a value that is put into blobs, where a commit is too large otherwise."""


class Lost(Exception):
    """A fenced batch met a conflict: somebody else advanced the run, and what is in memory is void."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


class Refused(InvalidInput):
    """The store takes no such batch, now or later: too large, too many keys, or a key that is too long for it."""


class Journal:
    """The record and the present history of one run, as this owner has them, and writes them on."""

    def __init__(self, store: Store, leases: Leases, teller: Teller, record: ExecutionRecord, loaded: Loaded) -> None:
        self.store, self.host, self.codec = store, store.host, store.codec
        self.leases, self.teller = leases, teller
        self.record = record
        """As of the last commit that this owner made; its ``version_tag`` is what fences the next one."""
        self.held_until = record.lease_until
        """When our lease ends, ms since 1970, as it stands in the store."""
        self.loaded = loaded
        """The same machine, cursor and tail, for whoever keeps the run asleep."""
        self._few = max(1, min(FEW, store.limits.max_value // (8 * LEAST)))
        """So many drawn values go with an event here: of LEAST bytes each, which the blobs leave, an eighth of a value
        at most, so that the event has room beside them."""
        # These move only behind a commit that the store has answered for: in front of it, what is in memory would be
        # ahead of what a crash leaves.
        self.machine, self.cursor, self._tail = loaded.machine, loaded.cursor, loaded.tail
        self._record_key = keys.record(record.id)
        self.name = keys.history(record.run, record.generation)
        self.agenda = loaded.machine.attend()
        """What the driver has to do. Asked for behind the replay: what the history has answered is not done anew."""
        self.clock = RunClock(store.host, loaded.machine, self.agenda, record)
        """The time of this run's events: the host's, but never behind what is recorded already. One clock, so that
        timers, retries and commits agree on what time it is."""
        self.stored_attributes = dict(record.attributes)
        """The attributes that stand in the store."""
        self.machine.purse.reaches_warning()  # what was reached before this owner had the run was told then
        self._stored_indexes = indexes_of(record)
        """The index keys that stand in the store: those that the record has no more are deleted with its next write."""

    # --- writing ---------------------------------------------------------------------------------------------------
    def write(self) -> Write:
        """A batch that is fenced by this owner's epoch."""
        return Write({keys.record(self.record.id): self.record.version_tag})

    def put_record(self, write: Write, result: BlobRef | None = None, raw: bytes | None = None) -> None:
        """Add the record as it is now, with its index keys; ``raw`` is a commit that goes with it."""
        record, machine = self.record, self.machine
        record.attributes = dict(machine.attributes)
        record.ahead = self.clock.ahead
        record.spent = machine.purse.spent()
        record.cursor_length, record.head = self.cursor.length, self.cursor.head
        if raw is not None:
            record.cursor_length, record.head = self.cursor.length + 1, digest_of(raw)
        record.clocks[1:] = [self.host.now_ms()]
        record.updated_at = max(record.updated_at, self.host.now_ms())
        self.store.put_record(write, record, self._stored_indexes, result)

    def put_next(self, write: Write, record: ExecutionRecord) -> None:
        """Add the record of what comes after this history: all of it is set already."""
        self.store.put_record(write, record, self._stored_indexes)

    def is_at(self, record: ExecutionRecord) -> bool:
        """Whether ``record``, as it stands in the store, is the one that this owner wrote last."""
        return (record.generation, record.version_tag) == (self.machine.header.generation, self.record.version_tag)

    async def commit(self, write: Write) -> None:
        """Apply a fenced batch, or raise Lost; Refused where the store never takes it."""
        try:
            outcome = await self.store.commit(write)
        except InvalidInput as error:
            raise Refused(str(error), **error.detail) from error
        if isinstance(outcome, Conflict):
            raise Lost(outcome.keys)
        if keys.record(self.record.id) in write.puts:
            self.record.version_tag, self.held_until = outcome.version, self.record.lease_until
            self.teller.saw(self.record)
            self._stored_indexes = indexes_of(self.record)
            self.stored_attributes = self.record.attributes

    async def append(
        self, events: list[Event], write: Write | None = None, record: bool = False, result: BlobRef | None = None
    ) -> list[tuple[int, Event]]:
        """Commit ``events``, behind the values that were drawn, as one history commit; return them as recorded.

        The machine's drawn values are consumed. ``write`` holds what else belongs to the batch; with ``record`` the
        record goes with it, ``result`` standing for a result that is kept in blobs.
        """
        write = write or self.write()
        if len(self.machine.drawn) > self._few:
            await self._append_ahead(write)
        drawn, self.machine.drawn = self.machine.drawn, []
        emitted = self.machine.take_emissions(events)
        batch: list[Event] = [*drawn, *emitted, *events]
        try:
            if self.machine.purse.shared:
                recorded = await self._append_charged(batch, write, record, result)
            else:
                recorded = await self._append(batch, write, record, result)
        except BaseException:  # whatever it was: nobody takes it for recorded
            self.machine.drawn = [*drawn, *self.machine.drawn]
            self.machine.give_back(emitted)
            raise
        self.tell_drawn(recorded)
        if self.teller.followed:
            self.teller.recorded(self.record.id)
        self._warn()
        return recorded[len(drawn) :]

    def room(self) -> int:
        """Bytes of events that go into one commit together; an event that takes more stands alone."""
        limits, machine = self.store.limits, self.machine
        taken = sum(self.size_of(event) for event in [*machine.drawn[-self._few :], *machine.emissions])
        return min(limits.inline_limit, limits.max_value // 2, limits.max_batch_bytes // 4) - taken

    def size_of(self, event: Event) -> int:
        """About how many bytes an event takes in a commit: one with a large value has that in blobs."""
        size = len(pack(plain_event(event, self.codec)))
        return size if size <= self.store.limits.inline_limit else _REFERENCE

    async def _append_ahead(self, write: Write) -> None:
        """Commit what was drawn in commits of its own, but for the last few: a burst is more than a commit can hold."""
        while len(drawn := self.machine.drawn) > self._few:
            rest, self.machine.drawn = drawn[self._few :], drawn[: self._few]
            try:
                await self.append([])
            finally:
                self.machine.drawn += rest
        write.checks[keys.record(self.record.id)] = self.record.version_tag  # it may have been written with them

    async def _append(
        self, batch: list[Event], write: Write, record: bool = False, result: BlobRef | None = None
    ) -> list[tuple[int, Event]]:
        """One history commit of ``batch`` as it is."""
        limits, now = self.store.limits, self.clock.now_ms()
        raw = self.cursor.encode(now, batch, self.codec)
        slim, least = batch, limits.inline_limit
        if len(raw) > least:
            slim, blobs = self.store.spill(batch, self.record.run)
            raw = self.cursor.encode(now, slim, self.codec) if blobs else raw
            # Half of a batch is left to the record, and to what else goes with it.
            while len(raw) > min(limits.max_value, limits.max_batch_bytes // 2) and least > LEAST:
                least = max(LEAST, least // 4)
                slim, blobs = self.store.spill(batch, self.record.run, least)
                raw = self.cursor.encode(now, slim, self.codec)
            # Durable before the commit that refers to them; if that never comes, they are nobody's.
            if blobs and not await self.store.put_blobs(blobs, dict(write.checks)):
                raise Lost(())
        self.put_commit(write, raw)
        if record or self.machine.attributes != self.record.attributes:
            self.put_record(write, result, raw)
        await self.commit(write)
        # Durable from here on. What goes on is what was stored, as on a replay.
        recorded = self.cursor.advance(raw, self.codec)
        self._tail.add(raw)
        return recorded if slim is batch else await self.store.fill(recorded, self.record.run)

    def append_now(self, command: RunStep, value: Plain) -> tuple[int, Event] | None:
        """``append`` that a step has completed, without a wait; None, and nothing done, where more goes with it."""
        machine, cursor, store = self.machine, self.cursor, self.store
        if store.now is None or machine.drawn or machine.emissions or machine.purse.shared:
            return None
        if machine.attributes != self.record.attributes:
            return None
        event = [ev.STEP_COMPLETED, command.id, command.name, command.digest, value.value]
        raw = pack([cursor.head, max(0, self.clock.now_ms() - cursor.time_ms), event])
        if len(raw) > store.limits.inline_limit:
            return None
        key = keys.commit(self.name, cursor.length)
        checks = ((self._record_key, self.record.version_tag), (key, None))
        if store.commit_now(checks, key, raw) is None:
            return None
        recorded = cursor.advance(raw, self.codec)
        self._tail.add(raw)
        if self.teller.followed:
            self.teller.recorded(self.record.id)
        return recorded[0]

    def put_commit(self, write: Write, raw: bytes) -> None:
        """Add the next commit of this history: its place must be free, and it proves that the batch was applied."""
        key = keys.commit(self.name, self.cursor.length)
        write.checks[key] = None
        write.puts[key] = raw
        write.proof = key

    async def _append_charged(
        self, batch: list[Event], write: Write, record: bool, result: BlobRef | None
    ) -> list[tuple[int, Event]]:
        """The same with the batch's charges, if there are any, added to every account that the run shares."""
        from . import accounts  # only budgets that are shared need it, and an import costs a browser's start

        if not accounts.charges(batch):
            return await self._append(batch, write, record, result)
        purse = self.machine.purse
        names = accounts.keys_of(purse)
        for _ in range(accounts.TRIES):
            events, charged = await accounts.charge(self.store, purse, batch, write)
            try:
                recorded = await self._append(events, charged, record, result)
            except Lost as lost:
                if lost.keys and set(lost.keys) <= set(names):
                    continue  # another run spent in between, and nothing of this was written
                raise
            totals = accounts.last_totals(events)
            if totals is not None:
                self.machine.next_totals(totals)
            return recorded
        raise Lost(tuple(names))

    def tell_drawn(self, recorded: list[tuple[int, Event]]) -> None:
        """Tell listeners what was emitted, and the meter what was charged."""
        if len(recorded) == 1 and recorded[0][1][0] == ev.STEP_COMPLETED:
            return  # most commits
        self.teller.meter_charges(self.record.id, [event for _, event in recorded])
        for time_ms, event in recorded:
            if event[0] == ev.EMITTED:
                self.teller.tell(lifecycle.Emission(self.record.id, time_ms, event[1], event[2]))  # type: ignore[arg-type, misc]  # Emitted's items

    def _warn(self) -> None:
        """Tell listeners once that the share of the budget is used from which on they want to know."""
        purse = self.machine.purse
        if purse.policy is not None and (reached := purse.reaches_warning()) is not None:
            self.teller.tell(lifecycle.BudgetWarned(self.record.id, self.clock.now_ms(), *reached))

    # --- going on --------------------------------------------------------------------------------------------------
    async def feed(self, events: list[tuple[int, Event]]) -> None:
        """Hand committed events to the machine, and seal the history when a segment's worth has come together."""
        self.machine.feed_live(events)
        self._warn()
        await self.seal_if_due()

    async def seal_if_due(self) -> None:
        """Seal the history when a segment's worth has come together."""
        if self._tail.due(self.store.limits):
            await self._seal()

    async def happened(self, events: list[Event], write: Write | None = None) -> None:
        """Commit ``events`` and feed them."""
        await self.feed(await self.append(events, write))

    async def _seal(self) -> None:
        """Put the first of the unsealed commits into one segment; their own keys go in the same batch."""
        write = self.write()
        sealed = self._tail.seal(write, self.name, self.cursor.length, self.store.limits)
        if write.puts:
            self.put_record(write)  # whoever read the history before this, and is about to take the run, reads it again
            await self.commit(write)
        self._tail.drop(sealed)

    # --- the lease -------------------------------------------------------------------------------------------------
    def renew_at(self, now: int) -> int:
        """When our lease wants renewing, as it looks at ``now``: both ms since 1970 by the host's clock."""
        return self.leases.renew_at(self.record, now)

    async def renew(self) -> None:
        """Move the end of our lease to a whole one from now."""
        self.leases.renew(self.record)
        write = self.write()
        self.put_record(write)
        await self.commit(write)

    async def hold(self, full: bool = False) -> int:
        """Be sure of the lease before an effect: where an answer of the store was late, another may have the run.

        ``full``: be sure of all of it, before what may keep this process from renewing it. Returns the time.
        """
        now = self.host.now_ms()
        if now >= self.renew_at(now) or (full and not self.leases.is_fresh(self.record)):
            await self.renew()
            while (now := self.host.now_ms()) >= self.record.lease_until:
                await self.renew()
        return now
