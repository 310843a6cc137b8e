"""Who is next in a limit: random arrivals, ends, deaths and jumps of the clock, held against what was promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import InvalidInput, StoreError
from alkaline_edge.capacity import Limit
from alkaline_edge.codec import Codec
from alkaline_edge.runtime.limit import MAX_WAITING, Shared

START = 1_700_000_000_000
HOLD = 30_000


def shared(**given: Any) -> Shared:
    made = Shared("m")
    made.set(Limit("m", **given), START)
    return made


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.floats(0.1, 20)),
    st.integers(1, 10),
    st.lists(
        st.tuples(st.sampled_from(["come", "end", "renew", "wait"]), st.integers(0, 8_000), st.integers(0, 5)),
        max_size=80,
    ),
)
def test_no_more_hold_it_and_start_than_the_limit_says(
    concurrency: int | None, rate: float | None, burst: int, moves: list[tuple[str, int, int]]
) -> None:
    """At any moment, and over any stretch of time; and whoever waits longest comes through while there is room."""
    if concurrency is None and rate is None:
        return
    made = shared(concurrency=concurrency, rate=rate, per=2.0, burst=None if rate is None else burst)
    now, starts, names = START, list[int](), 0
    for move, passed, which in moves:
        now += passed
        before = {token for token, _, _ in made.holders}
        made.pass_time(now, now + 4 * HOLD)
        if move == "come":
            names += 1
            assert made.queue(f"t{names}", f"k{which}", which % 2, now, HOLD)
        elif move == "end" and made.holders:
            made.let_go(made.holders[which % len(made.holders)][0])
        elif move == "renew":
            for each in made.holders:
                each[2] = now + HOLD
        made.grant(now + HOLD)
        starts += [now] * len({token for token, _, _ in made.holders} - before)
        assert concurrency is None or len(made.holders) <= concurrency
        if made.waiting and rate is None:
            assert len(made.holders) == concurrency
        opens = made.opens_at(now)
        assert opens is None or opens > now
    if rate is not None:
        for n, first in enumerate(starts):
            for m in range(n, len(starts)):
                assert m - n + 1 <= burst + rate * (starts[m] - first) / 2_000 + 1e-6


def test_the_highest_priority_is_next_and_then_whose_key_holds_least() -> None:
    """And of those who hold the same, the one that had no turn for longest."""
    made = shared(concurrency=1)
    order: list[str] = []
    for n, (key, priority) in enumerate([("a", 0), ("a", 0), ("a", 0), ("b", 0), ("c", 0), ("b", 5)]):
        made.queue(f"{key}{n}", key, priority, START, HOLD)
    while made.waiting:
        made.grant(START + HOLD)
        order.append(made.holders[0][0])
        made.let_go(order[-1])
    assert order == ["b5", "a0", "c4", "b3", "a1", "a2"]


def test_whose_key_holds_least_is_next_though_it_had_the_last_turn() -> None:
    """What counts first is how many places a key holds now."""
    made = shared(concurrency=3)
    for token, key in (("a0", "a"), ("a1", "a")):
        made.queue(token, key, 0, START, HOLD)
    made.grant(START + HOLD)
    made.queue("b2", "b", 0, START, HOLD)
    made.grant(START + HOLD)
    for token, key in (("a3", "a"), ("b4", "b")):
        made.queue(token, key, 0, START, HOLD)
    made.let_go("b2")
    made.grant(START + HOLD)
    assert [token for token, _, _ in made.holders] == ["a0", "a1", "b4"]


def test_a_rate_starts_a_burst_and_then_one_at_a_time() -> None:
    """60 in a minute, of which two at once: the third comes a second later."""
    made = shared(rate=60, per=60, burst=2)
    for n in range(4):
        made.queue(f"t{n}", "", 0, START, HOLD)
    made.grant(START + HOLD)
    assert len(made.holders) == 2
    assert made.opens_at(START) == START + 1_001
    made.pass_time(START + 999, START + 10**9)
    made.grant(START + HOLD)
    assert len(made.holders) == 2
    made.pass_time(START + 1_001, START + 10**9)
    made.grant(START + HOLD)
    assert len(made.holders) == 3
    made.pass_time(START - 10**6, START + 10**9)  # the clock goes back: nothing is gained by that
    made.pass_time(START - 10**6 + 500, START + 10**9)
    made.grant(START + HOLD)
    assert len(made.holders) == 3


def test_who_is_gone_gives_the_place_back_and_a_clock_that_was_ahead_keeps_none() -> None:
    """After the hold, and after four of them."""
    made = shared(concurrency=1)
    made.queue("t1", "", 0, START, HOLD)
    made.grant(START + HOLD)
    made.queue("t2", "", 0, START, 10 * HOLD)
    made.pass_time(START + HOLD - 1, START + 10**9)
    made.grant(START + HOLD)
    assert made.holds("t2") is None
    made.pass_time(START + HOLD, START + 10**9)
    made.grant(START + 10**12)
    assert made.holds("t2") is not None
    made.pass_time(START + HOLD, START + 5 * HOLD)
    made.pass_time(START + 5 * HOLD, START + 9 * HOLD)
    assert made.holders == []


def test_a_queue_has_an_end() -> None:
    """Who comes later waits outside."""
    made = shared(concurrency=1)
    assert all(made.queue(f"t{n}", "", 0, START, HOLD) for n in range(MAX_WAITING))
    assert not made.queue("more", "", 0, START, HOLD)
    assert made.queue("t5", "", 0, START, HOLD)


def test_other_numbers_hold_from_now_on() -> None:
    """Who holds it goes on, and no burst is given away anew."""
    made = shared(concurrency=3, rate=10)
    for n in range(3):
        made.queue(f"t{n}", "", 0, START, HOLD)
    made.grant(START + HOLD)
    made.set(Limit("m", concurrency=1, rate=100), START)
    assert len(made.holders) == 3
    assert made.parts == 7_000_000
    back = Shared.from_map(Codec().decode(Codec().encode(made.to_map())), "v")
    assert back.to_map() == made.to_map()
    with pytest.raises(StoreError):
        Shared.from_map([], "v")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"concurrency": 0}, {"concurrency": 1.5}, {"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"rate": 10**7},
     {"rate": 1, "per": 0}, {"rate": 1, "burst": 0}, {"concurrency": True}, {"rate": "fast"}],
)  # fmt: skip
def test_what_limits_nothing_or_lets_nobody_through_is_refused(wrong: dict[str, Any]) -> None:
    """A limit of 0, and what is no number."""
    with pytest.raises(InvalidInput, match=r"limit|Limit"):
        Limit("m", **wrong)


def test_whoever_gives_up_waiting_is_let_through_no_more() -> None:
    """The place goes to the one behind, and not to nobody."""
    made = shared(concurrency=1)
    for n in range(3):
        made.queue(f"t{n}", "", 0, START, HOLD)
    made.grant(START + HOLD)
    made.let_go("t1")
    made.let_go("t0")
    made.grant(START + HOLD)
    assert [each[0] for each in made.holders] == ["t2"]


def test_whoever_waits_long_and_says_so_keeps_its_place_in_the_queue() -> None:
    """Asked again once half of the hold has passed, it is there for another one; who says nothing is forgotten."""
    made = shared(concurrency=1)
    for token in ("holds", "waits", "is gone"):
        made.queue(token, "", 0, START, HOLD)
    made.grant(START + 10 * HOLD)
    made.queue("waits", "", 0, START + HOLD // 2 + 1, HOLD)
    made.pass_time(START + HOLD, START + 10 * HOLD)
    assert [each[0] for each in made.waiting] == ["waits"]
