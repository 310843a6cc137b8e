"""Limits: each is refused by name at its border, and not below it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Capabilities, Check, Put
from alkaline_edge.limits import MAX_SECONDS, check_batch, check_charge, check_key, check_seconds

SMALL = Capabilities("a store", max_key=8, max_value=10, max_batch_bytes=15, max_batch_keys=3)
ID = "0" * 16


def batch(*sizes: int, deletes: tuple[str, ...] = (), checks: tuple[Check, ...] = ()) -> Batch:
    return Batch(ID, checks, tuple(Put(f"k{n}", bytes(size)) for n, size in enumerate(sizes)), deletes)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (batch(11), "max_value=10"),
        (batch(8, 8), "max_batch_bytes=15"),
        (batch(1, 1, 1, 1), "max_batch_keys=3"),
        (batch(1, deletes=("a", "b", "c")), "max_batch_keys=3"),
        (batch(1, deletes=("k0",)), "twice"),
        (batch(1, deletes=("a b",)), "printable"),
        (Batch(ID, (), (Put("k" * 9, b""),)), "max_key=8"),
        (Batch(ID, (Check("k" * 9, None),)), "max_key=8"),
    ],
)
def test_a_batch_over_a_limit_is_refused_by_its_name(given: Batch, named: str) -> None:
    """Before anything is written; the message says so."""
    with pytest.raises(InvalidInput, match=named):
        check_batch(given, SMALL)


def test_a_batch_at_its_limits_passes() -> None:
    """Each limit is the most that is taken; checks are refused where a store has none."""
    check_batch(batch(10, 5, 0, checks=(Check("k0", None),)), SMALL)
    with pytest.raises(StoreError, match="no conditional commits"):
        check_batch(batch(1, checks=(Check("k0", None),)), replace(SMALL, conditional=False))


@pytest.mark.parametrize("key", ["", "a b", "é", "a\n", "a\0"])
def test_a_key_is_printable_ascii(key: str) -> None:
    """Without spaces, and not empty."""
    with pytest.raises(InvalidInput):
        check_key(key, 512)


@pytest.mark.parametrize(
    "wrong", [-1, float("nan"), float("inf"), MAX_SECONDS * 1.1, "5", b"5", True, None, [], 10**400]
)
def test_seconds_are_a_number_in_a_range(wrong: Any) -> None:
    """Or a timedelta; what is none is named by what it is for."""
    with pytest.raises(InvalidInput, match="a sleep"):
        check_seconds(wrong, "a sleep")
    assert check_seconds(timedelta(minutes=1), "a sleep") == 60.0
    assert check_seconds(MAX_SECONDS, "a sleep") == MAX_SECONDS


def test_a_charge_is_whole_tokens_and_finite_money() -> None:
    """Neither is below 0."""
    check_charge(0, None, "a charge")
    check_charge(2**53, 0.5, "a charge")
    for tokens, usd in (
        (-1, None),
        (1.0, None),
        (True, None),
        (2**53 + 1, None),
        (0, -0.1),
        (0, float("nan")),
        (0, "1"),
    ):
        with pytest.raises(InvalidInput, match="a charge"):
            check_charge(tokens, usd, "a charge")
