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
    from .retry import Retry
    from .runs import ExecutionInfo, ExecutionRecord, StepInfo
    from .runtime import Meter, Page, Recorded, Run, Runtime, in_thread
    from .runtime.migrating import migrate
    from .runtime.syncing import Peer, Synced, hand_over, sync
    from .workflows import Workflow, workflow

__version__ = "0.1.0"

__all__ = [
    "workflow", "Runtime", "Run", "Retry", "Budget", "Context", "RAISE",
    "Codec", "ExecutionInfo", "ExecutionRecord", "Meter", "Page", "Recorded", "StepInfo", "Workflow",
    "in_thread", "migrate", "sync", "Synced", "hand_over", "Peer",
    "AlkalineError", "BudgetExceeded", "ClosedError", "ConflictError", "CycleDetected", "DepthExceeded",
    "DeterminismError", "InvalidInput", "NotFound", "RunCancelled", "StepError", "StepOutcomeUnknown", "StoreError",
    "UnknownOutcome",
]  # fmt: skip

_PLACES = {
    "budget": "Budget",
    "codec": "Codec",
    "context": "RAISE Context",
    "errors": "AlkalineError BudgetExceeded ClosedError ConflictError CycleDetected DepthExceeded DeterminismError "
    "InvalidInput NotFound RunCancelled StepOutcomeUnknown StoreError UnknownOutcome",
    "failures": "StepError",
    "retry": "Retry",
    "runs": "ExecutionInfo ExecutionRecord StepInfo",
    "runtime": "Meter Page Recorded Run Runtime in_thread",
    "runtime.migrating": "migrate",
    "runtime.syncing": "Peer Synced hand_over sync",
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
