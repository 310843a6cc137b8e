"""Which events of a history count no more: ranges, at each border, and their union."""

from __future__ import annotations

import random

import pytest

from alkaline_edge import events as ev
from alkaline_edge.history import Timed
from alkaline_edge.retried import counting, ranges_of, void_in, void_of


def a_history(draw: random.Random) -> list[list[Timed]]:
    return [
        [(n, ev.TimerFired(ev.TIMER_FIRED, f"{n}.{place}")) for place in range(draw.randint(1, 4))]
        for n in range(draw.randint(1, 12))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_ranges_hold_what_they_were_made_of_and_nothing_else(seed: int) -> None:
    """Any set of events, in one Retried or spread over several, whose ranges may overlap and come in any order."""
    draw = random.Random(seed)
    commits = a_history(draw)
    every = [(n, place) for n, events in enumerate(commits) for place in range(len(events))]
    chosen = {one for one in every if draw.random() < draw.choice([0.1, 0.5, 0.95, 1])}
    ranges = ranges_of(chosen, commits)
    assert len(ranges) <= len(chosen)
    assert {one for one in every if void_of(ranges).holds(*one)} == chosen
    parts: list[list[list[int]]] = [[], [], []]
    for one in ranges:
        for part in draw.sample(parts, draw.randint(1, 3)):
            part.append(one)
    draw.shuffle(parts)
    retries: list[list[Timed]] = [[(99, ev.Retried(ev.RETRIED, part, 0, 0))] for part in parts]
    assert {one for one in every if void_in(retries).holds(*one)} == chosen
    kept = counting([*commits, *retries])
    assert {event.id for commit in kept[: len(commits)] for _, event in commit} == {  # type: ignore[union-attr]
        f"{n}.{place}" for n, place in every if (n, place) not in chosen
    }


def test_a_stretch_of_commits_is_one_range() -> None:
    """A Retried is small, however long what counts no more is."""
    commits: list[list[Timed]] = [[(n, ev.TimerFired(ev.TIMER_FIRED, "1"))] * 3 for n in range(1_000)]
    every = [(n, place) for n in range(1_000) for place in range(3)][1:]
    assert ranges_of(every, commits) == [[0, 1, 999, 3]]
    assert void_of([]).starts == ()


def test_a_range_inside_another_one_does_not_end_it() -> None:
    """Of two retries the later one may void less of a stretch than the earlier one did."""
    void = void_of([[1, 0, 2, 0], [0, 1, 5, 1]])
    assert [place for place in ((0, 0), (0, 1), (1, 0), (3, 0), (5, 0), (5, 1)) if void.holds(*place)] == [
        (0, 1), (1, 0), (3, 0), (5, 0),
    ]  # fmt: skip
