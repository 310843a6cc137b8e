"""The handler's own task: how it begins, how it ends, and what is undone when it fails or is cancelled."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .. import events as ev
from ..codec import Codec
from ..errors import DeterminismError
from ..failures import describe as describe_failure
from .loop.loop import CancelledError, DeterministicLoop, Scope, Task, where
from .mailbox import Mailbox

BY_ITSELF = "the handler cancelled itself"
"""The reason of a Cancelled that nobody asked for; it tells it from a run that was cancelled before it began."""

Undo = Callable[[str, Callable[..., Any], Any], Awaitable[Any]]
"""Runs one compensation as a step: its name, its function, and the result of the step that it undoes."""


class ContinueAsNew(BaseException):
    """Leaves the handler for ``ctx.continue_as_new``. Catching it does not undo the decision."""


class Handler:
    """One run's handler, from its first line to what came of it."""

    __slots__ = (
        "_codec",
        "_compensating",
        "_loop",
        "_mailbox",
        "_main",
        "cancel_reason",
        "cancel_requested",
        "compensations",
        "continuation",
        "ending",
        "error",
        "outcome",
    )  # fmt: skip

    def __init__(self, loop: DeterministicLoop, codec: Codec, mailbox: Mailbox) -> None:
        self._loop, self._codec, self._mailbox = loop, codec, mailbox
        self.outcome: ev.Completed | ev.Failed | ev.Cancelled | ev.ContinuedAsNew | None = None
        """How it ended. Not durable before the runtime has committed it."""
        self.error: BaseException | None = None
        """What it raised, for the log: the outcome holds no trace."""
        self.cancel_reason: str | None = None
        self.cancel_requested = False
        self.continuation: tuple[Any, bool] | None = None
        """The input of the next history, and whether signals are carried over, once ctx.continue_as_new was called."""
        self.compensations: list[tuple[str, Callable[..., Any], Any]] = []
        """What would undo the steps that are done, in their order: name, function, result."""
        self.ending = False
        """It has ended while updates are open: its other tasks are cancelled once nothing is ready."""
        self._compensating = False
        self._main: Task[Any] | None = None

    def begin(self, fn: Callable[..., Any], args: tuple[Any, ...], name: str, undo: Undo) -> None:
        """Make the task of ``fn(*args)``."""
        self._main = self._loop.task_in(Scope(""), self._run(fn, args, undo), name)

    def cancel(self, reason: str | None) -> None:
        """Somebody has asked for the run's end. The first request counts."""
        if self.cancel_requested:
            return
        self.cancel_requested, self.cancel_reason = True, reason
        if self._main is not None and not self._compensating:  # what is being undone is undone to its end
            self._main.cancel(reason)

    async def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], undo: Undo) -> None:
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
        except CancelledError:
            failures = await self._compensate(undo)
            reason = self.cancel_reason if self.cancel_requested else BY_ITSELF
            self.outcome = ev.Cancelled(ev.CANCELLED, _with_failures(reason, failures))
        except KeyboardInterrupt:
            raise  # the user's wish for this process, not an end of the run
        except BaseException as error:
            if isinstance(error, DeterminismError):
                self._loop.violated(error)
                return
            self.error = error
            failures = await self._compensate(undo)
            failure = describe_failure(error, self._codec)
            failure["message"] = _with_failures(failure["message"], failures)
            self.outcome = ev.Failed(ev.FAILED, failure)
        if self.continuation is not None and not isinstance(self.outcome, ev.Failed):
            self.outcome = ev.ContinuedAsNew(ev.CONTINUED_AS_NEW, self.continuation[0])
        # The reply to an update that ended the run may be a few turns away: what is ready goes on until nothing is.
        self.ending = bool(self._mailbox.open)
        if not self.ending:
            self.end_branches()

    async def _compensate(self, undo: Undo) -> list[str]:
        """Undo what was done, last first. One that fails does not stop the others, nor does a cancel."""
        names: list[str] = []
        self.continuation, self._compensating = None, True
        while self.compensations:
            name, fn, value = self.compensations.pop()
            try:
                await undo(f"compensate {name}", fn, value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if isinstance(error, DeterminismError):
                    raise
                names.append(f"{name} ({type(error).__name__})")
        return names

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
