"""What follows from a schedule and the clock alone: random times and ends of runs, held against counts."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import StoreError
from alkaline_edge.codec import Codec
from alkaline_edge.triggers import Every, Schedule
from alkaline_edge.triggers.schedule import OVERLAPS

EVERY = 1_000
START = 1_700_000_000_000


def made(**given: Any) -> Schedule:
    schedule = Schedule("s", Every(timedelta(milliseconds=EVERY)), "w", **given)
    schedule.go_on(START)
    return schedule


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(OVERLAPS),
    st.integers(0, 5_000),
    st.integers(0, 3_000),
    st.lists(st.tuples(st.integers(0, 6_000), st.booleans()), max_size=40),
)
def test_each_tick_is_decided_upon_once(
    overlap: Any, catch_up: int, jitter: int, moves: list[tuple[int, bool]]
) -> None:
    """Started, left out, replaced or too long ago: none twice, none forgotten, none early, none beside another."""
    schedule, now = made(overlap=overlap, catch_up=catch_up, jitter=jitter), START
    starts: list[str] = []
    missed = 0
    for passed, ended in moves:
        now += passed
        if ended:
            schedule.running = []
        while True:
            before = schedule.due
            turn = schedule.turn(now)
            schedule.set_wake(now)
            if turn.start is not None:
                starts.append(turn.start)
                assert overlap == "allow" or schedule.running == [turn.start]
            assert turn.cancel == [] or overlap == "cancel"
            if turn.start is None:
                break
        assert schedule.due is not None
        assert schedule.rings_at(schedule.due) > now
        assert schedule.wake is not None
        assert schedule.wake > now
        missed += before is None
    assert missed == 0
    assert len(set(starts)) == len(starts) == schedule.started
    ticks = {schedule.run_of(tick): schedule.rings_at(tick) for tick in range(START + EVERY, now + 1, EVERY)}
    assert set(starts) <= ticks.keys()
    if schedule.missed is None:
        rung = [run for run, at in ticks.items() if at <= now]
        first_late = [run for run in ticks if run not in rung]
        decided = schedule.started + schedule.skipped + (schedule.waiting is not None)
        assert len(rung) - len(first_late) <= decided <= len(ticks)
        if not jitter:
            assert decided == len(ticks)


def test_the_number_of_runs_counts_one_that_waits() -> None:
    """Two at most: the first goes on, the second waits, and there is no third."""
    schedule = made(overlap="buffer", max_runs=2)
    assert schedule.turn(START + EVERY).start is not None
    assert schedule.turn(START + 5 * EVERY).start is None
    assert (schedule.status, schedule.due) == ("ended", None)
    schedule.running = []
    schedule.set_wake(START + 6 * EVERY)
    assert schedule.wake == START + 6 * EVERY
    assert schedule.turn(START + 6 * EVERY).start is not None
    assert schedule.started == 2
    schedule.set_wake(START + 7 * EVERY)
    assert schedule.wake is None


def test_a_schedule_comes_back_from_its_bytes() -> None:
    """With all that it knows; what a newer version added is left out, and what is damaged is refused."""
    schedule = made(overlap="buffer", budget=[5, None], attributes={"a": 1}, input={"b": [1, 2]})
    schedule.turn(START + 3 * EVERY)
    codec = Codec()
    stored = codec.decode(codec.encode(schedule.to_map()))
    assert Schedule.from_map({**stored, "of tomorrow": 1}).to_map() == schedule.to_map()
    for damaged in (None, [], {}, {**stored, "when": ["moon"]}, {**stored, "overlap": "x"}, {**stored, "status": 5}):
        with pytest.raises(StoreError):
            Schedule.from_map(damaged)


def test_the_page_names_each_field() -> None:
    """SPEC.md's table of a schedule is the kernel's."""
    text = (Path(__file__).parents[2] / "SPEC.md").read_text().split("### Schedules")[1].split("\n#")[0]
    named = [name for row in re.findall(r"^\| (`.*?`) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(made().to_map())


@pytest.mark.parametrize("late", [0, 1, 1_999, 2_000, 2_001, 3_000, 3_999, 4_000, 10_000])
def test_a_tick_is_started_up_to_the_catch_up_and_not_behind_it(late: int) -> None:
    """The last one that may still be started is exactly so late."""
    schedule = made(catch_up=2_000, overlap="allow")
    now = START + EVERY + late
    started: list[int] = []
    while (turn := schedule.turn(now)).start is not None:
        started.append(next(tick for tick in range(START, now + 1, EVERY) if schedule.run_of(tick) == turn.start))
    assert started == [tick for tick in range(START + EVERY, now + 1, EVERY) if now - tick <= 2_000]
    assert (schedule.missed is not None) == (late > 2_000)


def test_a_tick_that_waits_is_not_started_while_the_schedule_is_paused() -> None:
    """Also once the run that it waited for has ended; it is when the schedule goes on."""
    schedule = made(overlap="buffer")
    first = schedule.turn(START + EVERY).start
    assert first is not None
    assert schedule.turn(START + 2 * EVERY).start is None
    assert schedule.waiting is not None
    waiting, schedule.status = schedule.waiting, "paused"
    schedule.running = []
    assert schedule.turn(START + 2 * EVERY).start is None
    schedule.status = "active"
    assert schedule.turn(START + 2 * EVERY).start == waiting


def test_a_buffer_holds_the_tick_that_came_first() -> None:
    """Later ones are left out while it waits, and counted."""
    schedule = made(overlap="buffer")
    assert schedule.turn(START + EVERY).start == schedule.run_of(START + EVERY)
    for n in (2, 3, 4):
        assert schedule.turn(START + n * EVERY).start is None
        assert (schedule.waiting, schedule.skipped) == (schedule.run_of(START + 2 * EVERY), n - 2)


def test_ticks_of_the_past_are_started_one_behind_the_other() -> None:
    """Unless they were asked for side by side."""
    for beside, first in ((False, 1), (True, 3)):
        schedule = made()
        schedule.filling = [[START, START + 3 * EVERY, beside]]
        schedule.due = None
        started = [schedule.turn(START + EVERY // 2).start for _ in range(3)]
        assert [run is not None for run in started] == [n < first for n in range(3)]
