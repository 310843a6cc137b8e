"""The attempts of one run's steps: started, watched, collected when they end, and recorded one by one.

An attempt ends with what its function returned or raised, whatever that is: only KeyboardInterrupt, which is the
user's wish for this process, is nobody's outcome. At most once: each attempt of such a step commits an intent of its
own before it starts, and an intent without an outcome is never started again.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any

from .. import events as ev
from .. import lifecycle
from ..errors import InvalidInput, StepOutcomeUnknown
from ..events import Event
from ..failures import describe
from ..machine.commands import RunStep
from ..retry import ONCE, Retry
from . import effects, pace, reporting
from .bell import Bell
from .effects import Attempt, Raised
from .fleet import Fleet
from .journal import Journal
from .pace import Pace

logger = logging.getLogger("alkaline_edge")

IN_PLACE_MS = 60_000
"""A retry due within this many ms is waited for in place; a later one suspends the run."""
SLICE_MS = 10
"""For so long at a time sync steps are started one after another, before requests, timers and others have a turn."""
PROBES = 4
"""So many attempts of a function are started in threads before it is known how long one takes; the rest waits."""


class Attempts:
    """What is in flight, and what has ended and is not yet recorded."""

    def __init__(self, journal: Journal, learned: Pace, retry: Retry | None, bell: Bell, fleet: Fleet) -> None:
        self._journal, self._pace, self._retry, self._bell, self._fleet = journal, learned, retry, bell, fleet
        self._host, self._machine, self._codec = journal.host, journal.machine, journal.codec
        self._threads: dict[asyncio.Future[Any], str] = {}
        """Calls in threads, which nothing can stop, with the names of their steps."""
        self._probing: dict[str, pace.Known] = {}
        """Attempts whose function is being tried: how long one takes is not known before the first has landed."""
        self._deferred: set[str] = set()
        """Commands that wait for those: they set no alarm, since each that lands wakes the driver."""
        self._settled: set[str] = set()
        """Commands whose attempt has ended and is not recorded yet: none of them is started again."""
        self.lingering: list[str] = []
        """Names of steps that went on though they were told to stop: the lease is not handed back then."""
        self.flying: dict[str, asyncio.Future[Any]] = {}
        """By command, in the order in which they were started: those that have ended together are recorded in it."""
        self.done: deque[Attempt] = deque()

    # --- what there is to do ---------------------------------------------------------------------------------------
    def steps(self) -> list[RunStep]:
        """Steps that the handler waits for."""
        return [c for c in self._machine.commands.values() if isinstance(c, RunStep)]

    def startable(self, command: RunStep) -> bool:
        """Whether an attempt may start: none is in flight or waits to be recorded, and its backoff is over."""
        if command.id in self.flying or command.id in self._settled:
            return False
        return not command.not_before_ms or command.not_before_ms <= self._journal.clock.now_ms()

    def alarms(self) -> list[int]:
        """When attempts become due that nothing else leads to, in ms since 1970 by the run's clock."""
        return [c.not_before_ms for c in self.steps() if c.id not in self.flying and c.id not in self._deferred]

    def retry_soon(self) -> bool:
        """Whether a retry is due so soon that it is waited for in place."""
        retries = [c.not_before_ms for c in self.steps() if c.not_before_ms]
        return bool(retries) and min(retries) <= self._journal.clock.now_ms() + IN_PLACE_MS

    def ended(self) -> bool:
        """Whether an attempt has ended and is not yet recorded."""
        return bool(self.done) or any(task.done() for task in self.flying.values())

    # --- starting --------------------------------------------------------------------------------------------------
    async def start(self, ready: list[RunStep]) -> bool:
        """Start attempts; True when something was fed instead, and there may be new commands.

        What was drawn, and the intents of at-most-once steps, are durable before. Those that are not started this
        time, since a slice of time is used up or their function is being tried, are ready the next time.
        """
        journal = self._journal
        lost = next((c for c in ready if self._was_started(c)), None)
        if lost is not None:
            await journal.happened([self._lost(lost)])
            return True
        intents: list[Event] = []
        for command in ready:
            if command.at_most_once and not command.intended:
                intents.append(ev.StepIntended(ev.STEP_INTENDED, command.id, command.name, command.digest))
                command.intended = True
        if intents or self._machine.drawn:
            await journal.append(intents)
        if intents:  # what is intended starts now: if the process died before, its outcome would be unknown
            ready = sorted(ready, key=lambda command: not command.intended)
        # One that is known to be slow and has no thread keeps this process from renewing the lease.
        slow = not self._host.capabilities.threads and any(self._pace.of(c).slow for c in ready)
        self._start_in_turn(ready, await journal.hold(full=slow))
        return False

    def _start_in_turn(self, ready: list[RunStep], now: int) -> None:
        begun = now
        self._deferred.clear()
        probes: Counter[int] | None = None
        for command in ready:
            if now - begun >= SLICE_MS and (not command.intended or now >= self._journal.held_until):
                return  # what is intended starts the next time, once it is known that the run is still ours
            known = self._pace.of(command)
            thread = pace.threaded(command, known, self._host)
            if thread and not known.measured and not pace.is_marked(command.fn):
                probes = Counter(map(id, self._probing.values())) if probes is None else probes
                probes[id(known)] += 1
                if probes[id(known)] > PROBES and not command.intended:
                    self._deferred.add(command.id)  # one of those before it will land, and wake the driver
                    continue
                self._probing[command.id] = known
            if thread:
                self._call_in_a_thread(command, known)
                continue
            now = self._call(command, known, now)

    def _was_started(self, command: RunStep) -> bool:
        """Whether the history holds an intent of this very attempt, which an owner before this one wrote."""
        return not command.intended and command.id in self._machine.pending.intents

    def _lost(self, command: RunStep) -> ev.StepFailed:
        error = StepOutcomeUnknown(
            f"step {command.name!r} is at_most_once: it was started, and the process died before its outcome was "
            "recorded; it is not run again. Look the effect up by its idempotency key, then decide",
            step=command.name,
            idempotency_key=self._machine.info.idempotency_key(command.id),
        )
        return ev.StepFailed(ev.STEP_FAILED, command.id, command.name, command.digest, describe(error, self._codec))

    def _call_in_a_thread(self, command: RunStep, known: pace.Known) -> None:
        def begun(call: asyncio.Future[Any]) -> None:
            self._threads[call] = command.name
            call.add_done_callback(lambda call: self._threads.pop(call, None))

        work = inner = effects.in_a_thread(self._machine, command, self._host, known, begun)
        if command.timeout is not None:
            work = effects.watched(command, inner, self._host)
        self._fly(command, work, inner)

    def _call(self, command: RunStep, known: pace.Known, before: int) -> int:
        """Call the step's function here; the time after it, in ms since 1970, as ``before`` is that before it."""
        raw = effects.call(self._machine, command, known)
        after = self._host.now_ms()
        if inspect.isawaitable(raw):
            work = inner = effects.settled(raw)
            if command.timeout is not None:
                work = effects.watched(command, inner, self._host)
            self._fly(command, work, inner, raw)
            return after
        known.took(after - before, inline=True)
        if command.timeout is not None and after - before > command.timeout * 1000 and not isinstance(raw, Raised):
            raw = effects.overran(command, (after - before) / 1000)
        self._collect(command, raw)
        return after

    def _fly(self, command: RunStep, work: Coroutine[Any, Any, Any], *inside: Any) -> None:
        """Run ``work``; ``inside`` is what it awaits, to be closed if it is cancelled before it gets there."""
        task = self.flying[command.id] = asyncio.ensure_future(work)

        def landed(task: asyncio.Future[Any]) -> None:
            if self.flying.get(command.id) is task:
                self._bell.ring()
            elif not task.cancelled():
                task.exception()  # retrieved: the step was withdrawn
            if task.cancelled():
                for each in inside:
                    if inspect.iscoroutine(each) and inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
                        each.close()

        task.add_done_callback(landed)

    # --- ending ----------------------------------------------------------------------------------------------------
    def stop_withdrawn(self) -> None:
        """Cancel attempts whose result nobody waits for any more."""
        for id in list(self.flying):
            if id in self._machine.pending.withdrawn:
                self._probing.pop(id, None)
                self.flying.pop(id).cancel()

    def reap(self) -> None:
        """Collect attempts that have ended, in the order in which they were started."""
        for id, task in list(self.flying.items()):
            if not task.done():
                continue
            del self.flying[id]
            self._probing.pop(id, None)
            command = self._machine.commands.get(id)
            if not isinstance(command, RunStep):
                continue
            if task.cancelled():
                text = "the step was cancelled from outside of the workflow"
                self._collect(command, Raised(asyncio.CancelledError(text), True))
            elif (error := task.exception()) is None:
                self._collect(command, task.result())
            elif isinstance(error, KeyboardInterrupt):
                raise error
            else:  # not the step's: the host's, whose thread or clock could not be had
                self._collect(command, Raised(error, True))

    def _collect(self, command: RunStep, raw: Any) -> None:
        """Put down what became of an attempt."""
        if not isinstance(raw, Raised):
            one = effects.measure(command, raw, self._codec)
        else:
            error, unknown = raw.error, raw.unknown
            if isinstance(error, asyncio.CancelledError):
                unknown = True
            if unknown and command.at_most_once and not isinstance(error, StepOutcomeUnknown):
                error = effects.outcome_unknown(command, f"was stopped by {type(error).__name__}")
            one = Attempt(command, error, raised=not unknown)
        self._settled.add(command.id)
        self.done.append(one)

    async def halt(self) -> None:
        """Stop what is in flight; nothing of it is recorded. What does not stop is left alone, and told of."""
        flying = dict(self.flying)
        self.flying.clear()
        names = {task: self._name(id) for id, task in flying.items()}
        threads = dict(self._threads) if self._fleet.closing else {}
        left = await effects.stop(names, effects.LINGER_SECONDS + 0.5, threads)
        # Another owner would begin what still runs here, so a thread counts too where the runtime is closed.
        self.lingering = [names.get(task) or threads[task] for task in left]
        for name in self.lingering:
            logger.warning(
                "step %r of run %r goes on though it was told to stop, and nothing of it is recorded; the run's lease "
                "is kept until it runs out",
                name,
                self._journal.record.id,
            )

    def _name(self, id: str) -> str:
        command = self._machine.commands.get(id) or self._machine.pending.withdrawn.get(id)
        return command.name if isinstance(command, RunStep) else id

    # --- recording -------------------------------------------------------------------------------------------------
    async def record(self) -> None:
        """Record the attempt that ended first, and let the handler go on.

        One event that wakes the handler per commit: what the handler draws between two of them stands between them,
        so a replay finds each value at its place.
        """
        journal, one = self._journal, self.done.popleft()
        self._settled.discard(one.command.id)
        if one.command.id not in self._machine.commands:
            return
        told: list[lifecycle.LifecycleEvent] = []
        try:
            recorded = await journal.append(self._events_of(one, journal.clock.now_ms(), told))
        except InvalidInput as error:  # said before anything was written, and it would be said of each attempt
            told.clear()
            one = Attempt(one.command, effects.not_recorded(one.command, error))
            recorded = await journal.append(self._events_of(one, journal.clock.now_ms(), told))
        for each in told:
            journal.teller.tell(each)
        await journal.feed(recorded)

    def _events_of(self, one: Attempt, now: int, told: list[lifecycle.LifecycleEvent]) -> list[Event]:
        command, id = one.command, self._journal.record.id
        call = (command.id, command.name, command.digest)
        if one.error is None:
            told.append(lifecycle.StepFinished(id, now, command.name, command.id, True, command.attempt))
            completed = ev.StepCompleted(ev.STEP_COMPLETED, *call, one.value)
            if command.cost is None:
                return [completed]
            return [ev.StepCharged(ev.STEP_CHARGED, command.id, one.tokens, one.micros, None), completed]
        failure = describe(one.error, self._codec)
        again = self._wants_another(one)
        reporting.step_failed(id, command.name, command.attempt, one.error, again)
        if again:
            retry_at = now + round(self.policy(command).delay(command.attempt) * 1000)
            told.append(
                lifecycle.StepRetrying(id, now, command.name, command.id, command.attempt, retry_at, failure["message"])
            )
            command.intended = False
            return [ev.AttemptFailed(ev.ATTEMPT_FAILED, *call, command.attempt, failure, retry_at)]
        told.append(lifecycle.StepFinished(id, now, command.name, command.id, False, command.attempt))
        return [ev.StepFailed(ev.STEP_FAILED, *call, failure)]

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
