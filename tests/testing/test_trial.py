"""The kit for testing workflows: trials with stubs and virtual time, runs that are given, and what must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, StepInfo, workflow
from alkaline_edge import events as ev
from alkaline_edge.testing import Trial, assert_replays

DAY = 86_400


def search(topic: str) -> list[str]:
    raise AssertionError("a test must not search")


async def publish(text: str, info: StepInfo) -> str:
    raise AssertionError("a test must not publish")


def withdraw(where: str) -> None:
    raise AssertionError("a test must not withdraw")


@workflow
async def article(ctx: Context, topic: str) -> str:
    found: list[str] = await ctx.step(search, topic, retry=Retry(max_attempts=3, backoff=60))
    await ctx.sleep(30 * DAY)
    where: str = await ctx.step("publish", publish, ", ".join(found), compensate=withdraw)
    if not await ctx.wait_for_signal("approved", timeout=DAY, default=False):
        raise ValueError("nobody approved it")
    return where


def drive(test: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(test(), 20))


def test_stubs_stand_in_by_name_and_a_month_takes_no_time() -> None:
    """A value, a function with the step's parameters, and its StepInfo; what was sent is there to be looked at."""

    async def test() -> None:
        keys: list[str] = []

        def published(text: str, info: StepInfo) -> str:
            keys.append(info.idempotency_key)
            return f"page of {text}"

        async with Trial(article, stubs={"search": ["a", "b"], "publish": published}) as trial:
            begun = trial.host.clock.now_ms
            run = await trial.start(article, "x")
            await run.signal("approved", True)
            assert await run.result() == "page of a, b"
            assert trial.host.clock.now_ms - begun >= 30 * DAY * 1000
            assert [(one.step, one.args, one.attempt) for one in trial.sent] == [
                ("search", ("x",), 1),
                ("publish", ("a, b",), 1),
            ]
            assert keys == [trial.sent[1].key]
            await trial.assert_nothing_left()
            trial.assert_sent_once()
            await trial.assert_replays()

    drive(test)


def test_a_stub_may_fail_as_often_as_it_says() -> None:
    """An error that is given is raised at each attempt; a function decides by itself. Compensation has a name too."""

    async def test() -> None:
        tries = iter([OSError("down"), OSError("still down"), ["a"]])

        def flaky(topic: str) -> Any:
            one = next(tries)
            if isinstance(one, Exception):
                raise one
            return one

        stubs = {"search": flaky, "publish": "p", "compensate publish": None}
        async with Trial(article, stubs=stubs) as trial:
            with pytest.raises(ValueError, match="nobody approved"):
                await (await trial.start(article, "x")).result()
            assert [(one.step, one.attempt) for one in trial.sent][:3] == [("search", 1), ("search", 2), ("search", 3)]
            assert trial.sent[-1][1:2] + trial.sent[-1].args == ("compensate publish", "p")
            await trial.assert_nothing_left()
        async with Trial(article, stubs={"search": ConnectionError("no")}) as trial:
            with pytest.raises(ConnectionError):
                await (await trial.start(article, "x")).result()
            assert len(trial.sent) == 3

    drive(test)


def test_what_is_left_is_told() -> None:
    """A run that waits, and for what; a stub that no step has wanted."""

    async def test() -> None:
        async with Trial(article, stubs={"search": [], "publish": "p", "serach": 1}) as trial:
            run = await trial.start(article, "x")
            await run.settle()
            with pytest.raises(AssertionError) as left:
                await trial.assert_nothing_left()
            assert "run-of-article-1 is suspended, and waits for timer sleep" in str(left.value)
            assert "the stub 'serach' was not wanted" in str(left.value)

    drive(test)


def test_with_stubs_alone_nothing_real_is_called() -> None:
    """A step without a stub is an error in the handler that names it."""

    async def test() -> None:
        async with Trial(article, stubs={"search": []}, only_stubs=True) as trial:
            with pytest.raises(InvalidInput, match="step 'compensate publish' has no stub"):
                await (await trial.start(article, "x")).result()

    drive(test)


def test_a_run_goes_on_after_a_crash_and_sends_nothing_twice() -> None:
    """Also where the code was changed between the two processes; it is joined by the same start."""

    async def test() -> None:
        async with Trial(article, stubs={"search": ["a"], "publish": "p"}) as trial:
            await (await trial.start(article, "x")).settle()
            await trial.crash()
            run = await trial.start(article, "x")
            await run.signal("approved", True)
            assert await run.result() == "p"
            assert [one.step for one in trial.sent] == ["search", "publish"]
            trial.assert_sent_once()

    drive(test)


def test_a_step_that_was_sent_twice_is_told() -> None:
    """The assertion can fail: here the store forgets what was committed."""

    async def test() -> None:
        async with Trial(article, stubs={"search": ["a"], "publish": "p"}) as trial:
            kept = dict(trial.host.store.entries)
            keys = list(trial.host.store.keys)
            run = await trial.start(article, "x")
            await run.settle()
            one = trial.sent[0]
            trial._stubs.around("search", lambda topic: topic)(
                "x", alkaline_step=StepInfo(run.id, "search", one.command, 2, one.key)
            )
            with pytest.raises(AssertionError, match="step 'search' of run run-of-article-1"):
                trial.assert_sent_once()
            assert kept is not keys

    drive(test)


def test_a_run_that_is_given_goes_on_where_it_was() -> None:
    """From a bundle, with its time, and with other code that fits; its steps are not sent again."""

    async def test() -> None:
        async with Trial(article, stubs={"search": ["a"], "publish": "p"}) as trial:
            run = await trial.start(article, "x", id="exe_1")
            await run.settle()
            history = await trial.history("exe_1")
            before = trial.host.clock.now_ms
        async with Trial(article, stubs={"publish": "elsewhere"}) as trial:
            trial.host.advance(-1_000_000)
            run = await trial.given(history)
            assert trial.host.clock.now_ms >= before
            await run.signal("approved", True)
            assert await run.result() == "elsewhere"
            assert [one.step for one in trial.sent] == ["publish"]
            await trial.assert_nothing_left()
            recorded = await trial.runtime.history("exe_1")
            assert sum(isinstance(each.event, ev.StepCompleted) for each in recorded) == 2

    drive(test)


def test_a_history_that_the_code_does_not_go_on_with_is_told_with_its_mend() -> None:
    """For histories that are kept beside the tests."""

    @workflow(name="article")
    async def changed(ctx: Context, topic: str) -> str:
        return str(await ctx.step("look", search, topic))

    async def test() -> bytes:
        async with Trial(article, stubs={"search": ["a"], "publish": "p"}) as trial:
            await (await trial.start(article, "x")).settle()
            return await trial.history("run-of-article-1")

    history: bytes = drive(test)
    assert_replays(history, article)
    with pytest.raises(AssertionError, match=r"to mend it: ask for step 'look' only `if ctx\.patched\(\"look\"\)`"):
        assert_replays(history, changed)


def test_children_and_parallel_steps_are_watched_too() -> None:
    """A child that is named by its workflow is the one on trial."""

    @workflow
    async def part(ctx: Context, n: int) -> int:
        return await ctx.step("double", lambda n: n * 2, n)

    @workflow
    async def whole(ctx: Context, n: int) -> list[int]:
        one = await ctx.child(part, n)
        return [one, *await ctx.map(lambda each: ctx.step("half", lambda each: each // 2, each), [4, 6])]

    async def test() -> None:
        async with Trial(whole, part, stubs={"double": 7}) as trial:
            assert await (await trial.start(whole, 1)).result() == [7, 2, 3]
            assert sorted(one.step for one in trial.sent) == ["double", "half", "half"]
            await trial.assert_nothing_left()
            await trial.assert_replays()

    drive(test)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Trial(search),  # type: ignore[arg-type]
        lambda: Trial(article, stubs=["search"]),  # type: ignore[arg-type]
        lambda: Trial(article, stubs={5: 1}),  # type: ignore[dict-item]
        lambda: Trial(article, only_stubs=1),  # type: ignore[arg-type]
        lambda: Trial(article, host="memory"),  # type: ignore[arg-type]
    ],
)
def test_what_a_trial_can_not_be_made_of_is_bad_input(wrong: Callable[[], Any]) -> None:
    """At once."""
    with pytest.raises(InvalidInput):
        wrong()
