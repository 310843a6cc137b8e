"""Moving runs: export, import, hand-over, fork, delete, and going on upon another host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .. import bundle as bundles
from .. import events as ev
from .. import keys
from ..bundle import Bundle
from ..codec import BlobRef
from ..errors import ConflictError, InvalidInput, StoreError
from ..history import Timed, blobs_of, decode_all
from ..host import Conflict, Host
from ..runs import ExecutionRecord, Header
from ..shapes import RECORD_NEEDS, check_record
from . import asking, creation, segments
from .arriving import bring, changed, claim, ends, put_in_batches
from .frozen import freeze, may_be_replaced, taken
from .moved import ARRIVING, BUNDLE, DELETING, UNCONFIRMED, gone
from .parts import check_requests
from .run import Run
from .store import Store, Write, indexes_of

if TYPE_CHECKING:
    from .runtime import Runtime


async def export(runtime: Runtime, id: str, handoff: bool) -> bytes:
    """See ``Runtime.export``."""
    record = await (freeze(runtime, id, BUNDLE) if handoff else runtime.store.record(id))
    if record.moved_to in (ARRIVING, DELETING) or (handoff and not record.finished and record.moved_to != BUNDLE):
        raise gone(record, "export")
    store = runtime.store
    record, commits = await store.whole(record)
    cursor, events = decode_all(commits, runtime.codec)
    refs = {ref for commit in events for ref in blobs_of(event for _, event in commit)}
    blobs = [runtime.codec.encode(await store.blob(record.run, ref)) for ref in sorted(refs, key=lambda r: r.digest)]
    shared = await shared_accounts(runtime, started(events))
    values = record.to_map()
    for name in ("owner", "lease_until", "moved_to", "result", "ahead", "copy"):
        values.pop(name, None)
    values.update(cursor_length=cursor.length, head=cursor.head)
    bundle = Bundle(
        record.id, record.run, record.workflow, record.version, record.generation, record.epoch, record.status,
        commits, blobs, values, await ends(store, keys.requests(id)), await ends(store, keys.markers(record.run)),
        shared, handoff,
    )  # fmt: skip
    return bundles.encode(bundle, runtime.codec)


async def shared_accounts(runtime: Runtime, first: ev.Started) -> list[list[Any]]:
    """What the shared budgets of a run hold: [random run id, tokens, micro-usd]."""
    found: list[list[Any]] = []
    for account in Header.from_map(first.header).accounts:
        entry = (await runtime.host.get([keys.shared(account[0])]))[0]
        if entry is not None:
            found.append([account[0], *runtime.codec.decode(entry.value)])
    return found


def started(events: list[list[Timed]]) -> ev.Started:
    """The first event; ERR_STORE where it is another one."""
    first = events[0][0][1] if events else None
    if not isinstance(first, ev.Started):
        raise StoreError("the history does not begin with a Started event: it is damaged, restore it")
    return first


async def import_(runtime: Runtime, data: bytes, mode: str) -> Run:
    """See ``Runtime.import_``."""
    if mode not in ("copy", "take_over"):
        raise InvalidInput(f'mode is "copy" or "take_over", not {mode!r}')
    bundle, events = bundles.decode(data, runtime.codec)
    check_record(bundle.record, RECORD_NEEDS)
    check_requests(bundle.requests, bundle.markers, runtime.codec)
    existing = await runtime.store.find(bundle.id)
    record = _record_of(bundle, events, runtime.host.now_ms(), mode)
    write = Write({keys.record(bundle.id): existing.version_tag if existing is not None else None})
    if mode == "take_over":
        if not bundle.handoff and not record.finished:
            raise InvalidInput(
                "this bundle is a copy, and the run may go on where it was exported: export it with handoff to take it "
                "over, or import it as a copy"
            )
        known = await taken(runtime, bundle.run)
        if known.again(bundle.epoch, bundles.head_of(bundle)):
            return Run(runtime, bundle.id)  # this very hand-over was taken over before
        known.note(write, bundle.epoch, bundles.head_of(bundle))
    if existing is not None and existing.moved_to == DELETING:
        raise gone(existing, "import")
    if existing is not None and not (existing.moved_to == ARRIVING and existing.run == bundle.run):
        if mode == "copy" or not await _makes_way(runtime, existing, bundle):
            raise ConflictError(
                f"a run {bundle.id!r} exists here already ({existing.status}); delete it first, or import elsewhere",
                id=bundle.id,
            )
        record.epoch = max(record.epoch, existing.epoch + 1)
    longest, limits = max(map(len, bundle.commits)), runtime.store.limits
    if longest > limits.max_value:
        raise InvalidInput(
            f"a commit of {longest} bytes is over {limits.name}'s max_value={limits.max_value}; nothing was written",
            limit=limits.max_value,
        )
    claimed = await _cleared(runtime, record, await _claim(runtime, record, existing))
    fence: dict[str, str | None] = {keys.record(bundle.id): claimed.version_tag}
    written = await put_run(runtime, record, bundle.commits, bundle.blobs, fence)
    if written and mode == "take_over" and not record.finished:
        await bring(runtime.store, claimed, bundle.requests, bundle.markers)
    batch = Write({**write.checks, **fence}, {})
    runtime.store.put_record(batch, record, indexes_of(claimed), _large(runtime, record))
    batch.puts.update(write.puts)
    if mode == "take_over":
        batch.puts.update((keys.shared(a[0]), runtime.codec.encode(a[1:])) for a in bundle.shared)
    if not written or isinstance(await runtime.store.commit(batch), Conflict):
        raise changed(bundle.id)
    return Run(runtime, bundle.id)


async def _cleared(runtime: Runtime, record: ExecutionRecord, claimed: ExecutionRecord) -> ExecutionRecord:
    """Remove what an earlier import left. The claim is renewed: a delete that lands late must not meet what follows."""
    name = keys.history(record.run, record.generation)
    prefixes = (keys.segments(name), keys.commits(name))
    if not any([await runtime.host.list(prefix, "", 1) for prefix in prefixes]):
        return claimed
    await runtime.store.purge(prefixes, {keys.record(record.id): claimed.version_tag})
    return await _claim(runtime, record, claimed)


async def _claim(runtime: Runtime, record: ExecutionRecord, existing: ExecutionRecord | None) -> ExecutionRecord:
    """Move the record, so that of two imports at the same time the earlier one's writes fail their checks.

    Without it, an import that is repeated while the first is still under way could write its history over that of a
    run which goes on already.
    """
    if existing is not None:
        await claim(runtime.store, existing)
        return existing
    made = ExecutionRecord.from_map({**record.to_map(), "result": None, "failure": None, "copy": False}, "")
    made.status, made.moved_to, made.wake_at, made.epoch = "paused", ARRIVING, None, 0
    write = Write({keys.record(record.id): None})
    runtime.store.put_record(write, made)
    outcome = await runtime.store.commit(write)
    if isinstance(outcome, Conflict):
        raise changed(record.id)
    made.version_tag = outcome.version
    return made


def _large(runtime: Runtime, record: ExecutionRecord) -> BlobRef | None:
    data = runtime.codec.encode(record.result)
    return BlobRef(sha256(data).digest(), len(data)) if len(data) > runtime.store.limits.inline_limit else None


async def _makes_way(runtime: Runtime, existing: ExecutionRecord, bundle: Bundle) -> bool:
    """Whether what is here may become the bundle's run: a paused copy, or what was handed over from here earlier."""
    if existing.run != bundle.run or not may_be_replaced(existing, bundle.epoch):
        return False
    if existing.generation != bundle.generation:
        return existing.generation < bundle.generation
    ours = await runtime.store.commits(keys.history(existing.run, existing.generation))
    return bundle.commits[: len(ours)] == ours


def _record_of(bundle: Bundle, events: list[list[Timed]], now: int, mode: str) -> ExecutionRecord:
    record = ExecutionRecord.from_map({**bundle.record, "id": bundle.id}, "")
    record.run, record.generation, record.epoch = bundle.run, bundle.generation, bundle.epoch + 1
    record.owner, record.lease_until, record.moved_to = None, 0, None
    record.updated_at, record.copy = now, False
    last = events[-1][-1][1]
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
    begins_at = creation.begins_at(record, events[0][0][0], len(events), now)
    if begins_at is not None:
        record.begin_at(begins_at)
    if isinstance(last, ev.Completed) and type(record.result) is BlobRef:
        ref = record.result
        record.result = next(
            value for value in map(_decoded(bundle), range(len(bundle.blobs))) if value[0] == ref.digest
        )[1]
    return record


def _decoded(bundle: Bundle) -> Any:
    from ..codec import Codec

    codec = Codec()
    return lambda n: (sha256(bundle.blobs[n]).digest(), codec.decode(bundle.blobs[n]))


async def put_run(
    runtime: Runtime,
    record: ExecutionRecord,
    commits: Sequence[bytes],
    blobs: Iterable[bytes],
    fence: dict[str, str | None] | None = None,
) -> bool:
    """Write a history and its large values; False as soon as ``fence`` does not hold."""
    store, name = runtime.store, keys.history(record.run, record.generation)
    puts: dict[str, bytes] = {}
    for blob in blobs:
        store._chunked(blob, record.run, puts)
    place = keys.segment if store.limits.segment_commits else keys.commit
    for first, count in segments.lengths(commits, store.limits):
        puts[place(name, first)] = b"".join(commits[first : first + count])
    return await put_in_batches(store, puts, fence)


async def delete(runtime: Runtime, id: str) -> None:
    """See ``Runtime.delete``. The record goes last, so a delete that was interrupted can be repeated."""
    record = await runtime.store.record(id)
    if record.moved_to is not None and record.moved_to.endswith(UNCONFIRMED):
        raise ConflictError(
            f"run {id!r} is being handed over to {record.moved_to}: hand it over there again, and delete it once that "
            "is confirmed",
            id=id,
        )
    untouched = record.status == "paused" and not record.attempt  # a fork that nobody has resumed
    if not (record.finished or record.copy or untouched or record.moved_to is not None):
        raise ConflictError(f"run {id!r} is {record.status}; cancel it first, and delete it when it has ended", id=id)
    await _check_parent(runtime, record)
    asleep = runtime.asleep.pop(id, None)
    if asleep is not None:
        asleep.machine.set_aside()
    before = indexes_of(record)
    if record.moved_to != DELETING:
        await _say_so(runtime, record)
    fence: dict[str, str | None] = {keys.record(id): record.version_tag}
    prefixes = [keys.requests(id)]
    for kind in "sh":  # every generation, also one that a crash kept from being forgotten
        prefixes += [f"{kind}/{record.run}/", f"{kind}/{record.run}-"]
    prefixes += [keys.blobs(record.run), keys.markers(record.run), keys.replies(record.run)]
    purged = await runtime.store.purge(prefixes, fence)
    write = Write(fence, {}, {keys.record(id), keys.shared(record.run), *before})
    if not purged or isinstance(await runtime.store.commit(write), Conflict):
        raise ConflictError(f"run {id!r} was changed while it was deleted; delete it again", id=id)


async def _say_so(runtime: Runtime, record: ExecutionRecord) -> None:
    """Note in the record that it is being deleted, so that nobody takes what is half gone for a damaged run."""
    record.moved_to = DELETING
    write = Write({keys.record(record.id): record.version_tag})
    runtime.store.put_record(write, record, indexes_of(record), _large(runtime, record))
    outcome = await runtime.store.commit(write)
    if isinstance(outcome, Conflict):
        raise ConflictError(f"run {record.id!r} was changed while it was deleted; delete it again", id=record.id)
    record.version_tag = outcome.version


async def _check_parent(runtime: Runtime, record: ExecutionRecord) -> None:
    """ERR_CONFLICT while a parent has yet to read the run's result from its record."""
    if record.parent is None or not record.finished:
        return
    report = (await runtime.host.get([keys.inbox(record.parent, f"~{record.id}")]))[0]
    if report is not None and runtime.codec.decode(report.value)[3][4] is not None:
        raise ConflictError(
            f"run {record.parent!r} has not read the result of its child {record.id!r} yet: resume it first, or delete "
            "it, and then the child",
            id=record.id,
            parent=record.parent,
        )


async def swap_host(runtime: Runtime, host: Host) -> None:
    """See ``Runtime.swap_host``."""
    asking.require(host)
    await runtime.stop_all()
    await migrate(runtime.host, host, runtime.store)
    runtime.leases.begin_anew()  # on the new host it is a new owner
    runtime.attend(host)
    runtime.host, runtime.store = host, Store(host, runtime.codec)
    await runtime.recover()


async def migrate(source: Host, target: Host, through: Store | None = None) -> int:
    """Copy every key of ``source`` to ``target``, and return how many. Repeating it after an interruption is safe.

    No runtime may be writing to ``source``. A target that holds anything else is ERR_CONFLICT, before anything is
    written.
    """
    from ..codec import Codec

    store = Store(target, through.codec if through is not None else Codec())
    reader = Store(source, store.codec)
    foreign = set(await store.keys_under("")) - set(await reader.keys_under(""))
    if foreign:
        raise ConflictError(
            f"the target holds {len(foreign)} keys that the source does not have; migrate into an empty store",
            keys=len(foreign),
        )
    copied, after = 0, ""
    while True:
        entries = await source.list("", after, 200)
        await put_in_batches(store, {entry.key: entry.value for entry in entries})
        copied += len(entries)
        if len(entries) < 200:
            return copied
        after = entries[-1].key
