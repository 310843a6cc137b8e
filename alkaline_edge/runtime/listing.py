"""Finding runs: pages over an index, which cost what they return."""

from __future__ import annotations

from typing import Any

from .. import keys
from ..errors import InvalidInput
from ..host import Host
from ..names import check_attributes, check_workflow_name
from ..records import dataclass
from ..runs import STATUSES, ExecutionRecord
from .store import Store


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where the next page begins; ``after`` is None behind the last one."""

    items: list[ExecutionRecord]
    after: str | None

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
    if not 1 <= limit <= 1_000:
        raise InvalidInput(f"limit is 1 to 1,000, not {limit}")
    prefix = _prefix(status, workflow, attributes or {})
    if after and not after.startswith(prefix):
        raise InvalidInput("`after` is what an earlier page of the same filters gave; start over without it")
    several = _ByStatus(store.host, prefix) if prefix.startswith(keys.BY_STATUS) and workflow is None else None
    found: list[ExecutionRecord] = []
    while True:
        if prefix == keys.RECORDS:
            entries = await store.host.list(prefix, after, limit)
            records = [await store.record_of(entry) for entry in entries]
            ids = [entry.key[2:] for entry in entries]
        else:
            ids = await (
                several.ids(after[len(prefix) :], limit) if several else _ids(store.host, prefix, after, limit)
            )
            stored = await store.host.get([keys.record(id) for id in ids]) if ids else []
            records = [await store.record_of(entry) for entry in stored if entry is not None]
        for record in records:
            if _matches(record, status, workflow, attributes or {}):
                found.append(record)
                if len(found) == limit and record is not records[-1]:
                    return Page(found, prefix + record.id)
        if len(ids) < limit:
            return Page(found, None)
        after = prefix + ids[-1]
        if len(found) == limit:
            return Page(found, after)


async def _ids(host: Host, prefix: str, after: str, limit: int) -> list[str]:
    return [entry.key[len(prefix) :] for entry in await host.list(prefix, after, limit)]


class _ByStatus:
    """The runs of one status by id, over an index that has them by workflow: its parts are merged as they are read."""

    def __init__(self, host: Host, prefix: str) -> None:
        self._host, self._prefix = host, prefix
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
        return await _ids(self._host, prefix, f"{prefix}{after}" if after else "", limit)

    async def _known(self) -> list[str]:
        """The workflows that have runs of this status: a call for each."""
        names: list[str] = []
        after = ""
        while True:
            entries = await self._host.list(self._prefix, after, 1)
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
