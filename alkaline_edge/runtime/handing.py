"""``Local``: a runtime as one side of ``sync`` and ``hand_over``."""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys, parts
from ..codec import BlobRef
from ..envelope import Contents
from ..errors import ConflictError, InvalidInput, NotFound, StoreError
from ..history import MAGIC, Cursor, blobs_of, decode_all, digest_of
from ..host import Conflict
from ..parts import PART_BYTES, Letter, Part, Place
from ..runs import ExecutionRecord, Header
from . import arriving, creation, lease, segments, sending
from .accounts import shared_by
from .copying import put_in_batches
from .forgetting import forget_older
from .frozen import Freezer, may_be_replaced, taken
from .loading import started
from .moved import ARRIVING, BUNDLE, DELETING, UNCONFIRMED, gone
from .runtime import Runtime
from .write import Write, indexes_of

_CARRIED = ("created_at", "attempt", "spent", "attributes", "parent", "depth", "failure", "retried", "topped_up")
"""The fields of a record that go with a copy."""


class Local:
    """One side of a move: the store of ``runtime``."""

    def __init__(self, runtime: Runtime) -> None:
        self._store, self._registry, self._fleet = runtime.store, runtime.registry, runtime.fleet
        self._freezer = Freezer(runtime.store, runtime.leases, runtime.fleet)

    @property
    def name(self) -> str:
        """The host's name."""
        return self._store.host.capabilities.name

    async def identity(self) -> str:
        """The store's own random name; it gets one when it is first asked."""
        host = self._store.host
        for _ in range(3):
            entry = (await host.get([keys.STORE]))[0]
            if entry is not None:
                return str(self._store.codec.decode(entry.value))
            write = Write({keys.STORE: None}, {keys.STORE: self._store.codec.encode(host.entropy(8).hex())})
            await self._store.commit(write)
        raise ConflictError("the store's name was written and is not there; try again")

    async def record(self, id: str) -> ExecutionRecord:
        """The run's record here; ERR_NOT_FOUND without one."""
        return await self._store.record(id)

    async def place(self, id: str) -> Place | None:
        """Where the run's history stands here; None without one."""
        record = await self._store.find(id)
        if record is None:
            return None
        if record.moved_to == DELETING:
            raise gone(record, "move")
        cursor = await self._end(record)
        known = await taken(self._store, record.run)
        return Place(
            id, record.run, record.generation, cursor.length, cursor.head, record.status, record.epoch, record.moved_to,
            max(0, known.last),
        )  # fmt: skip

    async def _end(self, record: ExecutionRecord) -> Cursor:
        """The end of the history as it stands: a record may lag behind it."""
        try:
            raws = await self._commits(record)
        except StoreError as error:
            if record.moved_to == ARRIVING:  # an import was cut off as it made room for what it brings
                raise gone(record, "move") from error
            raise
        return Cursor(len(raws), digest_of(raws[-1]) if raws else MAGIC)

    async def _commits(self, record: ExecutionRecord) -> list[bytes]:
        return await self._store.commits(keys.history(record.run, record.generation))

    async def refuses(self, workflow: str, version: int) -> str | None:
        """Why a run of that workflow could not go on here; None where it can, or where this runtime runs nothing."""
        registry = self._registry
        if registry.knows(workflow, version) or not registry.listed():
            return None
        return f"{workflow!r} version {version} is not among its workflows ({', '.join(registry.listed())})"

    async def digests(self, id: str, generation: int) -> bytes:
        """The digest of every commit of a history, one after the other: 16 bytes each. Empty if it is not there."""
        record = await self._store.record(id)
        return b"".join(map(digest_of, await self._store.commits(keys.history(record.run, generation))))

    # --- as the source ---------------------------------------------------------------------------------------------
    async def part(self, id: str, at: Place | None) -> bytes:
        """The next part for a store that stands at ``at``; empty when that store has it all.

        ERR_CONFLICT when ``at`` is not a place in this history; ``detail["parted"]`` where the run is the same.
        """
        record = await self._store.record(id)
        if record.moved_to in (ARRIVING, DELETING):
            raise gone(record, "sync")
        record, commits = await self._store.whole(record)
        first = await self._checked(record, commits, at)
        if first == len(commits):
            return b""
        cursor = Cursor(first, digest_of(commits[first - 1]) if first else MAGIC)
        before, size, chosen = cursor.head, 0, list[bytes]()
        blobs: dict[bytes, bytes] = {}
        for raw in commits[first:]:
            if chosen and size + len(raw) > PART_BYTES:
                break
            for ref in blobs_of(event for _, event in cursor.advance(raw, self._store.codec)):
                if ref.digest not in blobs:
                    blobs[ref.digest] = self._store.codec.encode_whole(await self._store.blob(record.run, ref))
                    size += ref.size
            chosen.append(raw)
            size += len(raw)
        part = Part(
            id, record.run, record.workflow, record.version, record.generation, record.epoch, first, before,
            {name: getattr(record, name) for name in _CARRIED}, chosen, list(blobs.values()),
        )  # fmt: skip
        return parts.encode(part, self._store.codec)

    async def _checked(self, record: ExecutionRecord, commits: list[bytes], at: Place | None) -> int:
        """How many commits of the present history the other store has."""
        if at is None:
            return 0
        if at.run != record.run:
            raise ConflictError(
                f"the target holds another run under the id {record.id!r}: delete it there, or choose another id",
                id=record.id,
            )
        there = commits
        if at.generation < record.generation:
            there = await self._store.commits(keys.history(record.run, at.generation))
            if not there:  # forgotten here: of one run id, and older
                return 0
        ahead = at.generation > record.generation or at.length > len(there)
        if ahead or (at.length and digest_of(there[at.length - 1]) != at.head):
            raise ConflictError(f"run {record.id!r} went on at the target", id=record.id, parted=True)
        return at.length if at.generation == record.generation else 0

    async def freeze(self, id: str, name: str, store: str) -> bytes:
        """Stop the run here, on its way to the store ``store``; the letter that hands it over.

        Empty for a run that has ended: it is nobody's. Doing it again gives the same letter; towards another store it
        is ERR_CONFLICT.
        """
        mark = f"{name} [{store}]"
        record = await self._freezer.freeze(id, mark + UNCONFIRMED)
        if record.moved_to is None:
            return b""
        if f"[{store}]" not in record.moved_to:
            raise gone(record, "hand over")
        commits = await self._commits(record)
        cursor, events = decode_all(commits, self._store.codec)
        letter = Letter(
            store, id, record.run, record.generation, record.epoch, cursor.length, cursor.head,
            await arriving.requests_of(self._store, record),
            await arriving.ends(self._store, keys.markers(record.run)),
            await shared_by(self._store, Header.from_map(started(events[0][0][1] if events else None).header)),
        )  # fmt: skip
        return parts.encode(letter, self._store.codec)

    async def confirm(self, id: str, store: str) -> None:
        """Note that the store has taken the run over: its history may be deleted here from now on."""
        while True:
            record = await self._store.record(id)
            moved = record.moved_to
            if moved is None or not moved.endswith(f"[{store}]{UNCONFIRMED}"):
                return
            record.moved_to = moved.removesuffix(UNCONFIRMED)
            write = Write({keys.record(id): record.version_tag})
            self._store.put_record(write, record, indexes_of(record))
            if not isinstance(await self._store.commit(write), Conflict):
                return

    # --- as the target ---------------------------------------------------------------------------------------------
    async def accept(self, part: bytes) -> Place:
        """Store a part: verified first, bounded and in canonical form, then written so that the copy is whole up to it.

        A part that is here already changes nothing. ERR_CONFLICT: the run goes on here, the id is another run's, or the
        part does not follow from what is here. ERR_INVALID_INPUT and ERR_STORE: the part is not sound.
        """
        given, contents = parts.decode_part(part, self._store.codec)
        record = await self._store.find(given.id)
        if record is None:
            end = Cursor()
        else:
            if record.moved_to == DELETING:
                raise gone(record, "sync")
            if record.run != given.run:
                raise ConflictError(f"another run has the id {given.id!r} here: delete it first", id=given.id)
            end = await self._end(record) if given.generation == record.generation else Cursor()
            if given.generation < record.generation or given.first + len(given.commits) <= end.length:
                return await self._there(given.id)
            self._accepts(record, given, await taken(self._store, record.run))
        heads = [given.before, *map(digest_of, given.commits)]
        skip = end.length - given.first
        if skip < 0 or heads[skip] != end.head:
            raise ConflictError(
                f"the part does not follow from the {end.length} commits that are here: sync again", id=given.id
            )
        await self._append(record, given, contents, skip)
        return await self._there(given.id)

    async def _there(self, id: str) -> Place:
        place = await self.place(id)
        if place is None:
            raise NotFound(f"run {id!r} was deleted here meanwhile", id=id)
        return place

    def _accepts(self, record: ExecutionRecord, part: Part, known: Any) -> None:
        """ERR_CONFLICT where the run lives here and is not a copy to be brought up to date."""
        held = record.owner is not None or record.status not in ("paused", "failed")
        if record.moved_to is None and (held or part.epoch <= known.last):
            raise ConflictError(
                f"run {record.id!r} is {record.status} here and may go on: only a paused copy is brought up to date",
                id=record.id,
                status=record.status,
            )

    async def _append(self, record: ExecutionRecord | None, part: Part, contents: Contents, skip: int) -> None:
        """Write commits behind what is there, a batch at a time, each with the record that says how far it goes."""
        store, name = self._store, keys.history(part.run, part.generation)
        if record is not None and record.moved_to == BUNDLE:  # what it was asked here went with the file, and is done
            fence: dict[str, str | None] = {keys.record(record.id): record.version_tag}
            if not await store.purge([keys.requests(record.id)], fence):
                raise arriving.changed(record.id)
        blobs: dict[str, bytes] = {}
        for blob in part.blobs:
            store._chunked(blob, part.run, blobs)
        await put_in_batches(store, blobs)
        sealing = 0 if await store.host.list(keys.commits(name), "", 1) else store.limits.segment_commits
        at, limits = skip, store.limits
        while at < len(part.commits):
            count = segments.cut(part.commits, at, sealing or segments.keys_of(limits), segments.room_of(limits))
            first = part.first + at
            chosen = part.commits[at : at + count]
            if sealing:
                puts = {keys.segment(name, first): b"".join(chosen)}
            else:
                puts = {keys.commit(name, first + n): raw for n, raw in enumerate(chosen)}
            at += count
            last = contents.last if at == len(part.commits) else None
            record = await self._put(record, part, contents.times[at - 1], last, chosen[-1], first + count, puts)
        if record is not None and record.generation >= 2:
            await forget_older(self._store, record)

    async def _put(
        self,
        before: ExecutionRecord | None,
        part: Part,
        time_ms: int,
        last: ev.Event | None,
        raw: bytes,
        length: int,
        puts: dict[str, bytes],
    ) -> ExecutionRecord:
        """One batch: commits, and the record as of the last of them; ``last``: the last event of all that come."""
        now = self._store.host.now_ms()
        record = ExecutionRecord(
            part.id, part.run, part.workflow, part.version, "paused", now, now, generation=part.generation,
            cursor_length=length, head=digest_of(raw), epoch=part.epoch,
        )  # fmt: skip
        for name in _CARRIED:
            if name != "failure" and name in part.record:
                setattr(record, name, part.record[name])
        record.copy = before is None or before.moved_to is None
        if before is not None:
            # What left from here keeps its epoch: the letter that brings it back must be above it.
            left = before.moved_to not in (None, ARRIVING)
            record.epoch = before.epoch if left else max(before.epoch, part.epoch)
            record.moved_to = before.moved_to
            if record.moved_to == BUNDLE:  # it went on since, so the file was taken over: it is no ticket any more
                record.moved_to, record.copy = None, True
            elif left and record.moved_to is not None:
                record.moved_to = record.moved_to.removesuffix(UNCONFIRMED)
        ref = await self._ended(record, part, last)
        record.copy = record.copy and not record.finished
        if length == 1 and not record.finished:  # resumed here, it does not begin before its time
            begins_at = creation.begins_at(record, time_ms, 1, now)
            if begins_at is not None:
                record.begin_at(begins_at)
        write = Write({keys.record(part.id): before.version_tag if before is not None else None})
        write.checks[next(iter(puts))] = None
        self._store.put_record(write, record, indexes_of(before) if before is not None else None, ref)
        write.puts.update(puts)
        outcome = await self._store.commit(write)
        if isinstance(outcome, Conflict):
            raise ConflictError(f"run {part.id!r} was changed here meanwhile: sync again", id=part.id)
        record.version_tag = outcome.version
        return record

    async def _ended(self, record: ExecutionRecord, part: Part, last: ev.Event | None) -> BlobRef | None:
        """Set the status of a run that ends with ``last``; where its result stands, if that is large."""
        if isinstance(last, ev.Completed):
            record.status, record.result, record.moved_to = "completed", last.value, None
            if type(last.value) is BlobRef:
                record.result = await self._store.blob(record.run, last.value)
                return last.value
        elif isinstance(last, ev.Failed):
            record.status, record.failure, record.moved_to = "failed", last.failure, None
        elif isinstance(last, ev.Cancelled):
            record.status, record.failure, record.moved_to = "cancelled", part.record.get("failure"), None
        return None

    async def take_over(self, letter: bytes) -> Place:
        """Activate the run here: its history must be here already, exactly as the letter says.

        The same letter again changes nothing, also when the run has gone on, ended, or was deleted meanwhile: then the
        answer is where it stands now.
        """
        given = parts.decode_letter(letter, self._store.codec)
        if given.to != await self.identity():
            raise InvalidInput("this run is on its way to another store: nothing was changed")
        known = await taken(self._store, given.run)
        if known.again(given.epoch, given.head):
            place = await self.place(given.id)
            if place is None or place.run != given.run:
                return Place(given.id, given.run, given.generation, given.length, given.head, "deleted", given.epoch,
                             None, known.epoch)  # fmt: skip
            return place
        record = await self._store.record(given.id)
        if record.moved_to == DELETING:
            raise gone(record, "take over")
        end = await self._end(record)
        here = (record.run, record.generation, end.length, end.head)
        if here != (given.run, given.generation, given.length, given.head):
            raise ConflictError(
                f"the copy of run {given.id!r} that is here is not what was frozen at its source: sync it again",
                id=given.id,
            )
        if record.moved_to != ARRIVING and not may_be_replaced(record, given.epoch):
            raise ConflictError(
                f"run {given.id!r} is {record.status} here: only a paused copy is taken over", id=given.id
            )
        epoch = max(record.epoch, given.epoch) + 1
        # A store that took it over has used up this epoch. So the run has been nowhere, and nothing is to be brought.
        back = record.moved_to not in (None, ARRIVING) and given.epoch == record.epoch + 1
        if not back:
            await arriving.claim(self._store, record)
            await arriving.bring(self._store, record, given.requests, given.markers)
        before, now = indexes_of(record), self._store.host.now_ms()
        record.status, record.wake_at, record.waiting = "suspended", now, ["its new host"]
        if given.length == 1:  # it may not have begun, and then does not by its move
            commits = await self._store.events(keys.history(record.run, record.generation), record.run)
            begins_at = creation.begins_at(record, commits[0][0][0], 1, now)
            if begins_at is not None:
                record.begin_at(begins_at)
        arrived = await arriving.ends(self._store, keys.requests(record.id))
        if sending.leaves_paused(self._store.codec, arrived):
            record.status, record.wake_at = "paused", record.begins_at
        lease.free(record)
        record.moved_to = None
        record.epoch, record.updated_at = epoch, now
        write = Write({keys.record(given.id): record.version_tag})
        self._store.put_record(write, record, before)
        known.note(write, given.epoch, given.head)
        if not back:
            write.puts.update((keys.shared(a[0]), self._store.codec.encode(a[1:])) for a in given.shared)
        if isinstance(await self._store.commit(write), Conflict):
            raise arriving.changed(given.id)
        self._fleet.poke(given.id)
        return await self._there(given.id)

    # --- back to the source ----------------------------------------------------------------------------------------
    async def renounce(self, letter: bytes, to: str) -> bytes:
        """Take the hand-over of ``letter`` over no more, whoever brings it; the letter that takes it back to ``to``.

        Doing it again gives the same letter. ERR_CONFLICT where it was taken over already: it is handed back then.
        """
        given = parts.decode_letter(letter, self._store.codec)
        if given.to != await self.identity():
            raise InvalidInput("this run is on its way to another store: nothing was changed")
        known = await taken(self._store, given.run)
        if known.last >= given.epoch:
            there = await self._store.find(given.id)
            again = "again, which hands it back"
            if there is None or there.run != given.run:  # it ended here
                again = "from where it comes from to here, which notes that; it is not here any more"
            raise ConflictError(f"run {given.id!r} was taken over here: call hand_over {again}", id=given.id)
        write = Write()
        known.renounce(write, given.epoch, to)
        if isinstance(await self._store.commit(write), Conflict):
            raise arriving.changed(given.id)
        given.to, given.epoch = to, given.epoch + 1
        return parts.encode(given, self._store.codec)

    async def reclaim(self, id: str, lost: str) -> Place:
        """Go on here with a run that was handed over to the store ``lost``, which is gone for good."""
        record = await self._store.record(id)
        if record.moved_to is None:
            return await self._there(id)
        if record.moved_to in (ARRIVING, DELETING, BUNDLE):
            raise gone(record, "reclaim")
        if f"[{lost}]" not in record.moved_to:
            raise InvalidInput(
                f"run {id!r} was handed over to {record.moved_to}: give the name that stands in the brackets, to say "
                "that this very store is lost"
            )
        end, here = await self._end(record), await self.identity()
        letter = Letter(here, id, record.run, record.generation, record.epoch + 1, end.length, end.head, [], [], [])
        return await self.take_over(parts.encode(letter, self._store.codec))
