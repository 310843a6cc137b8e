"""Tasks and futures that are hashed by the order of their making, never by their address.

asyncio and its users keep tasks in sets, and walk them: ``TaskGroup`` when it cancels, ``wait`` in what it returns. The
order of a set follows from the hashes of its members and from the order in which they came and went. An address is
another one in each process; the number of a task within its run is not.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

__all__ = ["DurableFuture", "DurableTask"]


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
