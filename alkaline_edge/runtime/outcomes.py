"""What is recorded of an attempt that has ended: a completion, a failure, or that it is tried again, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events as ev
from .. import lifecycle
from ..errors import StepOutcomeUnknown
from ..events import Event
from ..failures import describe
from ..machine.commands import RunStep
from ..retry import ONCE, Retry
from . import effects, reporting
from .bell import Bell
from .effects import Attempt
from .journal import Journal

if TYPE_CHECKING:
    from .offline import Waiting


class Outcomes:
    """Decides it for the attempts of one run. ``retry``: the policy of steps that have none."""

    def __init__(self, journal: Journal, retry: Retry | None) -> None:
        self._journal, self._retry = journal, retry
        self._machine, self._codec = journal.machine, journal.codec
        self.offline: Waiting | None = None
        """The steps that wait for a network, once there was one."""

    def waits_for_network(self, command: RunStep, bell: Bell, error: BaseException | None = None) -> bool:
        """Whether a step is set aside, since there is no network and its policy wants one; ``error``: it failed."""
        if not self.policy(command).while_offline:
            return False
        if self.offline is None:
            from .offline import Waiting  # few steps ask for it, and an import costs a browser's start

            self.offline = Waiting(self._journal, bell)
        return self.offline.keeps(command, error)

    def size_of(self, one: Attempt) -> int:
        """About how many bytes its events take in a commit."""
        return sum(map(self._journal.size_of, self.events_of(one, [])))

    def events_of(self, one: Attempt, told: list[lifecycle.LifecycleEvent]) -> list[Event]:
        """What becomes of an attempt, decided once; and what listeners are told of it."""
        if one.events is None:
            one.events, one.told = self._outcome_of(one, self._journal.clock.now_ms())
        told.append(one.told)
        return one.events

    def _outcome_of(self, one: Attempt, now: int) -> tuple[list[Event], lifecycle.LifecycleEvent]:
        command, id = one.command, self._journal.record.id
        call = (command.id, command.name, command.digest)
        if one.error is None:
            completed = ev.StepCompleted(ev.STEP_COMPLETED, *call, one.value)
            charged = ev.StepCharged(ev.STEP_CHARGED, command.id, one.tokens, one.micros, None)
            events: list[Event] = [completed] if command.cost is None else [charged, completed]
            return events, self.finished(command, now, True, (one.tokens, one.micros))
        failure = describe(one.error, self._codec)
        again = self._wants_another(one)
        reporting.step_failed(id, command.name, command.attempt, one.error, again)
        if again:
            retry_at = now + round(self.policy(command).delay(command.attempt) * 1000)
            command.intended = False
            attempt, text = command.attempt, failure["message"]
            retrying = lifecycle.StepRetrying(
                id, now, command.name, command.id, attempt, retry_at, text, failure["type"], command.began_ms
            )
            return [ev.AttemptFailed(ev.ATTEMPT_FAILED, *call, attempt, failure, retry_at)], retrying
        return [ev.StepFailed(ev.STEP_FAILED, *call, failure)], self.finished(
            command, now, False, error=failure["type"]
        )

    def lost(self, command: RunStep) -> ev.StepFailed:
        """What becomes of an at-most-once step whose intent an owner before this one has recorded, and no outcome."""
        error = StepOutcomeUnknown(
            f"step {command.name!r} is at_most_once: it was started, and the process died before its outcome was "
            "recorded; it is not run again. Look the effect up by its idempotency key, then decide",
            step=command.name,
            idempotency_key=self._machine.idempotency_key(command),
        )
        return ev.StepFailed(ev.STEP_FAILED, command.id, command.name, command.digest, describe(error, self._codec))

    async def append(self, ended: list[Attempt], told: list[lifecycle.LifecycleEvent]) -> list[tuple[int, Event]]:
        """Commit what becomes of attempts, as one commit."""
        one, command = ended[0], ended[0].command
        if len(ended) > 1 or one.error is not None or command.cost is not None:
            return await self._journal.append([event for one in ended for event in self.events_of(one, told)])
        now = self._journal.append_now(command, one.value)  # most of them, on a host that commits without a wait
        if now is not None:
            recorded = [now]
        else:
            completed = ev.StepCompleted(ev.STEP_COMPLETED, command.id, command.name, command.digest, one.value)
            recorded = await self._journal.append([completed])
        self.tell_finished(command, recorded[-1][0])
        return recorded

    def finished(
        self, command: RunStep, at: int, ok: bool, cost: tuple[int, int] = (0, 0), error: str | None = None
    ) -> lifecycle.StepFinished:
        """What listeners are told of a step that is over. ``cost``: tokens and micro-usd."""
        tokens, usd = cost[0], cost[1] / 1_000_000
        return lifecycle.StepFinished(
            self._journal.record.id, at, command.name, command.id, ok, command.attempt, command.began_ms, tokens, usd,
            error,
        )  # fmt: skip

    def tell_finished(self, command: RunStep, at: int) -> None:
        """Tell that a step has completed."""
        teller = self._journal.teller
        if teller.has_listeners:
            teller.tell(self.finished(command, at, True))
        else:
            teller.changes.changed(self._journal.record.id)

    def is_retried(self, command: RunStep, error: BaseException) -> bool:
        """Whether another attempt follows where this one ends with ``error``."""
        return not command.at_most_once and effects.wants_another(self.policy(command), error, command.attempt)

    def _wants_another(self, one: Attempt) -> bool:
        """Whether its policy wants another attempt; at most once, only of what the step itself raised."""
        if one.error is None or (one.command.at_most_once and not one.raised):
            return False
        return effects.wants_another(self.policy(one.command), one.error, one.command.attempt)

    def policy(self, command: RunStep) -> Retry:
        """The step's own retry policy, otherwise the workflow's, otherwise the runtime's, otherwise one attempt.

        An at-most-once step is retried by its own alone, and only if that says of which errors it is known that the
        step failed before it could act: by ``retryable``.
        """
        if command.at_most_once:
            return command.retry if command.retry is not None and command.retry.retryable is not None else ONCE
        return command.retry or self._machine.definition.retry or self._retry or ONCE
