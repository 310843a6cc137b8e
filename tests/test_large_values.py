"""Large values at every door: below, at and above each limit of the host, live and in the next process."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from alkaline_edge import Budget, Context, InvalidInput, Run, Runtime, StepError, hand_over, workflow
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
BORDERS = [INLINE - 60, INLINE, VALUE - 1_024, VALUE, 2 * (VALUE - 1_024), BATCH, 3 * BATCH]
ROUTES = ["read at once", "read by the next process", "export", "hand over", "twice", "refused", "after the end"]


@workflow
async def reads(ctx: Context) -> list[Any]:
    """The sizes of all payloads up to an empty one, and those of the updates before it."""
    got: list[Any] = []

    def taken(text: str) -> int:
        got.append(-len(text))
        return len(text)

    def check(text: str) -> None:
        if text.startswith("no"):
            raise ValueError("no")

    ctx.on_update("u", taken, validator=check)
    while (text := await ctx.wait_for_signal("s"))[1:]:
        got.append(len(text))
    return got


def blobs(host: SimulatedHost) -> list[str]:
    return [key for key in host.store.keys if key.startswith("b/")]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("border", BORDERS)
def test_the_payload_of_a_request_is_of_any_size(route: str, border: int) -> None:
    """Unread, moved to another store, read by the next process: it comes whole, once, and leaves nothing in blobs."""
    draw = random.Random(f"{route} {border}")

    async def test() -> None:
        host, there = SimulatedHost(capabilities=SMALL), SimulatedHost(capabilities=replace(SMALL, inline_limit=900))
        runtime, other = Runtime(host, workflows=[reads]), Runtime(there, workflows=[reads])
        size = max(2, border + draw.randint(-70, 10))
        text = "x" * size
        run = await runtime.start(reads, id="a")
        await run.settle()
        outside = Runtime(host.reopen())
        for _ in range(2 if route == "twice" else 1):
            await outside.signal("a", "s", text, dedupe="one")
        expected = [size]
        if route == "export":
            bundle = await runtime.export("a", handoff=True)
            runtime = other
            await runtime.import_(bundle, mode="take_over")
        elif route == "hand over":
            await hand_over(runtime, "a", other)
            runtime = other
        elif route == "read by the next process":
            host.dead = True
            again = host.reopen()
            again.advance(60)
            runtime = Runtime(again, workflows=[reads])
        elif route == "refused":
            with pytest.raises(StepError, match="no"):
                await run.update("u", "no" + text)
        elif route == "after the end":
            await outside.signal("a", "s", "x")
            await outside.signal("a", "s", text)
        await runtime.run_due()
        run = Run(runtime, "a")
        if route != "after the end":
            assert await run.update("u", text) == size
            await run.signal("s", "x")
            expected.append(-size)
        assert await run.result() == expected
        await runtime.delete("a")
        assert blobs(runtime.host) == []  # type: ignore[arg-type]
        assert not [key for key in runtime.host.store.keys if key[0] in "id"]  # type: ignore[attr-defined]


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


def test_large_payloads_leave_nothing_behind_in_a_run_that_goes_on() -> None:
    """Each is deleted from where it waited as it is recorded; of a refused update nothing stays."""

    async def test() -> None:
        host = SimulatedHost(capabilities=SMALL)
        async with Runtime(host, workflows=[reads]) as runtime:
            run = await runtime.start(reads, id="a")
            await run.signal("s", "x" * 5_000)
            await run.settle()
            recorded = len(blobs(host))
            for _ in range(20):
                with pytest.raises(StepError):
                    await run.update("u", "no" + "x" * 5_000)
            assert len(blobs(host)) == recorded

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
