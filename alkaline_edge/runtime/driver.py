"""The driver of one run: commits what happened, feeds the machine, starts what it asks for, until it ends or waits.

One driver runs per owned run. Everything that it writes is checked against the record's version, so an owner that was
replaced can't write. A batch of events is durable before the handler sees it, and the values that the handler drew
are durable before the next effect starts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef
from ..commands import CancelChild, ReplyToUpdate, RunStep, StartChild, StartTimer
from ..errors import AlkalineError, StepOutcomeUnknown
from ..events import Event
from ..execution import Execution
from ..failures import describe
from ..history import Cursor, digest_of
from ..host import Conflict
from ..retry import ONCE, Retry
from ..runs import ExecutionRecord
from . import accounts, children, effects, endings
from .clock import RunClock
from .inbox import Inbox
from .segments import Tail
from .store import Write, indexes_of

if TYPE_CHECKING:
    from .runtime import Runtime

IN_PLACE_MS = 60_000
"""A retry due within this many ms is waited for in place; a later one suspends the run."""


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
        self.flying: dict[str, asyncio.Future[Any]] = {}
        self.done: deque[effects.Attempt] = deque()
        self.paused = record.status == "paused"
        self.inbox = Inbox(self)
        self.poked = True
        self.failed: AlkalineError | None = None
        self.clock = RunClock(runtime.host, machine, record.ahead)
        self._stored_indexes = indexes_of(record)
        self._waker: asyncio.Future[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = 0

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
                self._stop_withdrawn()
                if await self._obey():
                    continue
                self._reap()
                if self.done:
                    await self._record_attempts()
                    continue
                if await self.inbox.advance():
                    continue
                if not self.flying and not self._retry_soon():
                    if await endings.suspend(self):
                        return
                    continue
                await self._wait()
        finally:
            await self._halt()

    def poke(self) -> None:
        """Something may have come into the inbox: look."""
        self.poked = True
        self._wake()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _wait(self) -> None:
        """Until an attempt ends, the inbox is poked, a deadline passes, or the lease wants renewing."""
        now = self.host.now_ms()
        times = [self.clock.due_at(timer) for timer in self.machine.timers()]
        retries = [c.not_before_ms for c in self._steps() if c.id not in self.flying and not self._holding()]
        times += [self.clock.on_host(at) for at in retries]
        times.append(self._renew_at())
        self._waker = asyncio.get_running_loop().create_future()
        if self.done or self.poked or any(task.done() for task in self.flying.values()):  # it woke nobody yet
            return
        self._set_alarm(min(times), now)
        await self._waker
        if self.host.now_ms() >= self._renew_at():
            await self._renew()

    def _set_alarm(self, at_ms: int, now: int) -> None:
        """Wake up at ``at_ms`` or a little before: an alarm that rings earlier is kept, since a new one costs more."""
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_at = at_ms
        self._alarm = asyncio.ensure_future(self.host.sleep(max(0.0, (at_ms - now) / 1000)))
        self._alarm.add_done_callback(lambda alarm: self._wake() if alarm is self._alarm else None)

    def _renew_at(self) -> int:
        return self.record.lease_until - self.runtime.lease_ms * 2 // 3

    async def _hold(self) -> None:
        """Be sure of the lease before an effect: where an answer of the store was late, another may have the run."""
        if self.host.now_ms() >= self._renew_at():
            await self._renew()
            while self.host.now_ms() >= self.record.lease_until:
                await self._renew()

    async def _renew(self) -> None:
        self.record.lease_until = self.host.now_ms() + self.runtime.lease_ms
        write = self.write()
        self.put_record(write)
        await self.commit(write)

    async def _halt(self) -> None:
        """Stop what is in flight; nothing of it is recorded."""
        tasks = list(self.flying.values())
        self.flying.clear()
        if self._alarm is not None:
            tasks.append(self._alarm)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

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
        batch: list[Event] = [*drawn, *events]
        try:
            if self.machine.purse.shared and accounts.charges(batch):
                recorded = await accounts.append_charged(self, batch, write, record)
            else:
                recorded = await self.append_batch(batch, write, record, result)
        except Lost:
            self.machine.drawn = [*drawn, *self.machine.drawn]
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

    def _steps(self) -> list[RunStep]:
        return [c for c in self.machine.commands.values() if isinstance(c, RunStep)]

    def _retry_soon(self) -> bool:
        """Whether a retry is due so soon that it is waited for in place."""
        if self._holding():
            return False
        retries = [c.not_before_ms for c in self._steps() if c.not_before_ms]
        return bool(retries) and min(retries) <= self.clock.now_ms() + IN_PLACE_MS

    def _stop_withdrawn(self) -> None:
        for id in list(self.flying):
            if id in self.machine.withdrawn:
                self.flying.pop(id).cancel()

    async def _obey(self) -> bool:
        """Start what the machine asks for; True when something was fed and there may be new commands."""
        if self._holding():
            return False
        ready: list[RunStep] = []
        for command in list(self.machine.commands.values()):
            match command:
                case RunStep():
                    if command.id in self.flying or self._finished(command):
                        continue
                    if not command.not_before_ms or command.not_before_ms <= self.clock.now_ms():
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
        if not ready:
            return False
        return await self._start(ready)

    def _finished(self, command: RunStep) -> bool:
        return any(one.command is command for one in self.done)

    async def _start(self, ready: list[RunStep]) -> bool:
        """Start attempts. What was drawn, and the intents of at-most-once steps, are durable before."""
        lost = [c for c in ready if c.at_most_once and c.id in self.machine.intents and not c.intended]
        if lost:
            await self.happened([self._lost(lost[0])])
            return True
        intents: list[Event] = []
        for command in ready:
            if command.at_most_once and not command.intended:
                intents.append(ev.StepIntended(ev.STEP_INTENDED, command.id, command.name, command.digest))
                command.intended = True
        if intents or self.machine.drawn:
            await self.append(intents)
        await self._hold()
        for command in ready:
            if effects.needs_watching(command, self.host):
                self._fly(command, asyncio.ensure_future(effects.attempt(self.machine, command, self.host)))
            else:
                self._call(command)
        return False

    def _lost(self, command: RunStep) -> ev.StepFailed:
        error = StepOutcomeUnknown(
            f"step {command.name!r} is at_most_once: it was started, and the process died before its outcome was "
            "recorded; it is not run again. Look the effect up by its idempotency key, then decide",
            step=command.name,
            idempotency_key=self.machine.info.idempotency_key(command.id),
        )
        return ev.StepFailed(ev.STEP_FAILED, command.id, command.name, command.digest, describe(error, self.codec))

    def _call(self, command: RunStep) -> None:
        try:
            raw = effects.call(self.machine, command)
        except Exception as error:
            self.done.append(effects.Attempt(command, error=error))
        else:
            if inspect.isawaitable(raw):
                self._fly(command, asyncio.ensure_future(raw))
            else:
                self.done.append(effects.measure(command, raw, self.codec))

    def _fly(self, command: RunStep, task: asyncio.Future[Any]) -> None:
        self.flying[command.id] = task
        task.add_done_callback(self._landed(command))

    def _landed(self, command: RunStep) -> Callable[[asyncio.Future[Any]], None]:
        def landed(task: asyncio.Future[Any]) -> None:
            if self.flying.get(command.id) is task:
                self._wake()
            elif not task.cancelled():
                task.exception()  # retrieved: the step was withdrawn

        return landed

    def _reap(self) -> None:
        """Collect attempts that have ended, in the order in which they were started."""
        for id, task in list(self.flying.items()):
            if not task.done():
                continue
            del self.flying[id]
            command = self.machine.commands.get(id)
            if not isinstance(command, RunStep):
                continue
            if task.cancelled():
                error: BaseException | None = RuntimeError("the step was cancelled from outside of the workflow")
            else:
                error = task.exception()
            if error is None:
                self.done.append(effects.measure(command, task.result(), self.codec))
            elif isinstance(error, Exception):
                self.done.append(effects.Attempt(command, error=error))
            else:
                raise error

    async def _record_attempts(self) -> None:
        """Record the attempt that ended first, and let the handler go on.

        One event that wakes the handler per commit: what the handler draws between two of them stands between them,
        so a replay finds each value at its place.
        """
        one = self.done.popleft()
        if one.command.id not in self.machine.commands:
            return
        told: list[lifecycle.LifecycleEvent] = []
        recorded = await self.append(self._events_of(one, self.clock.now_ms(), told))
        for each in told:
            self.runtime.tell(each)
        await self.feed(recorded)

    def _events_of(self, one: effects.Attempt, now: int, told: list[lifecycle.LifecycleEvent]) -> list[Event]:
        command, id = one.command, self.record.id
        call = (command.id, command.name, command.digest)
        if one.error is None:
            told.append(lifecycle.StepFinished(id, now, command.name, command.id, True, command.attempt))
            completed = ev.StepCompleted(ev.STEP_COMPLETED, *call, one.value)
            if command.cost is None:
                return [completed]
            return [ev.StepCharged(ev.STEP_CHARGED, command.id, one.tokens, one.micros, None), completed]
        failure = describe(one.error, self.codec)
        policy = self.policy(command)
        if effects.wants_another(policy, one.error, command.attempt):
            retry_at = now + round(policy.delay(command.attempt) * 1000)
            told.append(
                lifecycle.StepRetrying(id, now, command.name, command.id, command.attempt, retry_at, failure["message"])
            )
            command.intended = False
            return [ev.AttemptFailed(ev.ATTEMPT_FAILED, *call, command.attempt, failure, retry_at)]
        told.append(lifecycle.StepFinished(id, now, command.name, command.id, False, command.attempt))
        return [ev.StepFailed(ev.STEP_FAILED, *call, failure)]

    def policy(self, command: RunStep) -> Retry:
        """The step's own retry policy, otherwise the workflow's, otherwise the runtime's, otherwise one attempt."""
        return command.retry or self.machine.definition.retry or self.runtime.retry or ONCE

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
