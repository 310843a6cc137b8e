"""Commits of a board: read, change, commit, and again where others were quicker; and what the clock asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from .. import keys
from ..errors import ConflictError
from ..host import Conflict
from ..lifecycle import LifecycleEvent, RunCompleted, RunFailed, RunWasCancelled
from ..runtime.chores import Done
from ..runtime.runtime import Runtime
from . import holding, runs
from .moment import Moment
from .tasks import KIND, Task

T = TypeVar("T")


class Stale(Exception):
    """What was read does not fit together, or has just been put right: look again."""


_TRIES = 60
_ENDS = (RunCompleted, RunFailed, RunWasCancelled)


class Engine:
    """The boards of one runtime. The first ``Board`` of a runtime makes it; from then on that drives them all."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.store = runtime, runtime.store
        self._awaited: dict[str, str] = {}
        """By run: the chore of the task whose it is, as far as it was seen here."""
        runtime.chores.add(KIND, self._do)
        runtime.listen(self._heard)

    async def change(
        self, board: str, ids: Iterable[str], change: Callable[[Moment], Awaitable[T]], by: str | None = None
    ) -> T:
        """What ``change`` returns, once what it did is committed: whole, or not at all."""
        wanted = list(ids)
        for attempt in range(_TRIES):
            moment = Moment(self.store, board, by)
            await moment.open(wanted)
            try:
                answer = await change(moment)
            except Stale:
                if not moment.empty:
                    await self._commit(moment)
                await self.pause(attempt)
                continue
            if moment.empty:
                return answer
            if await self._commit(moment):
                self.runtime.chores.changed()
                for then in moment.after:
                    await then()
                return answer
            await self.pause(attempt)
        raise ConflictError(f"board {board!r} was changed by others {_TRIES} times in a row; call again", board=board)

    async def _commit(self, moment: Moment) -> bool:
        write = moment.finish()
        if moment.start is not None:  # a run is recorded in the same commit as the claim that starts it
            definition, input, budget, task = moment.start
            found_by, owner = {keys.TASK: f"{moment.board}:{task.id}"}, self.runtime.owner
            return (await owner.start(definition, input, task.run, found_by, None, budget, write, task.chain))[1]
        return not isinstance(await self.store.commit(write), Conflict)

    async def pause(self, attempt: int) -> None:
        """Others were quicker: let them, for a moment that is nobody else's."""
        spread = int.from_bytes(self.store.host.entropy(2), "big") / 65_536
        await self.store.host.sleep(min(0.2, 0.002 * 2 ** min(attempt, 7)) * spread)

    def follow(self, board: str, task: Task) -> None:
        """Look at the task as soon as its run ends here."""
        if task.run is not None:
            self._awaited[task.run] = keys.chore(KIND, f"{board}:{task.id}")

    def _heard(self, event: LifecycleEvent) -> None:
        if isinstance(event, _ENDS) and (chore := self._awaited.pop(event.id, None)) is not None:
            self.runtime.chores.want(chore)

    async def _do(self, name: str) -> Done:
        """The chore: what has come due of a task. Everything is decided anew from what is stored."""
        board, _, id = name.partition(":")
        moved = False

        async def look(moment: Moment) -> None:
            nonlocal moved
            (task,) = await moment.find([id])
            moved = task is not None and task.wake is not None
            if task is not None and moved:
                await self._due(moment, task)

        await self.change(board, [id], look)
        return Done([], moved)

    async def _due(self, moment: Moment, task: Task) -> None:
        now = moment.now
        ahead = task.updated_at > now + _AHEAD_MS
        if task.stopping is not None:
            await runs.stop(self.runtime, moment, task)
            return
        if task.run is not None:
            await runs.look(self.runtime, self.follow, moment, task)
            return
        late = task.overdue(now) or ("expired" if ahead and task.claim is not None else None)
        if late is not None:
            await holding.take_back(moment, task, late)
        elif task.state == "scheduled" and (ahead or (task.not_before or 0) <= now):
            if ahead and task.not_before is not None and task.not_before > now:
                moment.touch(task)  # it was set by a clock that was ahead: the time to come stands
            else:
                task.not_before = None
                moment.move("due", task, "ready")
        elif task.pages is not None:
            await moment.tell_children(task)
        elif task.wake is not None and task.wake <= now:
            moment.touch(task)


_AHEAD_MS = 60_000
"""A task that was written so far in the future was written by a clock that was ahead."""
