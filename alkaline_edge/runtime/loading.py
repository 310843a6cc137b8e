"""Loading: a history, read from the store and replayed into a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys
from ..activations import page_of, timed, together
from ..context import Context
from ..errors import DeterminismError, StoreError
from ..events import Event
from ..history import Cursor, Timed
from ..host import Entry
from ..machine.execution import Execution, Sources
from ..runs import ExecutionRecord, Header
from ..structs import dataclass
from ..workflows import Registry
from . import pages
from .segments import Tail
from .store import Store

if TYPE_CHECKING:
    from ..retried import Former, Void


@dataclass(slots=True)
class Loaded:
    """A run's history in memory: the machine at its end, where that is, and the commits that are not sealed yet."""

    machine: Execution
    cursor: Cursor
    tail: Tail


def started(event: Event | None) -> ev.Started:
    """The first event of a history; ERR_STORE where it is another one."""
    if not isinstance(event, ev.Started):
        raise StoreError("the history does not begin with a Started event: it is damaged, restore it")
    return event


class Loader:
    """Makes machines of histories."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store, self._registry = store, registry

    async def load(self, record: ExecutionRecord, attempt: int) -> Loaded:
        """Replay a run's history from the top. Code that disagrees with it is ERR_DETERMINISM, and writes nothing.

        What 0.1 wrote is replayed by the asyncio of this Python and, where that differs, once more by the rules of
        today: another Python may have written it.
        """
        void = await self._void(record) if record.retried else None
        try:
            return await self._load(record, attempt, void)
        except DeterminismError:
            # The run may have been tried again behind the record that was read, so that this was no longer its history.
            since = await self._void(record)
            if since == void or not since.starts:
                raise
            return await self._load(record, attempt, since)

    async def _load(self, record: ExecutionRecord, attempt: int, void: Void | None) -> Loaded:
        former: DeterminismError | None = None

        async def read() -> Loaded:
            nonlocal former
            reading = _Reading(self, record, attempt, former is not None, void)
            try:
                async for entries in self.store.pages(keys.history(record.run, record.generation)):
                    await reading.page(entries)
                return reading.finish()
            except BaseException as error:
                machine = reading.machine
                if machine is not None:
                    machine.set_aside()
                if not isinstance(error, DeterminismError):
                    raise
                if former is not None:
                    raise former from None
                if machine is None or not machine.header.former:
                    raise
                former = error
            return await read()

        return await self.store.without_gap(read)

    async def _void(self, record: ExecutionRecord) -> Void:
        """What counts no more of a run's history as it stands now."""
        from ..retried import void_in  # only a run that was tried again needs it

        async def read() -> Void:
            cursor, retries = Cursor(), list[list[Timed]]()
            async for entries in self.store.pages(keys.history(record.run, record.generation)):
                for raw in pages.fresh(entries, cursor.length):
                    events = [each for each in cursor.advance(raw, self.store.codec) if each[1][0] == ev.RETRIED]
                    retries += [await self.store.fill(events, record.run)] if events else []
            return void_in(retries)

        return await self.store.without_gap(read)

    def trial(self, commits: list[list[Timed]], attributes: dict[str, Any]) -> Execution:
        """The machine at the end of a history's events, those of them that count. It is of no further use but to look.

        ERR_DETERMINISM where this code disagrees with them.
        """
        (time_ms, first), *rest = commits[0]
        page = page_of(each for commit in [rest, *commits[1:]] for each in together(commit))
        for by_our_rules in (False, True):
            machine = self.new_machine(first, time_ms, 1, by_our_rules)
            machine.attributes = dict(attributes)
            try:
                machine.feed(list(page))
                break
            except DeterminismError:
                if by_our_rules or not machine.header.former:
                    raise
        machine.set_aside()
        return machine

    def new_machine(self, first: Event, time_ms: int, attempt: int, by_our_rules: bool = False) -> Execution:
        """The machine of a history that begins with ``first``."""
        begun = started(first)
        header = Header.from_map(begun.header)
        if by_our_rules:
            header = header.by_our_rules()
        store, definition = self.store, self._registry.exact(header.workflow, header.version)
        sources = Sources(store.host.now_ms, store.host.entropy)
        machine = Execution(
            definition, header, begun.input, store.codec, sources, Context, attempt, self._registry.newest
        )
        machine.start(time_ms)
        return machine


class _Reading:
    """Reads a history page by page into a new machine."""

    def __init__(
        self, loader: Loader, record: ExecutionRecord, attempt: int, by_our_rules: bool, void: Void | None
    ) -> None:
        self._loader, self._record, self._attempt = loader, record, attempt
        self._by_our_rules, self._void = by_our_rules, void
        self._former: Former | None = None
        self._cursor = Cursor()
        self._tail = Tail()
        self.machine: Execution | None = None

    async def page(self, entries: list[Entry]) -> None:
        """Verify and feed one page."""
        store, run, cursor = self._loader.store, self._record.run, self._cursor
        blobs = store.codec.blobs_seen
        sealed = keys.is_segment(entries[0].key)
        if self._void is not None:
            page = self._counting(entries, sealed, self._void)
        elif sealed and keys.position_of(entries[0].key) == cursor.length:
            page = cursor.advance_segment(entries[0].value, store.codec)
        else:
            raws = pages.fresh(entries, cursor.length)
            page = cursor.advance_all(raws, store.codec)
            if not sealed:
                self._tail.extend(raws)
        if sealed:
            self._tail.clear()
        if not page and self.machine is None:
            return
        if store.codec.blobs_seen != blobs:
            page = page_of(await store.fill([timed(entry) for entry in page], run))
        if self.machine is None:
            time_ms, first = timed(page.pop(0))
            self.machine = self._loader.new_machine(first, time_ms, self._attempt, self._by_our_rules)
            self.machine.attributes = dict(self._record.attributes)  # those given at the start stand nowhere else
        machine = self.machine
        machine.feed(page, more=True, bare=cursor.bare)

    def _counting(self, entries: list[Entry], sealed: bool, void: Void) -> list[Any]:
        """Verify one page of a run that was tried again; what counts of it."""
        from ..retried import Former  # only a run that was tried again needs it

        self._former = former = self._former or Former()
        cursor, codec, page = self._cursor, self._loader.store.codec, list[Any]()
        raws = pages.fresh(entries, cursor.length)
        for raw in raws:
            commit, events = cursor.length, cursor.advance(raw, codec)
            page += together(void.counting(commit, events))
            former.note(each for place, each in enumerate(events) if void.holds(commit, place))
        cursor.bare = False
        if not sealed:
            self._tail.extend(raws)
        return page_of(page)

    def finish(self) -> Loaded:
        """Run the handler to the end of what is recorded."""
        machine, record = self.machine, self._record
        if machine is None:
            raise StoreError(
                f"run {record.id!r} has a record and no history: the store lost it, or a part was deleted; restore it",
                id=record.id,
            )
        if self._cursor.length < record.cursor_length:
            raise StoreError(
                f"run {record.id!r} has {self._cursor.length} commits, and its record knows of {record.cursor_length}: "
                "the store lost or rolled back the end of its history; restore it",
                id=record.id,
            )
        if self._cursor.length == record.cursor_length and record.head and self._cursor.head != record.head:
            raise StoreError(
                f"the last commit of run {record.id!r} is not the one that its record knows of: it was edited, or the "
                "store mixed up two histories; restore it",
                id=record.id,
            )
        machine.former = self._former
        settled = record.status in ("suspended", "paused") and self._cursor.length == record.cursor_length
        machine.feed([], more=False, quiet=settled)
        return Loaded(machine, self._cursor, self._tail)
