"""A task that is bound to a workflow: claiming it starts the run, and what becomes of the run becomes of the task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from ..budget import Budget, micros
from ..errors import ConflictError, NotFound
from ..runs import ExecutionRecord
from ..runtime import requests
from ..runtime.runtime import Runtime
from . import holding
from .moment import Moment
from .tasks import Task

Follow = Callable[[str, Task], None]
"""Told of a board and its task: look at it again as soon as its run ends here."""


def budget_of(moment: Moment, task: Task) -> Budget | None:
    """What the run may spend: what is left of the task's budget and of the board's, which is reserved for it."""
    own = [None if limit is None else max(0, limit - spent)
           for limit, spent in zip(task.budget or [None, None], task.spent, strict=True)]  # fmt: skip
    left = [_least(mine, boards) for mine, boards in zip(own, moment.head.left(), strict=True)]
    if left == [None, None]:
        return None
    task.reserved = [0 if limit is None or amount is None else amount
                     for limit, amount in zip(moment.head.budget or [None, None], left, strict=True)]  # fmt: skip
    for n, amount in enumerate(task.reserved):
        moment.head.reserved[n] += amount
    return Budget(left[0], None if left[1] is None else left[1] / 1_000_000)


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


async def look(runtime: Runtime, follow: Follow, moment: Moment, task: Task) -> None:
    """Take over what became of the run, if it has ended. One that is gone counts as a failure."""
    record = await runtime.store.find(task.run or "")
    assert task.claim is not None
    if record is not None and not record.finished:
        late = task.overdue(moment.now)
        if late is not None:
            task.claim["late"] = late
            moment.after.append(canceller(runtime, record.id, "its task took too long"))
        follow(moment.board, task)
        moment.touch(task)  # looked at again by its timer
        moment.after.append(lambda: _take_up(runtime, record))
        return
    holding.settle(moment, task, [0, 0] if record is None else _spent(record))
    if record is None:
        failure = {"type": "NotFound", "message": "its run is gone", "code": "ERR_NOT_FOUND"}
        await holding.fail(moment, "outcome", task, "failed", failure, True, None)
    elif record.status == "completed":
        size = len(runtime.store.codec.encode(record.result))
        # Of a larger one the task says which run has it.
        task.result = record.result if size <= moment.room(task) else {"run": record.id, "bytes": size}
        await holding.end(moment, "outcome", task, "done")
    elif record.status == "cancelled" and "late" in task.claim:
        await holding.take_back(moment, task, task.claim["late"])
    elif record.status == "cancelled":
        await holding.end(moment, "outcome", task, "cancelled", str((record.failure or {}).get("message", "")))
    else:
        failure = {name: item for name, item in (record.failure or {}).items() if name in ("type", "message", "code")}
        failure.setdefault("message", "its run failed")
        if failure.get("code") == "ERR_BUDGET_EXCEEDED":
            task.close_attempt("budget", moment.now, failure["message"])
            task.block = {"kind": "budget", "reason": failure["message"], "by": None, "at": moment.now}
            await moment.rest("outcome", task, kind="budget")
        else:
            await holding.fail(moment, "outcome", task, "failed", failure, True, None)


async def _take_up(runtime: Runtime, record: ExecutionRecord) -> None:
    """Go on with the run here, if its owner is gone: its task would wait for it for ever."""
    fleet, leases = runtime.fleet, runtime.leases
    can = record.status == "running" and fleet.may_try(record) and not fleet.is_active(record.id)
    if can and not await leases.held_by_other(record):
        fleet.take_up(record.id, record=record)


def _spent(record: ExecutionRecord) -> list[int]:
    return [int(record.spent.get("tokens", 0)), micros(record.spent.get("usd", 0.0))]


async def stop(runtime: Runtime, moment: Moment, task: Task) -> None:
    """The task has ended before its run: ask the run to end, until it has, and then charge what it spent."""
    record = await runtime.store.find(task.stopping or "")
    if record is None or record.finished:
        task.stopping = None
        holding.settle(moment, task, [0, 0] if record is None else _spent(record))
    else:
        moment.after.append(canceller(runtime, record.id, "its task was cancelled"))
    moment.touch(task)


def canceller(runtime: Runtime, run: str, reason: str) -> Callable[[], Awaitable[None]]:
    """What asks a run to end, unless it was asked."""

    async def cancel() -> None:
        with suppress(ConflictError, NotFound):  # it has ended meanwhile
            if await requests.first(runtime.store, run, "cancel") is None:
                await runtime.cancel(run, reason)

    return cancel
