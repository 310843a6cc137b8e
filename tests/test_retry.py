"""Retry: how long a step waits after a failure, which failures are tried again, and what is no policy."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, StoreError, workflow
from alkaline_edge.retry import ONCE
from tests.support import Process, drive

INF, NAN = float("inf"), float("nan")


def test_the_wait_grows_by_the_factor_up_to_the_cap() -> None:
    """Seconds after attempt 1, 2, 3, and so on; whatever the attempt's number is, there is a wait."""
    policy = Retry(max_attempts=10, backoff=0.5, factor=3, cap=10)
    assert [policy.delay(n) for n in (1, 2, 3, 4, 5)] == [0.5, 1.5, 4.5, 10, 10]
    assert policy.delay(10**4) == 10  # a power beyond all floats
    assert Retry(backoff=0, factor=1e299).delay(3) == 0


def test_a_wait_costs_the_same_at_every_attempt() -> None:
    """A whole factor is a float here: as an int its power had a million digits at the millionth attempt."""
    policy = Retry(max_attempts=10**9, backoff=1, factor=10, cap=60)
    tracemalloc.start()
    try:
        assert policy.delay(10**6) == policy.delay(10**9) == 60
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


def test_which_failures_are_tried_again() -> None:
    """Every Exception that is none of the kernel's; as many attempts as there may be; only what the predicate takes."""
    policy = Retry(max_attempts=3)
    assert [policy.wants(ValueError(), n) for n in (1, 2, 3)] == [True, True, False]
    assert not policy.wants(StoreError("full"), 1)
    assert not policy.wants(SystemExit(), 1)
    assert not ONCE.wants(ValueError(), 1)
    picky = Retry(max_attempts=3, retryable=lambda error: isinstance(error, (ConnectionError, StoreError)))
    assert [picky.wants(error, 1) for error in (ConnectionError(), StoreError("x"), ValueError())] == [
        True,
        True,
        False,
    ]
    assert not picky.wants(KeyboardInterrupt(), 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0}, {"max_attempts": NAN}, {"max_attempts": "3"}, {"max_attempts": None},
        {"max_attempts": True},
        {"backoff": INF, "cap": INF}, {"backoff": NAN}, {"backoff": -1}, {"backoff": "1"}, {"backoff": True},
        {"cap": NAN}, {"cap": -1}, {"cap": None}, {"factor": 0.5}, {"factor": NAN}, {"factor": INF}, {"factor": "2"},
        {"retryable": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_policy_that_cannot_be_followed_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    """Not when the first attempt has failed."""
    with pytest.raises(InvalidInput):
        Retry(**{"max_attempts": 3, **wrong})


def test_a_retryable_that_raises_ends_the_step_with_its_own_error() -> None:
    """It is logged where it happened; the step is not tried again, in this process or the next."""
    ran: list[int] = []

    @workflow
    async def flow(ctx: Context) -> Any:
        def fail() -> None:
            ran.append(1)
            raise ConnectionError("down")

        await ctx.step(fail, retry=Retry(max_attempts=3, backoff=0, retryable=lambda error: bool(1 // 0)))

    process = Process(flow)

    async def test() -> None:
        run = await process.runtime.start(flow, id="a")
        with pytest.raises(ConnectionError, match="down"):
            await run.result()
        assert ran == [1]

    drive(test)
