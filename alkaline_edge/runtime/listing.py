"""Finding runs: pages over an index, which cost what they return."""

from __future__ import annotations

from typing import Any

from .. import keys
from ..arguments import expect, whole
from ..errors import AlkalineError, InvalidInput
from ..names import check_attributes, check_workflow_name
from ..runs import STATUSES, ExecutionRecord
from ..structs import dataclass, field
from .store import Store


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, the ``items``, and where the next page begins; ``after`` is None behind the last one."""

    items: list[ExecutionRecord]
    after: str | None
    unreadable: dict[str, AlkalineError] = field(default_factory=dict)
    """By id, why runs are not among the items whose records can't be read: damaged, or sealed with another key."""

    def __iter__(self) -> Any:
        """The records."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many records this page has."""
        return len(self.items)


async def page(
    store: Store,
    status: str | None,
    workflow: str | None,
    attributes: dict[str, Any] | None,
    after: str,
    limit: int,
) -> Page:
    """See ``Runtime.list_executions``. The narrowest index is walked; what else was asked for filters its records."""
    if status is not None and status not in STATUSES:
        raise InvalidInput(f"status is one of {', '.join(STATUSES)}, not {status!r}")
    whole(limit, "limit", 1, 1_000)
    expect(after, str, "after", "what an earlier page gave, or empty")
    prefix = _prefix(status, workflow, attributes or {})
    if after and not after.startswith(prefix):
        raise InvalidInput("`after` is what an earlier page of the same filters gave; start over without it")
    several = _ByStatus(store, prefix) if prefix.startswith(keys.BY_STATUS) and workflow is None else None
    found: list[ExecutionRecord] = []
    damaged: dict[str, AlkalineError] = {}
    while True:
        if prefix == keys.RECORDS:
            entries = await store.unreadable.entries(prefix, after, limit)
            records, unread = await store.unreadable.records_in(entries)
            ids = [entry.key[2:] for entry in entries]
        else:
            ids = await (several.ids(after[len(prefix) :], limit) if several else _ids(store, prefix, after, limit))
            records, unread = await store.unreadable.records(ids)
        damaged.update(unread)
        for record in records:
            if _matches(record, status, workflow, attributes or {}):
                found.append(record)
                if len(found) == limit and record is not records[-1]:
                    return Page(found, prefix + record.id, damaged)
        if len(ids) < limit:
            return Page(found, None, damaged)
        after = prefix + ids[-1]
        if len(found) == limit:
            return Page(found, after, damaged)


async def _ids(store: Store, prefix: str, after: str, limit: int) -> list[str]:
    return [entry.key[len(prefix) :] for entry in await store.unreadable.entries(prefix, after, limit)]


class _ByStatus:
    """The runs of one status by id, over an index that has them by workflow: its parts are merged as they are read."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._workflows: list[str] | None = None

    async def ids(self, after: str, limit: int) -> list[str]:
        """The next ``limit`` ids behind ``after``, ascending."""
        if self._workflows is None:
            self._workflows = await self._known()
        share = limit if len(self._workflows) <= 1 else min(limit, max(8, 2 * limit // len(self._workflows)))
        heads = dict.fromkeys(self._workflows, after)
        found: list[str] = []
        while heads:  # whoever was read less far than the others is read on, until so many are surely the first ones
            read = {name: await self._read(name, place, share) for name, place in heads.items()}
            heads = {name: ids[-1] for name, ids in read.items() if len(ids) == share}
            found = sorted([*found, *(id for ids in read.values() for id in ids)])
            if len(found) >= limit:
                heads = {name: place for name, place in heads.items() if place < found[limit - 1]}
        return found[:limit]

    async def _read(self, workflow: str, after: str, limit: int) -> list[str]:
        prefix = f"{self._prefix}{workflow}/"
        return await _ids(self._store, prefix, f"{prefix}{after}" if after else "", limit)

    async def _known(self) -> list[str]:
        """The workflows that have runs of this status: a call for each."""
        names: list[str] = []
        after = ""
        while True:
            entries = await self._store.unreadable.entries(self._prefix, after, 1)
            if not entries:
                return names
            names.append(entries[0].key[len(self._prefix) :].partition("/")[0])
            after = f"{self._prefix}{names[-1]}/\x7f"


def _prefix(status: str | None, workflow: str | None, attributes: dict[str, Any]) -> str:
    if workflow is not None:
        check_workflow_name(workflow)
    check_attributes(attributes)
    for name, value in attributes.items():
        return keys.with_attribute(name, value)
    if status is not None:
        return keys.with_status(status, workflow)
    return keys.of_workflow(workflow) if workflow is not None else keys.RECORDS


def _matches(record: ExecutionRecord, status: str | None, workflow: str | None, attributes: dict[str, Any]) -> bool:
    return (
        (status is None or record.status == status)
        and (workflow is None or record.workflow == workflow)
        and all(name in record.attributes and record.attributes[name] == value for name, value in attributes.items())
    )
