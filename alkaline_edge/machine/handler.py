"""The handler's own task: how it begins, how it ends, and what is undone when it fails or is cancelled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .. import events as ev
from ..codec import Codec
from ..failures import describe as describe_failure
from ..interrupts import ends_the_process
from .loop.loop import CancelledError, DeterministicLoop, Scope, Task, where
from .mailbox import Mailbox
from .undoing import Undo, Undoing

BY_ITSELF = "the handler cancelled itself"
"""The reason of a Cancelled that nobody asked for; it tells it from a run that was cancelled before it began."""


class ContinueAsNew(BaseException):
    """Leaves the handler for ``ctx.continue_as_new``. Catching it does not undo the decision."""


class Handler:
    """One run's handler, from its first line to what came of it."""

    __slots__ = (
        "_codec",
        "_loop",
        "_mailbox",
        "_main",
        "_undoing",
        "cancel_reason",
        "cancel_requested",
        "continuation",
        "ending",
        "error",
        "outcome",
    )  # fmt: skip

    def __init__(self, loop: DeterministicLoop, codec: Codec, mailbox: Mailbox, undoing: Undoing) -> None:
        self._loop, self._codec, self._mailbox, self._undoing = loop, codec, mailbox, undoing
        self.outcome: ev.Completed | ev.Failed | ev.Cancelled | ev.ContinuedAsNew | None = None
        """How it ended. Not durable before the runtime has committed it."""
        self.error: BaseException | None = None
        """What it raised, for the log: the outcome holds no trace."""
        self.cancel_requested = False
        """The run's end was asked for. Kept for good: a handler that swallows the cancel, and cancels itself later,
        ends with the reason of the request."""
        self.cancel_reason: str | None = None
        """Of the first request, which alone counts; a request may give none."""
        self.continuation: tuple[Any, bool] | None = None
        """The input of the next history, and whether signals are carried over, once ctx.continue_as_new was called."""
        self.ending = False
        """It has ended while updates are open: its other tasks are cancelled once nothing is ready."""
        self._main: Task[Any] | None = None
        """The task that a request to cancel reaches; None until the history's first event has begun it."""

    def begin(
        self, fn: Callable[..., Any], args: tuple[Any, ...], name: str, undo: Undo, leave: Callable[[], None]
    ) -> None:
        """Make the task of ``fn(*args)``; ``undo`` and ``leave`` are for its compensation."""
        self._main = self._loop.task_in(Scope(""), self._run(fn, args, undo, leave), name)

    def cancel(self, reason: str | None) -> None:
        """Somebody has asked for the run's end. The first request counts."""
        if self.cancel_requested:
            return
        self.cancel_requested, self.cancel_reason = True, reason
        if self._main is not None and not self._undoing.under_way:  # what is being undone is undone to its end
            self._main.cancel(reason)

    async def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], undo: Undo, leave: Callable[[], None]) -> None:
        try:
            try:
                value = await fn(*args)
            except BaseExceptionGroup as group:  # a TaskGroup puts what its body or a task raised into one
                rest = group.split(ContinueAsNew)[1]
                raise rest or ContinueAsNew from None
            if self.continuation is None:
                plain = self._codec.through(value, "result")
                self.outcome = ev.Completed(ev.COMPLETED, plain)
        except ContinueAsNew:
            pass
        except CancelledError:  # what is undone is recorded step by step, before there is an outcome
            failures = await self._compensate(undo, leave)
            reason = self.cancel_reason if self.cancel_requested else BY_ITSELF
            self.outcome = ev.Cancelled(ev.CANCELLED, _with_failures(reason, failures))
        except BaseException as error:
            if ends_the_process(error):
                raise
            if self._loop.violation is not None:
                return  # the machine raises it: this is what came of it. One that user code raises is as any other
            self.error = error
            failures = await self._compensate(undo, leave)
            failure = describe_failure(error, self._codec)
            failure["message"] = _with_failures(failure["message"], failures)
            self.outcome = ev.Failed(ev.FAILED, failure)
        # Asked last: a handler may catch ContinueAsNew and return all the same, but one that failed does not go on.
        if self.continuation is not None and not isinstance(self.outcome, ev.Failed):
            self.outcome = ev.ContinuedAsNew(ev.CONTINUED_AS_NEW, self.continuation[0])
        # The reply to an update that ended the run may be a few turns away: what is ready goes on until nothing is.
        self.ending = bool(self._mailbox.open)
        if not self.ending:
            self.end_branches()

    async def _compensate(self, undo: Undo, leave: Callable[[], None]) -> list[str]:
        self.continuation = None
        return await self._undoing.run(undo, leave)

    def end_branches(self) -> None:
        """The handler has ended: what its other tasks wait for is withdrawn, as asyncio.run cancels what is left."""
        self.ending = False
        for task in self._loop.unfinished():
            if task is not self._main:
                task.cancel()

    def where(self) -> str:
        """The line of the user's code that runs, or at which the handler waits."""
        if self._loop.is_running():
            return where(None, sys._getframe(1))
        return where(self._main.get_coro()) if self._main is not None else "the handler"


def _with_failures(text: str | None, failures: list[str]) -> Any:
    if not failures:
        return text
    return f"{text or 'cancelled'} (compensations that failed: {', '.join(failures)})"
