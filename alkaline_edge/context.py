"""``ctx``: what a handler sees. Every call makes a command, or reads what the history knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from . import events as ev
from .budget import Budget, micros
from .calling import name_of, takes_a_value
from .errors import CycleDetected, DepthExceeded, InvalidInput
from .limits import MAX_NAME, MAX_SECONDS, check_charge, check_seconds
from .machine.branches import Branches, Given, Starter
from .machine.commands import AwaitSignal, RunStep, StartChild, StartTimer
from .machine.execution import ContinueAsNew, Execution
from .machine.loop.loop import SCOPE, CancelledError, running_loop
from .names import check_attributes, check_id, check_name, check_text
from .retry import Retry
from .runs import ExecutionInfo
from .workflows import Workflow


class _Raise:
    """The default of ``wait_for_signal``: raise TimeoutError."""

    def __repr__(self) -> str:
        return "RAISE"


RAISE: Final = _Raise()


class Context:
    """Handed to the handler as its first argument. Not for use outside of it."""

    __slots__ = ("_machine",)

    def __init__(self, machine: Execution) -> None:
        self._machine = machine

    @property
    def execution(self) -> ExecutionInfo:
        """id, workflow, version, parent, depth, attempt, idempotency_key(step)."""
        return self._machine.info

    # --- steps -----------------------------------------------------------------------------------------------------
    async def step(
        self,
        name: str | Callable[..., Any],
        fn: Any = None,
        /,
        *args: Any,
        retry: Retry | None = None,
        timeout: float | None = None,
        at_most_once: bool = False,
        compensate: Callable[..., Any] | None = None,
        cost: int | Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run ``fn(*args, **kwargs)``, record its result, and return that; on replay return what was recorded.

        ``fn`` may be async or not; one that is not may run in a thread, where the host has threads, unless it is known
        to be quick. It runs at least once: a crash between its effect and the record runs it again, so pass its
        idempotency key on (``StepInfo``). With ``at_most_once`` it never starts twice, and raises StepOutcomeUnknown
        when it started and its outcome was lost, or its time was up; only a ``retry`` of its own whose ``retryable``
        accepts the error that it raised starts it again. ``timeout`` is in seconds, of one attempt.
        ``compensate`` is called, last first, if the workflow fails or is cancelled after this step completed; it gets
        the step's result if it takes an argument. ``cost`` is what the step spends: whole tokens, reserved before it
        starts, or a function of the result that returns tokens or (tokens, usd). ``ctx.step(fn, *args)`` takes the
        name from ``fn``. A result that can't be stored is ERR_INVALID_INPUT with its path. ``fn`` gets copies of lists,
        maps, sets and registered types among its arguments; an object of another type is shared. It can't use ``ctx``,
        but for ``emit`` and ``log``.
        """
        machine = self._machine
        if not isinstance(name, str):
            if fn is not None or args:
                args = (fn, *args)
            fn = name
            name = name_of(fn)
        if running_loop() is not machine.loop:
            raise machine.outside("ctx.step")
        scope = SCOPE.get()
        scope.count += 1
        id = f"{scope.prefix}{scope.count}"
        digest = machine.codec.digest_of_call(args, kwargs) if args or kwargs else None
        script = machine.script
        ahead = script.events
        if ahead and cost is None and not machine.ready and not machine.loop.must_suspend:
            # The next event answers this very command and nothing else is ready: suspending, applying it and waking
            # up again would come to the same, in the same order. Most of a replay goes through here.
            time_ms, event = ahead[0]
            if at_most_once and event == (ev.STEP_INTENDED, id, name, digest) and len(ahead) > 1:
                ahead.popleft()
                machine.intents.add(id)
                time_ms, event = ahead[0]
            if event[0] == ev.STEP_COMPLETED and event[1] == id and script.next_totals is None:
                if event[2] != name or event[3] != digest:
                    machine._same_call(event, RunStep(id, name, digest, fn, args, kwargs))
                ahead.popleft()
                script.position += 1
                if time_ms > machine.loop.now_ms:
                    machine.loop.now_ms = time_ms
                if compensate is not None:
                    machine.compensations.append((name, compensate, event[4]))
                return event[4]
        command = RunStep(id, name, digest, fn, args, kwargs)
        command.retry, command.timeout, command.at_most_once = retry, timeout, at_most_once
        command.compensate, command.cost = compensate, cost
        return await self._issue_step(command)

    async def _issue_step(self, command: RunStep) -> Any:
        machine = self._machine
        check_name(command.name, "a step's name")
        if not callable(command.fn):
            raise InvalidInput(f"step {command.name!r} has no function to run: write ctx.step(name, fn, *args)")
        if command.timeout is not None:
            seconds = check_seconds(command.timeout, f"timeout= of step {command.name!r}", least=1e-9)
            command.timeout = seconds if isinstance(command.timeout, timedelta) else command.timeout
        if command.retry is not None and not isinstance(command.retry, Retry):
            raise InvalidInput(f"retry= of step {command.name!r} is a Retry, not a {type(command.retry).__name__}")
        if command.compensate is not None and not callable(command.compensate):
            raise InvalidInput(f"compensate= of step {command.name!r} is a function of its result")
        if command.cost is not None:
            if not callable(command.cost):
                check_charge(command.cost, None, f"cost= of step {command.name!r}")
            tokens = 0 if callable(command.cost) else command.cost
            machine.purse.check(tokens if tokens else 1, 0, f"step {command.name!r}")
            command.reserved = (tokens, 0)
            machine.purse.reserve(tokens, 0)
        command.args = machine.codec.apart(command.args)
        if command.kwargs:
            command.kwargs = machine.codec.apart(command.kwargs)
        future = machine.issue(command)
        try:
            return await future
        except CancelledError:
            machine.withdraw(command.id)
            raise

    async def _run_compensation(self, name: str, fn: Callable[..., Any], value: Any) -> None:
        await self.step(name[:200], fn, *((value,) if takes_a_value(fn) else ()))

    # --- values ----------------------------------------------------------------------------------------------------
    def now(self) -> datetime:
        """The time, recorded: aware, UTC. It never goes back within a run."""
        machine = self._machine
        machine.guard("ctx.now")
        sources, loop = machine.sources, machine.loop
        now_ms = machine.script.draw("now", lambda: max(sources.now_ms(), loop.now_ms))
        loop.now_ms = max(loop.now_ms, now_ms)
        return datetime.fromtimestamp(now_ms // 1000, UTC) + timedelta(milliseconds=now_ms % 1000)

    def random(self) -> float:
        """A random float in [0, 1), recorded."""
        self._machine.guard("ctx.random")
        entropy = self._machine.sources.entropy
        return float(self._machine.script.draw("random", lambda: (int.from_bytes(entropy(7), "big") >> 3) * 2.0**-53))

    def uuid(self) -> str:
        """A random UUID (version 4, RFC 9562), recorded."""
        self._machine.guard("ctx.uuid")
        entropy = self._machine.sources.entropy
        return str(self._machine.script.draw("uuid", lambda: _uuid4(entropy(16))))

    def spend(self, tokens: int, label: str = "", usd: float | None = None) -> None:
        """Charge tokens and money to the run's budget, once, whatever is replayed.

        Going over raises BudgetExceeded; the charge stands all the same, since it has been spent.
        """
        self._machine.guard("ctx.spend")
        check_charge(tokens, usd, "ctx.spend")
        label = check_text(label, "the label of ctx.spend")
        self._machine.script.spend(tokens, micros(usd), label)

    # --- time ------------------------------------------------------------------------------------------------------
    async def sleep(self, seconds: float | timedelta) -> None:
        """Wait durably: the deadline holds across restarts. ``seconds`` from the time of the last event."""
        self._machine.guard("ctx.sleep")
        delay = check_seconds(seconds, "ctx.sleep", least=-1e-9)
        await self._timer("sleep", self._machine.loop.now_ms + round(max(0.0, delay) * 1000))

    async def sleep_until(self, when: datetime) -> None:
        """Wait durably until ``when``, an aware datetime. In the past: go on at once."""
        self._machine.guard("ctx.sleep_until")
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise InvalidInput("ctx.sleep_until wants an aware datetime, such as ctx.now() + timedelta(hours=1)")
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        await self._timer("sleep", -int(-((when - epoch) // timedelta(microseconds=1)) // 1000), is_date=True)

    async def _timer(self, name: str, deadline_ms: int, is_date: bool = False) -> None:
        machine = self._machine
        id = machine.next_id()

        def fire() -> None:
            if not future.done():
                future.set_result(None)

        future = machine.issue(StartTimer(id, name, deadline_ms, fire, is_date))
        try:
            await future
        except CancelledError:
            machine.withdraw(id)
            raise

    # --- signals ---------------------------------------------------------------------------------------------------
    async def wait_for_signal(self, name: str, timeout: float | timedelta | None = None, default: Any = RAISE) -> Any:
        """The payload of the next signal ``name``, in order of arrival; one that came before is taken at once.

        After ``timeout`` (seconds, durable) return ``default``, or raise TimeoutError where there is none.
        """
        machine = self._machine
        machine.guard("ctx.wait_for_signal")
        check_name(name, "a signal's name")
        seconds = 0.0 if timeout is None else check_seconds(timeout, "the timeout of a signal", least=-MAX_SECONDS)
        id = machine.next_id()
        timer_id = machine.next_id() if timeout is not None else None
        if machine.mailbox.buffered.get(name):
            return machine.mailbox.buffered[name].popleft()
        future = machine.issue(AwaitSignal(id, name))
        machine.mailbox.waiters.setdefault(name, deque()).append(id)
        if timer_id is not None:
            deadline = machine.loop.now_ms + round(max(0.0, seconds) * 1000)

            def expire() -> None:
                machine.withdraw(id)
                if not future.done():
                    future.set_result(RAISE)

            machine.issue(StartTimer(timer_id, f"timeout of signal {name}", deadline, expire))
        try:
            payload = await future
        except CancelledError:
            if future.done() and not future.cancelled() and future.result() is not RAISE:
                machine.mailbox.buffered.setdefault(name, deque()).appendleft(
                    future.result()
                )  # it was ours: put it back
            machine.withdraw(id)
            raise
        finally:
            if timer_id is not None:
                machine.withdraw(timer_id)
        if payload is not RAISE:
            return payload
        if default is RAISE:
            raise TimeoutError(f"signal {name!r} did not arrive in time")
        return default

    def pending_signals(self, name: str) -> list[Any]:
        """Payloads of signals ``name`` that have arrived and that nobody has taken, oldest first."""
        machine = self._machine
        if not machine.mailbox.reading:
            machine.guard("ctx.pending_signals")
        return [machine.codec.apart(payload) for payload in machine.mailbox.buffered.get(name, ())]

    # --- children and branches -------------------------------------------------------------------------------------
    async def child(
        self,
        workflow: str | Workflow,
        input: Any = None,
        id: str | None = None,
        budget: Budget | None = None,
        on_parent_close: str = "cancel",
    ) -> Any:
        """Run another workflow as a run of its own and return its result; its failure is raised here.

        It spends from this run's budget, and within ``budget`` if one is given. ``on_parent_close``: what happens to
        it when this run ends first, "cancel" or "abandon". A workflow inside its own ancestry is ERR_CYCLE_DETECTED
        unless it was declared ``recursive``; nesting past the runtime's ``max_depth`` is ERR_DEPTH_EXCEEDED.
        """
        machine, header = self._machine, self._machine.header
        machine.guard("ctx.child")
        if budget is not None and not isinstance(budget, Budget):
            raise InvalidInput(f"budget= of a child is a Budget, not a {type(budget).__name__}")
        if on_parent_close not in ("cancel", "abandon"):
            raise InvalidInput(f'on_parent_close is "cancel" or "abandon", not {on_parent_close!r}')
        name, version, recursive = self._child_definition(workflow)
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
        command_id = machine.next_id()
        child_id, former = (check_id(id), None) if id is not None else machine.header.child_ids(command_id)
        plain = machine.codec.through(input, "input")
        digest = machine.codec.digest_of_call((plain,), {}) if input is not None else None
        limits = (budget.tokens, None if budget.usd is None else micros(budget.usd)) if budget else None
        command = StartChild(command_id, name, digest, version, child_id, plain, limits, on_parent_close)
        command.former = former
        future = machine.issue(command)
        try:
            return await future
        except CancelledError:
            machine.withdraw(command_id)
            raise

    def _child_definition(self, workflow: str | Workflow) -> tuple[str, int | None, bool]:
        if isinstance(workflow, Workflow):
            return workflow.name, workflow.version, workflow.recursive
        lookup = self._machine.lookup
        if lookup is None:
            return workflow, None, True
        definition = lookup(workflow)
        return definition.name, definition.version, definition.recursive

    async def all(self, *awaitables: Awaitable[Any], limit: int | None = None) -> list[Any]:
        """Await several at once, at most ``limit``; the results in order. The first error cancels the others."""
        self._machine.guard("ctx.all")
        return await Branches(self._machine.loop, [Given(one) for one in awaitables], limit).all()

    async def race(self, **awaitables: Awaitable[Any]) -> tuple[str, Any]:
        """The key and value of the one that ends first; the others are cancelled. An error that is first is raised."""
        self._machine.guard("ctx.race")
        if not awaitables:
            raise InvalidInput("ctx.race() of nothing would never end; give it at least one awaitable by keyword")
        index, value = await Branches(self._machine.loop, [Given(one) for one in awaitables.values()], None).first()
        return list(awaitables)[index], value

    async def map(
        self, fn: Callable[[Any], Awaitable[Any]], items: Iterable[Any], limit: int | None = None
    ) -> list[Any]:
        """``fn(item)`` for every item, each in a branch of its own, at most ``limit`` at once; results in order.

        ``fn`` returns an awaitable: ``lambda url: ctx.step("fetch", fetch, url)``, or an async function that uses ctx.
        """
        self._machine.guard("ctx.map")
        starters: Sequence[Starter] = [_Mapped(fn, item) for item in items]
        return await Branches(self._machine.loop, starters, limit).all()

    # --- talking to the outside ------------------------------------------------------------------------------------
    def on_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer ``runtime.query(id, name, *args)`` with ``fn(*args)``: a plain function that only reads."""
        self._machine.guard("ctx.on_query")
        self._machine.mailbox.queries[check_name(name, "a query's name")] = _function(fn, f"the query {name!r}")

    def on_update(self, name: str, fn: Callable[[Any], Any], validator: Callable[[Any], Any] | None = None) -> None:
        """Answer ``runtime.update(id, name, payload)`` with ``fn(payload)``, which may be async and use ctx.

        ``validator`` refuses by raising; a refused update leaves no trace in the history.
        """
        self._machine.guard("ctx.on_update")
        check_name(name, "an update's name")
        if validator is not None:
            _function(validator, f"the validator of update {name!r}")
        self._machine.mailbox.updates[name] = (_function(fn, f"the update {name!r}"), validator)

    def emit(self, topic: str, data: Any = None) -> None:
        """Tell whoever listens (``run.events()``, ``on_event``), once: recorded, and silent on replay.

        A step may call it too: what it emits is recorded, and told, with what becomes of the step.
        """
        machine = self._machine
        check_name(topic, "a topic")
        machine.emit(topic, machine.codec.through(data, "data"))

    def set_attributes(self, **attributes: str | int | float | bool | None) -> None:
        """Set attributes by which ``list_executions`` finds the run; None removes one."""
        machine = self._machine
        machine.guard("ctx.set_attributes")
        changed = {**machine.attributes, **attributes}
        kept = {key: value for key, value in changed.items() if value is not None}
        for key in attributes.keys() - kept.keys():
            check_id(key, "an attribute's name")
        check_attributes(kept)
        machine.attributes = kept

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Log to ``on_event``; silent on replay. Not recorded: at a crash a line may be lost or come twice."""
        machine = self._machine
        if running_loop() is not machine.loop:
            refused = machine.gone()
            if refused is not None:
                raise refused
        elif machine.replaying:
            return
        line = machine.codec.shown([str(level)[:MAX_NAME], message, fields])
        machine.logs.append((line[0], str(line[1]), line[2]))

    # --- changing and ending ---------------------------------------------------------------------------------------
    def patched(self, change_id: str) -> bool:
        """True for runs that reach this place first with this code, False for those that passed it before.

        ``if ctx.patched("better-search"): new path; else: old path`` lets a workflow change under runs in flight.
        """
        self._machine.guard("ctx.patched")
        return self._machine.script.patched(check_name(change_id, "a change id"))

    def continue_as_new(self, input: Any = None, carry_signals: bool = True) -> NoReturn:
        """End this history and go on in a new one that starts with ``input``: the same run, the same id.

        Signals that nobody has taken are carried over. ``finally`` blocks run on the way out.
        """
        self._machine.guard("ctx.continue_as_new")
        if SCOPE.get().prefix.startswith("u"):
            raise InvalidInput(
                "an update can't call ctx.continue_as_new: only the run's handler can; let the update set what that "
                "looks at, such as an asyncio.Event"
            )
        self._machine.continuation = (self._machine.codec.through(input, "input"), carry_signals)
        raise ContinueAsNew

    @property
    def should_continue_as_new(self) -> bool:
        """Whether the history is long enough (10,000 events) that continuing as new is worth it."""
        return self._machine.should_continue_as_new()


def _function(fn: Callable[..., Any], what: str) -> Callable[..., Any]:
    if not callable(fn):
        raise InvalidInput(f"{what} is answered by a function, not by a {type(fn).__name__}")
    return fn


class _Mapped:
    __slots__ = ("_fn", "_item")

    def __init__(self, fn: Callable[[Any], Awaitable[Any]], item: Any) -> None:
        self._fn, self._item = fn, item

    def __call__(self) -> Awaitable[Any]:
        return self._fn(self._item)


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e11


def _uuid4(raw: bytes) -> str:
    """RFC 9562, section 5.4."""
    b = bytearray(raw)
    b[6], b[8] = (b[6] & 0x0F) | 0x40, (b[8] & 0x3F) | 0x80
    h = b.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
