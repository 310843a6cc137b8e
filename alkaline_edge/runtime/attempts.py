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
from ..machine.agenda import Queue
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
_VALUES = frozenset((dict, list, str, int, float, bool, bytes, tuple, type(None), Raised))
"""What is surely not to be awaited: asking takes longer than many a step."""
PROBES = 4
"""So many attempts of a function are started in threads before it is known how long one takes; the rest waits."""


class Attempts:
    """What is in flight, and what has ended and is not yet recorded."""

    def __init__(self, journal: Journal, learned: Pace, retry: Retry | None, bell: Bell, fleet: Fleet) -> None:
        self._journal, self._pace, self._retry, self._bell, self._fleet = journal, learned, retry, bell, fleet
        self._host, self._machine, self._codec = journal.host, journal.machine, journal.codec
        self._agenda = journal.agenda
        self._threads: dict[asyncio.Future[Any], str] = {}
        """Calls in threads, which nothing can stop, with the names of their steps."""
        self._ready: deque[RunStep] = deque()
        self._intended: deque[RunStep] = deque()
        """Ready too, and to be started before all others: an intent without an outcome is never started again."""
        self._unintended: list[RunStep] = []
        """Those whose intents are to be committed first."""
        self._lost: deque[RunStep] = deque()
        """Those that an owner before this one may have started."""
        self._retries = Queue(journal.machine.commands)
        self._probing: dict[str, pace.Known] = {}
        """Attempts whose function is being tried: how long one takes is not known before the first has landed."""
        self._probes: Counter[pace.Known] = Counter()
        self._deferred: dict[pace.Known, deque[RunStep]] = {}
        """Commands that wait for those: they set no alarm, since each that lands wakes the driver."""
        self._landed: deque[tuple[RunStep, asyncio.Future[Any]]] = deque()
        self.lingering: list[str] = []
        """Names of steps that went on though they were told to stop: the lease is not handed back then."""
        self.flying: dict[str, asyncio.Future[Any]] = {}
        """By command, in the order in which they were started: those that have ended together are recorded in it."""
        self.done: deque[Attempt] = deque()

    # --- what there is to do ---------------------------------------------------------------------------------------
    def admit(self, command: RunStep) -> None:
        """The handler asks for an attempt: it is ready now, or when its backoff is over."""
        if not self._agenda.is_open(command.id, command) or command.id in self.flying:
            return
        if command.not_before_ms and command.not_before_ms > self._journal.clock.now_ms():
            self._retries.push(command)
        elif command.intended:
            self._intended.append(command)
        elif command.id in self._machine.pending.intents:  # an earlier owner wrote the intent of this very attempt
            self._lost.append(command)
        else:
            (self._unintended if command.at_most_once else self._ready).append(command)

    def admit_due(self) -> None:
        """Those whose backoff is over are ready."""
        if self._retries:
            now = self._journal.clock.now_ms()
            while (first := self._retries.first()) is not None and first[0] <= now:
                self._retries.pop()
                self.admit(first[2])  # type: ignore[arg-type]  # only steps are pushed here

    def are_ready(self) -> bool:
        """Whether attempts can start."""
        return bool(self._ready or self._intended or self._unintended or self._lost)

    def next_at(self) -> int | None:
        """When an attempt becomes due that nothing else leads to, in ms since 1970 by the run's clock; None: never."""
        if self.are_ready():
            return 0
        first = self._retries.first()
        return None if first is None else first[0]

    def retry_soon(self) -> bool:
        """Whether a retry is due so soon that it is waited for in place."""
        at = self.next_at()
        return at is not None and at <= self._journal.clock.now_ms() + IN_PLACE_MS

    def ended(self) -> bool:
        """Whether an attempt has ended and is not yet recorded."""
        return bool(self.done or self._landed)

    # --- starting --------------------------------------------------------------------------------------------------
    async def start(self) -> bool:
        """Start attempts; True when something was fed instead, and there may be new commands.

        What was drawn, and the intents of at-most-once steps, are durable before. Those that are not started this
        time, since a slice of time is used up or their function is being tried, are ready the next time.
        """
        journal = self._journal
        if self._lost:
            lost = self._lost.popleft()
            if self._agenda.is_open(lost.id, lost):
                await journal.happened([self._outcome_lost(lost)])
                return True
        intents: list[Event] = []
        for command in self._unintended:
            if self._agenda.is_open(command.id, command):
                intents.append(ev.StepIntended(ev.STEP_INTENDED, command.id, command.name, command.digest))
                command.intended = True
                self._intended.append(command)
        self._unintended.clear()
        if intents or self._machine.drawn:
            await journal.append(intents)
        if not self._start_in_turn(await journal.hold(), sure=False):
            # The next is known to be slow and has no thread: meanwhile this process can't renew the lease.
            self._start_in_turn(await journal.hold(full=True), sure=True)
        return False

    def _start_in_turn(self, now: int, sure: bool) -> bool:
        """Start what is ready for a slice of time; False at one that wants to be sure of all of the lease."""
        begun = now
        is_open, of, threads = self._agenda.is_open, self._pace.of, self._host.capabilities.threads
        while self._intended or (self._ready and now - begun < SLICE_MS):
            queue = self._intended or self._ready
            command = queue[0]
            if not is_open(command.id, command):
                queue.popleft()
                continue
            if now - begun >= SLICE_MS and now >= self._journal.held_until:
                break  # what is intended starts the next time, once it is known that the run is still ours
            known = of(command)
            if not (threads or sure) and known.slow:
                return False
            queue.popleft()
            if not threads or not pace.threaded(command, known):
                now = self._call(command, known, now)
            elif known.measured or pace.is_marked(command.fn) or self._may_probe(command, known):
                self._call_in_a_thread(command, known)
        return True

    def _may_probe(self, command: RunStep, known: pace.Known) -> bool:
        """Whether the function may be tried once more before it is known how long it takes; otherwise it waits."""
        if self._probes[known] >= PROBES and not command.intended:
            self._deferred.setdefault(known, deque()).append(command)
            return False
        self._probing[command.id] = known
        self._probes[known] += 1
        return True

    def _probed(self, id: str) -> None:
        """A try is over: those that wait for it are ready, or the next of them where it is still not known."""
        known = self._probing.pop(id, None)
        if known is None:
            return
        self._probes[known] -= 1
        if not self._probes[known]:
            del self._probes[known]
        waiting = self._deferred.get(known)
        if waiting is not None:
            if known.measured or len(waiting) == 1:
                self._ready.extendleft(reversed(self._deferred.pop(known)))
            else:
                self._ready.appendleft(waiting.popleft())

    def _outcome_lost(self, command: RunStep) -> ev.StepFailed:
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
        if raw.__class__ not in _VALUES and inspect.isawaitable(raw):
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
                self._landed.append((command, task))
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
        agenda = self._agenda
        if agenda.stopped:
            stopped, agenda.stopped = agenda.stopped, []
            for id in stopped:
                if id in self.flying:
                    self._probed(id)
                    self.flying.pop(id).cancel()

    def reap(self) -> None:
        """Collect attempts that have ended, in the order in which they did."""
        while self._landed:
            command, task = self._landed.popleft()
            if self.flying.get(command.id) is not task:
                if not task.cancelled():
                    task.exception()  # retrieved: the step was withdrawn
                continue
            del self.flying[command.id]
            self._probed(command.id)
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
        self.done.append(one)

    async def halt(self) -> None:
        """Stop what is in flight; nothing of it is recorded. What does not stop is left alone, and told of."""
        flying = dict(self.flying)
        self.flying.clear()
        for id in flying:
            command = self._machine.commands.get(id)
            self._probed(id)
            if isinstance(command, RunStep):
                self._agenda.fresh.append(command)
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
        if not self._agenda.is_open(one.command.id, one.command):
            return
        told: list[lifecycle.LifecycleEvent] = []
        try:
            recorded = await self._append(one, told)
        except InvalidInput as error:  # said before anything was written, and it would be said of each attempt
            told.clear()
            one = Attempt(one.command, effects.not_recorded(one.command, error))
            recorded = await journal.append(self._events_of(one, journal.clock.now_ms(), told))
        for each in told:
            journal.teller.tell(each)
        await journal.feed(recorded)

    async def _append(self, one: Attempt, told: list[lifecycle.LifecycleEvent]) -> list[tuple[int, Event]]:
        journal, command = self._journal, one.command
        if one.error is not None or command.cost is not None:
            return await journal.append(self._events_of(one, journal.clock.now_ms(), told))
        completed = ev.StepCompleted(ev.STEP_COMPLETED, command.id, command.name, command.digest, one.value)
        recorded = await journal.append([completed])  # most of them
        if journal.teller.has_listeners:
            told.append(self._finished(command, recorded[-1][0], True))
        else:
            journal.teller.changes.changed()
        return recorded

    def _events_of(self, one: Attempt, now: int, told: list[lifecycle.LifecycleEvent]) -> list[Event]:
        command, id = one.command, self._journal.record.id
        call = (command.id, command.name, command.digest)
        if one.error is None:
            told.append(self._finished(command, now, True))
            completed = ev.StepCompleted(ev.STEP_COMPLETED, *call, one.value)
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
        told.append(self._finished(command, now, False))
        return [ev.StepFailed(ev.STEP_FAILED, *call, failure)]

    def _finished(self, command: RunStep, at: int, ok: bool) -> lifecycle.StepFinished:
        return lifecycle.StepFinished(self._journal.record.id, at, command.name, command.id, ok, command.attempt)

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
