"""Lifecycle events: what a listener is told, once, with the run and the time."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import pytest

import alkaline_edge
from alkaline_edge import AlkalineError, Context, Retry, Runtime, StepInfo, lifecycle, workflow
from tests.support import Process, drive

EVENTS = get_args(lifecycle.LifecycleEvent)


def test_the_union_is_every_event_and_each_says_whose_it_is_and_when() -> None:
    """Whoever matches on it meets no other class, and can file each by its run and its time without a look inside."""
    made = {cls for cls in vars(lifecycle).values() if isinstance(cls, type) and cls.__module__ == lifecycle.__name__}
    assert set(EVENTS) == made
    for cls in EVENTS:
        assert [field.name for field in dataclasses.fields(cls)][:2] == ["id", "at"]
        assert {"workflow", "run"} <= {field.name for field in dataclasses.fields(cls)}
        assert getattr(alkaline_edge, cls.__name__) is cls
        event = cls("a", 5, *(None for _ in dataclasses.fields(cls)[2:]))
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.at = 6


def test_each_event_has_a_kind_of_its_own() -> None:
    """A word that tells it apart in JSON and in a log, and that type checkers narrow by."""
    kinds = [cls.kind for cls in EVENTS]
    assert len(set(kinds)) == len(kinds)
    assert {"started", "signal", "suspended", "completed", "failed"} <= set(kinds)
    assert all(get_type_hints(cls)["kind"] == ClassVar[Literal[cls.kind]] for cls in EVENTS)


def test_every_event_that_a_listener_hears_says_whose_it_is() -> None:
    """The run's workflow and its random id, whatever happens to it and whoever tells of it."""
    tries: list[int] = []

    async def flaky(info: StepInfo) -> None:
        info.publish("part", 1)
        tries.append(1)
        if len(tries) % 2:
            raise ConnectionError("down")

    @workflow
    async def child(ctx: Context) -> Any:
        return await ctx.step("echo", echo, 1)

    @workflow
    async def noisy(ctx: Context, fails: bool) -> Any:
        ctx.emit("a", [1])
        ctx.log("info", "said")
        await ctx.child(child)
        await ctx.step("flaky", flaky, retry=Retry(max_attempts=2, backoff=0))
        await ctx.wait_for_signal("go")
        if fails:
            raise ValueError("on purpose")
        return 1

    @workflow(name="noisy")
    async def changed(ctx: Context, fails: bool) -> Any:
        return await ctx.step("another", echo, 1)

    async def test() -> None:
        process = Process(noisy, child)
        for id, fails in (("a", False), ("b", True)):
            run = await process.runtime.start("noisy", fails, id=id)
            await run.settle()
            await run.pause()
            await run.settle()
            await run.resume()
            await run.signal("go")
            await run.settle()
        for id in ("c", "d"):
            await (await process.runtime.start("noisy", False, id=id)).settle()
        await process.runtime.cancel("c")
        await process.runtime.settle("c")
        await process.crash(changed, child)
        await process.runtime.signal("d", "go")
        with contextlib.suppress(AlkalineError):
            await (await process.runtime.resume("d")).result()
        kinds = {event.kind for event in process.events}
        assert kinds >= {"started", "resumed", "step", "retrying", "signal", "suspended", "paused", "completed",
                         "failed", "cancelled", "emission", "log", "published", "stuck"}  # fmt: skip
        for event in process.events:
            record = await process.runtime.get_execution(event.id)
            assert (event.workflow, event.run) == (record.workflow, record.run), event
        await process.runtime.close()

    drive(test)


def test_a_meter_is_told_of_the_money_too_if_it_takes_it() -> None:
    """One that was written before, with three parameters, hears of the tokens as ever."""
    told: list[Any] = []

    class Meter:
        def record(self, execution: str, tokens: int, label: str, usd: float = 0.0) -> None:
            told.append((execution, tokens, label, usd))

    class Former:
        def record(self, execution: str, tokens: int, label: str) -> None:
            told.append((execution, tokens, label))

    @workflow
    async def spends(ctx: Context) -> None:
        ctx.spend(5, "call", usd=0.25)

    async def test() -> None:
        for meter in (Meter(), Former()):
            async with Runtime(workflows=[spends], meter=meter) as runtime:  # type: ignore[arg-type]  # one of before
                await (await runtime.start("spends", id="a")).result()
        assert told == [("a", 5, "call", 0.25), ("a", 5, "call")]

    drive(test)


def test_a_runtime_without_a_host_is_memory() -> None:
    """A program of a few lines needs no host; two of them share nothing."""

    @workflow
    async def hello(ctx: Context) -> str:
        return "hello"

    async def test() -> None:
        async with Runtime(workflows=[hello]) as runtime, Runtime(workflows=[hello]) as other:
            assert await (await runtime.start("hello", id="a")).result() == "hello"
            assert (runtime.host.capabilities.name, len(await other.list_executions())) == ("memory", 0)

    drive(test)


async def echo(value: Any) -> Any:
    return value


def test_emissions_are_recorded_once_and_logs_are_silent_on_replay() -> None:
    """Listeners hear each emission once; a log line does not repeat when a run is replayed."""

    @workflow
    async def flow(ctx: Context) -> Any:
        for n in range(3):
            ctx.emit("progress", n)
            ctx.log("info", f"line {n}")
            await ctx.step("echo", echo, n)
        await ctx.wait_for_signal("go")
        ctx.emit("progress", "end")
        return None

    async def test() -> None:
        process = Process(flow)
        await (await process.runtime.start("flow", id="a")).settle()
        await process.crash()
        await process.runtime.signal("a", "go")
        await (await process.runtime.resume("a")).result()
        assert [e.data for e in process.events if type(e).__name__ == "Emission"] == [0, 1, 2, "end"]
        assert [e.message for e in process.events if type(e).__name__ == "LogLine"] == ["line 0", "line 1", "line 2"]
        await process.runtime.close()

    drive(test)
