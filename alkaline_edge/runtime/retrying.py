"""Trying a run that failed again: from what it failed of, under its own id, with all that is recorded kept.

What becomes of it is one commit: a Retried event, which says what counts no more, and the record. Where the code is
here, it is replayed first, and a way is chosen that it agrees with: code that is not mended writes nothing. Children
that the run waits for and that failed or ended with it are tried again in front of it: cut off in between, they go on,
and the run takes what they come to when it is tried again.
"""

from __future__ import annotations

from typing import Any

from .. import events as ev
from .. import keys, lifecycle, reopening
from ..errors import ConflictError, DeterminismError
from ..history import Timed, decode_all, digest_of
from ..host import Conflict
from ..machine.execution import Execution
from ..reopening import Way
from ..retried import counting
from ..runs import ExecutionRecord
from ..structs import NamedTuple
from ..workflows import Registry
from . import lease, payloads
from .copying import put_in_batches
from .fleet import Fleet
from .loading import Loader
from .moved import gone
from .reporting import Reports
from .store import Store
from .telling import Teller
from .write import Write, indexes_of

_TRIES = 5
_AT_ONCE = 40
"""So many requests go back to the inbox in the commit itself; more of them are put there ahead of it."""


class _Planned(NamedTuple):
    record: ExecutionRecord
    raws: list[bytes]
    way: Way
    told: list[tuple[str, list[Any]]]
    """By its place, each request that goes back to the inbox."""
    children: list[str]
    """Those that it waits for."""


class Retrier:
    """Tries runs of one store again."""

    def __init__(
        self, store: Store, registry: Registry, fleet: Fleet, loader: Loader, teller: Teller, reports: Reports
    ) -> None:
        self._store, self._registry, self._fleet, self._loader = store, registry, fleet, loader
        self._teller, self._reports = teller, reports

    async def retry(self, id: str) -> None:
        """See ``Runtime.retry``."""
        for _ in range(_TRIES):
            record = await self._store.record(id)
            _refuse(record)
            planned: list[_Planned] = []
            seen: dict[str, str | None] = {}
            await self._plan(record, planned, seen)  # all of them, before any of them is written
            if all([await self._reopen(each, seen) for each in reversed(planned)]):
                break
        else:
            raise ConflictError(f"run {id!r} changes while it is tried again: look at it, and try again", id=id)
        if self._registry.listed():
            for each in planned:
                self._fleet.stuck.pop(each.record.id, None)
                self._fleet.take_up(each.record.id)

    # --- what is to be done ------------------------------------------------------------------------------------------
    async def _plan(self, record: ExecutionRecord, planned: list[_Planned], seen: dict[str, str | None]) -> None:
        """Add how ``record``'s run goes on, and behind it those of its children that go on with it.

        ``seen``: the versions of the children's records.
        """
        record, raws = await self._store.whole(record)
        commits = [await self._store.fill(events, record.run) for events in decode_all(raws, self._store.codec)[1]]
        way = self._chosen(record, commits, reopening.ways(record.id, commits, record.topped_up))
        told: list[tuple[str, list[Any]]] = []
        for n, (at, event) in enumerate(way.outside):
            kind = "signal" if isinstance(event, ev.SignalReceived) else "update"
            told.append((keys.position(n), [event.entry, kind, event.name, event.payload, at]))  # type: ignore[union-attr]  # one of the two
        children: list[ExecutionRecord] = []
        waits_for = _open_children(reopening.union(commits, way))
        for started in waits_for:
            child, request = await self._child(record, started, seen)
            children += [child] if child is not None else []
            told += [(f"~{started.child}", request)] if request is not None else []
        planned.append(_Planned(record, raws, way, told, [started.child for started in waits_for]))
        for child in children:
            await self._plan(child, planned, seen)

    def _chosen(self, record: ExecutionRecord, commits: list[list[Timed]], ways: list[Way]) -> Way:
        """The first way that the code agrees with; without the code, the one that holds for any."""
        if not self._registry.listed():
            if reopening.is_of_budget(record.failure) and not (record.topped_up or reopening.is_of_another(commits)):
                raise _spent(record)
            return ways[-1] if _cuts(ways) else ways[0]
        self._registry.exact(record.workflow, record.version)
        differs: DeterminismError | None = None
        failure: Any = None
        second: Way | None = None
        for way in ways:
            try:
                machine: Execution = self._loader.trial(reopening.union(commits, way), record.attributes)
            except DeterminismError as error:
                differs = error
                continue
            if not isinstance(machine.outcome, ev.Failed):
                if not machine.has_left_out_emissions():
                    return way
                second = second or way  # it may emit that later, and it would count twice
                continue
            differs, failure = None, machine.outcome.failure
        if second is not None:
            return second
        if differs is not None:
            raise differs
        if reopening.is_of_budget(failure):
            raise _spent(record, failure)
        raise ConflictError(
            f"run {record.id!r} fails again at once, without a step to try again: mend its code first, or fork it",
            id=record.id,
        )

    async def _child(
        self, parent: ExecutionRecord, started: ev.ChildStarted, seen: dict[str, str | None]
    ) -> tuple[ExecutionRecord | None, list[Any] | None]:
        """The record of a child that is to go on too, or what its parent is to be told of it; neither: it goes on."""
        child = await self._store.find(started.child)
        seen[started.child] = None if child is None else child.version_tag
        now, told = self._store.host.now_ms(), list[Any]()
        if child is None:
            told = [parent.run, parent.generation, "failed", None, started.child]
            return None, [f"child-{started.child}", "child", started.id, told, now]
        if not child.finished:
            if child.moved_to is None and await self._is_ending(parent, child):
                raise ConflictError(
                    f"the child {child.id!r} is about to end with run {parent.id!r}: try it again once it has",
                    id=parent.id,
                )
            return None, None
        reason = ((child.failure or {}).get("detail") or {}).get("reason") or ""
        ended_with_it = child.status == "cancelled" and str(reason).startswith(reopening.PARENT_ENDED)
        if child.moved_to is None and (child.status == "failed" or ended_with_it):
            return child, None
        value = child.result if child.status == "completed" else child.failure
        told = [parent.run, parent.generation, child.status, value, None]
        entry = [f"child-{child.run}", "child", started.id, told, now]
        if len(self._store.codec.encode_whole(entry)) > self._store.limits.inline_limit:
            told[3:] = [None, child.id]
        return None, entry

    async def _is_ending(self, parent: ExecutionRecord, child: ExecutionRecord) -> bool:
        """Whether a child was asked to end with its parent: that waits for it, or is recorded and not carried out yet.

        In this order, since the first becomes the second.
        """
        asked = keys.inbox(child.id, f"~cancel-{parent.run}-{parent.generation}")
        if (await self._store.host.get([asked]))[0] is not None:
            return True
        commits = await self._store.events(keys.history(child.run, child.generation), child.run)
        return any(
            isinstance(event, ev.CancelRequested) and str(event.reason).startswith(reopening.PARENT_ENDED)
            for events in counting(commits)
            for _, event in events
        )

    # --- doing it ----------------------------------------------------------------------------------------------------
    async def _reopen(self, planned: _Planned, seen: dict[str, str | None]) -> bool:
        """One commit; False where the run, or a child that it waits for, has changed meanwhile."""
        store, (record, raws, way, told, children) = self._store, planned
        cursor = decode_all(raws, store.codec)[0]
        now, before = max(store.host.now_ms(), cursor.time_ms), indexes_of(record)
        write = Write({keys.record(child): seen[child] for child in children})
        write.checks[keys.record(record.id)] = record.version_tag
        slim, blobs = store.spill(way.events(), record.run)
        ahead: dict[str, bytes] = {}
        for place, entry in told:
            if entry[1] == "child":
                data = store.codec.encode_whole(entry)
            else:
                data, more = payloads.fitted(store, record.run, entry)
                ahead.update(more)
            (write.puts if len(told) <= _AT_ONCE else ahead)[keys.inbox(record.id, place)] = data
        await put_in_batches(store, ahead)
        if blobs and not await store.put_blobs(blobs, dict(write.checks)):
            return False
        raw = cursor.encode(now, slim, store.codec)
        key = keys.commit(keys.history(record.run, record.generation), cursor.length)
        write.checks[key], write.puts[key], write.proof = None, raw, key
        lease.free(record)
        record.status, record.waiting, record.wake_at = "suspended", ["its retry"], store.host.now_ms()
        record.failure, record.result, record.retried, record.topped_up = None, None, record.retried + 1, []
        record.cursor_length, record.head = cursor.length + 1, digest_of(raw)
        record.updated_at = max(record.updated_at, store.host.now_ms())
        store.put_record(write, record, before)
        outcome = await store.commit(write)
        if isinstance(outcome, Conflict):
            return False
        record.version_tag = seen[record.id] = outcome.version
        self._reports.forget(record.id)
        self._teller.saw(record)
        self._teller.tell(lifecycle.RunRetried(record.id, now, record.retried))
        if self._teller.followed:
            self._teller.recorded(record.id)
        return True


def _spent(record: ExecutionRecord, failure: dict[str, Any] | None = None) -> ConflictError:
    why = f": {failure['message']}" if failure else ""
    more = "more than it was topped up by" if record.topped_up else "a top-up"
    return ConflictError(
        f"run {record.id!r} failed because its budget is spent, and would fail again without {more}{why}. "
        "Call runtime.top_up (alkaline top-up), and try it again then",
        id=record.id,
    )


def _cuts(ways: list[Way]) -> bool:
    """Whether the last of them holds whatever else was recorded behind what failed."""
    return len(ways) > 1 and not (len(ways) == 2 and ways[0].void == ways[1].void)


def _open_children(commits: list[list[Timed]]) -> list[ev.ChildStarted]:
    """Children that the run waits for, by the events that count."""
    found: dict[str, ev.ChildStarted] = {}
    for commit in commits:
        for _, event in commit:
            if isinstance(event, ev.ChildStarted):
                found[event.id] = event
            elif isinstance(event, ev.ChildFinished):
                found.pop(event.id, None)
    return list(found.values())


def _refuse(record: ExecutionRecord) -> None:
    """ERR_CONFLICT for a run that has not failed here."""
    if record.moved_to is not None:
        raise gone(record, "retry")
    if record.status == "failed":
        return
    todo = {
        "completed": "it has its result: start another run, or fork it",
        "cancelled": "it was ended on purpose: start another run, or fork it",
        "paused": "resume it",
    }.get(record.status, "it goes on by itself; where it is stuck, resume it once that is mended")
    raise ConflictError(
        f"run {record.id!r} is {record.status}, and only one that has failed is tried again: {todo}",
        id=record.id,
        status=record.status,
    )
