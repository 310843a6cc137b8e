"""How a stretch of driving ends: the run is finished, continued as new, suspended or paused, in one commit."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from .. import events as ev
from .. import keys, lifecycle
from ..codec import BlobRef
from ..commands import AwaitSignal, RunStep, StartTimer
from ..history import digest_of
from ..runs import Header
from . import children, creation

if TYPE_CHECKING:
    from .driver import Driver


async def finish(driver: Driver) -> None:
    """Record the outcome, tell the parent, and ask the children that end with the run to end."""
    outcome, record = driver.machine.outcome, driver.record
    if isinstance(outcome, ev.ContinuedAsNew):
        await _continue(driver, outcome)
        return
    write = driver.write()
    result: BlobRef | None = None
    now = driver.host.now_ms()
    match outcome:
        case ev.Completed():
            record.status, record.result = "completed", outcome.value
            data = driver.codec.encode(outcome.value)
            if len(data) > driver.store.limits.inline_limit:
                result = BlobRef(sha256(data).digest(), len(data))
            children.put_outcome(driver, write, "completed", outcome.value)
            told: lifecycle.LifecycleEvent = lifecycle.RunCompleted(record.id, now, outcome.value)
        case ev.Failed():
            record.status, record.failure = "failed", outcome.failure
            children.put_outcome(driver, write, "failed", outcome.failure)
            told = lifecycle.RunFailed(record.id, now, outcome.failure)
        case ev.Cancelled():
            record.status = "cancelled"
            message = f"run {record.id!r} was cancelled" + (f": {outcome.reason}" if outcome.reason else "")
            record.failure = {"type": "RunCancelled", "message": message, "code": "ERR_CLOSED",
                              "detail": {"reason": outcome.reason}}  # fmt: skip
            children.put_outcome(driver, write, "cancelled", record.failure)
            told = lifecycle.RunWasCancelled(record.id, now, outcome.reason)
        case _:
            raise AssertionError("finish is called once there is an outcome")
    _release(driver)
    for child in children.open_children(driver):
        children.put_cancel(driver, write, child.child, "its parent has ended")
    write.deletes.update(await driver.store.keys_under(f"i/{record.id}/"))
    await driver.append([outcome], write, record=True, result=result)
    driver.runtime.tell(told)
    for child in children.open_children(driver):
        driver.runtime.poke(child.child)
    if record.parent is not None:
        driver.runtime.poke(record.parent)


def _release(driver: Driver) -> None:
    record = driver.record
    record.owner, record.lease_until, record.waiting, record.wake_at = None, 0, [], None


async def suspend(driver: Driver) -> bool:
    """Set the run aside until something wakes it; False if something came in at the last moment."""
    machine, record = driver.machine, driver.record
    if await driver.inbox.consume():
        return False
    driver.poked = False
    times = [timer.deadline_ms for timer in machine.timers()]
    times += [c.not_before_ms for c in machine.commands.values() if isinstance(c, RunStep)]
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
    """End this history and begin the next one, in one commit. The old one is kept until the run is deleted."""
    machine, record, old = driver.machine, driver.record, driver.machine.header
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
    now = max(driver.host.now_ms(), driver.cursor.time_ms)
    write = driver.write()
    raw, blobs = creation.first_commit(driver.store, header, outcome.input, now)
    write.puts.update(blobs)
    write.puts[keys.commit(keys.history(header.run, header.generation), 0)] = raw
    closing = driver.cursor.encode(now, [*machine.drawn, outcome], driver.codec)
    slim, more = driver.store.spill([*machine.drawn, outcome], record.run)
    if more:
        closing = driver.cursor.encode(now, slim, driver.codec)
        write.puts.update(more)
    key = keys.commit(driver.name, driver.cursor.length)
    write.checks[key] = None
    for child in children.open_children(driver):
        children.put_cancel(driver, write, child.child, "its parent continued as new")
    record.generation, record.version = header.generation, header.version
    record.cursor_length, record.head = 1, digest_of(raw)
    record.spent, record.updated_at = purse.spent(), now
    driver.store.put_record(write, record, driver._stored_indexes)
    write.puts = {key: closing, **write.puts}
    await driver.commit(write)
    driver.runtime.tell(lifecycle.RunContinuedAsNew(record.id, now, header.generation))
    for each in children.open_children(driver):
        driver.runtime.poke(each.child)
