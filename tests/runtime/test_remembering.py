"""What was learned of steps, in the store: what a new process begins with, and what it leaves alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alkaline_edge import Codec, Context, Runtime, keys, workflow
from alkaline_edge.capacity import Learning
from alkaline_edge.host import Capabilities
from alkaline_edge.runtime.learning import SAVED_EVERY_MS
from alkaline_edge.runtime.remembering import KEPT, VERSION, Memory, Summary, between, checked
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.support import drive

CODEC = Codec()
NUMBERS = st.integers(0, 10**6)
SUMMARIES = st.builds(
    Summary,
    st.just("ask"),
    st.floats(0.01, 64),
    st.none() | st.floats(0, 1e6),
    st.lists(NUMBERS, max_size=KEPT),
    NUMBERS,
)


async def worked(store: SimulatedStore, seconds: float, runs: int = 6) -> tuple[Runtime, SimulatedHost]:
    """A process that has made so many steps of a length, and is still there."""
    host = SimulatedHost(store)

    async def ask() -> None:
        await host.sleep(seconds)

    @workflow(name="flow")
    async def flow(ctx: Context) -> Any:
        await ctx.map(lambda n: ctx.step("ask", ask), range(runs))

    runtime = Runtime(host, workflows=[flow], learning=Learning())
    await (await runtime.start(flow)).result()
    return runtime, host


@pytest.mark.parametrize("keys_at_once", [5, 12, 500])
def test_what_is_kept_goes_into_as_many_batches_as_the_store_takes(keys_at_once: int) -> None:
    """Of 450 names all are there afterwards, whatever a commit may hold."""

    async def test() -> None:
        can = Capabilities("small", durability="volatile", max_batch_keys=keys_at_once)
        memory = Memory(Runtime(SimulatedHost(capabilities=can)).store)
        await memory.save([Summary(f"s{n}", 4.0, None, [n], 1) for n in range(450)])
        assert {each.durations[0] for each in await memory.load()} == set(range(450))

    drive(test)


def test_a_new_process_begins_with_what_earlier_ones_learned() -> None:
    """Also where that one died, once a minute has passed; and nothing of it is in a history."""

    async def test() -> None:
        store = SimulatedStore()
        first, _ = await worked(store, 2)
        known = first.learned[0]
        assert known.limit > 4
        assert [key for key in store.keys if key.startswith(keys.LEARNED)] == []  # it is not written at each step
        await first.close()
        async with Runtime(SimulatedHost(store), learning=Learning(most=5)) as other:
            assert other.learned == []
        second, host = await worked(store, 2, 1)
        assert (second.learned[0].limit, second.learned[0].expected) == (pytest.approx(known.limit), 2.0)
        (kept,) = await Memory(second.store).load()
        assert len(kept.durations) == 6
        host.advance(SAVED_EVERY_MS / 1000)
        await (await second.start("flow")).result()
        host.dead = True
        (kept,) = await Memory(Runtime(SimulatedHost(store)).store).load()
        assert len(kept.durations) > 6

    drive(test)


@pytest.mark.parametrize("what", ["newer", "damaged", "of another", "no msgpack"])
def test_what_can_not_be_read_is_left_alone_and_said(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and the process learns anew; what is there is not written over."""
    good: list[Any] = [VERSION, "ask", 3.0, None, [], 5]
    stored = {
        "newer": CODEC.encode([VERSION + 1, "ask", {"new": True}]),
        "damaged": CODEC.encode([*good[:2], "three", *good[3:]]),
        "of another": CODEC.encode([VERSION, "other", *good[2:]]),
        "no msgpack": b"\xc1",
    }[what]

    async def test() -> None:
        store = SimulatedStore()
        first, _ = await worked(store, 1)
        await first.close()
        key = keys.learned("ask")
        store.entries[key] = store.entries[key]._replace(value=stored)
        with caplog.at_level(logging.ERROR, "alkaline_edge"):
            second, _ = await worked(store, 1)
            await second.close()
        assert sum(key in record.getMessage() for record in caplog.records) == 1
        assert store.entries[key].value == stored

    drive(test)


def test_what_two_processes_learn_is_put_together() -> None:
    """Whoever stores later has read what the other one stored meanwhile."""

    async def test() -> None:
        store = SimulatedStore()
        memories = [Memory(Runtime(SimulatedHost(store)).store) for _ in range(2)]
        for memory in memories:
            assert await memory.load() == []
        await memories[0].save([Summary("ask", 8.0, 100.0, [100] * KEPT, 5)])
        await memories[1].save([Summary("ask", 4.0, 300.0, [300] * KEPT, 7)])
        half = KEPT // 2
        assert await memories[0].load() == [Summary("ask", 6.0, 200.0, [100] * half + [300] * half, 7)]
        await memories[0].save([Summary("ask", 9.0, None, [], 9)])
        assert await memories[1].load() == [Summary("ask", 9.0, None, [], 9)]

    drive(test)


@given(SUMMARIES, SUMMARIES)
def test_what_is_put_together_is_bounded_and_in_the_middle(one: Summary, other: Summary) -> None:
    """Whatever both are, and it can be read again."""
    made = between(one, other)
    assert min(one.limit, other.limit) <= made.limit <= max(one.limit, other.limit)
    assert len(made.durations) <= KEPT
    assert checked(*CODEC.decode(CODEC.encode([*made]))) == made


def test_a_store_that_does_not_answer_holds_nothing_up() -> None:
    """Neither at the beginning nor at the end: the process learns anew."""

    async def test() -> None:
        store = SimulatedStore()
        host = SimulatedHost(store)

        async def ask() -> int:
            return 1

        @workflow(name="flow")
        async def flow(ctx: Context) -> Any:
            return await ctx.step("ask", ask)

        async with Runtime(host, workflows=[flow], learning=Learning()) as runtime:
            list_ = host.list

            async def refused(prefix: str, after: str, limit: int) -> Any:
                if prefix == keys.LEARNED:
                    raise OSError("no answer")
                return await list_(prefix, after, limit)

            host.list = refused  # type: ignore[method-assign]
            assert await (await runtime.start(flow)).result() == 1
        assert keys.learned("ask") in store.keys

    drive(test)
