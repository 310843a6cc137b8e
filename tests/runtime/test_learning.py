"""Scheduling that learns: what it makes of a service with a hidden rate, of mixed durations, of one that is dead."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Retry, Runtime, replay, workflow
from alkaline_edge.capacity import Learned, Learning
from alkaline_edge.machine.commands import RunStep
from alkaline_edge.runtime.effects import Raised
from alkaline_edge.runtime.learning import Learner, overload
from alkaline_edge.runtime.remembering import Memory
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import drive


class TooMany(Exception):
    """What a service answers that is asked too often."""

    status_code = 429


class Limited:
    """A service that takes so many calls in a second, and says so to nobody."""

    def __init__(self, clock: VirtualClock, rate: int) -> None:
        self.clock, self.rate = clock, rate
        self.taken: deque[int] = deque()
        self.refused = 0

    async def ask(self, n: int) -> int:
        now = self.clock.now_ms
        while self.taken and self.taken[0] <= now - 1_000:
            self.taken.popleft()
        if len(self.taken) >= self.rate:
            self.refused += 1
            await self.clock.sleep(0.02)
            raise TooMany
        self.taken.append(now)
        await self.clock.sleep(0.2)
        return n


async def fan_out(learning: Learning | None, rate: int, count: int) -> tuple[int, float, list[Any], list[Learned]]:
    """How often the service refused, how many seconds it took, the events, and what was learned."""
    host = SimulatedHost()
    service = Limited(host.clock, rate)

    @workflow(name="wide")
    async def wide(ctx: Context) -> Any:
        retry = Retry(max_attempts=50, backoff=0.5, factor=1.5, cap=5)
        return await ctx.map(lambda n: ctx.step("ask", service.ask, n, retry=retry), range(count))

    async with Runtime(host, workflows=[wide], learning=learning) as runtime:
        began = host.now_ms()
        run = await runtime.start(wide, id="w")
        assert await run.result() == [*range(count)]
        took = (host.now_ms() - began) / 1000
        events = [each.event for each in await runtime.history("w")]
        assert all(each.ok for each in replay.check({"w": await runtime.export("w")}, [wide]))
        return service.refused, took, events, runtime.learned


@pytest.mark.parametrize(("rate", "count"), [(10, 80), (40, 120), (2, 20)])
def test_a_hidden_rate_is_found(rate: int, count: int) -> None:
    """With it a small part is refused of what is refused without, and all of it takes no longer than half as long again
    as the rate allows."""

    async def test() -> None:
        plain = await fan_out(None, rate, count)
        learned = await fan_out(Learning(), rate, count)
        print(rate, count, plain[:2], learned[:2])
        assert learned[0] < plain[0] / 2
        assert learned[1] < 2 * count / rate + 5
        kinds = [[type(event).__name__ for event in found[2]] for found in (plain, learned)]
        assert kinds[0].count("StepCompleted") == kinds[1].count("StepCompleted") == count
        (step,) = learned[3]
        assert (step.name, step.inside, step.waiting, step.refused) == ("ask", 0, 0, learned[0])
        assert plain[3] == []

    drive(test)


@pytest.mark.parametrize("seed", range(3))
def test_the_longest_expected_goes_first(seed: int) -> None:
    """A fan-out of mixed durations through few places: the second time it takes less, near the least there can be."""
    rng = random.Random(seed)
    durations = [rng.choice([1, 1, 1, 2, 3]) for _ in range(18)] + [12]

    async def test() -> None:
        host = SimulatedHost()

        async def work(n: int) -> int:
            await host.clock.sleep(durations[n])
            return n

        @workflow(name="mixed")
        async def mixed(ctx: Context) -> Any:
            return await ctx.map(lambda n: ctx.step("work", work, n), range(len(durations)))

        async with Runtime(host, workflows=[mixed], learning=Learning(start=3, most=3)) as runtime:
            took: list[float] = []
            for _ in range(2):
                began = host.now_ms()
                run = await runtime.start(mixed)
                assert await run.result() == [*range(len(durations))]
                took.append((host.now_ms() - began) / 1000)
        least = max(12, sum(durations) / 3)
        assert took[1] <= least + 2, (took, least)
        assert took[1] < took[0] - 3, (took, least)

    drive(test)


def test_a_dead_service_is_left_alone_for_a_while() -> None:
    """Five failures, a pause, one attempt, a longer pause; when it lives again all goes on."""

    async def test() -> None:
        host = SimulatedHost()
        calls: list[int] = []
        began = host.now_ms()

        async def ask(n: int) -> int:
            calls.append(host.now_ms() - began)
            await host.clock.sleep(0.01)
            if host.now_ms() - began < 100_000:
                raise ConnectionError("no route")
            return n

        @workflow(name="dead")
        async def dead(ctx: Context) -> Any:
            retry = Retry(max_attempts=1_000, backoff=1, factor=1)
            return await ctx.map(lambda n: ctx.step("ask", ask, n, retry=retry), range(10))

        async with Runtime(host, workflows=[dead], learning=Learning(pause=20)) as runtime:
            run = await runtime.start(dead)
            assert await run.result() == [*range(10)]
        early = [at for at in calls if at < 100_000]
        assert len(early) < 12, early
        assert [at for at in early if at > 2_000] == [pytest.approx(20_000, abs=500), pytest.approx(60_000, abs=500)]

    drive(test)


def test_a_timeout_is_made_of_the_past_where_another_attempt_follows() -> None:
    """One of fifty hangs: it is stopped and tried again. A step that is not tried again is left alone."""

    async def test() -> None:
        host = SimulatedHost()
        hung: set[int] = {40, 41}

        async def ask(n: int) -> int:
            if n in hung:
                hung.discard(n)
                await host.clock.sleep(3_600 if n == 40 else 50)
            await host.clock.sleep(1)
            return n

        @workflow(name="slow")
        async def slow(ctx: Context, n: int) -> Any:
            return await ctx.step("ask", ask, n, retry=None if n == 41 else Retry(max_attempts=2, backoff=0))

        async with Runtime(host, workflows=[slow], learning=Learning()) as runtime:
            for n in range(45):
                began = host.now_ms()
                assert await (await runtime.start(slow, n)).result() == n
                if n == 40:
                    assert 4_000 <= host.now_ms() - began <= 7_000
            assert (runtime.learned[0].timeout or 0) >= 4

    drive(test)


def test_an_answer_may_say_when_to_come_again() -> None:
    """``retry_after`` holds all attempts of the step, not only the one that was told."""

    async def test() -> None:
        host = SimulatedHost()
        began, starts = host.now_ms(), list[float]()

        class Later(Exception):
            retry_after = 60

        async def ask(n: int) -> int:
            starts.append((host.now_ms() - began) / 1000)
            await host.clock.sleep(1)
            if len(starts) == 1:
                raise Later
            return n

        @workflow(name="told")
        async def told(ctx: Context) -> Any:
            retry = Retry(max_attempts=3, backoff=0)
            return await ctx.map(lambda n: ctx.step("ask", ask, n, retry=retry), range(4))

        async with Runtime(host, workflows=[told], learning=Learning(start=1)) as runtime:
            assert await (await runtime.start(told)).result() == [0, 1, 2, 3]
        assert starts[0] < 1
        assert min(starts[1:]) >= 60

    drive(test)


def test_what_is_withdrawn_or_closed_leaves_its_place_to_others() -> None:
    """A race that is over, a cancel, a runtime that is closed while attempts wait: nothing hangs, and none is lost."""

    async def test() -> None:
        host = SimulatedHost()

        async def slow(n: int) -> int:
            await host.clock.sleep(10)
            return n

        @workflow(name="racing")
        async def racing(ctx: Context) -> Any:
            await ctx.race(slow=ctx.all(*(ctx.step("slow", slow, n) for n in range(6))), timer=ctx.sleep(12))
            return await ctx.step("slow", slow, 9)

        async with Runtime(host, workflows=[racing], learning=Learning(start=2, most=2)) as runtime:
            run = await runtime.start(racing, id="a")
            assert await run.result() == 9
            (step,) = runtime.learned
            assert (step.inside, step.waiting) == (0, 0)
            await runtime.start(racing, id="b")
            for _ in range(30):
                await asyncio.sleep(0)
        async with Runtime(host, workflows=[racing], learning=Learning()) as runtime:
            await runtime.recover()
            assert await runtime.result("b", None) == 9

    drive(test)


def test_which_answers_ask_for_less() -> None:
    """By the usual names of a status, of the error or of its response; and nothing else."""

    class Response:
        status_code = 503

    class Failed(Exception):
        response = Response()

    class Plain(Exception):
        status = 404

    assert overload(TooMany()) is True
    assert overload(Failed()) is True
    assert overload(Plain()) is False
    assert overload(ValueError("429")) is False


def test_what_can_not_be_is_refused() -> None:
    """Each by its name."""
    wrong: list[dict[str, Any]] = [
        {"start": 0}, {"most": 0}, {"start": 65}, {"least": 0}, {"least": 65}, {"least": True}, {"failures": 0},
        {"pause": 0}, {"overloaded": 5},
    ]  # fmt: skip
    for given in wrong:
        with pytest.raises(InvalidInput):
            Learning(**given)

    async def test() -> None:
        with pytest.raises(InvalidInput, match="learning"):
            Runtime(SimulatedHost(), learning=5)  # type: ignore[arg-type]

    drive(test)


@pytest.mark.parametrize("turns", range(6))
def test_an_attempt_that_is_stopped_before_it_began_leaves_its_place(turns: int) -> None:
    """Stopped in the very turn in which it was let in, or some turns later: the next one of the step has the place."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, learning=Learning(start=1, most=1)) as runtime:
            gates = runtime.owner.gates()
            began: list[int] = []

            async def work(n: int) -> int:
                began.append(n)
                await host.clock.sleep(1)
                return n

            command = RunStep("1", "ask", None, work, (), {})
            first = gates._held_back(command, lambda: work(1))
            second = gates._held_back(command, lambda: work(2))
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            assert await second == 2
            await asyncio.sleep(0)
            (step,) = runtime.learned
            assert (step.inside, step.waiting) == (0, 0)
            assert turns or began == [2]

    drive(test)


ASK = RunStep("1", "ask", None, len, (), {})


async def tried(learner: Learner, host: SimulatedHost, seconds: float, error: Exception | None = None) -> Learned:
    """What is known of "ask" behind one attempt that took so long, and ended in ``error`` if any."""

    async def work() -> Any:
        await host.clock.sleep(seconds)
        return 1 if error is None else Raised(error)

    ticket = learner.enter(ASK)
    try:
        await learner.run(ticket, work)
    finally:
        learner.over(ticket)
    return learner.learned()[0]


def with_learner(test: Any, **given: Any) -> None:
    async def body() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            learner = Learner(Learning(**given), lambda: host, Memory(runtime.store))
            await test(learner, host)
            await learner.end(1)

    drive(body)


def test_all_that_were_too_many_at_once_lower_the_limit_once() -> None:
    """And not once for each of them: a burst of refusals does not end in a standstill."""

    async def test(learner: Learner, host: SimulatedHost) -> None:
        await asyncio.gather(*(tried(learner, host, 1, TooMany()) for _ in range(10)))
        (step,) = learner.learned()
        assert step.limit == pytest.approx(7)
        assert step.refused == 10

    with_learner(test, start=10)


def test_what_is_learned_stays_within_its_bounds_and_rises_only_where_it_was_reached() -> None:
    """Above by successes, below by refusals; one at a time says nothing of four."""

    async def test(learner: Learner, host: SimulatedHost) -> None:
        for _ in range(10):
            assert (await tried(learner, host, 1)).limit == 4
        for _ in range(5):
            await asyncio.gather(*(tried(learner, host, 1) for _ in range(8)))
        assert learner.learned()[0].limit == 6
        for _ in range(10):
            await tried(learner, host, 1, TooMany())
        assert learner.learned()[0].limit == 0.5

    with_learner(test, start=4, most=6, least=0.5)


def test_the_pause_of_a_dead_service_doubles_up_to_eight_times_and_begins_anew_behind_a_success() -> None:
    """So one that is back and fails once more is not left alone for minutes."""

    async def test(learner: Learner, host: SimulatedHost) -> None:
        async def pause() -> float:
            return ((await tried(learner, host, 1, ConnectionError())).closed_until - host.now_ms()) / 1000

        assert [await pause() for _ in range(6)] == [10, 20, 40, 80, 80, 80]
        await tried(learner, host, 1)
        assert [await pause() for _ in range(2)] == [10, 20]

    with_learner(test, failures=1, pause=10)


def test_an_answer_that_asks_for_less_time_shortens_no_pause() -> None:
    """Of two that ask to come again later, the later one counts."""

    class Later(Exception):
        def __init__(self, seconds: float) -> None:
            self.retry_after = seconds

    async def test(learner: Learner, host: SimulatedHost) -> None:
        await asyncio.gather(*(tried(learner, host, at, Later(seconds)) for at, seconds in ((1, 60), (2, 5))))
        assert learner.learned()[0].closed_until - host.now_ms() == 59_000

    with_learner(test)


def test_a_timeout_is_made_of_the_longest_of_enough_attempts_and_never_of_a_steps_own() -> None:
    """Before the twentieth nothing is known; a step that names its timeout has that one."""

    async def test(learner: Learner, host: SimulatedHost) -> None:
        for seconds in [2, *[1] * 18]:
            assert (await tried(learner, host, seconds)).timeout is None
        assert (await tried(learner, host, 1)).timeout == learner.timeout_of(ASK) == 8
        own = RunStep("1", "ask", None, len, (), {})
        own.timeout = 3
        assert learner.timeout_of(own) == 3

    with_learner(test)
