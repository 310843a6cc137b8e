"""Durable execution where no server can run. See README.md for what it does and SPEC.md for what it writes.

Each name is imported when it is first asked for: who wants a host, an error or a bundle does not load the runtime, and
what only a move needs is loaded by who moves a run.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .budget import Budget
    from .codec import Codec
    from .context import RAISE, Context
    from .errors import (
        AlkalineError,
        BudgetExceeded,
        ClosedError,
        ConflictError,
        CycleDetected,
        DepthExceeded,
        DeterminismError,
        InvalidInput,
        NotFound,
        RunCancelled,
        StepOutcomeUnknown,
        StoreError,
        UnknownOutcome,
    )
    from .failures import StepError
    from .history import Recorded
    from .lifecycle import (
        BudgetWarned,
        Emission,
        LifecycleEvent,
        LogLine,
        Published,
        RunCompleted,
        RunContinuedAsNew,
        RunFailed,
        RunPaused,
        RunResumed,
        RunRetried,
        RunStarted,
        RunStuck,
        RunSuspended,
        RunWasCancelled,
        SignalArrived,
        StepFinished,
        StepRetrying,
    )
    from .retry import Retry
    from .runs import ExecutionInfo, ExecutionRecord, StepInfo
    from .runtime.following import Followed
    from .runtime.listing import Page
    from .runtime.migrating import migrate
    from .runtime.pace import in_thread
    from .runtime.runtime import Run, Runtime
    from .runtime.syncing import Peer, Synced, hand_over, reclaim, sync
    from .runtime.telling import Meter
    from .workflows import Workflow, workflow

__version__ = "0.1.0"

__all__ = [
    "workflow", "Runtime", "Run", "Retry", "Budget", "Context", "RAISE",
    "Codec", "ExecutionInfo", "ExecutionRecord", "Followed", "Meter", "Page", "Recorded", "StepInfo", "Workflow",
    "in_thread", "migrate", "sync", "Synced", "hand_over", "reclaim", "Peer",
    "AlkalineError", "BudgetExceeded", "ClosedError", "ConflictError", "CycleDetected", "DepthExceeded",
    "DeterminismError", "InvalidInput", "NotFound", "RunCancelled", "StepError", "StepOutcomeUnknown", "StoreError",
    "UnknownOutcome",
    "LifecycleEvent", "RunStarted", "RunResumed", "StepFinished", "StepRetrying", "SignalArrived", "RunSuspended",
    "RunPaused", "RunCompleted", "RunFailed", "RunWasCancelled", "RunContinuedAsNew", "RunRetried", "Emission",
    "Published", "LogLine", "RunStuck", "BudgetWarned",
]  # fmt: skip

_PLACES = {
    "budget": "Budget",
    "codec": "Codec",
    "context": "RAISE Context",
    "errors": "AlkalineError BudgetExceeded ClosedError ConflictError CycleDetected DepthExceeded DeterminismError "
    "InvalidInput NotFound RunCancelled StepOutcomeUnknown StoreError UnknownOutcome",
    "failures": "StepError",
    "history": "Recorded",
    "lifecycle": "LifecycleEvent RunStarted RunResumed StepFinished StepRetrying SignalArrived RunSuspended RunPaused "
    "RunCompleted RunFailed RunWasCancelled RunContinuedAsNew RunRetried Emission Published LogLine RunStuck "
    "BudgetWarned",
    "retry": "Retry",
    "runs": "ExecutionInfo ExecutionRecord StepInfo",
    "runtime.following": "Followed",
    "runtime.listing": "Page",
    "runtime.migrating": "migrate",
    "runtime.pace": "in_thread",
    "runtime.runtime": "Run Runtime",
    "runtime.syncing": "Peer Synced hand_over reclaim sync",
    "runtime.telling": "Meter",
    "workflows": "Workflow workflow",
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names.split()}


if not TYPE_CHECKING:  # type checkers are to know these names, and no others

    def __getattr__(name):
        if name not in _PLACE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(__import__(f"{__name__}.{_PLACE_OF[name]}", fromlist=[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
