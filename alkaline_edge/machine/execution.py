"""The machine: feed it events, take commands out. It steps one handler, synchronously, and does no I/O.

    machine = Execution(definition, header, input, codec, sources)
    machine.feed(history)          # replays; runs the handler as far as it gets
    machine.feed_live(events)      # what happened since: committed first, then fed
    machine.commands               # what to do next, by id, in the order of issue
    machine.drawn                  # values that must be committed before the next effect starts
    machine.outcome                # how the handler ended, once it has

On replay each event resolves the command of its id, and is compared with it; a difference raises DeterminismError and
nothing is ever written. A commit is an activation: those of its events that wake the handler are applied, one behind
the other, and then the handler runs until nothing is ready, live as on replay, so both see the same order.

What is durable before what: an event is committed before it is fed (``feed_live``), so a handler never acts on what a
crash could undo. What it draws meanwhile (``drawn``) is not durable yet, and is committed before any command that it
issued behind it is carried out. The outcome is committed with what was drawn before it.

The parts, each with a state of its own: ``mailbox`` what others sent, ``pending`` what the handler asked for,
``handler`` its task, ``script`` the recorded events ahead, ``calls`` the verbs of ctx over all of these, ``loop`` the
event loop. Here events are fed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import events as ev
from ..activations import TOGETHER, Together, is_kind, timed, together
from ..budget import TOP_UP, Account, Purse
from ..calling import is_awaitable
from ..codec import Codec
from ..errors import DeterminismError
from ..events import Event
from ..failures import describe as describe_failure
from ..failures import revive
from ..interrupts import ends_the_process
from ..runs import ExecutionInfo, Header
from ..workflows import Workflow
from .agenda import Agenda
from .calls import Calls
from .commands import ReplyToUpdate, RunStep, StartChild, StartTimer, Waitable
from .commands import describe as describe_command
from .handler import BY_ITSELF, ContinueAsNew, Handler
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future, Scope
from .mailbox import Mailbox
from .pending import Pending
from .script import Script, Sources
from .undoing import Undoing

if TYPE_CHECKING:
    from ..retried import Former

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
        """Kept until ``start``: the handler's code does not run before the history's first time is known."""
        self.began_ms = 0
        """That time, in ms since 1970."""
        parent = header.parent[0] if header.parent else None
        self.info = ExecutionInfo(
            header.id, header.workflow, header.version, parent, header.depth, attempt, header.run, header.generation
        )
        self._loop = DeterministicLoop(self._loop_timer, self._loop_timer_cancelled, header.former)  # type: ignore[abstract]  # what it refuses is set by name
        """Made first, since every future and task of the other parts is of it."""
        self.purse = Purse([Account(*account) for account in header.accounts], header.shared, policy=header.policy)
        self.purse.charge(*header.spent)
        self.purse.observe(header.totals)

        # Each part knows those above it in this list, and none below.
        self.mailbox = Mailbox(codec, header.carried)
        self._undoing = Undoing(self._loop)
        self._pending = Pending(self._loop, self.purse, self.mailbox, self._undoing)
        self._handler = Handler(self._loop, codec, self.mailbox, self._undoing)
        self._script = Script(self.purse, self._loop.violated, self._handler.where)
        self._calls = Calls(
            header, self.info, self._loop, codec, self.purse, self.mailbox, self._script, self._pending, self._handler,
            self._undoing, sources, lookup,
        )  # fmt: skip
        self._calls.limits = definition.limits
        self._context = make_context(self._calls)

        self.commands = self._pending.commands
        """What to do next, by id, in the order of issue: each is done only once ``drawn`` is durable."""
        self.intents = self._pending.intents
        """Steps that run at most once and whose intent is recorded: their first attempt may have begun."""
        self.withdrawn = self._pending.withdrawn
        """What nobody awaits any more, by id: it is stopped, and an event of it that comes all the same is ignored."""
        self.former: Former | None = None
        """The steps that retries have made void; None where there are none."""
        self._recorded_ending: Event | None = None
        """How the history ends, once it is read: what the handler must come to as well, so it is compared last."""
        self._loop.held = [
            self.commands, self._pending.waiting, self._undoing.compensations, self.mailbox.queries,
            self.mailbox.updates,
        ]  # fmt: skip

    def idempotency_key(self, command: RunStep) -> str:
        """The key of what the step does: the same whenever it is begun, and no other step's."""
        key = self.info.idempotency_key(command.id)
        return key if self.former is None else key + self.former.mark(command.id, command.name, command.digest)

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
        self._loop.now_ms = self.began_ms = time_ms
        self.purse.begin(time_ms)
        self._loop.wake(self._start)

    def _start(self) -> None:
        args = (self._context, self._input) if self.definition.takes_input else (self._context,)
        name, leave = f"run {self.header.id}", self._pending.withdraw_undoable
        self._handler.begin(self.definition.fn, args, name, self._calls.undo, leave)

    def feed(self, batch: list[Any], more: bool = False, quiet: bool = False, bare: bool = False) -> None:
        """Replay recorded events, each with its time in ms; ``more`` says that this is not yet the last page.

        They come as ``activations.page_of`` makes them; ``bare``: all of them are steps that completed, each a commit.
        ``quiet``: after the last event nothing new is logged either, since the block behind it ran to its end before.
        Raises DeterminismError when code and history disagree; the machine is then of no further use.
        """
        page = batch
        if not bare and any(is_kind(entry, ev.SPECIAL) for entry in batch):
            page = []
            for entry in batch:
                if is_kind(entry, ev.SPECIAL):
                    self._note(entry[1], page)
                else:
                    page.append(entry)
        self._script.read(page, more, quiet)
        if not more and self._never_began():
            self._handler.outcome = self._recorded_ending  # type: ignore[assignment]  # a Cancelled: see _never_began
            self._loop.set_aside()
        elif self._script.events or not more:  # a start whose values stand on the next page waits for them
            self._advance()

    def _never_began(self) -> bool:
        """Whether the run was cancelled before its time to begin came: then its handler is not run, now or ever."""
        ending = self._recorded_ending
        if not isinstance(ending, ev.Cancelled) or self._script.position or self._script.head() is not None:
            return False
        return not str(ending.reason).startswith(BY_ITSELF)

    def _note(self, event: Event, page: list[Any]) -> None:
        if event[0] == ev.EMITTED:
            self._script.saw_emission(page)
        elif event[0] in ev.ENDINGS:
            self._recorded_ending = event

    def feed_live(self, batch: list[tuple[int, Event]]) -> None:
        """Apply events that were committed just now, in one commit."""
        script = self._script
        script.more = script.quiet = False
        script.recorded_emissions = 0
        for time_ms, event in together(batch):
            if event[0] not in ev.SYNCHRONOUS and event[0] not in ev.INFORMATIONAL and event[0] != ev.STEP_INTENDED:
                script.events.append((time_ms, event))
        self._advance()

    @property
    def settling(self) -> bool:
        """Whether compensation waits for steps that were withdrawn: nothing else is fed before ``undo``."""
        return self._undoing.waiter is not None

    def undo(self) -> None:
        """None of those steps runs any more, and what has completed was fed."""
        self._loop.wake(self._undoing.go_on)
        self._advance()

    @property
    def position(self) -> int:
        """How many events and values the handler has passed."""
        return self._script.position

    @property
    def drawn(self) -> list[Event]:
        """Values that must be committed before the next effect starts."""
        return self._script.drawn

    @drawn.setter
    def drawn(self, values: list[Event]) -> None:
        self._script.drawn = values

    def _advance(self) -> None:
        loop, script = self._loop, self._script.events
        while True:
            loop.run_ready()
            if self._handler.ending:
                loop.wake(self._handler.end_branches)
                loop.run_ready()
            if loop.violation is not None:
                raise self._diverge(loop.violation)
            if self._undoing.waiter is not None and self._nothing_completes_late():
                loop.wake(self._undoing.go_on)
                continue
            if not script:
                self._compare_endings()
                return
            time_ms, event = timed(script[0])
            if event[0] in ev.SYNCHRONOUS:
                if event[0] in ev.AGAIN:
                    self._script.pass_retry(event)
                    continue
                if event[1] == "patched":  # the call is gone from the code, so its new path is the only one
                    script.popleft()
                    continue
                raise self._diverge(self._script.passed_over(event))
            script.popleft()
            if event[0] in ev.COMPARED:
                self._compare(event)
                continue
            if self.outcome is not None and time_ms > self._script.time_ms:
                raise self._diverge(self._script.ended_before(event, self.outcome))
            self._script.time_ms = time_ms
            self._tick(time_ms)
            loop.wake(self._apply if event[0] != TOGETHER else self._apply_together, event)

    def _nothing_completes_late(self) -> bool:
        """Whether the history shows that the steps that compensation waits for have ended, as far as they ever do."""
        event = self._script.head()
        if event is not None:
            return not self._undoing.may_precede(event)
        return not self._script.more and self._recorded_ending is not None

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
                self._script.differs(event, said)
        if self._loop.violation is not None:
            raise self._diverge(self._loop.violation)

    def _intended(self, event: ev.StepIntended) -> None:
        """Note the intent of a step that runs at most once, which the handler has issued."""
        command = self._pending.known(event.id)
        if not isinstance(command, RunStep):
            raise self._unasked(event)
        self._script.same_call(event, command)
        self._pending.intents.add(event.id)

    def _same_reply(self, event: ev.UpdateReplied, reply: ReplyToUpdate) -> bool:
        if event.ok != reply.ok:
            return False
        if not event.ok:
            return bool(event.value.get("type") == reply.value.get("type"))
        return self.codec.encode_whole(event.value) == self.codec.encode_whole(reply.value)

    def _compare_endings(self) -> None:
        recorded, outcome = self._recorded_ending, self.outcome
        if recorded is None or self._script.more or _gave_up(recorded):
            return
        if outcome is not None and self._same_ending(recorded, outcome):
            return
        ended = "has not ended" if outcome is None else f"ended: {type(outcome).__name__}, with another value"
        if outcome is not None and type(outcome) is not type(recorded):
            ended = f"ended: {type(outcome).__name__}"
        raise self._diverge(self._script.differs(recorded, ended))

    def _same_ending(self, recorded: Event, outcome: Event) -> bool:
        if isinstance(recorded, ev.Failed) and isinstance(outcome, ev.Failed):
            return bool(recorded.failure.get("type") == outcome.failure.get("type"))
        return self.codec.encode_whole(list(recorded)) == self.codec.encode_whole(list(outcome))

    def _tick(self, time_ms: int) -> None:
        """Move recorded time on; it never goes back. Totals of shared accounts become known with the next event."""
        script = self._script
        script.position += 1
        if time_ms > self._loop.now_ms:
            self._loop.now_ms = time_ms
        self._loop.next_event()
        if script.next_totals is not None:
            self.purse.observe(script.next_totals)
            script.next_totals = None

    def _diverge(self, error: DeterminismError) -> DeterminismError:
        self._loop.set_aside()
        return error

    # --- applying one event --------------------------------------------------------------------------------------
    def _apply_together(self, several: Together) -> None:
        """All of them before the handler runs: each answers what it has asked for by now."""
        self._script.position -= 1
        for event in several.events:
            self._script.position += 1
            self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case ev.StepCompleted():
                command, future = self._take(event, RunStep, event.id)
                self._script.same_call(event, command)
                if future is None:
                    self._undoing.completed_late(command, event.value)
                else:
                    self._settled(command, event.value)
                    if not future.done():
                        future.set_result(event.value)
            case ev.StepFailed():
                command, future = self._take(event, RunStep, event.id)
                self._script.same_call(event, command)
                if future is not None:
                    self._pending.settle(command)
                    if not future.done():
                        future.set_exception(revive(event.failure))
            case ev.AttemptFailed():
                self._apply_attempt(event)
            case ev.StepCharged():
                if not isinstance(self._pending.known(event.id), RunStep):
                    self._take(event, RunStep, event.id)
                self.purse.charge(event.tokens, event.micros)
                if event.totals is not None:
                    self.purse.observe(event.totals)
            case ev.TimerFired():
                timer, _ = self._take(event, StartTimer, event.id)
                if event.id not in self._pending.withdrawn:
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
        taken = self._pending.take(id, kind)
        if taken is not None:
            return taken
        if id in self._pending.waiting:
            raise self._script.differs(event, describe_command(self._pending.waiting[id][0]))
        raise self._unasked(event)

    def _unasked(self, event: Event) -> DeterminismError:
        failure = self.outcome.failure if isinstance(self.outcome, ev.Failed) else None
        issued = self._pending.described()
        return self._script.unasked(event, issued, failure)

    def _settled(self, command: RunStep, value: Any) -> None:
        """Bookkeeping of a completed step: its reservation, and what would undo it."""
        if command.reserved != (0, 0):
            self._pending.settle(command)
        if command.compensate is not None:
            self._undoing.compensations.append((command.name, command.compensate, value))

    def _apply_attempt(self, event: ev.AttemptFailed) -> None:
        command = self._pending.known(event.id)
        if not isinstance(command, RunStep):
            self._take(event, RunStep, event.id)
            return
        self._script.same_call(event, command)
        command.attempt = event.attempt + 1
        command.not_before_ms = event.retry_at
        self._pending.intents.discard(event.id)
        self._pending.again(command)

    def _apply_signal(self, event: ev.SignalReceived) -> None:
        box = self.mailbox
        box.entries.add(event.entry)
        if event.name == TOP_UP and self.purse.top_up(event.payload):
            self._pending.may_afford()
            return
        waiters = box.waiters.get(event.name)
        while waiters:
            id = waiters.popleft()
            future = self._pending.take_waiter(id)
            if future is not None and not future.done():
                box.hand_over(id)
                future.set_result(event.payload)
                return
        box.keep(event.name, event.payload)

    def _apply_child(self, event: ev.ChildStarted | ev.ChildFinished) -> None:
        if isinstance(event, ev.ChildStarted):
            command = self._pending.known(event.id)
            if not isinstance(command, StartChild):
                self._take(event, StartChild, event.id)
                return
            if event.child == command.former:
                command.child = event.child
            if (event.workflow, event.args, event.child) != (command.name, command.digest, command.child):
                raise self._script.differs(event, describe_command(command), command.digest)
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
            raise self._script.differs(event, f"no ctx.on_update({event.name!r}, ...)")
        fn, _ = self.mailbox.updates[event.name]
        self._loop.task_in(scope, self._answer(event.entry, fn, event.payload), f"update {event.name}")

    async def _answer(self, entry: str, fn: Callable[..., Any], payload: Any) -> None:
        try:
            value = fn(payload)
            if is_awaitable(value):
                value = await value
            reply = ReplyToUpdate(entry, True, self.codec.through(value, "reply"))
        except ContinueAsNew:
            raise
        except BaseException as error:
            if ends_the_process(error):
                raise
            ends = self.outcome is not None or self._handler.continuation is not None
            if issubclass(type(error), CancelledError) and ends:
                raise  # the run ends: whoever asked is told so
            reply = ReplyToUpdate(entry, False, describe_failure(error, self.codec), error)
        if entry not in self.mailbox.answered:
            self._pending.ask(f"reply {entry}", reply)

    def _loop_timer(self, deadline_ms: int, handle: Any) -> str:
        id = SCOPE.get().next_id()
        self._pending.issue_for_loop(id, deadline_ms, handle)
        return id

    def _loop_timer_cancelled(self, id: str) -> None:
        self._pending.withdraw(id)

    # --- what the runtime asks ------------------------------------------------------------------------------------
    @property
    def now_ms(self) -> int:
        """Recorded time, ms since 1970; it never goes back."""
        return self._loop.now_ms

    def attend(self) -> Agenda:
        """A driver takes over: what there is to do, from here on kept as it changes."""
        return self._pending.attend()

    def waits_for(self, id: str) -> bool:
        """Whether some code of the handler awaits the command ``id``."""
        return id in self._pending.waiting

    def waits_in_words(self) -> list[str]:
        """What is awaited, as the run's record names it."""
        return self._pending.in_words()

    def known(self, id: str) -> Waitable | None:
        """The command ``id``, whether the handler still waits for it or has withdrawn it."""
        return self._pending.known(id)

    def asked_for(self) -> list[Waitable]:
        """Every command whose event may still come: those awaited, and those withdrawn, which may be under way."""
        return self._pending.all()

    @property
    def attributes(self) -> dict[str, Any]:
        """The run's attributes, as the handler has set them: written to the record with the next commit."""
        return self._calls.attributes

    @attributes.setter
    def attributes(self, values: dict[str, Any]) -> None:
        self._calls.attributes = values

    @property
    def emissions(self) -> Sequence[Event]:
        """What steps have emitted and nobody has recorded yet."""
        return self._calls.emissions

    def take_emissions(self, events: Iterable[Event]) -> list[Event]:
        """What steps have emitted, to be recorded in front of ``events``; see ``Calls.take_emissions``."""
        return self._calls.take_emissions(events)

    def give_back(self, emissions: list[Event]) -> None:
        """They were not recorded after all: the next commit takes them, in front of what came meanwhile."""
        self._calls.emissions[:0] = emissions

    def forget_emissions(self) -> None:
        """What steps have emitted and nothing has recorded is told to nobody."""
        self._calls.emissions.clear()

    def next_totals(self, totals: list[list[int]]) -> None:
        """Totals of shared accounts, as of the last commit: the handler sees them with the next event, as on a replay,
        where they stand in the event before it."""
        self._script.next_totals = totals

    def observe_totals(self) -> None:
        """See them now: the handler has ended, and no event of this history follows."""
        if self._script.next_totals is not None:
            self.purse.observe(self._script.next_totals)

    def has_left_out_emissions(self) -> bool:
        """Whether the history has emissions behind what woke the handler last that the handler did not come to."""
        return self._script.recorded_emissions > 0

    def has_said_something(self) -> bool:
        """Whether there is something for ``take_logs`` or ``take_unhandled``."""
        return bool(self._calls.logs or self._loop.unhandled)

    def take_unhandled(self) -> list[BaseException]:
        """Errors of background tasks that nobody has retrieved, since this was asked last."""
        errors, self._loop.unhandled = self._loop.unhandled, []
        return errors

    def take_logs(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What the handler has logged since this was asked last: level, message, fields."""
        logs, self._calls.logs = self._calls.logs, []
        return logs

    def stalled(self) -> DeterminismError | None:
        """The error of a handler that awaits what nothing in a history can resolve; None where it may go on."""
        if self.outcome is not None or self._pending.waiting or self.mailbox.updates or self.commands:
            return None
        if self._undoing.waiter is not None:
            return None
        return DeterminismError(
            f"{self._handler.where()} awaits something that is not durable: no step, timer, signal, child or update "
            "can wake it; put what it waits for in ctx.step"
        )

    def set_aside(self) -> None:
        """Let go of the handler without running any more of its code."""
        self._handler.error = None  # its traceback holds the frames that are let go of
        self._loop.set_aside()


def _gave_up(recorded: Event) -> bool:
    """Whether a run was ended since what its handler did could not be recorded: it is as far as the history goes."""
    detail = recorded.failure.get("detail") if isinstance(recorded, ev.Failed) else None
    return isinstance(detail, dict) and detail.get("unrecorded") is True
