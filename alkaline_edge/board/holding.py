"""What becomes of a task that somebody holds: how it ends, goes back, fails, is blocked, or is taken back."""

from __future__ import annotations

from typing import Any

from ..errors import BudgetExceeded, ConflictError
from . import graph
from .moment import Moment
from .tasks import MAX_BLOCKS, Task

TRANSIENT_SECONDS = 300.0


def require(task: Task, token: str, verb: str) -> dict[str, Any]:
    """The claim, if it is the one of ``token``; ERR_CONFLICT for one that was lost. Nobody else's verb counts."""
    claim = task.claim
    if claim is None or claim["token"] != token:
        last = task.attempts[-1]["outcome"] if task.attempts else "lost"
        why = last if claim is None else "another worker holds it"
        raise ConflictError(
            f"the claim on task {task.id!r} is over ({why}), so {verb} "
            "counts no more; nothing was written: stop, and claim again",
            id=task.id,
            state=task.state,
        )
    return claim


async def end(moment: Moment, verb: str, task: Task, outcome: str, text: str = "") -> None:
    """The task ends: as done, failed or cancelled. What depends on it is told."""
    if task.claim is not None:
        task.close_attempt("completed" if outcome == "done" else outcome, moment.now, text)
    task.outcome, task.block = outcome, None
    if outcome == "done":
        task.failures, task.blocks, task.failure = 0, {}, None
    moment.move(verb, task, outcome, text=text[:500] or None)  # type: ignore[arg-type]  # each of the three is a state
    await moment.tell_children(task)


async def fail(
    moment: Moment, verb: str, task: Task, outcome: str, failure: dict[str, Any], again: bool, after_ms: int | None
) -> None:
    """An attempt failed. It rests, to be tried again; or it was one too many, and the task has failed."""
    role = task.claim["role"] if task.claim is not None else "author"
    task.failures += 1
    task.failure = failure
    if not again or task.failures >= task.max_failures:
        await end(moment, verb, task, "failed", failure["message"])
        return
    task.close_attempt(outcome, moment.now, failure["message"])
    pause = task.backoff * 2 ** min(task.failures - 1, 10) if after_ms is None else after_ms
    if role == "reviewer":
        moment.move(verb, task, "review", text=failure["message"][:500])
        return
    task.not_before = moment.now + pause if pause else None
    await moment.rest(verb, task, text=failure["message"][:500], outcome=outcome)


async def take_back(moment: Moment, task: Task, why: str) -> None:
    """Whoever held it is gone, stuck or too slow: the next one may have it."""
    words = {
        "expired": "no word of its worker before the claim ran out",
        "timed_out": "it took longer than its max_time",
        "stalled": "no progress for as long as its stall",
    }
    failure = {"type": "Reclaimed", "message": words[why], "code": "ERR_CONFLICT"}
    await fail(moment, "reclaim", task, why, failure, True, None)


async def give_back(moment: Moment, verb: str, task: Task, text: str = "") -> None:
    """It rests again, as before the claim, and that counts as no failure."""
    role = task.claim["role"] if task.claim is not None else "author"
    task.close_attempt("released", moment.now, text)
    if role == "reviewer":
        moment.move(verb, task, "review", text=text[:500] or None)
    else:
        await moment.rest(verb, task, text=text[:500] or None)


async def block(moment: Moment, task: Task, kind: str, reason: str, after_ms: int, on: list[str], held: bool) -> None:
    """It can't go on: until somebody lets it, a time has come, or other tasks have ended."""
    if held:
        task.close_attempt("blocked", moment.now, f"{kind}: {reason}")
    if kind == "dependency":
        for parent in on:
            await graph.link(moment, parent, task, "done")
        await moment.rest("block", task, kind=kind, reason=reason[:500])
        return
    task.blocks[kind] = task.blocks.get(kind, 0) + 1
    if held and kind != "budget" and task.blocks[kind] > MAX_BLOCKS:
        moment.move("block", task, "triage", kind=kind, reason=reason[:500], loop=True)
        return
    if kind == "transient" and held:
        task.not_before = moment.now + after_ms
        await moment.rest("block", task, kind=kind, reason=reason[:500])
        return
    task.block = {"kind": kind, "reason": reason, "by": moment.by, "at": moment.now}
    moment.move("block", task, "blocked", kind=kind, reason=reason[:500])


def spend(moment: Moment, task: Task, tokens: int, money: int) -> None:
    """Charge the task and its board, or neither: ERR_BUDGET_EXCEEDED with nothing written where one has not enough."""
    for n, (amount, unit) in enumerate(((tokens, "tokens"), (money, "micro-usd"))):
        own = (task.budget or [None, None])[n]
        for limit, spent, whose in (
            (own, task.spent[n], f"task {task.id!r}"),
            ((moment.head.budget or [None, None])[n], moment.head.spent[n] + moment.head.reserved[n], "the board"),
        ):
            if limit is not None and spent + amount > limit:
                raise BudgetExceeded(
                    f"{amount:,} {unit} are more than is left of the budget of {whose}, {max(0, limit - spent):,} of "
                    f"{limit:,}; nothing was charged: top it up, or stop",
                    spent=spent,
                    limit=limit,
                    unit=unit,
                )
    charge(moment, task, [tokens, money])


def charge(moment: Moment, task: Task, amounts: list[int]) -> None:
    """What was spent, whether or not it was allowed."""
    for n, amount in enumerate(amounts):
        task.spent[n] += amount
        moment.head.spent[n] += amount
    moment.touch(task)


def settle(moment: Moment, task: Task, spent: list[int]) -> None:
    """A run of the task is over: what it spent is charged, and what was reserved for it is free again."""
    for n, amount in enumerate(task.reserved or [0, 0]):
        moment.head.reserved[n] = max(0, moment.head.reserved[n] - amount)
    task.reserved = None
    charge(moment, task, spent)
