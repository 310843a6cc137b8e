"""Branches: several awaitables at once, each in a scope of its own, in a deterministic order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import InvalidInput
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future, Scope, Task

Starter = Callable[[], Awaitable[Any]]


class Branches:
    """Runs ``starters``, at most ``limit`` at a time. Scopes are numbered up front, by position."""

    def __init__(self, loop: DeterministicLoop, starters: Sequence[Starter], limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise InvalidInput(f"limit={limit} would never start a branch; give 1 or more, or None")
        self._loop, self._starters = loop, starters
        self._limit = limit or max(1, len(starters))
        parent = SCOPE.get()
        self._scopes = [Scope(f"{parent.next_id()}.") for _ in starters]
        self._running: dict[Task[Any], int] = {}
        self._finished: deque[Task[Any]] = deque()
        self._next = 0
        self._wake: Future[None] | None = None

    async def all(self) -> list[Any]:
        """Every result, in the order of the branches. The first error cancels the others and is raised."""
        results: list[Any] = [None] * len(self._starters)
        finished = self._finished
        try:
            while self._are_running():
                if not finished:
                    await self._until_one_ends()
                task = finished.popleft()
                results[self._running.pop(task)] = task.result()
        finally:
            await self._stop()
        return results

    async def first(self) -> tuple[int, Any]:
        """The position and result of the branch that ends first; the others are cancelled."""
        try:
            assert self._are_running()
            await self._until_one_ends()
            task = self._finished.popleft()
            return self._running.pop(task), task.result()
        finally:
            await self._stop()

    def _are_running(self) -> bool:
        """Begin as many as there is room for; False when none is left."""
        while self._next < len(self._starters) and len(self._running) < self._limit:
            index = self._next
            self._next += 1
            branch = _as_coroutine(self._starters[index])
            task = self._loop.task_in(self._scopes[index], branch, ended=self._ended)
            self._running[task] = index
        return bool(self._running)

    async def _until_one_ends(self) -> None:
        self._wake = self._loop.create_future()
        await self._wake

    def _ended(self, task: Task[Any]) -> None:
        self._loop.forget(task)
        self._finished.append(task)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _stop(self) -> None:
        """Cancel what still runs, wait for its cleanup, and close what never started."""
        for task in self._running:
            task.cancel()
        cancelled: CancelledError | None = None
        while any(not task.done() for task in self._running):
            self._wake = self._loop.create_future()
            try:
                await self._wake
            except CancelledError as error:
                cancelled = error  # a second cancel: the branches' cleanup goes on first
        for task in self._running:
            if not task.cancelled():
                task.exception()  # retrieved: the first error is the one that counts
        self._running.clear()
        for starter in self._starters[self._next :]:
            close = getattr(getattr(starter, "awaitable", None), "close", None)
            if close is not None:
                close()
        self._next = len(self._starters)
        if cancelled is not None:
            raise cancelled


class Given:
    """The starter of an awaitable that the handler made already, such as ``ctx.step(...)``."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Any) -> None:
        if not hasattr(awaitable, "__await__"):
            kind = type(awaitable).__name__
            raise InvalidInput(f"a branch must be awaitable, such as ctx.step(...); got {kind}")
        self.awaitable = awaitable

    def __call__(self) -> Awaitable[Any]:
        """The awaitable."""
        return self.awaitable  # type: ignore[no-any-return]  # checked in __init__


async def _as_coroutine(starter: Starter) -> Any:
    awaitable = starter()
    if not hasattr(awaitable, "__await__"):
        raise InvalidInput("ctx.map wants a function that returns an awaitable: lambda item: ctx.step(...)")
    return await awaitable
