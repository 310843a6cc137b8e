"""``start_at``: a run never begins before its time, whatever is asked of it, and nothing that was asked is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, NotFound, Run, RunCancelled, Runtime, hand_over, sync, workflow
from alkaline_edge.replay import check
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost, VirtualClock
from tests.support import drive

ran: list[str] = []


@workflow
async def flow(ctx: Context) -> list[Any]:
    """Says in ``ran`` that its code is run, and returns what had been sent."""
    ran.append(ctx.execution.id)
    ctx.on_query("q", lambda: "begun")
    ctx.on_update("u", lambda x: x)
    got = [ctx.now().timestamp()]
    while (payload := await ctx.wait_for_signal("s", timeout=1, default=None)) is not None:
        got.append(payload)
    return got


def _host() -> SimulatedHost:
    ran.clear()
    return SimulatedHost(clock=VirtualClock(auto=False))


def _in(host: SimulatedHost, seconds: float) -> datetime:
    return datetime.fromtimestamp(host.now_ms() / 1000, UTC) + timedelta(seconds=seconds)


async def _turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


ASKED: dict[str, Callable[[Runtime], Awaitable[Any]]] = {
    "signal": lambda runtime: runtime.signal("a", "s", "early"),
    "pause": lambda runtime: runtime.pause("a"),
    "resume": lambda runtime: runtime.resume("a"),
    "join": lambda runtime: runtime.start(flow, id="a", on_conflict="join"),
    "recover": lambda runtime: runtime.recover(),
    "run_due": lambda runtime: runtime.run_due(),
    "get": lambda runtime: runtime.get_execution("a"),
}


@pytest.mark.parametrize("seed", range(12))
def test_no_sequence_of_requests_begins_a_run_before_its_time(seed: int) -> None:
    """Requests drawn at random, by one runtime or two: not begun before, and begun then unless it is paused."""
    rng = random.Random(seed)

    async def body() -> None:
        host = _host()
        runtimes = [Runtime(host, workflows=[flow]) for _ in range(2)]
        run = await runtimes[0].start(flow, id="a", start_at=_in(host, 3600))
        paused, signals = False, 0
        for _ in range(rng.randrange(1, 9)):
            name = rng.choice(list(ASKED))
            await ASKED[name](runtimes[rng.randrange(2)])
            paused = name == "pause" or (paused and name != "resume")
            signals += name == "signal"
            await _turns()
            host.advance(rng.randrange(60))
            assert not ran, name
        assert (await run._runtime.get_execution("a")).status == ("paused" if paused else "suspended")
        host.advance(3600)
        await runtimes[1].run_due()
        assert bool(ran) is not paused
        if paused:
            await runtimes[0].resume("a")
            await _turns()
        last = Run(runtimes[rng.randrange(2)], "a")
        await last.settle()
        host.advance(2)
        await last._runtime.run_due()
        assert (await last.result())[1:] == ["early"] * signals

    drive(body)


def test_a_cancel_ends_a_run_before_its_time_and_its_handler_is_never_run() -> None:
    """The history says so, replays without the handler, and moves; what was sent before goes with the run."""

    async def body() -> None:
        for reason in (None, "not needed"):
            host = _host()
            runtime = Runtime(host, workflows=[flow])
            run = await runtime.start(flow, id="a", start_at=_in(host, 3600))
            for n in range(250):
                await run.signal("s", n)
            await run.cancel(reason)
            with pytest.raises(RunCancelled, match=reason or "cancelled"):
                await run.result()
            assert [type(each.event).__name__ for each in await runtime.history("a")] == ["Started", "Cancelled"]
            assert not [key for key in host.store.keys if key.startswith(("i/", "t/"))]
            bundle = await runtime.export("a")
            assert [one.ok for one in check(bundle, [flow])] == [True]
            there = Runtime(SimulatedHost(seed=1), workflows=[flow])
            await there.import_(bundle)
            with pytest.raises(NotFound):
                await there.query("a", "q")
            host.advance(7200)
            await runtime.run_due()
            await runtime.delete("a")
            assert not ran
            assert not [key for key in host.store.keys if not key.startswith("m/")]

    drive(body)


def test_an_update_waits_for_the_beginning_and_a_query_says_when_that_is() -> None:
    """A query can't be answered without the handler; an update is kept like any request."""

    async def body() -> None:
        host = _host()
        runtime = Runtime(host, workflows=[flow])
        await runtime.start(flow, id="a", start_at=_in(host, 3600))
        with pytest.raises(NotFound, match="has not begun"):
            await runtime.query("a", "q")
        asked = asyncio.ensure_future(runtime.update("a", "u", 7))
        await _turns()
        assert not asked.done()
        assert not ran
        host.advance(3600)
        await runtime.run_due()
        assert await asked == 7
        assert await runtime.query("a", "q") == "begun"

    drive(body)


def test_serve_leaves_a_run_that_has_not_begun_alone_and_begins_it_in_time() -> None:
    """A request to it costs serve no look after look; another process's cancel is acted on all the same."""

    async def body() -> None:
        ran.clear()
        host = SimulatedHost()
        client = Runtime(host.reopen(), workflows=[flow])
        for id in ("a", "b"):
            await client.start(flow, id=id, start_at=_in(host, 100))
            await client.store.commit(_early_signal(client, id))
        server = Runtime(host, workflows=[flow])
        over = asyncio.Event()
        serving = asyncio.ensure_future(server.serve(over))
        await host.sleep(5)
        before = host.counts["commit"]
        await host.sleep(50)
        assert host.counts["commit"] == before
        assert not ran
        other = Runtime(host.reopen())
        await other.cancel("b")
        await host.sleep(10)
        assert (await server.get_execution("b")).status == "cancelled"
        assert not ran
        await host.sleep(60)
        assert (await Run(server, "a").result())[1:] == ["early"]
        assert ran[:1] == ["a"]
        assert set(ran) == {"a"}
        over.set()
        await serving

    drive(body)


def _early_signal(runtime: Runtime, id: str) -> Any:
    data = runtime.codec.encode(["s0123456789abcdef", "signal", "s", "early", runtime.host.now_ms()])
    return Write({}, {f"i/{id}/a1": data})


@pytest.mark.parametrize("how", ["take_over", "copy", "hand_over", "sync"])
def test_a_run_that_moves_before_its_time_begins_at_its_time_there(how: str) -> None:
    """Nor does a move begin it: the new host waits for the same moment, with what was sent before."""

    async def body() -> None:
        host = _host()
        there_host = SimulatedHost(clock=host.clock, seed=1)
        here, there = Runtime(host, workflows=[flow]), Runtime(there_host, workflows=[flow])
        began = _in(host, 3600)
        run = await here.start(flow, id="a", start_at=began)
        await run.signal("s", "early")
        if how == "hand_over":
            await hand_over(here, "a", there)
        elif how == "sync":
            await sync(here, there, "a")
        else:
            await there.import_(await here.export("a", handoff=how == "take_over"), mode=how)
        copied = how in ("copy", "sync")
        if copied:
            await there.resume("a")
        await there.run_due()
        await _turns()
        assert not ran
        if not copied:
            with pytest.raises(AlkalineError, match="handed over"):
                await here.start(flow, id="a", on_conflict="join")
        host.advance(3600)
        await there.run_due()
        host.advance(2)
        await there.run_due()
        got = await Run(there, "a").result()
        assert got == [began.timestamp(), *(["early"] if not copied else [])]

    drive(body)


def test_join_gives_a_paused_a_finished_and_a_scheduled_run_as_it_is() -> None:
    """Joining neither resumes a paused run nor begins another one in the place of a finished one."""

    async def body() -> None:
        host = _host()
        runtime = Runtime(host, workflows=[flow])
        run = await runtime.start(flow, id="a")
        await run.settle()
        await run.pause()
        await run.settle()
        joined = await runtime.start(flow, id="a", on_conflict="join", start_at=_in(host, 100))
        await joined.settle()
        assert (await runtime.get_execution("a")).status == "paused"
        await run.resume()
        await run.settle()
        host.advance(2)
        await runtime.run_due()
        again = await runtime.start(flow, id="a", on_conflict="join")
        assert await again.result() == await run.result()
        assert ran == ["a"]

    drive(body)


def test_what_was_kept_for_a_run_before_its_time_is_not_read_at_each_look() -> None:
    """A hundred signals that wait for the beginning are looked at once; what comes behind them is seen."""

    async def test() -> None:
        host = _host()
        async with Runtime(host, workflows=[flow]) as runtime:
            await runtime.start(flow, id="a", start_at=_in(host, 3_600))
            await runtime.signal("a", "s", "early")
            scheduled = runtime._scheduled
            assert not await scheduled.attend(await runtime.store.record("a"))
            assert await scheduled.attended("a")
            other = Runtime(SimulatedHost(host.store, seed=2, clock=host.clock), workflows=[])
            await other.signal("a", "s", "another")
            assert not await scheduled.attended("a")
            await other.close()

    drive(test)


def test_a_cancel_of_a_run_that_another_process_has_begun_meanwhile_ends_nothing_behind_its_back() -> None:
    """What it has come to there stands: the cancel found it before its time."""

    async def test() -> None:
        host = _host()
        runtime = Runtime(host, workflows=[flow])
        await runtime.start(flow, id="a", start_at=_in(host, 5))
        record = await runtime.store.record("a")
        await Runtime(SimulatedHost(host.store, seed=3, clock=host.clock), workflows=[]).cancel("a", "in time")
        read = runtime.store.commits

        async def slowly(name: str) -> Any:
            found = await read(name)
            write = Write(
                {}, {}, {f"i/a/{key.split('/', 2)[2]}" for key in host.store.entries if key.startswith("i/a/")}
            )
            await runtime.store.commit(write)
            host.advance(10)
            other = Runtime(SimulatedHost(host.store, seed=2, clock=host.clock), workflows=[flow])
            await (await other.resume("a")).settle()
            host.advance(10)
            await other.run_due()
            await other.close()
            return found

        runtime.store.commits = slowly  # type: ignore[method-assign]
        await runtime._scheduled.attend(record)
        assert ran == ["a"]
        assert (await runtime.store.record("a")).status == "completed"
        await runtime.close()

    drive(test)
