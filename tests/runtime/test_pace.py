"""Pace: what is learned of a function's time, and how many try it before that is known."""

from __future__ import annotations

from typing import Any

from alkaline_edge import in_thread
from alkaline_edge.machine.commands import RunStep
from alkaline_edge.runtime import pace
from alkaline_edge.runtime.pace import (
    AFTER_BLOCKING,
    AFTER_SLOW,
    PROBES,
    QUICK_MS,
    SLOW_AT_ONCE,
    Pace,
    Probes,
    always_threaded,
    threaded,
)


def step(fn: Any, id: str = "1", name: str = "work", timeout: float | None = None) -> RunStep:
    made = RunStep(id, name, None, fn, (), {})
    made.timeout = timeout
    return made


def test_a_function_runs_inline_once_it_was_quick_and_in_threads_after_it_was_slow() -> None:
    """As many quick calls in a row are wanted back as it had done harm."""
    one = step(lambda: 1)
    known = Pace().of(one)
    assert threaded(one, known)
    known.took(QUICK_MS, inline=False)
    assert not threaded(one, known)
    known.took(QUICK_MS + 1, inline=False)
    assert (known.wanted, known.slow) == (AFTER_SLOW, True)
    for _ in range(AFTER_SLOW):
        assert threaded(one, known)
        known.took(1, inline=False)
    assert not threaded(one, known)
    known.took(QUICK_MS + 1, inline=True)
    assert known.wanted == AFTER_SLOW  # once: the machine may have been busy
    for _ in range(AFTER_SLOW):
        known.took(1, inline=False)
    known.took(QUICK_MS + 1, inline=True)
    assert known.wanted == AFTER_BLOCKING


def test_what_never_runs_inline_and_what_never_runs_in_a_thread() -> None:
    """One that is marked or has a timeout goes into a thread, one that is async stays on the loop."""

    async def later() -> int:
        return 1

    learned = Pace()
    marked = step(in_thread(lambda: 1), name="marked")
    known = learned.of(marked)
    known.took(1, inline=False)
    assert threaded(marked, known)
    limited = step(lambda: 1, name="limited", timeout=1.0)
    learned.of(limited).took(1, inline=False)
    assert threaded(limited, learned.of(limited))
    waits = step(later, name="waits")
    assert not threaded(waits, learned.of(waits))


def test_a_function_is_known_by_its_code_and_its_steps_name() -> None:
    """A closure that is made anew for each call is the same function; another name may mean other work."""

    def make(n: int) -> Any:
        return lambda: n

    learned = Pace()
    assert learned.of(step(make(1))) is learned.of(step(make(2)))
    assert learned.of(step(make(1))) is not learned.of(step(make(1), name="other"))


def test_it_forgets_all_rather_than_grow_without_bound(monkeypatch: Any) -> None:
    """A program that makes functions from source for ever costs no more memory for it."""
    monkeypatch.setattr(pace, "MOST", 3)
    learned = Pace()
    for n in range(10):
        learned.of(step(lambda: 1, name=f"step {n}"))
        assert len(learned._known) <= 3


def test_a_few_try_a_function_and_the_rest_waits_for_them() -> None:
    """When it is known after the first has landed, all that waited go on; until then one for each that lands."""
    commands = [step(print, str(n)) for n in range(PROBES + 5)]
    known, probes = Pace().of(commands[0]), Probes()
    begun = [command for command in commands if probes.may_begin(command, known)]
    assert begun == commands[:PROBES]
    assert probes.over("0") == [commands[PROBES]]
    assert probes.may_begin(commands[PROBES], known)
    known.took(1, inline=False)
    assert probes.over("1") == commands[PROBES + 1 :]
    assert probes.over("1") == []


def test_of_a_function_that_was_slow_once_only_so_many_are_in_threads() -> None:
    """The slow one may have been slow since the machine was busy: once enough were quick, the rest runs inline."""
    commands = [step(print, str(n)) for n in range(SLOW_AT_ONCE + 20)]
    known, probes = Pace().of(commands[0]), Probes()
    known.took(QUICK_MS + 1, inline=False)
    begun = [command for command in commands if probes.may_begin(command, known)]
    assert begun == commands[:SLOW_AT_ONCE]
    for n in range(3):  # one for each that lands, as long as they are slow
        known.took(QUICK_MS + 1, inline=False)
        assert probes.over(str(n)) == [commands[SLOW_AT_ONCE + n]]
        assert probes.may_begin(commands[SLOW_AT_ONCE + n], known)
    while known.wanted:
        known.took(1, inline=False)
    assert probes.over("3") == commands[SLOW_AT_ONCE + 3 :]
    assert not threaded(commands[-1], known)


def test_a_call_that_stays_in_a_thread_whatever_is_learned_waits_for_no_other() -> None:
    """It has a timeout, or was marked; nothing is known of the first one of a function, so that one is a try."""
    timed, known = step(print, timeout=5.0), Pace().of(step(print))
    assert not always_threaded(timed, known)
    known.took(1, inline=False)
    assert always_threaded(timed, known)
    assert not always_threaded(step(print), known)
    assert always_threaded(step(in_thread(print)), known)


def test_a_step_whose_intent_is_written_is_never_held_back() -> None:
    """An intent without an outcome is not started again, so it must not wait for others either."""
    known, probes = Pace().of(step(print)), Probes()
    for n in range(PROBES):
        assert probes.may_begin(step(print, str(n)), known)
    intended = step(print, "x")
    intended.intended = True
    assert probes.may_begin(intended, known)
