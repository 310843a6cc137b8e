"""Telling: marks and waits, listeners that raise, runtimes on one host, and what is remembered of statuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alkaline_edge import Runtime, lifecycle
from alkaline_edge.codec import Codec
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime import telling
from alkaline_edge.runtime.store import Store
from alkaline_edge.runtime.telling import Changes, Teller
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


def changes_of(host: SimulatedHost) -> Changes:
    changes = Changes(Store(host, Codec()))
    changes.attend()
    return changes


def test_what_changed_behind_the_mark_is_not_waited_for() -> None:
    """However long the look between the mark and the wait took."""

    async def body() -> None:
        host = SimulatedHost()
        changes, before = changes_of(host), host.now_ms()
        mark = changes.mark()
        changes.changed()
        await changes.wait(3600, mark)
        assert host.now_ms() == before
        waiting = asyncio.ensure_future(changes.wait(3600, changes.mark()))
        await asyncio.sleep(0)
        changes.changed()
        await waiting
        assert host.now_ms() == before

    drive(body)


def test_a_change_of_a_run_wakes_those_who_wait_for_it_and_for_any() -> None:
    """And a change of nobody's wakes all. A mark is of all runs, wherever those that changed are remembered."""

    async def body() -> None:
        changes = changes_of(SimulatedHost())
        names: dict[str, str | None] = {"a": "a", "also a": "a", "b": "b", "any": None}

        async def woken_by(run: str | None, before: bool) -> set[str]:
            """Who of the four is woken by a change of ``run``, made before they wait or behind that."""
            mark = changes.mark()
            if before:
                changes.changed(run)
            tasks = {name: asyncio.ensure_future(changes.wait(3600, mark, run=of)) for name, of in names.items()}
            await asyncio.sleep(0)
            if not before:
                changes.changed(run)
            for _ in range(10):
                await asyncio.sleep(0)
            found = {name for name, task in tasks.items() if task.done()}
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            return found

        for before in (True, False):
            assert await woken_by("a", before) == {"a", "also a", "any"}
            assert await woken_by("c", before) == {"any"}
            assert await woken_by(None, before) == set(names)
        assert not changes._waiting_for

    drive(body)


@pytest.mark.parametrize("many", [1, 2, 5])
def test_a_change_is_not_missed_however_many_other_runs_changed_since(many: int, monkeypatch: Any) -> None:
    """What is remembered of runs has a bound: those who wait behind it look once more than they need."""
    monkeypatch.setattr(telling, "STATUSES", 2)

    async def body() -> None:
        changes = changes_of(SimulatedHost())
        mark = changes.mark()
        changes.changed("a")
        for n in range(many):
            changes.changed(f"other {n}")
        await asyncio.wait_for(changes.wait(3600, mark, run="a"), 1)

    drive(body)


def test_whoever_waits_for_another_run_hears_of_what_it_may_have_to_see_to() -> None:
    """A timer is anybody's who waits, so a run that is suspended until a time wakes all, also as it is let go."""
    changes = changes_of(SimulatedHost())
    teller = Teller(None, None, changes)

    def concerns_others(act: Any) -> bool:
        mark = changes.mark()
        act()
        assert changes._moved(mark, "a")
        return changes._moved(mark, "b")

    def let_go() -> None:
        changes.let_go("a")

    assert concerns_others(lambda: teller.tell(lifecycle.RunSuspended("a", 0, (), 5)))
    assert concerns_others(let_go)
    assert not concerns_others(let_go)
    assert not concerns_others(lambda: teller.tell(lifecycle.RunSuspended("a", 0, ("signal s",), None)))
    assert not concerns_others(let_go)
    assert concerns_others(lambda: teller.tell(lifecycle.RunStuck("a", 0, "ERR_STORE", "words")))
    assert not concerns_others(lambda: teller.tell(lifecycle.RunCompleted("a", 0, None)))


def test_a_change_wakes_the_other_runtimes_on_the_host() -> None:
    """They hear that others committed; the one that did does not, nor does one on another host."""
    host = SimulatedHost()
    one, two, elsewhere = changes_of(host), changes_of(host), changes_of(SimulatedHost())
    heard: list[str] = []
    for name, changes in (("one", one), ("two", two), ("elsewhere", elsewhere)):
        changes.on_foreign = lambda name=name: heard.append(name)  # type: ignore[misc]  # bound early
    one.changed()
    assert heard == ["two"]
    assert (one.foreign, two.foreign, elsewhere.foreign) == (False, True, False)


def test_nobody_waits_once_it_has_ended() -> None:
    """For a change or for a task."""

    async def body() -> None:
        changes = changes_of(SimulatedHost())
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waits = [asyncio.ensure_future(changes.wait_for([never])), asyncio.ensure_future(changes.wait(9, 0))]
        await asyncio.sleep(0)
        changes.end()
        await asyncio.gather(*waits)
        await changes.wait_for([never])

    drive(body)


def test_a_listener_that_raises_harms_nobody() -> None:
    """The others hear the event, the host's loop is told, and whoever waits is woken."""

    async def body() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        changes, heard = changes_of(SimulatedHost()), list[Any]()
        teller = Teller(lambda event: 1 // 0, None, changes)
        quiet = teller.listen(heard.append)
        mark = changes.mark()
        teller.tell(lifecycle.RunPaused("a", 1))
        quiet()
        teller.tell(lifecycle.RunPaused("a", 2))
        assert [event.at for event in heard] == [1]
        assert [type(error) for error in reported] == [ZeroDivisionError] * 2
        assert changes.mark() == mark + 2

    drive(body)


def test_the_statuses_that_were_seen_last_are_remembered(monkeypatch: Any) -> None:
    """So many of them; seeing a run again keeps it."""
    monkeypatch.setattr(telling, "STATUSES", 2)
    teller = Teller(None, None, changes_of(SimulatedHost()))
    for id in ("a", "b", "a", "c"):
        teller.saw(ExecutionRecord(id, "0123456789ab", "flow", 1, "running", 0, 0))
    assert [teller.status_of(id) for id in "abc"] == ["running", None, "running"]


def test_a_runtime_that_was_closed_hears_no_more_of_its_host() -> None:
    """Those that came before on one host cost the present ones nothing; what it hands back is told."""

    async def body() -> None:
        host = SimulatedHost()
        lasting, closed = Runtime(host), [Runtime(host) for _ in range(3)]
        before = lasting._changes.mark()
        for runtime in closed:
            await runtime.close()
        assert lasting._changes.mark() > before
        marks = [runtime._changes.mark() for runtime in closed]
        lasting._changes.changed()
        assert [runtime._changes.mark() for runtime in closed] == marks
        await lasting.close()

    drive(body)
