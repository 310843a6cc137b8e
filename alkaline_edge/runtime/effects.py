"""Running steps: one attempt each, with its timeout, and what became of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from ..budget import micros
from ..codec import Codec, Plain
from ..commands import RunStep
from ..errors import InvalidInput
from ..execution import Execution
from ..failures import describe
from ..host import Host
from ..limits import check_charge
from ..retry import Retry
from ..runs import StepInfo

F = TypeVar("F", bound=Callable[..., Any])


def in_thread(fn: F) -> F:
    """Mark a sync step function to run in a thread, where the host has threads; elsewhere it runs inline."""
    fn._alkaline_in_thread = True  # type: ignore[attr-defined]  # a mark on the function is the whole point
    return fn


class Attempt:
    """What became of one attempt: a value as its canonical self, or an error; and what it cost."""

    __slots__ = ("command", "error", "micros", "tokens", "value")

    def __init__(self, command: RunStep, error: BaseException | None = None) -> None:
        self.command, self.error = command, error
        self.value: Any = None
        self.tokens = self.micros = 0


def info_for(machine: Execution, command: RunStep) -> StepInfo:
    """What a step may know of itself."""
    key = machine.info.idempotency_key(command.id)
    return StepInfo(machine.info.id, command.name, command.id, command.attempt, key)


def _info_parameter(fn: Callable[..., Any]) -> str | None:
    """The name of the parameter that is annotated StepInfo, if there is one."""
    annotations = getattr(fn, "__annotations__", None) or getattr(type(fn).__call__, "__annotations__", {})
    for name, annotation in annotations.items():
        if annotation is StepInfo:
            return str(name)
        if isinstance(annotation, str) and annotation.rsplit(".", 1)[-1].strip("'\"") == "StepInfo":
            return str(name)
        if not isinstance(annotation, (type, str)) and StepInfo in typing.get_args(annotation):
            return str(name)
    return None


def call(machine: Execution, command: RunStep) -> Any:
    """Call the step's function; what it returns may have to be awaited."""
    parameter = _info_parameter(command.fn)
    if parameter is None or parameter == "return" or parameter in command.kwargs:
        return command.fn(*command.args, **command.kwargs)
    info, place = info_for(machine, command), _place_of(command.fn, parameter)
    if place < len(command.args):  # def charge(info: StepInfo, amount): the arguments go around it
        return command.fn(*command.args[:place], info, *command.args[place:], **command.kwargs)
    return command.fn(*command.args, **command.kwargs, **{parameter: info})


def _place_of(fn: Callable[..., Any], parameter: str) -> int:
    """Where a parameter stands among those that take arguments by position; behind all of them otherwise."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, each in inspect.signature(fn).parameters.items() if each.kind in by_position]
    return names.index(parameter) if parameter in names else sys.maxsize


def needs_watching(command: RunStep, host: Host) -> bool:
    """Whether the attempt is more than one call: it has a timeout, or wants a thread."""
    return command.timeout is not None or _in_thread(command, host)


def _in_thread(command: RunStep, host: Host) -> bool:
    return host.capabilities.threads and getattr(command.fn, "_alkaline_in_thread", False)


async def attempt(machine: Execution, command: RunStep, host: Host) -> Any:
    """Run the step once and return its raw result. After its timeout: TimeoutError."""
    if command.timeout is None:
        return await _run(machine, command, host)
    work = asyncio.ensure_future(_run(machine, command, host))
    limit = asyncio.ensure_future(host.sleep(command.timeout))
    try:
        await asyncio.wait((work, limit), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise TimeoutError(f"step {command.name!r} took longer than its timeout of {command.timeout} seconds")
    finally:
        for task in (work, limit):
            task.cancel()
        await asyncio.gather(work, limit, return_exceptions=True)


async def _run(machine: Execution, command: RunStep, host: Host) -> Any:
    if _in_thread(command, host):
        return await host.run_in_thread(call, machine, command)  # type: ignore[attr-defined]  # said by capabilities
    value = call(machine, command)
    return await value if inspect.isawaitable(value) else value


def measure(command: RunStep, raw: Any, codec: Codec) -> Attempt:
    """The outcome of an attempt that returned ``raw``: its storable value, and what it cost."""
    done = Attempt(command)
    try:
        done.value = Plain(codec.plain(raw, "result"))
        if command.cost is not None:
            done.tokens, done.micros = _cost(command, raw)
    except Exception as error:  # an InvalidInput, or what a function of the codec or of the step raised
        done.error = InvalidInput(
            f"step {command.name!r} ran, but its result can't be recorded: {describe(error, codec)['message']}",
            **(error.detail if isinstance(error, InvalidInput) else {}),
        )
        done.error.__cause__ = error
    return done


def _cost(command: RunStep, raw: Any) -> tuple[int, int]:
    """What the step spent. A function that raises is the end of the step: trying it again would spend once more."""
    try:
        cost: Any = command.cost(raw) if callable(command.cost) else command.cost
        tokens: Any
        usd: Any
        tokens, usd = cost if isinstance(cost, tuple) else (cost, None)
    except Exception as error:
        raise InvalidInput(f"cost= of the step raised {type(error).__name__}") from error
    check_charge(tokens, usd, "the result of cost=")
    return tokens, micros(usd)


def wants_another(policy: Retry, error: BaseException, attempt: int) -> bool:
    """Whether ``policy`` tries the step again. One whose ``retryable`` raises does not: the step's error stands."""
    try:
        return policy.wants(error, attempt)
    except Exception:
        logging.getLogger("alkaline_edge").exception("retryable= of a Retry raised; the step is not tried again")
        return False
