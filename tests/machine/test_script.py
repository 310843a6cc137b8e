"""The script: the recorded values ahead of a handler, and what it draws beyond them."""

from __future__ import annotations

import pytest

from alkaline_edge import BudgetExceeded, DeterminismError
from alkaline_edge import events as ev
from alkaline_edge.budget import Account, Purse
from alkaline_edge.machine.script import Script


def script(limit: int | None = None) -> Script:
    return Script(Purse([Account("a", limit, None)]), lambda error: error, lambda: "flow, line 1")


def drawn(what: str, value: object) -> tuple[int, ev.Event]:
    return 1, ev.Drawn(ev.DRAWN, what, value)


def test_a_value_is_that_of_the_history_and_beyond_it_a_new_one() -> None:
    """The new one is to be committed; that of the history is not made again."""
    one = script()
    one.read([drawn("random", 0.25)], more=False, quiet=False)
    assert one.replaying
    assert one.draw("random", lambda: pytest.fail("drawn anew")) == 0.25
    assert not one.replaying
    assert one.draw("now", lambda: 5) == 5
    assert one.drawn == [ev.Drawn(ev.DRAWN, "now", 5)]
    assert one.position == 2


def test_another_value_than_the_code_asks_for_is_a_divergence() -> None:
    """Named by both sides."""
    one = script()
    one.read([drawn("random", 0.25)], more=False, quiet=False)
    with pytest.raises(DeterminismError, match=r"ctx\.now\(\)"):
        one.draw("now", lambda: 5)


def test_values_behind_the_last_event_of_a_page_are_looked_for_on_the_next() -> None:
    """The event that wakes the handler is held back with them."""
    one = script()
    fired = (1, ev.TimerFired(ev.TIMER_FIRED, "1"))
    one.read([fired], more=True, quiet=False)
    assert not one.events
    one.read([drawn("random", 0.5)], more=False, quiet=False)
    assert [event for _, event in one.events] == [fired[1], ev.Drawn(ev.DRAWN, "random", 0.5)]


def test_a_patch_is_decided_when_a_run_first_comes_to_it() -> None:
    """New in a new run; old where the history goes on without it; and the same again at each call."""
    new, old = script(), script()
    assert new.patched("faster")
    assert new.patched("faster")
    assert new.drawn == [ev.Drawn(ev.DRAWN, "patched", "faster")]
    old.read([(1, ev.TimerFired(ev.TIMER_FIRED, "1"))], more=False, quiet=False)
    assert not old.patched("faster")
    assert old.drawn == []


def test_spending_over_the_budget_raises_where_it_raised_before() -> None:
    """And is recorded as having done so."""
    live = script(limit=10)
    with pytest.raises(BudgetExceeded):
        live.spend(11, 0, "tool")
    assert live.drawn == [ev.Spent(ev.SPENT, 11, 0, "tool", True, None)]
    again = script(limit=10)
    again.read([(1, live.drawn[0])], more=False, quiet=False)
    with pytest.raises(BudgetExceeded):
        again.spend(11, 0, "tool")
    assert again.purse.tokens == 11


def test_an_emission_that_the_history_has_is_not_recorded_twice() -> None:
    """The handler repeats those behind the last event that woke it; the next one is new."""
    one = script()
    page = [(1, ev.TimerFired(ev.TIMER_FIRED, "1"))]
    one.saw_emission(page)
    one.read(page, more=False, quiet=False)
    one.events.clear()
    one.emit("t", 1)
    assert one.drawn == []
    one.emit("t", 2)
    assert one.drawn == [ev.Emitted(ev.EMITTED, "t", 2)]
