"""What a run that continues as new for ever leaves behind, deleted when it is old: so such a run stays bounded.

Of a generation that is over, the history is kept until the next one is over too, and so are the large values that
nothing newer refers to. The marker of a request and the reply to an update are kept as long, and longer while they are
among the newest. All of this is deleted right before the commit that ends a generation, so a crash in between leaves
nothing: the generation is ended again.
"""

from __future__ import annotations

from typing import Any

from .. import keys
from ..codec import BlobRef
from ..history import Cursor, blobs_of
from ..host import Conflict
from ..runs import ExecutionRecord, Header
from .sending import entry_of
from .store import Store
from .write import Write

KEPT = 100
"""So many dedupe keys, markers of requests without one, and replies are kept of a run, whatever their age."""
_EVERY = 16
"""Markers are looked through once in so many generations, or after a generation with many requests."""
_MANY = 100
_AT_ONCE = 100


async def forget(store: Store, header: Header, fence: dict[str, str | None], requests: int) -> bool:
    """Delete what is old once the generation of ``header`` is over; False as soon as ``fence`` does not hold.

    ``requests``: how many this generation has consumed.
    """
    if header.generation < 1:
        return True
    old = keys.history(header.run, header.generation - 1)
    kept = True
    if await store.host.list(keys.blobs(header.run), "", 1) and await _has_its_beginning(store, old):
        kept = await _forget_values(store, header.run, old, keys.history(header.run, header.generation), fence)
    kept = kept and await store.purge((keys.segments(old), keys.commits(old)), fence)
    if kept and (header.generation % _EVERY == 0 or requests >= _MANY):
        kept = await _forget_markers(store, header.run, header.generation, fence)
    return kept


async def _has_its_beginning(store: Store, name: str) -> bool:
    """False where an earlier try was cut off while it deleted the history: by then its values were gone already.

    What is left of it can't be read, and need not be.
    """
    first = await store.host.list(keys.segments(name), "", 1)
    if first and keys.position_of(first[0].key) == 0:
        return True
    return (await store.host.get([keys.commit(name, 0)]))[0] is not None


async def _forget_values(store: Store, run: str, old: str, present: str, fence: dict[str, str | None]) -> bool:
    gone = await _refs(store, old) - await _refs(store, present)
    doomed = [key for ref in gone for key in await store.keys_of_blob(run, ref)]
    return await _delete(store, doomed, fence)


async def _refs(store: Store, name: str) -> set[BlobRef]:
    cursor = Cursor()
    commits = [cursor.advance(raw, store.codec) for raw in await store.commits(name)]
    return {ref for commit in commits for ref in blobs_of(event for _, event in commit)}


async def _forget_markers(store: Store, run: str, generation: int, fence: dict[str, str | None]) -> bool:
    """The markers of generations before the present one, but for the newest, and the replies that go with them."""
    groups: dict[str, list[tuple[int, int, str, str]]] = {}
    after = ""
    while True:
        page = await store.host.list(keys.markers(run), after, 500)
        for entry in page:
            marker: Any = store.codec.decode(entry.value)
            id = entry_of(marker)
            accepted_in, at = marker[1:] if isinstance(marker, list) else (0, 0)
            group = "keyed" if entry.key != keys.dedupe(run, id) else "update" if id[:1] == "u" else "other"
            groups.setdefault(group, []).append((accepted_in, at, entry.key, id))
        if len(page) < 500:
            break
        after = page[-1].key
    doomed: list[str] = []
    for group, markers in groups.items():
        markers.sort(reverse=True)
        for accepted_in, _, key, id in markers[KEPT:]:
            if accepted_in < generation:
                doomed += [key, keys.reply(run, id)] if group == "update" else [key]
    return await _delete(store, doomed, fence)


async def _delete(store: Store, doomed: list[str], fence: dict[str, str | None]) -> bool:
    for start in range(0, len(doomed), _AT_ONCE):
        write = Write(dict(fence), deletes=set(doomed[start : start + _AT_ONCE]))
        if isinstance(await store.commit(write), Conflict):
            return False
    return True


async def forget_older(store: Store, record: ExecutionRecord) -> None:
    """Delete the history before the previous one of a run that arrived here."""
    old = record.generation - 2
    if old >= 0:
        name = keys.history(record.run, old)
        await store.purge((keys.segments(name), keys.commits(name)))
