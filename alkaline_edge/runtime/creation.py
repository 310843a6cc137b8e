"""Making a run: its record, its indexes and the first commit of its history, in one batch."""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys
from ..history import Cursor, digest_of
from ..host import Host
from ..runs import ExecutionRecord, Header, Status
from .store import Store
from .write import Write


def new_run_id(host: Host) -> str:
    """A random run id: 12 hexadecimal digits."""
    return host.entropy(6).hex()


def add(
    store: Store,
    write: Write,
    header: Header,
    input: Any,
    now: int,
    owner: str | None = None,
    lease_until: int = 0,
    attributes: dict[str, Any] | None = None,
    start_at: int | None = None,
) -> tuple[ExecutionRecord, bytes]:
    """Add the keys of a new run to ``write``; its record must be absent.

    With ``start_at`` (ms) the run is suspended until then, and its recorded time starts there.
    """
    status: Status = "running"
    record = ExecutionRecord(
        id=header.id,
        run=header.run,
        workflow=header.workflow,
        version=header.version,
        status=status,
        created_at=now,
        updated_at=now,
        generation=header.generation,
        parent=header.parent[0] if header.parent else None,
        depth=header.depth,
        attributes=dict(attributes or {}),
        owner=owner,
        lease_until=lease_until,
        epoch=1 if owner else 0,
    )
    if start_at is not None and start_at > now:
        record.status = "suspended"
        record.begin_at(start_at)
    raw, blobs = first_commit(store, header, input, max(now, start_at or 0))
    record.cursor_length, record.head = 1, digest_of(raw)
    write.checks[keys.record(header.id)] = None
    store.put_record(write, record)
    write.puts[keys.commit(keys.history(header.run, header.generation), 0)] = raw
    write.puts.update(blobs)
    for account in header.accounts:
        if account[0] == header.run and header.shared and header.generation == 0:
            write.puts[keys.shared(header.run)] = store.codec.encode([0, 0])
    return record, raw


def first_commit(store: Store, header: Header, input: Any, now: int) -> tuple[bytes, dict[str, bytes]]:
    """The commit of the Started event, and the blobs that it refers to."""
    event = ev.Started(ev.STARTED, header.to_map(), input)
    raw = Cursor().encode(now, [event], store.codec)
    if len(raw) <= store.limits.inline_limit:
        return raw, {}
    slim, blobs = store.spill([event], header.run)
    return Cursor().encode(now, slim, store.codec), blobs


def begins_at(record: ExecutionRecord, started: int, commits: int, now: int) -> int | None:
    """When a run that has arrived from another store is to begin; None where it has begun, or may at once.

    ``started`` is the recorded time of its Started event: a time to come is ``start_at``.
    """
    return started if commits == 1 and record.generation == 0 and started > max(now, record.created_at) else None
