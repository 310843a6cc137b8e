"""What ``on_event`` and ``run.events()`` tell: one union of small frozen classes. Times are ms since 1970.

Each has a ``kind``, a word of its own, by which it may be told apart as well as by its class; the run's ``id``, its
``workflow`` and ``run``, the random id that it keeps wherever it is moved; and ``at``, when it happened.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from .structs import dataclass


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run is recorded. ``generation``: how often it has continued as new.

    Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["started"]] = "started"
    id: str
    at: int
    workflow: str
    run: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class RunResumed:
    """An owner took the run up again. ``replayed``: events that were read back; 0 where it was still in memory.

    ``generation``: how often it has continued as new; ``begun``: when its history began. ``parent`` is the run that has
    started it, by its id, its random id and the command there; None for a root.

    ``attempt``: how often the run was replayed. Of every event: ``kind``, ``id``, ``at`` (ms since 1970),
    ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["resumed"]] = "resumed"
    id: str
    at: int
    attempt: int
    replayed: int
    workflow: str = ""
    run: str = ""
    generation: int = 0
    begun: int = 0
    parent: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step's result or failure is recorded.

    ``began``: when its last attempt began; 0 where that is not known. ``tokens`` and ``usd``: what it cost. ``error``:
    the type of what it failed with.

    ``name`` and ``command`` say which step, ``ok`` whether it completed, at which ``attempt``. Of every event:
    ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["step"]] = "step"
    id: str
    at: int
    name: str
    command: str
    ok: bool
    attempt: int
    began: int = 0
    tokens: int = 0
    usd: float = 0.0
    error: str | None = None
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class StepRetrying:
    """An attempt failed and another one follows, not before ``retry_at``.

    ``error`` is what it failed with, ``type`` the type of that; ``began``: when it began, 0 where that is not known.

    ``name`` and ``command`` say which step, ``attempt`` which attempt; ``retry_at`` is in ms since 1970. Of every
    event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["retrying"]] = "retrying"
    id: str
    at: int
    name: str
    command: str
    attempt: int
    retry_at: int
    error: str
    type: str = ""
    began: int = 0
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class SignalArrived:
    """A signal is recorded.

    ``name`` is the signal's. Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["signal"]] = "signal"
    id: str
    at: int
    name: str
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunSuspended:
    """The run is set aside until what it waits for happens. ``wake_at``: when its next timer is due.

    ``waiting`` says in words what it waits for; ``wake_at`` is in ms since 1970, or None. Of every event: ``kind``,
    ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["suspended"]] = "suspended"
    id: str
    at: int
    waiting: tuple[str, ...]
    wake_at: int | None
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunPaused:
    """No effect starts until somebody resumes the run.

    Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["paused"]] = "paused"
    id: str
    at: int
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """The handler returned.

    ``result`` is what it returned. Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["completed"]] = "completed"
    id: str
    at: int
    result: Any
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The handler raised.

    ``failure`` is what it raised, as the record has it. Of every event: ``kind``, ``id``, ``at`` (ms since 1970),
    ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["failed"]] = "failed"
    id: str
    at: int
    failure: dict[str, Any]
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunWasCancelled:
    """The run was cancelled and has cleaned up.

    ``reason``: why, or None. Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["cancelled"]] = "cancelled"
    id: str
    at: int
    reason: str | None
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunContinuedAsNew:
    """The run goes on in a new history.

    ``generation``: how often it has, by now. Of every event: ``kind``, ``id``, ``at`` (ms since 1970),
    ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["continued_as_new"]] = "continued_as_new"
    id: str
    at: int
    generation: int
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunRetried:
    """The run had failed, and goes on from there: for the ``times``-th time in its present history.

    Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["retried"]] = "retried"
    id: str
    at: int
    times: int
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Emission:
    """The handler called ``ctx.emit``; recorded.

    ``topic`` and ``data`` are what it was given. Of every event: ``kind``, ``id``, ``at`` (ms since 1970),
    ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["emission"]] = "emission"
    id: str
    at: int
    topic: str
    data: Any
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A step called ``StepInfo.publish``: told while it runs, where it runs. Recorded nowhere.

    ``name`` and ``command`` say which step, ``attempt`` which attempt; ``topic`` and ``data`` are what it was
    given. Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["published"]] = "published"
    id: str
    at: int
    name: str
    command: str
    attempt: int
    topic: str
    data: Any
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class BudgetWarned:
    """The share of the run's budget is spent from which on it is to be told: ``used`` of ``limit``, in ``unit``.

    Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["budget_warned"]] = "budget_warned"
    id: str
    at: int
    unit: str
    used: int
    limit: int
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """The handler called ``ctx.log``; not recorded.

    ``level``, ``message`` and ``fields`` are what it was given. Of every event: ``kind``, ``id``, ``at`` (ms since
    1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["log"]] = "log"
    id: str
    at: int
    level: str
    message: str
    fields: dict[str, Any]
    workflow: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class RunStuck:
    """The run can't go on with this code or this store, and was left as it was. ``code`` is one of the nine.

    ``message`` says why. Of every event: ``kind``, ``id``, ``at`` (ms since 1970), ``workflow``, ``run``.
    """

    kind: ClassVar[Literal["stuck"]] = "stuck"
    id: str
    at: int
    code: str
    message: str
    workflow: str = ""
    run: str = ""


LifecycleEvent = (
    RunStarted | RunResumed | StepFinished | StepRetrying | SignalArrived | RunSuspended | RunPaused | RunCompleted
    | RunFailed | RunWasCancelled | RunContinuedAsNew | RunRetried | Emission | Published | BudgetWarned
    | LogLine | RunStuck
)  # fmt: skip


def belongs(event: LifecycleEvent, workflow: str, run: str) -> None:
    """Note whose event it is, before anybody has seen it."""
    if not event.run:
        object.__setattr__(event, "workflow", workflow)
        object.__setattr__(event, "run", run)
