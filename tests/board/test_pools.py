"""Named pools: so many tasks that need a place are done at a time, and none waits behind a pool that is full."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, InvalidInput, Runtime, workflow
from alkaline_edge.board import Board, Claim
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


@workflow
async def job(ctx: Context, input: Any = None) -> Any:
    return await ctx.wait_for_signal("go")


def test_a_full_pool_holds_back_its_own_tasks_alone() -> None:
    """By any assignee and for runs too; each end of a claim gives the place back."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[job]) as runtime:
            board = Board(runtime, "b")
            await board.configure(pools={"gpu": 2, "desk": 1})
            for n in range(3):
                await board.create("big", id=f"g{n}", pool="gpu", priority=5, assignee="ann" if n == 2 else None)
            await board.create("run", id="r", pool="desk", workflow=job, priority=9)
            await board.create("plain", id="p")
            await board.create("at the desk", id="d", pool="desk")
            claims = [await board.claim("w", assignees=[None, "ann"]) for _ in range(4)]
            assert [each and each.task.id for each in claims] == ["g0", "g1", "p", None]
            assert (await board.head()).pooled == {"gpu": 2, "desk": 1}
            assert claims[0] is not None
            assert claims[1] is not None
            await claims[0].complete()
            third = await board.claim("w", assignees=["ann"])
            assert third is not None
            await claims[1].request_review("look")
            assert (await board.head()).pooled == {"gpu": 1, "desk": 1}
            review = await board.claim("w", review=True)
            assert review is not None
            assert (await board.head()).pooled == {"gpu": 1, "desk": 1}
            await review.complete()
            await board.cancel("r")
            await runtime.run_due()
            desk = await board.claim("w")
            assert desk is not None
            assert desk.task.id == "d"
            for each in (third, desk):
                await each.release()
            assert (await board.head()).pooled == {}

    drive(test)


@pytest.mark.parametrize("seed", range(4))
def test_no_pool_is_ever_over_and_all_get_done(seed: int) -> None:
    """Workers, failures, lost claims in any order: the head's count is that of the tasks at each commit."""
    rng = random.Random(seed)

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            board = Board(runtime, "b")
            pools = {"a": 1, "c": 2}
            await board.configure(pools=pools)
            for n in range(16):
                await board.create("t", id=f"t{n}", pool=rng.choice([None, "a", "c"]), ttl=5, max_failures=50)
            held: list[Claim] = []
            for _ in range(300):
                if len(await board.list("done")) == 16:
                    break
                what = rng.random()
                if what < 0.5 and (claim := await board.claim("w")) is not None:
                    held.append(claim)
                elif held and what < 0.8:
                    claim = held.pop(rng.randrange(len(held)))
                    with contextlib.suppress(ConflictError):  # it ran out
                        await (claim.complete() if rng.random() < 0.7 else claim.fail("by chance"))
                else:
                    host.advance(3)
                    await runtime.run_due()
                running = [task.pool for task in await board.list("running")]
                counted = {pool: running.count(pool) for pool in pools if pool in running}
                assert (await board.head()).pooled == counted
                assert all(counted.get(pool, 0) <= most for pool, most in pools.items())
            else:
                raise AssertionError("not all were done")

    drive(test)


def test_the_tasks_of_an_assignee_are_listed_with_those_of_pools() -> None:
    """In pages of any size, and those of another one whose name begins alike are not among them."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            board = Board(runtime, "b")
            await board.configure(pools={"gpu": 2, "desk": 1})
            for n in range(7):
                await board.create("t", id=f"t{n}", assignee="ann", pool=[None, "gpu", "desk"][n % 3])
            await board.create("t", id="x", assignee="anna")
            for limit in (1, 2, 3, 7, 50):
                found, after = list[str](), ""
                while True:
                    page = await board.list("ready", "ann", after, limit)
                    found += [task.id for task in page]
                    if page.after is None:
                        break
                    after = page.after
                assert found == ["t0", "t3", "t6", "t2", "t5", "t1", "t4"], limit

    drive(test)


def test_what_can_not_be_is_refused() -> None:
    """A pool that is not there, a name that is none, no places; and nothing is written."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            board = Board(runtime, "b")
            with pytest.raises(InvalidInput, match="has no pool 'gpu'"):
                await board.create("t", pool="gpu")
            for pools in ({"gpu": 0}, {"a,b": 1}, {"a b": 1}, {"": 1}, {5: 1}):
                with pytest.raises(InvalidInput):
                    await board.configure(pools=pools)  # type: ignore[arg-type]
            assert len(await board.list()) == 0
            await board.configure(pools={"gpu": 1})
            await board.create("t", id="t", pool="gpu")
            await board.configure()
            assert await board.claim("w") is None
            await board.configure(pools={"gpu": 1})
            assert await board.claim("w") is not None

    drive(test)
