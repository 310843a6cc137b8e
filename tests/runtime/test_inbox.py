"""The inbox: a request that is sent twice counts once, and a paused run stands still until it is asked to go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Context, NotFound, Runtime, keys, workflow
from alkaline_edge.lifecycle import RunResumed
from alkaline_edge.runtime import inbox, sending
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import Delay, SimulatedHost, VirtualClock
from tests.support import Process, drive, kinds


@workflow
async def collects(ctx: Context) -> list[Any]:
    got: list[Any] = []
    while (item := await ctx.wait_for_signal("s")) != "end":
        got.append(item)
    return got


def test_two_who_send_with_one_dedupe_key_at_once_are_one() -> None:
    """One of them looked for the key before the other's was there, and finds its place behind it: the batch says no."""

    async def test() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        slow, fast = process.host.reopen(), process.host.reopen()

        def befall(call: int, verb: str, arguments: Any) -> Any:
            looks_for_its_place = verb == "list" and arguments[0].startswith("i/")
            return Delay(1_000) if looks_for_its_place else None

        slow.on_call = befall
        outside, other = Runtime(slow), Runtime(fast)
        late = asyncio.ensure_future(sending.send(outside.store, "a", "signal", "s", 1, "key"))
        while not slow.counts["list"]:
            await asyncio.sleep(0)
        await sending.send(other.store, "a", "signal", "s", 1, "key")
        await late
        await sending.send(other.store, "a", "signal", "s", "end")
        await process.runtime.run_due()
        assert await run.result() == [1]

    drive(test)


async def _told(numbered: int, others: dict[str, int]) -> list[Any]:
    """What a run takes of an inbox of ``numbered`` signals, accepted at 1, 2, ..., and those of other runs.

    ``others``: when each was accepted, by its name, which is its payload too.
    """
    process = Process(collects)
    run = await process.runtime.start(collects, id="a")
    await run.settle()
    codec = process.runtime.codec
    sent = {keys.position(n): [f"s{n}", "signal", "s", n, n] for n in range(1, numbered + 1)}
    sent |= {f"~{name}": [name, "signal", "s", name, at] for name, at in others.items()}
    sent[keys.position(numbered + 1)] = ["end", "signal", "s", "end", 1_000]
    await process.runtime.store.commit(
        Write({}, {keys.inbox("a", place): codec.encode(entry) for place, entry in sent.items()})
    )
    await process.runtime.resume("a")
    taken: list[Any] = await run.result()
    return taken


def test_what_another_run_sent_goes_where_its_time_is_also_behind_a_page_of_signals() -> None:
    """It stands behind the page, and signals that the page does not hold were accepted before it."""
    for at in (1, 99, 100, 101, 120, 149):
        taken = drive(lambda at=at: _told(150, {"child": at}))  # type: ignore[misc]
        assert taken == [*range(1, at + 1), "child", *range(at + 1, 151)]


def test_a_page_that_ends_among_what_other_runs_sent_is_read_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read twice in one look, or left out."""
    looks: list[list[str]] = []
    in_order = inbox._in_order

    def seen(requests: Any, more: bool) -> Any:
        looks.append([request.key for request in requests])
        return in_order(requests, more)

    monkeypatch.setattr(inbox, "_in_order", seen)
    taken = drive(lambda: _told(60, {f"c{n:02}": 500 + n for n in range(70)}))
    assert taken == [*range(1, 61), *(f"c{n:02}" for n in range(70))]
    assert max(map(len, looks)) == 131
    assert all(len(look) == len(set(look)) for look in looks)


def test_a_pause_is_in_the_record_as_soon_as_it_is_in_the_history() -> None:
    """Whoever takes the run over while its step is in flight still finds it paused."""
    over: list[asyncio.Event] = []

    async def slow() -> str:
        await over[0].wait()
        return "slow"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.step("slow", slow)

    async def test() -> None:
        over.append(asyncio.Event())
        process = Process(flow)
        run = await process.runtime.start("flow", id="run")
        await asyncio.sleep(0)
        await run.pause()
        for _ in range(200):
            await asyncio.sleep(0)
            if "Paused" in kinds(await process.runtime.history("run")):
                break
        assert (await process.runtime.store.record("run")).status == "paused"
        over[0].set()
        await run.settle()
        await run.resume()
        assert await run.result() == "slow"

    drive(test)


def test_what_is_asked_as_a_run_is_set_aside_is_heard_at_once() -> None:
    """Behind the last look and before the record says that it waits: nobody has to come and wake it."""

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        commit, asked = process.host.commit, list[bool]()

        async def nosy(batch: Any) -> Any:
            if not asked and any(put.key == "r/run" and b"suspended" in put.value for put in batch.puts):
                asked.append(True)
                await process.runtime.signal("run", "go", 1)
            return await commit(batch)

        process.host.commit = nosy  # type: ignore[method-assign]
        await process.runtime.start("flow", id="run")
        for _ in range(200):
            await asyncio.sleep(0)
        assert asked
        assert (await process.runtime.store.record("run")).status == "completed"

    drive(test)


def test_the_end_of_an_earlier_generations_child_is_not_that_of_this_ones() -> None:
    """Both are the first thing that their generation asks for: the report says whose it is."""

    @workflow(name="kid")
    async def kid(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go")

    @workflow(name="parent")
    async def parent(ctx: Context, n: int) -> Any:
        if n == 0:
            ctx.continue_as_new(1)
        return await ctx.child("kid", id="kid")

    async def test() -> None:
        process = Process(parent, kid)
        run = await process.runtime.start("parent", 0, id="run")
        await run.settle()
        record = await process.runtime.store.record("run")
        report = ["child-0123456789ab", "child", "1", [record.run, 0, "completed", "theirs", None], 0]
        key = keys.inbox("run", "~theirs")
        await process.runtime.store.commit(Write({}, {key: process.runtime.codec.encode(report)}))
        await process.runtime.run_due()
        await run.settle()
        assert not (await process.host.get([key]))[0]  # it was read
        await process.runtime.signal("kid", "go", "its own")
        assert await run.result() == "its own"

    drive(test)


def test_no_timer_fires_while_a_run_is_paused() -> None:
    """Also one that is due while a step is in flight, so that the run is still being driven."""
    over: list[asyncio.Event] = []

    async def slow() -> str:
        await over[0].wait()
        return "slow"

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        return await ctx.all(ctx.step("slow", slow), ctx.sleep(10))

    async def test() -> None:
        over.append(asyncio.Event())
        process = Process(flow, host=SimulatedHost(clock=VirtualClock(auto=False)))
        run = await process.runtime.start(flow, id="a")
        await run.pause()
        for _ in range(50):
            await asyncio.sleep(0)
        process.host.advance(60)
        for _ in range(50):
            await asyncio.sleep(0)
        over[0].set()
        await run.settle()
        assert run.status == "paused"
        assert kinds(await process.runtime.history("a")) == ["Started", "Paused", "StepCompleted"]
        process.host.advance(60)
        await process.runtime.run_due()
        assert kinds(await process.runtime.history("a")) == ["Started", "Paused", "StepCompleted"]
        await run.resume()
        assert await run.result() == ["slow", None]
        found = kinds(await process.runtime.history("a"))
        assert found[3:] == ["Resumed", "TimerFired", "Completed"]

    drive(test)


def test_a_paused_run_of_which_nothing_is_asked_is_left_as_it_is() -> None:
    """Nobody who looks at it takes it, reads its history or writes its record, whatever it is poked by."""

    async def test() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        await run.pause()
        await run.settle()
        before = await process.runtime.store.record("a")
        assert before.status == "paused"
        process.events.clear()
        process.runtime.fleet.poke("a")
        process.runtime.fleet.take_up("a")
        await process.runtime.fleet.settle("a")
        other = await process.crash()
        other.fleet.take_up("a")
        await other.fleet.settle("a")
        after = await other.store.record("a")
        assert (after.version_tag, after.epoch, after.attempt) == (before.version_tag, before.epoch, before.attempt)
        assert not [event for event in process.events if isinstance(event, RunResumed)]
        await other.resume("a")
        await other.signal("a", "s", "end")
        assert await other.result("a", None) == []

    drive(test)


def test_what_comes_behind_the_outcome_is_in_no_history() -> None:
    """A handler that has returned is recorded as that: a cancel that waits behind the signal that ended it is not."""

    async def test() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        outside = Runtime(process.host.reopen())
        await outside.signal("a", "s", "end")
        await outside.cancel("a")
        await process.runtime.run_due()
        assert await run.result() == []
        assert kinds(await process.runtime.history("a")) == ["Started", "SignalReceived", "Completed"]
        assert not any(key.startswith("i/") for key in process.host.store.keys)

    drive(test)


def test_a_run_that_goes_on_records_no_resume() -> None:
    """Of two who resume a paused run one is recorded; its history tells of no pause that nobody ended."""

    async def test() -> None:
        process = Process(collects)
        run = await process.runtime.start(collects, id="a")
        await run.settle()
        await run.pause()
        await run.settle()
        for _ in range(2):
            await sending.send(process.runtime.store, "a", "resume", "", None)
        await run.resume()
        await run.signal("s", "end")
        assert await run.result() == []
        told = kinds(await process.runtime.history("a"))
        assert (told.count("Paused"), told.count("Resumed")) == (1, 1)
        await process.runtime.close()

    drive(test)


def test_a_cancel_ends_a_pause_and_what_was_done_is_undone() -> None:
    """A paused run that is cancelled is not left standing before its compensation."""
    undone: list[int] = []

    @workflow
    async def books(ctx: Context) -> Any:
        await ctx.step("book", lambda: 1, compensate=undone.append)
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        process = Process(books)
        run = await process.runtime.start(books, id="a")
        await run.settle()
        await run.pause()
        await run.settle()
        await run.cancel("enough")
        await run.settle()
        assert (run.status, undone) == ("cancelled", [1])
        await process.runtime.close()

    drive(test)


def test_the_large_result_of_another_run_under_a_childs_id_is_not_taken_for_the_childs() -> None:
    """A child was deleted before its parent had read its result, and its id is another run's now: that is said."""

    @workflow
    async def kid(ctx: Context) -> Any:
        return await ctx.wait_for_signal("go")

    @workflow
    async def parent(ctx: Context) -> Any:
        try:
            return await ctx.child(kid, id="kid")
        except NotFound as error:
            return str(error)

    async def test() -> None:
        process = Process(kid, parent)
        run = await process.runtime.start(parent, id="p")
        await run.settle()
        record = await process.runtime.get_execution("p")
        started = next(
            each.event for each in await process.runtime.history("p") if type(each.event).__name__ == "ChildStarted"
        )
        told = [record.run, 0, "completed", None, "kid"]
        entry = process.runtime.codec.encode(["child-000000000000", "child", started.id, told, 1])  # type: ignore[union-attr]
        await process.runtime.store.commit(Write({}, {keys.inbox("p", "~kid"): entry}))
        await process.runtime.resume("p")
        assert "was deleted before its parent had read how" in await run.result()
        await process.runtime.close()

    drive(test)
