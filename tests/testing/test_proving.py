"""Proofs: a good workflow passes at every commit, and each kind of bad one is found, with the place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import pytest

from alkaline_edge import Budget, Context, InvalidInput, Retry, workflow
from alkaline_edge.testing import Proof, Trial, prove
from alkaline_edge.workflows import Workflow


def run(proof: Awaitable[Proof]) -> Proof:
    async def timed() -> Proof:
        return await asyncio.wait_for(proof, 60)

    return asyncio.run(timed())


@workflow
async def order(ctx: Context, item: str) -> dict[str, Any]:
    reserved = await ctx.step("reserve", str.upper, item, compensate=lambda: None)
    await ctx.sleep(3600)
    paid = await ctx.wait_for_signal("paid", timeout=7 * 86_400, default=None)
    if paid is None:
        raise TimeoutError("not paid")
    sent = await ctx.map(lambda each: ctx.step("send", str, each), [1, 2, 3])
    return {"item": reserved, "paid": paid, "sent": sent, "by": ctx.now().year}


@pytest.mark.parametrize("paid", [{"paid": 5}, {}])
def test_a_good_workflow_is_proved_at_every_commit(paid: dict[str, Any]) -> None:
    """Killed before and behind each, it comes to the same end, be that a result or a failure that is undone."""
    proof = run(prove(order, "pen", signals=paid))
    assert proof.crashes == 2 * proof.commits
    assert proof.commits >= 4
    assert proof.steps["reserve"] == 1
    assert proof.steps.get("compensate reserve", 0) == (0 if paid else 1)


def test_children_budgets_retries_and_new_histories_are_proved() -> None:
    """What a handler may do, in one."""

    @workflow
    async def part(ctx: Context, n: int) -> int:
        return await ctx.step("double", lambda n: n * 2, n, cost=3)

    @workflow(budget=Budget(tokens=100))
    async def whole(ctx: Context, n: int) -> int:
        got: int = await ctx.child(part, n)
        ctx.spend(2)
        if n < 2:
            ctx.continue_as_new(n + 1)
        return got

    proof = run(prove(whole, 1, workflows=[part]))
    assert proof.steps == {"double": 2}


def test_a_script_does_what_signals_do_not() -> None:
    """It is begun again after a crash, and each of its acts counts once."""

    @workflow
    async def talk(ctx: Context) -> list[Any]:
        return [await ctx.wait_for_signal("say") for _ in range(3)]

    async def script(trial: Trial) -> None:
        call = await trial.start(talk)
        for word in ("a", "b", "c"):
            await call.signal("say", word)
        assert await call.result() == ["a", "b", "c"]

    assert run(prove(talk, script=script)).commits >= 3


def test_a_handler_whose_end_hangs_on_the_process_is_found() -> None:
    """Here a counter outside of the run: what it says differs in the next process."""
    calls: list[int] = []

    @workflow
    async def counting(ctx: Context) -> int:
        calls.append(1)
        await ctx.step("a", str, 1)
        return len(calls)

    with pytest.raises(AssertionError, match=r"ends by something that is not recorded"):
        run(prove(counting))


def test_another_end_behind_a_crash_is_told_with_its_place() -> None:
    """Here a step that asks how often it was begun."""
    calls: list[int] = []

    @workflow
    async def asking(ctx: Context) -> int:
        return await ctx.step("a", lambda: calls.append(1) or len(calls))

    async def script(trial: Trial) -> None:
        calls.clear()
        await (await trial.start(asking)).result()

    def once(trial: Trial) -> Any:
        return (script if not calls else _join)(trial)

    async def _join(trial: Trial) -> None:
        await (await trial.start(asking)).result()

    with pytest.raises(AssertionError, match=r"killed before commit \d of \d, run run-of-asking-1 ended as completed"):
        run(prove(asking, script=once))


def test_a_handler_that_does_not_replay_is_found() -> None:
    """Here by a step whose name is drawn by chance."""
    chance = random.Random(1)

    @workflow
    async def guessing(ctx: Context) -> None:
        await ctx.step(f"step {chance.random()}", str, 1)
        await ctx.step("b", str, 1)

    with pytest.raises(AssertionError, match=r"does not go on|something is left|disagree"):
        run(prove(guessing))


def test_what_is_left_is_found() -> None:
    """A run that nobody ends."""

    @workflow
    async def waiting(ctx: Context) -> None:
        await ctx.wait_for_signal("never")

    async def script(trial: Trial) -> None:
        await (await trial.start(waiting)).settle()

    with pytest.raises(AssertionError, match="waits for signal never"):
        run(prove(waiting, script=script))


def test_results_by_chance_are_compared_as_the_test_says() -> None:
    """What is drawn and was not recorded is drawn anew, which is no fault."""

    @workflow
    async def rolling(ctx: Context) -> float:
        number = ctx.random()
        await ctx.step("a", str, number)
        return number

    run(prove(rolling, same=lambda one, other: isinstance(other, float)))


def test_some_commits_alone() -> None:
    """By their numbers."""
    assert run(prove(order, "pen", signals={"paid": 1}, crash_at=[1, 3])).crashes == 4


@pytest.mark.parametrize(
    "wrong",
    [{"crash_at": "each"}, {"crash_at": [0]}, {"crash_at": [1_000]}, {"script": 5}, {"same": 5}, {"stubs": 5}],
)
def test_what_can_not_be_proved_is_bad_input(wrong: dict[str, Any]) -> None:
    """With its name."""
    with pytest.raises(InvalidInput):
        run(prove(order, "pen", **wrong))
    with pytest.raises(InvalidInput):
        run(prove("order"))  # type: ignore[arg-type]


def test_a_step_that_is_retried_is_no_step_that_was_sent_twice() -> None:
    """Attempts that failed may be begun again, before and behind a crash."""

    @workflow
    async def stubborn(ctx: Context) -> str:
        try:
            await ctx.step("a", int, "x", retry=Retry(max_attempts=3, backoff=5))
        except ValueError:
            return await ctx.step("b", str, 1)
        return ""

    proof = run(prove(stubborn))
    assert proof.steps == {"a": 3, "b": 1}


def test_a_proof_says_nothing(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """That processes were killed is what was asked for: neither the log nor stderr speaks of it."""
    run(prove(order, "pen", signals={"paid": 5}))
    assert "SimulatedCrash" not in caplog.text
    assert capsys.readouterr().err == ""


def test_the_exception_handler_of_the_loop_is_given_back() -> None:
    """A proof leaves the loop as it was."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        mine = lambda loop, context: None  # noqa: E731
        loop.set_exception_handler(mine)
        await prove(order, "pen", crash_at=[2])
        assert loop.get_exception_handler() is mine

    asyncio.run(test())


_: Workflow = order
