"""Every mutant still applies: the long runs that look whether each is caught are ``make mutants``."""

from __future__ import annotations

from .check import ROOT, mutated
from .table import MUTANTS


def test_every_mutant_applies_and_can_be_caught_by_tests_that_exist() -> None:
    """The text of each stands once in its file, what takes its place compiles, and its tests are there."""
    mutants = MUTANTS()
    wrong: list[str] = []
    for mutant in mutants:
        try:
            mutated(mutant)
        except (ValueError, SyntaxError, OSError) as error:
            wrong.append(str(error))
        wrong += [f"{mutant.words!r}: there is no {test}" for test in mutant.tests if not (ROOT / test).exists()]
    assert not wrong, "\n".join(wrong)
    assert len(mutants) >= 60
    assert len({mutant.words for mutant in mutants}) == len(mutants)
