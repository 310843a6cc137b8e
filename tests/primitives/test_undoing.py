"""Compensation: every step that completed is undone, last first, also one that nobody waited for any more.

The loser of a race, a branch beside one that fails, a step in flight as the run is cancelled: each may complete all
the same. Its completion is recorded, and compensation waits for it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Codec, Context, Runtime, StepError, in_thread, workflow
from alkaline_edge import events as ev
from alkaline_edge.machine.execution import Execution, Sources
from alkaline_edge.replay import check, read
from alkaline_edge.runs import Header
from alkaline_hosts.memory import MemoryHost

from ..support import Process, drive, kinds


class Books:
    """What was done and undone, by name."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.undone: list[str] = []

    def doing(self, name: str, turns: int = 0, stubborn: bool = False) -> Callable[[], Any]:
        async def act() -> str:
            for _ in range(turns):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if not stubborn:
                        raise
            self.done.append(name)
            return name

        return act

    def undo(self, name: str) -> None:
        self.undone.append(name)


async def fails() -> None:
    raise KeyError("no room")


def sound(bundle: bytes, flow: Any) -> bool:
    return all(one.ok for one in check(bundle, flow))


def after_the_failure(books: Books, together: Callable[[Context], Any]) -> None:
    """Run ``together``, let the workflow fail behind it, and compare what was done with what was undone."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        await together(ctx)
        raise ValueError("the end")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(StepError):
            await run.result()
        assert sound(await process.runtime.export("a"), flow)

    drive(test)
    assert sorted(books.undone) == sorted(books.done)


def test_the_loser_of_a_race_that_completed_too_is_undone() -> None:
    """Both end in the same turn: the second is recorded behind the first, and undone before it."""
    books = Books()
    after_the_failure(
        books,
        lambda ctx: ctx.race(
            a=ctx.step("a", books.doing("a"), compensate=books.undo),
            b=ctx.step("b", books.doing("b"), compensate=books.undo),
        ),
    )
    assert books.undone == ["b", "a"]


def test_a_branch_that_completed_beside_one_that_failed_is_undone() -> None:
    """As with a race: ctx.all withdraws what is left once one has failed."""
    books = Books()

    async def together(ctx: Context) -> None:
        await ctx.all(ctx.step("fails", fails), ctx.step("b", books.doing("b"), compensate=books.undo))

    after_the_failure(books, together)
    assert books.undone == ["b"]


def test_a_step_that_ignores_its_cancel_and_completes_is_undone() -> None:
    """It goes on behind the race, and compensation waits for its end."""
    books = Books()
    stubborn = books.doing("b", 50, stubborn=True)
    after_the_failure(
        books,
        lambda ctx: ctx.race(
            a=ctx.step("a", books.doing("a"), compensate=books.undo), b=ctx.step("b", stubborn, compensate=books.undo)
        ),
    )
    assert books.undone == ["b", "a"]


def test_a_step_that_was_stopped_is_not_undone() -> None:
    """It did not complete, so there is no result to undo it by; the run ends without waiting for more."""
    books = Books()
    after_the_failure(
        books,
        lambda ctx: ctx.race(
            a=ctx.step("a", books.doing("a"), compensate=books.undo),
            b=ctx.step("b", books.doing("b", 10_000), compensate=books.undo),
        ),
    )
    assert books.undone == ["a"]


@pytest.mark.parametrize("how", ["the run is cancelled", "its time is up", "the race is lost"])
def test_a_step_in_a_thread_that_nobody_waits_for_is_undone_once_it_has_ended(how: str) -> None:
    """Nothing stops a thread: compensation begins when it has ended, with what it did."""
    books, begun, end = Books(), threading.Event(), threading.Event()

    @in_thread
    def book() -> str:
        begun.set()
        end.wait(10)
        books.done.append("flight")
        return "flight"

    async def soon() -> None:
        while not begun.is_set():
            await asyncio.sleep(0.001)

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        flight = ctx.step("flight", book, compensate=books.undo)
        if how == "its time is up":
            async with asyncio.timeout(0.05):
                await flight
        elif how == "the race is lost":
            await ctx.race(flight=flight, other=ctx.step("soon", soon))
            raise ValueError("the end")
        await flight

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            await soon()
            if how == "the run is cancelled":
                await run.cancel("enough")
            await asyncio.sleep(0.08)
            assert not books.undone
            assert not (await runtime.get_execution("a")).finished
            end.set()
            with pytest.raises((AlkalineError, StepError)):
                await run.result(timeout=5)
            assert sound(await runtime.export("a"), flow)

    drive(test)
    assert books.undone == books.done == ["flight"]


def test_what_a_loser_cost_is_charged() -> None:
    """It has spent it, whoever won."""
    books = Books()

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        await ctx.race(a=ctx.step("a", books.doing("a"), cost=3), b=ctx.step("b", books.doing("b"), cost=4))
        await ctx.step("c", books.doing("c"))

    async def test() -> None:
        process = Process(flow)
        await (await process.runtime.start("flow", id="a")).result()
        assert (await process.runtime.get_execution("a")).spent["tokens"] == 7
        assert sound(await process.runtime.export("a"), flow)

    drive(test)


def test_what_a_task_left_behind_completed_is_undone() -> None:
    """Nobody awaited it, and it was in flight, in a thread, when the handler had failed and undone all else."""
    books, begun, end = Books(), threading.Event(), threading.Event()

    @in_thread
    def book() -> str:
        begun.set()
        end.wait(10)
        books.done.append("left")
        return "left"

    async def undo_other(name: str) -> None:
        books.undo(name)
        end.set()

    async def look() -> None:
        while not begun.is_set():
            await asyncio.sleep(0.001)

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        task = asyncio.ensure_future(ctx.step("left", book, compensate=books.undo))
        await ctx.step("other", books.doing("other"), compensate=undo_other)
        await ctx.step("look", look)
        raise ValueError(f"{task.done()}")

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            with pytest.raises(StepError, match="False"):
                await run.result(timeout=5)
            assert sound(await runtime.export("a"), flow)

    drive(test)
    assert books.undone == ["other", "left"]


def test_a_cancel_by_a_task_of_the_handler_does_not_end_the_wait() -> None:
    """What is being undone is undone to its end, whoever cancels the handler's task meanwhile."""
    books = Books()
    stubborn = books.doing("b", 50, stubborn=True)

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        main = asyncio.current_task()
        assert main is not None

        async def nag() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                main.cancel()

        b = ctx.step("b", stubborn, compensate=books.undo)
        await ctx.race(a=ctx.step("a", books.doing("a"), compensate=books.undo), b=b)
        task = asyncio.ensure_future(nag())
        raise ValueError(f"{task.done()}")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(StepError, match="False"):
            await run.result()
        assert sound(await process.runtime.export("a"), flow)

    drive(test)
    assert books.undone == ["b", "a"]


def test_losers_of_a_generation_that_went_on_are_not_undone() -> None:
    """continue_as_new ends a generation in success: what it did stands, as with a run that completes."""
    books = Books()

    @workflow(name="flow")
    async def flow(ctx: Context, n: int) -> None:
        a = ctx.step("a", books.doing(f"a{n}"), compensate=books.undo)
        await ctx.race(a=a, b=ctx.step("b", books.doing(f"b{n}"), compensate=books.undo))
        if n:
            ctx.continue_as_new(n - 1)
        raise ValueError("the end")

    async def test() -> None:
        run = await Process(flow).runtime.start("flow", 1, id="a")
        with pytest.raises(StepError, match="the end"):
            await run.result()

    drive(test)
    assert books.undone == ["b0", "a0"]


def test_a_replay_of_late_completions_holds_at_every_end_of_a_page() -> None:
    """Wherever a page ends, what stands on the next one is looked at before anything is undone."""
    books = Books()

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        for n in range(2):
            a = ctx.step("a", books.doing(f"a{n}"), at_most_once=True, compensate=books.undo)
            await ctx.race(a=a, b=ctx.step("b", books.doing(f"b{n}", 3, True), compensate=books.undo, cost=2))
        raise ValueError("the end")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(StepError, match="the end"):
            await run.result()
        timed = list(read(await process.runtime.export("a")).events())
        assert len(timed) > 10
        for cut in range(len(timed)):
            assert replay(flow, timed, cut) == timed[-1][1]

    drive(test)
    assert sorted(books.undone) == ["a0", "a1", "b0", "b1"]


def replay(flow: Any, timed: list[tuple[int, Any]], cut: int) -> Any:
    """How a replay ends whose first page has ``cut`` events."""
    (start, started), *rest = timed
    header = Header.from_map(started.header)
    machine = Execution(flow, header, None, Codec(), Sources(lambda: 0, bytes), Context)
    machine.start(start)
    machine.feed(rest[:cut], more=True)
    machine.feed(rest[cut:])
    outcome = machine.outcome
    machine.set_aside()
    return outcome


@pytest.mark.parametrize("seed", range(16))
def test_random_orders_and_crashes_undo_whatever_completed(seed: int) -> None:
    """Races, branches, time-outs and cancels of steps that end in any order, some of which ignore their cancel.

    Without a crash all that was done is undone. With some, all that is recorded as done: and what completed and was
    withdrawn may be lost with its process alone.
    """
    draw = random.Random(seed)
    books = Books()
    crashes = draw.randrange(3)
    plan = [[(draw.randrange(4), draw.random() < 0.3) for _ in range(draw.randrange(2, 5))] for _ in range(4)]
    kind = [draw.choice(["race", "all", "timeout"]) for _ in plan]
    end = draw.choice(["fails", "is cancelled"])

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        for n, steps in enumerate(plan):
            branches = []
            for m, (turns, stubborn) in enumerate(steps):
                name = f"{n}.{m}"
                branches.append(ctx.step(name, books.doing(name, turns, stubborn), compensate=books.undo))
            try:
                if kind[n] == "race":
                    await ctx.race(**{f"b{m}": branch for m, branch in enumerate(branches)})
                elif kind[n] == "all":
                    await ctx.all(*branches, ctx.step("fails", fails))
                else:
                    async with asyncio.timeout(0):
                        await ctx.all(*branches)
            except (KeyError, TimeoutError):
                pass
        if end == "fails":
            raise ValueError("the end")
        await ctx.wait_for_signal("never")

    process = Process(flow)

    def befall(number: int, verb: str, arguments: Any) -> str | None:
        return draw.choice(["crash", "crash-after"]) if draw.random() < 0.04 and not process.host.dead else None

    async def test() -> None:
        process.host.on_call = befall if crashes else None
        for life in range(crashes + 1):
            if life == crashes:
                process.host.on_call = None
            try:
                runtime = process.runtime
                run = await (runtime.start("flow", id="a", on_conflict="join") if not life else runtime.resume("a"))
                if end == "is cancelled":
                    await asyncio.wait_for(run.settle(), 1)
                    await run.cancel("enough")
                await asyncio.wait_for(run.result(), 1)
            except BaseException as error:
                if isinstance(error, AssertionError):
                    raise
            if life < crashes:
                await process.crash()
                process.host.on_call = befall
        if await process.runtime.list_executions() and not (await process.runtime.get_execution("a")).finished:
            raise AssertionError("it did not end")

    drive(test)

    async def look() -> None:
        try:
            history = await process.runtime.history("a")
        except Exception:
            return  # it died before the run was recorded
        completed = [r.event.name for r in history if isinstance(r.event, ev.StepCompleted)]
        done = [name for name in completed if not name.startswith("compensate")]
        assert sorted(f"compensate {name}" for name in done) == sorted(n for n in completed if n not in done)
        assert sound(await process.runtime.export("a"), flow)
        if not crashes:
            assert sorted(books.undone) == sorted(books.done)

    drive(look)


HEARD = {"signal": "SignalReceived", "cancel": "CancelRequested", "pause": "Paused", "update": "UpdateReplied",
         "resume": "Resumed"}  # fmt: skip


@pytest.mark.parametrize("order", [("signal", "cancel", "pause"), ("pause", "signal", "resume"), ("update", "cancel")])
@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
def test_what_comes_in_while_a_thread_is_waited_for_is_heard(order: tuple[str, ...], ends: str) -> None:
    """A step in a thread may take as long as it likes: until it has ended nothing was looked at, nor answered."""
    books, begun, end = Books(), threading.Event(), threading.Event()

    @in_thread
    def book() -> str:
        begun.set()
        end.wait(10)
        books.done.append("flight")
        return "flight"

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        async def greet() -> None:
            while True:
                books.undone.append(await ctx.wait_for_signal("hello"))

        ctx.on_update("ask", lambda payload: [payload, "answered"])
        greeting = asyncio.ensure_future(greet())
        try:
            flight = ctx.step("flight", book, compensate=books.undo)
            await ctx.race(flight=flight, enough=ctx.wait_for_signal("enough"))
            raise ValueError("the end")
        finally:
            books.done.append(f"left, {greeting.done()}")

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            run = await runtime.start("flow", id="a")
            while not begun.is_set():
                await asyncio.sleep(0.001)
            await (run.cancel("enough") if ends == "is cancelled" else run.signal("enough"))
            while not books.done:
                await asyncio.sleep(0.001)
            for what in order:
                match what:
                    case "signal":
                        await run.signal("hello", "hello")
                    case "update":
                        assert await asyncio.wait_for(run.update("ask", 1), 5) == [1, "answered"]
                    case _:
                        await getattr(run, what)()
            while not {HEARD[what] for what in order} <= set(kinds(await runtime.history("a"))):
                await asyncio.sleep(0.001)
            assert (await runtime.get_execution("a")).status == ("paused" if order[-1] == "pause" else "running")
            assert books.undone == (["hello"] if "signal" in order else [])
            end.set()
            if order[-1] == "pause":
                await run.settle()
                assert (await runtime.get_execution("a")).status == "paused"
                assert "flight" not in books.undone
                await run.resume()
            with pytest.raises((AlkalineError, StepError)):
                await run.result(timeout=5)
            assert sound(await runtime.export("a"), flow)

    drive(test)
    assert [name for name in books.undone if name != "hello"] == ["flight"]


@pytest.mark.parametrize("seed", range(12))
def test_what_tasks_left_behind_do_while_all_is_undone_is_replayed_as_it_was(seed: int) -> None:
    """They hear signals and timers, run steps, draw values and cancel the handler, before and after it begins.

    Whatever of that comes first: what is undone is undone to its end, once, and a replay agrees.
    """
    draw = random.Random(seed)
    books = Books()
    late = [(f"l{n}", draw.randint(2, 40)) for n in range(draw.randint(1, 3))]
    behind = [draw.choice(["timer", "signal", "turns"]) for _ in range(draw.randint(1, 4))]
    deeds = [draw.sample(["step", "undoable", "draw", "nag", "emit"], 3) for _ in behind]

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        main = asyncio.current_task()
        assert main is not None

        async def left_behind(n: int) -> None:
            for round in range(3):
                if behind[n] == "timer":
                    await ctx.sleep(0.01 * (round + 1))
                elif behind[n] == "signal":
                    await ctx.wait_for_signal(f"s{n}")
                else:
                    await ctx.step(f"turns{n}.{round}", books.doing(f"t{n}.{round}", draw_turns[n]))
                match deeds[n][round]:
                    case "step":
                        await ctx.step(f"b{n}.{round}", books.doing(f"b{n}.{round}", 3))
                    case "undoable":
                        name = f"u{n}.{round}"
                        await ctx.step(name, books.doing(name, 3), compensate=books.undo)
                    case "draw":
                        ctx.random()
                    case "nag":
                        main.cancel()
                    case "emit":
                        ctx.emit("t", round)

        ctx.on_update("ask", lambda payload: payload)
        tasks = [asyncio.ensure_future(left_behind(n)) for n in range(len(behind))]
        first = ctx.step("first", books.doing("first"), compensate=books.undo)
        losers = {name: ctx.step(name, books.doing(name, turns, True), compensate=books.undo) for name, turns in late}
        try:
            await ctx.race(first=first, **losers)
        except asyncio.CancelledError:
            pass
        raise ValueError(f"the end of {len(tasks)}")

    draw_turns = [draw.randint(0, 10) for _ in behind]

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        for _ in range(6):
            for _ in range(draw.randint(0, 8)):
                await asyncio.sleep(0)
            try:
                if draw.random() < 0.8:
                    await run.signal(f"s{draw.randrange(len(behind))}", 1)
                else:
                    await asyncio.wait_for(run.update("ask", 1), 5)
            except AlkalineError:
                break  # it has ended
        with pytest.raises((StepError, AlkalineError)):
            await run.result(timeout=100)
        timed = [each for commit in read(await process.runtime.export("a")).commits for each in commit]
        assert sound(await process.runtime.export("a"), flow)
        completed = [one.name for _, one in timed if isinstance(one, ev.StepCompleted)]
        undone = [name.removeprefix("compensate ") for name in completed if name.startswith("compensate ")]
        doable = {"first", *dict(late)} | {name for name in completed if name[0] == "u"}
        assert sorted(undone) == sorted(name for name in completed if name in doable)
        failure = timed[-1][1].failure if isinstance(timed[-1][1], ev.Failed) else {"message": ""}
        assert "compensations that failed" not in failure["message"]
        await process.crash()
        assert (await process.runtime.get_execution("a")).finished

    drive(test)


@pytest.mark.parametrize("turns", range(8))
def test_a_step_left_behind_that_ends_meanwhile_waits_for_its_turn(turns: int) -> None:
    """It is recorded once those have ended that are to be undone; asking for it again and again held the whole loop."""
    books = Books()

    @workflow(name="flow")
    async def flow(ctx: Context) -> None:
        left = asyncio.ensure_future(ctx.step("left", books.doing("left", turns)))
        await ctx.race(
            a=ctx.step("a", books.doing("a"), compensate=books.undo),
            b=ctx.step("b", books.doing("b", 60, stubborn=True), compensate=books.undo),
        )
        raise ValueError(f"the end, {left}")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(StepError, match="the end"):
            await run.result()
        assert sound(await process.runtime.export("a"), flow)

    drive(test)
    assert books.undone == ["b", "a"]


@pytest.mark.parametrize("paid", [0, 1, 3])
@pytest.mark.parametrize("how", ["cancel", "fail"])
@pytest.mark.parametrize("crashes", [False, True])
def test_what_has_a_price_and_completes_while_a_late_step_is_waited_for_replays(
    paid: int, how: str, crashes: bool
) -> None:
    """Its charge is recorded before the handler is at its end, and is found there by a process that comes after."""

    async def test() -> None:
        books = Books()

        async def lingers() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for _ in range(20):  # what is paid for has ended before
                    await asyncio.sleep(0)
                raise

        async def completes_all_the_same() -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "paid"
            return "never"

        @workflow(name="buys")
        async def buys(ctx: Context) -> None:
            bought = [ctx.step(f"paid {n}", completes_all_the_same, cost=5) for n in range(paid)]
            late = ctx.step("late", lingers, compensate=books.undo)
            async with asyncio.TaskGroup() as group:
                for step in (late, *bought, *([ctx.step("fails", fails)] if how == "fail" else [])):
                    group.create_task(step)  # type: ignore[arg-type]  # a step is a coroutine

        process = Process(buys)
        run = await process.runtime.start(buys, id="r")
        for _ in range(5):
            await asyncio.sleep(0)
        if how == "cancel":
            await run.cancel()
        with pytest.raises((AlkalineError, StepError, ExceptionGroup)):
            await run.result()
        if crashes:
            await process.crash()
        bundle = await process.runtime.export("r")
        assert sound(bundle, buys)
        record = await process.runtime.get_execution("r")
        assert record.spent["tokens"] == 5 * paid
        assert record.status == ("cancelled" if how == "cancel" else "failed")
        await process.runtime.close()

    drive(test)
