"""Bundles of runs: ``export`` makes one, ``import_`` stores one."""

from __future__ import annotations

from hashlib import sha256

from .. import bundle as bundles
from .. import events as ev
from .. import keys
from ..bundle import Bundle
from ..codec import BlobRef
from ..envelope import Contents
from ..errors import ConflictError, InvalidInput
from ..history import blobs_of, decode_all
from ..host import Conflict
from ..parts import check_requests
from ..runs import ExecutionRecord, Header
from ..shapes import RECORD_NEEDS, check_record
from . import creation, lease, sending
from .accounts import shared_by
from .arriving import announce, bring, changed, claim, ends, requests_of
from .copying import put_run
from .frozen import Freezer, may_be_replaced, taken
from .loading import started
from .moved import ARRIVING, BUNDLE, DELETING, gone
from .store import Store
from .write import Write, indexes_of


async def export(store: Store, freezer: Freezer, id: str, handoff: bool) -> bytes:
    """See ``Runtime.export``."""
    record = await (freezer.freeze(id, BUNDLE) if handoff else store.record(id))
    if record.moved_to in (ARRIVING, DELETING) or (handoff and not record.finished and record.moved_to != BUNDLE):
        raise gone(record, "export")
    record, commits = await store.whole(record)
    cursor, events = decode_all(commits, store.codec)
    refs = {ref for commit in events for ref in blobs_of(event for _, event in commit)}
    blobs = [
        store.codec.encode_whole(await store.blob(record.run, ref)) for ref in sorted(refs, key=lambda r: r.digest)
    ]
    shared = await shared_by(store, Header.from_map(started(events[0][0][1] if events else None).header))
    values = record.to_map()
    for name in (
        "owner",
        "lease_until",
        "moved_to",
        "result",
        "ahead",
        "ahead_since",
        "doubted_since",
        "clocks",
        "copy",
    ):
        values.pop(name, None)
    values.update(cursor_length=cursor.length, head=cursor.head)
    bundle = Bundle(
        record.id, record.run, record.workflow, record.version, record.generation, record.epoch, record.status,
        commits, blobs, values, await requests_of(store, record), await ends(store, keys.markers(record.run)),
        shared, handoff,
    )  # fmt: skip
    return bundles.encode(bundle, store.codec)


async def import_(store: Store, data: bytes, mode: str) -> str:
    """See ``Runtime.import_``; the id of the run."""
    if mode not in ("copy", "take_over"):
        raise InvalidInput(f'mode is "copy" or "take_over", not {mode!r}')
    bundle, contents = bundles.decode(data, store.codec)
    check_record(bundle.record, RECORD_NEEDS)
    check_requests(bundle.requests, bundle.markers, store.codec)
    existing = await store.find(bundle.id)
    record = _record_of(bundle, contents, store, mode)
    write = Write({keys.record(bundle.id): existing.version_tag if existing is not None else None})
    if mode == "take_over":
        if not bundle.handoff and not record.finished:
            raise InvalidInput(
                "this bundle is a copy, and the run may go on where it was exported: export it with handoff to take it "
                "over, or import it as a copy"
            )
        known = await taken(store, bundle.run)
        if known.again(bundle.epoch, bundles.head_of(bundle)):
            return bundle.id  # this very hand-over was taken over before
        known.note(write, bundle.epoch, bundles.head_of(bundle))
    if existing is not None and existing.moved_to == DELETING:
        raise gone(existing, "import")
    if existing is not None and not (existing.moved_to == ARRIVING and existing.run == bundle.run):
        if mode == "copy" or not await _makes_way(store, existing, bundle):
            raise ConflictError(
                f"a run {bundle.id!r} exists here already ({existing.status}); delete it first, or import elsewhere",
                id=bundle.id,
            )
        record.epoch = max(record.epoch, existing.epoch + 1)
    longest, limits = max(map(len, bundle.commits)), store.limits
    if longest > limits.max_value:
        raise InvalidInput(
            f"a commit of {longest} bytes is over {limits.name}'s max_value={limits.max_value}; nothing was written",
            limit=limits.max_value,
        )
    claimed = await _cleared(store, record, await _claim(store, record, existing))
    fence: dict[str, str | None] = {keys.record(bundle.id): claimed.version_tag}
    written = await put_run(store, record, bundle.commits, bundle.blobs, fence)
    if written and mode == "take_over" and not record.finished:
        await bring(store, claimed, bundle.requests, bundle.markers)
        if sending.leaves_paused(store.codec, await ends(store, keys.requests(bundle.id))):
            record.status, record.wake_at = "paused", record.begins_at
    batch = Write({**write.checks, **fence}, {})
    store.put_record(batch, record, indexes_of(claimed), store.reference(record.result))
    batch.puts.update(write.puts)
    if mode == "take_over":
        batch.puts.update((keys.shared(a[0]), store.codec.encode(a[1:])) for a in bundle.shared)
    if not written or isinstance(await store.commit(batch), Conflict):
        raise changed(bundle.id)
    return bundle.id


async def _cleared(store: Store, record: ExecutionRecord, claimed: ExecutionRecord) -> ExecutionRecord:
    """Remove what an earlier import left. The claim is renewed: a delete that lands late must not meet what follows."""
    name = keys.history(record.run, record.generation)
    prefixes = (keys.segments(name), keys.commits(name))
    if not any([await store.host.list(prefix, "", 1) for prefix in prefixes]):
        return claimed
    await store.purge(prefixes, {keys.record(record.id): claimed.version_tag})
    return await _claim(store, record, claimed)


async def _claim(store: Store, record: ExecutionRecord, existing: ExecutionRecord | None) -> ExecutionRecord:
    """Move the record, so that of two imports at the same time the earlier one's writes fail their checks.

    Without it, an import that is repeated while the first is still under way could write its history over that of a
    run which goes on already.
    """
    if existing is not None:
        await claim(store, existing)
        return existing
    return await announce(store, record)


async def _makes_way(store: Store, existing: ExecutionRecord, bundle: Bundle) -> bool:
    """Whether what is here may become the bundle's run: a paused copy, or what was handed over from here earlier."""
    if existing.run != bundle.run or not may_be_replaced(existing, bundle.epoch):
        return False
    if existing.generation != bundle.generation:
        return existing.generation < bundle.generation
    ours = await store.commits(keys.history(existing.run, existing.generation))
    return bundle.commits[: len(ours)] == ours


def _record_of(bundle: Bundle, contents: Contents, store: Store, mode: str) -> ExecutionRecord:
    now = store.host.now_ms()
    record = ExecutionRecord.from_map({**bundle.record, "id": bundle.id}, "")
    record.run, record.generation, record.epoch = bundle.run, bundle.generation, bundle.epoch + 1
    lease.free(record)
    record.moved_to = None
    record.updated_at, record.copy = now, False
    last = contents.last
    if isinstance(last, ev.Completed):
        record.status, record.result = "completed", last.value
    elif isinstance(last, ev.Failed):
        record.status, record.failure = "failed", last.failure
    elif isinstance(last, ev.Cancelled):
        record.status = "cancelled"
    elif mode == "take_over":
        record.status, record.wake_at, record.waiting = "suspended", now, ["its new host"]
    else:
        record.status, record.wake_at, record.copy = "paused", None, True
    begins_at = creation.begins_at(record, contents.times[0], len(contents.times), now)
    if begins_at is not None:
        record.begin_at(begins_at)
    if isinstance(last, ev.Completed) and type(record.result) is BlobRef:
        ref = record.result
        record.result = next(store.codec.decode(blob) for blob in bundle.blobs if sha256(blob).digest() == ref.digest)
    return record
