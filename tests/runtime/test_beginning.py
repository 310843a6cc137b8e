"""An async step begins at once, in a task of its own: what never waits is over without a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.runtime.effects import Raised, begin, settled
from alkaline_hosts.memory import MemoryHost
from tests.support import drive

PLACE: ContextVar[str] = ContextVar("place", default="outside")


async def same_by_ensure_future(make: Callable[[], Any], cancel: bool) -> Any:
    return await outcome(asyncio.ensure_future(settled(make())), cancel)


async def outcome(task: asyncio.Future[Any], cancel: bool) -> Any:
    """What the attempt came to, in words; ``cancel``: it is told to stop before the loop's next turn."""
    if cancel:
        task.cancel("stop")
    try:
        value = await task
    except asyncio.CancelledError:
        return "cancelled"
    return type(value.error).__name__ if isinstance(value, Raised) else value


def test_what_never_waits_is_over_at_once_in_a_task_and_a_context_of_its_own() -> None:
    """It may set context variables, and ask which task it runs in, as in any task."""
    asked: list[Any] = []

    async def work() -> str:
        asked.append(asyncio.current_task())
        PLACE.set("inside")
        return "done"

    async def test() -> None:
        own = asyncio.current_task()
        task = begin(settled(work()), asyncio.get_running_loop())
        assert task.done()
        assert task.result() == "done"
        assert asked[0] is not own
        assert isinstance(asked[0], asyncio.Task)
        assert asyncio.current_task() is own
        assert PLACE.get() == "outside"
        await asyncio.sleep(0)
        assert asked[0] not in asyncio.all_tasks()

    drive(test)


async def sleeps() -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return "slept"


async def times_out() -> str:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(30)
    return "late"


async def fails_in_a_group() -> str:
    async def fail() -> None:
        raise ValueError("no")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await asyncio.sleep(30)
    return "never"


async def cleans_up() -> str:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return "cleaned up"
    return "never"


async def awaits_what_cleans_up() -> str:
    return "by way of " + await asyncio.ensure_future(cleans_up())


async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(30)
    return "never"


async def raises() -> None:
    raise KeyError("no")


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize(
    "make", [sleeps, times_out, fails_in_a_group, cleans_up, awaits_what_cleans_up, cancels_itself, raises]
)
def test_what_waits_comes_to_the_same_as_in_a_task_that_begins_later(
    make: Callable[[], Awaitable[Any]], cancel: bool
) -> None:
    """Also one that is told to stop before the loop has had a turn: it is told at the place where it waits."""

    async def test() -> None:
        if make in (cleans_up, awaits_what_cleans_up) and not cancel:
            return  # nothing ends it
        task = begin(settled(make()), asyncio.get_running_loop())
        ours = await outcome(task, cancel)
        if cancel and make is raises:
            assert ours == "KeyError"  # it was over before
            return
        if not cancel:
            assert ours == await same_by_ensure_future(make, cancel)
            return
        later = asyncio.ensure_future(settled(make()))
        await asyncio.sleep(0)  # it has begun by then, as ours had
        assert ours == await outcome(later, cancel)

    drive(test)


def test_what_waits_for_turns_of_the_loop_is_over_after_as_many() -> None:
    """Its task begins with the turn that the first of them waits for."""

    async def naps(count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
        return count

    async def test() -> None:
        for count in range(1, 5):
            task, turns = begin(settled(naps(count)), asyncio.get_running_loop()), 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
            assert (task.result(), turns) == (count, count)

    drive(test)


def test_a_loop_whose_tasks_are_made_by_a_factory_makes_these_too() -> None:
    """They may be of another kind."""
    made: list[Any] = []

    async def work() -> int:
        return 7

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        assert await begin(settled(work()), loop) == 7
        assert len(made) == 1

    drive(test)


def test_async_steps_that_never_wait_take_no_more_turns_of_the_loop_than_plain_ones() -> None:
    """A turn costs more than many a step does; others have theirs now and then all the same."""

    async def turns(fn: Callable[..., Any]) -> int:
        @workflow(name="flow")
        async def flow(ctx: Context) -> None:
            for n in range(64):
                await ctx.step("step", fn, n)

        count = 0

        async def counting() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            beside = asyncio.ensure_future(counting())
            await (await runtime.start("flow")).result(timeout=5)
            beside.cancel()
        return count

    async def later(n: int) -> int:
        return n

    async def test() -> None:
        assert await turns(later) <= await turns(lambda n: n) + 10

    drive(test)
