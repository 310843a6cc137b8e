"""Who has a run: freezing it where it was handed over from, and remembering what was taken over."""

from __future__ import annotations

import contextlib

from .. import events as ev
from .. import keys
from ..errors import AlkalineError, ConflictError
from ..history import decode_all
from ..host import Conflict
from ..records import dataclass
from ..runs import ExecutionRecord
from . import inbox
from .asking import Asker
from .fleet import Fleet
from .lease import Leases
from .store import Store, Write, indexes_of


class Freezer:
    """Stops runs of one runtime for good."""

    def __init__(self, store: Store, leases: Leases, fleet: Fleet, asker: Asker) -> None:
        self._store, self._leases, self._fleet, self._asker = store, leases, fleet, asker

    async def freeze(self, id: str, to: str) -> ExecutionRecord:
        """Stop the run here for good: what is in flight ends first. Doing it twice changes nothing.

        ``to`` is what the record says of where it went. A run that has ended stays as it is.
        """
        stopped = [False]
        try:
            return await self._frozen(id, to, stopped)
        except ConflictError:
            if stopped[0]:  # the run is not moved, so what was to stop it for that is taken back
                with contextlib.suppress(AlkalineError):
                    await self._asker.request(id, "resume")
            raise

    async def _frozen(self, id: str, to: str, stopped: list[bool]) -> ExecutionRecord:
        """``stopped`` becomes true when a run that nobody had paused is asked to stop."""
        while True:
            record = await self._store.record(id)
            if record.moved_to is not None or record.finished:
                return record
            if record.copy:
                raise ConflictError(
                    f"run {id!r} is a copy here, and goes on in another store: hand it over from there. `resume` makes "
                    "the copy a run that goes on by itself",
                    id=id,
                )
            if await self._leases.held_by_other(record):
                raise ConflictError(
                    f"run {id!r} is held by another owner; hand it over from there, or pause it first", id=id
                )
            await _check_family(self._store, record)
            if id in self._fleet.active():
                with contextlib.suppress(ConflictError):  # it has ended meanwhile, or gone: its record says so
                    await self._asker.request(id, "pause", mark=inbox.OF_A_MOVE)
                    stopped[0] = stopped[0] or record.status != "paused"
                await self._fleet.settle(id)
                continue
            before = indexes_of(record)
            record.moved_to, record.status, record.owner, record.wake_at = to, "paused", None, None
            record.epoch += 1
            write = Write({keys.record(id): record.version_tag})
            self._store.put_record(write, record, before)
            if not isinstance(await self._store.commit(write), Conflict):
                self._fleet.let_go(id)
                return record


async def _check_family(store: Store, record: ExecutionRecord) -> None:
    """ERR_CONFLICT where a parent or a child stays behind: one would wait for the other for ever."""
    relatives = [] if record.parent is None else [record.parent]
    commits = await store.commits(keys.history(record.run, record.generation))
    children: dict[str, str] = {}
    for _, event in (each for commit in decode_all(commits, store.codec)[1] for each in commit):
        if isinstance(event, ev.ChildStarted):
            children[event.id] = event.child
        elif isinstance(event, ev.ChildFinished):
            children.pop(event.id, None)
    for other in (*relatives, *children.values()):
        found = await store.find(other)
        if found is not None and not found.finished and found.moved_to is None:
            raise ConflictError(
                f"run {record.id!r} can't be handed over while {other!r} goes on here: one waits for the other by this "
                "store. Hand it over when that has ended",
                id=record.id,
                relative=other,
            )
    for entry in await store.host.list(keys.from_runs(record.id), "", 200):
        _, kind, _, told, *_ = store.codec.decode(entry.value)
        if kind == "child" and told[-1] is not None:  # too large for the request: it is read from the child's record
            raise ConflictError(
                f"run {record.id!r} can't be handed over before it has read how its child {told[-1]!r} ended, which "
                "stands in this store alone. It reads it when it is driven here: hand it over again after that",
                id=record.id,
                relative=told[-1],
            )


@dataclass(frozen=True, slots=True)
class Taken:
    """The last hand-over of a run that this store took over. It outlives the run, so a late repeat starts nothing."""

    store: Store
    run: str
    epoch: int
    head: bytes
    version: str | None

    def again(self, epoch: int, head: bytes) -> bool:
        """Whether the hand-over was taken over before; ERR_CONFLICT for another one under the same name."""
        if epoch == self.epoch and head != self.head:
            raise ConflictError("another history of this run was taken over here under the same epoch: they parted")
        return epoch <= self.epoch

    def note(self, write: Write, epoch: int, head: bytes) -> None:
        """Take it over with ``write``, once."""
        write.checks[keys.taken(self.run)] = self.version
        write.puts[keys.taken(self.run)] = self.store.codec.encode([epoch, head])


async def taken(store: Store, run: str) -> Taken:
    """What is known of hand-overs of the run with that random id to this store."""
    entry = (await store.host.get([keys.taken(run)]))[0]
    if entry is None:
        return Taken(store, run, -1, b"", None)
    epoch, head = store.codec.decode(entry.value)
    return Taken(store, run, epoch, head, entry.version)


def may_be_replaced(existing: ExecutionRecord, epoch: int) -> bool:
    """Whether a hand-over of that epoch may go on from this record, as far as the record says.

    A bundle may come back to where it was exported. A run that went to a named store returns with a higher epoch: an
    old hand-over that arrives late must not begin it a second time. Equal epochs are a return, too: alkaline_edge 0.1
    gave the record the epoch of the parts that came back.
    """
    if existing.moved_to is not None:
        return epoch >= existing.epoch
    return existing.status == "paused" and existing.owner is None
