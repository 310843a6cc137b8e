"""For tests of workflows and of hosts: a simulated host, and the suite that every host must pass. Needs no pytest."""

from .conformance import CASES, Case, Result, Store, check_case, format_results, run_conformance
from .simulated import FAULTS, FaultKind, SimulatedCrash, SimulatedHost, SimulatedStore, fault_at

__all__ = [
    "FAULTS",
    "FaultKind",
    "SimulatedCrash",
    "SimulatedHost",
    "SimulatedStore",
    "fault_at",
    "CASES",
    "Case",
    "Result",
    "Store",
    "check_case",
    "format_results",
    "run_conformance",
]
