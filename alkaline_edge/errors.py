"""The nine error codes, the tree of exceptions by whose fault it is, and how a failure is written down.

    AlkalineError                  every error the kernel raises; ``.code`` is one of CODES
    |-- InvalidInput               ERR_INVALID_INPUT    the caller: a value, name, id or size that can't be taken
    |-- NotFound                   ERR_NOT_FOUND        the caller: no such run, workflow, query
    |-- DeterminismError           ERR_DETERMINISM      the workflow's author: the code and the history disagree
    |-- CycleDetected              ERR_CYCLE_DETECTED   the workflow's author: a workflow re-entered its own ancestry
    |-- DepthExceeded              ERR_DEPTH_EXCEEDED   the workflow's author: children nested past max_depth
    |-- BudgetExceeded             ERR_BUDGET_EXCEEDED  the run: its tokens or money are used up
    |-- ConflictError              ERR_CONFLICT         somebody else: another owner, another run with this id
    |   `-- StepOutcomeUnknown     ERR_CONFLICT         an at-most-once step was started and its outcome was lost
    |-- StoreError                 ERR_STORE            the store: refused, damaged, full, too weak
    |   |-- UnknownOutcome         ERR_STORE            the store: the answer to a commit was lost
    |   `-- UnreadableValue        ERR_STORE            the store: it answered, with bytes that can't be read here
    `-- ClosedError                ERR_CLOSED           the runtime or the host was closed
        `-- RunCancelled           ERR_CLOSED           the run was cancelled, so it has no result

An error that user code threw is not in this tree: it comes back as ``failures.StepError`` (see ``failures``).
"""

from __future__ import annotations

from typing import Any, ClassVar

ERR_INVALID_INPUT = "ERR_INVALID_INPUT"
ERR_NOT_FOUND = "ERR_NOT_FOUND"
ERR_DETERMINISM = "ERR_DETERMINISM"
ERR_CYCLE_DETECTED = "ERR_CYCLE_DETECTED"
ERR_DEPTH_EXCEEDED = "ERR_DEPTH_EXCEEDED"
ERR_BUDGET_EXCEEDED = "ERR_BUDGET_EXCEEDED"
ERR_CONFLICT = "ERR_CONFLICT"
ERR_STORE = "ERR_STORE"
ERR_CLOSED = "ERR_CLOSED"


class AlkalineError(Exception):
    """What happened, what was expected, what to do next.

    ``code`` is one of the nine ERR_* codes. ``detail`` is a dict of plain values for programs to read; it never
    holds a stack trace, a path, a secret or the repr of an argument.
    """

    code: ClassVar[str] = ERR_STORE

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.detail: dict[str, Any] = detail


class InvalidInput(AlkalineError):
    """A value, name, id or size that can't be taken. Nothing was written; correct it and call again."""

    code = ERR_INVALID_INPUT


class NotFound(AlkalineError):
    """There is no run, workflow or query of that name."""

    code = ERR_NOT_FOUND


class DeterminismError(AlkalineError):
    """The code and the recorded history disagree. Nothing was written: the run resumes when the right code is back."""

    code = ERR_DETERMINISM


class CycleDetected(AlkalineError):
    """A workflow was about to run inside itself. ``detail["chain"]`` lists the ancestry."""

    code = ERR_CYCLE_DETECTED


class DepthExceeded(AlkalineError):
    """Children were nested deeper than ``max_depth``."""

    code = ERR_DEPTH_EXCEEDED


class BudgetExceeded(AlkalineError):
    """The run's tokens or money are used up. ``detail`` holds ``spent``, ``limit`` and ``unit``."""

    code = ERR_BUDGET_EXCEEDED


class ConflictError(AlkalineError):
    """Somebody else was there first: another run has the id, or another owner holds the run."""

    code = ERR_CONFLICT


class StepOutcomeUnknown(ConflictError):
    """An ``at_most_once`` step was started, and the process died before its outcome was recorded.

    It is not run again. The handler decides: look the effect up by its idempotency key, compensate, or give up.
    """


class StoreError(AlkalineError):
    """The store refused, is damaged, is full, or can't do what is asked of it."""

    code = ERR_STORE


class UnknownOutcome(StoreError):
    """The answer to a commit was lost: it may or may not have been applied. The kernel reads it back."""


class UnreadableValue(StoreError):
    """The store answered with a value that can't be read here: sealed, sealed otherwise, or damaged.

    Asking again gives the same; ``detail["reason"]`` says in a word why. ``page``: of several values that were asked
    for, all of them, with an ``Unopened`` in place of each that can't be read.
    """

    page: list[Any] | None = None


class Unopened(bytes):
    """Stands for a value that can't be read, among others of an ``UnreadableValue.page``."""

    def __new__(cls, error: UnreadableValue) -> Unopened:
        """``error`` says why."""
        made = super().__new__(cls, b"\xc1")  # no value of msgpack
        made.error = error
        return made

    error: UnreadableValue


class ClosedError(AlkalineError):
    """The runtime or the host was closed."""

    code = ERR_CLOSED


class RunCancelled(ClosedError):
    """The run was cancelled, so it has no result. ``detail["reason"]`` says why, if a reason was given."""


BY_CODE: dict[str, type[AlkalineError]] = {
    cls.code: cls
    for cls in (
        InvalidInput,
        NotFound,
        DeterminismError,
        CycleDetected,
        DepthExceeded,
        BudgetExceeded,
        ConflictError,
        StoreError,
        ClosedError,
    )
}
CODES = tuple(BY_CODE)
