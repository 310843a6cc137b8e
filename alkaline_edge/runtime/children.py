"""Starting and ending child runs: created in the same commit that records it, told of through inboxes."""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys
from ..errors import AlkalineError, ConflictError
from ..failures import describe
from ..host import Conflict
from ..machine.commands import CancelChild, StartChild
from ..runs import Header
from ..workflows import Registry
from . import creation
from .fleet import Fleet
from .journal import Journal, Lost
from .write import Write

_AT_ONCE = 40
"""Children that are asked to end in one batch."""


class Children:
    """The children of one run, and what its own parent is told."""

    def __init__(self, journal: Journal, registry: Registry, fleet: Fleet) -> None:
        self._journal, self._registry, self._fleet = journal, registry, fleet
        self._store, self._host, self._codec = journal.store, journal.host, journal.codec
        self._machine = journal.machine

    async def start(self, command: StartChild) -> None:
        """Create the child in the batch that records ChildStarted; an id in use fails the command."""
        event = ev.ChildStarted(ev.CHILD_STARTED, command.id, command.name, command.digest, command.child)
        try:
            header = self._header(command)
            write = self._journal.write()
            machine = self._machine
            if machine.purse.accounts and not machine.purse.shared:
                own = machine.purse.accounts[-1]
                write.checks[keys.shared(own.run)] = None
                write.puts[keys.shared(own.run)] = self._codec.encode([own.tokens, own.micros])
            given = self._registry.given(header.workflow, header.version, command.input)
            plain = given if given is command.input else self._codec.through(given, "input")
            creation.add(self._store, write, header, plain, self._host.now_ms())
            await self._store.put_ahead(write)
            recorded = await self._journal.append([event], write)
        except Lost as lost:
            if lost.keys and set(lost.keys) <= {keys.record(command.child)}:
                text = f"a run {command.child!r} exists already; give ctx.child another id"
                await self._refuse(command, ConflictError(text, id=command.child))
                return
            raise
        except AlkalineError as error:
            if error.code in ("ERR_NOT_FOUND", "ERR_INVALID_INPUT"):
                await self._refuse(command, error)
                return
            raise
        await self._journal.feed(recorded)
        self._fleet.take_up(command.child)

    async def _refuse(self, command: StartChild, error: AlkalineError) -> None:
        failure = describe(error, self._codec)
        await self._journal.happened([ev.ChildFinished(ev.CHILD_FINISHED, command.id, "failed", failure)])

    def _header(self, command: StartChild) -> Header:
        parent, purse = self._machine.header, self._machine.purse
        run = creation.new_run_id(self._host)
        accounts = [account.header() for account in purse.accounts]
        totals = [[account.tokens, account.micros] for account in purse.accounts]
        if command.budget is not None:
            accounts.append([run, *command.budget])
            totals.append([0, 0])
        version = command.version
        if version is None:
            version = self._registry.newest(command.name).version
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
            policy=purse.policy,
        )

    async def cancel(self, command: CancelChild) -> None:
        """Ask a child to end, whose waiter is gone. The request is an entry of its own; repeating it is harmless."""
        self._machine.commands.pop(f"cancel {command.id}", None)
        record = await self._store.unreadable.record(command.child)
        if record is None or record.finished:
            return
        write = Write()
        self._put_cancel(write, command.child, "its parent does not wait for it any more")
        await self._store.commit(write)
        self._fleet.poke(command.child)

    def _put_cancel(self, write: Write, child: str, reason: str) -> None:
        """Add the request to a batch."""
        entry = f"cancel-{self._journal.record.run}-{self._machine.header.generation}"
        data = self._codec.encode([entry, "cancel", "", reason, self._host.now_ms()])
        write.puts[keys.inbox(child, f"~{entry}")] = data

    async def ask_to_end(self, write: Write, reason: str) -> list[str]:
        """Add to the batch that ends a parent what asks its open children to end; return their ids.

        More than a batch takes go ahead of it: the end is decided, and asking twice is harmless. A child that has
        ended is left alone, and so is another run that has got its id since.
        """
        asked: list[str] = []
        ids = [command.child for command in self._open_children()]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            own, records = self._journal.record.id, await self._store.records(some)
            alive = [record.id for record in records if not record.finished and record.parent == own]
            part = write if len(ids) <= _AT_ONCE else Write(dict(write.checks))
            for id in alive:
                self._put_cancel(part, id, reason)
            if part is not write and part.puts and isinstance(await self._store.commit(part), Conflict):
                raise Lost(tuple(part.checks))
            asked += alive
        return asked

    async def put_outcome(self, write: Write, outcome: str, value: Any) -> None:
        """Add to the batch that ends a child what its parent is to know, if that is there to be told.

        One that has ended is not, and must not be tried again before the batch lands: it would wait for ever.
        """
        parent = self._machine.header.parent
        if parent is None or not await self._may_wait(parent, write):
            return
        id, run, command, generation = parent
        entry, now = f"child-{self._journal.record.run}", self._host.now_ms()
        place = keys.inbox(id, f"~{self._journal.record.id}")
        told = [run, int(generation), outcome, value, None]
        data = self._codec.encode_whole([entry, "child", command, told, now])
        if len(data) > self._store.limits.inline_limit:  # the parent reads it from the child's record
            told[3:] = [None, self._journal.record.id]
            data = self._codec.encode_whole([entry, "child", command, told, now])
        write.puts[place] = data

    async def _may_wait(self, parent: list[str], write: Write) -> bool:
        """Whether the parent may still wait: it has not ended, continued as new, or given its id to another run."""
        id, run, _, generation = parent
        here = self._fleet.in_memory(id)
        if here is not None and (here.record.run, here.machine.header.generation) == (run, int(generation)):
            return True
        records, damaged = await self._store.unreadable.records([id])
        if damaged:
            return True  # it is told, for when its record is restored
        record = records[0] if records else None
        if record is None or record.run != run:
            return False
        if record.finished:
            write.checks[keys.record(id)] = record.version_tag
            return False
        return record.generation <= int(generation)

    def _open_children(self) -> list[StartChild]:
        """Children that were started, have not ended, and end with their parent."""
        asked = self._machine.asked_for()
        return [c for c in asked if isinstance(c, StartChild) and c.started and c.on_parent_close == "cancel"]
