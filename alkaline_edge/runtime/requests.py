"""The requests in an inbox, as whoever reads one finds them. What can't be read is none: see ``unreadable``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from .. import keys
from ..errors import AlkalineError, UnreadableValue
from ..host import Entry
from ..runs import ExecutionRecord
from ..structs import NamedTuple
from . import unreadable
from .store import Store

_PAGE = 100
RESUME = "resume"
"""What a run waits for that was paused before its generation began, as its record names it."""
_ONLY_RESUMES, _ENDS_A_PAUSE = ("resume",), ("resume", "cancel")


class Request(NamedTuple):
    """One entry, with the key that it stands under."""

    key: str
    id: str
    kind: str
    name: str
    payload: Any
    accepted: int
    size: int
    """Bytes of the entry."""


def read_request(entry: Entry, store: Store) -> Request:
    """The request of an entry; UnreadableValue for what is none.

    Version 0.1 did not say when one was accepted: nothing is known against it.
    """
    from .. import shapes  # needed once there is a request: an import costs a browser's start

    try:
        given = store.opened(entry)
        shapes.check_request(given, stored=True)
        place = entry.key.rsplit("/", 1)[1]
        if not place.startswith("~"):
            keys.position_of(entry.key)
    except (AlkalineError, ValueError) as error:
        raise unreadable.why("a request", entry.key, error) from None
    id, kind, name, payload, *rest = given
    return Request(entry.key, id, kind, name, payload, rest[0] if rest else 0, len(entry.value))


def requests_of(entries: Sequence[Entry], store: Store) -> list[Request]:
    """The requests that ``entries`` hold. What can't be read is set apart, and stays where it is."""
    found: list[Request] = []
    for entry in entries:
        try:
            found.append(read_request(entry, store))
        except UnreadableValue as error:
            if unreadable.is_of_all(error):
                raise
            store.unreadable.note(entry.key, error)
    return found


async def is_asked(store: Store, record: ExecutionRecord) -> bool:
    """Whether a paused run has a request to answer. A copy's requests wait for the run, unless it is resumed itself."""
    heard = _ONLY_RESUMES if record.copy else _ENDS_A_PAUSE if waits_for_resume(record) else None
    async for request in waiting(store, record.id):
        if heard is None or request.kind in heard:
            return True
    return False


def waits_for_resume(record: ExecutionRecord) -> bool:
    """Whether the run was paused before its generation began: it begins when it is resumed, and not to hear anything.

    A handler that goes on as new without a step would otherwise do so for each signal that it is sent.
    """
    return record.status == "paused" and record.waiting == [RESUME]


async def waiting(store: Store, id: str) -> AsyncIterator[Request]:
    """The requests in the inbox of ``id`` that can be read, in the order of their keys. The first is read alone."""
    after, limit = "", 1
    while True:
        page = await store.unreadable.entries(keys.requests(id), after, limit)
        for request in requests_of(page, store):
            yield request
        if len(page) < limit:
            return
        after, limit = page[-1].key, _PAGE


async def first(store: Store, id: str, kind: str) -> Request | None:
    """The first request of that kind that waits in the inbox of ``id``."""
    async for request in waiting(store, id):
        if request.kind == kind:
            return request
    return None
