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

What is durable before what: an event is committed before it is fed (``feed_live``), so a handler never acts on what a
crash could undo. What it draws meanwhile (``drawn``) is not durable yet, and is committed before any command that it
issued behind it is carried out. The outcome is committed with what was drawn before it.

The parts, each with a state of its own: ``mailbox`` what others sent, ``pending`` what the handler asked for,
``handler`` its task, ``script`` the recorded events ahead, ``calls`` the verbs of ctx over all of these, ``loop`` the
event loop. Here events are fed to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .. import events as ev
from ..budget import Account, Purse
from ..codec import Codec
from ..errors import DeterminismError
from ..events import Event
from ..failures import describe as describe_failure
from ..failures import revive
from ..runs import ExecutionInfo, Header
from ..workflows import Workflow
from .calls import Calls, Sources
from .commands import ReplyToUpdate, RunStep, StartChild, StartTimer
from .commands import describe as describe_command
from .divergence import event_without_command, failed, mismatch, value_without_call
from .handler import BY_ITSELF, ContinueAsNew, Handler
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future, Scope
from .mailbox import Mailbox
from .pending import Pending
from .script import Script

__all__ = ["Execution", "Sources"]


class Execution:
    """One run's machine, as the runtime sees it: what is fed, what is to be done, and what must be committed before."""

    def __init__(
        self,
        definition: Workflow,
        header: Header,
        input: Any,
        codec: Codec,
        sources: Sources,
        make_context: Callable[[Calls], Any],
        attempt: int = 1,
        lookup: Callable[[Any], Workflow] | None = None,
    ) -> None:
        self.definition, self.header, self.codec = definition, header, codec
        self._input = input
        parent = header.parent[0] if header.parent else None
        self.info = ExecutionInfo(
            header.id, header.workflow, header.version, parent, header.depth, attempt, header.run, header.generation
        )
        self.loop = DeterministicLoop(self._loop_timer, self._loop_timer_cancelled, header.former)  # type: ignore[abstract]  # what it refuses is set by name
        self.purse = Purse([Account(*account) for account in header.accounts], header.shared)
        self.purse.charge(*header.spent)
        self.purse.observe(header.totals)

        # Each part knows those above it in this list, and none below.
        self.mailbox = Mailbox(codec, header.carried)
        self.pending = Pending(self.loop, self.purse, self.mailbox)
        self._handler = Handler(self.loop, codec, self.mailbox)
        self.script = Script(self.purse, self.loop.violated, self._handler.where)
        self.calls = Calls(
            header, self.info, self.loop, codec, self.purse, self.mailbox, self.script, self.pending, self._handler,
            sources, lookup,
        )  # fmt: skip
        self._context = make_context(self.calls)

        self.commands = self.pending.commands
        """What to do next, by id, in the order of issue: each is done only once ``script.drawn`` is durable."""
        self._recorded_ending: Event | None = None
        self._time_ms = 0
        """The time of the last event that was applied; ``loop.now_ms`` may be ahead of it, after a ``ctx.now()``."""
        self.loop.held = [
            self.commands, self.pending.waiting, self._handler.compensations, self.mailbox.queries,
            self.mailbox.updates,
        ]  # fmt: skip

    # --- what came of it -------------------------------------------------------------------------------------------
    @property
    def outcome(self) -> ev.Completed | ev.Failed | ev.Cancelled | ev.ContinuedAsNew | None:
        """How the handler ended, once it has: to be committed."""
        return self._handler.outcome

    @property
    def error(self) -> BaseException | None:
        """What the handler raised, for the log: the outcome holds no trace."""
        return self._handler.error

    @property
    def continuation(self) -> tuple[Any, bool] | None:
        """The input of the next history, and whether signals are carried over."""
        return self._handler.continuation

    # --- feeding -------------------------------------------------------------------------------------------------
    def start(self, time_ms: int) -> None:
        """Apply the Started event: make the handler's task and run it as far as it gets."""
        self.loop.now_ms = time_ms
        self.loop.wake(self._start)

    def _start(self) -> None:
        args = (self._context, self._input) if self.definition.takes_input else (self._context,)
        self._handler.begin(self.definition.fn, args, f"run {self.header.id}", self.calls.undo)

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
            self._handler.outcome = self._recorded_ending  # type: ignore[assignment]  # a Cancelled: see _never_began
            self.loop.set_aside()
        elif self.script.events or not more:  # a start whose values stand on the next page waits for them
            self._advance()

    def _never_began(self) -> bool:
        """Whether the run was cancelled before its time to begin came: then its handler is not run, now or ever."""
        ending = self._recorded_ending
        if not isinstance(ending, ev.Cancelled) or self.script.position or self.script.head() is not None:
            return False
        return not str(ending.reason).startswith(BY_ITSELF)

    def _note(self, event: Event, page: list[tuple[int, Any]]) -> None:
        if event[0] == ev.EMITTED:
            self.script.saw_emission(page)
        elif event[0] in ev.ENDINGS:
            self._recorded_ending = event

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
            if self._handler.ending:
                loop.wake(self._handler.end_branches)
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
                raise self._diverge(value_without_call(event, self.position, self._handler.where()))
            script.popleft()
            if event[0] in ev.COMPARED:
                self._compare(event)
                continue
            if self.outcome is not None and time_ms > self._time_ms:
                how = type(self.outcome).__name__
                if isinstance(self.outcome, ev.Failed):
                    how = failed(self.outcome.failure)
                raise self._diverge(mismatch(event, f"ended: {how}", self.position, self._handler.where()))
            self._time_ms = time_ms
            self._tick(time_ms)
            loop.wake(self._apply, event)

    def _compare(self, event: ev.StepIntended | ev.UpdateReplied) -> None:
        """An intent or a reply was recorded when the handler had just asked for it: it must have done so again."""
        if isinstance(event, ev.StepIntended):
            self._intended(event)
        else:
            reply = self.commands.pop(f"reply {event.entry}", None)
            self.mailbox.reply(event.entry)
            said = "an update that is not answered" if self.outcome is None else None
            if isinstance(reply, ReplyToUpdate):
                said = None if self._same_reply(event, reply) else "another reply to it"
            if said is not None:
                self.script.differs(event, said)
        if self.loop.violation is not None:
            raise self._diverge(self.loop.violation)

    def _intended(self, event: ev.StepIntended) -> None:
        """Note the intent of a step that runs at most once, which the handler has issued."""
        command = self.pending.known(event.id)
        if not isinstance(command, RunStep):
            raise self._unasked(event)
        self.script.same_call(event, command)
        self.pending.intents.add(event.id)

    def _same_reply(self, event: ev.UpdateReplied, reply: ReplyToUpdate) -> bool:
        if event.ok != reply.ok:
            return False
        if not event.ok:
            return bool(event.value.get("type") == reply.value.get("type"))
        return self.codec.encode(event.value) == self.codec.encode(reply.value)

    def _compare_endings(self) -> None:
        recorded, outcome = self._recorded_ending, self.outcome
        if recorded is None or self.script.more or (outcome is not None and self._same_ending(recorded, outcome)):
            return
        ended = "has not ended" if outcome is None else f"ended: {type(outcome).__name__}, with another value"
        if outcome is not None and type(outcome) is not type(recorded):
            ended = f"ended: {type(outcome).__name__}"
        raise self._diverge(mismatch(recorded, ended, self.position, self._handler.where()))

    def _same_ending(self, recorded: Event, outcome: Event) -> bool:
        if isinstance(recorded, ev.Failed) and isinstance(outcome, ev.Failed):
            return bool(recorded.failure.get("type") == outcome.failure.get("type"))
        return self.codec.encode(list(recorded)) == self.codec.encode(list(outcome))

    def _tick(self, time_ms: int) -> None:
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
                self.script.same_call(event, command)
                if future is not None:
                    self._settled(command, event.value)
                    if not future.done():
                        future.set_result(event.value)
            case ev.StepFailed():
                command, future = self._take(event, RunStep, event.id)
                self.script.same_call(event, command)
                if future is not None:
                    self.purse.reserve(-command.reserved[0], -command.reserved[1])
                    if not future.done():
                        future.set_exception(revive(event.failure))
            case ev.AttemptFailed():
                self._apply_attempt(event)
            case ev.StepCharged():
                if not isinstance(self.pending.known(event.id), RunStep):
                    self._take(event, RunStep, event.id)
                self.purse.charge(event.tokens, event.micros)
                if event.totals is not None:
                    self.purse.observe(event.totals)
            case ev.TimerFired():
                timer, _ = self._take(event, StartTimer, event.id)
                if event.id not in self.pending.withdrawn:
                    timer.fire()
            case ev.SignalReceived():
                self._apply_signal(event)
            case ev.ChildStarted() | ev.ChildFinished():
                self._apply_child(event)
            case ev.CancelRequested():
                self._handler.cancel(event.reason)
            case ev.UpdateReceived():
                self._apply_update(event)
            case _:
                raise self._unasked(event)

    def _take(self, event: Any, kind: type, id: str) -> tuple[Any, Future[Any] | None]:
        """The command that ``event`` answers, and its future; no future where the handler has withdrawn it."""
        taken = self.pending.take(id, kind)
        if taken is not None:
            return taken
        if id in self.pending.waiting:
            raise self.script.differs(event, describe_command(self.pending.waiting[id][0]))
        raise self._unasked(event)

    def _unasked(self, event: Event) -> DeterminismError:
        failure = self.outcome.failure if isinstance(self.outcome, ev.Failed) else None
        issued = self.pending.described()
        error = event_without_command(event, issued, self.position, self._handler.where(), failure)
        return self.loop.violated(error)

    def _settled(self, command: RunStep, value: Any) -> None:
        """Bookkeeping of a completed step: its reservation, and what would undo it."""
        if command.reserved != (0, 0):
            self.purse.reserve(-command.reserved[0], -command.reserved[1])
        if command.compensate is not None:
            self._handler.compensations.append((command.name, command.compensate, value))

    def _apply_attempt(self, event: ev.AttemptFailed) -> None:
        command = self.pending.known(event.id)
        if not isinstance(command, RunStep):
            self._take(event, RunStep, event.id)
            return
        self.script.same_call(event, command)
        command.attempt = event.attempt + 1
        command.not_before_ms = event.retry_at
        self.pending.intents.discard(event.id)
        self.pending.again(command)

    def _apply_signal(self, event: ev.SignalReceived) -> None:
        box = self.mailbox
        box.entries.add(event.entry)
        waiters = box.waiters.get(event.name)
        while waiters:
            future = self.pending.take_waiter(waiters.popleft())
            if future is not None and not future.done():
                future.set_result(event.payload)
                return
        box.buffered.setdefault(event.name, deque()).append(event.payload)

    def _apply_child(self, event: ev.ChildStarted | ev.ChildFinished) -> None:
        if isinstance(event, ev.ChildStarted):
            command = self.pending.known(event.id)
            if not isinstance(command, StartChild):
                self._take(event, StartChild, event.id)
                return
            if event.child == command.former:
                command.child = event.child
            if (event.workflow, event.args, event.child) != (command.name, command.digest, command.child):
                raise self.script.differs(event, describe_command(command), command.digest)
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

    def _apply_update(self, event: ev.UpdateReceived) -> None:
        self.mailbox.entries.add(event.entry)
        if event.entry not in self.mailbox.answered:
            self.mailbox.open[event.entry] = event.name
        if self.outcome is not None:
            return  # recorded together with what ended the handler: its caller is told that the run has ended
        self.mailbox.update_count += 1
        scope = Scope(f"u{self.mailbox.update_count}.")
        if event.name not in self.mailbox.updates:
            raise self.script.differs(event, f"no ctx.on_update({event.name!r}, ...)")
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
            ends = self.outcome is not None or self._handler.continuation is not None
            if isinstance(error, CancelledError) and ends:
                raise  # the run ends: whoever asked is told so
            reply = ReplyToUpdate(entry, False, describe_failure(error, self.codec), error)
        if entry not in self.mailbox.answered:
            self.pending.ask(f"reply {entry}", reply)

    def _loop_timer(self, deadline_ms: int, handle: Any) -> str:
        id = SCOPE.get().next_id()
        self.pending.issue_for_loop(id, deadline_ms, handle)
        return id

    def _loop_timer_cancelled(self, id: str) -> None:
        self.pending.withdraw(id)

    # --- what the runtime asks ------------------------------------------------------------------------------------
    def take_logs(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What the handler has logged since this was asked last: level, message, fields."""
        logs, self.calls.logs = self.calls.logs, []
        return logs

    def stalled(self) -> DeterminismError | None:
        """The error of a handler that awaits what nothing in a history can resolve; None where it may go on."""
        if self.outcome is not None or self.pending.waiting or self.mailbox.updates or self.commands:
            return None
        return DeterminismError(
            f"{self._handler.where()} awaits something that is not durable: no step, timer, signal, child or update "
            "can wake it; put what it waits for in ctx.step"
        )

    def set_aside(self) -> None:
        """Let go of the handler without running any more of its code."""
        self._handler.error = None  # its traceback holds the frames that are let go of
        self.loop.set_aside()
