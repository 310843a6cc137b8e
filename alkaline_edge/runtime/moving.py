"""Deleting runs. What moves them stands in ``bundling``, ``handing``, ``syncing`` and ``migrating``."""

from __future__ import annotations

from .. import keys
from ..errors import ConflictError
from ..host import Conflict
from ..runs import ExecutionRecord
from . import requests
from .fleet import Fleet
from .lease import may_be_held
from .moved import DELETING, UNCONFIRMED
from .store import Store
from .write import Write, indexes_of

GIVEN_UP_MS = 60_000
"""How long a cancel waits before its run may be deleted unended. One that has an owner is consumed long before."""


async def delete(store: Store, fleet: Fleet, id: str) -> None:
    """See ``Runtime.delete``. The record goes last, so a delete that was interrupted can be repeated."""
    record = await store.record(id)
    await check_deletable(store, record)
    fleet.let_go(id)
    if record.moved_to != DELETING:
        await _say_so(store, record)
    before = indexes_of(record)
    fence: dict[str, str | None] = {keys.record(id): record.version_tag}
    prefixes = [keys.requests(id)]
    for kind in "sh":  # every generation, also one that a crash kept from being forgotten
        prefixes += [f"{kind}/{record.run}/", f"{kind}/{record.run}-"]
    prefixes += [keys.blobs(record.run), keys.markers(record.run), keys.replies(record.run)]
    purged = await store.purge(prefixes, fence)
    write = Write(fence, {}, {keys.record(id), keys.shared(record.run), keys.doubted(record.run), *before})
    if not purged or isinstance(await store.commit(write), Conflict):
        raise ConflictError(f"run {id!r} was changed while it was deleted; delete it again", id=id)


async def check_deletable(store: Store, record: ExecutionRecord) -> None:
    """ERR_CONFLICT, with what to do first, where the run may not be deleted as it stands."""
    id = record.id
    if record.moved_to is not None and record.moved_to.endswith(UNCONFIRMED):
        raise ConflictError(
            f"run {id!r} is being handed over to {record.moved_to}: hand it over there again, and delete it once that "
            "is confirmed; or take it back by hand_over from there. If that store is lost for good, call reclaim here",
            id=id,
        )
    untouched = record.status == "paused" and not record.attempt  # a fork that nobody has resumed
    gone = record.finished or record.copy or untouched or record.moved_to is not None
    if not gone and not await _given_up(store, record):
        raise ConflictError(
            f"run {id!r} is {record.status}; cancel it first, and delete it when it has ended. One that no process "
            "takes up, because its code is gone, can be deleted a minute after its cancel",
            id=id,
        )
    await _check_parent(store, record)


async def _given_up(store: Store, record: ExecutionRecord) -> bool:
    """Whether nobody has the run, and a cancel of it has waited for a minute: its code is nowhere to be found."""
    now = store.host.now_ms()
    if may_be_held(record, now):
        return False
    parent = await store.find(record.parent) if record.parent is not None else None
    if parent is not None and not parent.finished:  # it waits for how this one ends
        return False
    asked = await requests.first(store, record.id, "cancel")
    return asked is not None and now - asked.accepted >= GIVEN_UP_MS


async def _say_so(store: Store, record: ExecutionRecord) -> None:
    """Note in the record that it is being deleted, so that nobody takes what is half gone for a damaged run.

    From here on the record holds nothing that may be large: that stands in blobs, which are gone before it, and a
    delete that was cut off in between could read it no more.
    """
    before = indexes_of(record)
    record.moved_to, record.result, record.failure = DELETING, None, None
    record.attributes, record.waiting = {}, []
    write = Write({keys.record(record.id): record.version_tag})
    store.put_record(write, record, before)
    outcome = await store.commit(write)
    if isinstance(outcome, Conflict):
        raise ConflictError(f"run {record.id!r} was changed while it was deleted; delete it again", id=record.id)
    record.version_tag = outcome.version


async def _check_parent(store: Store, record: ExecutionRecord) -> None:
    """ERR_CONFLICT while a parent has yet to read the run's result from its record."""
    if record.parent is None or not record.finished:
        return
    report = (await store.host.get([keys.inbox(record.parent, f"~{record.id}")]))[0]
    waits = [] if report is None else requests.requests_of([report], store)
    if any(request.kind == "child" and request.payload[4] is not None for request in waits):
        raise ConflictError(
            f"run {record.parent!r} has not read the result of its child {record.id!r} yet: resume it first, or delete "
            "it, and then the child",
            id=record.id,
            parent=record.parent,
        )
