"""Chores: what is due besides runs is done by whatever wakes runs, and nothing that fails holds the rest up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from alkaline_edge import NotFound, Runtime, StoreError, keys
from alkaline_edge.runtime.chores import Done
from alkaline_edge.runtime.write import Write
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


async def set_timer(runtime: Runtime, ms: int, *ids: str, gone: tuple[str, ...] = ()) -> None:
    put = {keys.timer(ms, id): runtime.codec.encode(runtime.host.now_ms()) for id in ids}
    await runtime.store.commit(Write({}, put, set(gone)))


def test_a_chore_is_named_by_its_kind_and_its_name() -> None:
    """And by what no run is named."""
    id = keys.chore("schedule", "a:b")
    assert keys.is_chore(id)
    assert keys.chore_of(id) == ("schedule", "a:b")
    assert keys.timer_of(keys.timer(5, id)) == (5, id)
    assert not keys.is_chore("exe_1")


def test_what_is_due_is_done_in_its_order_and_only_by_who_can() -> None:
    """The timer of another kind stays, and asks for another call."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host) as runtime:
            done: list[str] = []

            async def do(name: str) -> Done:
                done.append(name)
                await set_timer(
                    runtime,
                    host.now_ms() + 50_000,
                    keys.chore("mine", name),
                    gone=(keys.timer(times[name], keys.chore("mine", name)),),
                )
                return Done([], True)

            now = host.now_ms()
            times = {"late": now - 1, "later": now, "early": now - 5, "future": now + 9_000}
            for name, ms in times.items():
                await set_timer(runtime, ms, keys.chore("mine", name))
            await set_timer(runtime, now - 100, keys.chore("theirs", "x"))
            runtime.chores.add("mine", do)
            again = await runtime.run_due()
            assert done == ["early", "late", "later"]
            assert again is not None
            assert now < again <= now + 9_000
            assert [key for key in host.store.keys if "theirs" in key]

    drive(test)


@pytest.mark.parametrize("error", [NotFound("no such workflow"), ValueError("a bug")])
def test_one_that_fails_is_tried_less_and_less_often_and_holds_up_no_other(error: Exception, caplog: Any) -> None:
    """It is told by the log."""

    async def test() -> None:
        host = SimulatedHost()
        host.clock.auto = False
        async with Runtime(host) as runtime:
            tries: list[int] = []

            async def do(name: str) -> Done:
                if name == "bad":
                    tries.append(host.now_ms())
                    raise error
                good.append(name)
                return Done([], False)

            good: list[str] = []
            runtime.chores.add("mine", do)
            await set_timer(runtime, host.now_ms(), keys.chore("mine", "bad"), keys.chore("mine", "good"))
            for _ in range(40):
                await runtime.run_due()
                host.advance(1)
            pauses = [later - earlier for earlier, later in pairwise(tries)]
            assert pauses == sorted(pauses)
            assert pauses[:4] == [1_000, 2_000, 4_000, 8_000]
            assert len(good) == 40
            assert "mine bad can't go on here" in caplog.text

    drive(test)


def test_a_store_that_does_not_answer_is_told_to_the_caller() -> None:
    """As everywhere."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:

            async def do(name: str) -> Done:
                raise StoreError("down")

            runtime.chores.add("mine", do)
            await set_timer(runtime, host.now_ms(), keys.chore("mine", "x"))
            with pytest.raises(StoreError, match="down"):
                await runtime.run_due()

    drive(test)


def test_what_is_wanted_is_done_before_its_time() -> None:
    """What a chore waited for has happened: its timer need not be waited for."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host) as runtime:
            done: list[str] = []

            async def do(name: str) -> Done:
                done.append(name)
                return Done([], False)

            runtime.chores.add("mine", do)
            runtime.chores.want(keys.chore("mine", "x"))
            runtime.chores.want(keys.chore("theirs", "x"))
            assert runtime.chores.wanted() == [keys.chore("mine", "x")]
            await runtime.run_due()
            assert done == ["x"]
            assert runtime.chores.wanted() == []

    drive(test)
