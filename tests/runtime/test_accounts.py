"""Budgets that several runs share: each charge is in the account and in a history, or in neither."""

from __future__ import annotations

import asyncio
from typing import Any

from alkaline_edge import (
    Budget,
    BudgetExceeded,
    Context,
    keys,
    replay,
    workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.budget import Account, Purse
from alkaline_edge.codec import Codec
from alkaline_edge.host import Batch, Put
from alkaline_edge.runtime import accounts
from alkaline_edge.runtime.store import Store
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive


async def cheap(n: int) -> int:
    return n


def test_what_others_have_charged_is_known_with_the_next_event() -> None:
    """Parent and child spend from one budget: the parent's own charge brings the totals of both, for its next one."""

    @workflow(name="spender")
    async def spender(ctx: Context) -> None:
        ctx.spend(60)
        await ctx.wait_for_signal("end")

    @workflow(name="family", budget=Budget(tokens=100))
    async def family(ctx: Context) -> str:
        child = asyncio.ensure_future(ctx.child(spender, id="child"))
        await ctx.wait_for_signal("go")
        ctx.spend(10)
        await ctx.step("cheap", cheap, 1)
        try:
            ctx.spend(40)
        except BudgetExceeded:
            return f"over: {child.done()}"
        return "within"

    async def test() -> None:
        process = Process(family, spender)
        run = await process.runtime.start("family", id="run")
        await run.settle()
        await run.signal("go")
        assert await run.result() == "over: False"
        (checked,) = replay.check({"run": await process.runtime.export("run")}, [family, spender])
        assert checked.ok, checked.message

    drive(test)


@workflow
async def kid(ctx: Context, n: Any) -> Any:
    """Waits for a word."""
    return [n, await ctx.wait_for_signal("go")]


def test_a_shared_account_is_there_from_the_moment_a_child_is() -> None:
    """With what the parent had spent before: a child that starts elsewhere knows of it."""

    @workflow(budget=Budget(tokens=100))
    async def spends(ctx: Context) -> Any:
        ctx.spend(30, "before")
        return await ctx.child(kid, 1, id="kid")

    async def body() -> None:
        process = Process(kid, spends)
        run = await process.runtime.start(spends, id="p")
        await run.settle()
        record = await process.runtime.get_execution("p")
        entry = (await process.host.get([f"g/{record.run}"]))[0]
        assert entry is not None
        assert process.runtime.codec.decode(entry.value) == [30, 0]

    drive(body)


def test_each_charge_of_a_commit_has_the_totals_behind_it() -> None:
    """And not those behind the last: a replay goes over its budget where the run did."""

    async def body() -> None:
        host = SimulatedHost()
        store = Store(host, Codec())
        purse = Purse([Account("a", 100, None), Account("b", None, 100)], shared=True)
        host.store.apply(Batch("1", (), (Put(keys.shared("a"), store.codec.encode([10, 1])),), ()))
        charges: list[ev.Event] = [
            ev.Spent(ev.SPENT, tokens, micros, "label", False, None) for tokens, micros in ((1, 2), (3, 4), (5, 6))
        ]
        events, write = await accounts.charge(store, purse, [ev.Paused(ev.PAUSED), *charges], Write())
        assert [event.totals for event in events[1:]] == [  # type: ignore[union-attr]
            [[11, 3], [1, 2]], [[14, 7], [4, 6]], [[19, 13], [9, 12]],
        ]  # fmt: skip
        assert {key: store.codec.decode(raw) for key, raw in write.puts.items()} == {"g/a": [19, 13], "g/b": [9, 12]}
        assert write.checks == {"g/a": "1", "g/b": None}

    drive(body)
