"""The requests of a run that is taken over: those that it brings, and those that its copy here was sent meanwhile.

A copy's requests wait: the run may be on its way here, and what was accepted for it must neither part its history nor
be lost. They are read behind those that the run brings, and one whose dedupe key the run has met already is dropped.
"""

from __future__ import annotations

from typing import Any

from .. import keys
from ..codec import Codec
from ..errors import ConflictError
from ..host import Conflict
from ..runs import ExecutionRecord
from . import payloads
from .copying import put_in_batches
from .moved import ARRIVING
from .segments import keys_of, room_of
from .sending import entry_of
from .store import Store
from .write import Write, indexes_of

Ends = list[list[Any]]
"""What stands under a prefix: [the key's last part, bytes]."""


async def announce(store: Store, record: ExecutionRecord) -> ExecutionRecord:
    """Make a record that says that the run of ``record`` is arriving, and return it.

    What comes of the run is written behind checks of it: a write that lands after the run was deleted fails, and where
    whoever brings the run dies, there is something to see and to delete.
    """
    made = ExecutionRecord.from_map({**record.to_map(), "result": None, "failure": None, "copy": False}, "")
    made.status, made.moved_to, made.wake_at, made.epoch = "paused", ARRIVING, None, 0
    write = Write({keys.record(record.id): None})
    store.put_record(write, made)
    outcome = await store.commit(write)
    if isinstance(outcome, Conflict):
        raise changed(record.id)
    made.version_tag = outcome.version
    return made


async def claim(store: Store, record: ExecutionRecord) -> None:
    """Say in the record that the run is arriving: from here on nobody sends it a request, and none takes it up.

    What an earlier stay of the run left in the inbox went with it when it left, and is removed before. The record moves
    each time, so of two who bring the same run at once the earlier one's writes fail their checks.
    """
    fence: dict[str, str | None] = {keys.record(record.id): record.version_tag}
    stays = record.moved_to not in (None, ARRIVING)
    if stays and not await store.purge([keys.requests(record.id)], fence):
        raise changed(record.id)
    before = indexes_of(record)
    record.moved_to, record.copy = ARRIVING, False
    write = Write(fence)
    store.put_record(write, record, before)
    outcome = await store.commit(write)
    if isinstance(outcome, Conflict):
        raise changed(record.id)
    record.version_tag = outcome.version


async def bring(store: Store, record: ExecutionRecord, requests: Ends, markers: Ends) -> None:
    """Write the requests and dedupe markers of a run that was claimed. Cut off anywhere, it may be repeated."""
    fence: dict[str, str | None] = {keys.record(record.id): record.version_tag}
    codec, brought = store.codec, {entry_id(store.codec, raw) for _, raw in requests}
    known = {end: entry_of(codec.decode(raw)) for end, raw in await ends(store, keys.markers(record.run))}
    known.update((end, entry_of(codec.decode(raw))) for end, raw in markers)
    own = set(known.values())
    taken = {end for end, _ in requests}
    drop: list[str] = []
    kept: Ends = []
    there = await ends(store, keys.requests(record.id))
    for end, raw in there:
        entry = entry_id(codec, raw)
        if entry in brought:
            continue  # an earlier try wrote it
        if end.startswith("~"):
            drop += [end] if end in taken else []
        elif entry in own:
            kept.append([end, raw])
        else:
            drop.append(end)
    await _make_room(store, record.id, fence, drop, kept, _last(requests), _last(there))
    puts = {keys.markers(record.run) + end: raw for end, raw in markers}
    for end, raw in requests:
        data, blobs = payloads.fitted(store, record.run, codec.decode(raw))
        puts.update({**blobs, keys.inbox(record.id, end): data})
    if not await put_in_batches(store, puts, fence):
        raise changed(record.id)


async def _make_room(
    store: Store, id: str, fence: dict[str, str | None], drop: list[str], kept: Ends, last: int, highest: int
) -> None:
    """Move what is kept behind the place ``last``, its order as it is: in one batch where the host takes such a one."""
    write = Write(dict(fence), deletes={keys.inbox(id, end) for end in drop})
    size = 0
    move = any(keys.position_of(f"/{end}") <= last for end, _ in kept)
    for n, (end, raw) in enumerate(kept if move else [], max(last, highest) + 1):
        if write.puts and (len(write.puts) >= keys_of(store.limits) // 2 or size + len(raw) > room_of(store.limits)):
            await _apply(store, id, write)
            write, size = Write(dict(fence)), 0
        write.puts[keys.inbox(id, keys.position(n))] = raw
        write.deletes.add(keys.inbox(id, end))
        size += len(raw)
    if write.puts or write.deletes:
        await _apply(store, id, write)


async def _apply(store: Store, id: str, write: Write) -> None:
    if isinstance(await store.commit(write), Conflict):
        raise changed(id)


def _last(found: Ends) -> int:
    """The highest place among requests; those that have a name instead of a number count for none."""
    return max((keys.position_of(f"/{end}") for end, _ in found if not end.startswith("~")), default=0)


def entry_id(codec: Codec, raw: bytes) -> str:
    """The id of the entry that ``raw`` is."""
    return str(codec.decode(raw)[0])


def changed(id: str) -> ConflictError:
    """Somebody wrote the record meanwhile."""
    return ConflictError(f"run {id!r} was changed here meanwhile: do the same again", id=id)


async def ends(store: Store, prefix: str) -> Ends:
    """What stands under a prefix: [the key's last part, bytes]."""
    found: Ends = []
    after = ""
    while True:
        entries = await store.host.list(prefix, after, 500)
        found += [[entry.key.rsplit("/", 1)[1], entry.value] for entry in entries]
        if len(entries) < 500:
            return found
        after = entries[-1].key


async def requests_of(store: Store, record: ExecutionRecord) -> Ends:
    """The unread requests of a run as they go with it, large payloads within them."""
    found = await ends(store, keys.requests(record.id))
    return [[end, await payloads.whole(store, record.run, raw)] for end, raw in found]
