"""Asking something of a run: signals, updates, queries, and waiting for its result."""

from __future__ import annotations

from typing import Any

from .. import keys
from ..budget import TOP_UP, micros
from ..codec import BlobRef
from ..errors import AlkalineError, ClosedError, ConflictError, NotFound, RunCancelled
from ..failures import revive
from ..limits import check_charge, check_seconds
from ..names import check_name
from ..runs import ExecutionRecord
from ..workflows import Registry
from .fleet import Fleet
from .loading import Loader
from .moved import ARRIVING, gone
from .reporting import Reports
from .scheduled import Scheduled
from .store import Store
from .telling import Changes
from .waking import Waker


class Asker:
    """Asks on behalf of one runtime's callers, and waits for them."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        fleet: Fleet,
        changes: Changes,
        reports: Reports,
        loader: Loader,
        scheduled: Scheduled,
        waker: Waker,
    ) -> None:
        self._store, self._registry, self._fleet, self._changes = store, registry, fleet, changes
        self._reports, self._loader, self._scheduled, self._waker = reports, loader, scheduled, waker

    def mark(self) -> int:
        """Where the count of changes stands: taken before a look, and handed to ``wait``."""
        return self._changes.mark()

    async def request(
        self, id: str, kind: str, name: str = "", payload: Any = None, dedupe: str | None = None
    ) -> tuple[str, str]:
        """Append to the run's inbox and wake it if it can run here; the run's random id and the entry's id."""
        from . import sending  # only who asks something needs it, and an import costs a browser's start

        sent = await sending.send(self._store, id, kind, name, payload, dedupe)
        self._fleet.poke(id)
        return sent

    async def top_up(self, id: str, tokens: int, usd: float | None, seconds: Any, key: str | None) -> None:
        """See ``Runtime.top_up``."""
        check_charge(tokens, usd, "top_up")
        ms = round(check_seconds(seconds, "top_up(seconds=)") * 1000)
        dedupe = None if key is None else f"{TOP_UP} {check_name(key, 'the key of a top-up')}"
        amounts = [tokens, micros(usd), ms]
        record = await self._store.record(id)
        if record.status != "failed":
            await self.request(id, "signal", TOP_UP, amounts, dedupe)
            return
        from . import topping  # as ``sending``

        await topping.top_up(self._store, record, amounts, dedupe)

    async def query(self, id: str, name: str, args: tuple[Any, ...]) -> Any:
        """See ``Runtime.query``."""
        active = self._fleet.drivers.get(id)
        if active is not None:
            return active.machine.mailbox.query(name, args)
        record = await self._store.record(id)
        if not record.finished and self._scheduled.early(record):
            raise NotFound(
                f"run {id!r} has no query {name!r} yet: it has not begun, and does at {record.begins_at} ms since 1970",
                query=name,
            )
        asleep = self._fleet.asleep.get(id)
        if asleep is not None and asleep.record.version_tag == record.version_tag:
            return asleep.machine.mailbox.query(name, args)
        loaded = await self._loader.load(record, record.attempt)
        try:
            return loaded.machine.mailbox.query(name, args)
        finally:
            loaded.machine.set_aside()

    async def update(self, id: str, name: str, payload: Any) -> Any:
        """See ``Runtime.update``."""
        run, entry = await self.request(id, "update", name, payload)
        began: int | None = None
        over: AlkalineError | None = None
        while True:
            mark = self._changes.mark()
            answer, marker = await self._store.host.get([keys.reply(run, entry), keys.dedupe(run, entry)])
            if answer is not None:
                ok, value = self._store.codec.decode(answer.value)
                if type(value) is BlobRef:
                    value = await self._store.blob(run, value)
                if ok:
                    return value
                raise revive(value)
            if over is not None:  # the reply was looked for once more behind what ended the run
                raise over
            record = await self.look(id)
            seen = record or (self._fleet.drivers[id].record if id in self._fleet.drivers else None)
            if seen is not None:
                began = seen.generation if began is None else began
                over = _over(record, run, id, name, marker is None and seen.generation > began + 1)
            if over is None:
                await self.raise_if_stuck(id)
                await self.wait(id, None, mark, record)

    async def settle(self, id: str) -> None:
        """See ``Run.settle``."""
        while True:
            await self._fleet.settle(id)
            if self._fleet.closing:
                raise _closed()
            if id in self._fleet.asleep or id in self._fleet.stuck or self._fleet.draining:
                return
            mark = self._changes.mark()
            record = await self.look(id)
            if record is not None:
                driven = record.status == "running" and record.moved_to is None
                if not driven or not self._registry.knows(record.workflow, record.version):
                    return
                await self.raise_if_stuck(id)
                await self.wait(id, None, mark, record)

    async def look(self, id: str) -> ExecutionRecord | None:
        """The run's record, or None while it is being driven here. Raises what ended its driver, and ClosedError."""
        if self._fleet.closing:
            raise _closed()
        if id in self._fleet.crashed:
            raise self._fleet.crashed[id]
        return None if self._fleet.is_active(id) else await self._store.record(id)

    async def raise_if_stuck(self, id: str) -> None:
        """Raise what keeps the run, or a child that it waits for, from going on here.

        An error of the store that may have passed by now keeps nothing: whoever waits has the run tried again.
        """
        self._fleet.unstick_what_is_ripe()
        if id in self._fleet.stuck:
            raise self._fleet.stuck[id]
        for other, error in list(self._fleet.stuck.items()):
            record = await self._store.unreadable.record(other)
            while record is not None and record.parent is not None:
                if record.parent == id and not record.finished:
                    raise error
                record = await self._store.unreadable.record(record.parent)

    async def wait(
        self, id: str, deadline: float | None, mark: int, record: ExecutionRecord | None, for_end: bool = False
    ) -> None:
        """Until something may have changed for the run since ``mark``, which was taken before anything was looked at.

        ``record`` is what was seen, None while the run is driven here. One that nobody drives any more is taken up, and
        timers of this store that come due meanwhile are woken. ``for_end``: while the run is being driven, nothing less
        than its end or suspension counts as a change.
        """
        now = self._store.host.now_ms()
        if deadline is not None and now >= deadline:
            raise TimeoutError(f"run {id!r} had no result in time; it goes on: ask again")
        if for_end and self._fleet.is_active(id):
            await self._fleet.wait_for(id, None if deadline is None else (deadline - now) / 1000)
            return
        until = deadline if deadline is not None else float("inf")
        if record is not None:
            until = min(until, await self._waker.look_after(record))
            if self._fleet.is_active(id):
                return
        if not self._fleet.closing:
            pause = (until - self._store.host.now_ms()) / 1000
            await self._changes.wait(min(86_400.0, max(0.0, pause)), mark, run=id)
        if self._fleet.closing:
            raise _closed()

    async def result(self, id: str, timeout: float | None) -> Any:
        """See ``Run.result``."""
        deadline = None if timeout is None else self._store.host.now_ms() + timeout * 1000
        while True:
            mark = self._changes.mark()
            record = await self.look(id)
            if record is not None:
                if record.finished:
                    return outcome_of(record, self._reports.raised_by(id))
                if record.moved_to not in (None, ARRIVING):  # it ends elsewhere
                    raise gone(record, "wait for")
                await self.raise_if_stuck(id)
            await self.wait(id, deadline, mark, record, for_end=True)


def _over(record: ExecutionRecord | None, run: str, id: str, name: str, forgotten: bool) -> ConflictError | None:
    """Why there will be no reply to an update; None where there may be one. ``record``: None while it is driven."""
    if forgotten:
        return ConflictError(
            f"run {id!r} has continued as new so often since that its reply to the update {name!r} may be deleted: "
            "look what became of it",
            id=id,
        )
    if record is None:
        return None
    if record.run != run:
        why = "was deleted, and another run has its id now,"
    elif record.moved_to is not None:
        why = f"was handed over to {record.moved_to}"
    elif record.finished:
        why = f"ended ({record.status})"
    else:
        return None
    return ConflictError(f"run {id!r} {why} before it answered the update {name!r}", id=id)


def _closed() -> ClosedError:
    return ClosedError("the runtime was closed while something waited for a run; the run is kept")


def _cancelled(record: ExecutionRecord) -> AlkalineError:
    """What the result of a cancelled run is."""
    failure = record.failure or {}
    detail = failure.get("detail") or {}
    return RunCancelled(str(failure.get("message", f"run {record.id!r} was cancelled")), **detail)


def outcome_of(record: ExecutionRecord, cause: BaseException | None = None) -> Any:
    """The result of a finished run, or its failure raised, from what was raised in this process."""
    if record.status == "completed":
        return record.result
    failure = record.failure or {"type": "StepError", "message": "the run failed"}
    if record.status == "cancelled":
        raise _cancelled(record)
    raise revive(failure) from cause
