"""How a stretch of driving ends: the run is finished, continued as new, suspended or paused, in one commit."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef
from ..history import digest_of
from ..machine.commands import AwaitSignal, RunStep, StartTimer
from ..runs import Header
from . import accounts, children, creation, forgetting, reporting

if TYPE_CHECKING:
    from .driver import Driver


_AT_ONCE = 40
"""Requests that nobody has read and that are deleted with the end; more than that are deleted behind it."""


async def finish(driver: Driver) -> None:
    """Record the outcome, tell the parent, and ask the children that end with the run to end."""
    outcome, record = driver.machine.outcome, driver.record
    await driver.inbox.answer_all()
    if isinstance(outcome, ev.ContinuedAsNew):
        # A handler that never waits is told of no cancel: so that it can be ended, this generation has not begun.
        cancel = await driver.inbox.find_cancel() if driver.cursor.length == 1 else None
        if cancel is None:
            await _continue(driver, outcome)
            return
        for event in driver.machine.drawn:
            if isinstance(event, ev.Spent):  # nor has it spent anything: the record says what the history does
                driver.machine.purse.charge(-event.tokens, -event.micros)
        driver.machine.drawn = []
        outcome = ev.Cancelled(ev.CANCELLED, cancel.payload)
    write = driver.write()
    result: BlobRef | None = None
    now = driver.host.now_ms()
    match outcome:
        case ev.Completed():
            record.status, record.result = "completed", outcome.value
            result = _large(driver, outcome.value)
            await children.put_outcome(driver, write, "completed", outcome.value)
            told: lifecycle.LifecycleEvent = lifecycle.RunCompleted(record.id, now, outcome.value)
        case ev.Failed():
            record.status, record.failure = "failed", outcome.failure
            result = _large(driver, outcome.failure)
            reporting.run_failed(driver.runtime, record.id, driver.machine.error)
            await children.put_outcome(driver, write, "failed", outcome.failure)
            told = lifecycle.RunFailed(record.id, now, outcome.failure)
        case ev.Cancelled():
            record.end_cancelled(outcome.reason)
            await children.put_outcome(driver, write, "cancelled", record.failure)
            told = lifecycle.RunWasCancelled(record.id, now, outcome.reason)
        case _:
            raise AssertionError("finish is called once there is an outcome")
    _release(driver)
    asked = await children.ask_to_end(driver, write, "its parent has ended")
    inbox = keys.requests(record.id)
    unread = await driver.store.keys_under(inbox)
    write.deletes.update(unread[:_AT_ONCE])
    await driver.append([outcome], write, record=True, result=result)
    if len(unread) > _AT_ONCE:
        await driver.store.purge((inbox,), {keys.record(record.id): record.version_tag})
    driver.runtime.tell(told)
    for child in asked:
        driver.runtime.poke(child)
    if record.parent is not None:
        driver.runtime.poke(record.parent)


def _large(driver: Driver, value: Any) -> BlobRef | None:
    """The reference to a value that the history keeps in blobs; None for one that it keeps in the event."""
    data = driver.codec.encode(value)
    return BlobRef(sha256(data).digest(), len(data)) if len(data) > driver.store.limits.inline_limit else None


def _release(driver: Driver) -> None:
    record = driver.record
    record.owner, record.lease_until, record.waiting, record.wake_at = None, 0, [], None


async def suspend(driver: Driver) -> bool:
    """Set the run aside until something wakes it; False if something came in at the last moment."""
    machine, record = driver.machine, driver.record
    if await driver.inbox.look():
        return False
    times = [driver.clock.due_at(timer) for timer in machine.timers()]
    times += [driver.clock.on_host(c.not_before_ms) for c in machine.commands.values() if isinstance(c, RunStep)]
    now = driver.host.now_ms()
    if driver.runtime.draining and not all(isinstance(c, (StartTimer, AwaitSignal)) for c in machine.commands.values()):
        times.append(now)  # there is more to do than to wait: due at once, for whoever takes the run up
    _release(driver)
    record.waiting = machine.waiting()
    if driver.paused:
        record.status = "paused"
    else:
        record.status, record.wake_at = "suspended", min(times) if times else None
    write = driver.write()
    if machine.drawn:
        await driver.append([], write, record=True)
    else:
        driver.put_record(write)
        await driver.commit(write)
    if driver.paused:
        driver.runtime.tell(lifecycle.RunPaused(record.id, now))
    else:
        driver.runtime.tell(lifecycle.RunSuspended(record.id, now, tuple(record.waiting), record.wake_at))
    return True


async def _continue(driver: Driver, outcome: ev.ContinuedAsNew) -> None:
    """End this history and begin the next one, in one commit. This one is kept until that one is over too."""
    from .driver import Lost

    machine, record, old = driver.machine, driver.record, driver.machine.header
    await driver.inbox.refuse_open()
    await _settle_accounts(driver)
    carry = machine.continuation is not None and machine.continuation[1]
    purse = machine.purse
    header = Header(
        id=old.id,
        run=old.run,
        workflow=old.workflow,
        version=driver.runtime.registry.newest(old.workflow).version,
        generation=old.generation + 1,
        parent=old.parent,
        chain=old.chain,
        max_depth=old.max_depth,
        accounts=old.accounts,
        shared=purse.shared,
        spent=[purse.tokens, purse.micros],
        totals=[[account.tokens, account.micros] for account in purse.accounts],
        carried=machine.mailbox.carried() if carry else [],
    )
    now = max(driver.clock.now_ms(), driver.cursor.time_ms)
    write = driver.write()
    if not await forgetting.forget(driver.store, old, dict(write.checks), len(machine.mailbox.entries)):
        raise Lost(tuple(write.checks))
    asked = await children.ask_to_end(driver, write, "its parent continued as new")
    batch: list[ev.Event] = [*machine.drawn, outcome]
    slim, blobs = driver.store.spill(batch, record.run)
    closing = driver.cursor.encode(now, slim, driver.codec)
    given = driver.runtime.registry.given(header.workflow, header.version, outcome.input)
    raw, more = creation.first_commit(driver.store, header, given, now)
    if not await driver.store.put_blobs({**blobs, **more}, dict(write.checks)):
        raise Lost(tuple(write.checks))
    key = keys.commit(driver.name, driver.cursor.length)
    write.checks[key] = None
    write.deletes |= driver.inbox.void()
    record.generation, record.version = header.generation, header.version
    record.cursor_length, record.head = 1, digest_of(raw)
    record.attributes = dict(machine.attributes)
    record.spent, record.updated_at = purse.spent(), now
    driver.store.put_record(write, record, driver._stored_indexes)
    first = keys.commit(keys.history(header.run, header.generation), 0)
    write.puts = {key: closing, first: raw, **write.puts}
    await driver.commit(write)
    driver.tell_drawn([(now, event) for event in batch])
    driver.runtime.tell(lifecycle.RunContinuedAsNew(record.id, now, header.generation))
    for child in asked:
        driver.runtime.poke(child)


async def _settle_accounts(driver: Driver) -> None:
    """Charges to shared budgets in a commit of their own: the next header begins with the totals behind them."""
    machine = driver.machine
    if machine.purse.shared and accounts.charges(machine.drawn):
        await driver.append([])
        if machine.script.next_totals is not None:
            machine.purse.observe(machine.script.next_totals)
