"""Sending to the inbox of a run: anyone may, without owning it; its owner reads it (``inbox``).

An entry stands behind all that were sent before it, in one batch that is fenced by the run's record and by the places
it takes: so it is in the inbox of a run that will read it, once, or nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import keys
from ..codec import Codec, Plain
from ..errors import ConflictError
from ..host import Conflict, Entry
from . import payloads
from .moved import gone
from .requests import first
from .store import Store
from .write import Write

_ENDS = 16
"""Places of an inbox that are read first, where its end is not remembered."""
_REMEMBERED = 1_000
"""Inboxes whose ends are remembered."""
_SAYS_PAUSED = ("pause", "resume", "cancel")
"""The kinds of requests that pause a run, or end its pause."""


async def send(store: Store, id: str, kind: str, name: str, payload: Any, dedupe: str | None = None) -> tuple[str, str]:
    """Append an entry to the inbox of ``id``; return the run's random id and the entry's id.

    Entries keep their order of arrival. With ``dedupe`` the same key counts once, also after continue_as_new: see
    ``forgetting`` for how long. A finished run is ERR_CONFLICT, an unknown one ERR_NOT_FOUND.
    """
    entry = f"{kind[0]}{store.host.entropy(8).hex()}"
    plain = Plain(store.codec.plain(payload, "payload"))
    ahead = ""
    for _ in range(100):
        record = await store.record(id)
        if record.finished:
            raise ConflictError(f"run {id!r} has {record.status}: it takes no {kind}", id=id, status=record.status)
        if record.moved_to is not None:
            raise gone(record, f"send the {kind} to")
        marker = keys.dedupe(record.run, dedupe if dedupe is not None else entry)
        present = (await store.host.get([marker]))[0]
        if present is not None:
            return record.run, entry_of(store.codec.decode(present.value))
        now = store.host.now_ms()
        data, blobs = payloads.fitted(store, record.run, [entry, kind, name, plain, now])
        if blobs and ahead != record.run:
            await store.put_blobs(blobs, {})
            ahead = record.run
        number = await _last(store, id) + 1
        place = keys.inbox(id, keys.position(number))
        # The record too: an entry for a run that ended or was handed over meanwhile would never be read.
        fence = {place: None, marker: None, keys.record(id): record.version_tag}
        puts = {marker: store.codec.encode([entry, record.generation, now]), place: data}
        if not isinstance(await store.commit(Write(fence, puts)), Conflict):
            _remember(store, id, number)
            return record.run, entry
    raise ConflictError(f"the inbox of run {id!r} is too busy: 100 attempts met another sender; try again later")


def _remember(store: Store, id: str, place: int) -> None:
    """The next request of ours goes behind ``place``, whether that is still there or not: so it need not look far."""
    ends = store.inbox_ends
    ends.pop(id, None)
    ends[id] = place
    if len(ends) > _REMEMBERED:
        del ends[next(iter(ends))]


async def _last(store: Store, id: str) -> int:
    """A place in the inbox of ``id`` that nothing stands behind, 0 where it is empty; there may be gaps before it."""
    prefix = keys.requests(id)

    async def behind(place: int) -> int:
        """A place behind ``place`` that is taken; 0 where there is none."""
        return _highest(await read(prefix, keys.inbox(id, keys.position(place)), 1))

    read = store.unreadable.entries
    own = store.inbox_ends.get(id, 0)
    if own:  # one key is read; otherwise a page, and then one key at a time
        low = await behind(own)
        if not low:
            return own
    else:
        page = await read(prefix, "", _ENDS)
        low = _highest(page)
        if len(page) < _ENDS or page[-1].key >= keys.from_runs(id):
            return low
    step = _ENDS
    while found := await behind(low + step):
        low, step = found, step * 2
    high = low + step  # nothing stands behind it
    while low < high and (found := await behind(low)):
        middle = (found + high) // 2
        further = await behind(middle)
        low, high = (further, high) if further else (found, middle)
    return low


def _highest(entries: Sequence[Entry]) -> int:
    """The highest place among ``entries``; those that have a name instead of a number count for none."""
    places = [entry.key.rsplit("/", 1)[1] for entry in entries]
    numbers = [int(place[1:]) for place in places if place[1:].isdecimal() and place[0] != "~"]
    return max(numbers, default=0)


async def stay_paused(store: Store, write: Write, id: str) -> None:
    """Add to ``write``, by which the paused run ``id`` leaves, the request by which it is paused where it arrives.

    Not where a request that nobody has read says whether it is: the last of these counts.
    """
    if any([await first(store, id, kind) for kind in _SAYS_PAUSED]):
        return
    place = keys.inbox(id, keys.position(await _last(store, id) + 1))
    entry = f"p{store.host.entropy(8).hex()}"
    write.checks[place] = None
    write.puts[place] = store.codec.encode([entry, "pause", "", None, store.host.now_ms()])


def leaves_paused(codec: Codec, requests: Sequence[Any]) -> bool:
    """Whether a run that arrives with these requests, [place, bytes], is paused."""
    told = [codec.decode(raw)[1] for _, raw in sorted(requests, key=lambda each: str(each[0]))]
    return [kind for kind in told if kind in _SAYS_PAUSED][-1:] == ["pause"]


def entry_of(marker: Any) -> str:
    """The entry that a dedupe marker stands for: ``[entry, generation, accepted]``; 0.1 wrote the entry alone."""
    return str(marker[0] if isinstance(marker, list) else marker)
