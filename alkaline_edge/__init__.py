"""Durable execution where no server can run. See README.md for what it does and SPEC.md for what it writes."""

from typing import TYPE_CHECKING, Any

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
from .workflows import Workflow, workflow

if TYPE_CHECKING:
    from .runtime.moving import migrate
    from .runtime.syncing import Peer, Synced, hand_over, sync

__version__ = "0.1.0"

__all__ = [
    "workflow", "Runtime", "Run", "Retry", "Budget", "Context", "RAISE",
    "Codec", "ExecutionInfo", "ExecutionRecord", "Meter", "Page", "Recorded", "StepInfo", "Workflow",
    "in_thread", "migrate", "sync", "Synced", "hand_over", "Peer",
    "AlkalineError", "BudgetExceeded", "ClosedError", "ConflictError", "CycleDetected", "DepthExceeded",
    "DeterminismError", "InvalidInput", "NotFound", "RunCancelled", "StepError", "StepOutcomeUnknown", "StoreError",
    "UnknownOutcome",
]  # fmt: skip

_OF_MOVES = ("migrate", "sync", "Synced", "hand_over", "Peer")


def __getattr__(name: str) -> Any:
    """What only a move needs is imported when it is first asked for: each import costs a browser's start."""
    if name not in _OF_MOVES:
        raise AttributeError(f"alkaline_edge has no {name!r}")
    from .runtime import moving, syncing

    value = globals()[name] = getattr(moving if name == "migrate" else syncing, name)
    return value
