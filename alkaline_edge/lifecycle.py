"""What ``on_event`` and ``run.events()`` tell: one union of small frozen classes. Times are ms since 1970."""

from __future__ import annotations

from typing import Any

from .records import dataclass


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run is recorded."""

    id: str
    at: int
    workflow: str


@dataclass(frozen=True, slots=True)
class RunResumed:
    """An owner took the run up again. ``replayed``: events that were read back; 0 where it was still in memory."""

    id: str
    at: int
    attempt: int
    replayed: int


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step's result or failure is recorded."""

    id: str
    at: int
    name: str
    command: str
    ok: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class StepRetrying:
    """An attempt failed and another one follows, not before ``retry_at``."""

    id: str
    at: int
    name: str
    command: str
    attempt: int
    retry_at: int
    error: str


@dataclass(frozen=True, slots=True)
class SignalArrived:
    """A signal is recorded."""

    id: str
    at: int
    name: str


@dataclass(frozen=True, slots=True)
class RunSuspended:
    """The run is set aside until what it waits for happens. ``wake_at``: when its next timer is due."""

    id: str
    at: int
    waiting: tuple[str, ...]
    wake_at: int | None


@dataclass(frozen=True, slots=True)
class RunPaused:
    """No effect starts until somebody resumes the run."""

    id: str
    at: int


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """The handler returned."""

    id: str
    at: int
    result: Any


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The handler raised."""

    id: str
    at: int
    failure: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunWasCancelled:
    """The run was cancelled and has cleaned up."""

    id: str
    at: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class RunContinuedAsNew:
    """The run goes on in a new history."""

    id: str
    at: int
    generation: int


@dataclass(frozen=True, slots=True)
class Emission:
    """The handler called ``ctx.emit``; recorded."""

    id: str
    at: int
    topic: str
    data: Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """The handler called ``ctx.log``; not recorded."""

    id: str
    at: int
    level: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunStuck:
    """The run can't go on with this code or this store, and was left as it was. ``code`` is one of the nine."""

    id: str
    at: int
    code: str
    message: str


LifecycleEvent = (
    RunStarted | RunResumed | StepFinished | StepRetrying | SignalArrived | RunSuspended | RunPaused | RunCompleted
    | RunFailed | RunWasCancelled | RunContinuedAsNew | Emission | LogLine | RunStuck
)  # fmt: skip
