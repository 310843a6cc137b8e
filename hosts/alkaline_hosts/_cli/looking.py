"""What the commands look at: runs and histories of a store or, by its URL, of a server, as the same values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alkaline_edge import ExecutionRecord, InvalidInput, Recorded, Runtime, StoreError, events, keys
from alkaline_edge.runtime.requests import requests_of
from alkaline_edge.shapes import check_record

from . import files
from .addresses import Address
from .moving import asking
from .output import time_of
from .shell import reading, showing

LATE_MS = 5_000
"""By how much a run may be behind its time before that is told: clocks differ, and taking a run up takes a moment."""
_PAGE = 500
"""Runs that are asked for at a time where all of them are read."""
_NUMBERS = {kind.cls.__name__: number for number, kind in enumerate(events.KINDS)}


class Look(NamedTuple):
    """A run as it is shown. ``asked``: requests that no owner has taken up; ``held_up``: why it does not go on."""

    record: ExecutionRecord
    asked: list[str]
    held_up: str
    from_server: Mapping[str, Any] | None = None


class Listed(NamedTuple):
    """A page of runs, and where the next one begins. ``left_out``: those that can't be read, and why."""

    records: list[ExecutionRecord]
    after: str | None
    left_out: Mapping[str, str]
    from_server: Mapping[str, Any] | None = None


def run_of(store: Address, run: str) -> Look:
    """One run."""
    if not store.is_server:
        found: Look = reading(store, lambda runtime: _looked_at(runtime, run), showing())
        return found
    shown = asking(store, lambda server: server.status(run))
    record = _record(shown)
    stuck = shown.get("stuck")
    why = f"{stuck.get('code')}: {stuck.get('message')}" if isinstance(stuck, dict) else _left(record, True)
    return Look(record, [], why, shown)


async def _looked_at(runtime: Runtime, run: str) -> Look:
    record = await runtime.get_execution(run)
    entries = [] if record.finished else await runtime.host.list(keys.requests(run), "", 20)
    requests = requests_of(entries, runtime.store)
    return Look(record, [f"{request.kind} {request.name}".strip() for request in requests], _left(record))


def _left(record: ExecutionRecord, by_server: bool = False) -> str:
    """Why nobody goes on with a run that could: nothing is written of what keeps one from it, so it is told by time."""
    if record.finished or record.status == "paused" or record.moved_to is not None:
        return ""
    now = round(time.time() * 1000) - LATE_MS
    what = ""
    if record.status == "running" and not by_server and record.lease_until < now:
        gone = f", its owner {record.owner} is gone" if record.owner else ""
        what = f"nobody drives it{gone} since {time_of(record.lease_until or record.updated_at)}"
    elif record.status == "suspended" and record.wake_at is not None and record.wake_at < now:
        what = f"it is due since {time_of(record.wake_at)}, and nobody has woken it"
    if not what:
        return ""
    return (
        f"{what}: no runtime that knows {record.workflow} version {record.version} serves this store, or its code and "
        f"the history disagree, which its log says; so does alkaline check {record.id} with --store and --workflows"
    )


def page_of(
    store: Address, status: str | None, workflow: str | None, attributes: dict[str, Any] | None, after: str, limit: int
) -> Listed:
    """A page of runs, by id."""
    if not store.is_server:
        page = reading(
            store, lambda runtime: runtime.list_executions(status, workflow, attributes, after, limit), showing()
        )
        return Listed(page.items, page.after, {id: str(error) for id, error in page.unreadable.items()})
    return page_of_server(asking(store, lambda server: server.runs(status, workflow, after, limit, attributes)))


def page_of_server(shown: Mapping[str, Any]) -> Listed:
    """The page of runs that a server answered with."""
    runs, more = shown.get("runs"), shown.get("after")
    if not isinstance(runs, list) or not isinstance(more, (str, type(None))):
        raise _odd("a list of runs")
    left_out = shown.get("unreadable", [])
    if not isinstance(left_out, list):
        raise _odd("a list of runs")
    return Listed([_record(each) for each in runs], more, {str(id): "it can't be read there" for id in left_out}, shown)


def all_of(store: Address, status: str | None, workflow: str | None, attributes: dict[str, Any] | None) -> Listed:
    """Every run that matches, in no order, page by page."""
    records: list[ExecutionRecord] = []
    left_out: dict[str, str] = {}
    raw: list[Any] = []
    if not store.is_server:

        async def read(runtime: Runtime) -> None:
            after: str | None = ""
            while after is not None:
                page = await runtime.list_executions(status, workflow, attributes, after, _PAGE)
                records.extend(page.items)
                left_out.update({id: str(error) for id, error in page.unreadable.items()})
                after = page.after

        reading(store, read, showing())
        return Listed(records, None, left_out)
    after: str | None = ""
    while after is not None:
        page = page_of(store, status, workflow, attributes, after, _PAGE)
        records.extend(page.records)
        left_out.update(page.left_out)
        raw.extend((page.from_server or {})["runs"])
        after = page.after
    return Listed(records, None, left_out, {"runs": raw})


def events_of(store: Address, run: str) -> list[Recorded]:
    """The history of a run."""
    if not store.is_server:
        found: list[Recorded] = reading(store, lambda runtime: runtime.history(run), showing())
        return found
    return [recorded_of(each) for each in asking(store, lambda server: server.events(run))]


def bundle_of(store: Address, run: str) -> bytes:
    """A run as a bundle: its values are decoded by whoever reads it."""
    found: bytes
    if store.is_server:
        found = asking(store, lambda server: server.export(run))
    else:
        found = reading(store, lambda runtime: runtime.export(run))
    return found


def history_of(name: str, store: Address | None) -> bytes:
    """The bundle in the file ``name``, or of the run of that name in ``store``; ERR_INVALID_INPUT for neither."""
    if Path(name).is_file():
        return files.read(name)
    if store is None:
        raise InvalidInput(f"there is no file {name}; for a run of a store, say which with --store")
    return bundle_of(store, name)


def _record(shown: Any) -> ExecutionRecord:
    """The record in a server's answer, as far as a server tells it."""
    if not isinstance(shown, dict):
        raise _odd("a run")
    values = {"run": shown.get("id"), **{name: item for name, item in shown.items() if name != "stuck"}}
    needed = ("id", "run", "workflow", "version", "status", "created_at", "updated_at")
    try:
        check_record(values, needed)
    except InvalidInput:
        raise _odd("a run") from None
    return ExecutionRecord.from_map(values, "")


def recorded_of(shown: Any) -> Recorded:
    """An event in a server's answer. What JSON lacks stands there as text."""
    try:
        number = _NUMBERS[shown["kind"]]
        names = events.CLASSES[number]._fields[1:]
        commit, at = shown["commit"], shown["at"]
        if type(commit) is int and type(at) is int:
            return Recorded(commit, at, events.event_of([number, *(shown[name] for name in names)]))
    except (KeyError, TypeError):
        pass
    raise _odd("an event")


def _odd(what: str) -> StoreError:
    return StoreError(
        f"the server answered with what is not {what} as this alkaline_edge knows it: a newer one may, so upgrade; "
        "otherwise look at what answers there"
    )
