"""Starting and ending child runs: created in the same commit that records it, told of through inboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys
from ..commands import CancelChild, StartChild
from ..errors import AlkalineError, ConflictError
from ..failures import describe
from ..runs import ExecutionRecord, Header
from . import creation
from .store import Write

if TYPE_CHECKING:
    from .driver import Driver


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
        creation.add(driver.store, write, header, command.input, driver.host.now_ms())
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
    entry = f"cancel-{driver.record.run}-{driver.record.generation}"
    write.puts[keys.inbox(child, f"~{entry}")] = driver.codec.encode([entry, "cancel", "", reason])


def put_outcome(driver: Driver, write: Write, outcome: str, value: Any) -> None:
    """Add to the batch that ends a child what its parent is to know."""
    parent = driver.machine.header.parent
    if parent is None:
        return
    id, run, command, generation = parent
    entry = f"child-{driver.record.run}"
    place = keys.inbox(id, f"~{driver.record.id}")
    data = driver.codec.encode([entry, "child", command, [run, int(generation), outcome, value, None]])
    if len(data) > driver.store.limits.inline_limit:  # the parent reads it from the child's record
        data = driver.codec.encode([entry, "child", command, [run, int(generation), outcome, None, driver.record.id]])
    write.puts[place] = data


def open_children(driver: Driver) -> list[StartChild]:
    """Children that were started, have not ended, and end with their parent."""
    machine = driver.machine
    commands = [command for command, _ in machine.pending.values()] + list(machine.withdrawn.values())
    return [c for c in commands if isinstance(c, StartChild) and c.started and c.on_parent_close == "cancel"]


def record_of(header: Header, now: int) -> ExecutionRecord:
    """The first record of a run."""
    parent = header.parent[0] if header.parent else None
    return ExecutionRecord(
        header.id, header.run, header.workflow, header.version, "running", now, now, parent=parent, depth=header.depth,
        generation=header.generation,
    )  # fmt: skip
