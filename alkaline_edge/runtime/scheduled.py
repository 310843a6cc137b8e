"""Runs that begin at a time to come: what is asked of them before is kept, or done without beginning them."""

from __future__ import annotations

from .. import events as ev
from .. import keys, lifecycle
from ..errors import StoreError
from ..history import Cursor, digest_of
from ..host import Conflict
from ..runs import ExecutionRecord
from . import payloads
from .requests import Request, read_request
from .store import Store
from .telling import Teller
from .write import Write, indexes_of

_AT_ONCE = 40
_LOOK_AGAIN_MS = 60_000


class Scheduled:
    """What one runtime knows of runs that have not begun."""

    def __init__(self, store: Store, teller: Teller) -> None:
        self._store, self._teller = store, teller
        self._kept: dict[str, tuple[int, str]] = {}
        """By id: until when (ms since 1970) nothing new is to be done for the run, up to which entry of its inbox."""

    def early(self, record: ExecutionRecord) -> bool:
        """Whether the run must not begin yet: its time has not come, or it was paused before."""
        at = record.begins_at
        return at is not None and (record.status == "paused" or at > self._store.host.now_ms())

    async def attend(self, record: ExecutionRecord) -> bool:
        """Do what is asked of a run that has not begun: pause, resume, cancel. True where its record has changed.

        Signals and updates stay in its inbox: its handler finds them when it has begun.
        """
        store, id = self._store, record.id
        before, prefix = indexes_of(record), keys.requests(record.id)
        write = Write({keys.record(id): record.version_tag})
        cancel: Request | None = None
        kept, after = "", ""
        while cancel is None and len(write.deletes) < _AT_ONCE:
            page = await store.unreadable.entries(prefix, after, _AT_ONCE)
            for entry in page:
                request = read_request(entry, store)
                if request.kind == "cancel":
                    cancel = request
                    break
                if request.kind in ("pause", "resume"):
                    record.status = "paused" if request.kind == "pause" else "suspended"
                    record.copy = record.copy and request.kind == "pause"
                    write.deletes.add(entry.key)
                else:
                    kept = entry.key
            if len(page) < _AT_ONCE:
                break
            after = page[-1].key
        self._kept.pop(id, None)
        if cancel is not None:
            await self._cancel(record, before, write, await payloads.read(store, record.run, cancel.payload))
            return True
        if write.deletes:
            store.put_record(write, record, before)
            await store.commit(write)  # a conflict is met by whoever reads the record again
            return True
        if kept:
            now = self._store.host.now_ms()
            until = now + _LOOK_AGAIN_MS if record.status == "paused" else record.begins_at or now
            self._kept[id] = (until, kept)
        return False

    async def attended(self, id: str) -> bool:
        """Whether the run has not begun, and all that is asked of it was looked at here already."""
        until, kept = self._kept.get(id, (0, ""))
        if until > self._store.host.now_ms():
            return not await self._store.unreadable.entries(keys.requests(id), kept, 1)
        self._kept.pop(id, None)
        return False

    async def _cancel(self, record: ExecutionRecord, before: set[str], write: Write, reason: str | None) -> None:
        """End the run without its handler: the history says so by a Cancelled that stands right behind Started."""
        store, cursor = self._store, Cursor()
        name, now = keys.history(record.run, record.generation), self._store.host.now_ms()
        for raw in await store.commits(name):
            cursor.advance(raw, store.codec)
        if cursor.length != 1:
            raise StoreError(
                f"run {record.id!r} has begun, and its record does not know of it: restore it", id=record.id
            )
        raw = cursor.encode(now, [ev.Cancelled(ev.CANCELLED, reason)], store.codec)
        record.end_cancelled(reason)
        record.cursor_length, record.head, record.updated_at = 2, digest_of(raw), now
        key, inbox = keys.commit(name, 1), keys.requests(record.id)
        write.checks[key] = None
        write.puts[key] = raw
        unread = await store.keys_under(inbox)
        write.deletes.update(unread[:_AT_ONCE])
        store.put_record(write, record, before)
        outcome = await store.commit(write)
        if isinstance(outcome, Conflict):
            return
        if len(unread) > _AT_ONCE:
            await store.purge((inbox,), {keys.record(record.id): outcome.version})
        self._teller.saw(record)
        self._teller.tell(lifecycle.RunWasCancelled(record.id, now, reason))
