"""For tests of workflows and of hosts: a simulated host, and the suite that every host must pass. Needs no pytest."""

from .clock import VirtualClock
from .conformance import CASES, Case, Result, Store, check_case, format_results, run_conformance
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

__all__ = [
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
