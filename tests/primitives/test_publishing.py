"""What steps publish while they run: heard in its place by who listens, bounded, and recorded nowhere."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
from typing import Any

import pytest

from alkaline_edge import Context, Followed, InvalidInput, Retry, Runtime, StepInfo, in_thread, workflow
from alkaline_edge.lifecycle import Published
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts.memory import MemoryHost
from tests.support import Process, drive


async def speak(words: list[str], info: StepInfo) -> str:
    for word in words:
        info.publish("token", word)
        await asyncio.sleep(0)
    return " ".join(words)


@in_thread
def speak_in_a_thread(words: list[str], info: StepInfo) -> str:
    for word in words:
        info.publish("token", word)
    return " ".join(words)


@workflow
async def speaking(ctx: Context, words: list[str]) -> Any:
    first = await ctx.step("speak", speak, words)
    return [first, await ctx.step("thread", speak_in_a_thread, words)]


def test_what_steps_publish_is_heard_before_what_they_return_and_recorded_nowhere() -> None:
    """In order, by whoever follows live and by on_event; a history and a replay have nothing of it."""

    async def test() -> None:
        told: list[Any] = []
        async with Runtime(MemoryHost(), workflows=[speaking], on_event=told.append) as runtime:
            run = await runtime.start(speaking, ["a", "b", "c"], id="s")
            heard = [each async for each in runtime.follow("s", live=True)]
            assert await run.result() == ["a b c", "a b c"]
            places = [
                (each.name, each.data) if isinstance(each, Published) else type(each.event).__name__ for each in heard
            ]
            spoken = [[(name, word) for word in "abc"] for name in ("speak", "thread")]
            assert places == ["Started", *spoken[0], "StepCompleted", *spoken[1], "StepCompleted", "Completed"]
            assert [each.data for each in told if isinstance(each, Published)] == list("abcabc")
            assert "token" not in str(await runtime.history("s"))
            assert len([each async for each in runtime.follow("s", live=True)]) == 4
            assert await runtime.export("s")
            assert not runtime._teller.followed

    drive(test)


def test_what_is_published_is_bounded_and_its_own() -> None:
    """Too much, or what can't be stored, is refused where it is given; what changes later changes nothing."""
    refusals: list[str] = []

    async def too_much(info: StepInfo) -> None:
        for topic, data in (("x", "y" * 70_000), ("x", object()), ("", 1), (7, 1)):
            try:
                info.publish(topic, data)  # type: ignore[arg-type]
            except InvalidInput as error:
                refusals.append(str(error))
        kept = [1]
        info.publish("list", kept)
        kept.append(2)

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.step("s", too_much)

    async def test() -> None:
        process = Process(flow)
        await (await process.runtime.start(flow, id="r")).result()
        assert len(refusals) == 4
        assert "65,536 bytes" in refusals[0]
        assert [each.data for each in process.events if isinstance(each, Published)] == [[1]]
        await process.runtime.close()

    drive(test)


def test_a_slow_follower_loses_the_oldest_of_what_was_published_and_no_event() -> None:
    """5,000 tokens while nobody reads: the last 1,000 of them are there, and the whole history."""

    async def much(info: StepInfo) -> int:
        for n in range(5_000):
            info.publish("n", n)
        return 5_000

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.step("much", much)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            run = await runtime.start(flow, id="r")
            following = runtime.follow("r", live=True)
            first = await anext(following)
            assert isinstance(first, Followed)
            await run.result()
            rest = [each async for each in following]
            assert [each.data for each in rest if isinstance(each, Published)] == list(range(4_000, 5_000))
            assert len([each for each in rest if isinstance(each, Followed)]) == 2

    drive(test)


def test_a_step_info_is_a_plain_value_all_the_same() -> None:
    """Copied, pickled, shown and compared without what it publishes by; one made by hand publishes to nobody."""
    kept: list[StepInfo] = []

    async def keep(info: StepInfo) -> None:
        kept.append(info)

    @workflow
    async def flow(ctx: Context) -> None:
        await ctx.step("s", keep)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            await (await runtime.start(flow, id="r")).result()

    drive(test)
    info = kept[0]
    own = StepInfo(**dataclasses.asdict(info))
    own.publish("x", 1)
    dataclasses.replace(info, attempt=2).publish("x", 1)
    assert own == copy.deepcopy(info) == pickle.loads(pickle.dumps(info))
    assert type(copy.copy(info)) is StepInfo
    assert repr(info).endswith(repr(own)[len("StepInfo") :])
    assert "_publisher" not in repr(info)


def test_what_a_failed_attempt_published_stands_in_front_of_its_failure() -> None:
    """And what the next one publishes behind it; of parallel steps, each in front of its own result."""

    async def flaky(name: str, info: StepInfo) -> str:
        info.publish("try", f"{name}{info.attempt}")
        await asyncio.sleep(0)
        if info.attempt == 1:
            raise ValueError("once more")
        return name

    @workflow
    async def flow(ctx: Context) -> Any:
        return await ctx.map(
            lambda name: ctx.step(name, flaky, name, retry=Retry(max_attempts=2, backoff=1)), ["a", "b"]
        )

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            run = await runtime.start(flow, id="r")
            heard = [each async for each in runtime.follow("r", live=True)]
            assert await run.result() == ["a", "b"]
            for name in "ab":
                own = [
                    each.data if isinstance(each, Published) else type(each.event).__name__
                    for each in heard
                    if (each.name if isinstance(each, Published) else getattr(each.event, "name", "")) == name
                ]
                assert own == [f"{name}1", "AttemptFailed", f"{name}2", "StepCompleted"]

    drive(test)


def test_who_begins_a_run_by_following_it_misses_nothing_of_it() -> None:
    """The start comes once the follower hears: each token of the first step is there; what it raises is raised."""

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[speaking]) as runtime:
            for id in ("a", "b"):
                following = runtime.follow(
                    id, live=True, begin=lambda name=id: runtime.start(speaking, ["x", "y"], id=name)
                )
                heard = [each.data async for each in following if isinstance(each, Published)]
                assert heard == ["x", "y", "x", "y"]
            with pytest.raises(InvalidInput):
                await anext(runtime.follow("c", begin=lambda: runtime.start(speaking, object(), id="c")))  # type: ignore[arg-type]
            assert not runtime._teller.followed

    drive(test)
