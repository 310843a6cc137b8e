"""The inbox of a run, as its owner reads it: what others ask (``sending``), consumed with the event that records it.

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
from ..errors import ConflictError, NotFound, StoreError
from ..events import Event
from ..failures import describe
from ..machine.commands import ReplyToUpdate, StartTimer
from . import payloads, reporting
from .fleet import Fleet
from .journal import TOGETHER, Journal, Refused
from .requests import Request, read_request
from .segments import keys_of
from .write import Write

_PAGE = 100
_TURNS = 16
"""So many pauses and resumes are consumed at once where a handler never waits."""
_TOGETHER = ("signal", "child")
"""Kinds of requests that go into one commit with others."""


class Inbox:
    """The owner's side."""

    def __init__(self, journal: Journal, fleet: Fleet) -> None:
        self._journal, self._fleet = journal, fleet
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
        self._alone = 0
        """So many of those go one by one: the store has refused them together."""
        self._void: set[str] = set()
        """Keys of entries that count no more, to be deleted with the next commit."""

    async def look(self) -> bool:
        """Read what has come in; False when there is nothing."""
        self.poked = False
        prefix = keys.requests(self._journal.record.id)
        self._looked_ms = self._host.now_ms()
        read = self._store.unreadable.entries
        entries = await read(prefix, "", _PAGE)
        self._more = len(entries) == _PAGE
        after = entries[-1].key if self._more else ""
        if self._more and after < f"{prefix}~":
            after = f"{prefix}~"
        while after:  # what parents and children sent stands behind the page, and may have come before its last
            page = await read(prefix, after, _PAGE)
            entries = [*entries, *page]
            after = page[-1].key if len(page) == _PAGE else ""
        # What can't be read may be anything, a cancel too: the run does not go on without it.
        self._ahead = deque(_in_order([read_request(entry, self._store) for entry in entries], self._more))
        return bool(self._ahead)

    async def told(self) -> tuple[Request | None, list[Event]]:
        """What has come in for a handler that never waits: the first cancel, or what pauses and resumes it.

        The pauses and resumes are consumed with the next commit, which is to hold their events.
        """
        await self.look()
        turns: list[Event] = []
        for request in self._ahead:
            if request.kind == "cancel" and (not request.id.startswith("cancel-") or self._from_parent(request.id)):
                return await self._whole(request), []
        for request in [each for each in self._ahead if each.kind in ("pause", "resume")][:_TURNS]:
            event = await self._event(request, self._journal.write())
            turns += [event] if event is not None else []
            self._void.add(request.key)
        return None, turns

    async def advance(self) -> bool:
        """Apply what has come in, up to the timers that are due first, and those; False when there was nothing.

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
            before = float("inf") if due is None else clock.due_at(due)
            if self._ahead and self._ahead[0].accepted < before:
                await self._consume(before)
            elif due is not None:
                # Those of one moment together; a later one may be withdrawn by what an earlier one leads to.
                await self._journal.happened([*clock.take_due(TOGETHER, self._journal.room())])
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
        return None if self.holds_timers() else self._clock.due_timer()

    def holds_timers(self) -> bool:
        """Whether no timer fires: the run is paused, or is to stop here so that it can be moved."""
        return self.paused or self._fleet.is_held(self._journal.record.id)

    def void(self) -> set[str]:
        """Keys of entries that count no more: whoever commits next deletes them."""
        void, self._void = self._void, set()
        return void

    def _write(self) -> Write:
        write = self._journal.write()
        write.deletes = self.void()
        return write

    async def _consume(self, before: float) -> None:
        """Record and feed the requests that go next, accepted ``before`` a time in ms, but for those that are void.

        Signals and children's ends together, as many as go into one commit; any other by itself.
        """
        run, ahead = self._journal.record.run, self._ahead
        events: list[Event] = []
        taken: list[Request] = []
        write = self._journal.write()
        room, most = self._journal.room(), 1 if self._alone else min(TOGETHER, keys_of(self._journal.store.limits))
        while ahead and ahead[0].accepted < before and (not taken or len(self._void) < most):
            joins = ahead[0].kind in _TOGETHER
            if taken and not (joins and ahead[0].size <= room):
                break
            request = ahead.popleft()
            room -= request.size
            self._void.add(request.key)
            if request.id in self._machine.mailbox.entries or request.id in self._seen:
                await payloads.drop(self._journal.store, run, request.payload)
                continue
            event = await self._event(await self._whole(request), write)
            if event is None and request.kind != "update":
                continue
            self._seen.add(request.id)
            taken.append(request)
            events += [event] if event is not None else []
            if not joins:
                break
        self._alone -= bool(self._alone)
        if taken:
            void = self.void()
            write.deletes |= void
            try:
                await self._record(events, write)
            except Refused:
                if len(taken) == 1:
                    raise
                self._alone = len(taken)  # one of them is what the store does not take, or all of them at once
                self._seen.difference_update(request.id for request in taken)
                self._void = void.difference(request.key for request in taken)
                ahead.extendleft(reversed(taken))
                return
        for request in taken:
            await payloads.drop(self._journal.store, run, request.payload)

    async def _whole(self, request: Request) -> Request:
        payload = await payloads.read(self._journal.store, self._journal.record.run, request.payload)
        return request._replace(payload=payload)

    async def _record(self, events: list[Event], write: Write) -> None:
        """One commit, fed before the next entry is recorded: what the handler draws in between stands between them.

        A validator so sees what all that came before its update has led to, and a cancel has an activation of its own.
        """
        if not events and not self._machine.drawn:  # a refused update: its reply is stored, and nothing is recorded
            await self._journal.commit(write)
            self._teller.changes.changed(self._journal.record.id)
            return
        turned = self.paused != (self._journal.record.status == "paused")
        if turned:  # the next owner knows it from the record, so it goes with the event
            self._journal.record.status = "paused" if self.paused else "running"
        recorded = await self._journal.append(events, write, record=turned)
        self._tell(recorded)
        await self._journal.feed(recorded)

    async def _event(self, request: Request, write: Write) -> Event | None:
        _, id, kind, name, payload, *_ = request
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
                raise StoreError(f"the inbox holds a request of kind {kind!r}; a newer alkaline_edge sent it: upgrade")

    def _from_parent(self, entry: str) -> bool:
        """Whether a parent's cancel was meant for this run, and not for an earlier one with its id."""
        parent = self._machine.header.parent
        return parent is not None and entry == f"cancel-{parent[1]}-{parent[3]}"

    async def _child(self, entry: str, command: str, payload: list[Any]) -> Event | None:
        run, generation, outcome, value, place = payload
        machine = self._machine
        if (run, generation) != (machine.header.run, machine.header.generation):
            return None
        if not machine.waits_for(command):
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
            write.puts[keys.reply(self._journal.record.run, id)] = self._codec.encode_whole(reply)
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
        write.puts[keys.reply(self._journal.record.run, command.id)] = self._codec.encode_whole([command.ok, value])
        await self._journal.append([ev.UpdateReplied(ev.UPDATE_REPLIED, command.id, command.ok, command.value)], write)
        if command.error is not None:
            reporting.update_failed(self._journal.record.id, command.error)
        self._machine.commands.pop(f"reply {command.id}", None)
        self._machine.mailbox.reply(command.id)
        self._teller.changes.changed(self._journal.record.id)

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
