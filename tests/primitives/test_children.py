"""Children and their parents: who is told of what, whoever ends first and whatever the size, and what is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Run,
    Runtime,
    workflow,
)
from alkaline_edge.host import Capabilities
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost
from tests.simulation.engine import CAPABILITIES
from tests.support import Process, drive, kinds


@workflow
async def kid(ctx: Context, n: Any) -> Any:
    """Waits for a word."""
    return [n, await ctx.wait_for_signal("go")]


@workflow
async def parent(ctx: Context, how: str) -> Any:
    """Leaves an abandoned child behind, or stays with it."""
    task = asyncio.create_task(ctx.child(kid, how, id=f"kid {how}".replace(" ", "-"), on_parent_close="abandon"))
    await ctx.step("x", lambda: 1)
    return 1 if how == "leave" else await task


@pytest.mark.parametrize("ended", ["deleted", "finished", "replaced", "continued"])
def test_the_report_of_an_abandoned_child_reaches_no_other_run_and_does_not_stay(ended: str) -> None:
    """Its parent was deleted, has ended, has gone on as new, or another run has its id: nothing is stored for it."""

    @workflow
    async def goes_on(ctx: Context, n: int) -> Any:
        if n == 0:
            task = asyncio.create_task(ctx.child(kid, "leave", id="kid-leave", on_parent_close="abandon"))
            await ctx.step("x", lambda: 1)
            del task
            ctx.continue_as_new(1)
        return await ctx.wait_for_signal("end")

    async def body() -> None:
        process = Process(kid, parent, goes_on)
        runtime = process.runtime
        run = await runtime.start(
            goes_on if ended == "continued" else parent, 0 if ended == "continued" else "leave", id="p"
        )
        await run.settle()
        if ended in ("deleted", "replaced"):
            await runtime.delete("p")
        if ended == "replaced":
            run = await runtime.start(parent, "stay", id="p")
            await run.settle()
        await runtime.signal("kid-leave", "go", "old")
        await Run(runtime, "kid-leave").result()
        assert not [key for key in process.host.store.keys if key.startswith("i/")]
        if ended == "replaced":
            await run.settle()
            assert (await runtime.get_execution("p")).status == "suspended"
            await runtime.signal("kid-stay", "go", "new")
            assert await run.result() == ["stay", "new"]

    drive(body)


def test_a_late_cancel_of_an_earlier_parent_does_not_reach_a_run_that_has_the_childs_id_now() -> None:
    """The request names who sent it: a run with another parent, or none, drops it."""

    async def body() -> None:
        process = Process(kid)
        run = await process.runtime.start(kid, 1, id="kid")
        await run.settle()
        data = process.runtime.codec.encode(["cancel-0123456789ab-0", "cancel", "", "its parent has ended", 0])
        await process.runtime.store.commit(Write({}, {"i/kid/~cancel-0123456789ab-0": data}))
        await run.signal("go", "on")
        assert await run.result() == [1, "on"]

    drive(body)


@pytest.mark.parametrize("size", [0, 500, 560, 580, 600, 700, 2000, 2100, 9000])
def test_a_childs_result_or_failure_of_any_size_reaches_its_parent(size: int) -> None:
    """Above the inline limit it is read from the child, and recorded by the parent like any large value."""

    @workflow
    async def big(ctx: Context, n: int) -> Any:
        return "x" * n

    @workflow
    async def fails(ctx: Context, n: int) -> Any:
        raise InvalidInput("no", text="y" * n)

    @workflow
    async def asks(ctx: Context, n: int) -> Any:
        text = await ctx.child(big, n)
        try:
            await ctx.child(fails, min(n, 1200))
        except InvalidInput as error:
            return [len(text), len(error.detail["text"])]

    async def body() -> None:
        process = Process(big, fails, asks, host=SimulatedHost(capabilities=CAPABILITIES))
        run = await process.runtime.start(asks, size, id="p")
        assert await run.result() == [size, min(size, 1200)]
        await process.crash()
        assert await Run(process.runtime, "p").result() == [size, min(size, 1200)]

    drive(body)


def test_a_child_with_an_input_that_can_not_be_stored_fails_at_the_call() -> None:
    """The handler may catch it; nothing of the child is written."""

    @workflow
    async def asks(ctx: Context) -> str:
        try:
            await ctx.child(kid, object(), id="kid")
        except InvalidInput:
            return "caught"
        return "no"

    async def body() -> None:
        process = Process(kid, asks)
        assert await (await process.runtime.start(asks)).result() == "caught"
        assert not [key for key in process.host.store.keys if key.startswith("r/kid")]

    drive(body)


def test_children_are_asked_to_end_when_their_parent_continues_as_new() -> None:
    """The next generation does not wait for them; an abandoned one goes on."""

    @workflow
    async def goes_on(ctx: Context, n: int) -> Any:
        if n == 0:
            tasks = [
                asyncio.create_task(ctx.child(kid, 1, id="ends")),
                asyncio.create_task(ctx.child(kid, 1, id="stays", on_parent_close="abandon")),
            ]
            await ctx.step("x", lambda: 1)
            del tasks
            ctx.continue_as_new(1)
        return await ctx.wait_for_signal("end")

    async def body() -> None:
        process = Process(kid, goes_on)
        await (await process.runtime.start(goes_on, 0, id="p")).settle()
        await process.host.sleep(1)
        status = {id: (await process.runtime.get_execution(id)).status for id in ("p", "ends", "stays")}
        assert status == {"p": "suspended", "ends": "cancelled", "stays": "suspended"}

    drive(body)


def test_the_outcome_of_a_child_that_nobody_waits_for_any_more_is_not_recorded() -> None:
    """Its parent has withdrawn it: the report is dropped, and a replay agrees."""

    @workflow
    async def loses_interest(ctx: Context) -> Any:
        try:
            async with asyncio.timeout(10):
                await ctx.child(kid, 1, id="kid", on_parent_close="abandon")
        except TimeoutError:
            pass
        return await ctx.wait_for_signal("end")

    async def body() -> None:
        process = Process(kid, loses_interest)
        run = await process.runtime.start(loses_interest, id="p")
        await run.settle()
        await process.host.sleep(11)
        await process.runtime.run_due()
        await process.runtime.signal("kid", "go", 1)
        await Run(process.runtime, "kid").result()
        await run.settle()
        assert "ChildFinished" not in kinds(await process.runtime.history("p"))
        await process.crash()
        await process.runtime.signal("p", "end", "fine")
        assert await (await process.runtime.resume("p")).result() == "fine"

    drive(body)


@pytest.mark.parametrize("count", [99, 100, 101, 260])
def test_a_run_ends_with_any_number_of_open_children_and_unread_requests(count: int) -> None:
    """More than a batch of the host takes: what does not fit goes ahead of the end, or is deleted behind it."""
    small = Capabilities("small", durability="volatile", max_batch_keys=120)

    @workflow
    async def many(ctx: Context, n: int) -> Any:
        tasks = [asyncio.create_task(ctx.child(kid, i, id=f"kid-{i}")) for i in range(n)]
        await ctx.wait_for_signal("end")
        del tasks
        return n

    async def body() -> None:
        host = SimulatedHost(capabilities=small)
        runtime = Runtime(host, workflows=[kid, many])
        run = await runtime.start(many, count, id="p")
        await run.settle()
        sender = Runtime(host.reopen())
        await sender.signal("p", "end")
        for n in range(count):
            await sender.signal("p", "unread", n)
        assert await (await runtime.resume("p")).result() == count
        await host.sleep(5)
        for n in range(count):
            assert (await runtime.get_execution(f"kid-{n}")).status == "cancelled"
        assert not [key for key in host.store.keys if key.startswith("i/")]
        with pytest.raises(ConflictError):
            await sender.signal("p", "unread", 1)

    drive(body)


def test_a_child_of_a_workflow_that_nobody_has_is_an_error_of_its_call() -> None:
    """The parent may catch it, and is not stuck for want of it."""

    @workflow
    async def asks(ctx: Context) -> str:
        try:
            await ctx.child("nobody-has-it", None, id="kid")
        except NotFound as error:
            return error.code
        return ""

    async def test() -> None:
        process = Process(asks)
        run = await process.runtime.start(asks, id="p")
        await run.settle()
        assert (run.status, await run.result()) == ("completed", "ERR_NOT_FOUND")
        await process.runtime.close()

    drive(test)


def test_a_child_knows_what_was_spent_above_it_before_it_began() -> None:
    """Of what is left of its parent's budget it may spend all, and no more, from its first step on."""
    ran: list[str] = []

    @workflow
    async def spends(ctx: Context, cost: int) -> None:
        await ctx.step("call", ran.append, "child", cost=cost)

    @workflow(budget=Budget(tokens=100))
    async def has_spent(ctx: Context) -> Any:
        await ctx.step("call", lambda: None, cost=60)
        try:
            await ctx.child(spends, 41, id="too-much")
        except BudgetExceeded:
            await ctx.child(spends, 40, id="the-rest")
            return "it spent the rest"
        return "it spent too much"

    async def test() -> None:
        process = Process(spends, has_spent)
        run = await process.runtime.start(has_spent, id="p")
        assert await run.result() == "it spent the rest"
        assert ran == ["child"]
        await process.runtime.close()

    drive(test)
