"""Representative workflows for the fault simulation, each with the driver that acts on it from outside.

Each function makes a fresh scenario for a world, whose steps tell the world what they did. Results never depend on
time or chance, so that the faultless result is the one that every faulty run must have.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from alkaline_edge import Budget, BudgetExceeded, Context, Retry, StepInfo, StepOutcomeUnknown, workflow
from alkaline_edge import events as ev

from .engine import Outside, Scenario, Trial, World

HOUR = 3600


def steps(world: World) -> tuple[Any, Any]:
    """A sync and an async step that tell the world and return what they were given."""

    def told(info: StepInfo, value: Any = None) -> Any:
        world.did(info, value)
        return value

    async def slow(info: StepInfo, value: Any = None) -> Any:
        world.did(info, value)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return value

    return told, slow


def simple(workflow_name: str) -> Any:
    """A driver that starts the run and waits for its result."""

    async def script(outside: Outside) -> Any:
        await outside.start(workflow_name, {"n": 3})
        return await outside.result()

    return script


def sequence(world: World) -> Scenario:
    """Steps one after the other, with drawn values between them, long enough to be sealed twice."""
    told, slow = steps(world)

    @workflow(name="sequence")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        total = 0
        for n in range(given["n"] * 3):
            total += await ctx.step(f"add-{n}", told if n % 2 else slow, n)
        key, place, when = ctx.uuid(), ctx.random(), ctx.now()
        first = await ctx.step("with-values", told, [key, place, when])
        again = await ctx.step("with-values-again", slow, [key, place, when])
        ctx.emit("progress", total)
        return [total, first == again == [key, place, when]]

    return Scenario("sequence", [flow], simple("sequence"), by_chance=("with",))


def fan_out(world: World) -> Scenario:
    """Steps at the same time by all, map with a limit, gather and a task group, some of them nested."""
    told, slow = steps(world)

    @workflow(name="fan_out")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        async def branch(n: int) -> Any:
            key = ctx.uuid()
            echoed = await ctx.step(f"first-{n}", slow, key)
            return (await ctx.step(f"second-{n}", told, n)) if echoed == key else "another uuid"

        one = await ctx.all(branch(1), branch(2), ctx.step("alone", slow, 7))
        two = await ctx.map(branch, [3, 4, 5], limit=2)
        three = await asyncio.gather(ctx.step("g1", slow, 1), ctx.step("g2", told, 2), branch(6))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(n)) for n in (8, 9)]
        return [one, two, three, [task.result() for task in tasks]]

    return Scenario("fan_out", [flow], simple("fan_out"), ordered=False, by_chance=("first",))


def race(world: World) -> Scenario:
    """The first of several wins, and the others are cancelled: a timer, a signal, a step that never ends."""
    told, slow = steps(world)

    async def never(info: StepInfo) -> None:
        world.did(info)
        await asyncio.Event().wait()

    @workflow(name="race")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        one = await ctx.race(step=ctx.step("quick", slow, 1), timer=ctx.sleep(50 * 86_400))
        two = await ctx.race(signal=ctx.wait_for_signal("none"), timer=ctx.sleep(5))
        three = await ctx.race(stuck=ctx.step("never", never), quick=ctx.step("other", slow, 2))
        return [one, two[0], three, await ctx.step("last", told, 3)]

    return Scenario("race", [flow], simple("race"), ordered=False)


def child(world: World) -> Scenario:
    """A parent that waits for one child after the other, and catches the failure of a third."""
    told, slow = steps(world)

    @workflow(name="child_of")
    async def inner(ctx: Context, n: int) -> Any:
        await ctx.sleep(n)
        if n == 3:
            raise ValueError("three is too many")
        return await ctx.step(f"work-{n}", slow, n) * 10

    @workflow(name="child")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        found = [await ctx.child(inner, 1), await ctx.child("child_of", 2, id="second")]
        try:
            await ctx.child(inner, given["n"])
        except ValueError as error:
            found.append(str(error))
        return [*found, await ctx.step("sum", told, 4)]

    return Scenario("child", [flow, inner], simple("child"), ordered=False)


def nested(world: World) -> Scenario:
    """Children within children, at the same time, that spend from one shared budget."""
    told, slow = steps(world)

    @workflow(name="leaf")
    async def leaf(ctx: Context, n: int) -> Any:
        ctx.spend(5, "thinking")
        return await ctx.step(f"leaf-{n}", slow, n, cost=7)

    @workflow(name="middle")
    async def middle(ctx: Context, n: int) -> Any:
        return await ctx.all(ctx.child(leaf, n), ctx.child(leaf, n + 1))

    @workflow(name="nested", budget=Budget(tokens=1_000))
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        return await ctx.all(ctx.child(middle, 10), ctx.child(middle, 20), ctx.step("beside", told, 1, cost=3))

    def check(trial: Trial) -> None:
        assert _charged(trial) == 4 * 12 + 3, f"charged {_charged(trial)} tokens instead of 51"

    return Scenario("nested", [flow, middle, leaf], simple("nested"), ordered=False, check=check)


def _charged(trial: Trial) -> int:
    return sum(event.tokens for event in trial.events() if isinstance(event, (ev.Spent, ev.StepCharged)))


def signals(world: World) -> Scenario:
    """A wait that times out, then three signals, the first of them sent before anybody waits for it."""
    told, _ = steps(world)

    @workflow(name="signals")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        missed = await ctx.wait_for_signal("nobody", timeout=5, default="timeout")
        early = await ctx.wait_for_signal("early")
        await ctx.step("between", told, early)
        late = [await ctx.wait_for_signal("late", timeout=timedelta(days=20)) for _ in range(2)]
        return [missed, early, late, ctx.pending_signals("late")]

    async def script(outside: Outside) -> Any:
        await outside.start("signals")
        await outside.signal("early", {"n": 1}, dedupe="early")
        await outside.until_waiting("late")
        for n in range(2):
            await outside.signal("late", n, dedupe=f"late-{n}")
            await outside.signal("late", n, dedupe=f"late-{n}")
        return await outside.result()

    def check(trial: Trial) -> None:
        names = [event.name for event in trial.events() if isinstance(event, ev.SignalReceived)]
        assert sorted(names) == ["early", "late", "late"], f"signals were recorded as {names}"

    return Scenario("signals", [flow], script, ordered=False, check=check)


def retry(world: World) -> Scenario:
    """Attempts that fail before one that succeeds, and a step that fails for good; attempts survive a crash."""
    attempts: dict[str, set[int]] = {}

    async def flaky(info: StepInfo, fails: int) -> int:
        world.did(info, fails)
        attempts.setdefault(info.idempotency_key, set()).add(info.attempt)
        if info.attempt <= fails:
            raise ConnectionError(f"attempt {info.attempt}")
        return info.attempt

    @workflow(name="retry", retry=Retry(max_attempts=3, backoff=90, factor=1.5))
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        found: list[Any] = [await ctx.step("flaky", flaky, 2)]
        try:
            await ctx.step("hopeless", flaky, 9, retry=Retry(max_attempts=4, backoff=1))
        except ConnectionError as error:
            found.append(str(error))
        return found

    def check(trial: Trial) -> None:
        assert sorted(map(len, attempts.values())) == [3, 4], f"attempts were {attempts}"

    return Scenario("retry", [flow], simple("retry"), check=check)


def compensation(world: World) -> Scenario:
    """Three steps are taken back, last first, when the fourth fails."""
    told, slow = steps(world)
    back: list[Any] = []

    async def undo(value: Any) -> None:
        back.append(value)
        await asyncio.sleep(0)

    async def fail(info: StepInfo) -> None:
        world.did(info)
        raise RuntimeError("no seats left")

    @workflow(name="compensation")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        await ctx.step("hotel", slow, "hotel", compensate=undo)
        await ctx.step("car", told, "car", compensate=undo)
        await ctx.step("train", slow, "train", compensate=undo)
        await ctx.step("flight", fail)

    def check(trial: Trial) -> None:
        first = list(dict.fromkeys(back))
        assert first == ["train", "car", "hotel"], f"taken back in the order {first}"

    return Scenario("compensation", [flow], simple("compensation"), check=check)


def continued(world: World) -> Scenario:
    """Four generations of one run, which carry a sum and a signal that nobody had taken."""
    told, slow = steps(world)

    @workflow(name="continued")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        if "extra" not in given:
            given["extra"] = 0
            await ctx.wait_for_signal("go")
        n = await ctx.step("count", slow, given["n"])
        if n < 6:
            ctx.continue_as_new({"n": n + 1, "extra": given["extra"] + 1})
        return [n, given["extra"], await ctx.wait_for_signal("gift"), await ctx.step("end", told, n)]

    async def script(outside: Outside) -> Any:
        await outside.start("continued", {"n": 3})
        await outside.signal("gift", "a book", dedupe="gift")
        await outside.signal("go", dedupe="go")
        return await outside.result()

    def check(trial: Trial) -> None:
        received = [event for event in trial.events() if isinstance(event, ev.SignalReceived) and event.name == "gift"]
        assert len(received) == 1, f"one signal was recorded {len(received)} times"

    return Scenario("continued", [flow], script, ordered=False, check=check)


def cancel(world: World) -> Scenario:
    """A run that is cancelled while it waits: it can't swallow that, and cleans up durably."""
    told, slow = steps(world)

    @workflow(name="cancel")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        await ctx.step("prepare", told, 1, compensate=_nothing)
        try:
            try:
                await ctx.wait_for_signal("never")
            except Exception:
                return "swallowed"
        finally:
            await ctx.step("clean", slow, 2)
            await ctx.sleep(3)
            await ctx.step("clean-more", told, 3)

    async def script(outside: Outside) -> Any:
        await outside.start("cancel")
        await outside.until_waiting("never")
        await outside.cancel("enough")
        return await outside.result()

    def check(trial: Trial) -> None:
        for name in ("prepare", "clean", "clean-more"):
            assert trial.world.effects[name] >= 1, f"{name} did not run"

    return Scenario("cancel", [flow], script, check=check)


async def _nothing(value: Any) -> None:
    await asyncio.sleep(0)


def cancel_tree(world: World) -> Scenario:
    """A cancelled parent: its child that ends with it is cancelled and cleans up, the abandoned one completes."""
    _, slow = steps(world)

    @workflow(name="waits")
    async def waits(ctx: Context, name: str) -> Any:
        try:
            return await ctx.wait_for_signal("end")
        finally:
            await ctx.step(f"clean-{name}", slow, name)

    @workflow(name="cancel_tree")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        await ctx.all(
            ctx.child(waits, "tied", id="tied"), ctx.child(waits, "free", id="free", on_parent_close="abandon")
        )

    async def script(outside: Outside) -> Any:
        await outside.start("cancel_tree")
        await outside.until_waiting("child")
        for id in ("tied", "free"):
            await outside.until_waiting("end", id)
        await outside.cancel("enough")
        ended = await outside.result()
        await outside.until(lambda record: False, "tied")
        await outside.signal("end", "well", dedupe="end", id="free")
        return [ended, await outside.result("tied"), await outside.result("free")]

    return Scenario("cancel_tree", [flow, waits], script, ordered=False, histories=False)


def at_most_once(world: World) -> Scenario:
    """A step that never starts twice: after a crash its outcome may be unknown, and the handler says so."""
    told, slow = steps(world)

    @workflow(name="at_most_once")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        found = []
        for name, fn in (("charge", slow), ("mail", told)):
            try:
                found.append(await ctx.step(name, fn, name, at_most_once=True))
            except StepOutcomeUnknown:
                found.append("unknown")
        return [*found, await ctx.step("after", told, 1)]

    def results(result: Any, faultless: Any) -> bool:
        pairs = zip(result, faultless, strict=True)
        return [one == other or one == "unknown" for one, other in pairs] == [True] * 3 and result[2] == 1

    def check(trial: Trial) -> None:
        for name in ("charge", "mail"):
            assert trial.world.effects[name] <= 1, f"{name} ran {trial.world.effects[name]} times"
            if name in trial.result:
                assert trial.world.effects[name] == 1, f"{name} is said to have run, and has not"

    return Scenario("at_most_once", [flow], simple("at_most_once"), results=results, histories=False, check=check)


def budget(world: World) -> Scenario:
    """Charges by spend and by cost, until the budget refuses one; each is charged exactly once."""
    told, slow = steps(world)

    @workflow(name="budget", budget=Budget(tokens=100, usd=1.0))
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        ctx.spend(10, "prompt", usd=0.25)
        await ctx.step("model", slow, "a", cost=20)
        await ctx.all(ctx.step("m1", slow, "b", cost=lambda value: (15, 0.1)), ctx.step("m2", told, "c", cost=15))
        ctx.spend(30)
        try:
            ctx.spend(50, "too much")
        except BudgetExceeded:
            return await ctx.step("over", told, "budget exceeded")

    def check(trial: Trial) -> None:
        charged = [event.tokens for event in trial.events() if isinstance(event, (ev.Spent, ev.StepCharged))]
        assert sorted(charged) == [10, 15, 15, 20, 30, 50], f"charged {charged}"

    return Scenario("budget", [flow], simple("budget"), ordered=False, check=check)


def timers(world: World) -> Scenario:
    """Sleeps, one until a time, one inside a timeout, several at once: never shorter than asked for."""
    told, _ = steps(world)

    @workflow(name="timers")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        began = ctx.now()
        await ctx.sleep(10)
        await ctx.sleep_until(began + timedelta(hours=2))
        try:
            async with asyncio.timeout(30):
                await asyncio.sleep(20 * 86_400)
        except TimeoutError:
            await ctx.step("timed-out", told, 1)
        await ctx.all(ctx.sleep(3), ctx.sleep(1), asyncio.sleep(2))
        return (ctx.now() - began) >= timedelta(hours=2, seconds=33)

    return Scenario("timers", [flow], simple("timers"), ordered=False)


def update(world: World) -> Scenario:
    """An update that is answered, and one that is refused. An update has no dedupe key: this one may be repeated."""
    told, slow = steps(world)

    @workflow(name="update")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        prices: dict[str, int] = {}

        async def set_price(change: list[Any]) -> int:
            prices[change[0]] = await ctx.step(f"price-{change[0]}", slow, change[1])
            return len(prices)

        def check(change: list[Any]) -> None:
            if change[1] < 0:
                raise ValueError("no such price")

        ctx.on_update("price", set_price, validator=check)
        await ctx.wait_for_signal("close")
        return [prices, await ctx.step("close", told, 1)]

    async def script(outside: Outside) -> Any:
        run = await outside.start("update")
        await outside.until_waiting("close")
        if not (await outside.runtime.get_execution("run")).finished:
            answers = [await run.update("price", ["tea", 3]), await run.update("price", ["cake", 5])]
            assert answers in ([1, 2], [2, 2]), answers
            with pytest.raises(ValueError, match="no such price"):
                await run.update("price", ["tea", -1])
            await outside.signal("close", dedupe="close")
        return await outside.result()

    return Scenario("update", [flow], script, ordered=False, histories=False)


def pause(world: World) -> Scenario:
    """A run that is paused, stays so over whatever happens, and is resumed."""
    told, slow = steps(world)

    @workflow(name="pause")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        await ctx.wait_for_signal("go")
        return [await ctx.step(f"step-{n}", slow if n else told, n) for n in range(2)]

    async def script(outside: Outside) -> Any:
        run = await outside.start("pause")
        await outside.until(lambda record: record.status in ("suspended", "paused"))
        if not await outside.happened(ev.Paused):
            await run.pause()
            await outside.until(lambda record: record.status == "paused")
        # Once the store answers again, whoever was stuck is resumed, which takes back a pause that nobody has read yet.
        await outside.signal("go", dedupe="go")
        if not await outside.happened(ev.Resumed):
            await outside.until(lambda record: record.status == "paused")
        if not await outside.happened(ev.Resumed):
            assert outside.trial.world.effects["step-0"] == 0, "a paused run ran a step"
        return await outside.result()

    return Scenario("pause", [flow], script, ordered=False, histories=False)


def large(world: World) -> Scenario:
    """Inputs, step results, signals, a child's result and the run's own result above the inline limit, in chunks."""
    told, slow = steps(world)

    @workflow(name="large_child")
    async def inner(ctx: Context, text: str) -> Any:
        return await ctx.step("double", slow, text * 2)

    @workflow(name="large")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        one = await ctx.step("one", slow, given["text"] + "1")
        two = await ctx.child(inner, "x" * 900)
        three = await ctx.wait_for_signal("big")
        return [one, two, three, len(await ctx.step("bytes", told, bytes(range(256)) * 16))]

    async def script(outside: Outside) -> Any:
        await outside.start("large", {"text": "y" * 5_000})
        await outside.signal("big", "z" * 1_500, dedupe="big")
        return await outside.result()

    return Scenario("large", [flow, inner], script, ordered=False)


def attributes(world: World) -> Scenario:
    """Attributes that change as the run goes on: the index finds the run by the last ones alone."""
    told, slow = steps(world)

    @workflow(name="attributes")
    async def flow(ctx: Context, given: dict[str, Any]) -> Any:
        for stage in ("search", "read", "write"):
            ctx.set_attributes(stage=stage, urgent=stage == "read", passing=None if stage == "write" else 1)
            await ctx.step(stage, slow, stage)
        await ctx.sleep(60)
        ctx.set_attributes(stage="done")
        return await ctx.step("end", told, "end")

    async def script(outside: Outside) -> Any:
        await outside.start("attributes", attributes={"team": "red"})
        result = await outside.result()
        found = [
            [record.id for record in (await outside.runtime.list_executions(attributes=wanted)).items]
            for wanted in ({"stage": "done"}, {"team": "red"}, {"urgent": False}, {"stage": "read"}, {"passing": 1})
        ]
        return [result, found]

    return Scenario("attributes", [flow], script)


SCENARIOS = (
    sequence, fan_out, race, child, nested, signals, retry, compensation, continued, cancel, cancel_tree,
    at_most_once, budget, timers, update, pause, large, attributes,
)  # fmt: skip
