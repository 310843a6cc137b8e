"""``ctx``: what a handler sees. Every call makes a command, or reads what the history knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, overload

from .budget import Budget, check_plain, micros
from .calling import name_of
from .errors import InvalidInput
from .limits import MAX_NAME, MAX_SECONDS, check_charge, check_seconds
from .machine.calls import TIMED_OUT, Calls
from .machine.commands import RunStep
from .machine.loop.loop import CancelledError
from .names import check_attributes, check_id, check_name, check_text, needs_of
from .retry import Retry
from .runs import ExecutionInfo
from .structs import In, Out
from .workflows import Workflow


class _Raise:
    """The default of ``wait_for_signal``: raise TimeoutError."""

    def __repr__(self) -> str:
        return "RAISE"


RAISE: Final = _Raise()


if TYPE_CHECKING:
    from typing import ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack

    from .names import Need
    from .runs import StepInfo

    P = ParamSpec("P")
    Ts = TypeVarTuple("Ts")
    Item = TypeVar("Item")

    class StepOptions(TypedDict, total=False):
        """What ``ctx.step`` takes beside the function and its arguments, which stand by position then."""

        retry: Retry | None
        timeout: float | None
        at_most_once: bool
        compensate: Callable[..., Any] | None
        cost: int | Callable[[Any], Any] | None
        limits: str | Need | Sequence[str | Need]


class Context:
    """Handed to the handler as its first argument. Not for use outside of it.

    What can't be: arguments of the wrong kind, values that can't be stored and calls from outside of the handler are
    ERR_INVALID_INPUT, raised at the call, where the handler may catch it. Durations are in seconds, or a timedelta.
    """

    __slots__ = ("_machine",)

    def __init__(self, machine: Calls) -> None:
        self._machine = machine

    @property
    def execution(self) -> ExecutionInfo:
        """id, workflow, version, parent, depth, attempt, idempotency_key(step)."""
        return self._machine.info

    # --- steps -----------------------------------------------------------------------------------------------------
    @overload
    async def step(self, name: str, fn: Callable[P, Awaitable[Out]], /, *args: P.args, **kwargs: P.kwargs) -> Out: ...
    @overload
    async def step(self, name: str, fn: Callable[P, Out], /, *args: P.args, **kwargs: P.kwargs) -> Out: ...
    @overload
    async def step(self, fn: Callable[P, Awaitable[Out]], /, *args: P.args, **kwargs: P.kwargs) -> Out: ...
    @overload
    async def step(self, fn: Callable[P, Out], /, *args: P.args, **kwargs: P.kwargs) -> Out: ...
    @overload
    async def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[Out]],
        /,
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> Out: ...
    @overload
    async def step(self, name: str, fn: Callable[[*Ts], Out], /, *args: *Ts, **options: Unpack[StepOptions]) -> Out: ...
    @overload
    async def step(self, fn: Callable[[*Ts], Awaitable[Out]], /, *args: *Ts, **options: Unpack[StepOptions]) -> Out: ...
    @overload
    async def step(self, fn: Callable[[*Ts], Out], /, *args: *Ts, **options: Unpack[StepOptions]) -> Out: ...
    @overload
    async def step(
        self,
        name: str,
        fn: Callable[[*Ts, StepInfo], Awaitable[Out]],
        /,
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> Out: ...
    @overload
    async def step(
        self, name: str, fn: Callable[[*Ts, StepInfo], Out], /, *args: *Ts, **options: Unpack[StepOptions]
    ) -> Out: ...
    @overload
    async def step(
        self, fn: Callable[[*Ts, StepInfo], Awaitable[Out]], /, *args: *Ts, **options: Unpack[StepOptions]
    ) -> Out: ...
    @overload
    async def step(self, fn: Callable[[*Ts, StepInfo], Out], /, *args: *Ts, **options: Unpack[StepOptions]) -> Out: ...
    @overload
    async def step(
        self,
        name: str,
        fn: Callable[[StepInfo, *Ts], Awaitable[Out]],
        /,
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> Out: ...
    @overload
    async def step(
        self, name: str, fn: Callable[[StepInfo, *Ts], Out], /, *args: *Ts, **options: Unpack[StepOptions]
    ) -> Out: ...
    @overload
    async def step(
        self, fn: Callable[[StepInfo, *Ts], Awaitable[Out]], /, *args: *Ts, **options: Unpack[StepOptions]
    ) -> Out: ...
    @overload
    async def step(self, fn: Callable[[StepInfo, *Ts], Out], /, *args: *Ts, **options: Unpack[StepOptions]) -> Out: ...
    async def step(  # type: ignore[misc]  # its overloads have other names for what it takes
        self,
        name: Any,
        fn: Any = None,
        /,
        *args: Any,
        retry: Retry | None = None,
        timeout: float | None = None,
        at_most_once: bool = False,
        compensate: Callable[..., Any] | None = None,
        cost: int | Callable[[Any], Any] | None = None,
        limits: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run ``fn(*args, **kwargs)``, record its result, and return that; on replay return what was recorded.

        ``fn`` may be async or not; one that is not may run in a thread, where the host has threads, unless it is known
        to be quick. It runs at least once: a crash between its effect and the record runs it again, so pass its
        idempotency key on (``StepInfo``). With ``at_most_once`` it never starts twice, and raises StepOutcomeUnknown
        when it started and its outcome was lost, or its time was up; only a ``retry`` of its own whose ``retryable``
        accepts the error that it raised starts it again. ``timeout`` is in seconds, of one attempt.
        ``compensate`` is called, last first, if the workflow fails or is cancelled after this step completed, whether
        or not somebody still waited for it; it gets the step's result if it takes an argument. ``cost`` is what the
        step spends: whole tokens, reserved before it starts, or a function of the result that returns tokens or
        (tokens, usd). ``limits``: names of limits, or ``Need``s, that each attempt waits for a place of; no history
        says so. ``ctx.step(fn, *args)`` takes the name from ``fn``. A result that can't be stored
        is ERR_INVALID_INPUT with its path. ``fn`` gets copies of lists, maps, sets and registered types among its
        arguments; an object of another type is shared. It can't use ``ctx``, but for ``emit`` and ``log``.
        """
        if type(name) is not str:
            if isinstance(name, str):  # a member of a StrEnum
                name = check_name(name, "a step's name")
            else:
                args = (fn, *args) if fn is not None or args else args
                fn, name = name, name_of(name)
        command = self._machine.begin_step(name, fn, args, kwargs, at_most_once, compensate, cost)
        if command.__class__ is not RunStep:
            return command
        command.retry, command.timeout = retry, timeout
        command.limits = self._machine.limits if limits is None else needs_of(limits, "limits=")
        _check_step(command)
        if cost is not None or self._machine.bounded:
            await self._machine.afford(command)
        future = self._machine.issue_step(command)
        try:  # awaited here: a coroutine more would be one more object for each of many steps that wait
            return await future
        except CancelledError:
            self._machine.withdraw(command.id)
            raise

    # --- values ----------------------------------------------------------------------------------------------------
    def now(self) -> datetime:
        """The time, recorded: aware, UTC. It never goes back within a run."""
        self._machine.guard("ctx.now")
        now_ms = self._machine.draw_now()
        return datetime.fromtimestamp(now_ms // 1000, UTC) + timedelta(milliseconds=now_ms % 1000)

    def random(self) -> float:
        """A random float in [0, 1), recorded."""
        self._machine.guard("ctx.random")
        return float(self._machine.draw("random", 7, lambda raw: (int.from_bytes(raw, "big") >> 3) * 2.0**-53))

    def uuid(self) -> str:
        """A random UUID (version 4, RFC 9562), recorded."""
        self._machine.guard("ctx.uuid")
        return str(self._machine.draw("uuid", 16, _uuid4))

    def spend(self, tokens: int, label: str = "", usd: float | None = None) -> None:
        """Charge ``tokens``, and ``usd`` in dollars, to the run's budget, once, whatever is replayed.

        ``label``: what for, as the history and a meter show it.

        Going over raises BudgetExceeded, or where the budget says ``pause``, holds the run at its next step until it is
        topped up; the charge stands all the same, since it has been spent.
        """
        self._machine.guard("ctx.spend")
        check_charge(tokens, usd, "ctx.spend")
        label = check_text(label, "the label of ctx.spend")
        self._machine.spend(tokens, micros(usd), label)

    # --- time ------------------------------------------------------------------------------------------------------
    async def sleep(self, seconds: float | timedelta) -> None:
        """Wait durably: the deadline holds across restarts. ``seconds`` from the time of the last event."""
        self._machine.guard("ctx.sleep")
        delay = check_seconds(seconds, "ctx.sleep", least=-1e-9)
        await self._machine.sleep(self._machine.after(delay))

    async def sleep_until(self, when: datetime) -> None:
        """Wait durably until ``when``, an aware datetime. In the past: go on at once."""
        self._machine.guard("ctx.sleep_until")
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise InvalidInput("ctx.sleep_until wants an aware datetime, such as ctx.now() + timedelta(hours=1)")
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        await self._machine.sleep(-int(-((when - epoch) // timedelta(microseconds=1)) // 1000), is_date=True)

    # --- signals ---------------------------------------------------------------------------------------------------
    async def wait_for_signal(self, name: str, timeout: float | timedelta | None = None, default: Any = RAISE) -> Any:
        """The payload of the next signal ``name``, in order of arrival; one that came before is taken at once.

        After ``timeout`` (seconds, durable) return ``default``, or raise TimeoutError where there is none.
        """
        self._machine.guard("ctx.wait_for_signal")
        name = check_name(name, "a signal's name")
        if timeout is not None:
            timeout = check_seconds(timeout, "the timeout of a signal", least=-MAX_SECONDS)
        payload = await self._machine.await_signal(name, timeout)
        if payload is not TIMED_OUT:
            return payload
        if default is RAISE:
            raise TimeoutError(f"signal {name!r} did not arrive in time")
        return default

    def pending_signals(self, name: str) -> list[Any]:
        """Payloads of signals ``name`` that have arrived and that nobody has taken, oldest first."""
        self._machine.guard_reading("ctx.pending_signals")
        return self._machine.signals(name)

    # --- children and branches -------------------------------------------------------------------------------------
    @overload
    async def child(
        self,
        workflow: Workflow[In, Out],
        input: In | None = None,
        id: str | None = None,
        budget: Budget | None = None,
        on_parent_close: str = "cancel",
    ) -> Out: ...
    @overload
    async def child(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        budget: Budget | None = None,
        on_parent_close: str = "cancel",
    ) -> Any: ...
    async def child(
        self,
        workflow: str | Workflow,
        input: Any = None,
        id: str | None = None,
        budget: Budget | None = None,
        on_parent_close: str = "cancel",
    ) -> Any:
        """Run another workflow on ``input`` as a run of its own and return its result; its failure is raised here.

        ``id``: its own, if None one made of this run's and the place of the call. It spends from this run's budget, and
        within ``budget`` if one is given. ``on_parent_close``: what happens to it when this run ends first, "cancel" or
        "abandon". A workflow inside its own ancestry is ERR_CYCLE_DETECTED unless it was declared ``recursive``;
        nesting past the runtime's ``max_depth`` is ERR_DEPTH_EXCEEDED.
        """
        self._machine.guard("ctx.child")
        if budget is not None and not isinstance(budget, Budget):
            raise InvalidInput(f"budget= of a child is a Budget, not a {type(budget).__name__}")
        if on_parent_close not in ("cancel", "abandon"):
            raise InvalidInput(f'on_parent_close is "cancel" or "abandon", not {on_parent_close!r}')
        check_plain(budget, "a child")
        limits = (budget.tokens, None if budget.usd is None else micros(budget.usd)) if budget else None
        return await self._machine.run_child(workflow, input, id, limits, on_parent_close)

    async def all(self, *awaitables: Awaitable[Any], limit: int | None = None) -> list[Any]:
        """Await several at once, at most ``limit``; the results in order. The first error cancels the others."""
        self._machine.guard("ctx.all")
        return await self._machine.branches(awaitables, limit).all()

    async def race(self, **awaitables: Awaitable[Any]) -> tuple[str, Any]:
        """The key and value of the one that ends first; the others are cancelled. An error that is first is raised."""
        self._machine.guard("ctx.race")
        if not awaitables:
            raise InvalidInput("ctx.race() of nothing would never end; give it at least one awaitable by keyword")
        index, value = await self._machine.branches(awaitables.values()).first()
        return list(awaitables)[index], value

    async def map(
        self, fn: Callable[[Item], Awaitable[Out]], items: Iterable[Item], limit: int | None = None
    ) -> list[Out]:
        """``fn(item)`` for every item, each in a branch of its own, at most ``limit`` at once; results in order.

        ``fn`` returns an awaitable: ``lambda url: ctx.step("fetch", fetch, url)``, or an async function that uses ctx.
        """
        self._machine.guard("ctx.map")
        return await self._machine.branches_from([_Mapped(fn, item) for item in items], limit).all()

    # --- talking to the outside ------------------------------------------------------------------------------------
    def on_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer ``runtime.query(id, name, *args)`` with ``fn(*args)``: a plain function that only reads."""
        self._machine.guard("ctx.on_query")
        self._machine.answer_query(check_name(name, "a query's name"), _function(fn, f"the query {name!r}"))

    def on_update(self, name: str, fn: Callable[[Any], Any], validator: Callable[[Any], Any] | None = None) -> None:
        """Answer ``runtime.update(id, name, payload)`` with ``fn(payload)``, which may be async and use ctx.

        ``validator`` refuses by raising; a refused update leaves no trace in the history.
        """
        self._machine.guard("ctx.on_update")
        name = check_name(name, "an update's name")
        if validator is not None:
            _function(validator, f"the validator of update {name!r}")
        self._machine.answer_update(name, _function(fn, f"the update {name!r}"), validator)

    def emit(self, topic: str, data: Any = None) -> None:
        """Tell ``data`` to whoever listens (``run.events()``, ``on_event``), once: recorded, and silent on replay.

        A step may call it too: what it emits is recorded, and told, with what becomes of the step.
        """
        self._machine.emit(check_name(topic, "a topic"), data)

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
        self._machine.log(str(level)[:MAX_NAME], message, fields)

    # --- changing and ending ---------------------------------------------------------------------------------------
    def patched(self, change_id: str) -> bool:
        """True for runs that reach this place first with this code, False for those that passed it before.

        ``if ctx.patched("better-search"): new path; else: old path`` lets a workflow change under runs in flight.
        """
        self._machine.guard("ctx.patched")
        return self._machine.patched(check_name(change_id, "a change id"))

    def continue_as_new(self, input: Any = None, carry_signals: bool = True) -> NoReturn:
        """End this history and go on in a new one that starts with ``input``: the same run, the same id.

        Signals that nobody has taken go along, unless ``carry_signals`` is False. ``finally`` blocks run on the way
        out.
        """
        self._machine.guard("ctx.continue_as_new")
        raise self._machine.continue_as_new(input, carry_signals)

    @property
    def should_continue_as_new(self) -> bool:
        """Whether the history is long enough (10,000 events) that continuing as new is worth it."""
        return self._machine.should_continue_as_new()


def _check_step(command: RunStep) -> None:
    """InvalidInput for a step that can't be run as it is asked for; before anything of it is issued."""
    check_name(command.name, "a step's name")
    if not callable(command.fn):
        raise InvalidInput(f"step {command.name!r} has no function to run: write ctx.step(name, fn, *args)")
    if command.timeout is not None:
        seconds = check_seconds(command.timeout, f"timeout= of step {command.name!r}", least=1e-9)
        command.timeout = command.timeout if type(command.timeout) in (int, float) else seconds
    if command.retry is not None and not isinstance(command.retry, Retry):
        raise InvalidInput(f"retry= of step {command.name!r} is a Retry, not a {type(command.retry).__name__}")
    if command.compensate is not None and not callable(command.compensate):
        raise InvalidInput(f"compensate= of step {command.name!r} is a function of its result")
    if command.cost is not None and not callable(command.cost):
        check_charge(command.cost, None, f"cost= of step {command.name!r}")


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


def _uuid4(raw: bytes) -> str:
    """RFC 9562, section 5.4."""
    b = bytearray(raw)
    b[6], b[8] = (b[6] & 0x0F) | 0x40, (b[8] & 0x3F) | 0x80
    h = b.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
