"""Where an error was raised is told live, by logging and by ``__cause__``; the durable record holds no trace of it."""

from __future__ import annotations

import gc
import logging
import traceback
import weakref
from typing import Any

import pytest

from alkaline_edge import Context, Retry, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from tests.support import Process, drive


def deep_in_the_code() -> Any:
    return {}["missing"]


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """Level, whether there is a trace to the raising line, and the message, of what the kernel's logger said."""
    found = []
    for record in caplog.records:
        assert record.name == "alkaline_edge"
        trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
        found.append((record.levelname, trace.count("in deep_in_the_code"), record.getMessage()))
    return found


def test_a_handlers_own_error_is_raised_from_what_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    """``result()`` shows the raising line, the log too; the history, the record and another process don't have it."""

    @workflow
    async def buggy(ctx: Context) -> None:
        await ctx.step("a", lambda: 1)
        deep_in_the_code()

    async def test() -> None:
        caplog.set_level(logging.INFO, "alkaline_edge")
        process = Process(buggy)
        with pytest.raises(KeyError) as raised:
            await (await process.runtime.start(buggy, id="r")).result()
        assert "deep_in_the_code" in "".join(traceback.format_exception(raised.value))
        assert told(caplog) == [("INFO", 1, "run r failed")]
        record = await process.runtime.get_execution("r")
        assert record.failure == {"type": "KeyError", "message": "missing"}
        assert "deep" not in str(await process.runtime.history("r"))
        await process.crash()
        with pytest.raises(KeyError) as elsewhere:
            await process.runtime.result("r", None)
        assert elsewhere.value.__cause__ is None

    drive(test)


def test_what_a_deleted_run_raised_is_kept_no_longer() -> None:
    """The error holds the frames that it went through, and those the whole run."""

    class Held:
        pass

    seen: list[weakref.ref[Held]] = []

    @workflow
    async def buggy(ctx: Context) -> None:
        held = Held()
        seen.append(weakref.ref(held))
        deep_in_the_code()

    async def test() -> None:
        runtime = Runtime(SimulatedHost(), workflows=[buggy])
        run = await runtime.start(buggy, id="r")
        await run.settle()
        assert seen[0]() is not None
        await runtime.delete("r")
        gc.collect()
        assert seen[0]() is None
        await runtime.close()

    drive(test)


def test_steps_and_updates_tell_where_they_raised(caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt once, and not again by a replay; an update's handler and its validator too."""

    @workflow
    async def flow(ctx: Context) -> Any:
        ctx.on_update("handled", lambda _: deep_in_the_code())
        ctx.on_update("checked", lambda _: None, validator=lambda _: deep_in_the_code())
        try:
            await ctx.step("s", deep_in_the_code, retry=Retry(max_attempts=2, backoff=0))
        except KeyError:
            pass
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        caplog.set_level(logging.INFO, "alkaline_edge")
        process = Process(flow)
        run = await process.runtime.start(flow, id="r")
        for name in ("handled", "checked"):
            with pytest.raises(KeyError):
                await run.update(name)
        await run.settle()
        seen = [
            ("INFO", 1, "run r: attempt 1 of step 's' failed and is tried again"),
            ("INFO", 1, "run r: attempt 2 of step 's' failed"),
            ("INFO", 1, "run r: an update failed"),
            ("INFO", 1, "run r: an update failed"),
        ]
        assert sorted(told(caplog)) == sorted(seen)
        caplog.clear()
        await process.crash()
        await process.runtime.signal("r", "go", 1)
        assert await process.runtime.result("r", None) == 1
        assert told(caplog) == []

    drive(test)


def test_a_run_that_is_stuck_is_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Code that disagrees: at which event, both sides, once, however often it is tried; another reason again."""

    def code(name: str) -> Any:
        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            await ctx.step(name, lambda: 1)
            return await ctx.wait_for_signal("go")

        return flow

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[code("first")]) as runtime:
            await (await runtime.start("flow", id="r")).settle()
            await runtime.signal("r", "other")
        async with Runtime(host, workflows=[code("renamed")]) as runtime:
            for _ in range(3):
                await runtime.resume("r")
                await runtime.settle("r")
            assert runtime.stuck["r"].code == "ERR_DETERMINISM"
            [(level, _, text)] = told(caplog)
            assert level == "ERROR"
            assert text.startswith("run r is stuck: ERR_DETERMINISM: the code and the history disagree at event 0")
            assert "the run goes on once the code that wrote it is back" in text
            assert "'first'" in text
            assert "'renamed'" in text
        async with Runtime(host, workflows=[code("third")]) as runtime:
            await runtime.resume("r")
            await runtime.settle("r")
            assert "'third'" in told(caplog)[-1][2]

    drive(test)
