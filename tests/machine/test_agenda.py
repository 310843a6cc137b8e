"""The agenda: what a driver has to do next, soonest first, whatever was withdrawn meanwhile."""

from __future__ import annotations

import random

import pytest

from alkaline_edge.machine.agenda import Agenda, Queue
from alkaline_edge.machine.commands import AwaitSignal, Command, RunStep, StartTimer


def timer(id: str, at: int, is_date: bool = False, begun_ms: int = 0) -> StartTimer:
    return StartTimer(id, "sleep", begun_ms, at, lambda: None, is_date)


@pytest.mark.parametrize("seed", range(5))
def test_the_soonest_that_is_still_wanted_comes_first(seed: int) -> None:
    """Those of one time in the order of their coming; none that was withdrawn or has another time by now."""
    draw = random.Random(seed)
    alive: dict[str, Command] = {}
    queue = Queue(alive)
    for n in range(300):
        one = timer(str(n), draw.randrange(40))
        alive[one.id] = one
        queue.push(one)
        if draw.random() < 0.5:
            del alive[draw.choice(list(alive))]
    expected = sorted(alive.values(), key=lambda one: (one.deadline_ms, int(one.id)))  # type: ignore[union-attr]
    found = []
    while (first := queue.first()) is not None:
        found.append(first[2])
        queue.pop()
    assert found == expected
    assert not queue


def test_what_is_withdrawn_long_before_its_time_is_not_kept() -> None:
    """A run that starts and cancels a long timer for each step holds as many as are open, and a few more."""
    alive: dict[str, Command] = {}
    queue = Queue(alive)
    for n in range(2_000):
        alive.clear()
        alive[str(n)] = one = timer(str(n), 10**9)
        queue.push(one)
    assert len(queue._heap) <= 64


def test_new_commands_come_in_their_order_and_waits_for_signals_are_none() -> None:
    """Timers stand by their times, and those that began by a clock that was ahead are due when the world is there."""
    step = RunStep("1", "a", None, print, (), {})
    commands: dict[str, Command] = {"1": step, "2": AwaitSignal("2", "s")}
    agenda = Agenda(commands)
    assert list(agenda.fresh) == [step]
    assert not agenda.timers
    for one in (timer("3", 1_000, begun_ms=500), timer("4", 950, is_date=True)):
        commands[one.id] = one
        agenda.add(one)
    assert agenda.timers
    first = agenda.next_timer(ahead=100)
    assert first is not None
    assert (first[0], first[1].id) == (950, "4")
    agenda.misdate(400)
    assert agenda.waits_misdated
    first = agenda.next_timer(ahead=100)
    assert first is not None
    assert (first[0], first[1].id) == (900, "3")
    assert agenda.is_open("1", step)
    del commands["1"]
    assert not agenda.is_open("1", step)


def test_a_step_that_is_put_off_again_is_not_due_at_its_former_time() -> None:
    """Each failed attempt sets a new time for the next: the one before it counts no more."""
    step = RunStep("1", "a", None, print, (), {})
    queue = Queue({"1": step})
    for at in (10, 50):
        step.not_before_ms = at
        queue.push(step)
    first = queue.first()
    assert first is not None
    assert first[0] == 50
    queue.pop()
    assert queue.first() is None
