"""Small, plausible bugs, each in words, as one piece of text in the place of another, and the tests of its module.

One whose text no longer stands in its file is an error: a check that can't fail is a defect (``test_mutants``). A bug
that nothing could tell from the code as it is says why in ``equivalent``, and is not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
P, R, M, H = "tests/primitives/", "tests/runtime/", "tests/machine/", "tests/hosts/"
T = "tests/test_"
STEPS = (P + "test_bookkeeping.py", P + "test_steps.py", P + "test_branches.py", P + "test_at_most_once.py",
         P + "test_base_errors.py",
         M + "test_pending.py", M + "test_agenda.py", T + "budget.py", T + "retry.py", T + "codec.py",
         T + "peers_bugs.py", P + "test_calling.py", R + "test_effects.py",
         R + "test_accounts.py", R + "test_outcomes.py")  # fmt: skip
WAITS = (P + "test_bookkeeping.py", P + "test_driver.py", P + "test_inbox.py", P + "test_updates.py",
         P + "test_deadlines.py",
         M + "test_mailbox.py", R + "test_inbox.py", R + "test_endings.py", P + "test_runs.py", T + "peers_bugs.py",
         P + "test_clocks.py", R + "test_sending.py")  # fmt: skip
ENDS = (P + "test_bookkeeping.py", R + "test_inbox.py", R + "test_endings.py", P + "test_children.py",
        P + "test_continue_as_new.py", P + "test_runs.py",
        P + "test_endings.py", T + "budget.py", T + "peers_bugs.py", P + "test_growth.py",
        R + "test_accounts.py", R + "test_forgetting.py", M + "test_handler.py")  # fmt: skip
UNDOING = (P + "test_undoing.py", P + "test_base_errors.py", P + "test_steps.py")
LOOP = (P + "test_bookkeeping.py", M, P + "test_flows.py", P + "test_branches.py")
REPLAY = (P + "test_bookkeeping.py", T + "replay.py", T + "peers_bugs.py", M + "test_execution.py",
          M + "test_script.py", P + "test_steps.py", P + "test_reporting.py",
          T + "history.py", M + "test_divergence.py", T + "lifecycle.py")  # fmt: skip
VALUES = (P + "test_bookkeeping.py", T + "codec.py", T + "canonical.py", T + "limits.py", T + "given_values.py",
          T + "large_values.py", T + "boundaries.py",
          R + "test_payloads.py", T + "names.py")  # fmt: skip
STORE = (R, T + "segments.py", P + "test_runs.py", P + "test_serving.py", P + "test_unreadable.py",
         "tests/simulation/test_regressions.py", "tests/simulation/test_owning.py")  # fmt: skip
MOVES = (R + "test_handing.py", T + "moving.py", T + "syncing.py", T + "frozen.py", "tests/simulation/test_moves.py",
         T + "parts.py", R + "test_bundling.py", R + "test_loading.py", R + "test_migrating.py")  # fmt: skip
FILE = tuple(H + f"test_file{name}.py" for name in ("", "_damage", "_faults", "_groups", "_model"))
CONFORMS = ("tests/conformance",)
BYTES = (T + "canonical.py", T + "codec.py", T + "envelope.py", T + "security.py", T + "shapes.py", T + "bundle.py",
         T + "moving.py", T + "syncing.py", T + "parts.py", R + "test_bundling.py")  # fmt: skip
SERVES = (R + "test_serving.py", P + "test_serving.py", R + "test_fleet.py", P + "test_runs.py", P + "test_inbox.py",
          P + "test_driver.py",
          P + "test_endings.py", P + "test_unreadable.py", "tests/simulation/test_regressions.py")  # fmt: skip
CLOCKS = (P + "test_clocks.py", P + "test_driver.py", P + "test_deadlines.py",
          R + "test_waking.py")  # fmt: skip
STARTS = (P + "test_scheduled.py", P + "test_runs.py",
          T + "workflows.py")  # fmt: skip
KVS = (H + "test_kv_doubt.py", H + "test_cloudflare_kv.py", *CONFORMS)
OBJECTS = (H + "test_durable_object_calls.py",)
SQLITES = (H + "test_sqlite_batches.py",)
CALLBACKS = (H + "test_callbacks.py", *CONFORMS)
LANES = (H + "test_lanes.py",)
SEALS = ("tests/sealing",)
HTTPS = ("tests/http",)
OPENS = (H + "test_opening.py",)
CLIS = (H + "test_cli.py", H + "test_cli_edges.py")


@dataclass(frozen=True, slots=True)
class Mutant:
    """``words`` say what is wrong with it."""

    words: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def room(self) -> tuple[str, ...]:
        """The tests of its module's name, wherever they stand now, then those of the table, whole folders last."""
        *folders, name = self.path.removeprefix("alkaline_edge/").removeprefix("hosts/alkaline_hosts/").split("/")
        places = [f"tests/{'/'.join(folders)}", "tests/primitives", "tests/hosts"] if folders else ["tests"]
        own = [f"{place}/test_{name}" for place in places if (ROOT / place / f"test_{name}").exists()]
        return tuple(dict.fromkeys((*own, *sorted(self.tests, key=lambda place: not place.endswith(".py")))))


def _mutants() -> list[Mutant]:
    from . import (
        of_doors,
        of_drivers,
        of_ended,
        of_file_host,
        of_handlers,
        of_hosts,
        of_machine,
        of_moves,
        of_rooms,
        of_runtime,
        of_serving,
        of_shared,
        of_turns,
        of_values,
    )

    modules = (of_machine, of_handlers, of_values, of_runtime, of_drivers, of_serving, of_moves, of_file_host)
    return [
        mutant
        for module in (*modules, of_rooms, of_ended, of_turns, of_hosts, of_doors, of_shared)
        for mutant in module.MUTANTS
    ]


MUTANTS = _mutants
