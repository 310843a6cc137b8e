"""For tests of workflows and of hosts. Needs no pytest.

``Trial`` runs workflows on a simulated host whose time passes by itself, and ``prove`` kills one before and behind each
of its commits. ``run_conformance`` is the suite that every host must pass.
"""

from .clock import VirtualClock
from .conformance import CASES, Case, Result, Store, check_case, format_results, run_conformance
from .proving import Proof, prove
from .simulated import (
    COMMIT_FAULTS,
    FAULTS,
    Delay,
    Fault,
    FaultKind,
    SimulatedCrash,
    SimulatedHost,
    SimulatedStore,
    applied_then_error_at,
    crash_at,
    fault_at,
)
from .stubbing import Sent
from .trial import Trial, TrialRun, assert_replays

__all__ = [
    "Trial",
    "TrialRun",
    "Sent",
    "prove",
    "Proof",
    "assert_replays",
    "SimulatedHost",
    "SimulatedStore",
    "SimulatedCrash",
    "VirtualClock",
    "Delay",
    "Fault",
    "FaultKind",
    "FAULTS",
    "COMMIT_FAULTS",
    "fault_at",
    "crash_at",
    "applied_then_error_at",
    "CASES",
    "Case",
    "Result",
    "Store",
    "check_case",
    "format_results",
    "run_conformance",
]
