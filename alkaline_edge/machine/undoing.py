"""Compensation: what undoes the steps that completed, last first, once the handler has failed or was cancelled.

A step that the handler no longer waits for may complete all the same: the loser of a race, one in a thread, which
nothing stops. So before anything is undone, and
behind each thing that was, this waits for such steps to end; one that completed is recorded, and undone like the
others. Meanwhile what comes from outside is recorded too, and nothing is started; so a replay sees where it went on: at
the first event that is neither the completion of such a step nor came from outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .. import events as ev
from ..activations import TOGETHER
from ..interrupts import ends_the_process
from .commands import RunStep
from .loop.loop import CancelledError, DeterministicLoop, Future

_FROM_OUTSIDE = (
    ev.SIGNAL_RECEIVED, ev.CANCEL_REQUESTED, ev.UPDATE_RECEIVED, ev.UPDATE_REPLIED, ev.CHILD_FINISHED, ev.TIMER_FIRED,
)  # fmt: skip
Undo = Callable[[str, Callable[..., Any], Any], Awaitable[Any]]
"""Runs one compensation as a step: its name, its function, and the result of the step that it undoes."""


class Undoing:
    """The compensations of one run, in the order in which their steps completed."""

    __slots__ = ("_late", "_loop", "_paid", "compensations", "under_way", "waiter")

    def __init__(self, loop: DeterministicLoop) -> None:
        self._loop = loop
        self.waiter: Future[None] | None = None
        """It is about to undo, and waits for steps that were withdrawn."""
        self._late: set[str] = set()
        """Ids of steps that were withdrawn, that would have to be undone, and have not completed as far as is known."""
        self._paid: set[str] = set()
        """Ids of steps that were withdrawn and have a price: where one completes all the same, that is recorded."""
        self.compensations: list[tuple[str, Callable[..., Any], Any]] = []
        """What would undo the steps that are done: name, function, result."""
        self.under_way = False
        """It has begun: no request to cancel reaches the handler any more, so what is being undone is undone."""

    def withdrawn(self, command: RunStep) -> None:
        """Nobody waits any more for a step whose completion counts."""
        (self._late if command.compensate is not None else self._paid).add(command.id)

    def completed_late(self, command: RunStep, value: Any) -> None:
        """A step completed that was withdrawn before."""
        if command.id in self._late:
            self._late.discard(command.id)
            assert command.compensate is not None
            self.compensations.append((command.name, command.compensate, value))

    def may_precede(self, event: Any) -> bool:
        """Whether ``event`` may have come before it went on: one of them completed, or something came from outside.

        What comes from outside, or has a price alone, may also have come behind that. It makes no difference: by then
        the handler has failed, and what it left behind shares nothing with what undoes it.
        """
        if event[0] == TOGETHER:
            return all(map(self.may_precede, event.events))
        if event[0] in (ev.STEP_COMPLETED, ev.STEP_CHARGED):
            return event[1] in self._late or event[1] in self._paid
        return event[0] in _FROM_OUTSIDE

    def go_on(self) -> None:
        """None of them will complete before the next event."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def run(self, undo: Undo, leave: Callable[[], None]) -> list[str]:
        """Undo what was done, and return what could not be. One that fails stops no other, nor does a cancel.

        ``leave`` withdraws what tasks that the handler has left behind still wait for, once there is nothing else.
        """
        failed: list[str] = []
        self.under_way, left = True, False
        while self.compensations or not left:
            if not self.compensations:
                leave()
                left = True
            if self._late:
                await self._settle()
            if not self.compensations:
                continue
            name, fn, value = self.compensations.pop()
            left = False
            try:
                await undo(f"compensate {name}", fn, value)
            except BaseException as error:
                if self._loop.violation is not None or ends_the_process(error):
                    raise
                failed.append(f"{name} ({type(error).__name__})")
        return failed

    async def to_its_end(self, future: Future[Any]) -> Any:
        """What ``future`` comes to, whoever cancels the handler's task meanwhile."""
        while not future.done():
            waiter: Future[None] = Future(loop=self._loop)

            def wake(_: Any, waiter: Future[None] = waiter) -> None:
                if not waiter.done():
                    waiter.set_result(None)

            future.add_done_callback(wake)
            with suppress(CancelledError):
                await waiter
        return future.result()

    async def _settle(self) -> None:
        self.waiter = Future(loop=self._loop)
        while (waiter := self.waiter) is not None:
            try:
                await waiter
            except CancelledError:  # by a task of the handler's own: what is being undone is undone to its end
                if self.waiter is not None:
                    self.waiter = Future(loop=self._loop)
