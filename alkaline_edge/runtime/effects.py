"""Running steps: one attempt each, with its timeout, and what became of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from types import coroutine
from typing import Any

from ..budget import micros
from ..calling import is_awaitable, place_of
from ..codec import Codec, Plain
from ..errors import InvalidInput, StepOutcomeUnknown
from ..events import Event
from ..failures import describe
from ..host import Host
from ..interrupts import ends_the_process
from ..limits import check_charge
from ..machine.commands import RunStep
from ..machine.execution import Execution
from ..retry import Retry
from ..runs import StepInfo
from .pace import Known, is_marked

InfoFor = Callable[[RunStep], StepInfo]
"""What a step is told of itself, if it wants to be."""
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

    __slots__ = ("command", "error", "events", "micros", "raised", "tokens", "told", "value")

    def __init__(self, command: RunStep, error: BaseException | None = None, raised: bool = False) -> None:
        self.command, self.error, self.raised = command, error, raised
        self.value: Any = None
        self.tokens = self.micros = 0
        self.events: list[Event] | None = None
        """What is recorded of it, and what listeners are told, once that is decided."""
        self.told: Any = None


def call(machine: Execution, command: RunStep, known: Known, info_for: InfoFor) -> Any:
    """Call the step's function; what it returns may have to be awaited. What it raises is Raised."""
    try:
        # Each attempt gets the arguments as they were given, whatever the attempt before has done to its own.
        args: tuple[Any, ...] = machine.codec.apart(command.args) if command.args else ()
        kwargs: dict[str, Any] = machine.codec.apart(command.kwargs) if command.kwargs else {}
        parameter = known.parameter(command.fn)
        if parameter is None or parameter in kwargs:
            return command.fn(*args, **kwargs)
        return _call_with_info(command, parameter, info_for(command), args, kwargs)
    except BaseException as error:
        if ends_the_process(error):
            raise
        return Raised(error)


def _call_with_info(
    command: RunStep, parameter: str, info: StepInfo, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    place = place_of(command.fn, parameter)
    if place < len(args):  # def charge(info: StepInfo, amount): the arguments go around it
        return command.fn(*args[:place], info, *args[place:], **kwargs)
    return command.fn(*args, **kwargs, **{parameter: info})


async def settled(raw: Awaitable[Any], land: Callable[[RunStep], None] | None = None, of: Any = None) -> Any:
    """What awaiting ``raw`` gives; what it raises is Raised. ``land(of)`` is called before it is returned.

    Callbacks of the task hear of it a turn of the loop later, and a turn costs more than many a step does.
    """
    try:
        result = await raw
    except BaseException as error:
        if ends_the_process(error):
            raise
        result = Raised(error)
    if land is not None:
        land(of)
    return result


def begin(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """A task of ``work``, which runs now until it waits for the first time.

    One that never waits is over with that, and nobody need wait for the turns that a task takes to begin and to end.
    """
    if loop.get_task_factory() is not None:  # its tasks may be of another kind, and begin as they like
        return asyncio.ensure_future(work)
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    context = copy_context()
    carried: Any = _carried(work)  # a generator, and to a task a coroutine
    task: asyncio.Task[Any] = asyncio.Task(carried, loop=loop, context=context)
    outer: Any = asyncio.current_task(loop)
    asyncio._leave_task(loop, outer)
    asyncio._enter_task(loop, task)  # who asks which task runs is told of this one, as ever
    try:
        over, value = context.run(carried.send, None)
    finally:
        asyncio._leave_task(loop, task)
        asyncio._enter_task(loop, outer)
    if not over:
        return task
    ended = loop.create_future()  # the task ends with its first turn, and nobody need wait for that
    ended.set_result(value)
    return ended


@coroutine
def _carried(work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """What a task of CPython 3.11 steps in place of ``work``, which has begun before the task's first turn.

    It gives ``begin`` whether ``work`` is over, and what it came to, and then goes on as ``work`` does.
    """
    try:
        awaited = work.send(None)
    except StopIteration as ended:
        with suppress(asyncio.CancelledError):  # too late
            yield True, ended.value
        return ended.value
    error: BaseException | None = None
    try:
        yield False, None
    except GeneratorExit:
        work.close()
        raise
    except BaseException as thrown:  # a cancel before that turn: told to what it waits for, if that hears it
        if awaited is None or not awaited.cancel():
            error = thrown
    turned = awaited is None  # a sleep(0), which is over with the turn that the task has begun by
    while True:
        if error is None and not turned:
            try:
                yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as thrown:
                error = thrown
        try:
            awaited = work.send(None) if error is None else work.throw(error)
            error, turned = None, False
        except StopIteration as ended:
            return ended.value


async def watched(command: RunStep, work: Coroutine[Any, Any, Any], host: Host, timeout: float | None = None) -> Any:
    """What ``work`` gives, or after the step's timeout, or ``timeout`` in its place, what says so."""
    timeout = command.timeout if timeout is None else timeout
    assert timeout is not None
    task = asyncio.ensure_future(work)
    limit = asyncio.ensure_future(host.sleep(timeout))
    try:
        await asyncio.wait((task, limit), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Raised(_timed_out(command, f"took longer than its timeout of {timeout} seconds"), True)
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
    machine: Execution,
    command: RunStep,
    host: Host,
    known: Known,
    threads: dict[asyncio.Future[Any], RunStep] | None,
    info_for: InfoFor,
) -> Any:
    """What the step's function gives in a thread. The call is among ``threads`` until it ends: nothing can stop it.

    While every thread is busy it waits for one. Should the step be withdrawn meanwhile, or the run be another's, it
    does not begin: whoever has the run by then may have recorded the step already.
    """
    let_go = False

    def work() -> tuple[Any, int]:
        before = command.began_ms = host.now_ms()
        if let_go or command.id in machine.withdrawn:
            return Raised(asyncio.CancelledError(), True), 0
        raw = call(machine, command, known, info_for)
        return raw, host.now_ms() - before

    future = asyncio.ensure_future(host.run_in_thread(work))  # type: ignore[attr-defined]  # said by capabilities
    if threads is not None:
        threads[future] = command
        future.add_done_callback(lambda call: threads.pop(call, None))
    try:
        raw, ms = await asyncio.shield(future)
    except asyncio.CancelledError:
        let_go = True
        raise
    known.took(ms, inline=False)
    if type(raw) is Raised and _wants_its_thread(raw.error) and not is_marked(command.fn):
        known.on_loop = True
        # It got as far as asking for what it has on the loop's own thread.
        if not command.at_most_once and command.id not in machine.withdrawn:
            raw = call(machine, command, known, info_for)
    if not is_awaitable(raw):
        return raw
    if command.id in machine.withdrawn:  # while it was called: what it returned is not begun
        if inspect.iscoroutine(raw):
            raw.close()
        return Raised(asyncio.CancelledError(), True)
    return await settled(raw)


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


def close_unbegun(coroutines: Iterable[Any]) -> None:
    """Close those that were never started, or Python says of them that they were never awaited."""
    for each in coroutines:
        if inspect.iscoroutine(each) and inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
            each.close()


def measure(command: RunStep, raw: Any, codec: Codec) -> Attempt:
    """The outcome of an attempt that returned ``raw``: its storable value, and what it cost."""
    done = Attempt(command)
    try:
        done.value = Plain(codec.plain(raw, "result"))
        if command.cost is not None:
            done.tokens, done.micros = _cost(command, raw)
    except BaseException as error:  # an InvalidInput, or what a function of the codec or of the step raised
        if ends_the_process(error):
            raise
        done.error = InvalidInput(
            f"step {command.name!r} ran, but its result can't be recorded: {describe(error, codec)['message']}",
            **(error.detail if issubclass(type(error), InvalidInput) else {}),  # type: ignore[attr-defined]  # of that type
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
    except BaseException as error:
        if ends_the_process(error):
            raise
        raise InvalidInput(f"cost= of the step raised {type(error).__name__}") from error
    check_charge(tokens, usd, "the result of cost=")
    return tokens, micros(usd)


def wants_another(policy: Retry, error: BaseException, attempt: int) -> bool:
    """Whether ``policy`` tries the step again. One whose ``retryable`` raises does not: the step's error stands."""
    try:
        return policy.wants(error, attempt)
    except BaseException as raised:
        if ends_the_process(raised):
            raise
        logging.getLogger("alkaline_edge").exception("retryable= of a Retry raised; the step is not tried again")
        return False
