"""Large values at every door: below, at and above each limit of the host, live and in the next process."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge import Budget, Context, InvalidInput, Runtime, StepError, workflow
from alkaline_edge import events as ev
from alkaline_edge.host import Capabilities
from alkaline_edge.replay import check
from alkaline_edge.testing import SimulatedHost
from tests.support import drive

INLINE, VALUE, BATCH = 600, 2_048, 6_000
LONGEST = 8_000  # a text in the detail of an error is no longer
SMALL = Capabilities(
    "small", durability="volatile", inline_limit=INLINE, max_value=VALUE, max_batch_bytes=BATCH, segment_commits=4
)


class Detailed(Exception):
    """An error with a detail."""

    def __init__(self, message: str, detail: Any) -> None:
        super().__init__(message)
        self.detail = detail


def fail(size: int) -> None:
    raise Detailed("é" * size, {"text": "d" * size})


@workflow
async def kid(ctx: Context, size: int) -> str:
    ctx.spend(1)
    if size < 0:
        fail(-size)
    return "k" * size


@workflow
async def flow(ctx: Context, given: dict[str, Any]) -> Any:
    size, door = given["size"], given["door"]
    got: Any = len(given["text"])

    def refuses(payload: int) -> None:
        if payload < 0:
            fail(-payload)

    ctx.on_query("q", lambda n: "q" * n)
    ctx.on_update("u", lambda n: fail(n - 10**6) if n > 10**6 else "u" * n, validator=refuses)
    match door:
        case "step":
            got = len(await ctx.step("s", lambda: "s" * size))
        case "cost":
            got = len(await ctx.step("s", lambda: "s" * size, cost=3))
        case "child" | "child fails":
            try:
                got = len(await ctx.child(kid, size if door == "child" else -size))
            except StepError as error:
                got = len(error.detail["text"])
        case "step fails":
            try:
                await ctx.step("s", lambda: fail(size))
            except StepError as error:
                got = len(error.detail["text"])
        case "emit":
            ctx.emit("t", "e" * size)
            got = size
        case "many waits":
            names = [f"{n:03d}" + "w" * 190 for n in range(size // 50)]
            waits = [asyncio.ensure_future(ctx.wait_for_signal(name)) for name in names]
            await ctx.wait_for_signal("go")
            for each in waits:
                each.cancel()
            return size
        case "many attributes":
            ctx.set_attributes(**{f"a{n}": "a" * 90 for n in range(size // 100)})
            got = size
        case "continue":
            if not given.get("again"):
                await ctx.wait_for_signal("begin")
                ctx.continue_as_new({**given, "again": True})
            got = sum(map(len, ctx.pending_signals("carried")))
        case "fails":
            await ctx.wait_for_signal("go")
            fail(size)
    await ctx.wait_for_signal("go")
    return got


DOORS = ["input", "step", "cost", "child", "child fails", "step fails", "emit", "many waits", "many attributes",
         "continue", "fails", "query", "update", "update fails", "update refused"]  # fmt: skip


async def ask(door: str, run: Any, size: int) -> Any:
    if door == "query":
        return len(await run.query("q", size))
    if door == "update":
        return len(await run.update("u", size))
    if door in ("update fails", "update refused"):
        with pytest.raises(StepError) as raised:
            await run.update("u", size + 10**6 if door == "update fails" else -size)
        return len(raised.value.detail["text"])
    return size


def sizes(seed: int) -> list[int]:
    draw = random.Random(seed)
    border = draw.choice([INLINE, VALUE, BATCH, VALUE - 1024, 2 * VALUE])
    return [max(1, border + draw.randint(-120, 120)), draw.randint(1, LONGEST)]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("seed", range(3))
def test_a_value_of_any_size_goes_through_every_door(door: str, seed: int) -> None:
    """Nothing is refused for its size when it is too late to say so, and nothing comes back otherwise."""

    async def test() -> None:
        for size in sizes(seed):
            # What a record says of its run is one batch with it: it is bounded, and no real host has a smaller one.
            host = SimulatedHost(capabilities=replace(SMALL, max_batch_bytes=60_000) if "many" in door else SMALL)
            runtime = Runtime(host, workflows=[flow, kid], budget=Budget(tokens=1_000))
            given = {"size": size, "door": door, "text": "i" * (size if door == "input" else 1)}
            run = await runtime.start(flow, given, id="a")
            if door == "continue":
                for n in range(size // 400 + 1):
                    await run.signal("carried", "c" * min(400, size - 400 * n))
                await run.signal("begin")
            await run.settle()
            assert await ask(door, run, size) == size
            host.dead = True
            again = host.reopen()
            again.advance(60)
            runtime = Runtime(again, workflows=[flow, kid], budget=Budget(tokens=1_000))
            run = await runtime.resume("a")
            await run.settle()
            assert await ask(door, run, size) == size
            await run.signal("go")
            if door == "fails":
                with pytest.raises(StepError) as raised:
                    await run.result()
                assert len(raised.value.detail["text"]) == size
            elif door == "many attributes":
                assert await run.result() == size
                assert len((await runtime.get_execution("a")).attributes) == size // 100
            else:
                assert await run.result() in (size, 1)
            (record,) = await runtime.list_executions(workflow="flow")
            assert record.status == ("failed" if door == "fails" else "completed")
            await runtime.export("a")
            await runtime.close()

    drive(test)


# --- requests ---------------------------------------------------------------------------------------------------------


@workflow
async def bursts(ctx: Context, given: dict[str, Any]) -> Any:
    draw = random.Random(given["seed"])
    found: list[Any] = []

    def burst() -> None:
        for _ in range(draw.choice([1, 3, 40, 700])):
            match draw.randrange(5):
                case 0:
                    ctx.spend(1, "l" * draw.randint(0, 200))
                case 1:
                    ctx.emit("topic", "e" * draw.randint(0, INLINE - 10))
                case 2:
                    found.append(ctx.uuid())
                case 3:
                    found.append(ctx.random())
                case 4:
                    found.append(ctx.now().isoformat())

    def emitting(size: int) -> str:
        for _ in range(size % 7):
            ctx.emit("step", "s" * (size % INLINE))
        return "r" * size

    for n in range(3):
        burst()
        found.append(len(await ctx.step(f"s{n}", emitting, draw.randint(0, INLINE - 10), cost=1)))
    burst()
    if given["seed"] % 3 == 0 and not given.get("again"):
        ctx.continue_as_new({**given, "again": True})
    if given["seed"] % 3 == 1:
        raise Detailed("d" * (INLINE - 100), {"found": "f" * (INLINE - 100)})
    await ctx.wait_for_signal("go")
    return len(found)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_bursts_of_small_values_go_into_as_many_commits_as_the_store_takes(seed: int, shared: bool) -> None:
    """Each is below the inline limit, and together they are more than one value, or one batch, may hold."""

    @workflow
    async def parent(ctx: Context, given: dict[str, Any]) -> Any:
        return await ctx.child("bursts", given, id="a")

    async def test() -> None:
        host = SimulatedHost(capabilities=SMALL)
        workflows = [bursts, parent]
        runtime = Runtime(host, workflows=workflows, budget=Budget(tokens=1_000_000))
        name = "parent" if shared else "bursts"
        run = await runtime.start(name, {"seed": seed}, id="p" if shared else "a")
        await run.settle()
        if seed % 3 != 1:
            host.dead = True
            again = host.reopen()
            again.advance(60)
            runtime = Runtime(again, workflows=workflows, budget=Budget(tokens=1_000_000))
            await runtime.recover()
            await runtime.signal("a", "go")
            assert isinstance(await runtime.result(run.id, None), int)
        else:
            with pytest.raises(StepError):
                await runtime.result(run.id, None)
        assert all(checked.ok for checked in check(await runtime.export("a"), workflows))
        await runtime.close()

    drive(test)


def test_an_outcome_that_the_store_refuses_is_the_failure_of_its_step() -> None:
    """Said once, to the handler: the step is not run again and again by a run that can't go on."""
    starts: list[int] = []

    class Picky(SimulatedHost):
        async def commit(self, batch: Any) -> Any:
            if any(b"unwanted" in put.value for put in batch.puts):
                raise InvalidInput("the store does not take this value")
            return await super().commit(batch)

    @workflow(name="flow")
    async def refused(ctx: Context) -> Any:
        drawn = ctx.random()
        try:
            await ctx.step("s", lambda: starts.append(1) or "unwanted")
        except InvalidInput as error:
            return [drawn, str(error)]

    async def test() -> None:
        runtime = Runtime(Picky(), workflows=[refused])
        run = await runtime.start("flow", id="a")
        drawn, text = await run.result()
        assert "step 's' ran" in text
        assert "does not take" in text
        assert [r.event.value for r in await runtime.history("a") if isinstance(r.event, ev.Drawn)] == [drawn]
        await runtime.close()

    drive(test)
    assert starts == [1]


@pytest.mark.parametrize("then", ["returns", "raises", "sleeps", "steps", "spends", "answers", "continues", "pauses"])
@pytest.mark.parametrize("limit", ["keys", "length"])
def test_a_run_that_a_store_cannot_record_any_further_ends_failed(then: str, limit: str) -> None:
    """With the limit in its failure, whatever it does next; what was recorded before stands, and it replays."""
    can = replace(SMALL, max_batch_keys=30) if limit == "keys" else replace(SMALL, max_key=150)
    given = {f"a{n}": n for n in range(40)} if limit == "keys" else {"a" * 100: "v" * 60}

    @workflow(name="gives", version=1)
    async def gives(ctx: Context, again: bool = False) -> Any:
        ctx.on_update("ask", lambda payload: payload)
        ctx.on_query("how", lambda: "so")
        ctx.set_attributes(before=1)
        await ctx.step("first", lambda: 1)
        await ctx.wait_for_signal("go")
        ctx.set_attributes(**given)
        match then:
            case "returns":
                return 1
            case "raises":
                raise ValueError("on its own")
            case "sleeps":
                await ctx.sleep(5)
            case "steps":
                await ctx.step("second", lambda: 2)
            case "spends":
                ctx.spend(5)
                ctx.emit("topic", 1)
                await ctx.step("second", lambda: 2)
            case "continues":
                ctx.continue_as_new(True)
            case _:
                await ctx.wait_for_signal("never")

    async def body() -> None:
        host = SimulatedHost(capabilities=can)
        async with Runtime(host, workflows=[gives]) as runtime:
            run = await runtime.start(gives, id="r")
            await run.settle()
            await run.signal("go")
            if then in ("answers", "pauses"):
                await run.settle()
                asked = run.update("ask", 1) if then == "answers" else run.pause()
                await asyncio.gather(asked, return_exceptions=True)
            with pytest.raises(InvalidInput, match="can't be recorded any further") as told:
                await run.result(timeout=60)
            assert told.value.detail.get("limit") == (30 if limit == "keys" else None)
            record = await runtime.get_execution("r")
            assert (record.status, record.attributes, record.spent["tokens"]) == ("failed", {"before": 1}, 0)
            assert "r" not in runtime.stuck
            assert await runtime.query("r", "how") == "so"
            assert [each.verdict for each in check(await runtime.export("r"), gives)] == ["ok"]
        async with Runtime(host.reopen(), workflows=[gives]) as runtime:
            assert await runtime.query("r", "how") == "so"

    drive(body)
