"""Running steps: one attempt each, with its timeout, and what became of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from ..budget import micros
from ..calling import place_of
from ..codec import Codec, Plain
from ..errors import InvalidInput, StepOutcomeUnknown
from ..failures import describe
from ..host import Host
from ..limits import check_charge
from ..machine.commands import RunStep
from ..machine.execution import Execution
from ..retry import Retry
from ..runs import StepInfo
from .pace import Known, is_marked

LINGER_SECONDS = 1.0
"""So long what was cancelled may take to end; it is left alone then. A step can refuse to be cancelled."""


class Raised:
    """What a step raised in place of returning. Kept as a value: some errors can't go through a task or a future."""

    __slots__ = ("error", "unknown")

    def __init__(self, error: BaseException, unknown: bool = False) -> None:
        self.error = error
        self.unknown = unknown
        """Whether the step may have acted all the same: it did not say so itself."""


class Attempt:
    """What became of one attempt: a value as its canonical self, or an error; and what it cost."""

    __slots__ = ("command", "error", "micros", "raised", "tokens", "value")

    def __init__(self, command: RunStep, error: BaseException | None = None, raised: bool = False) -> None:
        self.command, self.error, self.raised = command, error, raised
        self.value: Any = None
        self.tokens = self.micros = 0


def info_for(machine: Execution, command: RunStep) -> StepInfo:
    """What a step may know of itself."""
    key = machine.info.idempotency_key(command.id)
    return StepInfo(machine.info.id, command.name, command.id, command.attempt, key)


def call(machine: Execution, command: RunStep, known: Known) -> Any:
    """Call the step's function; what it returns may have to be awaited. What it raises is Raised."""
    try:
        # Each attempt gets the arguments as they were given, whatever the attempt before has done to its own.
        args: tuple[Any, ...] = machine.codec.apart(command.args) if command.args else ()
        kwargs: dict[str, Any] = machine.codec.apart(command.kwargs) if command.kwargs else {}
        parameter = known.parameter(command.fn)
        if parameter is None or parameter in kwargs:
            return command.fn(*args, **kwargs)
        return _call_with_info(machine, command, parameter, args, kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Raised(error)


def _call_with_info(
    machine: Execution, command: RunStep, parameter: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    info, place = info_for(machine, command), place_of(command.fn, parameter)
    if place < len(args):  # def charge(info: StepInfo, amount): the arguments go around it
        return command.fn(*args[:place], info, *args[place:], **kwargs)
    return command.fn(*args, **kwargs, **{parameter: info})


async def settled(raw: Awaitable[Any]) -> Any:
    """What awaiting ``raw`` gives; what it raises is Raised."""
    try:
        return await raw
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Raised(error)


async def watched(command: RunStep, work: Coroutine[Any, Any, Any], host: Host) -> Any:
    """What ``work`` gives, or after the step's timeout what says so."""
    assert command.timeout is not None
    task = asyncio.ensure_future(work)
    limit = asyncio.ensure_future(host.sleep(command.timeout))
    try:
        await asyncio.wait((task, limit), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Raised(_timed_out(command, f"took longer than its timeout of {command.timeout} seconds"), True)
    finally:
        await stop((task, limit))


def overran(command: RunStep, seconds: float) -> Raised:
    """What becomes of an attempt that ran inline past its timeout: nothing could stop it, and no one waits for it."""
    text = (
        f"took {seconds:.3g} seconds, longer than its timeout of {command.timeout}; it is a plain function and ran to "
        "its end, since there is no thread for it here: its result is dropped. Make it async to have it stopped in time"
    )
    return Raised(_timed_out(command, text), True)


def _timed_out(command: RunStep, text: str) -> Exception:
    return outcome_unknown(command, text) if command.at_most_once else TimeoutError(f"step {command.name!r} {text}")


def outcome_unknown(command: RunStep, text: str) -> StepOutcomeUnknown:
    """The error of an at-most-once step that was stopped while it ran."""
    return StepOutcomeUnknown(
        f"step {command.name!r} {text}: whether it acted is not known, and it is at_most_once, so it is not run "
        "again. Look the effect up by its idempotency key, then decide",
        step=command.name,
    )


async def in_a_thread(
    machine: Execution, command: RunStep, host: Host, known: Known, begun: Callable[[asyncio.Future[Any]], None]
) -> Any:
    """What the step's function gives in a thread. ``begun`` is told of the call, which nothing can stop."""

    def work() -> tuple[Any, int]:
        before = host.now_ms()
        raw = call(machine, command, known)
        return raw, host.now_ms() - before

    future = asyncio.ensure_future(host.run_in_thread(work))  # type: ignore[attr-defined]  # said by capabilities
    begun(future)
    raw, ms = await asyncio.shield(future)
    known.took(ms, inline=False)
    if isinstance(raw, Raised) and _wants_its_thread(raw.error) and not is_marked(command.fn):
        known.on_loop = True
        if not command.at_most_once:  # it got as far as asking for what it has on the loop's own thread
            raw = call(machine, command, known)
    return await settled(raw) if inspect.isawaitable(raw) else raw


_OF_ONE_THREAD = {
    "RuntimeError": ("no running event loop", "no current event loop", "main thread is not in main loop"),
    "ProgrammingError": ("SQLite objects created in a thread can only be used in that same thread",),
    "ValueError": ("signal only works in main thread",),
}
"""What Python says, by the error's name, where something is used outside of the thread that it belongs to."""


def _wants_its_thread(error: BaseException) -> bool:
    said = _OF_ONE_THREAD.get(type(error).__name__)
    return said is not None and any(each in str(error) for each in said)


async def stop(
    tasks: Iterable[asyncio.Future[Any]],
    seconds: float = LINGER_SECONDS,
    also: Iterable[asyncio.Future[Any]] = (),
) -> set[asyncio.Future[Any]]:
    """Cancel ``tasks``, wait until they and ``also`` have ended, and return what has not after ``seconds``."""
    waiting = {task for task in tasks if not task.done()}
    for task in waiting:
        task.cancel()
    waiting |= {task for task in also if not task.done()}
    ended, left = await asyncio.wait(waiting, timeout=seconds) if waiting else (set(), set())
    for task in ended:
        if not task.cancelled():
            task.exception()  # retrieved
    return left


def measure(command: RunStep, raw: Any, codec: Codec) -> Attempt:
    """The outcome of an attempt that returned ``raw``: its storable value, and what it cost."""
    done = Attempt(command)
    try:
        done.value = Plain(codec.plain(raw, "result"))
        if command.cost is not None:
            done.tokens, done.micros = _cost(command, raw)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an InvalidInput, or what a function of the codec or of the step raised
        done.error = InvalidInput(
            f"step {command.name!r} ran, but its result can't be recorded: {describe(error, codec)['message']}",
            **(error.detail if isinstance(error, InvalidInput) else {}),
        )
        done.error.__cause__ = error
    return done


def not_recorded(command: RunStep, error: InvalidInput) -> InvalidInput:
    """What becomes of a step whose outcome the store does not take."""
    text = f"step {command.name!r} ran, but what became of it can't be recorded: {error}"
    refused = InvalidInput(text, **error.detail)
    refused.__cause__ = error
    return refused


def _cost(command: RunStep, raw: Any) -> tuple[int, int]:
    """What the step spent. A function that raises is the end of the step: trying it again would spend once more."""
    try:
        cost: Any = command.cost(raw) if callable(command.cost) else command.cost
        tokens: Any
        usd: Any
        tokens, usd = cost if isinstance(cost, tuple) else (cost, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InvalidInput(f"cost= of the step raised {type(error).__name__}") from error
    check_charge(tokens, usd, "the result of cost=")
    return tokens, micros(usd)


def wants_another(policy: Retry, error: BaseException, attempt: int) -> bool:
    """Whether ``policy`` tries the step again. One whose ``retryable`` raises does not: the step's error stands."""
    try:
        return policy.wants(error, attempt)
    except KeyboardInterrupt:
        raise
    except BaseException:
        logging.getLogger("alkaline_edge").exception("retryable= of a Retry raised; the step is not tried again")
        return False
