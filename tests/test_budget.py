"""Budgets and purses: what is charged, held and refused, exactly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alkaline_edge import Budget, BudgetExceeded, InvalidInput
from alkaline_edge.budget import Account, Purse, micros

NAN = float("nan")


def purse(tokens: int | None = 100, micro_usd: int | None = None) -> Purse:
    return Purse([Account("0" * 12, tokens, micro_usd)])


@pytest.mark.parametrize(
    "wrong", [{"tokens": -1}, {"tokens": 1.5}, {"tokens": "9"}, {"usd": NAN}, {"usd": -1}, {"usd": "1"}]
)
def test_a_budget_that_is_no_amount_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is made."""
    with pytest.raises(InvalidInput):
        Budget(**wrong)


@pytest.mark.parametrize("seed", range(5))
def test_money_is_whole_micro_dollars(seed: int) -> None:
    """Sums are the same in any order, which those of floats are not."""
    draw = random.Random(seed)
    charges = [draw.random() for _ in range(50)]
    shuffled = draw.sample(charges, len(charges))
    assert sum(map(micros, charges)) == sum(map(micros, shuffled))
    assert (micros(None), micros(0.000_000_4), micros(1.5)) == (0, 0, 1_500_000)


def test_a_charge_goes_to_every_account_and_is_booked_even_where_it_goes_over() -> None:
    """It has been spent. ``over`` says so afterwards, with the numbers."""
    own, above = Account("a", 10, None), Account("b", None, 5)
    both = Purse([own, above])
    both.charge(11, 7)
    assert (own.tokens, own.micros, above.tokens, above.micros) == (11, 7, 11, 7)
    assert both.spent() == {"tokens": 11, "usd": 0.000_007}
    error = both.over("a step")
    assert error is not None
    assert error.detail == {"unit": "tokens", "limit": 10, "spent": 11}


def test_what_is_held_for_steps_in_flight_counts_until_it_is_given_back() -> None:
    """``check`` refuses before anything is started; exactly the limit is allowed."""
    held = purse(100)
    held.charge(40, 0)
    held.reserve(50, 0)
    held.check(10, 0, "a step")
    with pytest.raises(BudgetExceeded, match="50 reserved by steps in flight") as refused:
        held.check(11, 0, "a step")
    assert refused.value.detail["wanted"] == 11
    held.reserve(-50, 0)
    held.check(60, 0, "a step")
    assert held.over("a step") is None


def test_totals_of_shared_accounts_replace_what_was_known() -> None:
    """What others have spent is known as of the last commit; the run's own charges stay its own."""
    shared = Purse([Account("a", 100, None), Account("b", 100, None)], shared=True)
    shared.charge(5, 0)
    shared.observe([[70, 1], [80, 2]])
    assert [(a.tokens, a.micros) for a in shared.accounts] == [(70, 1), (80, 2)]
    assert shared.tokens == 5
    with pytest.raises(BudgetExceeded, match="80 of 100"):
        shared.check(21, 0, "a step")


def test_money_is_held_to_its_limit_as_tokens_are() -> None:
    """Before a charge and behind it, each in its own unit, also where tokens have none."""
    held = purse(None, 100)
    held.charge(10**9, 40)
    held.reserve(0, 50)
    held.check(10**9, 10, "a step")
    with pytest.raises(BudgetExceeded, match="11 micro-usd") as refused:
        held.check(0, 11, "a step")
    assert refused.value.detail["unit"] == "micro-usd"
    held.charge(0, 60)
    assert held.over("a step") is None
    held.charge(0, 1)
    error = held.over("a step")
    assert error is not None
    assert error.detail == {"unit": "micro-usd", "limit": 100, "spent": 101}
