"""Asking something of a run: signals, updates, queries, and waiting for its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import keys
from ..codec import BlobRef
from ..errors import AlkalineError, ClosedError, ConflictError, InvalidInput, RunCancelled, StoreError
from ..failures import revive
from ..host import Host
from ..names import check_attribute, check_name
from ..runs import ExecutionRecord
from . import inbox, owning, waking

if TYPE_CHECKING:
    from .runtime import Runtime

_sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def session_of(host: Host) -> str:
    """A random name of this host object: owners of one session live in one process."""
    if host not in _sessions:
        _sessions[host] = host.entropy(6).hex()
    return _sessions[host]


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


def check_attributes(attributes: dict[str, Any] | None) -> None:
    """InvalidInput for what can't be indexed."""
    if attributes is not None and not isinstance(attributes, dict):
        raise InvalidInput(f"attributes are a dict of names and values, not a {type(attributes).__name__}")
    for key, value in (attributes or {}).items():
        check_attribute(key, value)


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
    while True:
        answer = (await runtime.host.get([keys.reply(run, entry)]))[0]
        if answer is not None:
            ok, value = runtime.codec.decode(answer.value)
            if type(value) is BlobRef:
                value = await runtime.store.blob(run, value)
            if ok:
                return value
            raise revive(value)
        if id not in runtime.active():
            record = await runtime.store.record(id)
            if record.finished:
                raise ConflictError(f"run {id!r} ended ({record.status}) before it answered the update {name!r}", id=id)
            if record.moved_to is not None:
                raise ConflictError(
                    f"run {id!r} was handed over to {record.moved_to} before it answered the update {name!r}", id=id
                )
            await raise_if_stuck(runtime, id)
        await wait(runtime, id, None)


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


async def wait(runtime: Runtime, id: str, deadline: float | None, for_end: bool = False) -> None:
    """Until something may have changed for the run. Timers of this store that come due meanwhile are woken.

    ``for_end``: while the run is being driven, nothing less than its end or suspension counts as a change.
    """
    now = runtime.host.now_ms()
    if deadline is not None and now >= deadline:
        raise TimeoutError(f"run {id!r} had no result in time; it goes on: ask again")
    if for_end and id in runtime.active():
        await runtime.wait_for_task(id, None if deadline is None else (deadline - now) / 1000)
        return
    until = deadline if deadline is not None else float("inf")
    if id not in runtime.active():
        if not runtime.serving:
            await waking.wake_due(runtime, set())
            if id in runtime.active():
                return
            wake_at = await waking.next_wake(runtime, now)
            if wake_at is not None:
                until = min(until, wake_at)
        if runtime.serving or waking.must_look(runtime):
            until = min(until, now + waking.POLL_SECONDS * 1000)
    if id in runtime.active() and deadline is None:
        until = now + 86_400_000
    if not runtime.closing:
        await runtime.wait_for_change(min(86_400.0, max(0.0, (until - now) / 1000)))
    if runtime.closing:
        raise ClosedError("the runtime was closed while something waited for a run; the run is kept")


def cancelled(record: ExecutionRecord) -> AlkalineError:
    """What the result of a cancelled run is."""
    failure = record.failure or {}
    detail = failure.get("detail") or {}
    return RunCancelled(str(failure.get("message", f"run {record.id!r} was cancelled")), **detail)
