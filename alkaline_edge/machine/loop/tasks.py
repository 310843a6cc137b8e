"""Tasks and futures that are hashed by the order of their making, never by their address; and their scopes.

asyncio and its users keep tasks in sets, and walk them: ``TaskGroup`` when it cancels, ``wait`` in what it returns. The
order of a set follows from the hashes of its members and from the order in which they came and went. An address is
another one in each process; the number of a task within its run is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from types import coroutine
from typing import Any

__all__ = ["NUMBERS", "SCOPE", "DurableFuture", "DurableTask", "Scope", "aclose", "number", "within"]


class DurableFuture(asyncio.Future[Any]):
    """A future of the handler's own, such as a lock's waiter."""

    made: int

    def __hash__(self) -> int:
        return self.made


class DurableTask(asyncio.Task[Any]):
    """A task of the handler.

    A cancel that it asks of itself while it runs is delivered when it suspends, as asyncio does, but kept here until
    then: CPython 3.13 takes it back when ``uncancel`` brings the count to 0 and older ones can't, and a group of tasks
    that fails while it is cancelled from outside does just that.
    """

    made: int
    context: Context
    due = False  # a cancel of itself waits to be delivered
    extra = 0  # cancels of itself, counted here instead of by asyncio
    _message: Any = None

    def __hash__(self) -> int:
        return self.made

    def cancel(self, msg: Any | None = None) -> bool:
        """As asyncio.Task.cancel."""
        loop: Any = self.get_loop()
        if asyncio.current_task(loop) is not self:
            return super().cancel(msg)
        if loop.former:
            loop.must_suspend = True
            return super().cancel(msg)
        self.due, self._message = True, msg
        self.extra += 1
        loop.owes_cancel(self)
        return True

    def uncancel(self) -> int:
        """As asyncio.Task.uncancel of CPython 3.13."""
        if self.extra:
            self.extra -= 1
        else:
            super().uncancel()
        left = self.cancelling()
        if not left:
            self.due = False
        return left

    def cancelling(self) -> int:
        """How many cancels were asked for and not taken back."""
        return super().cancelling() + self.extra

    def deliver_cancel(self) -> None:
        """The task has suspended, or returned: give it what it asked of itself, once, however often it asked."""
        if not self.due:
            return
        self.due = False
        if not self.done():
            super().cancel(self._message)
            if self.extra:
                self.extra -= 1
            else:
                super().uncancel()
        elif not self.cancelled() and self._exception is None:
            # asyncio ends a task that returns with a cancel on its way as cancelled. Its callbacks have not run yet.
            asyncio.Future.__init__(self, loop=self.get_loop())
            asyncio.Future.cancel(self, self._message)

    @property
    def _must_cancel(self) -> bool:  # anyio asks whether a cancel is on its way
        return bool(self.due or super()._must_cancel)  # type: ignore[misc]  # asyncio's own slot


# --- how the commands of a task are numbered ----------------------------------------------------------------------
NUMBERS: list[str] = []
"""The first numbers of commands as they stand in ids: looked up they cost a third of what making them does."""
_MOST_NUMBERS = 10_000


def number(n: int) -> str:
    """``n`` as it stands in ids."""
    if n < _MOST_NUMBERS:
        NUMBERS.extend(map(repr, range(len(NUMBERS), n + 100)))
    return repr(n)


class Scope:
    """Numbers the commands of one asyncio task: ``prefix`` + 1, 2, 3 in the order in which they are issued."""

    __slots__ = ("count", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0

    def next_id(self) -> str:
        """The id of the next command, or of the next task, of this scope."""
        self.count += 1
        return f"{self.prefix}{self.count}"


SCOPE: ContextVar[Scope] = ContextVar("alkaline_edge_scope")


async def aclose(scope: Scope, agen: AsyncGenerator[Any, Any]) -> None:
    """Close an asynchronous generator, with commands numbered by ``scope``."""
    await _in_scope(scope, agen.aclose())


@coroutine
def _in_scope(scope: Scope, awaitable: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
    """Await ``awaitable`` with commands numbered by ``scope``, in a context that others have a scope of their own in.

    A cleanup resets the ContextVars that it has set, which must happen in the very context that they were set in.
    """
    error: BaseException | None = None
    while True:
        outer = SCOPE.set(scope)
        try:
            awaited = awaitable.send(None) if error is None else awaitable.throw(error)
        except StopIteration:
            return
        finally:
            SCOPE.reset(outer)
        try:
            yield awaited
            error = None
        except GeneratorExit:
            raise
        except BaseException as thrown:  # a cancel, for what is awaited
            error = thrown


def within(scope: Scope, context: Context | None) -> Context:
    """The context of a task with ``scope``: ``context``, or a copy of the caller's."""
    context = copy_context() if context is None else context
    try:
        context.run(SCOPE.set, scope)
    except RuntimeError:  # the caller's own context is entered: its copy is not
        context = context.copy()
        context.run(SCOPE.set, scope)
    return context
