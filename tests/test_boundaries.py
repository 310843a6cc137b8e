"""What crosses the border of a workflow is a copy, and what belongs inside of it is refused outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import Budget, Context, InvalidInput, Retry, Runtime, in_thread, workflow
from alkaline_edge import events as ev
from tests.support import Process, drive

Use = Callable[[Context], Any]
USES: dict[str, Use] = {
    "now": lambda ctx: ctx.now(),
    "random": lambda ctx: ctx.random(),
    "uuid": lambda ctx: ctx.uuid(),
    "spend": lambda ctx: ctx.spend(5),
    "patched": lambda ctx: ctx.patched("x"),
    "set_attributes": lambda ctx: ctx.set_attributes(a=1),
    "continue_as_new": lambda ctx: ctx.continue_as_new(),
    "on_query": lambda ctx: ctx.on_query("q", int),
    "on_update": lambda ctx: ctx.on_update("u", int),
    "pending_signals": lambda ctx: ctx.pending_signals("s"),
    "step": lambda ctx: ctx.step("inner", int),
    "sleep": lambda ctx: ctx.sleep(1),
    "wait_for_signal": lambda ctx: ctx.wait_for_signal("s", timeout=1),
    "child": lambda ctx: ctx.child("flow"),
    "all": lambda ctx: ctx.all(),
    "map": lambda ctx: ctx.map(int, []),  # type: ignore[arg-type, return-value]  # never gets there
}


async def use(name: str, ctx: Context) -> str:
    try:
        given = USES[name](ctx)
        if asyncio.iscoroutine(given):
            await given
    except InvalidInput as error:
        return str(error)
    return "accepted"


def use_now(name: str, ctx: Context) -> str:
    try:
        given = USES[name](ctx)
        if asyncio.iscoroutine(given):
            given.send(None)
    except InvalidInput as error:
        return str(error)
    return "accepted"


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("way", ["sync", "async", "thread", "task"])
def test_ctx_is_refused_inside_a_step(name: str, way: str) -> None:
    """At the first call, in words that say what to do, and before anything is recorded."""
    said: list[str] = []

    @workflow(budget=Budget(tokens=1_000), recursive=True)
    async def flow(ctx: Context) -> Any:
        async def inner() -> None:
            said.append(await use(name, ctx))

        async def leaves_a_task() -> None:
            await asyncio.get_running_loop().create_task(inner())

        def plain() -> None:
            said.append(use_now(name, ctx))

        step = {"sync": plain, "async": inner, "thread": in_thread(plain), "task": leaves_a_task}[way]
        await ctx.step("outer", step)
        await ctx.wait_for_signal("go")
        return "well"

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).settle()
        assert len(said) == 1
        assert f"ctx.{name}" in said[0]
        assert "return" in said[0]
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == "well"

    drive(test)


def test_a_ctx_serves_its_own_run_for_as_long_as_it_runs() -> None:
    """Another run's workflow, and whoever kept it behind the end, are told so."""
    kept: list[Context] = []

    @workflow
    async def lender(ctx: Context) -> Any:
        kept.append(ctx)
        await ctx.wait_for_signal("go")

    @workflow
    async def borrower(ctx: Context) -> Any:
        return [await use(name, kept[0]) for name in USES] + [await use("now", ctx)]

    process = Process(lender, borrower)

    async def test() -> None:
        run = await process.runtime.start(lender, id="lender")
        await run.settle()
        *refused, own = await (await process.runtime.start(borrower)).result()
        assert all("'lender'" in each for each in refused)
        assert own == "accepted"
        await run.signal("go")
        await run.result()
        for name in USES:
            assert "has ended" in await use(name, kept[0])
        for late in (lambda: kept[0].emit("t"), lambda: kept[0].log("info", "late")):
            with pytest.raises(InvalidInput, match="has ended"):
                late()

    drive(test)


@pytest.mark.parametrize("way", ["sync", "async", "thread"])
def test_what_a_step_emits_is_recorded_with_its_outcome_and_told_once(way: str) -> None:
    """In its order, in front of what becomes of the step; what the workflow emits after it is told as well."""
    topics: list[str] = []

    @workflow
    async def flow(ctx: Context) -> str:
        def plain() -> str:
            for word in ("one", "two", "three"):
                ctx.emit(word)
                ctx.log("info", word)
            return "well"

        async def inner() -> str:
            return plain()

        text = await ctx.step("words", {"sync": plain, "async": inner, "thread": in_thread(plain)}[way])
        ctx.emit("four")
        await ctx.wait_for_signal("go")
        ctx.emit("five")
        return text

    process = Process(flow)

    async def test() -> None:
        await (await process.runtime.start(flow, id="a")).settle()
        await process.crash()
        run = await process.runtime.resume("a")
        await run.settle()
        await run.signal("go")
        assert await run.result() == "well"
        history = await process.runtime.history("a")
        topics.extend(one.event.topic for one in history if isinstance(one.event, ev.Emitted))
        assert topics == ["one", "two", "three", "four", "five"]
        assert [each.topic for each in process.events if type(each).__name__ == "Emission"] == topics
        logged = [each.message for each in process.events if type(each).__name__ == "LogLine"]
        assert logged == ["one", "two", "three"]

    drive(test)


# --- copies -----------------------------------------------------------------------------------------------------------
def adds(messages: list[Any]) -> int:
    messages.append("step")
    return len(messages)


async def adds_later(messages: list[Any]) -> int:
    return adds(messages)


def adds_deep(*, given: dict[str, Any]) -> int:
    given["inner"]["list"].append("step")
    given["new"] = 1
    return len(given["inner"]["list"])


tries: list[int] = []


def adds_and_fails_once(messages: list[Any]) -> int:
    tries.append(1)
    messages.append("step")
    if len(tries) == 1:
        raise ConnectionError("down")
    return len(messages)


async def way_step(ctx: Context, m: list[Any]) -> None:
    m.append(await ctx.step("m", adds, m))


async def way_async_step(ctx: Context, m: list[Any]) -> None:
    m.append(await ctx.step("m", adds_later, m))


async def way_thread(ctx: Context, m: list[Any]) -> None:
    m.append(await ctx.step("m", in_thread(adds), m))


async def way_keyword(ctx: Context, m: list[Any]) -> None:
    given = {"inner": {"list": m}}
    m.append(await ctx.step("m", adds_deep, given=given))
    m.append(len(given))


async def way_retry(ctx: Context, m: list[Any]) -> None:
    m.append(await ctx.step("m", adds_and_fails_once, m, retry=Retry(max_attempts=2, backoff=0)))


async def way_changed_before_it_starts(ctx: Context, m: list[Any]) -> None:
    async def change() -> None:
        m.append("a branch")

    m.append((await ctx.all(ctx.step("m", adds, m), change()))[0])


async def way_emit(ctx: Context, m: list[Any]) -> None:
    ctx.emit("t", m)
    ctx.log("info", "m", m=m)
    m.append("emitted")


async def way_update(ctx: Context, m: list[Any]) -> None:
    def normalise(payload: list[Any]) -> None:
        payload.append("validated")

    def answer(payload: list[Any]) -> list[Any]:
        m.append(payload)
        return m

    ctx.on_update("u", answer, validator=normalise)


async def way_pending(ctx: Context, m: list[Any]) -> None:
    await ctx.step(lambda: 1)
    ctx.on_query("pending", lambda: [each.append("query") for each in ctx.pending_signals("s")])


WAYS = {name.removeprefix("way_"): way for name, way in globals().items() if name.startswith("way_")}


@pytest.mark.parametrize("name", WAYS)
def test_values_that_cross_a_border_are_copies(name: str) -> None:
    """Whatever a step, a validator, a listener or a caller does to what it got: live and replayed are the same."""

    @workflow
    async def flow(ctx: Context, given: list[Any]) -> Any:
        m = [*given, [1]]
        ctx.on_query("q", lambda: m)
        await WAYS[name](ctx, m)
        await ctx.wait_for_signal("go")
        return [m, await ctx.wait_for_signal("s")]

    def meddles(event: Any) -> None:
        for part in ("data", "fields", "result"):
            value = getattr(event, part, None)
            if isinstance(value, list):
                value.append("listener")
            elif isinstance(value, dict):
                value.clear()

    results: list[Any] = []

    async def test() -> None:
        for crash in (False, True):
            tries.clear()
            process = Process(flow)
            process.runtime = Runtime(process.host, workflows=[flow], on_event=meddles)
            process.runtime.listen(process.events.append)
            given, sent = ["caller"], ["sent"]
            run = await process.runtime.start(flow, given, id="a")
            given.append("later")
            await run.signal("s", sent)
            sent.append("later")
            await run.settle()
            (await run.query("q")).append("caller changed the answer")
            if name == "pending":
                await run.query("pending")
            if name == "update":
                payload = ["payload"]
                (await run.update("u", payload)).append("caller changed the reply")
                payload.append("later")
            if crash:
                await process.crash()
            await process.runtime.signal("a", "go")
            results.append(await (await process.runtime.resume("a")).result())
            assert not any("listener" in str(event) for event in process.events)
        assert results[0] == results[1]
        assert "listener" not in str(results)
        assert results[0][1] == ["sent"]

    drive(test)
