"""The loop of a worker: claim, do, and say what became of it; and drive what comes due meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from ..errors import AlkalineError, BudgetExceeded, ConflictError
from ..failures import describe
from ..runs import ANCESTRY
from ..runtime.crew import Crew, beside
from . import claiming
from .claims import Claim
from .engine import Engine


async def work(
    engine: Engine,
    board: str,
    do: Callable[[Claim], Awaitable[Any]],
    worker: str,
    assignees: list[str | None],
    review: bool,
    concurrency: int,
    until: Callable[[], bool] | None,
    poll: float,
) -> None:
    """See ``Board.work``."""
    chores, fleet = engine.runtime.chores, engine.runtime.fleet
    crew = Crew(concurrency, chores.changed)
    try:
        while not fleet.closing and (until is None or not until()):
            crew.check()
            mark = chores.mark()  # before looking: what changes meanwhile is looked at again
            if crew.free:
                claim = await claiming.claim(engine, board, worker, assignees, review, True)
                if claim is not None:
                    crew.add(_do(engine, claim, do))
                    continue
            await chores.attend()
            await chores.wait(poll, mark)
        crew.check()
    finally:
        await crew.end()


async def _do(engine: Engine, claim: Claim, do: Callable[[Claim], Awaitable[Any]]) -> None:
    """One task. What can't be said since the claim is lost is left: whoever has the task now does it again."""
    ANCESTRY.set(tuple(claim.task.chain))  # of this task of the loop, and of what is made by it
    how, what = await beside(do(claim), claim.heartbeat, claim.task.ttl / 3_000, engine.store.host.sleep)
    if claim.over:
        return
    with suppress(ConflictError):
        if how == "returned":
            try:
                await claim.complete(what)
            except ConflictError:
                raise
            except AlkalineError as error:  # a result that can't be stored
                await claim.fail_with(describe(error, engine.store.codec))
        elif how == "raised" and isinstance(what, BudgetExceeded):
            await claim.block_for_budget(str(what))
        elif how == "raised":
            await claim.fail_with(describe(what, engine.store.codec))
        elif how == "stopped":
            await claim.release("its worker was stopped")
