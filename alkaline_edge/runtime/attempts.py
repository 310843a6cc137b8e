"""The attempts of one run's steps: started, watched, collected when they end, and recorded.

An attempt ends with what its function returned or raised, whatever that is: only what a signal raised in it, such as
Ctrl-C, is the wish of whoever runs this process, and nobody's outcome. At most once: each attempt of such a step
commits an intent of its own before it starts, and an intent without an outcome is never started again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any

from .. import events as ev
from .. import lifecycle
from ..calling import is_awaitable
from ..errors import InvalidInput, StepOutcomeUnknown
from ..events import Event
from ..interrupts import ends_the_process
from ..machine.agenda import Queue
from ..machine.commands import RunStep
from ..retry import Retry
from ..runs import StepInfo
from . import effects, pace, reporting
from .bell import Bell
from .effects import Attempt, Raised
from .fleet import Fleet
from .journal import TOGETHER, Journal
from .outcomes import Outcomes
from .pace import Pace, Probes

IN_PLACE_MS = 60_000
"""A retry due within this many ms is waited for in place; a later one suspends the run."""
SLICE_MS = 10
"""For so long at a time sync steps are started one after another, before requests, timers and others have a turn."""
_VALUES = frozenset((dict, list, str, int, float, bool, bytes, tuple, type(None), Raised))
"""What is surely not to be awaited: asking takes longer than many a step."""


class Attempts:
    """What is in flight, and what has ended and is not yet recorded."""

    def __init__(self, journal: Journal, learned: Pace, retry: Retry | None, bell: Bell, fleet: Fleet) -> None:
        self._journal, self._pace, self._bell, self._fleet = journal, learned, bell, fleet
        self._host, self._machine, self._codec = journal.host, journal.machine, journal.codec
        self._agenda, self.outcomes = journal.agenda, Outcomes(journal, retry)
        self._loop, self._probes = asyncio.get_running_loop(), Probes()
        self._threads: dict[asyncio.Future[Any], RunStep] = {}
        """Calls in threads, which nothing can stop."""
        self._ready: deque[RunStep] = deque()
        self._intended: deque[RunStep] = deque()
        """Ready too, and to be started before all others: an intent without an outcome is never started again."""
        self._unintended: list[RunStep] = []
        """Those whose intents are to be committed first."""
        self._lost: deque[RunStep] = deque()
        """Those that an owner before this one may have started."""
        self._retries = Queue(journal.machine.commands)
        self._landed: deque[tuple[RunStep, asyncio.Future[Any]]] = deque()
        self.lingering: list[str] = []
        """Names of steps that went on though they were told to stop: the lease is not handed back then."""
        self.flying: dict[str, asyncio.Future[Any]] = {}
        """By command, in the order in which they were started: those that have ended together are recorded in it."""
        self.late: dict[str, asyncio.Future[Any]] = {}
        """By command: attempts that nobody waits for any more, and whose completion would count all the same."""
        self.done: deque[Attempt] = deque()
        self._alone = 0
        """So many of those are recorded one by one: the store has refused them together."""

    # --- what there is to do ---------------------------------------------------------------------------------------
    def admit(self, command: RunStep) -> None:
        """The handler asks for an attempt: it is ready now, or when its backoff is over."""
        if not self._agenda.is_open(command.id, command) or command.id in self.flying:
            return
        if command.not_before_ms and command.not_before_ms > self._journal.clock.now_ms():
            self._retries.push(command)
        elif self.outcomes.waits_for_network(command, self._bell):
            return
        elif command.intended:
            self._intended.append(command)
        elif command.id in self._machine.intents:  # an earlier owner wrote the intent of this very attempt
            self._lost.append(command)
        else:
            (self._unintended if command.at_most_once else self._ready).append(command)

    def admit_due(self) -> None:
        """Those whose backoff is over are ready, and those that waited for a network that is there."""
        for command in self.outcomes.offline.take() if self.outcomes.offline else ():
            self.admit(command)
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
        at, offline = None if first is None else first[0], self.outcomes.offline
        return at if offline is None else offline.look_at(at, self._agenda.is_open)

    def retry_soon(self) -> bool:
        """Whether a retry is due so soon that it is waited for in place."""
        at = self.next_at()
        return at is not None and at <= self._journal.clock.now_ms() + IN_PLACE_MS

    def landed(self) -> bool:
        """Whether an attempt has ended since ``reap``."""
        return bool(self._landed)

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
                await journal.happened([self.outcomes.lost(lost)])
                return True
        if self._unintended and self.ended():
            return False  # what has ended is recorded first: behind its intent, a step starts without delay
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

    def call_now(self, command: RunStep, now: int) -> Attempt | None:
        """Call a step's function where that, and recording what it returned, waits for nothing; None: not so simple.

        Where it was called all the same, what became of it is among ``flying`` or ``done``.
        """
        if self.flying or self.late or self.ended() or self.are_ready() or self._retries or command.at_most_once:
            return None
        if command.not_before_ms or command.cost is not None or command.timeout is not None:
            return None
        if command.limits or self._pace.learns or self.outcomes.policy(command).while_offline:
            return None
        known = self._pace.of(command)
        if pace.threaded(command, known) if self._host.capabilities.threads else known.slow:
            return None
        self._agenda.fresh.popleft()
        self._call(command, known, now)
        return self.done[0] if self.done and self.done[0].error is None else None

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
            inline = not threads or not pace.threaded(command, known)
            if inline and known.may_be_slow and self.ended():
                break  # what has ended is recorded before something that may take long
            if not (threads or sure) and known.slow:
                return False
            queue.popleft()
            gated = bool(command.limits) or self._pace.learns
            if inline and not gated:
                now = self._call(command, known, now)
            elif gated or pace.always_threaded(command, known) or self._probes.may_begin(command, known):
                self._call_apart(command, known, inline, gated)
        return True

    def _probed(self, id: str) -> None:
        self._ready.extendleft(reversed(self._probes.over(id)))

    def _call_apart(self, command: RunStep, known: pace.Known, inline: bool, held_back: bool) -> None:
        given = (self._machine, command, self._host, known, None if inline else self._threads, self._info_for)
        inner: Any = effects.in_a_thread(*given) if not held_back else self._pace.gates().begin(*given, self.outcomes)
        work = inner  # where it is held back, its timeout begins when it is not any more
        if command.timeout is not None and not held_back:
            work = effects.watched(command, inner, self._host)
        self._watch(command, asyncio.ensure_future(work), inner)

    def _call(self, command: RunStep, known: pace.Known, before: int) -> int:
        """Call the step's function here; the time after it, in ms since 1970, as ``before`` is that before it."""
        command.began_ms, raw = before, effects.call(self._machine, command, known, self._info_for)
        after = self._host.now_ms()
        if type(raw) not in _VALUES and is_awaitable(raw):
            self._await(command, raw)
            return self._host.now_ms()
        known.took(after - before, inline=True)
        if command.timeout is not None and after - before > command.timeout * 1000 and type(raw) is not Raised:
            raw = effects.overran(command, (after - before) / 1000)
        self._collect(command, raw)
        return after

    def _await(self, command: RunStep, raw: Awaitable[Any]) -> None:
        """Await what the step's function returned. It begins at once, and what never waits is collected at once."""
        land = self._land if command.timeout is None else None
        work = effects.settled(raw, land, command)
        timed = None if land else effects.watched(command, work, self._host)
        task = effects.begin(work, self._loop) if timed is None else asyncio.ensure_future(timed)
        if task.done() and not task.cancelled():
            self._collect(command, task.result())
        else:
            self._watch(command, task, work, raw)

    def _land(self, command: RunStep) -> None:
        """The task that runs is the one of an attempt, which ends with that."""
        task = asyncio.current_task(self._loop)
        if task is not None and (self.flying.get(command.id) is task or self.late.get(command.id) is task):
            self._landed.append((command, task))
            self._bell.ring()

    def _info_for(self, command: RunStep) -> StepInfo:
        """What a step may know of itself, and publish by; also asked for in a thread."""
        from .publishing import info_for  # only who wants a StepInfo needs it, and an import costs a browser's start

        return info_for(self._machine, command, self._journal.teller, self._loop)

    def _watch(self, command: RunStep, task: asyncio.Future[Any], *inside: Any) -> None:
        """Keep an attempt in flight; ``inside`` is what it awaits, to be closed if it never gets there."""
        self.flying[command.id] = task

        def landed(task: asyncio.Future[Any]) -> None:
            if self.flying.get(command.id) is task or self.late.get(command.id) is task:
                self._landed.append((command, task))
                self._bell.ring()
            elif not task.cancelled():
                task.exception()  # retrieved: the step was withdrawn
            if task.cancelled():
                effects.close_unbegun(inside)

        task.add_done_callback(landed)

    # --- ending ----------------------------------------------------------------------------------------------------
    def stop_withdrawn(self) -> None:
        """Cancel attempts whose result nobody waits for any more.

        One whose completion would count, and that runs in a thread, goes on in any case: its result is kept.
        """
        agenda = self._agenda
        if agenda.stopped:
            stopped, agenda.stopped = agenda.stopped, []
            for id in stopped:
                if id in self.flying:
                    self._probed(id)
                    task, command = self.flying.pop(id), self._machine.withdrawn.get(id)
                    if isinstance(command, RunStep) and command.outlives:
                        self.late[id] = task
                        if command in self._threads.values():
                            continue
                    task.cancel()

    async def idle(self) -> bool:
        """Whether nothing is in flight. What was told to stop is given a moment for it, and left alone then."""
        if self.flying:
            return False
        if self.late:
            await self._stop_late()
        return not self.late and not self.ended()

    async def settle_late(self) -> bool:
        """Record one attempt that was withdrawn and has completed; False where there is none by now."""
        self.reap()
        one = self._ended_late()
        if one is None and self.late:
            await self._stop_late()
            self.reap()
            one = self._ended_late()
        if one is None:
            return False
        self.done.remove(one)
        await self._record([one])
        return True

    def _ended_late(self) -> Attempt | None:
        """The first that has ended of those that were withdrawn; others are recorded once these have ended."""
        return next((one for one in self.done if self._counts(one)), None)

    async def _stop_late(self) -> None:
        """Wait a moment for what was cancelled. What goes on in a thread does so for as long as it likes."""
        threads = self._threads.values()
        names = {task: id for id, task in self.late.items() if self._machine.withdrawn[id] not in threads}
        for task in await effects.stop(names):
            reporting.step_lingers(self._journal.record.id, self._name(names[task]))
            del self.late[names[task]]

    def reap(self) -> None:
        """Collect attempts that have ended, in the order in which they did."""
        while self._landed:
            command, task = self._landed.popleft()
            kept = self.late if self.late.get(command.id) is task else self.flying
            if kept.get(command.id) is not task:
                if not task.cancelled():
                    task.exception()  # retrieved: the step was withdrawn
                continue
            del kept[command.id]
            self._probed(command.id)
            if task.cancelled():
                text = "the step was cancelled from outside of the workflow"
                self._collect(command, Raised(asyncio.CancelledError(text), True))
            elif (error := task.exception()) is None:
                self._collect(command, task.result())
            elif ends_the_process(error):
                raise error
            else:  # not the step's: the host's, whose thread or clock could not be had
                self._collect(command, Raised(error, True))

    def _collect(self, command: RunStep, raw: Any) -> None:
        """Put down what became of an attempt."""
        if type(raw) is not Raised:
            one = effects.measure(command, raw, self._codec)
        else:
            error, unknown = raw.error, raw.unknown
            if self.outcomes.waits_for_network(command, self._bell, error):
                return
            if issubclass(type(error), asyncio.CancelledError):
                unknown = True
            if unknown and command.at_most_once and not issubclass(type(error), StepOutcomeUnknown):
                error = effects.outcome_unknown(command, f"was stopped by {type(error).__name__}")
            one = Attempt(command, error, raised=not unknown)
        self.done.append(one)

    async def halt(self) -> None:
        """Stop what is in flight; nothing of it is recorded. What does not stop is left alone, and told of."""
        if self.outcomes.offline is not None:
            self.outcomes.offline.stop()
        flying = {**self.late, **self.flying}
        self.late.clear()
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
        self.lingering = [names.get(task) or threads[task].name for task in left]
        for name in self.lingering:
            reporting.step_lingers(self._journal.record.id, name)

    def _name(self, id: str) -> str:
        command = self._machine.known(id)
        return command.name if isinstance(command, RunStep) else id

    # --- recording -------------------------------------------------------------------------------------------------
    async def record(self) -> None:
        """Record the attempts that have ended, as many as go into one commit, and let the handler go on."""
        ended = self._next()
        if ended:
            await self._record(ended)

    def _next(self) -> list[Attempt]:
        """The attempts whose outcomes are recorded next, in the order in which they have ended."""
        ended: list[Attempt] = []
        room, most = 0, 1 if self._alone else TOGETHER
        while self.done and len(ended) < most:
            one = self.done[0]
            if self._agenda.is_open(one.command.id, one.command) or self._counts(one):
                if ended:
                    if len(ended) == 1:
                        room = self._journal.room() - self.outcomes.size_of(ended[0])
                    room -= self.outcomes.size_of(one)
                    if room < 0:
                        break
                ended.append(one)
            self.done.popleft()
        self._alone -= bool(self._alone)
        return ended

    def _counts(self, one: Attempt) -> bool:
        """Whether an attempt that nobody waits for is recorded."""
        if one.error is not None or not one.command.outlives:
            return False
        return self._machine.withdrawn.get(one.command.id) is one.command

    async def _record(self, ended: list[Attempt]) -> None:
        journal, one = self._journal, ended[0]
        told: list[lifecycle.LifecycleEvent] = []
        try:
            recorded = await self.outcomes.append(ended, told)
        except InvalidInput as error:  # said before anything was written, and it would be said of each attempt
            if len(ended) > 1:
                self.done.extendleft(reversed(ended))
                self._alone = len(ended)  # one of them is what the store does not take
                return
            if self._counts(one):
                reporting.completed_for_nobody(one.command.name, error)
                return
            told.clear()
            one = Attempt(one.command, effects.not_recorded(one.command, error))
            recorded = await journal.append(self.outcomes.events_of(one, told))
        for each in told:
            journal.teller.tell(each)
        await journal.feed(recorded)
