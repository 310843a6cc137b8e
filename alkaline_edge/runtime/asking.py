"""Asking something of a run: signals, updates, queries, and waiting for its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import keys
from ..codec import BlobRef
from ..errors import AlkalineError, ClosedError, ConflictError, InvalidInput, NotFound, RunCancelled, StoreError
from ..failures import revive
from ..host import Host
from ..names import check_name
from ..runs import ExecutionRecord
from . import inbox, owning, scheduled, waking

if TYPE_CHECKING:
    from .runtime import Runtime


def require(host: Host, lease: float | None = None) -> None:
    """ERR_STORE for a host that can't keep a run safe, or can't keep a lease where one is asked for by name."""
    if not isinstance(host, Host):
        raise InvalidInput(
            f"a host has get, list, commit, close, now_ms, entropy and sleep; {type(host).__name__} lacks some"
        )
    can = host.capabilities
    for held, what in ((can.checks, "conditional commits"), (can.atomic, "atomic batches")):
        if not held:
            raise StoreError(
                f"{can.name} has no {what}, so two writers could both believe that they own a run; put a coordinator "
                "in front of it, or use another host",
                host=can.name,
            )
    if lease is not None and not can.conditional:
        raise StoreError(
            f"{can.name} has no conditional commits, so no lease keeps a second writer out, and none may be asked for: "
            "leave lease= out and see to it that one process writes, or use another host",
            host=can.name,
        )


def check_request(kind: str, name: str, dedupe: str | None) -> None:
    """InvalidInput for a name or dedupe key that can't be taken."""
    check_name(name, f"the name of a {kind}")
    if dedupe is not None:
        check_name(dedupe, "a dedupe key")


async def request(
    runtime: Runtime, id: str, kind: str, name: str, payload: Any, dedupe: str | None = None
) -> tuple[str, str]:
    """Append to the run's inbox and wake it if it can run here; the run's random id and the entry's id."""
    sent = await inbox.send(runtime.store, id, kind, name, payload, dedupe)
    runtime.poke(id)
    return sent


async def query(runtime: Runtime, id: str, name: str, args: tuple[Any, ...]) -> Any:
    """See ``Runtime.query``."""
    active = runtime.drivers.get(id)
    if active is not None:
        return active.machine.mailbox.query(name, args)
    record = await runtime.store.record(id)
    if not record.finished and scheduled.early(runtime, record):
        raise NotFound(
            f"run {id!r} has no query {name!r} yet: it has not begun, and does at {record.begins_at} ms since 1970",
            query=name,
        )
    asleep = runtime.asleep.get(id)
    if asleep is not None and asleep.record.version_tag == record.version_tag:
        return asleep.machine.mailbox.query(name, args)
    machine, _, _ = await owning.load(runtime, record, record.attempt)
    try:
        return machine.mailbox.query(name, args)
    finally:
        machine.set_aside()


async def update(runtime: Runtime, id: str, name: str, payload: Any) -> Any:
    """See ``Runtime.update``."""
    run, entry = await request(runtime, id, "update", name, payload)
    began: int | None = None
    over: AlkalineError | None = None
    while True:
        mark = runtime.changes.mark()
        answer, marker = await runtime.host.get([keys.reply(run, entry), keys.dedupe(run, entry)])
        if answer is not None:
            ok, value = runtime.codec.decode(answer.value)
            if type(value) is BlobRef:
                value = await runtime.store.blob(run, value)
            if ok:
                return value
            raise revive(value)
        if over is not None:  # the reply was looked for once more behind what ended the run
            raise over
        record = await look(runtime, id)
        seen = record or (runtime.drivers[id].record if id in runtime.drivers else None)
        if seen is not None:
            began = seen.generation if began is None else began
            over = _over(record, run, id, name, marker is None and seen.generation > began + 1)
        if over is None:
            await raise_if_stuck(runtime, id)
            await wait(runtime, id, None, mark, record)


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


async def settle(runtime: Runtime, id: str) -> None:
    """See ``Run.settle``."""
    while True:
        await runtime.settle(id)
        if runtime.closing:
            raise _closed()
        if id in runtime.asleep or id in runtime.stuck or runtime.draining:
            return
        mark = runtime.changes.mark()
        record = await look(runtime, id)
        if record is not None:
            driven = record.status == "running" and record.moved_to is None
            if not driven or not runtime.registry.knows(record.workflow, record.version):
                return
            await raise_if_stuck(runtime, id)
            await wait(runtime, id, None, mark, record)


async def look(runtime: Runtime, id: str) -> ExecutionRecord | None:
    """The run's record, or None while it is being driven here. Raises what ended its driver, and ClosedError."""
    if runtime.closing:
        raise _closed()
    if id in runtime.crashed:
        raise runtime.crashed[id]
    return None if runtime.is_active(id) else await runtime.store.record(id)


async def raise_if_stuck(runtime: Runtime, id: str) -> None:
    """Raise what keeps the run, or a child that it waits for, from going on here."""
    if id in runtime.stuck:
        raise runtime.stuck[id]
    for other, error in list(runtime.stuck.items()):
        record = await runtime.store.find(other)
        while record is not None and record.parent is not None:
            if record.parent == id and not record.finished:
                raise error
            record = await runtime.store.find(record.parent)


async def wait(
    runtime: Runtime, id: str, deadline: float | None, mark: int, record: ExecutionRecord | None, for_end: bool = False
) -> None:
    """Until something may have changed for the run since ``mark``, which was taken before anything was looked at.

    ``record`` is what was seen, None while the run is driven here. One that nobody drives any more is taken up, and
    timers of this store that come due meanwhile are woken. ``for_end``: while the run is being driven, nothing less
    than its end or suspension counts as a change.
    """
    now = runtime.host.now_ms()
    if deadline is not None and now >= deadline:
        raise TimeoutError(f"run {id!r} had no result in time; it goes on: ask again")
    if for_end and runtime.is_active(id):
        await runtime.wait_for_task(id, None if deadline is None else (deadline - now) / 1000)
        return
    until = deadline if deadline is not None else float("inf")
    if record is not None:
        until = min(until, await waking.look_after(runtime, record))
        if runtime.is_active(id):
            return
    if not runtime.closing:
        pause = (until - runtime.host.now_ms()) / 1000
        await runtime.changes.wait(min(86_400.0, max(0.0, pause)), mark)
    if runtime.closing:
        raise _closed()


def _closed() -> ClosedError:
    return ClosedError("the runtime was closed while something waited for a run; the run is kept")


def cancelled(record: ExecutionRecord) -> AlkalineError:
    """What the result of a cancelled run is."""
    failure = record.failure or {}
    detail = failure.get("detail") or {}
    return RunCancelled(str(failure.get("message", f"run {record.id!r} was cancelled")), **detail)
