"""The inbox of a run: what others ask of it, appended without owning it, consumed with the event that records it.

An entry is ``[entry id, kind, name, payload, accepted]``, a large payload in blobs (``payloads``). The owner deletes
it in the commit that records its event; an entry id that the history knows already is dropped, so a request that was
sent twice counts once. ``accepted`` is the sender's clock (ms since 1970): by it a request is put in order with the
run's timers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from .. import events as ev
from .. import keys, lifecycle
from ..codec import Codec
from ..errors import ConflictError, InvalidInput, NotFound
from ..events import Event
from ..failures import describe
from ..host import Conflict, Entry
from ..machine.commands import ReplyToUpdate, StartTimer
from ..records import NamedTuple
from ..runs import ExecutionRecord
from . import payloads, reporting
from .journal import Journal
from .moved import gone
from .store import Store, Write

_PAGE = 100
OF_A_MOVE = "move-"
"""How the entry of a pause begins by which a move stops a run: it goes nowhere with the run."""
_ENDS = 16


class Request(NamedTuple):
    """One entry, with the key that it stands under."""

    key: str
    id: str
    kind: str
    name: str
    payload: Any
    accepted: int


class Inbox:
    """The owner's side."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._store, self._host, self._codec = journal.store, journal.host, journal.codec
        self._machine, self._clock, self._teller = journal.machine, journal.clock, journal.teller
        self.paused = journal.record.status == "paused"
        """Whether a pause was recorded last: nothing new is started, and no timer fires."""
        self.poked = True
        """Something may have come in since the inbox was last read."""
        self._seen: set[str] = set()
        """Entries of this owner's time. The history knows the earlier ones: see ``mailbox.entries``."""
        self._ahead: deque[Request] = deque()
        """What was read and not yet consumed, in the order in which it was accepted."""
        self._more = False
        """There was more than a page."""
        self._looked_ms = -1
        """When the inbox was last read: what comes later was accepted later, but for the senders' clocks."""
        self._void: set[str] = set()
        """Keys of entries that count no more, to be deleted with the next commit."""

    async def look(self) -> bool:
        """Read what has come in; False when there is nothing."""
        self.poked = False
        prefix = keys.requests(self._journal.record.id)
        self._looked_ms = self._host.now_ms()
        entries = await self._host.list(prefix, "", _PAGE)
        self._more = len(entries) == _PAGE
        after = entries[-1].key if self._more else ""
        if self._more and after < f"{prefix}~":
            after = f"{prefix}~"
        while after:  # what parents and children sent stands behind the page, and may have come before its last
            page = await self._host.list(prefix, after, _PAGE)
            entries = [*entries, *page]
            after = page[-1].key if len(page) == _PAGE else ""
        self._ahead = deque(_in_order([read_request(entry, self._codec) for entry in entries], self._more))
        return bool(entries)

    async def find_cancel(self) -> Request | None:
        """The first cancel that has come in."""
        await self.look()
        for request in self._ahead:
            if request.kind == "cancel" and (not request.id.startswith("cancel-") or self._from_parent(request.id)):
                return await self._whole(request)
        return None

    async def advance(self) -> bool:
        """Apply what has come in, up to the timer that is due first, and that timer; False when there was nothing.

        What was accepted before a deadline goes before the timer of that deadline, however late both are looked at:
        so no timer fires before the inbox was read at or after its deadline.
        """
        machine, clock = self._machine, self._clock
        acted = False
        while machine.outcome is None:  # the end of the run deletes what is left
            due = self._due_timer()
            late = due is not None and clock.due_at(due) > self._looked_ms
            if self.poked or late or (self._more and not self._ahead):
                await self.look()
                due = self._due_timer()  # reading takes time
                if due is not None and clock.due_at(due) > self._looked_ms:
                    continue
            if self._ahead and (due is None or self._ahead[0].accepted < clock.due_at(due)):
                await self._consume(self._ahead.popleft())
            elif due is not None:
                await self._journal.happened([ev.TimerFired(ev.TIMER_FIRED, due.id)])
                return True
            else:
                break
            acted = True
        if self._void and machine.outcome is None:
            write = self._write()
            self._journal.put_record(write)
            await self._journal.commit(write)
        return acted

    def _due_timer(self) -> StartTimer | None:
        return None if self.paused else self._clock.due_timer()

    def void(self) -> set[str]:
        """Keys of entries that count no more: whoever commits next deletes them."""
        void, self._void = self._void, set()
        return void

    def _write(self) -> Write:
        write = self._journal.write()
        write.deletes = self.void()
        return write

    async def _consume(self, request: Request) -> None:
        """Record and feed one request, unless the history knows it already or it is void."""
        self._void.add(request.key)
        if request.id in self._machine.mailbox.entries or request.id in self._seen:
            await payloads.drop(self._journal.store, self._journal.record.run, request.payload)
            return
        write = self._write()
        event = await self._event(await self._whole(request), write)
        if event is None and request.kind != "update":
            self._void |= write.deletes
            return
        self._seen.add(request.id)
        await self._record([event] if event is not None else [], write)
        await payloads.drop(self._journal.store, self._journal.record.run, request.payload)

    async def _whole(self, request: Request) -> Request:
        payload = await payloads.read(self._journal.store, self._journal.record.run, request.payload)
        return request._replace(payload=payload)

    async def _record(self, events: list[Event], write: Write) -> None:
        """One commit, fed before the next entry is recorded: what the handler draws in between stands between them."""
        if not events and not self._machine.drawn:  # a refused update: its reply is stored, and nothing is recorded
            await self._journal.commit(write)
            self._teller.changes.changed()
            return
        turned = self.paused != (self._journal.record.status == "paused")
        if turned:  # the next owner knows it from the record, so it goes with the event
            self._journal.record.status = "paused" if self.paused else "running"
        recorded = await self._journal.append(events, write, record=turned)
        self._tell(recorded)
        await self._journal.feed(recorded)

    async def _event(self, request: Request, write: Write) -> Event | None:
        _, id, kind, name, payload, _ = request
        match kind:
            case "signal":
                return ev.SignalReceived(ev.SIGNAL_RECEIVED, id, name, payload)
            case "cancel":
                if id.startswith("cancel-") and not self._from_parent(id):
                    return None
                self.paused = False
                return ev.CancelRequested(ev.CANCEL_REQUESTED, payload)
            case "pause":
                self.paused = True
                return ev.Paused(ev.PAUSED)
            case "resume":
                if not self.paused:
                    return None
                self.paused = False
                return ev.Resumed(ev.RESUMED)
            case "child":
                return await self._child(id, name, payload)
            case "update":
                return await self._update(id, name, payload, write)
            case _:
                raise InvalidInput(
                    f"the inbox holds a request of kind {kind!r}; a newer alkaline_edge sent it: upgrade"
                )

    def _from_parent(self, entry: str) -> bool:
        """Whether a parent's cancel was meant for this run, and not for an earlier one with its id."""
        parent = self._machine.header.parent
        return parent is not None and entry == f"cancel-{parent[1]}-{parent[3]}"

    async def _child(self, entry: str, command: str, payload: list[Any]) -> Event | None:
        run, generation, outcome, value, place = payload
        machine = self._machine
        if (run, generation) != (machine.header.run, machine.header.generation):
            return None
        if command not in machine.pending.waiting:
            return None
        if place is not None:  # too large to send: it is read where the child keeps it
            child = await self._store.find(place)
            if child is None or entry != f"child-{child.run}":
                text = f"the child {place!r} has {outcome}, and was deleted before its parent had read how"
                outcome, value = "failed", describe(NotFound(text, id=place), self._codec)
            else:
                value = child.result if outcome == "completed" else child.failure
        return ev.ChildFinished(ev.CHILD_FINISHED, command, outcome, value)

    async def _update(self, id: str, name: str, payload: Any, write: Write) -> Event | None:
        try:
            self._machine.mailbox.validate(name, payload)
        except Exception as error:
            reporting.update_failed(self._journal.record.id, error)
            failure = describe(error, self._codec)
            reply = [False, await self._store.outside(failure, self._journal.record.run, dict(write.checks))]
            write.puts[keys.reply(self._journal.record.run, id)] = self._codec.encode(reply)
            return None
        return ev.UpdateReceived(ev.UPDATE_RECEIVED, id, name, payload)

    def _tell(self, recorded: list[tuple[int, Event]]) -> None:
        for time_ms, event in recorded:
            if isinstance(event, ev.SignalReceived):
                self._teller.tell(lifecycle.SignalArrived(self._journal.record.id, time_ms, event.name))

    async def reply(self, command: ReplyToUpdate) -> None:
        """Store the answer to an update where its caller looks, in the commit that records it."""
        write = self._journal.write()
        ref = self._store.reference(command.value)  # the same blob as that of the event, put ahead of both
        value = command.value if ref is None else ref
        write.puts[keys.reply(self._journal.record.run, command.id)] = self._codec.encode([command.ok, value])
        await self._journal.append([ev.UpdateReplied(ev.UPDATE_REPLIED, command.id, command.ok, command.value)], write)
        if command.error is not None:
            reporting.update_failed(self._journal.record.id, command.error)
        self._machine.commands.pop(f"reply {command.id}", None)
        self._machine.mailbox.reply(command.id)
        self._teller.changes.changed()

    async def answer_all(self) -> None:
        """Give the replies that the handlers of updates came to in the turn that ended the run's own."""
        for command in list(self._machine.commands.values()):
            if isinstance(command, ReplyToUpdate):
                await self.reply(command)

    async def refuse_open(self) -> None:
        """Tell the callers of updates that are under way that the run goes on without them."""
        id = self._journal.record.id
        for entry, name in list(self._machine.mailbox.open.items()):
            text = f"run {id!r} continued as new before it answered the update {name!r}: send it again"
            failure = describe(ConflictError(text, id=id), self._codec)
            await self.reply(ReplyToUpdate(entry, False, failure))


def read_request(entry: Entry, codec: Codec) -> Request:
    """The request of an entry. Version 0.1 did not say when one was accepted: nothing is known against it."""
    id, kind, name, payload, *rest = codec.decode(entry.value)
    return Request(entry.key, id, kind, name, payload, rest[0] if rest else 0)


async def is_asked(store: Store, record: ExecutionRecord) -> bool:
    """Whether a paused run has a request to answer. A copy's requests wait for the run, unless it is resumed itself."""
    after = ""
    while True:
        entries = await store.host.list(keys.requests(record.id), after, 100 if record.copy else 1)
        if not record.copy or not entries:
            return bool(entries)
        if any(store.codec.decode(entry.value)[1] == "resume" for entry in entries):
            return True
        after = entries[-1].key


def _in_order(requests: Sequence[Request], more: bool) -> list[Request]:
    """``requests`` in the order in which they were accepted.

    Those with a number arrived in that order, whatever their senders' clocks say: each counts as accepted no later than
    one that arrived behind it. The others have a clock alone. ``more``: those with numbers go on behind this page.
    """
    numbered = [request for request in requests if request.key.rsplit("/", 1)[1][0] != "~"]
    others = [request for request in requests if request.key.rsplit("/", 1)[1][0] == "~"]
    latest = float("inf")
    for n in range(len(numbered) - 1, -1, -1):
        latest = min(latest, numbered[n].accepted)
        numbered[n] = numbered[n]._replace(accepted=int(latest))
    if more and numbered:
        others = [request for request in others if request.accepted < numbered[-1].accepted]
    return sorted([*numbered, *others], key=lambda request: request.accepted)


async def send(
    store: Store, id: str, kind: str, name: str, payload: Any, dedupe: str | None = None, mark: str = ""
) -> tuple[str, str]:
    """Append an entry to the inbox of ``id``; return the run's random id and the entry's id.

    Entries keep their order of arrival. With ``dedupe`` the same key counts once, also after continue_as_new: see
    ``forgetting`` for how long. A finished run is ERR_CONFLICT, an unknown one ERR_NOT_FOUND. ``mark``: how the entry's
    id begins, for a sender who must know its own.
    """
    entry = f"{mark or kind[0]}{store.host.entropy(8).hex()}"
    store.codec.encode([entry, kind, name, payload], "payload")
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
        data, blobs = payloads.fitted(store, record.run, [entry, kind, name, payload, now])
        if blobs and ahead != record.run:
            await store.put_blobs(blobs, {})
            ahead = record.run
        place = keys.inbox(id, keys.position(await _last(store, id) + 1))
        # The record too: an entry for a run that ended or was handed over meanwhile would never be read.
        fence = {place: None, marker: None, keys.record(id): record.version_tag}
        puts = {marker: store.codec.encode([entry, record.generation, now]), place: data}
        if not isinstance(await store.commit(Write(fence, puts)), Conflict):
            return record.run, entry
    raise ConflictError(f"the inbox of run {id!r} is too busy: 100 attempts met another sender; try again later")


async def _last(store: Store, id: str) -> int:
    """The highest place in the inbox of ``id``, 0 where it is empty: a page is read, and then one key at a time."""
    prefix = keys.requests(id)

    async def behind(place: int) -> int:
        """A place behind ``place`` that is taken; 0 where there is none."""
        return _highest(await store.host.list(prefix, keys.inbox(id, keys.position(place)), 1))

    page = await store.host.list(prefix, "", _ENDS)
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
    places = [entry.key for entry in entries if not entry.key.rsplit("/", 1)[1].startswith("~")]
    return keys.position_of(places[-1]) if places else 0


async def first(store: Store, id: str, kind: str) -> Request | None:
    """The first request of that kind that waits in the inbox of ``id``."""
    after = ""
    while True:
        page = await store.host.list(keys.requests(id), after, _PAGE)
        for request in (read_request(entry, store.codec) for entry in page):
            if request.kind == kind:
                return request
        if len(page) < _PAGE:
            return None
        after = page[-1].key


def entry_of(marker: Any) -> str:
    """The entry that a dedupe marker stands for: ``[entry, generation, accepted]``; 0.1 wrote the entry alone."""
    return str(marker[0] if isinstance(marker, list) else marker)
