"""The inbox of a run: what others ask of it, appended without owning it, consumed with the event that records it.

An entry is ``[entry id, kind, name, payload]``. The owner deletes it in the commit that records its event; an entry
id that the history knows already is dropped, so a request that was sent twice counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import events as ev
from .. import keys, lifecycle
from ..commands import ReplyToUpdate
from ..errors import AlkalineError, ConflictError, InvalidInput, NotFound
from ..events import Event
from ..failures import describe
from ..host import Conflict
from ..names import check_name
from .store import Store, Write

if TYPE_CHECKING:
    from .driver import Driver


class Inbox:
    """The owner's side."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._seen: set[str] = set()

    async def consume(self) -> bool:
        """Record and feed what has come in; False when there was nothing."""
        driver = self._driver
        entries = await driver.host.list(f"i/{driver.record.id}/", "", 100)
        if not entries:
            return False
        write = driver.write()
        for entry in entries:
            id, kind, name, payload = driver.codec.decode(entry.value)
            write.deletes.add(entry.key)
            if id in driver.machine.mailbox.entries or id in self._seen:
                continue
            if kind == "child" and payload[4] is not None:
                payload[3] = (await driver.store.record(payload[4])).result
            event = self._event(id, kind, name, payload, write)
            if event is not None or kind == "update":
                self._seen.add(id)
                await self._record([event] if event is not None else [], write)
                write = driver.write()
                if driver.machine.outcome is not None:
                    break  # the end of the run deletes what is left
        if write.deletes and driver.machine.outcome is None:
            driver.put_record(write)
            await driver.commit(write)
        driver.poked = True
        return True

    async def _record(self, events: list[Event], write: Write) -> None:
        """One commit, fed before the next entry is recorded: what the handler draws in between stands between them."""
        driver = self._driver
        if not events and not driver.machine.drawn:  # a refused update: its reply is stored, and nothing is recorded
            await driver.commit(write)
            driver.runtime.changed()
            return
        turned = driver.paused != (driver.record.status == "paused")
        if turned:  # the next owner knows it from the record, so it goes with the event
            driver.record.status = "paused" if driver.paused else "running"
        recorded = await driver.append(events, write, record=turned)
        self._tell(recorded)
        await driver.feed(recorded)

    def _event(self, id: str, kind: str, name: str, payload: Any, write: Write) -> Event | None:
        driver = self._driver
        match kind:
            case "signal":
                return ev.SignalReceived(ev.SIGNAL_RECEIVED, id, name, payload)
            case "cancel":
                driver.paused = False
                return ev.CancelRequested(ev.CANCEL_REQUESTED, payload)
            case "pause":
                driver.paused = True
                return ev.Paused(ev.PAUSED)
            case "resume":
                if not driver.paused:
                    return None
                driver.paused = False
                return ev.Resumed(ev.RESUMED)
            case "child":
                return self._child(name, payload)
            case "update":
                return self._update(id, name, payload, write)
            case _:
                raise InvalidInput(
                    f"the inbox holds a request of kind {kind!r}; a newer alkaline_edge sent it: upgrade"
                )

    def _child(self, command: str, payload: list[Any]) -> Event | None:
        run, generation, outcome, value, _ = payload
        machine = self._driver.machine
        if (run, generation) != (machine.header.run, machine.header.generation):
            return None
        if command not in machine.pending:
            return None
        return ev.ChildFinished(ev.CHILD_FINISHED, command, outcome, value)

    def _update(self, id: str, name: str, payload: Any, write: Write) -> Event | None:
        driver = self._driver
        try:
            driver.machine.mailbox.validate(name, payload)
        except Exception as error:
            reply = [False, describe(error, driver.codec)]
            write.puts[keys.reply(driver.record.run, id)] = driver.codec.encode(reply)
            return None
        return ev.UpdateReceived(ev.UPDATE_RECEIVED, id, name, payload)

    def _tell(self, recorded: list[tuple[int, Event]]) -> None:
        for time_ms, event in recorded:
            if isinstance(event, ev.SignalReceived):
                self._driver.runtime.tell(lifecycle.SignalArrived(self._driver.record.id, time_ms, event.name))

    async def reply(self, command: ReplyToUpdate) -> None:
        """Store the answer to an update where its caller looks, in the commit that records it."""
        driver = self._driver
        write = driver.write()
        answer = driver.codec.encode([command.ok, command.value])
        write.puts[keys.reply(driver.record.run, command.id)] = answer
        await driver.append([ev.UpdateReplied(ev.UPDATE_REPLIED, command.id, command.ok, command.value)], write)
        driver.machine.commands.pop(f"reply {command.id}", None)
        driver.machine.mailbox.answered.add(command.id)
        driver.runtime.changed()


async def send(store: Store, id: str, kind: str, name: str, payload: Any, dedupe: str | None = None) -> tuple[str, str]:
    """Append an entry to the inbox of ``id``; return the run's random id and the entry's id.

    Entries keep their order of arrival. With ``dedupe`` the same key counts once in the life of the run, also after
    continue_as_new. A finished run is ERR_CONFLICT, an unknown one ERR_NOT_FOUND.
    """
    entry = f"{kind[0]}{store.host.entropy(8).hex()}"
    encoded = store.codec.encode([entry, kind, name, payload], "payload")
    for _ in range(100):
        record = await store.record(id)
        if record.finished:
            raise ConflictError(f"run {id!r} has {record.status}: it takes no {kind}", id=id, status=record.status)
        if record.moved_to is not None:
            raise ConflictError(f"run {id!r} was handed over to {record.moved_to}: send the {kind} there", id=id)
        marker = keys.dedupe(record.run, dedupe if dedupe is not None else entry)
        present = (await store.host.get([marker]))[0]
        if present is not None:
            return record.run, store.codec.decode(present.value)
        taken = await store.keys_under(f"i/{id}/")
        last = max((keys.position_of(key) for key in taken if not key.rsplit("/", 1)[1].startswith("~")), default=0)
        place = keys.inbox(id, keys.position(last + 1))
        # The record too: an entry for a run that ended or was handed over meanwhile would never be read.
        fence = {place: None, marker: None, keys.record(id): record.version_tag}
        write = Write(fence, {marker: store.codec.encode(entry), place: encoded})
        if not isinstance(await store.commit(write), Conflict):
            return record.run, entry
    raise ConflictError(f"the inbox of run {id!r} is too busy: 100 attempts met another sender; try again later")


def check_request(kind: str, name: str) -> None:
    """The name of a signal or update, or InvalidInput."""
    check_name(name, f"the name of a {kind}")


def gone(error: AlkalineError) -> bool:
    """Whether the run is unknown."""
    return isinstance(error, NotFound)
