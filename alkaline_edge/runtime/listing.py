"""Finding runs: pages over an index, which cost what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import keys
from ..errors import InvalidInput
from ..names import check_attributes, check_workflow_name
from ..records import dataclass
from ..runs import STATUSES, ExecutionRecord

if TYPE_CHECKING:
    from .runtime import Runtime


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
    runtime: Runtime,
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
    found: list[ExecutionRecord] = []
    while True:
        entries = await runtime.host.list(prefix, after, limit)
        if prefix == "r/":
            records = [await runtime.store.record_of(entry) for entry in entries]
        else:
            wanted = [keys.record(entry.key.rsplit("/", 1)[1]) for entry in entries]
            stored = await runtime.host.get(wanted) if wanted else []
            records = [await runtime.store.record_of(entry) for entry in stored if entry is not None]
        for record in records:
            if _matches(record, status, workflow, attributes or {}):
                found.append(record)
                if len(found) == limit and record is not records[-1]:
                    return Page(found, _place(prefix, record))
        if len(entries) < limit:
            return Page(found, None)
        after = entries[-1].key
        if len(found) == limit:
            return Page(found, after)


def _prefix(status: str | None, workflow: str | None, attributes: dict[str, Any]) -> str:
    if workflow is not None:
        check_workflow_name(workflow)
    check_attributes(attributes)
    for name, value in attributes.items():
        return f"x/a/{keys.attribute(name, value)}/"
    if status is not None:
        return f"x/s/{status}/{workflow}/" if workflow is not None else f"x/s/{status}/"
    return f"x/w/{workflow}/" if workflow is not None else "r/"


def _place(prefix: str, record: ExecutionRecord) -> str:
    if prefix == f"x/s/{record.status}/":
        return f"{prefix}{record.workflow}/{record.id}"
    return prefix + record.id


def _matches(record: ExecutionRecord, status: str | None, workflow: str | None, attributes: dict[str, Any]) -> bool:
    return (
        (status is None or record.status == status)
        and (workflow is None or record.workflow == workflow)
        and all(name in record.attributes and record.attributes[name] == value for name, value in attributes.items())
    )
