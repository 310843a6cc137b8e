"""Loading: a history, read from the store and replayed into a machine."""

from __future__ import annotations

from .. import events as ev
from .. import keys
from ..context import Context
from ..errors import DeterminismError, StoreError
from ..events import Event
from ..history import Cursor
from ..machine.execution import Execution, Sources
from ..records import dataclass
from ..runs import ExecutionRecord, Header
from ..workflows import Registry
from .segments import Tail
from .store import Store


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
        former: DeterminismError | None = None

        async def read() -> Loaded:
            nonlocal former
            reading = _Reading(self, record, attempt, by_our_rules=former is not None)
            try:
                async for sealed, _, page in self.store.pages(keys.history(record.run, record.generation)):
                    await reading.page(sealed, page)
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

    def __init__(self, loader: Loader, record: ExecutionRecord, attempt: int, by_our_rules: bool) -> None:
        self._loader, self._record, self._attempt = loader, record, attempt
        self._by_our_rules = by_our_rules
        self._cursor = Cursor()
        self._tail = Tail()
        self.machine: Execution | None = None

    async def page(self, sealed: bool, raws: list[bytes]) -> None:
        """Verify and feed one page."""
        store, run = self._loader.store, self._record.run
        blobs = store.codec.blobs_seen
        timed = self._cursor.advance_all(raws, store.codec)
        if store.codec.blobs_seen != blobs:
            timed = await store.fill(timed, run)
        if sealed:
            self._tail.clear()
        else:
            for raw in raws:
                self._tail.add(raw)
        if self.machine is None:
            time_ms, first = timed.pop(0)
            self.machine = self._loader.new_machine(first, time_ms, self._attempt, self._by_our_rules)
            self.machine.calls.attributes = dict(self._record.attributes)  # those given at the start stand nowhere else
        machine = self.machine
        machine.feed(timed, more=True)

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
        settled = record.status in ("suspended", "paused") and self._cursor.length == record.cursor_length
        machine.feed([], more=False, quiet=settled)
        return Loaded(machine, self._cursor, self._tail)
