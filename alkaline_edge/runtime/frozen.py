"""Who has a run: freezing it where it was handed over from, and remembering what was taken over."""

from __future__ import annotations

from .. import events as ev
from .. import keys
from ..errors import ClosedError, ConflictError
from ..history import Cursor, check_end, decode_all
from ..host import Conflict
from ..runs import ExecutionRecord
from ..structs import dataclass
from . import sending
from .fleet import Fleet
from .lease import Leases
from .store import Store
from .write import Write, indexes_of


class Freezer:
    """Stops runs of one runtime for good."""

    def __init__(self, store: Store, leases: Leases, fleet: Fleet) -> None:
        self._store, self._leases, self._fleet = store, leases, fleet

    async def freeze(self, id: str, to: str) -> ExecutionRecord:
        """Stop the run here for good: what is in flight ends first. Doing it twice changes nothing.

        ``to`` is what the record says of where it went. A run that has ended stays as it is. One that was paused takes
        a pause with it, by which it is paused where it arrives.
        """
        self._fleet.hold(id)
        try:
            return await self._frozen(id, to)
        finally:
            self._fleet.release(id)  # refused or cut off, it goes on here as if nobody had wanted to move it

    async def _frozen(self, id: str, to: str) -> ExecutionRecord:
        while not self._fleet.closing:
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
            end = await _check_family(self._store, record)
            if self._fleet.is_active(id):
                await self._fleet.settle(id)
                continue
            before = indexes_of(record)
            write = Write({keys.record(id): record.version_tag})
            if record.status == "paused":
                await sending.stay_paused(self._store, write, id)
            record.moved_to, record.status, record.owner, record.wake_at = to, "paused", None, None
            record.epoch += 1
            # Nobody commits here from now on: the record vouches for the whole history, and not for what it knew last.
            record.cursor_length, record.head = end.length, end.head
            self._store.put_record(write, record, before)
            if not isinstance(await self._store.commit(write), Conflict):
                self._fleet.let_go(id)
                return record
        raise ClosedError("the runtime was closed before the run was frozen: it goes on where it is")


async def _check_family(store: Store, record: ExecutionRecord) -> Cursor:
    """ERR_CONFLICT where a parent or a child stays behind: one would wait for the other for ever. Else its end."""
    relatives = [] if record.parent is None else [record.parent]
    commits = await store.commits(keys.history(record.run, record.generation))
    check_end(commits, record.cursor_length, record.head, record.id)
    end, decoded = decode_all(commits, store.codec)
    children: dict[str, str] = {}
    for _, event in (each for commit in decoded for each in commit):
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
    return end


_RENOUNCED = b"renounced for "
"""What stands in place of the head of a hand-over that this store renounced, before the store that may go on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The last hand-over of a run that this store took over. It outlives the run, so a late repeat starts nothing."""

    store: Store
    run: str
    epoch: int
    head: bytes
    version: str | None

    @property
    def last(self) -> int:
        """The epoch of the last hand-over that this store took over, or may have: one that it renounced it has not."""
        return self.epoch - self.renounced

    @property
    def renounced(self) -> bool:
        """Whether this store takes the hand-over of ``epoch`` over no more."""
        return self.head.startswith(_RENOUNCED)

    def again(self, epoch: int, head: bytes) -> bool:
        """Whether the hand-over was taken over before; ERR_CONFLICT for another one under the same name."""
        if epoch == self.epoch and self.renounced:
            raise ConflictError(
                "this store has renounced this hand-over and takes it over no more: call hand_over from here to where "
                "the run comes from, and it goes on there"
            )
        if epoch == self.epoch and head != self.head:
            raise ConflictError("another history of this run was taken over here under the same epoch: they parted")
        return epoch <= self.epoch

    def renounce(self, write: Write, epoch: int, to: str) -> None:
        """Take it over no more, with ``write``; ERR_CONFLICT where that was done in favour of another store."""
        if self.epoch == epoch and self.head != _RENOUNCED + to.encode():
            raise ConflictError("this store has renounced this hand-over in favour of another store: it goes on there")
        self.note(write, epoch, _RENOUNCED + to.encode())

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
