"""The machine: feed it events, take commands out. It steps one handler, synchronously, and does no I/O.

    machine = Execution(definition, header, input, codec, sources)
    machine.feed(history)          # replays; runs the handler as far as it gets
    machine.feed_live(events)      # what happened since: committed first, then fed
    machine.commands               # what to do next, by id, in the order of issue
    machine.drawn                  # values that must be committed before the next effect starts
    machine.outcome                # how the handler ended, once it has

On replay each event resolves the command of its id, and is compared with it; a difference raises DeterminismError and
nothing is ever written. One event is applied at a time and the handler runs until nothing is ready, live as on replay,
so both see the same order.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from .. import events as ev
from ..budget import Account, Purse
from ..calling import JAVASCRIPT
from ..codec import Codec
from ..errors import DeterminismError, InvalidInput
from ..events import Event
from ..failures import describe as describe_failure
from ..failures import revive
from ..limits import CONTINUE_AS_NEW_AFTER, MAX_WAITING
from ..runs import ExecutionInfo, Header
from ..workflows import Workflow
from .commands import AwaitSignal, CancelChild, Command, ReplyToUpdate, RunStep, StartChild, StartTimer, Waitable
from .commands import describe as describe_command
from .divergence import event_without_command, failed, mismatch, value_without_call
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future, Scope, Task, running_loop, where
from .mailbox import Mailbox
from .script import Script

_BY_ITSELF = "the handler cancelled itself"


class ContinueAsNew(BaseException):
    """Leaves the handler for ``ctx.continue_as_new``. Catching it does not undo the decision."""


class Sources:
    """Where live values come from: the host's clock (ms since 1970) and entropy."""

    __slots__ = ("entropy", "now_ms")

    def __init__(self, now_ms: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self.now_ms = now_ms
        self.entropy = entropy


class Execution:
    """One run's handler, its pending commands, and its place in the history."""

    def __init__(
        self,
        definition: Workflow,
        header: Header,
        input: Any,
        codec: Codec,
        sources: Sources,
        make_context: Callable[[Execution], Any],
        attempt: int = 1,
        lookup: Callable[[Any], Workflow] | None = None,
    ) -> None:
        self.definition, self.header, self.input = definition, header, input
        self.codec, self.sources, self.lookup = codec, sources, lookup
        parent = header.parent[0] if header.parent else None
        self.info = ExecutionInfo(
            header.id, header.workflow, header.version, parent, header.depth, attempt, header.run, header.generation
        )
        self.loop = DeterministicLoop(self._loop_timer, header.former)  # type: ignore[abstract]  # what it refuses is set by name
        self.ready = self.loop.ready

        self.commands: dict[str, Command] = {}
        self.pending: dict[str, tuple[Waitable, Future[Any]]] = {}
        self.withdrawn: dict[str, Waitable] = {}
        self.soonest_ms: float = float("inf")
        """No timer is due before: a bound, since one that was withdrawn may have set it."""
        self.intents: set[str] = set()
        self.compensations: list[tuple[str, Callable[..., Any], Any]] = []

        self.mailbox = Mailbox(codec, header.carried)
        self.attributes: dict[str, Any] = {}
        self._time_ms = 0
        self.logs: list[tuple[str, str, dict[str, Any]]] = []

        self.purse = Purse([Account(*account) for account in header.accounts], header.shared)
        self.purse.charge(*header.spent)
        self.purse.observe(header.totals)
        self.emissions: list[Event] = []
        """What steps have emitted since the last commit."""
        self.script = Script(self.purse, self._fail, self._where)

        self.recorded_ending: Event | None = None
        self.outcome: ev.Completed | ev.Failed | ev.Cancelled | ev.ContinuedAsNew | None = None
        self.error: BaseException | None = None
        """What the handler raised, for the log: the outcome holds no trace."""
        self.cancel_reason: str | None = None
        self.cancel_requested = False
        self.continuation: tuple[Any, bool] | None = None
        self._compensating = False
        self._main: Task[Any] | None = None
        self._ending = False
        """The handler has ended, and its other tasks are cancelled once nothing is ready."""
        self.loop.held = [self.commands, self.pending, self.compensations, self.mailbox.queries, self.mailbox.updates]
        self.context = make_context(self)

    # --- feeding -------------------------------------------------------------------------------------------------
    def start(self, time_ms: int) -> None:
        """Apply the Started event: make the handler's task and run it as far as it gets."""
        self.loop.now_ms = time_ms
        self.loop.wake(self._start)

    def _start(self) -> None:
        handler = self.definition.fn
        args = (self.context, self.input) if self.definition.takes_input else (self.context,)
        self._main = self.loop.task_in(Scope(""), self._run(handler, args), f"run {self.header.id}")

    def feed(self, batch: Sequence[tuple[int, Event]], more: bool = False, quiet: bool = False) -> None:
        """Replay recorded events, each with its time in ms; ``more`` says that this is not yet the last page.

        ``quiet``: after the last event nothing new is logged either, since the block behind it ran to its end before.
        Raises DeterminismError when code and history disagree; the machine is then of no further use.
        """
        page: list[tuple[int, Any]] = []
        append, special = page.append, ev.SPECIAL
        for timed in batch:
            if timed[1][0] in special:
                self._note(timed[1], page)
            else:
                append(timed)
        self.script.read(page, more, quiet)
        if not more and self._never_began():
            self.outcome = self.recorded_ending  # type: ignore[assignment]  # a Cancelled: see _never_began
            self.loop.set_aside()
        elif self.script.events or not more:  # a start whose values stand on the next page waits for them
            self._advance()

    def _never_began(self) -> bool:
        """Whether the run was cancelled before its time to begin came: then its handler is not run, now or ever."""
        ending = self.recorded_ending
        if not isinstance(ending, ev.Cancelled) or self.script.position or self.script.head() is not None:
            return False
        return not str(ending.reason).startswith(_BY_ITSELF)

    def _note(self, event: Event, page: list[tuple[int, Any]]) -> None:
        if event[0] == ev.EMITTED:
            self.script.saw_emission(page)
        elif event[0] in ev.ENDINGS:
            self.recorded_ending = event

    def feed_live(self, batch: Sequence[tuple[int, Event]]) -> None:
        """Apply events that were committed just now."""
        script = self.script
        script.more = script.quiet = False
        script.recorded_emissions = 0
        for time_ms, event in batch:
            if event[0] not in ev.SYNCHRONOUS and event[0] not in ev.INFORMATIONAL and event[0] != ev.STEP_INTENDED:
                script.events.append((time_ms, event))
        self._advance()

    @property
    def replaying(self) -> bool:
        """Whether recorded history lies ahead: log, emit and other effects outside of the record stay silent."""
        return self.script.replaying

    @property
    def position(self) -> int:
        """How many events and values the handler has passed."""
        return self.script.position

    @property
    def drawn(self) -> list[Event]:
        """Values that must be committed before the next effect starts."""
        return self.script.drawn

    @drawn.setter
    def drawn(self, values: list[Event]) -> None:
        self.script.drawn = values

    def _advance(self) -> None:
        loop, script = self.loop, self.script.events
        while True:
            loop.run_ready()
            if self._ending:
                loop.wake(self._end_branches)
                loop.run_ready()
            if loop.violation is not None:
                raise self._diverge(loop.violation)
            if not script:
                self._compare_endings()
                return
            time_ms, event = script[0]
            if event[0] in ev.SYNCHRONOUS:
                if event[1] == "patched":  # the call is gone from the code, so its new path is the only one
                    script.popleft()
                    continue
                raise self._diverge(value_without_call(event, self.position, self._where()))
            script.popleft()
            if event[0] in ev.COMPARED:
                self._compare(event)
                continue
            if self.outcome is not None and time_ms > self._time_ms:
                how = type(self.outcome).__name__
                if isinstance(self.outcome, ev.Failed):
                    how = failed(self.outcome.failure)
                raise self._diverge(mismatch(event, f"ended: {how}", self.position, self._where()))
            self._time_ms = time_ms
            self.tick(time_ms)
            loop.wake(self._apply, event)

    def _compare(self, event: ev.StepIntended | ev.UpdateReplied) -> None:
        """An intent or a reply was recorded when the handler had just asked for it: it must have done so again."""
        if isinstance(event, ev.StepIntended):
            self.intended(event)
        else:
            reply = self.commands.pop(f"reply {event.entry}", None)
            self.mailbox.reply(event.entry)
            said = "an update that is not answered" if self.outcome is None else None
            if isinstance(reply, ReplyToUpdate):
                said = None if self._same_reply(event, reply) else "another reply to it"
            if said is not None:
                self._fail(mismatch(event, said, self.position, self._where()))
        if self.loop.violation is not None:
            raise self._diverge(self.loop.violation)

    def intended(self, event: ev.StepIntended) -> None:
        """Note the intent of a step that runs at most once, which the handler has issued."""
        command = self.known(event.id)
        if not isinstance(command, RunStep):
            raise self._fail(self._unasked(event))
        self._same_call(event, command)
        self.intents.add(event.id)

    def _same_reply(self, event: ev.UpdateReplied, reply: ReplyToUpdate) -> bool:
        if event.ok != reply.ok:
            return False
        if not event.ok:
            return bool(event.value.get("type") == reply.value.get("type"))
        return self.codec.encode(event.value) == self.codec.encode(reply.value)

    def known(self, id: str) -> Waitable | None:
        """The command of that id, whether the handler still waits for it or has withdrawn it."""
        return self.pending[id][0] if id in self.pending else self.withdrawn.get(id)

    def _compare_endings(self) -> None:
        recorded, outcome = self.recorded_ending, self.outcome
        if recorded is None or self.script.more or (outcome is not None and self._same_ending(recorded, outcome)):
            return
        ended = "has not ended" if outcome is None else f"ended: {type(outcome).__name__}, with another value"
        if outcome is not None and type(outcome) is not type(recorded):
            ended = f"ended: {type(outcome).__name__}"
        raise self._diverge(mismatch(recorded, ended, self.position, self._where()))

    def _same_ending(self, recorded: Event, outcome: Event) -> bool:
        if isinstance(recorded, ev.Failed) and isinstance(outcome, ev.Failed):
            return bool(recorded.failure.get("type") == outcome.failure.get("type"))
        return self.codec.encode(list(recorded)) == self.codec.encode(list(outcome))

    def tick(self, time_ms: int) -> None:
        """Move recorded time on; it never goes back. Totals of shared accounts become known with the next event."""
        script = self.script
        script.position += 1
        if time_ms > self.loop.now_ms:
            self.loop.now_ms = time_ms
        self.loop.next_event()
        if script.next_totals is not None:
            self.purse.observe(script.next_totals)
            script.next_totals = None

    def _diverge(self, error: DeterminismError) -> DeterminismError:
        self.loop.set_aside()
        return error

    # --- applying one event --------------------------------------------------------------------------------------
    def _apply(self, event: Event) -> None:
        match event:
            case ev.StepCompleted():
                command, future = self._take(event, RunStep, event.id)
                self._same_call(event, command)
                if future is not None:
                    self.settled(command, event.value)
                    if not future.done():
                        future.set_result(event.value)
            case ev.StepFailed():
                command, future = self._take(event, RunStep, event.id)
                self._same_call(event, command)
                if future is not None:
                    self.purse.reserve(-command.reserved[0], -command.reserved[1])
                    if not future.done():
                        future.set_exception(revive(event.failure))
            case ev.AttemptFailed():
                self._apply_attempt(event)
            case ev.StepCharged():
                if not isinstance(self.known(event.id), RunStep):
                    self._take(event, RunStep, event.id)
                self.purse.charge(event.tokens, event.micros)
                if event.totals is not None:
                    self.purse.observe(event.totals)
            case ev.TimerFired():
                timer, _ = self._take(event, StartTimer, event.id)
                if event.id not in self.withdrawn:
                    timer.fire()
            case ev.SignalReceived():
                self._apply_signal(event)
            case ev.ChildStarted() | ev.ChildFinished():
                self._apply_child(event)
            case ev.CancelRequested():
                self._apply_cancel(event)
            case ev.UpdateReceived():
                self._apply_update(event)
            case _:
                self._apply_ending(event)

    def _take(self, event: Any, kind: type, id: str) -> tuple[Any, Future[Any] | None]:
        """The command that ``event`` answers, and its future; no future where the handler has withdrawn it."""
        if id in self.pending:
            command, future = self.pending[id]
            if isinstance(command, kind):
                del self.pending[id]
                self.commands.pop(id, None)
                return command, future
            raise self._fail(mismatch(event, describe_command(command), self.position, self._where()))
        if id in self.withdrawn and isinstance(self.withdrawn[id], kind):
            return self.withdrawn[id], None
        raise self._fail(self._unasked(event))

    def _unasked(self, event: Event) -> DeterminismError:
        issued = [describe_command(command) for command, _ in self.pending.values()]
        failure = self.outcome.failure if isinstance(self.outcome, ev.Failed) else None
        return event_without_command(event, issued, self.position, self._where(), failure)

    def _fail(self, error: DeterminismError) -> DeterminismError:
        self.loop.violation = self.loop.violation or error
        return error

    def _same_call(self, event: Any, command: RunStep) -> None:
        renamed = event.name == JAVASCRIPT and type(command.fn).__name__ == JAVASCRIPT
        if (event.name != command.name and not renamed) or event.args != command.digest:
            raise self._fail(mismatch(event, describe_command(command), self.position, self._where(), command.digest))

    def settled(self, command: RunStep, value: Any) -> None:
        """Bookkeeping of a completed step: its reservation, and what would undo it."""
        if command.reserved != (0, 0):
            self.purse.reserve(-command.reserved[0], -command.reserved[1])
        if command.compensate is not None:
            self.compensations.append((command.name, command.compensate, value))

    def _apply_attempt(self, event: ev.AttemptFailed) -> None:
        command = self.known(event.id)
        if not isinstance(command, RunStep):
            self._take(event, RunStep, event.id)
            return
        self._same_call(event, command)
        command.attempt = event.attempt + 1
        command.not_before_ms = event.retry_at
        self.intents.discard(event.id)

    def _apply_signal(self, event: ev.SignalReceived) -> None:
        box = self.mailbox
        box.entries.add(event.entry)
        waiters = box.waiters.get(event.name)
        while waiters:
            id = waiters.popleft()
            if id in self.pending:
                _, future = self.pending.pop(id)
                self.commands.pop(id, None)
                if not future.done():
                    future.set_result(event.payload)
                    return
        box.buffered.setdefault(event.name, deque()).append(event.payload)

    def _apply_child(self, event: ev.ChildStarted | ev.ChildFinished) -> None:
        if isinstance(event, ev.ChildStarted):
            command = self.known(event.id)
            if not isinstance(command, StartChild):
                self._take(event, StartChild, event.id)
                return
            if event.child == command.former:
                command.child = event.child
            if (event.workflow, event.args, event.child) != (command.name, command.digest, command.child):
                raise self._fail(
                    mismatch(event, describe_command(command), self.position, self._where(), command.digest)
                )
            command.started = True
            self.purse.shared = self.purse.shared or bool(self.purse.accounts)
            return
        _, future = self._take(event, StartChild, event.id)
        if future is None or future.done():
            return
        if event.outcome == "completed":
            future.set_result(event.value)
        else:
            future.set_exception(revive(event.value))

    def _apply_cancel(self, event: ev.CancelRequested) -> None:
        if self.cancel_requested:
            return
        self.cancel_requested, self.cancel_reason = True, event.reason
        if self._main is not None and not self._compensating:  # what is being undone is undone to its end
            self._main.cancel(event.reason)

    def _apply_update(self, event: ev.UpdateReceived) -> None:
        self.mailbox.entries.add(event.entry)
        if event.entry not in self.mailbox.answered:
            self.mailbox.open[event.entry] = event.name
        if self.outcome is not None:
            return  # recorded together with what ended the handler: its caller is told that the run has ended
        self.mailbox.update_count += 1
        scope = Scope(f"u{self.mailbox.update_count}.")
        if event.name not in self.mailbox.updates:
            raise self._fail(mismatch(event, f"no ctx.on_update({event.name!r}, ...)", self.position, self._where()))
        fn, _ = self.mailbox.updates[event.name]
        self.loop.task_in(scope, self._answer(event.entry, fn, event.payload), f"update {event.name}")

    async def _answer(self, entry: str, fn: Callable[..., Any], payload: Any) -> None:
        try:
            value = fn(payload)
            if hasattr(value, "__await__"):
                value = await value
            reply = ReplyToUpdate(entry, True, self.codec.through(value, "reply"))
        except (KeyboardInterrupt, ContinueAsNew):
            raise
        except BaseException as error:
            if isinstance(error, CancelledError) and (self.outcome is not None or self.continuation is not None):
                raise  # the run ends: whoever asked is told so
            reply = ReplyToUpdate(entry, False, describe_failure(error, self.codec), error)
        if entry not in self.mailbox.answered:
            self.commands[f"reply {entry}"] = reply

    def _apply_ending(self, event: Event) -> None:
        raise self._fail(self._unasked(event))

    # --- the handler's task ---------------------------------------------------------------------------------------
    async def _run(self, handler: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            try:
                value = await handler(*args)
            except BaseExceptionGroup as group:  # a TaskGroup puts what its body or a task raised into one
                rest = group.split(ContinueAsNew)[1]
                raise rest or ContinueAsNew from None
            if self.continuation is None:
                plain = self.codec.through(value, "result")
                self.outcome = ev.Completed(ev.COMPLETED, plain)
        except ContinueAsNew:
            pass
        except CancelledError:
            failures = await self._compensate()
            reason = self.cancel_reason if self.cancel_requested else _BY_ITSELF
            self.outcome = ev.Cancelled(ev.CANCELLED, _with_failures(reason, failures))
        except KeyboardInterrupt:
            raise  # the user's wish for this process, not an end of the run
        except BaseException as error:
            if isinstance(error, DeterminismError):
                self.loop.violation = self.loop.violation or error
                return
            self.error = error
            failures = await self._compensate()
            failure = describe_failure(error, self.codec)
            failure["message"] = _with_failures(failure["message"], failures)
            self.outcome = ev.Failed(ev.FAILED, failure)
        if self.continuation is not None and not isinstance(self.outcome, ev.Failed):
            self.outcome = ev.ContinuedAsNew(ev.CONTINUED_AS_NEW, self.continuation[0])
        # The reply to an update that ended the run may be a few turns away: what is ready goes on until nothing is.
        self._ending = bool(self.mailbox.open)
        if not self._ending:
            self._end_branches()

    async def _compensate(self) -> list[str]:
        """Undo what was done, last first. One that fails does not stop the others, nor does a cancel."""
        names: list[str] = []
        self.continuation, self._compensating = None, True
        while self.compensations:
            name, fn, value = self.compensations.pop()
            try:
                await self.context._run_compensation(f"compensate {name}", fn, value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if isinstance(error, DeterminismError):
                    raise
                names.append(f"{name} ({type(error).__name__})")
        return names

    def _end_branches(self) -> None:
        """The handler has ended: what its other tasks wait for is withdrawn, as asyncio.run cancels what is left."""
        self._ending = False
        for task in self.loop.unfinished():
            if task is not self._main:
                task.cancel()

    # --- what the context calls -----------------------------------------------------------------------------------
    def issue(self, command: Waitable) -> Future[Any]:
        """Register a command; its future is resolved by the event of its id."""
        self.guard()
        future: Future[Any] = Future(loop=self.loop)
        if type(command) is StartTimer and command.deadline_ms < self.soonest_ms:
            self.soonest_ms = command.deadline_ms
        self.pending[command.id] = (command, future)
        self.commands[command.id] = command
        return future

    def withdraw(self, id: str) -> None:
        """Nobody waits for the command any more: the runtime stops it, and its event, if one comes, is ignored."""
        if id not in self.pending:
            return
        command, _ = self.pending.pop(id)
        self.commands.pop(id, None)
        self.withdrawn[id] = command
        if isinstance(command, RunStep):
            self.purse.reserve(-command.reserved[0], -command.reserved[1])
        elif isinstance(command, AwaitSignal):
            self.mailbox.waiters[command.name].remove(id)
        elif isinstance(command, StartChild) and command.on_parent_close == "cancel":
            self.commands[f"cancel {id}"] = CancelChild(id, command.child)

    def guard(self, what: str = "ctx") -> None:
        """Refuse what is not called by the handler as it is being stepped: a replay would not repeat it."""
        if running_loop() is not self.loop:
            raise self.outside(what)

    def outside(self, what: str) -> InvalidInput:
        """What to say to a call of ``what`` from outside of the handler."""
        if self.mailbox.reading:
            return InvalidInput("a query may only read: it can't call ctx methods that do something; use an update")
        return self.gone() or InvalidInput(
            f"{what} is called outside of the workflow's own code, such as inside a step, in a thread or in a "
            "callback: a replay does not run that code, so it would not find the call again. Let the step return what "
            f"is needed, and call {what} before or after it, in the workflow"
        )

    def gone(self) -> InvalidInput | None:
        """What to say where this ctx is not to be used at all: in another run, or after its own has ended."""
        if isinstance(running_loop(), DeterministicLoop):
            return InvalidInput(
                f"this ctx is the one of run {self.header.id!r}, and another run's workflow uses it; each uses the ctx "
                "that it was given"
            )
        if self.outcome is not None or self.loop.is_closed():
            return InvalidInput(
                f"run {self.header.id!r} has ended, or goes on elsewhere, so its ctx is of no use any more; await what "
                "you start inside the workflow or its steps"
            )
        return None

    def emit(self, topic: str, data: Any) -> None:
        """An emission of the handler; or one of a step, which is recorded with what becomes of the step."""
        if running_loop() is self.loop:
            self.script.emit(topic, data)
        elif self.mailbox.reading:
            raise self.outside("ctx.emit")
        else:
            refused = self.gone()
            if refused is not None:
                raise refused
            self.emissions.append(ev.Emitted(ev.EMITTED, topic, data))

    def take_emissions(self, events: Sequence[Event]) -> list[Event]:
        """What steps have emitted, if ``events`` hold one that a replay finds: they stand in front of it.

        Behind it they would count as the handler's own, which it repeats as it is replayed.
        """
        if not self.emissions or not any(event[0] not in ev.INFORMATIONAL for event in events):
            return []
        taken = self.emissions[: len(self.emissions)]  # a thread may add to them meanwhile
        del self.emissions[: len(taken)]
        return taken

    def next_id(self) -> str:
        """The id of the next command of the current scope."""
        return SCOPE.get().next_id()

    def _loop_timer(self, deadline_ms: int, handle: Any) -> None:
        """asyncio's call_at: sleep, timeout, wait_for."""
        id = self.next_id()

        def fire() -> None:
            if not handle.cancelled():
                self.ready.append(handle)

        self.soonest_ms = min(self.soonest_ms, deadline_ms)
        self.pending[id] = (StartTimer(id, "asyncio timer", deadline_ms, fire), handle)
        self.commands[id] = self.pending[id][0]

    # --- what the runtime asks ------------------------------------------------------------------------------------
    def timers(self) -> list[StartTimer]:
        """Timers that wait, soonest first. Those that the handler has cancelled are dropped."""
        alive: list[StartTimer] = []
        for id, (command, future) in list(self.pending.items()):
            if isinstance(command, StartTimer):
                if future.cancelled():
                    self.withdraw(id)
                else:
                    alive.append(command)
        alive.sort(key=lambda timer: timer.deadline_ms)
        self.soonest_ms = alive[0].deadline_ms if alive else float("inf")
        return alive

    def waiting(self) -> list[str]:
        """What the run waits for, in words."""
        self.timers()
        few = [f"{command.verb} {command.name}" for command, _ in islice(self.pending.values(), MAX_WAITING)]
        return few if len(few) == len(self.pending) else [*few, f"and {len(self.pending) - len(few)} more"]

    def stalled(self) -> DeterminismError | None:
        """The error of a handler that awaits what nothing in a history can resolve; None where it may go on."""
        if self.outcome is not None or self.pending or self.mailbox.updates or self.commands:
            return None
        return DeterminismError(
            f"{self._where()} awaits something that is not durable: no step, timer, signal, child or update can wake "
            "it; put what it waits for in ctx.step"
        )

    def should_continue_as_new(self) -> bool:
        """Whether the history is long enough that starting a new one is worth it."""
        return self.position >= CONTINUE_AS_NEW_AFTER

    def set_aside(self) -> None:
        """Let go of the handler without running any more of its code."""
        self.error = None
        self.loop.set_aside()

    def _where(self) -> str:
        if self.loop.is_running():
            return where(None, sys._getframe(1))
        return where(self._main.get_coro()) if self._main is not None else "the handler"


def _with_failures(text: str | None, failures: list[str]) -> Any:
    if not failures:
        return text
    return f"{text or 'cancelled'} (compensations that failed: {', '.join(failures)})"
