"""The simulated host and its clock: time without waiting, and faults where a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import ClosedError, InvalidInput, StoreError, UnknownOutcome
from alkaline_edge.host import Batch, Check, Committed, Conflict, Put
from alkaline_edge.testing import (
    COMMIT_FAULTS,
    FAULTS,
    Delay,
    Fault,
    SimulatedCrash,
    SimulatedHost,
    SimulatedStore,
    VirtualClock,
    applied_then_error_at,
    crash_at,
    fault_at,
)
from alkaline_edge.testing.clock import START_MS

VERBS: dict[str, Callable[[SimulatedHost], Awaitable[Any]]] = {
    "get": lambda host: host.get(["k/a"]),
    "list": lambda host: host.list("k/"),
    "commit": lambda host: host.commit(batch(9, "k/b")),
}


def batch(n: int, *keys: str, absent: tuple[str, ...] = ()) -> Batch:
    """A batch that puts ``keys``."""
    return Batch(f"{n:016x}", tuple(Check(key, None) for key in absent), tuple(Put(key, b"%d" % n) for key in keys))


def filled(**options: Any) -> SimulatedHost:
    """A host with one key."""
    host = SimulatedHost(**options)
    host.store.apply(batch(1, "k/a"))
    return host


# --- time -------------------------------------------------------------------------------------------------------------
def test_a_month_of_sleep_ends_at_once() -> None:
    """Nobody else has anything to do: the clock jumps to the sleeper."""

    async def main() -> int:
        host = SimulatedHost()
        await host.sleep(30 * 86_400)
        return host.now_ms()

    before = time.monotonic()
    assert asyncio.run(main()) == START_MS + 30 * 86_400_000
    assert time.monotonic() - before < 5


def test_a_workflow_that_sleeps_ends_at_once() -> None:
    """A durable timer of an hour costs no real time, and recorded time says that an hour passed."""

    @workflow(name="nap")
    async def nap(ctx: Context, hours: int) -> float:
        begun = ctx.now()
        await ctx.sleep(3_600 * hours)
        return (ctx.now() - begun).total_seconds()

    async def main() -> float:
        async with Runtime(SimulatedHost(), workflows=[nap]) as runtime:
            run = await runtime.start("nap", 5, id="n")
            slept: float = await run.result()
            return slept

    assert asyncio.run(main()) == 5 * 3_600


def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    """Whoever began first, the earliest deadline wakes first, and sees its own time."""

    async def main() -> list[tuple[int, int]]:
        host = SimulatedHost()
        woken: list[tuple[int, int]] = []

        async def sleeper(seconds: int) -> None:
            await host.sleep(seconds)
            woken.append((seconds, (host.now_ms() - START_MS) // 1000))

        await asyncio.gather(*map(sleeper, (50, 3, 700, 3, 1)))
        return woken

    assert asyncio.run(main()) == [(1, 1), (3, 3), (3, 3), (50, 50), (700, 700)]


def test_time_waits_for_work_that_calls_the_host() -> None:
    """A hundred commits one after the other are over before a sleeper of a second wakes."""

    async def main() -> int:
        host = SimulatedHost()
        done = 0

        async def work() -> None:
            nonlocal done
            for n in range(100):
                await host.commit(batch(n, "k/a"))
                done += 1

        task = asyncio.create_task(work())
        await host.sleep(1)
        seen = done
        await task
        return seen

    assert asyncio.run(main()) == 100


def test_held_time_waits_for_work_outside_the_host() -> None:
    """Inside ``clock.held()`` no sleeper moves the time, however many turns go by."""

    async def main() -> tuple[int, int]:
        host = SimulatedHost()
        sleeping = asyncio.create_task(host.sleep(1))
        with host.clock.held():
            for _ in range(500):
                await asyncio.sleep(0)
            held = host.now_ms()
        await sleeping
        return held - START_MS, host.now_ms() - START_MS

    assert asyncio.run(main()) == (0, 1_000)


def test_without_auto_only_advance_moves_time() -> None:
    """``VirtualClock(auto=False)`` stands still; ``advance`` wakes those whose time has come and no others."""

    async def main() -> list[bool]:
        clock = VirtualClock(auto=False)
        host = SimulatedHost(clock=clock)
        tasks = [asyncio.create_task(host.sleep(seconds)) for seconds in (1, 2)]
        states: list[bool] = []
        for ms in (0, 999, 1):
            clock.advance(ms)
            for _ in range(100):
                await asyncio.sleep(0)
            states.append(tasks[0].done())
        assert not tasks[1].done()
        assert clock.next_deadline == START_MS + 2_000
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert clock.next_deadline is None
        return states

    assert asyncio.run(main()) == [False, False, True]


def test_time_can_go_back() -> None:
    """``advance`` takes a negative number, and a sleeper still waits for its deadline."""

    async def main() -> int:
        host = SimulatedHost()
        sleeping = asyncio.create_task(host.sleep(10))
        await asyncio.sleep(0)
        host.advance(-100)
        await sleeping
        return host.now_ms()

    assert asyncio.run(main()) == START_MS + 10_000


def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    """Its deadline is forgotten: the next one wakes at its own."""

    async def main() -> int:
        host = SimulatedHost()
        early = asyncio.create_task(host.sleep(1))
        await asyncio.sleep(0)
        early.cancel()
        await host.sleep(60)
        return host.now_ms() - START_MS

    assert asyncio.run(main()) == 60_000


def test_a_sleep_without_end_holds_nobody_up() -> None:
    """``sleep(inf)`` never ends and never moves the clock, and others still wake."""

    async def main() -> int:
        host = SimulatedHost()
        for_ever = asyncio.create_task(host.sleep(float("inf")))
        await host.sleep(7)
        for_ever.cancel()
        return host.now_ms() - START_MS

    assert asyncio.run(main()) == 7_000


def test_hosts_on_one_clock_share_its_time() -> None:
    """Two stores, as before and after a move: one time, and neither sees the other's keys."""

    async def main() -> None:
        clock = VirtualClock()
        here, there = SimulatedHost(clock=clock, seed=1), SimulatedHost(clock=clock, seed=2)
        await here.sleep(5)
        assert there.now_ms() == START_MS + 5_000
        await here.commit(batch(1, "k/a"))
        assert await there.get(["k/a"]) == [None]

    asyncio.run(main())


def test_entropy_comes_from_the_seed() -> None:
    """The same seed gives the same stream, another seed another one, and a new process goes on where it stood."""

    def draw(host: SimulatedHost) -> list[bytes]:
        return [host.entropy(n) for n in (8, 0, 100, 8)]

    host = SimulatedHost(seed=7)
    first = draw(host)
    assert first == draw(SimulatedHost(seed=7))
    assert first != draw(SimulatedHost(seed=8))
    assert draw(host.reopen()) != first
    assert [len(drawn) for drawn in first] == [8, 0, 100, 8]


# --- faults -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", VERBS)
def test_a_crash_is_for_good(verb: str) -> None:
    """Nothing is applied, and every later call of the handle crashes; the next process finds the store as it was."""

    async def main() -> None:
        host = filled(fault=crash_at(1))
        before = dict(host.store.entries)
        for call in (VERBS[verb], *VERBS.values(), lambda host: host.sleep(1)):
            with pytest.raises(SimulatedCrash):
                await call(host)
        assert host.store.entries == before
        again = host.reopen()
        assert await again.get(["k/a", "k/b"]) == [before["k/a"], None]

    asyncio.run(main())


def test_a_crash_is_not_an_exception() -> None:
    """``except Exception`` in a handler or in the kernel can't survive it."""
    assert not issubclass(SimulatedCrash, Exception)


def test_a_crash_ends_what_is_in_flight() -> None:
    """A sleeper and a commit of the dead process end with the crash, and the commit is not applied."""

    async def main() -> None:
        host = SimulatedHost(on_call=lambda n, verb, args: Delay(50) if n == 1 else "crash")
        late = asyncio.create_task(host.commit(batch(1, "k/late")))
        sleeping = asyncio.create_task(host.sleep(3_600))
        await asyncio.sleep(0)
        with pytest.raises(SimulatedCrash):
            await host.get(["k/a"])
        for task in (late, sleeping):
            with pytest.raises(SimulatedCrash):
                await task
        assert host.store.entries == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "applied", "error"),
    [
        ("crash", False, SimulatedCrash),
        ("crash-after", True, SimulatedCrash),
        ("applied-then-error", True, UnknownOutcome),
        ("error-before", False, UnknownOutcome),
        ("rejected", False, StoreError),
    ],
)
def test_what_a_fault_does_to_a_commit(kind: Fault, applied: bool, error: type[BaseException]) -> None:
    """Each kind is applied or not, and raises what it says; afterwards the host works unless it is dead."""

    async def main() -> None:
        host = filled(fault=fault_at(1, kind))
        with pytest.raises(error) as raised:
            await host.commit(batch(2, "k/b"))
        assert type(raised.value) is error
        assert ("k/b" in host.store.entries) is applied
        if not host.dead:
            assert await host.commit(batch(3, "k/c")) == Committed(f"{3:016x}")

    asyncio.run(main())


def test_an_own_write_can_look_like_a_conflict() -> None:
    """``applied-then-conflict`` writes and answers Conflict; where the checks fail it is a conflict as any other."""

    async def main() -> None:
        host = filled(on_call=lambda n, verb, args: "applied-then-conflict")
        assert await host.commit(batch(2, "k/b", absent=("k/b",))) == Conflict(("k/b",))
        assert host.store.entries["k/b"].version == f"{2:016x}"
        assert await host.commit(batch(3, "k/c")) == Conflict(("k/c",))
        assert await host.commit(batch(4, "k/b", absent=("k/b",))) == Conflict(("k/b",))
        assert host.store.entries["k/b"].version == f"{2:016x}"

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["get", "list"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_makes_a_read_fail(verb: str, kind: Fault) -> None:
    """Whatever befalls a read, it raises once and changes nothing."""

    async def main() -> None:
        host = filled(fault=fault_at(1, kind))
        before = dict(host.store.entries)
        with pytest.raises((StoreError, SimulatedCrash)):
            await VERBS[verb](host)
        assert host.store.entries == before

    asyncio.run(main())


def test_a_delay_lets_others_go_first() -> None:
    """A delayed commit takes virtual time, and one that began later is applied before it."""

    async def main() -> None:
        host = SimulatedHost(fault=fault_at(1, Delay(250)))
        slow = asyncio.create_task(host.commit(batch(1, "k/a", absent=("k/a",))))
        await asyncio.sleep(0)
        assert await host.commit(batch(2, "k/a")) == Committed(f"{2:016x}")
        assert await slow == Conflict(("k/a",))
        assert host.now_ms() == START_MS + 250

    asyncio.run(main())


def test_the_hook_sees_every_callback() -> None:
    """``on_call`` is told number, verb and arguments; the host counts per verb and logs the batches."""

    async def main() -> None:
        seen: list[tuple[int, str, tuple[Any, ...]]] = []
        host = SimulatedHost(on_call=lambda n, verb, args: seen.append((n, verb, args)))
        await host.get(key for key in ("k/a",))
        await host.list("k/", "k/0", 3)
        await host.commit(batch(1, "k/a"))
        assert seen == [(1, "get", (["k/a"],)), (2, "list", ("k/", "k/0", 3)), (3, "commit", (batch(1, "k/a"),))]
        assert (host.calls, host.counts) == (3, {"get": 1, "list": 1, "commit": 1})
        assert host.batches == [batch(1, "k/a")]

    asyncio.run(main())


def test_a_refused_batch_is_no_callback() -> None:
    """A batch over a limit is refused before any fault can befall it."""

    async def main() -> None:
        host = SimulatedHost(fault=fault_at(1, "crash"))
        with pytest.raises(InvalidInput):
            await host.commit(batch(1, "k a"))
        assert host.calls == 0

    asyncio.run(main())


def test_a_closed_host_is_closed_and_its_store_is_not() -> None:
    """After close the handle answers ClosedError, and ``reopen`` gives another one."""

    async def main() -> None:
        host = filled()
        await host.close()
        for call in VERBS.values():
            with pytest.raises(ClosedError):
                await call(host)
        assert len(await host.reopen().list("")) == 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", COMMIT_FAULTS)
def test_a_run_survives_every_fault_at_every_callback(kind: Fault) -> None:
    """A workflow of two steps has the same result whichever callback the fault befalls."""
    ran: list[str] = []

    @workflow(name="two")
    async def two(ctx: Context, start: int) -> int:
        first = await ctx.step("one", lambda: ran.append("one") or start + 1)
        return await ctx.step("two", lambda: ran.append("two") or first * 10)

    async def once(at: int) -> tuple[Any, int]:
        store = SimulatedStore()
        host = SimulatedHost(store, fault=fault_at(at, kind))
        for _ in range(4):
            runtime = Runtime(host, workflows=[two])
            try:
                run = await runtime.start("two", 4, id="t", on_conflict="join")
                return await run.result(), host.calls
            except (StoreError, SimulatedCrash):
                pass
            finally:
                with contextlib.suppress(SimulatedCrash):
                    await runtime.close()
            host = host.reopen()
            host.advance(120)
        raise AssertionError("four processes did not finish the run")

    async def main() -> None:
        _, calls = await once(0)
        assert calls > 5
        for at in range(1, calls + 1):
            result, _ = await once(at)
            assert result == 50, f"{kind} at callback {at}"

    asyncio.run(main())
    assert ran.count("one") >= 1


def test_stores_can_be_shared() -> None:
    """Two live handles on one store see each other's commits, as two processes on one database."""

    async def main() -> None:
        store = SimulatedStore()
        a, b = SimulatedHost(store), SimulatedHost(store)
        await a.commit(batch(1, "k/a"))
        assert [entry.key for entry in await b.list("k/")] == ["k/a"]
        outcomes = await asyncio.gather(
            *(host.commit(batch(n, "k/b", absent=("k/b",))) for n, host in ((2, a), (3, b)))
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", "Conflict"]

    asyncio.run(main())


def test_a_lost_answer_is_applied() -> None:
    """``applied_then_error_at`` is the shorthand for the answer that was lost."""

    async def main() -> None:
        host = SimulatedHost(fault=applied_then_error_at(1))
        with pytest.raises(UnknownOutcome):
            await host.commit(batch(1, "k/a"))
        assert (await host.get(["k/a"]))[0] is not None

    asyncio.run(main())
