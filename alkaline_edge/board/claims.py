"""``Claim``: a task that is ours for now, and the verbs of who holds it. Each counts only while the claim does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .. import keys
from ..budget import micros
from ..errors import ConflictError, InvalidInput
from ..host import Conflict
from ..limits import check_charge, check_seconds
from ..names import check_text
from ..runtime.write import Write
from . import holding, log
from .engine import Engine
from .moment import Moment
from .states import GIVEN_BLOCKS
from .tasks import Task

T = TypeVar("T")
MAX_SUMMARY = 8_192


class Claim:
    """A task that this worker holds until ``complete`` or another verb that ends it, or until it is lost.

    ``task``: as it was when it was claimed. ``parents``: by id, the results of the tasks that it depended on. Every
    verb is ERR_CONFLICT with nothing written once the claim is lost: it ran out, was taken back, or the task was
    cancelled. Stop then; whoever has it now does the work again. What can't be is ERR_INVALID_INPUT, and a ``reason``
    is for whoever reads the task and its log.
    """

    def __init__(self, engine: Engine, board: str, task: Task, parents: dict[str, Any]) -> None:
        assert task.claim is not None
        self._engine, self._board = engine, board
        self.task, self.parents = task, parents
        self.token: str = task.claim["token"]
        self.worker: str = task.claim["worker"]
        self.over = False
        """The claim has ended by one of its verbs, or was found to be lost."""

    @property
    def reviewing(self) -> bool:
        """Whether the work is to be looked at, and not to be done."""
        return bool(self.task.claim and self.task.claim["role"] == "reviewer")

    async def heartbeat(self, progress: bool = False) -> None:
        """Hold the claim for another ``ttl``. ``progress``: and say that the work goes on, for a task with a ``stall``.

        It touches the task alone, and no event is written.
        """
        store = self._engine.store
        for attempt in range(20):
            (entry,) = await store.host.get([keys.board(self._board, "t", self.task.id)])
            now = store.host.now_ms()
            task = None if entry is None else Task.from_map(store.opened(entry), entry.version)
            try:
                claim = holding.require(task or self.task, self.token if task is not None else "", "a heartbeat")
                if task is None or task.overdue(now) is not None:
                    raise ConflictError(f"the claim on task {self.task.id!r} has run out: stop, and claim again")
            except ConflictError:
                self.over = True
                raise
            before = set(task.timer(self._board))
            claim["until"] = now + task.ttl
            claim["progress"] = now if progress else claim["progress"]
            task.updated_at = now
            task.set_wake(now)
            key = keys.board(self._board, "t", task.id)
            write = Write({key: task.version_tag}, {key: store.codec.encode(task.to_map())})
            write.index(before, set(task.timer(self._board)), store.codec.encode(now))
            if not isinstance(await store.commit(write), Conflict):
                return
            await self._engine.pause(attempt)
        raise ConflictError(f"task {self.task.id!r} was changed by others 20 times in a row; call again")

    async def spend(self, tokens: int, usd: float | None = None) -> None:
        """Charge ``tokens``, and ``usd`` in dollars, to the task and its board, before they are used.

        More than is left is ERR_BUDGET_EXCEEDED.
        """
        check_charge(tokens, usd, "spend")

        async def spend(moment: Moment, task: Task) -> None:
            holding.spend(moment, task, tokens, micros(usd))

        await self._change("spend", spend)

    async def complete(self, result: Any = None, summary: str = "") -> None:
        """The task is done, with a ``result`` that those who depend on it are given, and a ``summary`` for people.

        A reviewer approves it by this.
        """
        plain, text = self._engine.store.codec.through(result, "result"), check_text(summary, "a summary", MAX_SUMMARY)

        async def complete(moment: Moment, task: Task) -> None:
            if not self.reviewing or plain is not None:
                task.result = plain
            task.summary = text or task.summary
            await holding.end(moment, "complete", task, "done", text)

        await self._end("complete", complete)

    async def fail(self, message: str, *, retry: bool = True, after: float | None = None) -> None:
        """The attempt failed. The task is tried again, in ``after`` seconds or by its own ``backoff``.

        Once too often (``max_failures`` in a row), or without ``retry``, it has failed; what depends on it is held up.
        """
        failure = {"type": "TaskFailed", "message": check_text(message, "a failure's message")}
        await self.fail_with(failure, retry=retry, after=after)

    async def fail_with(self, failure: dict[str, Any], *, retry: bool = True, after: float | None = None) -> None:
        """As ``fail``, of what ``failures.describe`` has made of an error."""
        pause = None if after is None else round(check_seconds(after, "fail(after=)") * 1000)

        async def fail(moment: Moment, task: Task) -> None:
            await holding.fail(moment, "fail", task, "failed", failure, retry, pause)

        await self._end("fail", fail)

    async def block_for_budget(self, reason: str) -> None:
        """Its budget is used up: it waits for ``Board.top_up``."""
        await self._end("block", lambda moment, task: holding.block(moment, task, "budget", reason[:500], 0, [], True))

    async def block(self, kind: str, reason: str = "", *, after: float = 300, on: tuple[str, ...] = ()) -> None:
        """It can't go on. ``needs_input`` and ``capability`` wait for ``Board.unblock``; ``transient`` for ``after``
        seconds; ``dependency`` for the tasks ``on`` which it depends from now on.

        Blocked for one kind a third time, somebody has to look at it: it goes to triage.
        """
        if kind not in GIVEN_BLOCKS:
            raise InvalidInput(f"a block is one of {', '.join(GIVEN_BLOCKS)}, not {kind!r}")
        if (kind == "dependency") != bool(on):
            raise InvalidInput("a block of the kind dependency names the tasks that it waits for, and no other does")
        check_text(reason, "a block's reason")
        pause = round(check_seconds(after, "block(after=)") * 1000)
        await self._end("block", lambda moment, task: holding.block(moment, task, kind, reason, pause, list(on), True))

    async def request_review(self, summary: str = "", result: Any = None, reviewer: str | None = None) -> None:
        """The work is done, and somebody is to look at it: ``reviewer``, or anybody who claims reviews.

        ``summary`` and ``result``: as for ``complete``.
        """
        plain, text = self._engine.store.codec.through(result, "result"), check_text(summary, "a summary", MAX_SUMMARY)

        async def review(moment: Moment, task: Task) -> None:
            task.result, task.summary = plain, text
            task.author, task.reviewer = self.worker, reviewer if reviewer is not None else task.reviewer
            task.close_attempt("review", moment.now, text)
            moment.move("request_review", task, "review", text=text[:500] or None)

        await self._end("request_review", review)

    async def request_changes(self, text: str) -> None:
        """As a reviewer: the work is not good yet. The task goes back, with ``text`` as a comment."""
        if not self.reviewing:
            raise ConflictError(
                f"task {self.task.id!r} is held to be done, and not to be reviewed; nothing was written"
            )

        async def changes(moment: Moment, task: Task) -> None:
            log.comment(moment, task, text)
            task.close_attempt("changes", moment.now, text)
            await moment.rest("request_changes", task, text=text[:500])

        await self._end("request_changes", changes)

    async def release(self, reason: str = "") -> None:
        """Give the task back, for another worker. That counts as no failure."""
        check_text(reason, "a reason")
        await self._end("release", lambda moment, task: holding.give_back(moment, "release", task, reason))

    async def comment(self, text: str) -> None:
        """Say something of the task."""

        async def comment(moment: Moment, task: Task) -> None:
            log.comment(moment, task, text)

        await self._change("comment", comment)

    async def _end(self, verb: str, change: Callable[[Moment, Task], Awaitable[None]]) -> None:
        await self._change(verb, change)
        self.over = True

    async def _change(self, verb: str, change: Callable[[Moment, Task], Awaitable[T]]) -> T:
        async def held(moment: Moment) -> T:
            task = await moment.task(self.task.id)
            holding.require(task, self.token, verb)
            if (late := task.overdue(moment.now)) is not None:
                raise ConflictError(
                    f"the claim on task {task.id!r} is over ({late}), so {verb} counts no more; "
                    "nothing was written: stop, and claim again",
                    id=task.id,
                    state=task.state,
                )
            return await change(moment, task)

        try:
            return await self._engine.change(self._board, [self.task.id], held, self.worker)
        except ConflictError:
            self.over = True
            raise
