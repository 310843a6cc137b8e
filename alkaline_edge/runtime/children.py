"""Starting and ending child runs: created in the same commit that records it, told of through inboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys
from ..errors import AlkalineError, ConflictError
from ..failures import describe
from ..host import Conflict
from ..machine.commands import CancelChild, StartChild
from ..runs import Header
from . import creation
from .store import Write

if TYPE_CHECKING:
    from .driver import Driver

_AT_ONCE = 40
"""Children that are asked to end in one batch."""


async def start(driver: Driver, command: StartChild) -> None:
    """Create the child's record and history in the batch that records ChildStarted; an id in use fails the command."""
    from .driver import Lost

    event = ev.ChildStarted(ev.CHILD_STARTED, command.id, command.name, command.digest, command.child)
    try:
        header = _header(driver, command)
        write = driver.write()
        machine = driver.machine
        if machine.purse.accounts and not machine.purse.shared:
            own = machine.purse.accounts[-1]
            write.checks[keys.shared(own.run)] = None
            write.puts[keys.shared(own.run)] = driver.codec.encode([own.tokens, own.micros])
        given = driver.runtime.registry.given(header.workflow, header.version, command.input)
        plain = given if given is command.input else driver.codec.through(given, "input")
        creation.add(driver.store, write, header, plain, driver.host.now_ms())
        await driver.store.put_ahead(write)
        recorded = await driver.append([event], write)
    except Lost as lost:
        if lost.keys and set(lost.keys) <= {keys.record(command.child)}:
            text = f"a run {command.child!r} exists already; give ctx.child another id"
            await _refuse(driver, command, ConflictError(text, id=command.child))
            return
        raise
    except AlkalineError as error:
        if error.code in ("ERR_NOT_FOUND", "ERR_INVALID_INPUT"):
            await _refuse(driver, command, error)
            return
        raise
    await driver.feed(recorded)
    driver.runtime.take_up(command.child)


async def _refuse(driver: Driver, command: StartChild, error: AlkalineError) -> None:
    failure = describe(error, driver.codec)
    await driver.happened([ev.ChildFinished(ev.CHILD_FINISHED, command.id, "failed", failure)])


def _header(driver: Driver, command: StartChild) -> Header:
    parent, purse = driver.machine.header, driver.machine.purse
    run = creation.new_run_id(driver.host)
    accounts = [account.header() for account in purse.accounts]
    totals = [[account.tokens, account.micros] for account in purse.accounts]
    if command.budget is not None:
        accounts.append([run, *command.budget])
        totals.append([0, 0])
    version = command.version
    if version is None:
        version = driver.runtime.registry.newest(command.name).version
    return Header(
        id=command.child,
        run=run,
        workflow=command.name,
        version=version,
        parent=[parent.id, parent.run, command.id, str(parent.generation)],
        chain=[*parent.chain, command.name],
        max_depth=parent.max_depth,
        accounts=accounts,
        shared=bool(accounts),
        totals=totals,
    )


async def cancel(driver: Driver, command: CancelChild) -> None:
    """Ask a child to end, whose waiter is gone. The request is an inbox entry of its own; repeating it is harmless."""
    driver.machine.commands.pop(f"cancel {command.id}", None)
    record = await driver.store.find(command.child)
    if record is None or record.finished:
        return
    write = Write()
    put_cancel(driver, write, command.child, "its parent does not wait for it any more")
    await driver.store.commit(write)
    driver.runtime.poke(command.child)


def put_cancel(driver: Driver, write: Write, child: str, reason: str) -> None:
    """Add the request to a batch."""
    entry = f"cancel-{driver.record.run}-{driver.machine.header.generation}"
    data = driver.codec.encode([entry, "cancel", "", reason, driver.host.now_ms()])
    write.puts[keys.inbox(child, f"~{entry}")] = data


async def ask_to_end(driver: Driver, write: Write, reason: str) -> list[str]:
    """Add to the batch that ends a parent what asks its open children to end; return their ids.

    More than a batch takes go ahead of it: the end is decided, and asking twice is harmless. A child that has ended is
    left alone, and so is another run that has got its id since.
    """
    from .driver import Lost

    asked: list[str] = []
    ids = [command.child for command in _open_children(driver)]
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        entries = await driver.host.get([keys.record(id) for id in some])
        records = [await driver.store.record_of(entry) for entry in entries if entry is not None]
        alive = [record.id for record in records if not record.finished and record.parent == driver.record.id]
        part = write if len(ids) <= _AT_ONCE else Write(dict(write.checks))
        for id in alive:
            put_cancel(driver, part, id, reason)
        if part is not write and part.puts and isinstance(await driver.store.commit(part), Conflict):
            raise Lost(tuple(part.checks))
        asked += alive
    return asked


async def put_outcome(driver: Driver, write: Write, outcome: str, value: Any) -> None:
    """Add to the batch that ends a child what its parent is to know, if that is there to be told."""
    parent = driver.machine.header.parent
    if parent is None or not await _may_wait(driver, parent):
        return
    id, run, command, generation = parent
    entry, now = f"child-{driver.record.run}", driver.host.now_ms()
    place = keys.inbox(id, f"~{driver.record.id}")
    told = [run, int(generation), outcome, value, None]
    data = driver.codec.encode([entry, "child", command, told, now])
    if len(data) > driver.store.limits.inline_limit:  # the parent reads it from the child's record
        told[3:] = [None, driver.record.id]
        data = driver.codec.encode([entry, "child", command, told, now])
    write.puts[place] = data


async def _may_wait(driver: Driver, parent: list[str]) -> bool:
    """Whether the parent may still wait: it has not ended, continued as new, or been replaced by another of its id."""
    id, run, _, generation = parent
    here = driver.runtime.drivers.get(id) or driver.runtime.asleep.get(id)
    if here is not None and (here.record.run, here.machine.header.generation) == (run, int(generation)):
        return True
    record = await driver.store.find(id)
    if record is None or record.finished:
        return False
    return record.run == run and record.generation <= int(generation)


def _open_children(driver: Driver) -> list[StartChild]:
    """Children that were started, have not ended, and end with their parent."""
    machine = driver.machine
    commands = [command for command, _ in machine.pending.values()] + list(machine.withdrawn.values())
    return [c for c in commands if isinstance(c, StartChild) and c.started and c.on_parent_close == "cancel"]
