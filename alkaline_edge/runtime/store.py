"""The store as the runtime sees it: records, histories, inboxes and blobs over the host's three callbacks.

All commits of the runtime go through ``Store.commit``, which never believes a lost answer or a conflict before it has
read back: an entry's version is the id of the batch that put it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from .. import keys
from ..activations import TOGETHER
from ..codec import BlobRef, Codec
from ..errors import AlkalineError, NotFound, StoreError, UnknownOutcome, Unopened, UnreadableValue
from ..events import STARTED, Event, with_items
from ..history import CARRIED, Timed, blobs_of, check_end, decode_all
from ..host import Batch, Check, Committed, Conflict, Entry, Host, Put, commits_now
from ..runs import ExecutionRecord
from . import pages, unreadable
from .moved import ARRIVING, DELETING, gone
from .unreadable import SPILLED, Unreadable
from .write import NOTHING, Write, indexes_of

T = TypeVar("T")
_SMALL = (type(None), bool, float, datetime, BlobRef)
"""Types of items of an event that are never kept in blobs; no integer of 64 bits or less is either."""
_TRIES = 6
PAGE = 500
"""Commits of a history that are read, and replayed, at a time."""


class Store:
    """Typed access to one host."""

    def __init__(self, host: Host, codec: Codec) -> None:
        self.codec, self.unreadable = codec, Unreadable(self)
        self._under_way = 0
        self._held: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.use(host)

    def use(self, host: Host) -> None:
        """Be the store of ``host`` from here on, for all who hold this object."""
        self.host, self.limits = host, host.capabilities
        self.now, self._ids = commits_now(host), list[str]()
        self.inbox_ends: dict[str, int] = {}  # by run: where the last request of ours stands in its inbox

    async def hold(self) -> Callable[[], None]:
        """Begin no commit from here on, for all who hold this object, and return once none is under way.

        What comes meanwhile waits until the function that is returned is called, and then goes to the host of then.
        Commits that were made for another host carry versions that this one does not have: they are conflicts, and
        whoever made them reads again.
        """
        while self._held is not None:  # another move of this process
            await asyncio.shield(self._held)
        loop = asyncio.get_running_loop()
        self._held = held = loop.create_future()
        self._drained = drained = loop.create_future()

        def release() -> None:
            self._held = None
            held.set_result(None)

        try:
            if self._under_way:
                await drained
        except BaseException:
            release()
            raise
        return release

    # --- commits ---------------------------------------------------------------------------------------------------
    async def commit(self, write: Write) -> Committed | Conflict:
        """Apply ``write``, and find out what became of it when the answer is lost.

        Its proof is what is read back. A batch whose answer was lost and that is not found is sent again under a new
        id: should the first still land, its checks fail, since each write of ours moves a key that it checks.
        """
        while self._held is not None:
            await asyncio.shield(self._held)
        self._under_way += 1
        try:
            new = tuple.__new__  # a step costs one commit, so each call in here counts
            checks = tuple([new(Check, item) for item in write.checks.items()])
            puts = tuple([new(Put, item) for item in write.puts.items()])
            deletes = tuple(write.deletes - write.puts.keys()) if write.deletes else ()
            tried: list[str] = []
            lost = False
            for attempt in range(_TRIES):
                id = self.host.entropy(8).hex()
                tried.append(id)
                try:
                    outcome = await self.host.commit(new(Batch, (id, checks, puts, deletes)))
                except Exception as error:
                    if isinstance(error, AlkalineError) and not isinstance(error, UnknownOutcome):
                        raise
                    if attempt:
                        await self.host.sleep(min(2.0, 0.05 * 2**attempt))
                    outcome, lost = None, True
                if isinstance(outcome, Committed):
                    return outcome
                landed = await self._landed(write, tried, lost)
                if landed is not None:
                    return landed
                if outcome is not None:
                    return outcome
            raise UnknownOutcome(
                f"the store did not answer {_TRIES} commits in a row; it is not known whether the last one was "
                "applied. The run goes on from what was recorded once the store answers again"
            )
        finally:
            self._under_way -= 1
            if self._held is not None and not self._under_way and self._drained is not None:
                self._drained.set_result(None)

    def commit_now(self, checks: Iterable[tuple[str, str | None]], key: str, value: bytes) -> Committed | None:
        """Put one key without a wait, where the host can. None: by ``commit``, for that or for what went wrong.

        Should it have been written all the same, its key is taken: ``commit`` finds a conflict, and the run is read.
        """
        if self.now is None or self._held is not None:
            return None
        ids, new = self._ids, tuple.__new__
        if not ids:
            drawn = self.host.entropy(512).hex()
            ids += [drawn[n : n + 16] for n in range(0, 1024, 16)]
        batch = new(Batch, (ids.pop(), tuple([new(Check, item) for item in checks]), (new(Put, (key, value)),), ()))
        try:
            outcome = self.now(batch)
        except Exception:
            return None
        return outcome if isinstance(outcome, Committed) else None

    async def _landed(self, write: Write, tried: list[str], lost: bool) -> Committed | None:
        proof = next(iter(write.puts), None) if write.proof is None else write.proof
        if proof is None:
            return None
        for attempt in range(_TRIES):
            try:
                entry = (await self.host.get([proof]))[0]
                return Committed(entry.version) if entry is not None and entry.version in tried else None
            except UnreadableValue as error:  # the store did answer: what is there is not to be read, now or later
                if not lost:
                    raise
                raise UnknownOutcome(
                    f"the answer to a commit was lost, and what is there now can't be read: {error}", **error.detail
                ) from error
            except Exception as error:
                if isinstance(error, AlkalineError) and not isinstance(error, (StoreError, UnknownOutcome)):
                    raise
                await self.host.sleep(min(2.0, 0.05 * 2**attempt))
        raise UnknownOutcome("the store answered neither a commit nor the question what became of it; try again later")

    # --- records ---------------------------------------------------------------------------------------------------
    async def find(self, id: str) -> ExecutionRecord | None:
        """The record of ``id``, None if there is no such run."""
        entry = (await self.host.get([keys.record(id)]))[0]
        return None if entry is None else await self.record_of(entry)

    async def record(self, id: str) -> ExecutionRecord:
        """The record of ``id``; ERR_NOT_FOUND if there is no such run."""
        record = await self.find(id)
        if record is None:
            raise NotFound(f"there is no run {id!r} in this store; list_executions() shows what is there", id=id)
        return record

    async def records(self, ids: list[str]) -> list[ExecutionRecord]:
        """The records of those of ``ids`` that there are and that can be read. The others are named in the log."""
        return (await self.unreadable.records(ids))[0]

    async def record_of(self, entry: Entry) -> ExecutionRecord:
        """The record that an entry holds, what is large of it read from blobs. UnreadableValue: it is damaged."""
        try:
            record = unreadable.record_of(self.opened(entry), entry)
        except (AlkalineError, ValueError, TypeError) as error:
            id = entry.key.removeprefix(keys.RECORDS)
            raise unreadable.why(f"the record of run {id!r}", entry.key, error) from None
        for name in SPILLED:
            ref = getattr(record, name)
            if type(ref) is BlobRef:
                setattr(record, name, await self.blob(record.run, ref))
        return record

    def opened(self, entry: Entry) -> Any:
        """The value of an entry. StoreError where it can't be read."""
        if type(entry.value) is Unopened:
            raise entry.value.error
        return self.codec.decode(entry.value)

    def put_record(
        self, write: Write, record: ExecutionRecord, before: set[str] | None = None, result: Any = None
    ) -> None:
        """Add the record to ``write``, what is large of it as blobs. ``before``: its index keys as stored.

        ``result`` stands for its result, or for its failure if it has failed: a BlobRef of what is stored already.
        """
        values = record.to_map()
        if result is not None:
            values["failure" if record.status == "failed" else "result"] = result
        data, blobs = self.codec.encode_whole(values, "record"), dict[str, bytes]()
        if len(data) > self.limits.inline_limit:
            for name in SPILLED:
                part = self.codec.encode_whole(values[name])
                if len(part) > self.limits.inline_limit // len(SPILLED):
                    values[name] = self._chunked(part, record.run, blobs)
            data = self.codec.encode_whole(values, "record")
        write.puts[keys.record(record.id)] = data
        write.puts.update(blobs)
        written = self.codec.encode(self.host.now_ms()) if record.wake_at is not None else NOTHING
        write.index(before if before is not None else set(), indexes_of(record), written)

    # --- histories -------------------------------------------------------------------------------------------------
    async def pages(self, name: str) -> AsyncIterator[list[Entry]]:
        """The keys of a history, in order, a page at a time: commits of their own, or one segment.

        Where commits are sealed into segments, those that are not sealed yet are read first: what is sealed between
        the two listings is then found twice, and not missed. Some may stand between two segments: large ones, and
        those that alkaline_edge 0.1 left out of a segment that large values had cut short.
        """
        loose: deque[Entry] | None = None
        if self.limits.segment_commits:
            loose = deque([entry async for page in self._listed(keys.commits(name), PAGE) for entry in page])
        async for entries in self._listed(keys.segments(name), 16):
            for entry in entries:
                before = pages.between(entry, loose)
                if before:
                    yield before
                yield [entry]
        async for entries in self._listed(keys.commits(name), PAGE) if loose is None else pages.once(list(loose)):
            if entries:
                yield entries

    async def _listed(self, prefix: str, limit: int) -> AsyncIterator[list[Entry]]:
        after = ""
        while True:
            entries = await self.host.list(prefix, after, limit)
            yield entries
            if len(entries) < limit:
                return
            after = entries[-1].key

    async def commits(self, name: str) -> list[bytes]:
        """Every commit of a history, without a gap."""

        async def read() -> list[bytes]:
            found: list[bytes] = []
            async for entries in self.pages(name):
                found += pages.fresh(entries, len(found))
            return found

        return await self.without_gap(read)

    async def whole(self, record: ExecutionRecord) -> tuple[ExecutionRecord, list[bytes]]:
        """A run's history and the record that belongs to it: one that ends while its history is read is read again.

        The commits of steps leave the record as it was, so of a run that goes on it may lag behind; at the end of a
        run it holds what was spent, and a copy of that run is never brought up to date again.
        """
        while True:
            commits = await self.commits(keys.history(record.run, record.generation))
            now = await self.find(record.id)
            if now is not None and now.moved_to in (ARRIVING, DELETING):  # part of it is not here, and nothing was lost
                raise gone(now, "read")
            same = (record.run, record.generation, record.finished)
            if now is None or (now.run, now.generation, now.finished) == same:
                check_end(commits, record.cursor_length, record.head, record.id)
                return record, commits
            record = now

    async def without_gap(self, read: Callable[[], Awaitable[T]]) -> T:
        """What ``read`` returns; a gap is read again, since a segment may be sealed between the two listings."""
        for _ in range(3):
            try:
                return await read()
            except pages.Gap:
                continue
        raise StoreError("the history has a gap: commits are missing from the store; restore it from a backup")

    async def events(self, name: str, run: str) -> list[list[Timed]]:
        """The decoded events of a history, commit by commit, large values read in."""
        found = decode_all(await self.commits(name), self.codec)[1]
        return [await self.fill(events, run) for events in found]

    async def fill(self, events: Sequence[tuple[int, Any]], run: str) -> list[tuple[int, Any]]:
        """``events``, also such as stand together, with the large values in place of their references."""
        if not blobs_of(event for _, event in events):
            return list(events)
        filled: list[tuple[int, Any]] = []
        for time_ms, event in events:
            if event[0] == TOGETHER:
                several = await self.fill([(time_ms, one) for one in event.events], run)
                event = event._replace(events=[one for _, one in several])
            items: list[Any] = [await self.blob(run, item) if type(item) is BlobRef else item for item in event]
            if event[0] == STARTED and type(items[1].get(CARRIED)) is BlobRef:
                items[1] = {**items[1], CARRIED: await self.blob(run, items[1][CARRIED])}
            filled.append((time_ms, with_items(event, items)))
        return filled

    # --- large values ----------------------------------------------------------------------------------------------
    def spill(self, events: Iterable[Event], run: str, most: int | None = None) -> tuple[list[Event], dict[str, bytes]]:
        """``events`` with values above ``most`` bytes replaced by references, and the blob keys to put.

        ``most`` is the inline limit; less where a commit would be larger than the store takes all the same.
        """
        most = most or self.limits.inline_limit
        blobs: dict[str, bytes] = {}
        slim: list[Event] = []
        for event in events:
            items: list[Any] = list(event)
            for n, item in enumerate(items):
                if n == 1 and event[0] == STARTED:  # a reader needs the rest of it before it can fill anything
                    data = self.codec.encode_whole(item[CARRIED])
                    if len(data) > most:
                        items[n] = {**item, CARRIED: self._chunked(data, run, blobs)}
                    continue
                if type(item) not in _SMALL and (type(item) is not int or item.bit_length() > 64):
                    data = self.codec.encode_whole(item)
                    if len(data) > most:
                        items[n] = self._chunked(data, run, blobs)
            slim.append(with_items(event, items))
        return slim, blobs

    def reference(self, value: Any) -> BlobRef | None:
        """The reference to a value that is kept in blobs; None for one that is kept where it stands."""
        data = self.codec.encode_whole(value)
        return BlobRef(sha256(data).digest(), len(data)) if len(data) > self.limits.inline_limit else None

    async def keys_of_blob(self, run: str, ref: BlobRef) -> list[str]:
        """The keys of a large value's chunks."""
        prefix = keys.chunks(run, ref.digest)
        found: list[str] = []
        size = 0
        while size < ref.size:
            page = await self.host.list(prefix, found[-1] if found else "", 16)
            if not page:
                break
            found += [entry.key for entry in page]
            size += sum(len(entry.value) for entry in page)
        return found

    def _chunked(self, data: bytes, run: str, blobs: dict[str, bytes]) -> BlobRef:
        digest = sha256(data).digest()
        most = min(self.limits.max_value, self.limits.max_batch_bytes)
        size = most - min(1024, most // 2)
        for n, start in enumerate(range(0, len(data), size)):
            blobs[keys.blob(run, digest, n)] = data[start : start + size]
        return BlobRef(digest, len(data))

    async def put_ahead(self, write: Write) -> None:
        """Write the blobs of a run that is not there yet, where one batch can't hold them with the rest."""
        if sum(map(len, write.puts.values())) > self.limits.max_batch_bytes:
            blobs = {key: write.puts.pop(key) for key in list(write.puts) if key.startswith(keys.BLOBS)}
            await self.put_blobs(blobs, {})

    async def outside(self, value: Any, run: str, checks: dict[str, str | None]) -> Any:
        """``value``, or a reference to it once it is written, where it is large."""
        data, blobs = self.codec.encode_whole(value), dict[str, bytes]()
        if len(data) <= self.limits.inline_limit:
            return value
        ref = self._chunked(data, run, blobs)
        await self.put_blobs(blobs, checks)  # on a conflict the batch that refers to it meets the same one
        return ref

    async def put_blobs(self, blobs: dict[str, bytes], checks: dict[str, str | None]) -> bool:
        """Write blob keys ahead of the commit that refers to them; False on a conflict. Repeating it is harmless."""
        for key, value in blobs.items():
            if isinstance(await self.commit(Write(dict(checks), {key: value})), Conflict):
                return False
        return True

    async def blob(self, run: str, ref: BlobRef) -> Any:
        """The large value of ``ref``, verified against its digest."""
        prefix = keys.chunks(run, ref.digest)
        chunks: list[bytes] = []
        after = ""
        while sum(map(len, chunks)) < ref.size:
            entries = await self.host.list(prefix, after, 16)
            if not entries:
                break
            chunks.extend(entry.value for entry in entries)
            after = entries[-1].key
        data = b"".join(chunks)
        if len(data) != ref.size or sha256(data).digest() != ref.digest:
            raise UnreadableValue(
                "a large value of the history is missing or damaged in the store; restore it", run=run, reason="missing"
            )
        return self.codec.decode(data)

    # --- whole prefixes --------------------------------------------------------------------------------------------
    async def keys_under(self, prefix: str) -> list[str]:
        """Every key that starts with ``prefix``."""
        found: list[str] = []
        while True:
            entries = await self.host.list(prefix, found[-1] if found else "", 500)
            found.extend(entry.key for entry in entries)
            if len(entries) < 500:
                return found

    async def purge(self, prefixes: Iterable[str], checks: dict[str, str | None] | None = None) -> bool:
        """Delete everything under ``prefixes``, some keys at a time; repeating it is harmless.

        False as soon as ``checks`` do not hold.
        """
        for prefix in prefixes:
            while True:
                entries = await self.host.list(prefix, "", min(200, self.limits.max_batch_keys))
                if not entries:
                    break
                write = Write(dict(checks or {}), deletes={entry.key for entry in entries})
                if isinstance(await self.commit(write), Conflict):
                    return False
        return True
