"""What is asked of a store does not grow with what stands in it. Calls and keys are counted, never seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Runtime, workflow
from alkaline_edge.host import Batch, Committed, Conflict, Entry
from alkaline_edge.testing import SimulatedHost
from tests.primitives.test_growth import LARGE, SMALL, counted
from tests.support import drive

FEW, MANY = 12, 72


class Counting(SimulatedHost):
    """``asked``: calls, keys that were asked for, entries that were listed, keys that were written or deleted."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.asked = 0

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        found = await super().get(keys)
        self.asked += 1 + len(found)
        return found

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        found = await super().list(prefix, after, limit)
        self.asked += 1 + len(found)
        return found

    async def commit(self, batch: Batch) -> Committed | Conflict:
        self.asked += 1 + len(batch.puts) + len(batch.deletes)
        return await super().commit(batch)

    async def during(self, work: Awaitable[Any]) -> int:
        """What ``work`` asks."""
        before = self.asked
        await work
        return self.asked - before


async def turns(n: int) -> int:
    await asyncio.sleep(0)
    return n


async def stays() -> None:
    await asyncio.Event().wait()


@workflow
async def at_once(ctx: Context, count: int) -> None:
    await ctx.map(lambda n: ctx.step("turns", turns, n), range(count))


@workflow
async def kept_waiting(ctx: Context, count: int) -> None:
    await ctx.map(lambda _: ctx.step("stays", stays), range(count))


@workflow
async def mail(ctx: Context, count: int) -> None:
    for _ in range(count):
        await ctx.wait_for_signal("go")


@workflow
async def listeners(ctx: Context, count: int) -> None:
    await ctx.map(lambda _: ctx.wait_for_signal("go"), range(count))


@workflow
async def short(ctx: Context, n: int) -> int:
    return n


@workflow
async def parent(ctx: Context, count: int) -> None:
    await ctx.all(*(ctx.child(mail, 1) for _ in range(count)))


FLOWS = [at_once, kept_waiting, mail, listeners, short, parent]


async def settled(runtime: Runtime, name: str, count: int) -> Any:
    run = await runtime.start(name, count)
    await run.settle()
    return run


def compared(cost: Callable[[int], Awaitable[float]], few: int = FEW, many: int = MANY, slack: float = 1.2) -> None:
    """``cost`` of one of ``many`` is about that of one of ``few``."""

    async def test() -> None:
        small, large = await cost(few), await cost(many)
        assert 0 < large <= slack * small, f"{small:.1f} of {few}, {large:.1f} of {many}"

    drive(test)


def test_the_commits_of_a_fan_out_do_not_grow_with_it() -> None:
    """What ends together is recorded together: 70 steps take as many commits as 12."""

    async def commits(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:
            await (await runtime.start("at_once", count)).result(timeout=5)
        return host.counts["commit"]

    compared(commits, slack=1)


def test_a_send_reads_the_end_of_an_inbox_and_not_all_of_it() -> None:
    """The run is driven by nobody, so all that was sent before stands there."""

    async def one_more(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:
            run = await settled(runtime, "mail", 1_000)
            await run.pause()
            await run.settle()
        sender = Runtime(host, workflows=[])
        for n in range(count):
            await sender.signal(run.id, "go", n)
        return await host.during(sender.signal(run.id, "go", "last")) + 0.0

    compared(one_more, slack=1)


def test_reading_an_inbox_costs_as_much_for_each_of_many() -> None:
    """They are consumed together."""

    async def each(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:
            run = await settled(runtime, "mail", count)
        sender = Runtime(host, workflows=[])
        for n in range(count):
            await sender.signal(run.id, "go", n)

        async def finish() -> None:
            async with Runtime(host, workflows=FLOWS) as runtime:
                await (await runtime.resume(run.id)).result(timeout=5)

        return await host.during(finish()) / count

    compared(each)


@pytest.mark.parametrize("what", ["list", "recover", "run_due"])
def test_what_is_asked_of_a_store_does_not_grow_with_the_runs_in_it(what: str) -> None:
    """Runs that wait or have ended cost nothing where nobody asks for them."""

    async def asked(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:
            for n in range(count):
                await (await settled(runtime, ("mail", "short")[n % 2], 1)).settle()

        async def work() -> None:
            async with Runtime(host, workflows=FLOWS) as runtime:
                assert host.asked == opened  # opening asks for nothing
                if what == "list":
                    assert len(await runtime.list_executions(status="suspended", limit=5)) == 5
                elif what == "recover":
                    assert await runtime.recover() == []
                else:
                    await runtime.run_due()

        opened = host.asked
        return await host.during(work()) + 0.0

    compared(asked, slack=1)


def test_the_results_of_many_runs_cost_as_much_each() -> None:
    """They are awaited at once, and end one after the other."""

    async def each(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:

            async def all_of_them() -> None:
                runs = [await runtime.start("short", n) for n in range(count)]
                assert await asyncio.gather(*(run.result(timeout=5) for run in runs)) == list(range(count))

            return await host.during(all_of_them()) / count

    compared(each)


def test_a_wide_family_costs_as_much_for_each_child() -> None:
    """All children wait for a signal that comes to one after the other; the parent is told of each."""

    async def each(count: int) -> float:
        host = Counting()
        async with Runtime(host, workflows=FLOWS) as runtime:
            run = await settled(runtime, "parent", count)

            async def end() -> None:
                for child in await runtime.list_executions(workflow="mail", limit=100):
                    await runtime.signal(child.id, "go")
                await run.result(timeout=5)

            return await host.during(end()) / count

    compared(each)


@pytest.mark.parametrize("name", ["kept_waiting", "listeners"])
def test_the_cancel_of_a_wide_run_costs_as_much_for_each_branch(name: str) -> None:
    """Operations of the interpreter are counted: what is withdrawn is not looked for among the rest."""

    async def each(count: int) -> float:
        async with Runtime(SimulatedHost(), workflows=FLOWS) as runtime:
            run = await runtime.start(name, count)
            if name == "listeners":
                await run.settle()
            else:
                await asyncio.sleep(0.01)

            async def cancel() -> None:
                await run.cancel()
                with suppress(AlkalineError):
                    await run.result(timeout=5)

            return await counted(cancel) / count

    async def test() -> None:
        await each(SMALL)  # what is made once is made
        small, large = await each(SMALL), await each(LARGE)
        assert 0 < large < small * 1.2, f"{small:.0f} operations each of {SMALL}, {large:.0f} each of {LARGE}"

    drive(test)
