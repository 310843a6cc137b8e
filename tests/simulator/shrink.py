"""Making a failing program small: things are left out one after the other, as long as the same fails."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from .programs import Program, smaller
from .schedule import Outcome, Schedule

TRIES = 400
"""Schedules that are run for it at most."""


def kind_of(violation: str) -> str:
    """What is the same in two violations: the words, without ids, numbers and values."""
    return " ".join(re.sub(r"'[^']*'|\S*\d\S*|\S*[_~]\S*", "#", violation).split()[:9])


def cut(program: Program, places: Iterable[int]) -> Program:
    """The program with things left out, as ``shrink`` said."""
    for place in places:
        program = next(islice(smaller(program), place, None))
    return program


def shrink(outcome: Outcome, tries: int = TRIES) -> tuple[Outcome, list[int]]:
    """The smallest program found that fails alike under the same seed, and how to get it from the one drawn."""
    wanted, best, places = kind_of(outcome.violations[0]), outcome, list[int]()
    again = True
    while again and tries > 0:
        again = False
        for place, program in enumerate(smaller(best.program)):
            if tries <= 0:
                break
            tries -= 1
            found = Schedule(outcome.seed, program).run()
            if found.violations and kind_of(found.violations[0]) == wanted:
                best, again = found, True
                places.append(place)
                break
    return best, places
