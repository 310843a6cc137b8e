"""An owner that dies with a commit on its way, which lands once its run was deleted: that it is drawn, and judged."""

from __future__ import annotations

import pytest

from alkaline_edge.host import Batch, Committed, Conflict

from .schedule import Outcome, Schedule, quiet
from .world import AuditedStore


def landing() -> Outcome:
    """The outcome of the first schedule in which such a commit lands."""
    for seed in range(1, 3_000):
        schedule = Schedule(seed)
        if schedule.world.zombie is not None and schedule.world.zombie.left < 3:
            outcome = schedule.run()
            if outcome.faults["landed"]:
                return outcome
    raise AssertionError("no such schedule is drawn any more")


def test_what_lands_on_a_run_that_was_deleted_changes_nothing() -> None:
    """Its checks fail: also where nothing has the run's id any more, and where another run has."""
    with quiet():
        outcome = landing()
    assert outcome.faults["crash-late"] == outcome.faults["deleted"] == 1
    assert not outcome.violations


def test_a_store_in_which_an_absent_key_fences_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit lands there, on a run that is gone, and the schedule says so."""
    apply = AuditedStore.apply

    def lenient(self: AuditedStore, batch: Batch) -> Committed | Conflict:
        held = tuple(check for check in batch.checks if check.key in self.entries)
        return apply(self, Batch(batch.id, held, batch.puts, batch.deletes))

    monkeypatch.setattr(AuditedStore, "apply", lenient)
    with quiet():
        found = landing().violations
    assert any("which was deleted, landed" in problem for problem in found)
    assert any("something of a run that was deleted was written" in problem for problem in found)
