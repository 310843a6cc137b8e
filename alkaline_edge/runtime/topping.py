"""Topping up a run that has failed because its budget was used up: noted in its record, for when it is tried again.

A run that goes on has its top-up in its inbox (``sending``); of one that has ended nobody reads that.
"""

from __future__ import annotations

from .. import keys, reopening
from ..errors import ConflictError
from ..host import Conflict
from ..runs import ExecutionRecord
from .moved import gone
from .store import Store
from .write import Write, indexes_of

_TRIES = 5


async def top_up(store: Store, record: ExecutionRecord, amounts: list[int], dedupe: str | None) -> None:
    """Note in ``record`` what the limits of its run, which has failed, are raised by once it is tried again.

    ERR_CONFLICT where more of a budget is of no use to it.
    """
    for _ in range(_TRIES):
        if record.moved_to is not None:
            raise gone(record, "top up")
        if record.status != "failed" or not reopening.is_of_budget(record.failure):
            raise ConflictError(
                f"run {record.id!r} has {record.status}, and not because its budget is spent: a top-up is of no use",
                id=record.id,
                status=record.status,
            )
        entry = f"s{store.host.entropy(8).hex()}"
        marker = keys.dedupe(record.run, dedupe if dedupe is not None else entry)
        if (await store.host.get([marker]))[0] is not None:
            return
        before = indexes_of(record)
        write = Write({keys.record(record.id): record.version_tag, marker: None})
        write.puts[marker] = store.codec.encode([entry, record.generation, store.host.now_ms()])
        record.topped_up = [a + b for a, b in zip(record.topped_up or (0, 0, 0), amounts, strict=True)]
        store.put_record(write, record, before, store.reference(record.failure))
        if not isinstance(await store.commit(write), Conflict):
            return
        record = await store.record(record.id)
    raise ConflictError(f"run {record.id!r} changes while it is topped up: look at it, and try again", id=record.id)
