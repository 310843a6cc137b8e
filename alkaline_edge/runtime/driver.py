"""The driver of one run: commits what happened, feeds the machine, starts what it asks for, until it ends or waits.

One driver runs per owned run. Everything that it writes is checked against the record's version, so an owner that was
replaced can't write. A batch of events is durable before the handler sees it, and the values that the handler drew
are durable before the next effect starts.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef
from ..errors import AlkalineError
from ..events import Event
from ..history import Cursor, digest_of
from ..host import Conflict
from ..machine.commands import CancelChild, ReplyToUpdate, RunStep, StartChild, StartTimer
from ..machine.execution import Execution
from ..runs import ExecutionRecord
from . import accounts, children, effects, endings
from .attempts import Attempts
from .clock import RunClock
from .inbox import Inbox
from .segments import Tail
from .store import Write, indexes_of

if TYPE_CHECKING:
    from .runtime import Runtime

BREATH_ROUNDS = 32
BREATH_MS = 5
"""After so many rounds, or ms, without a wait the driver gives the loop a turn and looks at timers and requests."""


class Lost(Exception):
    """A fenced batch met a conflict: somebody else advanced the run, and what is in memory is void."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


class Driver:
    """Advances one run that this runtime owns."""

    def __init__(self, runtime: Runtime, record: ExecutionRecord, machine: Execution, cursor: Cursor) -> None:
        self.runtime, self.record, self.machine, self.cursor = runtime, record, machine, cursor
        self.store, self.host, self.codec = runtime.store, runtime.host, runtime.codec
        self.name = keys.history(record.run, record.generation)
        self.unsealed = Tail()
        self.attempts = Attempts(self)
        self.paused = record.status == "paused"
        self.inbox = Inbox(self)
        self.poked = True
        self.failed: AlkalineError | None = None
        self.clock = RunClock(runtime.host, machine, record.ahead)
        self._stored_indexes = indexes_of(record)
        self._waker: asyncio.Future[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = 0
        self._unbroken, self._breathed, self._now = 0, self.host.now_ms(), 0

    # --- the loop --------------------------------------------------------------------------------------------------
    async def drive(self) -> None:
        """Advance until the run ends, is set aside or paused. Raises Lost when another owner has it."""
        if self.failed is not None:
            raise self.failed
        try:
            while True:
                self._report()
                if self.machine.outcome is not None:
                    await endings.finish(self)
                    return
                self.attempts.stop_withdrawn()
                if self._unbroken_for_long() and await self._breathe():
                    continue
                if await self._obey():
                    continue
                self.attempts.reap()
                if self.attempts.done:
                    await self.attempts.record()
                    continue
                if await self.inbox.advance():
                    continue
                if not self.attempts.flying and (self._holding() or not self.attempts.retry_soon()):
                    if await endings.suspend(self):
                        return
                    continue
                await self._wait()
        finally:
            await self._halt()

    def _unbroken_for_long(self) -> bool:
        self._unbroken += 1
        self._now = now = self.host.now_ms()
        return self._unbroken >= BREATH_ROUNDS or now - self._breathed >= BREATH_MS

    async def _breathe(self) -> bool:
        """Now and then, in a run that never waits: give the others on the loop a turn, and hear what came meanwhile.

        Steps that end at once would otherwise go before every timer and request, and before all else on the loop.
        """
        self._unbroken, self._breathed = 0, self._now
        await asyncio.sleep(0)
        self.attempts.stop_withdrawn()
        return await self.inbox.advance()

    def poke(self) -> None:
        """Something may have come into the inbox: look."""
        self.poked = True
        self.wake()

    def wake(self) -> None:
        """Something has ended or arrived: go on."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _wait(self) -> None:
        """Until an attempt ends, the inbox is poked, a deadline passes, or the lease wants renewing."""
        now = self.host.now_ms()
        # A paused run fires no timer: an alarm for one that is due would ring at once, again and again.
        times = [] if self.paused else [self.clock.due_at(timer) for timer in self.machine.timers()]
        times += [] if self._holding() else [self.clock.on_host(at) for at in self.attempts.alarms()]
        times.append(self._renew_at())
        self._waker = asyncio.get_running_loop().create_future()
        if self.poked or self.attempts.ended():  # it woke nobody yet
            return
        self._set_alarm(min(times), now)
        await self._waker
        self._unbroken, self._breathed = 0, self.host.now_ms()
        if self._breathed >= self._renew_at():
            await self._renew()

    def _set_alarm(self, at_ms: int, now: int) -> None:
        """Wake up at ``at_ms`` or a little before: an alarm that rings earlier is kept, since a new one costs more."""
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_at = at_ms
        self._alarm = asyncio.ensure_future(self.host.sleep(max(0.0, (at_ms - now) / 1000)))
        self._alarm.add_done_callback(self._rang)

    def _rang(self, alarm: asyncio.Future[None]) -> None:
        if not alarm.cancelled():
            alarm.exception()  # retrieved: a host that is gone shows itself at the next call
        if alarm is self._alarm:
            self.wake()

    def _renew_at(self) -> int:
        return self.record.lease_until - self.runtime.lease_ms * 2 // 3

    async def hold(self, full: bool = False) -> int:
        """Be sure of the lease before an effect: where an answer of the store was late, another may have the run.

        ``full``: be sure of all of it, before what may keep this process from renewing it. Returns the time.
        """
        now = self.host.now_ms()
        spent = now + self.runtime.lease_ms - self.record.lease_until
        if now >= self._renew_at() or (full and spent > self.runtime.lease_ms // 10):
            await self._renew()
            while (now := self.host.now_ms()) >= self.record.lease_until:
                await self._renew()
        return now

    async def _renew(self) -> None:
        self.record.lease_until = self.host.now_ms() + self.runtime.lease_ms
        write = self.write()
        self.put_record(write)
        await self.commit(write)

    async def _halt(self) -> None:
        """Stop what is in flight; nothing of it is recorded."""
        if self._alarm is not None:
            await effects.stop([self._alarm])
        await self.attempts.halt()

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
        record.updated_at = max(record.updated_at, self.host.now_ms())
        self.store.put_record(write, record, self._stored_indexes, result)

    async def commit(self, write: Write) -> None:
        """Apply a fenced batch, or raise Lost."""
        outcome = await self.store.commit(write)
        if isinstance(outcome, Conflict):
            raise Lost(outcome.keys)
        if keys.record(self.record.id) in write.puts:
            self.record.version_tag = outcome.version
            self.runtime.saw(self.record)
            self._stored_indexes = indexes_of(self.record)

    async def append(
        self, events: list[Event], write: Write | None = None, record: bool = False, result: BlobRef | None = None
    ) -> list[tuple[int, Event]]:
        """Commit ``events``, behind the values that were drawn, as one history commit; return them as recorded.

        The machine's drawn values are consumed. ``write`` holds what else belongs to the batch; with ``record`` the
        record goes with it, ``result`` standing for a result that is kept in blobs.
        """
        write = write or self.write()
        drawn, self.machine.drawn = self.machine.drawn, []
        emitted = self.machine.take_emissions(events)
        batch: list[Event] = [*drawn, *emitted, *events]
        try:
            if self.machine.purse.shared and accounts.charges(batch):
                recorded = await accounts.append_charged(self, batch, write, record, result)
            else:
                recorded = await self.append_batch(batch, write, record, result)
        except Lost:
            self.machine.drawn = [*drawn, *self.machine.drawn]
            self.machine.emissions[:0] = emitted
            raise
        self.tell_drawn(recorded)
        return recorded[len(drawn) :]

    async def append_batch(
        self, batch: list[Event], write: Write, record: bool = False, result: BlobRef | None = None
    ) -> list[tuple[int, Event]]:
        """One history commit of ``batch`` as it is."""
        now = self.clock.now_ms()
        raw = self.cursor.encode(now, batch, self.codec)
        slim = batch
        if len(raw) > self.store.limits.inline_limit:
            slim, blobs = self.store.spill(batch, self.record.run)
            if blobs:
                raw = self.cursor.encode(now, slim, self.codec)
                if not await self.store.put_blobs(blobs, dict(write.checks)):
                    raise Lost(())
        key = keys.commit(self.name, self.cursor.length)
        write.checks[key] = None
        write.puts = {key: raw, **write.puts}
        if record or self.machine.attributes != self.record.attributes:
            self.put_record(write, result, raw)
        await self.commit(write)
        recorded = self.cursor.advance(raw, self.codec)
        self.unsealed.add(raw)
        return recorded if slim is batch else await self.store.fill(recorded, self.record.run)

    def tell_drawn(self, recorded: list[tuple[int, Event]]) -> None:
        """Tell listeners what was emitted, and the meter what was charged."""
        self.runtime.meter_charges(self.record.id, [event for _, event in recorded])
        for time_ms, event in recorded:
            if event[0] == ev.EMITTED:
                self.runtime.tell(lifecycle.Emission(self.record.id, time_ms, event[1], event[2]))  # type: ignore[arg-type, misc]  # Emitted's items

    async def feed(self, events: list[tuple[int, Event]]) -> None:
        """Hand committed events to the machine, and seal the history when a segment's worth has come together."""
        self.machine.feed_live(events)
        if self.unsealed.due(self.store.limits):
            await self._seal()

    async def happened(self, events: list[Event], write: Write | None = None) -> None:
        """Commit ``events`` and feed them."""
        await self.feed(await self.append(events, write))

    async def _seal(self) -> None:
        """Put the first of the unsealed commits into one segment; their own keys go in the same batch."""
        write = self.write()
        sealed = self.unsealed.seal(write, self.name, self.cursor.length, self.store.limits)
        if write.puts:
            self.put_record(write)  # whoever read the history before this, and is about to take the run, reads it again
            await self.commit(write)
        self.unsealed.drop(sealed)

    # --- commands --------------------------------------------------------------------------------------------------
    def _holding(self) -> bool:
        """Whether nothing new is started."""
        return self.paused or self.runtime.draining

    async def _obey(self) -> bool:
        """Start what the machine asks for; True when something was fed and there may be new commands."""
        if self._holding():
            return False
        ready: list[RunStep] = []
        for command in list(self.machine.commands.values()):
            match command:
                case RunStep():
                    if self.attempts.startable(command):
                        ready.append(command)
                case StartChild() if not command.started:
                    await children.start(self, command)
                    return True
                case CancelChild():
                    await children.cancel(self, command)
                    return True
                case ReplyToUpdate():
                    await self.inbox.reply(command)
                    return True
        return bool(ready) and await self.attempts.start(ready)

    def due_timer(self) -> StartTimer | None:
        """The timer that is due first, if one is. Recorded time never lags behind a deadline it fired."""
        machine, clock = self.machine, self.clock
        if self.paused or machine.soonest_ms > clock.now_ms():
            return None
        first = min(machine.timers(), key=clock.due_at, default=None)
        return first if first is not None and clock.due_at(first) <= self.host.now_ms() else None

    def _report(self) -> None:
        machine = self.machine
        if machine.logs or machine.loop.unhandled:
            now = self.host.now_ms()
            logs, machine.logs = machine.logs, []
            for level, message, fields in logs:
                self.runtime.tell(lifecycle.LogLine(self.record.id, now, level, message, fields))
            unhandled, machine.loop.unhandled = machine.loop.unhandled, []
            for error in unhandled:
                text = f"an error in a background task of the handler was never retrieved: {type(error).__name__}"
                self.runtime.tell(lifecycle.LogLine(self.record.id, now, "error", text, {"message": str(error)}))
        stalled = machine.stalled()
        if stalled is not None:
            raise stalled
