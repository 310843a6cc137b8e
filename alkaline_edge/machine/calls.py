"""The machine as ``ctx`` sees it: one verb for each thing that a handler may ask for, and nothing else of the machine.

A verb either makes a command and awaits the event that answers it, or takes what the history knows. ``context.Context``
checks what the user gave it and calls one of these; the runtime's side of the machine is ``execution.Execution``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import events as ev
from ..activations import timed
from ..budget import Purse
from ..calling import takes_a_value
from ..codec import Codec
from ..errors import CycleDetected, DepthExceeded, InvalidInput
from ..events import Event
from ..limits import CONTINUE_AS_NEW_AFTER
from ..names import Need, check_id
from ..runs import ExecutionInfo, Header
from ..workflows import Workflow
from .commands import AwaitSignal, RunStep, StartChild, StartTimer
from .handler import ContinueAsNew, Handler
from .loop.loop import SCOPE, CancelledError, DeterministicLoop, Future, running_loop
from .loop.tasks import NUMBERS, number
from .mailbox import Mailbox
from .pending import Pending
from .script import Script, Sources
from .undoing import Undoing

if TYPE_CHECKING:
    from .branches import Branches, Starter
    from .passing import Passing

_scope = SCOPE.get
TIMED_OUT: Final = object()
"""What ``await_signal`` returns instead of a payload when its time is up."""


class Calls:
    """What one run's ``ctx`` calls. It knows the machine's parts; the parts do not know it."""

    __slots__ = (
        "_ahead", "_codec", "_digest", "_handler", "_header", "_lookup", "_loop", "_mailbox", "_passing", "_pending",
        "_purse", "_ready", "_script", "_sources", "_undoing", "attributes", "emissions", "info", "limits", "logs",
    )  # fmt: skip

    def __init__(
        self,
        header: Header,
        info: ExecutionInfo,
        loop: DeterministicLoop,
        codec: Codec,
        purse: Purse,
        mailbox: Mailbox,
        script: Script,
        pending: Pending,
        handler: Handler,
        undoing: Undoing,
        sources: Sources,
        lookup: Callable[[Any], Workflow] | None,
    ) -> None:
        self._header, self.info, self._codec, self._purse = header, info, codec, purse
        self._loop, self._ready, self._script, self._pending = loop, loop.ready, script, pending
        self._mailbox, self._handler, self._undoing = mailbox, handler, undoing
        self._ahead = script.events
        """The recorded events ahead: the same deque for as long as the machine lives."""
        self._digest = codec.digest_of_call
        self._passing: Passing | None = None
        self._sources = sources
        """Asked beyond the end of the history alone: a replay reads neither clock nor entropy."""
        self._lookup = lookup
        """The workflow of a name, for children; None in a replay without a runtime, where any name will do."""
        self.limits: tuple[Need, ...] = ()
        """What steps need a place of that name no limits of their own."""
        self.attributes: dict[str, Any] = {}
        """Written to the run's record with the next commit."""
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        """Lines for whoever listens. Never recorded: lost in a crash before they are told."""
        self.emissions: list[Event] = []
        """What steps have emitted since the last commit: recorded with what becomes of a step."""

    # --- who may call --------------------------------------------------------------------------------------------
    def guard(self, what: str) -> None:
        """Refuse what is not called by the handler as it is being stepped: a replay would not repeat it."""
        if running_loop() is not self._loop:
            raise self.outside(what)

    def guard_reading(self, what: str) -> None:
        """As ``guard``, for what a query or a validator may call as well."""
        if not self._mailbox.reading:
            self.guard(what)

    def outside(self, what: str) -> InvalidInput:
        """What to say to a call of ``what`` from outside of the handler."""
        if self._mailbox.reading:
            return InvalidInput("a query may only read: it can't call ctx methods that do something; use an update")
        return self._gone() or InvalidInput(
            f"{what} is called outside of the workflow's own code, such as inside a step, in a thread or in a "
            "callback: a replay does not run that code, so it would not find the call again. Let the step return what "
            f"is needed, and call {what} before or after it, in the workflow"
        )

    def _gone(self) -> InvalidInput | None:
        """What to say where this ctx is not to be used at all: in another run, or after its own has ended."""
        if isinstance(running_loop(), DeterministicLoop):
            return InvalidInput(
                f"this ctx is the one of run {self._header.id!r}, and another run's workflow uses it; each uses the "
                "ctx that it was given"
            )
        if self._handler.outcome is not None or self._loop.is_closed():
            return InvalidInput(
                f"run {self._header.id!r} has ended, or goes on elsewhere, so its ctx is of no use any more; await "
                "what you start inside the workflow or its steps"
            )
        return None

    # --- steps -----------------------------------------------------------------------------------------------------
    def begin_step(
        self,
        name: str,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        at_most_once: bool,
        compensate: Callable[..., Any] | None,
        cost: Any,
    ) -> Any:
        """The RunStep of the step, to be handed to ``issue_step``; or its result, where the history has that next.

        In that case, most of a replay, the next event answers this very command and nothing else is ready: suspending,
        applying it and waking up again would come to the same, in the same order.
        """
        loop = self._loop
        if not loop.stepping:  # dearer ways to ask are for those who are not replayed
            raise self.outside("ctx.step")
        scope = _scope()
        scope.count = count = scope.count + 1
        try:
            id = scope.prefix + NUMBERS[count]
        except IndexError:
            id = scope.prefix + number(count)
        digest = self._digest(args, kwargs) if args or kwargs else None
        ahead = self._ahead
        if ahead and cost is None and not self._ready and not loop.must_suspend and self._undoing.waiter is None:
            entry = ahead[0]
            if at_most_once and len(ahead) > 1 and entry[1] == (ev.STEP_INTENDED, id, name, digest):
                ahead.popleft()
                self._pending.intents.add(id)
                entry = ahead[0]
            if entry[1] == id:  # it is bare: see ``page_of``
                script = self._script
                if script.next_totals is None:
                    time_ms, _, named, args_digest, value = entry
                    if named != name or args_digest != digest:
                        script.same_call(timed(entry)[1], RunStep(id, name, digest, fn, args, kwargs))
                    ahead.popleft()
                    script.position += 1
                    script.time_ms = time_ms
                    if time_ms > loop.now_ms:
                        loop.now_ms = time_ms
                    if compensate is not None:
                        self._undoing.compensations.append((name, compensate, value))
                    return value
        if running_loop() is not loop:
            raise self.outside("ctx.step")
        command = RunStep(id, name, digest, fn, args, kwargs)
        command.at_most_once, command.compensate, command.cost = at_most_once, compensate, cost
        return command

    @property
    def bounded(self) -> bool:
        """Whether each step has to ask the budget, also one without a cost."""
        return self._purse.policy is not None

    async def afford(self, command: RunStep) -> None:
        """Reserve what the step is to cost, once the budget has room for it."""
        if self._purse.pauses:  # what it is given may change while it waits
            command.args, command.kwargs = self._codec.apart(command.args), self._codec.apart(command.kwargs)
        self._script.pass_top_up()
        await self._pending.afford(command)

    def issue_step(self, command: RunStep) -> Future[Any]:
        """What the step's result resolves, once the history has it. Its arguments are copied now."""
        command.args = self._codec.apart(command.args)
        if command.kwargs:
            command.kwargs = self._codec.apart(command.kwargs)
        return self._pending.issue(command)

    def withdraw(self, id: str) -> None:
        """Whoever waited for the command was cancelled: it is asked for no more."""
        self._pending.withdraw(id)

    async def undo(self, name: str, fn: Callable[..., Any], value: Any) -> None:
        """Run a compensation as a step of its own."""
        args = (value,) if takes_a_value(fn) else ()
        command = self.begin_step(name[:200], fn, args, {}, False, None, None)
        if type(command) is RunStep:
            await self._undoing.to_its_end(self._pending.issue(command))

    async def _answer(self, id: str, future: Future[Any]) -> Any:
        """What resolves ``future``; whoever is cancelled while it waits asks for the command no more."""
        try:
            return await future
        except CancelledError:
            self._pending.withdraw(id)
            raise

    def _next(self) -> Passing:
        """What the history answers next: imported by a replay."""
        if self._passing is None:
            from .passing import Passing

            self._passing = Passing(self._script, self._loop, self._purse, self._undoing)
        return self._passing

    # --- values ----------------------------------------------------------------------------------------------------
    def draw_now(self) -> int:
        """The time in ms since 1970, recorded; it never goes back."""
        loop, sources = self._loop, self._sources
        now_ms: int = self._script.draw("now", lambda: max(sources.now_ms(), loop.now_ms))
        loop.now_ms = max(loop.now_ms, now_ms)
        return now_ms

    def draw(self, what: str, size: int, value_of: Callable[[bytes], Any]) -> Any:
        """A recorded value that is made of ``size`` random bytes."""
        entropy = self._sources.entropy
        return self._script.draw(what, lambda: value_of(entropy(size)))

    def spend(self, tokens: int, micro_usd: int, label: str) -> None:
        """Charge the budget, once, whatever is replayed; BudgetExceeded where that goes over it."""
        self._script.spend(tokens, micro_usd, label)

    def patched(self, change_id: str) -> bool:
        """Whether this run takes the new path of ``change_id``."""
        return self._script.patched(change_id)

    # --- time ------------------------------------------------------------------------------------------------------
    def after(self, seconds: float) -> int:
        """The recorded time ``seconds`` from the last event, in ms."""
        return self._loop.now_ms + round(max(0.0, seconds) * 1000)

    async def sleep(self, deadline_ms: int, is_date: bool = False) -> None:
        """Wait for a durable timer."""
        id = SCOPE.get().next_id()
        if self._ahead and self._next().event(ev.TIMER_FIRED, id) is not None:
            return

        def fire() -> None:
            if not future.done():
                future.set_result(None)

        future = self._pending.issue(StartTimer(id, "sleep", self._loop.now_ms, deadline_ms, fire, is_date))
        await self._answer(id, future)

    # --- signals ---------------------------------------------------------------------------------------------------
    async def await_signal(self, name: str, timeout: float | None) -> Any:
        """The payload of the next signal ``name``, in order of arrival; TIMED_OUT after ``timeout`` seconds."""
        pending, scope = self._pending, SCOPE.get()
        id = scope.next_id()
        timer_id = scope.next_id() if timeout is not None else None  # counted whether or not one is needed
        mailbox = self._mailbox
        if mailbox.is_kept(name):
            return mailbox.take(name)
        future = pending.issue(AwaitSignal(id, name))
        mailbox.waiters.setdefault(name, deque()).append(id)
        if timer_id is not None and timeout is not None:

            def expire() -> None:
                pending.withdraw(id)
                if not future.done():
                    future.set_result(TIMED_OUT)

            what = f"timeout of signal {name}"
            pending.issue(StartTimer(timer_id, what, self._loop.now_ms, self.after(timeout), expire))
        try:
            return await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result() is not TIMED_OUT:
                mailbox.take_back(name, id, future.result())  # it was ours
            pending.withdraw(id)
            raise
        finally:
            mailbox.handed.pop(id, None)
            if timer_id is not None:
                pending.withdraw(timer_id)

    def signals(self, name: str) -> list[Any]:
        """Copies of the payloads that have arrived and that nobody has taken, oldest first."""
        return [self._codec.apart(payload) for payload in self._mailbox.kept(name)]

    # --- children and branches -------------------------------------------------------------------------------------
    async def run_child(
        self,
        workflow: str | Workflow,
        input: Any,
        id: str | None,
        budget: tuple[int | None, int | None] | None,
        on_parent_close: str,
    ) -> Any:
        """The result of a run of ``workflow``; ``budget`` is tokens and micro-usd, None for no limit."""
        name, version, recursive = self._definition_of(workflow)
        self._check_nesting(name, recursive)
        command_id = SCOPE.get().next_id()
        child_id, former = (check_id(id), None) if id is not None else self._header.child_ids(command_id)
        plain = self._codec.through(input, "input")
        digest = self._codec.digest_of_call((plain,), {}) if input is not None else None
        finished = self._next().child(command_id, name, digest, child_id) if self._ahead else None
        if finished is not None:
            return finished.value
        command = StartChild(command_id, name, digest, version, child_id, plain, budget, on_parent_close)
        command.former = former
        return await self._answer(command_id, self._pending.issue(command))

    def _definition_of(self, workflow: str | Workflow) -> tuple[str, int | None, bool]:
        if isinstance(workflow, Workflow):
            return workflow.name, workflow.version, workflow.recursive
        if self._lookup is None:
            return workflow, None, True
        definition = self._lookup(workflow)
        return definition.name, definition.version, definition.recursive

    def _check_nesting(self, name: str, recursive: bool) -> None:
        header = self._header
        if name in header.chain and not recursive:
            chain = [*header.chain, name]
            raise CycleDetected(
                f"workflow {name!r} would run inside itself: {' > '.join(chain)}; if it recurses on purpose, declare "
                "it with @workflow(recursive=True)",
                chain=chain,
            )
        if header.depth + 1 > header.max_depth:
            raise DepthExceeded(
                f"workflow {name!r} would be {header.depth + 1} children deep, and max_depth is {header.max_depth}; "
                "flatten the tree, or give Runtime a larger max_depth",
                limit=header.max_depth,
            )

    def branches(self, awaitables: Iterable[Awaitable[Any]], limit: int | None = None) -> Branches:
        """Several awaitables at once, at most ``limit``."""
        from .branches import Given  # not every handler needs it, and an import costs a browser's start

        return self.branches_from([Given(one) for one in awaitables], limit)

    def branches_from(self, starters: Sequence[Starter], limit: int | None = None) -> Branches:
        """As ``branches``, of what is awaited once there is room for it."""
        from .branches import Branches

        return Branches(self._loop, starters, limit)

    # --- talking to the outside ------------------------------------------------------------------------------------
    def answer_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer queries ``name`` by ``fn``."""
        self._mailbox.queries[name] = fn

    def answer_update(self, name: str, fn: Callable[..., Any], validator: Callable[..., Any] | None) -> None:
        """Answer updates ``name`` by ``fn``, once ``validator`` has let them in."""
        self._mailbox.updates[name] = (fn, validator)

    def emit(self, topic: str, data: Any) -> None:
        """An emission of the handler; or one of a step, which is recorded with what becomes of the step."""
        data = self._codec.through(data, "data")
        if running_loop() is self._loop:
            self._script.emit(topic, data)
        elif self._mailbox.reading:
            raise self.outside("ctx.emit")
        else:
            self._refuse_gone()
            self.emissions.append(ev.Emitted(ev.EMITTED, topic, data))

    def log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """A line for whoever listens; silent on replay."""
        if running_loop() is not self._loop:
            self._refuse_gone()
        elif self._script.replaying:
            return
        line = self._codec.shown([level, message, fields])
        self.logs.append((line[0], str(line[1]), line[2]))

    def _refuse_gone(self) -> None:
        refused = self._gone()
        if refused is not None:
            raise refused

    def take_emissions(self, events: Iterable[Event]) -> list[Event]:
        """What steps have emitted, if ``events`` hold one that a replay finds: they stand in front of it.

        Behind it they would count as the handler's own, which it repeats as it is replayed.
        """
        if not self.emissions or not any(event[0] not in ev.INFORMATIONAL for event in events):
            return []
        taken = self.emissions[: len(self.emissions)]  # a thread may add to them meanwhile
        del self.emissions[: len(taken)]
        return taken

    # --- ending ----------------------------------------------------------------------------------------------------
    def continue_as_new(self, input: Any, carry_signals: bool) -> ContinueAsNew:
        """Decide that the run goes on in a new history; what is returned is to be raised."""
        if SCOPE.get().prefix.startswith("u"):
            raise InvalidInput(
                "an update can't call ctx.continue_as_new: only the run's handler can; let the update set what that "
                "looks at, such as an asyncio.Event"
            )
        self._handler.continuation = (self._codec.through(input, "input"), carry_signals)
        return ContinueAsNew()

    def should_continue_as_new(self) -> bool:
        """Whether the history is long enough that starting a new one is worth it."""
        return self._script.position >= CONTINUE_AS_NEW_AFTER
