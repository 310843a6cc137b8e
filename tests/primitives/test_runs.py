"""Runs as a whole: signals, queries, updates, pause, cancel, children, patches, continuing as new, setting aside."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from alkaline_edge import (
    Context,
    CycleDetected,
    DepthExceeded,
    InvalidInput,
    NotFound,
    events,
    runs,
    workflow,
)
from tests.support import Process, drive, kinds


async def echo(value: Any) -> Any:
    return value


def test_the_states_of_a_run_are_one_table() -> None:
    """The type, what counts as finished and the colours are of one list; the events that end a run look like it."""
    assert get_args(runs.Status) == runs.STATUSES
    ends = {kind.cls.__name__.lower(): kind.colour for kind in events.KINDS if kind.role == "ends"}
    assert ends.keys() - {"continuedasnew"} == runs.FINISHED
    assert {status: ends[status].removeprefix("bold ") for status in runs.FINISHED} == {
        status: state.colour for status, state in runs.STATES.items() if state.finished
    }


def test_queries_answer_running_suspended_and_finished_runs() -> None:
    """The same query, also from another process after the end; it changes nothing."""

    @workflow
    async def flow(ctx: Context) -> Any:
        state = {"stage": "start"}
        ctx.on_query("stage", lambda: state["stage"])
        ctx.on_query("add", lambda a, b: a + b)
        ctx.on_query("bad", lambda: ctx.emit("x"))
        state["stage"] = "waiting"
        await ctx.wait_for_signal("go")
        state["stage"] = "done"
        return 1

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        assert await run.query("stage") == "waiting"
        await run.settle()
        assert await run.query("stage") == "waiting"
        await process.crash()
        before = dict(process.host.store.entries)
        assert await process.runtime.query("a", "stage") == "waiting"
        assert process.host.store.entries == before
        with pytest.raises(NotFound, match="has no query 'nope'; it has: add, bad, stage"):
            await process.runtime.query("a", "nope")
        with pytest.raises(InvalidInput, match="only read"):
            await process.runtime.query("a", "bad")
        await process.runtime.signal("a", "go")
        await (await process.runtime.resume("a")).result()
        assert await process.runtime.query("a", "stage") == "done"
        assert await process.runtime.query("a", "add", 2, 3) == 5
        await process.runtime.close()

    drive(test)


def test_updates_are_validated_recorded_and_answered() -> None:
    """A refused update leaves no trace; an accepted one may use ctx, and its reply comes back."""

    @workflow
    async def flow(ctx: Context) -> Any:
        total = [0]

        async def add(n: int) -> int:
            total[0] += await ctx.step("echo", echo, n)
            return total[0]

        def check(n: int) -> None:
            if n < 0:
                raise ValueError("only upwards")

        ctx.on_update("add", add, validator=check)
        await ctx.wait_for_signal("end")
        return total[0]

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        assert await run.update("add", 2) == 2
        with pytest.raises(ValueError, match="only upwards"):
            await run.update("add", -1)
        assert await run.update("add", 3) == 5
        with pytest.raises(NotFound, match="takes no update"):
            await run.update("nope", 1)
        names = kinds(await process.runtime.history("a"))
        assert names.count("UpdateReceived") == 2
        record = await process.runtime.get_execution("a")
        assert record.cursor_length == len({r.commit for r in await process.runtime.history("a")})
        await process.crash()
        await process.runtime.signal("a", "end")
        assert await (await process.runtime.resume("a")).result() == 5
        await process.runtime.close()

    drive(test)


def test_pause_lets_what_is_in_flight_end_and_starts_nothing_new() -> None:
    """A paused run stays paused over a restart, and goes on after resume."""
    ran: list[int] = []

    async def test() -> None:
        gate = asyncio.Event()

        async def work(n: int) -> int:
            if n == 0:
                await gate.wait()
            ran.append(n)
            return n

        @workflow
        async def flow(ctx: Context) -> Any:
            return [await ctx.step("work", work, n) for n in range(3)]

        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await asyncio.sleep(0)
        await run.pause()
        gate.set()
        await run.settle()
        assert ran == [0]
        assert (await process.runtime.get_execution("a")).status == "paused"
        await process.crash()
        await process.runtime.recover()
        await process.runtime.run_due()
        assert ran == [0]
        run = await process.runtime.resume("a")
        assert await run.result() == [0, 1, 2]
        assert ran == [0, 1, 2]
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize(("mode", "expected"), [("cancel", "cancelled"), ("abandon", "suspended")])
def test_children_are_cancelled_or_abandoned_with_their_parent(mode: str, expected: str) -> None:
    """on_parent_close says what becomes of a child that is still going."""

    @workflow
    async def child(ctx: Context) -> Any:
        await ctx.wait_for_signal("never")

    @workflow
    async def parent(ctx: Context) -> Any:
        task = asyncio.create_task(ctx.child("child", id="kid", on_parent_close=mode))
        await ctx.sleep(1)
        return task.done()

    async def test() -> None:
        process = Process(parent, child)
        assert await (await process.runtime.start("parent", id="p")).result() is False
        await process.runtime.run_due()
        await process.runtime.settle("kid")
        assert (await process.runtime.get_execution("kid")).status == expected
        await process.runtime.close()

    drive(test)


def test_a_childs_failure_and_result_reach_its_parent_over_crashes() -> None:
    """Parent and child are two runs; each survives the death of the process."""

    @workflow
    async def child(ctx: Context, n: int) -> int:
        await ctx.sleep(100)
        if n == 1:
            raise ValueError("odd")
        return n * 10

    @workflow
    async def parent(ctx: Context) -> Any:
        results = await asyncio.gather(ctx.child(child, 1), ctx.child(child, 2), return_exceptions=True)
        return [str(result) for result in results]

    async def test() -> None:
        process = Process(parent, child)
        run = await process.runtime.start("parent", id="p")
        await run.settle()
        await process.crash()
        process.host.advance(200)
        await process.runtime.run_due()
        assert await process.runtime.result("p", None) == ["odd", "20"]
        await process.runtime.close()

    drive(test)


def test_a_workflow_inside_its_own_ancestry_is_refused_with_the_chain() -> None:
    """The first cycle fails, and the message shows the way there."""

    @workflow
    async def a(ctx: Context) -> Any:
        return await ctx.child("b")

    @workflow
    async def b(ctx: Context) -> Any:
        return await ctx.child("a")

    async def test() -> None:
        process = Process(a, b)
        with pytest.raises(CycleDetected, match="a > b > a"):
            await (await process.runtime.start("a", id="r")).result()
        await process.runtime.close()

    drive(test)


def test_a_recursive_workflow_is_held_by_the_depth_alone() -> None:
    """Declared recursion goes down to max_depth, and then ERR_DEPTH_EXCEEDED."""

    @workflow(recursive=True)
    async def down(ctx: Context, n: int) -> Any:
        return [n, await ctx.child("down", n - 1)] if n else [0]

    async def test() -> None:
        process = Process(down, max_depth=3)
        assert await (await process.runtime.start("down", 3)).result() == [3, [2, [1, [0]]]]
        with pytest.raises(DepthExceeded, match="max_depth is 3"):
            await (await process.runtime.start("down", 4)).result()
        await process.runtime.close()

    drive(test)


def test_patched_takes_the_old_path_for_old_runs_and_the_new_one_for_new_runs() -> None:
    """A change behind ctx.patched does not disturb runs in flight, also when they replay again later."""

    def version(new: bool) -> Any:
        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            await ctx.step("echo", echo, 1)
            if new and ctx.patched("better"):
                value = await ctx.step("new", echo, "new")
            else:
                value = await ctx.step("old", echo, "old")
            await ctx.wait_for_signal("go")
            return value

        return flow

    async def test() -> None:
        process = Process(version(False))
        await (await process.runtime.start("flow", id="old")).settle()
        await process.crash(version(True))
        await (await process.runtime.start("flow", id="new")).settle()
        await process.crash()
        for id in ("old", "new"):
            await process.runtime.signal(id, "go")
            assert await (await process.runtime.resume(id)).result() == id
        await process.runtime.close()

    drive(test)


def test_runs_are_listed_by_status_workflow_and_attributes_in_pages() -> None:
    """Each filter, alone and together, page by page."""

    @workflow
    async def flow(ctx: Context, n: int) -> Any:
        ctx.set_attributes(parity="odd" if n % 2 else "even", n=n, why="a b/c")
        if n < 4:
            await ctx.wait_for_signal("go")

    async def test() -> None:
        process = Process(flow)
        for n in range(10):
            await (await process.runtime.start("flow", n, id=f"r{n}")).settle()
        listing = process.runtime.list_executions
        assert [r.id for r in await listing(status="suspended")] == ["r0", "r1", "r2", "r3"]
        assert [r.id for r in await listing(attributes={"parity": "odd"}, status="completed")] == ["r5", "r7", "r9"]
        assert [r.id for r in await listing(attributes={"n": 7})] == ["r7"]
        assert [r.id for r in await listing(attributes={"why": "a b/c"}, limit=100, workflow="flow")] == [
            f"r{n}" for n in range(10)
        ]
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await listing(workflow="flow", status="completed", limit=4, after=after)
            assert len(page) <= 4
            seen += [record.id for record in page]
            after = page.after
        assert seen == [f"r{n}" for n in range(4, 10)]
        await process.runtime.close()

    drive(test)


def test_start_at_waits_and_join_gets_the_run_that_is_there() -> None:
    """start_at begins by a timer; on_conflict="join" is one run."""

    @workflow
    async def flow(ctx: Context) -> Any:
        return ctx.now()

    async def test() -> None:
        process = Process(flow)
        when = datetime.fromtimestamp(process.host.now_ms() / 1000, UTC) + timedelta(hours=3)
        await process.runtime.start("flow", id="a", start_at=when)
        assert (await process.runtime.get_execution("a")).status == "suspended"
        assert await process.runtime.run_due() == round(when.timestamp() * 1000)
        joined = await process.runtime.start("flow", id="a", on_conflict="join")
        assert await joined.result() >= when
        with pytest.raises(Exception, match="exists already"):
            await process.runtime.start("flow", id="a")
        await process.runtime.close()

    drive(test)


def test_long_histories_are_sealed_into_segments_and_read_back() -> None:
    """Sealing bounds the number of keys, and a replay sees one history."""

    @workflow
    async def flow(ctx: Context) -> Any:
        total = 0
        for n in range(100):
            total += await ctx.step("echo", echo, n)
        await ctx.wait_for_signal("go")
        return total

    async def test() -> None:
        process = Process(flow)
        await (await process.runtime.start("flow", id="a")).settle()
        stored = list(process.host.store.entries)
        assert sum(key.startswith("s/") for key in stored) == 12
        assert sum(key.startswith("h/") for key in stored) < 8
        await process.crash()
        await process.runtime.signal("a", "go")
        assert await (await process.runtime.resume("a")).result() == 4950
        assert len(await process.runtime.history("a")) == 103
        await process.runtime.close()

    drive(test)


def test_no_user_code_runs_because_a_run_was_set_aside() -> None:
    """Not at suspension, not when it leaves memory, not at close: neither finally, except, with nor generators."""
    ran: list[str] = []

    class Guard:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            ran.append("exit")

    def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            ran.append("generator")

    @workflow
    async def flow(ctx: Context) -> Any:
        async def branch() -> None:
            try:
                await ctx.wait_for_signal("never")
            finally:
                ran.append("branch")

        try:
            with Guard():
                for _ in numbers():
                    await asyncio.gather(branch(), ctx.wait_for_signal("never"))
        except BaseException:
            ran.append("except")
            raise
        finally:
            ran.append("finally")

    async def test() -> None:
        process = Process(flow)
        process.runtime.keep_asleep = 2
        for n in range(5):
            await (await process.runtime.start("flow", id=f"r{n}")).settle()
        gc.collect()
        await process.crash()
        await process.runtime.resume("r0")
        await process.runtime.settle("r0")
        await process.runtime.close()

    drive(test)
    gc.collect()
    assert ran == []


def test_no_user_code_runs_at_the_end_of_the_process_either() -> None:
    """A program that ends with a run suspended, and never closed its runtime, prints nothing from finally."""
    program = textwrap.dedent(
        """
        import asyncio
        from alkaline_edge import Runtime, workflow
        from alkaline_hosts.memory import MemoryHost

        @workflow
        async def flow(ctx):
            try:
                await ctx.wait_for_signal("never")
            finally:
                print("user code ran")

        async def main():
            runtime = Runtime(MemoryHost(), workflows=[flow])
            run = await runtime.start("flow")
            await run.settle()
            print("suspended")

        asyncio.run(main())
        """
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env)
    assert done.stdout == "suspended\n"
    assert done.stderr == ""


def test_bad_input_is_refused_with_what_to_do() -> None:
    """Handlers, names, ids and workflows that can't be taken: typed, and nothing is written."""

    def not_async(ctx: Context) -> None: ...

    async def three(ctx: Context, a: int, b: int) -> None: ...

    @workflow
    async def flow(ctx: Context) -> None: ...

    with pytest.raises(InvalidInput, match="not async; write `async def not_async"):
        workflow(not_async)
    with pytest.raises(InvalidInput, match="must take"):
        workflow(three)

    async def test() -> None:
        process = Process(flow)
        for bad in ("", "a b", "a/b", "x" * 161, "ä", 7):
            with pytest.raises(InvalidInput, match="a run id is"):
                await process.runtime.start("flow", id=bad)  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="there is no workflow 'nope' here; registered are: flow"):
            await process.runtime.start("nope")
        with pytest.raises(InvalidInput, match=r"input\.a is of type object"):
            await process.runtime.start("flow", {"a": object()})
        with pytest.raises(NotFound, match="no run 'ghost'"):
            await process.runtime.signal("ghost", "x")
        assert process.host.store.entries == {}
        await process.runtime.close()
        with pytest.raises(Exception, match="closed"):
            await process.runtime.start("flow")

    drive(test)
