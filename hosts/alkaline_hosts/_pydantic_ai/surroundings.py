"""Which workflow an agent runs in, and what its code takes for the time there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_ai import _utils
from pydantic_ai.durable_exec import replay_scope
from pydantic_ai.messages import ModelMessage, ModelResponse

from alkaline_edge import Context, StepInfo

__all__ = ["agents", "at_recorded_times", "as_a_unit_sees_it", "current", "current_step", "recorded_now"]

_current: ContextVar[Context | None] = ContextVar("alkaline_current", default=None)
_step: ContextVar[StepInfo | None] = ContextVar("alkaline_step", default=None)
_threads_outside: ContextVar[bool] = ContextVar("alkaline_threads_outside", default=False)


def current() -> Context | None:
    """The ctx of the workflow that the caller is in, which may have handed it on to a task or a unit."""
    return _current.get()


@contextmanager
def agents(ctx: Context) -> Iterator[None]:
    """Agents that run inside are part of the workflow of ``ctx``: their units are its steps.

    What of them is no unit runs without threads, and what a replay only finds in the history exports no spans.
    """
    _keep_time()
    tokens = _current.set(ctx), _threads_outside.set(_utils._disable_threads.get())
    try:
        with _utils.disable_threads(), replay_scope():
            yield
    finally:
        _current.reset(tokens[0])
        _threads_outside.reset(tokens[1])


def current_step() -> StepInfo | None:
    """Of the step that the caller is in, such as a tool's: its ``idempotency_key`` is the same at each attempt.

    None outside of a step. What a tool asks of others may pass the key on, so that a second attempt is no second act.
    """
    return _step.get()


def as_a_unit_sees_it() -> Callable[[StepInfo], Variables]:
    """The caller's ContextVars for a unit of its, once it is known as which step it runs.

    Outside of the workflow's loop threads may be used again.
    """
    variables = copy_context()
    variables.run(_utils._disable_threads.set, _threads_outside.get())

    def of(info: StepInfo) -> Variables:
        mine = variables.copy()
        mine.run(_step.set, info)
        return mine

    return of


def recorded_now() -> datetime:
    """The recorded time inside a workflow, the clock's elsewhere, such as in a unit."""
    loop: Any = asyncio._get_running_loop()
    if getattr(loop, "now_ms", None) is None or _current.get() is None:
        return datetime.now(UTC)
    return datetime.fromtimestamp(loop.time(), UTC)


def at_recorded_times(messages: list[ModelMessage]) -> None:
    """Attempts at a request that failed are timed by the agent's own clocks: give them the response's time.

    A replay makes them again, at another time; the steps of each are in the history, with theirs.
    """
    for message in messages:
        if isinstance(message, ModelResponse) and message.failed_attempts:
            message.failed_attempts = [
                replace(attempt, timestamp=message.timestamp, duration=timedelta(0))
                for attempt in message.failed_attempts
            ]


def _now() -> Any:
    return _alkaline_now()  # type: ignore[name-defined]  # noqa: F821  # of the module whose function this becomes


def _keep_time() -> None:
    """Let messages have the recorded time: a replay makes them again, and what holds them may be a step's argument.

    Pydantic AI asks one function of its own for the time, which its classes have bound already: its code is changed in
    place, and gives the clock's time wherever no workflow is stepped.
    """
    original: Callable[[], datetime] = _utils.now_utc
    if original.__code__ is not _now.__code__:
        _utils.__dict__["_alkaline_now"] = recorded_now
        original.__code__ = _now.__code__
