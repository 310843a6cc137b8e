"""Runs that failed and are tried again: from what they failed of, with what is recorded kept, wherever they are."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from alkaline_edge import (
    AlkalineError,
    Budget,
    ConflictError,
    Context,
    DeterminismError,
    NotFound,
    Retry,
    Run,
    Runtime,
    StepInfo,
    hand_over,
    replay,
    sync,
    workflow,
)  # fmt: skip
from alkaline_edge import events as ev
from alkaline_edge.host import Capabilities
from alkaline_edge.lifecycle import RunRetried
from alkaline_edge.testing import SimulatedCrash, SimulatedHost
from tests.sealing.support import sealed
from tests.support import Process, drive, kinds

ran: list[str] = []
went_well: list[str] = []
broken: set[str] = set()
FAULTS = ["error-before", "applied-then-error", "applied-then-conflict", "crash", "crash-after"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()
    went_well.clear()
    broken.clear()


def work(name: str, size: int = 1) -> str:
    ran.append(name)
    if name in broken:
        raise ConnectionError(f"{name} is down")
    went_well.append(name)
    return name * size


@workflow
async def kid(ctx: Context, name: str) -> str:
    first = await ctx.step("first", work, f"{name}-first")
    return first + await ctx.step("second", work, f"{name}-second")


@workflow(budget=Budget(tokens=1_000_000))
async def program(ctx: Context, ops: list[list[Any]]) -> list[Any]:
    """What a list of operations says, one after the other."""
    out: list[Any] = []
    for kind, *args in ops:
        match kind:
            case "step":
                retry = Retry(max_attempts=args[1], backoff=0.001)
                out.append(await ctx.step(args[0], work, args[0], args[2], retry=retry))
            case "gather":
                steps = [ctx.step(name, work, name) for name in args]
                found = await asyncio.gather(*steps, return_exceptions=True)
                for each in found:
                    if isinstance(each, BaseException):
                        raise each
                out.append(found)
            case "all":
                out.append(await ctx.all(*(ctx.step(name, work, name) for name in args)))
            case "child":
                out.append(await ctx.child("kid", args[0]))
            case "draw":
                out.append([ctx.uuid() != "", ctx.random() < 1])
            case "spend":
                ctx.spend(args[0])
            case "signal":
                out.append(await ctx.wait_for_signal("s"))
    return out


def a_program(draw: random.Random) -> tuple[list[list[Any]], list[str]]:
    """Operations, and the names of all their steps."""
    ops: list[list[Any]] = []
    names: list[str] = []
    for n in range(draw.randint(1, 7)):
        kind = draw.choice(["step", "step", "gather", "all", "child", "draw", "spend", "signal"])
        if kind == "step":
            ops.append(["step", f"s{n}", draw.randint(1, 3), draw.choice([1, 1, 299, 2000])])
            names.append(f"s{n}")
        elif kind in ("gather", "all"):
            several = [f"s{n}-{each}" for each in range(draw.randint(1, 4))]
            ops.append([kind, *several])
            names += several
        elif kind == "child":
            ops.append(["child", f"k{n}"])
            names += [f"k{n}-first", f"k{n}-second"]
        else:
            ops.append([kind, *([draw.randint(1, 9)] if kind == "spend" else [])])
    ops.append(["step", "last", 1, 1])
    return ops, [*names, "last"]


class Place:
    """A store, with cuts at any size, perhaps sealed, and a runtime on it."""

    def __init__(self, draw: random.Random, number: int) -> None:
        can = Capabilities(
            f"s{number}", durability="volatile", segment_commits=draw.choice([0, 2, 3, 8]), inline_limit=300,
            max_value=draw.choice([1600, 4000, 100_000]),
        )  # fmt: skip
        self._host: Any = SimulatedHost(seed=number, capabilities=can)
        self._sealed = draw.random() < 0.3
        self.runtime = self.new()

    def new(self) -> Runtime:
        host = sealed(self._host) if self._sealed else self._host
        return Runtime(host, workflows=[program, kid, spender])

    async def crash(self) -> None:
        self._host.dead = True
        with contextlib.suppress(SimulatedCrash):
            await self.runtime.close()
        self._host = self._host.reopen()
        self._host.advance(60)
        self.runtime = self.new()


async def outcome(runtime: Runtime, id: str) -> Any:
    """The run's result, or the name of the step that it failed of; every signal that it waits for is sent."""
    run = await runtime.resume(id)
    while True:
        await run.settle()
        record = await runtime.get_execution(id)
        if record.finished:
            break
        if record.status == "suspended" and any("signal" in each for each in record.waiting):
            await run.signal("s", "sig")
    if record.status == "completed":
        return record.result
    assert record.failure is not None
    return record.failure["message"]


@pytest.mark.parametrize("seed", range(30))
def test_a_run_goes_on_wherever_it_failed_and_is_moved(seed: int) -> None:
    """Programs of every operation fail at random steps, on stores that cut at any size and may be sealed; each is tried
    again, after a crash, at another store, and brought back. The result is that of a run that never failed, what had
    completed is not run again, and each history replays."""
    draw = random.Random(seed)
    ops, names = a_program(draw)

    async def test() -> None:
        place = Place(draw, 1)
        await place.runtime.start("program", ops, id="good")
        good = await outcome(place.runtime, "good")
        has_children = any(op[0] == "child" for op in ops)
        went_well.clear()
        broken.update(draw.sample(names, draw.randint(1, min(3, len(names)))))
        await place.runtime.start("program", ops, id="r")
        seen = await outcome(place.runtime, "r")
        times = 0
        while seen != good:
            times += 1
            assert str(seen).endswith(" is down"), seen
            if draw.random() < 0.3:
                await place.runtime.retry("r")  # it is down still, and another may be found to be
                seen = await outcome(place.runtime, "r")
                times += 1
            broken.discard(str(seen).removesuffix(" is down"))
            step = draw.randint(0, 3)
            if step == 0:
                await place.crash()
            if step == 1 and not has_children:
                other = Place(draw, 2)
                await hand_over(place.runtime, "r", other.runtime)
                await other.runtime.retry("r")
                seen = await outcome(other.runtime, "r")
                assert (await sync(other.runtime, place.runtime, "r")).parts
                ours, theirs = await place.runtime.history("r"), await other.runtime.history("r")
                assert ours == theirs
                assert (await place.runtime.get_execution("r")).retried == times
                await other.runtime.close()
                continue
            if step == 2 and not has_children:
                data, other = await place.runtime.export("r"), Place(draw, 2)
                await other.runtime.import_(data)
                await place.runtime.close()
                place = other
            await place.runtime.retry("r")
            seen = await outcome(place.runtime, "r")
        if "all" not in [op[0] for op in ops]:  # which stops the others where one fails
            assert sorted(went_well) == sorted(names)
        record = await place.runtime.get_execution("r")
        assert (record.status, record.retried) == ("completed", times)
        assert record.spent["tokens"] == sum(op[1] for op in ops if op[0] == "spend")
        (checked,) = replay.check(await place.runtime.export("r"), [program, kid])
        assert checked.ok, checked.message
        await place.runtime.close()

    drive(test)


@workflow
async def one(ctx: Context, name: str) -> str:
    before = await ctx.step("before", work, "before")
    return before + await ctx.step("it", work, name)


def test_a_run_goes_on_with_the_step_that_it_failed_of_and_its_attempts_begin_anew() -> None:
    """Under its own id: what is recorded stays, a listener is told, and who follows it hears the rest."""

    @workflow
    async def flow(ctx: Context) -> str:
        await ctx.step("before", work, "before")
        return await ctx.step("it", work, "it", retry=Retry(max_attempts=2, backoff=0))

    async def test() -> None:
        process = Process(flow)
        broken.add("it")
        run = await process.runtime.start("flow", id="a")
        with pytest.raises(ConnectionError):
            await run.result()
        heard = [one async for one in process.runtime.follow("a")]
        with pytest.raises(ConnectionError):
            await (await run.retry()).result()
        assert ran == ["before", "it", "it", "it", "it"]
        broken.clear()
        assert await (await run.retry()).result() == "it"
        assert [type(e).__name__ for e in process.events].count("RunRetried") == 2
        names = kinds(await process.runtime.history("a"))
        assert names == ["Started", "StepCompleted", *["AttemptFailed", "StepFailed", "Failed", "Retried"] * 2,
                         "StepCompleted", "Completed"]  # fmt: skip
        rest = [one async for one in process.runtime.follow("a", after=heard[-1].place)]  # type: ignore[union-attr]
        assert [*kinds(heard), *kinds(rest)] == names
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("status", ["completed", "cancelled", "suspended", "paused", "moved"])
def test_a_run_that_has_not_failed_is_not_tried_again(status: str) -> None:
    """It says what it is and what to do, and nothing is written."""

    @workflow
    async def flow(ctx: Context) -> str:
        return await ctx.wait_for_signal("s")

    async def test() -> None:
        process = Process(flow)
        run = await process.runtime.start("flow", id="a")
        await run.settle()
        if status == "completed":
            await run.signal("s", "x")
            await run.result()
        elif status == "cancelled":
            await run.cancel()
            await run.settle()
        elif status == "paused":
            await run.pause()
            await run.settle()
        elif status == "moved":
            await process.runtime.export("a", handoff=True)
        before = await process.runtime.history("a")
        with pytest.raises(ConflictError, match=r"handed over|only one that has failed") as raised:
            await process.runtime.retry("a")
        assert raised.value.detail.get("status", "moved") == status
        assert await process.runtime.history("a") == before
        with pytest.raises(NotFound):
            await process.runtime.retry("nobody")
        await process.runtime.close()

    drive(test)


@workflow
async def telling(ctx: Context) -> str:
    async def told() -> None:
        ctx.emit("place", 1)
        ctx.emit("place", 2)

    await ctx.all(ctx.step("a", work, "a"), ctx.step("b", work, "b"), told(), limit=2)
    ctx.emit("place", 3)
    return await ctx.step("c", work, "c")


@pytest.mark.parametrize("at", range(5))
def test_what_only_the_next_try_comes_to_say_is_recorded(at: int) -> None:
    """A branch that had not begun when another failed emits behind what counts: once, also where a process dies."""

    async def test() -> None:
        broken.add("a")
        process = Process(telling)
        run = await process.runtime.start("telling", id="a")
        with pytest.raises(ConnectionError):
            await run.result()
        assert "Emitted" not in kinds(await process.runtime.history("a"))
        broken.clear()
        commits: list[int] = []

        def at_a_commit(n: int, verb: str) -> Any:
            commits.extend([n] if verb == "commit" else [])
            return "crash-after" if verb == "commit" and len(commits) == at + 1 else None

        process.host.fault = at_a_commit
        with contextlib.suppress(SimulatedCrash, AlkalineError):
            await process.runtime.retry("a")
            await process.runtime.result("a", None)
        process.host.fault = None
        await process.crash()
        assert await (await process.runtime.resume("a")).result() == "c"
        history = await process.runtime.history("a")
        assert [each.event.data for each in history if isinstance(each.event, ev.Emitted)] == [1, 2, 3]
        assert all(one.ok for one in replay.check(await process.runtime.export("a"), [telling]))
        await process.runtime.close()

    drive(test)


def test_a_run_that_has_undone_its_steps_is_refused() -> None:
    """What is recorded of it is not true any more; the message names what was undone."""

    @workflow
    async def flow(ctx: Context) -> Any:
        await ctx.step("book", work, "book", compensate=lambda value: work("undo"))
        return await ctx.step("it", work, "it")

    async def test() -> None:
        process = Process(flow)
        broken.add("it")
        with pytest.raises(ConnectionError):
            await (await process.runtime.start("flow", id="a")).result()
        before = await process.runtime.history("a")
        with pytest.raises(ConflictError, match="has undone book"):
            await process.runtime.retry("a")
        assert await process.runtime.history("a") == before
        await process.runtime.close()

    drive(test)


def test_what_starts_at_most_once_is_not_started_again() -> None:
    """Neither where the run failed of it, nor where it was started because of the failure."""

    @workflow
    async def flow(ctx: Context, once: bool) -> Any:
        try:
            return await ctx.step("it", work, "it", at_most_once=once)
        except ConnectionError:
            await ctx.step("tell", work, "tell", at_most_once=True)
            raise

    async def test() -> None:
        process = Process(flow)
        broken.add("it")
        for once, what in ((True, "starts at most once, and it was started"), (False, "would be started again")):
            with pytest.raises(ConnectionError):
                await (await process.runtime.start("flow", once, id=f"a{once}")).result()
            with pytest.raises(ConflictError, match=what):
                await process.runtime.retry(f"a{once}")
        assert ran == ["it", "tell"] * 2
        await process.runtime.close()

    drive(test)


@workflow
async def costly(ctx: Context, cost: int) -> str:
    return await ctx.step("it", work, "it", cost=cost)


@workflow
async def spender(ctx: Context, ops: list[list[Any]]) -> int:
    """Spends what a list of operations says, and keeps count of what it came to."""
    for n, (kind, cost) in enumerate(ops):
        ctx.set_attributes(at=n)
        if kind == "spend":
            ctx.uuid()
            ctx.spend(cost)
        elif kind == "step":
            await ctx.step(f"s{n}", work, f"s{n}", cost=cost)
        elif kind == "priced":
            await ctx.step(f"s{n}", work, f"s{n}", cost=lambda _, cost=cost: cost)
        elif kind == "both":
            await asyncio.gather(*(ctx.step(f"s{n}-{m}", work, f"s{n}-{m}", cost=cost) for m in range(2)))
        elif kind == "child":
            await ctx.child("costly", cost, id="kid", budget=Budget(tokens=1_000))
    return len(ops)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_whose_budget_was_used_up_goes_on_once_it_is_topped_up(seed: int) -> None:
    """Charges, steps of a fixed cost and of one that is known afterwards, side by side and not: a run fails of its
    budget again and again, is topped up by something, on a store that may be sealed and cuts anywhere, and tried again
    after a crash or not. No step runs twice, each is charged once, and the history replays."""
    draw = random.Random(seed)
    kinds_ = ["spend", "step", "priced", "both"]
    ops = [[draw.choice(kinds_), draw.randint(1, 30)] for _ in range(draw.randint(1, 8))]
    total = sum(cost * (2 if kind == "both" else 1) for kind, cost in ops)
    limit = draw.choice([0, draw.randint(0, total), total - 1])

    async def test() -> None:
        place = Place(draw, seed)
        await place.runtime.start("spender", ops, id="r", budget=Budget(tokens=limit))
        for topped in range(200):
            seen = await outcome(place.runtime, "r")
            if seen == len(ops):
                break
            assert "BudgetExceeded" in str((await place.runtime.get_execution("r")).failure)
            with pytest.raises(ConflictError, match="budget is spent"):
                await place.runtime.retry("r")
            more = draw.randint(1, 40)
            for _ in range(draw.choice([1, 2])):
                await place.runtime.top_up("r", more, key=f"order {topped}")
            if draw.random() < 0.4:
                await place.crash()
            with contextlib.suppress(ConflictError):  # it is still too little
                await place.runtime.retry("r")
        record = await place.runtime.get_execution("r")
        assert (record.status, record.result, record.topped_up) == ("completed", len(ops), [])
        assert record.spent["tokens"] == total
        assert len(went_well) == len(set(went_well))
        assert len(went_well) == sum({"both": 2, "spend": 0}.get(kind, 1) for kind, _ in ops)
        (checked,) = replay.check(await place.runtime.export("r"), [spender])
        assert checked.ok, checked.message
        await place.runtime.close()

    drive(test)


def test_a_top_up_that_waits_for_a_retry_is_moved_and_known_without_code() -> None:
    """A store without the code takes the top-up and the retry; without a top-up it refuses. It is handed over, and the
    run goes on where the code is."""

    async def test() -> None:
        place = Process(spender)
        run = await place.runtime.start(spender, [["step", 3], ["step", 3]], id="r", budget=Budget(tokens=5))
        await run.settle()
        data = await place.runtime.export("r")
        bare, other = Runtime(SimulatedHost(seed=5)), Process(spender)
        await bare.import_(data)
        with pytest.raises(ConflictError, match="without a top-up"):
            await bare.retry("r")
        await bare.top_up("r", 1)
        assert (await bare.get_execution("r")).topped_up == [1, 0, 0]
        await other.runtime.import_(await bare.export("r"))
        await bare.retry("r")
        await (await other.runtime.retry("r")).settle()
        record = await other.runtime.get_execution("r")
        assert (record.status, record.spent["tokens"], went_well) == ("completed", 6, ["s0", "s1"])
        for each in (place.runtime, other.runtime, bare):
            await each.close()

    drive(test)


def test_time_that_was_used_up_is_given_anew() -> None:
    """A run that took too long goes on with its step once it may take longer."""

    @workflow(budget=Budget(seconds=1))
    async def slow(ctx: Context) -> str:
        await ctx.sleep(2)
        return str(await ctx.step("it", work, "it"))

    async def test() -> None:
        process = Process(slow)
        run = await process.runtime.start("slow", id="r")
        with pytest.raises(AlkalineError, match="its budget is 1"):
            await run.result()
        await process.runtime.top_up("r", 5)
        with pytest.raises(ConflictError, match="budget is spent"):
            await run.retry()
        await process.runtime.top_up("r", seconds=60)
        assert await (await process.runtime.retry("r")).result() == "it"
        await process.runtime.close()

    drive(test)


def test_a_child_whose_budget_was_used_up_is_topped_up_by_its_own_id() -> None:
    """Its parent failed of it, and goes on with it."""

    async def test() -> None:
        process = Process(spender, costly)
        ops = [["step", 1], ["child", 30]]
        run = await process.runtime.start(spender, ops, id="r", budget=Budget(tokens=20))
        await run.settle()
        with pytest.raises(ConflictError, match="run 'kid' failed because its budget is spent"):
            await run.retry()
        await process.runtime.top_up("kid", 30)
        assert await (await process.runtime.retry("r")).result() == 2
        await process.runtime.close()

    drive(test)


def test_more_of_a_budget_is_refused_where_it_is_of_no_use() -> None:
    """To a run that completed, failed of something else, or isn't there; and nothing is written."""

    async def test() -> None:
        process = Process(spender, one)
        done = await process.runtime.start(spender, [["step", 1]], id="done", budget=Budget(tokens=20))
        await done.settle()
        broken.add("it")
        await (await process.runtime.start("one", "it", id="failed")).settle()
        before = (await process.runtime.get_execution("failed")).version_tag
        for id, words in (("done", "has completed"), ("failed", "of no use")):
            with pytest.raises(ConflictError, match=words):
                await process.runtime.top_up(id, 1)
        with pytest.raises(NotFound):
            await process.runtime.top_up("nothing", 1)
        assert (await process.runtime.get_execution("failed")).version_tag == before
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_top_up_of_a_failed_run_counts_once_whatever_the_store_says(fault: str) -> None:
    """The same key is noted once, also where the answer to it was lost."""

    async def test() -> None:
        process = Process(spender)
        await (await process.runtime.start(spender, [["step", 3]], id="r", budget=Budget(tokens=1))).settle()
        process.host.fault = lambda number, verb: fault if verb == "commit" else None
        with contextlib.suppress(AlkalineError, SimulatedCrash):
            await process.runtime.top_up("r", 2, key="order")
        process.host.fault = None
        await process.crash()
        for _ in range(2):
            await process.runtime.top_up("r", 2, key="order")
        assert (await process.runtime.get_execution("r")).topped_up == [2, 0, 0]
        assert await (await process.runtime.retry("r")).result() == 1
        await process.runtime.close()

    drive(test)


def bug(code: Any) -> Any:
    @workflow(name="mended", budget=Budget(tokens=100))
    async def flow(ctx: Context, n: int) -> Any:
        ctx.spend(3)
        value = await ctx.step("it", work, "it")
        return await code(ctx, value, n)

    return flow


async def divides(ctx: Context, value: str, n: int) -> Any:
    ctx.spend(4)
    return [value, 1 // n]


async def mended(ctx: Context, value: str, n: int) -> Any:
    ctx.spend(4)
    return [value, n]


async def draws(ctx: Context, value: str, n: int) -> Any:
    ctx.uuid()
    if ctx.patched("zero"):
        return [value, n]
    return [value, 1 // n]


async def other(ctx: Context, value: str, n: int) -> Any:
    raise AssertionError


@pytest.mark.parametrize("code", [mended, draws])
def test_a_run_that_failed_of_its_own_code_goes_on_once_that_is_mended(code: Any) -> None:
    """The code is replayed first: as long as it fails at once, nothing is written. Its step does not run again, and
    what it draws may be something else than before."""

    async def test() -> None:
        process = Process(bug(divides))
        run = await process.runtime.start("mended", 0, id="a")
        with pytest.raises(ZeroDivisionError):
            await run.result()
        before = await process.runtime.history("a")
        with pytest.raises(ConflictError, match="fails again at once"):
            await run.retry()
        assert await process.runtime.history("a") == before
        await process.crash(bug(code))
        assert await (await process.runtime.retry("a")).result() == ["it", 0]
        assert ran == ["it"]
        record = await process.runtime.get_execution("a")
        assert record.spent["tokens"] == (7 if code is mended else 3)
        await process.crash()
        (checked,) = replay.check(await process.runtime.export("a"), [bug(code)])
        assert checked.ok, checked.message
        await process.runtime.close()

    drive(test)


def test_code_that_disagrees_with_what_is_recorded_writes_nothing() -> None:
    """ERR_DETERMINISM, as on a resume; code that has another step at that place may go on with it."""

    def flow(first: str, second: str) -> Any:
        @workflow(name="flow")
        async def made(ctx: Context) -> Any:
            await ctx.step(first, work, first)
            return await ctx.step(second, work, second)

        return made

    async def test() -> None:
        process = Process(flow("one", "two"))
        broken.add("two")
        await (await process.runtime.start("flow", id="a")).settle()
        before = await process.runtime.history("a")
        await process.crash(flow("uno", "two"))
        with pytest.raises(DeterminismError, match="one"):
            await process.runtime.retry("a")
        assert await process.runtime.history("a") == before
        await process.crash(flow("one", "another"))
        assert await (await process.runtime.retry("a")).result() == "another"
        await process.runtime.close()

    drive(test)


def test_where_no_code_is_it_is_recorded_for_who_has_it() -> None:
    """As the command line does it, on a store of a server that is down."""

    async def test() -> None:
        process = Process(one)
        broken.add("it")
        await (await process.runtime.start("one", "it", id="a")).settle()
        await process.crash()
        broken.clear()
        async with Runtime(process.host.reopen()) as bare:
            await bare.retry("a")
            assert (await bare.get_execution("a")).status == "suspended"
        async with Runtime(process.host.reopen(), workflows=[one]) as able:
            await able.run_due()
            assert (await able.get_execution("a")).result == "beforeit"
        async with Runtime(process.host.reopen(), workflows=[program]) as unable:
            broken.add("it")
            with pytest.raises(ConflictError):
                await unable.retry("a")
        assert ran == ["before", "it", "it"]

    drive(test)


@workflow
async def handles(ctx: Context, big: int) -> Any:
    """A step that fails, and what comes of it in the same turn and behind it."""
    seen: list[Any] = []
    ctx.on_update("note", lambda note: seen.append(note) or len(seen))
    ctx.on_query("seen", lambda: seen)
    try:
        it = await ctx.step("it", work, "it")
    except ConnectionError:
        ctx.uuid()
        await ctx.step("clean", work, "clean")
        await ctx.wait_for_signal("s")
        ctx.spend(5)
        raise
    return [it, len(await ctx.wait_for_signal("s")), seen]


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("signals", [1, 45])
def test_what_came_from_outside_behind_the_failure_is_not_lost(registered: bool, signals: int) -> None:
    """Signals and updates that the run took on the way that counts no more come again, large ones too, and what was
    spent there stays spent."""

    async def test() -> None:
        process = Process(handles, host=SimulatedHost(capabilities=Capabilities("s", inline_limit=300)))
        broken.add("it")
        run = await process.runtime.start("handles", 1, id="a")
        await run.settle()
        assert await run.update("note", "x" * 400) == 1
        for n in range(signals - 1):
            await run.signal("other", n)
        await run.signal("s", "y" * 500)
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        if registered:
            run = await run.retry()
        else:
            async with Runtime(process.host.reopen()) as bare:
                await bare.retry("a")
            run = await process.runtime.resume("a")
        assert await run.result() == ["it", 500, ["x" * 400]]
        assert ran == ["it", "clean", "it"]
        record = await process.runtime.get_execution("a")
        assert record.spent["tokens"] == 5
        history = await process.runtime.history("a")
        assert kinds(history).count("SignalReceived") == 2 * signals
        await process.crash()
        (checked,) = replay.check(await process.runtime.export("a"), [handles])
        assert checked.ok, checked.message
        await process.runtime.close()

    drive(test)


@workflow
async def waits(ctx: Context, name: str) -> str:
    await ctx.step("begin", work, f"{name}-begin")
    await ctx.wait_for_signal("s")
    return await ctx.step("end", work, f"{name}-end")


@workflow
async def parent(ctx: Context) -> Any:
    return await ctx.all(ctx.child("one", "it", id="c"), ctx.child("waits", "w", id="d"))


def test_children_that_failed_or_ended_with_their_parent_go_on_with_it() -> None:
    """Neither begins anew, and the parent is told of both as if nothing had happened."""

    async def test() -> None:
        process = Process(parent, one, waits)
        broken.add("it")
        run = await process.runtime.start("parent", id="p")
        with pytest.raises(ConnectionError):
            await run.result()
        await process.runtime.settle("d")
        assert (await process.runtime.get_execution("d")).status == "cancelled"
        broken.clear()
        await run.retry()
        await process.runtime.signal("d", "s")
        assert await run.result() == ["beforeit", "w-end"]
        assert sorted(ran) == ["before", "it", "it", "w-begin", "w-end"]
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_parent_takes_what_its_child_has_come_to_meanwhile(deleted: bool) -> None:
    """A child that was tried again by itself has its result, of which its parent, that had its failure, was not told;
    one that was deleted has none."""

    @workflow(name="p")
    async def alone(ctx: Context) -> Any:
        return [await ctx.child("one", "it", id="c"), "end"]

    async def test() -> None:
        process = Process(alone, one)
        broken.add("it")
        run = await process.runtime.start("p", id="p")
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        assert await (await process.runtime.retry("c")).result() == "beforeit"
        assert (await process.runtime.get_execution("p")).status == "failed"
        if deleted:
            await process.runtime.delete("c")
            with pytest.raises(AlkalineError, match="deleted"):
                await (await run.retry()).result()
        else:
            assert await (await run.retry()).result() == ["beforeit", "end"]
            assert ran == ["before", "it", "it"]
        await process.runtime.close()

    drive(test)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(4))
def test_a_retry_that_is_cut_off_is_there_whole_or_not_at_all(fault: str, at: int) -> None:
    """Whatever becomes of its writes: done again, it goes on, or it has gone on already."""

    async def test() -> None:
        process = Process(parent, one, waits)
        broken.add("it")
        with pytest.raises(ConnectionError):
            await (await process.runtime.start("parent", id="p")).result()
        await process.runtime.settle("d")
        await process.crash()
        broken.clear()
        commits: list[int] = []

        def at_a_commit(n: int, verb: str) -> Any:
            commits.extend([n] if verb == "commit" else [])
            return fault if verb == "commit" and len(commits) == at + 1 else None

        process.host.fault = at_a_commit
        with contextlib.suppress(SimulatedCrash, AlkalineError):
            await process.runtime.retry("p")
        process.host.fault = None
        await process.crash()
        if (await process.runtime.get_execution("p")).status == "failed":
            await process.runtime.retry("p")
        await process.runtime.recover()
        await process.runtime.run_due()
        await process.runtime.signal("d", "s")
        assert await (await process.runtime.resume("p")).result() == ["beforeit", "w-end"]
        assert sorted(went_well) == ["before", "it", "w-begin", "w-end"]
        await process.runtime.close()

    drive(test)


def test_a_fork_of_a_run_that_was_tried_again_goes_on_at_any_commit() -> None:
    """What counts no more is not in it; what was spent there is."""

    async def test() -> None:
        process = Process(handles)
        broken.add("it")
        run = await process.runtime.start("handles", 1, id="a")
        await run.settle()
        await run.signal("s", "y")
        await run.settle()
        broken.clear()
        await run.retry()
        assert await run.result() == ["it", 1, []]
        length = (await process.runtime.get_execution("a")).cursor_length
        for at in range(1, length + 1):
            fork = await process.runtime.fork("a", at)
            await fork.resume()
            await fork.settle()
            if (await process.runtime.get_execution(fork.id)).status == "suspended":
                await fork.signal("s", "y")
                await fork.settle()
            record = await process.runtime.get_execution(fork.id)
            assert record.status in ("completed", "failed"), at
            assert record.result in (["it", 1, []], None)
            assert replay.check(await process.runtime.export(fork.id), [handles])[0].ok
        await process.runtime.close()

    drive(test)


def test_a_history_that_goes_on_behind_another_end_is_refused() -> None:
    """Only behind a failure, or the end of a child with its parent; and a copy that was made of it is whole."""
    from alkaline_edge.shapes import check_history

    start = ev.Started(0, {}, None)
    retried = ev.Retried(ev.RETRIED, [[1, 0, 2, 0]], 0, 0)
    check_history([[(1, start)], [(1, ev.Failed(ev.FAILED, {"type": "E", "message": ""}))], [(1, retried)]])
    failed, topped = (1, ev.Failed(ev.FAILED, {"type": "E", "message": ""})), (1, ev.ToppedUp(ev.TOPPED_UP, 1, 0, 0))
    check_history([[(1, start)], [failed], [(1, retried), topped]])
    for commits in (
        [[(1, start)], [failed], [(1, retried)], [topped]],
        [[(1, start)], [failed], [(1, retried), topped, topped]],
        [[(1, start)], [topped]],
        [[(1, start)], [(1, ev.Completed(ev.COMPLETED, 1))], [(1, retried)]],
        [[(1, start)], [(1, ev.Failed(ev.FAILED, {"type": "E", "message": ""}))], [(1, ev.Paused(ev.PAUSED))]],
        [[(1, start)], [(1, ev.Paused(ev.PAUSED)), (1, retried)]],
        [[(1, start)], [(1, retried)]],
        [[(1, start)], [(1, ev.Retried(ev.RETRIED, [[0, 0, 1, 0]], 0, 0))]],
    ):
        with pytest.raises(AlkalineError):
            check_history(commits)


def test_a_run_that_waits_for_its_retry_has_not_failed_any_more() -> None:
    """Its record says what it waits for, and not what once went wrong."""

    async def test() -> None:
        process = Process(one)
        broken.add("it")
        await (await process.runtime.start("one", "it", id="a")).settle()
        assert (await process.runtime.get_execution("a")).failure is not None
        await process.crash()
        async with Runtime(process.host.reopen()) as bare:
            await bare.retry("a")
            record = await bare.get_execution("a")
            assert (record.status, record.failure, record.waiting) == ("suspended", None, ["its retry"])

    drive(test)


def test_a_retry_is_recorded_no_earlier_than_what_it_follows() -> None:
    """Also where the clock has gone back since the run failed."""

    async def test() -> None:
        process = Process(one)
        broken.add("it")
        await (await process.runtime.start("one", "it", id="a")).settle()
        broken.clear()
        process.host.clock.now_ms -= 60_000
        run = await process.runtime.retry("a")
        assert await run.result() == "beforeit"
        times = [each.at for each in await process.runtime.history("a")]
        assert times == sorted(times)
        (told,) = [each for each in process.events if isinstance(each, RunRetried)]
        assert told.at == next(
            each.at for each in await process.runtime.history("a") if isinstance(each.event, ev.Retried)
        )
        await process.runtime.close()

    drive(test)


@workflow
async def waits_for_kid(ctx: Context) -> Any:
    return await ctx.child(stopped, None, id="kid")


@workflow
async def stopped(ctx: Context, n: Any) -> Any:
    return await ctx.wait_for_signal("never")


def test_a_child_that_was_cancelled_on_purpose_stays_so_when_its_parent_is_tried_again() -> None:
    """Only one that its parent has ended goes on with it."""

    async def test() -> None:
        process = Process(waits_for_kid, stopped)
        run = await process.runtime.start(waits_for_kid, id="a")
        await run.settle()
        await process.runtime.cancel("kid", "by hand")
        with contextlib.suppress(AlkalineError):
            await run.result()
        with contextlib.suppress(AlkalineError):
            await process.runtime.retry("a")
            await run.settle()
        assert (await process.runtime.get_execution("kid")).status == "cancelled"
        await process.runtime.close()

    drive(test)


paid: dict[str, str] = {}
"""By idempotency key, what a service was asked for first; whoever comes with the same key is given that."""


def pay(info: StepInfo, what: str) -> str:
    ran.append(info.idempotency_key)
    return paid.setdefault(info.idempotency_key, what)


@workflow
async def purchase(ctx: Context, once: bool) -> list[str]:
    done: list[str] = []
    try:
        await ctx.step("door", work, "door")
        done.append(await ctx.step("charge", pay, "charge", at_most_once=once))
        await ctx.step("window", work, "window")
        done.append(await ctx.step("deliver", pay, "deliver", at_most_once=once))
    except ConnectionError as error:
        done.append(await ctx.step("apologize", pay, f"apologize: {error}"))
        raise
    return done


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("again", ["door", "window"])
def test_another_step_in_the_place_of_one_that_acted_has_its_own_key(crashes: bool, once: bool, again: str) -> None:
    """A service tells the effects apart: of the tries that failed, however often, and of the one that went well."""
    paid.clear()

    async def test() -> None:
        small = Capabilities("small", durability="volatile", segment_commits=2)
        process = Process(purchase, host=SimulatedHost(capabilities=small))

        async def fails(of: str) -> None:
            broken.add(of)
            with pytest.raises(ConnectionError):
                await process.runtime.result("run", None)
            broken.clear()
            await process.runtime.retry("run")
            if crashes:
                await process.crash()

        broken.add("door")
        await process.runtime.start(purchase, once, id="run")
        for of in ("door", again, "window"):
            await fails(of)
            broken.add("window" if of != "window" else "")
        assert await process.runtime.result("run", None) == ["charge", "deliver"]
        apologies = ["apologize: door is down", "apologize: window is down"]
        assert sorted(paid.values()) == [*apologies, "charge", "deliver"]
        await process.runtime.close()

    drive(test)


@workflow(budget=Budget(tokens=10))
async def at_once(ctx: Context, given: dict[str, Any]) -> Any:
    room = asyncio.Semaphore(given["room"])

    async def ask() -> str:
        async with room:
            return await ctx.step("ask", work, "ask", cost=100)

    async def tell(n: int) -> None:
        async with room:
            ctx.emit("told", n)

    if given["group"]:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ask())
            for n in range(given["told"]):
                group.create_task(tell(n))
        return asked.result()
    return (await asyncio.gather(ask(), *(tell(n) for n in range(given["told"]))))[0]


@pytest.mark.parametrize("room", [1, 2, 9])
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("told", [0, 1, 3])
def test_a_budget_that_was_spent_beside_others_is_topped_up(room: int, group: bool, told: int) -> None:
    """Also in a task group, whose error is a group; and what was emitted beside it counts once, in whatever order."""

    async def test() -> None:
        process = Process(at_once)
        await process.runtime.start(at_once, {"room": room, "group": group, "told": told}, id="r")
        with pytest.raises(Exception, match="wants 100 tokens"):
            await process.runtime.result("r", None)
        await process.runtime.top_up("r", 1_000)
        await process.runtime.retry("r")
        assert await process.runtime.result("r", None) == "ask"
        await process.crash()
        bundle = await process.runtime.export("r")
        assert [checked.verdict for checked in replay.check(bundle, [at_once])] == ["ok"]
        history = [(each.commit, each.event) for each in await process.runtime.history("r")]
        void = next(event.void for _, event in history if isinstance(event, ev.Retried))
        places: dict[int, int] = {}
        counting = []
        for commit, event in history:
            place = places[commit] = places.get(commit, -1) + 1
            if not any((a, b) <= (commit, place) < (c, d) for a, b, c, d in void):
                counting.append(event)
        assert [event.data for event in counting if isinstance(event, ev.Emitted)] == list(range(told))
        await process.runtime.close()

    drive(test)


def test_a_group_of_errors_of_which_one_is_no_budget_is_not_topped_up() -> None:
    """More of a budget would not have helped."""

    @workflow(name="both", budget=Budget(tokens=10))
    async def both(ctx: Context) -> None:
        async def ask() -> None:
            await ctx.step("ask", work, "ask", cost=100)

        async def stumble() -> None:
            raise ValueError("by itself")

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            group.create_task(stumble())

    async def test() -> None:
        process = Process(both)
        await process.runtime.start(both, id="r")
        with pytest.raises(Exception, match="wants 100 tokens"):
            await process.runtime.result("r", None)
        with pytest.raises(ConflictError, match="a top-up is of no use"):
            await process.runtime.top_up("r", 1_000)


def test_a_child_that_completed_beside_a_step_that_failed_keeps_its_result() -> None:
    """It is nothing that the run failed of, however late it came."""

    @workflow(name="both")
    async def both(ctx: Context) -> Any:
        step, child = ctx.step("it", work, "it"), ctx.child(one_step, "c", id="c")
        found = await asyncio.gather(step, child, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return found

    @workflow
    async def one_step(ctx: Context, name: str) -> str:
        return await ctx.step("first", work, name)

    async def test() -> None:
        process = Process(both, one_step)
        broken.add("it")
        run = await process.runtime.start("both", id="p")
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        assert await (await run.retry()).result() == ["it", "c"]
        assert sorted(ran) == ["c", "it", "it"]
        await process.runtime.close()

    drive(test)


@workflow
async def fails_beside(ctx: Context) -> Any:
    """Its child waits, and it fails when it is told to."""

    async def fails() -> Any:
        await ctx.wait_for_signal("go")
        return await ctx.step("it", work, "it")

    return await ctx.all(ctx.child(waits, "w", id="d"), fails())


def test_a_run_whose_child_has_yet_to_end_with_it_is_tried_again_once_it_has() -> None:
    """Tried again before, it would wait for what is about to be cancelled."""

    async def test() -> None:
        process = Process(fails_beside, waits)
        broken.add("it")
        await (await process.runtime.start(fails_beside, id="p")).settle()
        await process.crash(fails_beside)
        run = await process.runtime.resume("p")
        await run.signal("go")
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        with pytest.raises(ConflictError, match="about to end"):
            await run.retry()
        await process.crash(fails_beside, waits)
        await (await process.runtime.resume("d")).settle()
        run = await process.runtime.retry("p")
        await process.runtime.signal("d", "s")
        assert await run.result() == ["w-end", "it"]
        await process.runtime.close()

    drive(test)


@workflow
async def leaves(ctx: Context) -> Any:
    child = ctx.child(waits, "w", id="d", on_parent_close="abandon")
    return await ctx.all(child, ctx.step("it", work, "it"))


async def one_that_left_a_child() -> tuple[Process, Run]:
    """The run p, which has failed of what is mended now, and beside it its child d, which waits for a signal."""
    process = Process(leaves, waits)
    broken.add("it")
    run = await process.runtime.start("leaves", id="p")
    with pytest.raises(ConnectionError):
        await run.result()
    broken.clear()
    await process.runtime.settle("d")
    return process, run


def test_a_child_that_ends_while_its_parent_is_tried_again_is_not_waited_for() -> None:
    """Its parent had ended, so nobody was told: it is looked at in the commit that lets the parent go on."""

    async def test() -> None:
        process, run = await one_that_left_a_child()
        commit, ended = process.host.commit, [False]

        async def later(batch: Any) -> Any:
            if not ended[0] and any(put.key == "r/p" for put in batch.puts):
                ended[0] = True
                await process.runtime.signal("d", "s")
                await process.runtime.result("d", None)
            return await commit(batch)

        process.host.commit = later  # type: ignore[method-assign]
        assert await (await run.retry()).result(timeout=600) == ["w-end", "it"]
        assert ended[0]
        await process.runtime.close()

    drive(test)


def test_a_parent_that_is_tried_again_while_its_child_ends_is_told() -> None:
    """The child had looked, and its parent had ended: its end is not recorded before it has looked again."""

    async def test() -> None:
        process, _ = await one_that_left_a_child()
        other = Runtime(SimulatedHost(process.host.store, seed=7), workflows=[leaves, waits])
        commit, tried = process.host.commit, [False]

        async def later(batch: Any) -> Any:
            if not tried[0] and any(put.key.startswith("x/s/completed/") for put in batch.puts):
                tried[0] = True
                await other.retry("p")
            return await commit(batch)

        process.host.commit = later  # type: ignore[method-assign]
        await process.runtime.signal("d", "s")
        assert await process.runtime.result("d", 600) == "w-end"
        assert tried[0]
        assert await process.runtime.result("p", 600) == ["w-end", "it"]
        await other.close()
        await process.runtime.close()

    drive(test)


def test_a_run_whose_child_is_cleaning_up_is_tried_again_once_that_has_ended() -> None:
    """The child has read that it is to end with its parent, and its record does not say so yet."""
    cleaned = asyncio.Event()

    async def clean() -> str:
        await cleaned.wait()
        return "clean"

    @workflow(name="tidy")
    async def tidy(ctx: Context) -> Any:
        try:
            await ctx.wait_for_signal("never")
        finally:
            await ctx.step("clean", clean)

    @workflow(name="fails_over_tidy")
    async def fails_over_tidy(ctx: Context) -> Any:
        async def fails() -> Any:
            await ctx.wait_for_signal("go")
            return await ctx.step("it", work, "it")

        return await ctx.all(ctx.child("tidy", id="d"), fails())

    async def test() -> None:
        process = Process(fails_over_tidy, tidy)
        broken.add("it")
        run = await process.runtime.start("fails_over_tidy", id="p")
        await run.settle()
        await run.signal("go")
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        while not any(isinstance(each.event, ev.CancelRequested) for each in await process.runtime.history("d")):
            await asyncio.sleep(0)
        other = Runtime(SimulatedHost(process.host.store, seed=7), workflows=[fails_over_tidy, tidy])
        with pytest.raises(ConflictError, match="about to end"):
            await other.retry("p")
        cleaned.set()
        with pytest.raises(AlkalineError):
            await process.runtime.result("d", None)
        await other.retry("p")
        assert [each.status for each in await statuses(other, "p", "d")] == ["suspended"] * 2
        await other.close()
        await process.runtime.close()

    drive(test)


async def statuses(runtime: Runtime, *ids: str) -> list[Any]:
    """The records, once nothing more happens here."""
    for id in ids:
        await runtime.settle(id)
    return [await runtime.get_execution(id) for id in ids]


def test_a_childs_large_result_is_read_from_its_record_by_a_parent_that_is_tried_again() -> None:
    """What goes into the parent's inbox is small, whatever the child has come to."""

    @workflow(name="large")
    async def large(ctx: Context) -> str:
        return await ctx.step("it", work, "it", 200_000)

    @workflow(name="measures")
    async def measures(ctx: Context) -> int:
        return len(await ctx.child("large", id="c"))

    async def test() -> None:
        process = Process(measures, large)
        broken.add("it")
        run = await process.runtime.start("measures", id="p")
        with pytest.raises(ConnectionError):
            await run.result()
        broken.clear()
        await (await process.runtime.retry("c")).result()
        commit, sizes = process.host.commit, list[int]()

        async def measured(batch: Any) -> Any:
            sizes.extend(len(put.value) for put in batch.puts if put.key.startswith("i/p/"))
            return await commit(batch)

        process.host.commit = measured  # type: ignore[method-assign]
        assert await (await run.retry()).result() == 400_000
        assert len(sizes) == 1
        assert sizes[0] < 1_000
        await process.runtime.close()

    drive(test)


def test_what_was_spent_before_an_earlier_retry_stays_spent_when_that_counts_no_more() -> None:
    """The second retry goes on from before the first one, and each charge was made."""

    @workflow(name="twice")
    async def twice(ctx: Context) -> str:
        first: BaseException | None = None
        try:
            await ctx.step("a", work, "a")
        except ConnectionError as error:
            first = error
        try:
            await ctx.step("b", work, "b")
        except ConnectionError:
            ctx.spend(5)
            raise
        if first is not None:
            raise first
        return "done"

    async def test() -> None:
        process = Process(twice)
        broken.update(("a", "b"))
        run = await process.runtime.start("twice", id="a")
        for mended in ("b", "a"):
            with pytest.raises(ConnectionError):
                await run.result()
            broken.discard(mended)
            run = await run.retry()
        assert await run.result() == "done"
        assert (await process.runtime.get_execution("a")).spent["tokens"] == 5
        await process.crash()
        (checked,) = replay.check(await process.runtime.export("a"), [twice])
        assert checked.ok, checked.message
        await process.runtime.close()

    drive(test)


def test_two_top_ups_of_a_failed_run_at_once_both_count() -> None:
    """Neither is written over by the other: each was somebody's wish."""

    async def test() -> None:
        process = Process(at_once)
        await process.runtime.start(at_once, {"room": 1, "group": False, "told": 0}, id="r")
        with pytest.raises(Exception, match="wants 100 tokens"):
            await process.runtime.result("r", None)
        commit, met = process.host.commit, [False]

        async def meanwhile(batch: Any) -> Any:
            if not met[0]:
                met[0] = True
                await process.runtime.top_up("r", 50, key="two")
            return await commit(batch)

        process.host.commit = meanwhile  # type: ignore[method-assign]
        await process.runtime.top_up("r", 50, key="one")
        assert await (await process.runtime.retry("r")).result() == "ask"
        await process.runtime.close()

    drive(test)
