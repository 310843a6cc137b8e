"""Forks: a new run that begins with a part of another one's history."""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys
from ..errors import InvalidInput
from ..events import Event
from ..history import Cursor, Timed
from ..host import Conflict
from ..limits import MAX_ID
from ..retried import counting
from ..runs import ExecutionRecord, Header
from . import arriving, creation
from .copying import put_in_batches, put_run
from .loading import started
from .store import Store
from .write import Write, indexes_of


async def fork(store: Store, id: str, at: int, edit: dict[str, Any]) -> str:
    """See ``Runtime.fork``; the id of the new run."""
    if type(at) is not int:
        raise InvalidInput(f"a fork is made at a number of commits, an int; {type(at).__name__} was given")
    if not isinstance(edit, dict) or not all(isinstance(name, str) for name in edit):
        raise InvalidInput('edit is a dict: the ids of steps to other results, and "input" to another input')
    source = await store.record(id)
    commits = await store.events(keys.history(source.run, source.generation), source.run)
    if not 1 <= at <= len(commits):
        raise InvalidInput(f"run {id!r} has {len(commits)} commits; fork at 1 to {len(commits)}, not {at}")
    old = Header.from_map(started(commits[0][0][1] if commits else None).header)
    header = _header(old, creation.new_run_id(store.host), at)
    now = store.host.now_ms()
    raws, blobs = _history(store, counting(commits[:at]), old, header, edit)
    cursor = Cursor()
    for raw in raws:
        cursor.advance(raw, store.codec)
    record = ExecutionRecord(
        header.id, header.run, source.workflow, source.version, "paused", now, now, generation=source.generation,
        depth=header.depth, attributes=dict(source.attributes), cursor_length=cursor.length, head=cursor.head, epoch=1,
    )  # fmt: skip
    made = await arriving.announce(store, record)
    fence: dict[str, str | None] = {keys.record(header.id): made.version_tag}
    written = await put_in_batches(store, blobs, fence) and await put_run(store, record, raws, (), fence)
    write = Write(fence)
    store.put_record(write, record, indexes_of(made))
    if not written or isinstance(await store.commit(write), Conflict):
        raise arriving.changed(header.id)
    return header.id


def _header(old: Header, run: str, at: int) -> Header:
    """The fork's header: nobody's child, with an account of its own where the source had one to spend from."""
    end = f"~fork-{run}"
    header = Header.from_map(old.to_map())
    header.id, header.run = f"{old.id[: MAX_ID - len(end)]}{end}", run
    header.parent, header.forked_from = None, [old.id, at]
    header.accounts = [[run, *account[1:]] for account in old.accounts[-1:]]
    header.totals, header.shared = old.totals[-1:], False
    return header


def _history(
    store: Store, commits: list[list[Timed]], old: Header, header: Header, edit: dict[str, Any]
) -> tuple[list[bytes], dict[str, bytes]]:
    """The fork's commits, and the large values that they refer to.

    A child that has not ended there reports to its own parent, not to the fork: the fork starts one of its own. Of one
    that has, the id is that which the fork's handler asks for.
    """
    ended = {event.id for commit in commits for _, event in commit if isinstance(event, ev.ChildFinished)}
    unused = set(edit)
    cursor, raws, blobs = Cursor(), list[bytes](), dict[str, bytes]()
    for commit in commits:
        if commit and commit[-1][1][0] in ev.ENDINGS:
            break
        batch = [
            _edited(event, old, header, edit, unused)
            for _, event in commit
            if not isinstance(event, ev.ChildStarted) or event.id in ended
        ]
        if not batch:
            continue
        slim, more = store.spill(batch, header.run)
        blobs.update(more)
        raw = cursor.encode(commit[0][0], slim, store.codec)
        cursor.advance(raw, store.codec)
        raws.append(raw)
    if unused:
        raise InvalidInput(
            f"nothing in the first {len(commits)} commits is called {', '.join(sorted(unused))}: nothing was forked"
        )
    return raws, blobs


def _edited(event: Event, old: Header, header: Header, edit: dict[str, Any], unused: set[str]) -> Event:
    match event:
        case ev.Started():
            unused.discard("input")
            return event._replace(header=header.to_map(), input=edit.get("input", event.input))
        case ev.StepCompleted() | ev.StepFailed() if event.id in edit:
            unused.discard(event.id)
            return ev.StepCompleted(ev.STEP_COMPLETED, event.id, event.name, event.args, edit[event.id])
        case ev.ChildStarted() if event.child in old.child_ids(event.id):
            return event._replace(child=header.child_ids(event.id)[0])
        case ev.Retried():  # what it spent stays spent; what it made void is not here
            return event._replace(void=[])
        case ev.Spent() | ev.StepCharged() if event.totals is not None:
            return event._replace(totals=event.totals[-1:])
        case _:
            return event
