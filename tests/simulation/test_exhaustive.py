"""Every kind of fault at every single host callback of every scenario; the run must finish as though there were none.

For a get or a list, "applied-then-error" and "error-before" are the same exception, and "crash-after" differs from
"crash" by one turn of the event loop: those two are left out there. ``ALKALINE_EXHAUSTIVE=1`` tries them as well, and a
second crash in the process that recovers from the first (``make soak``). ``-s`` prints the totals. Without it every
second fault is tried, in turn with each kind, and inside Pyodide every fifth: all of them take minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from alkaline_edge import events as ev
from alkaline_edge.testing import FAULTS, fault_at
from alkaline_edge.testing.simulated import COMMIT_FAULTS

from .engine import Scenario, Trial, World
from .workflows import SCENARIOS

EXHAUSTIVE = os.environ.get("ALKALINE_EXHAUSTIVE") == "1"
KINDS = {
    "get": FAULTS if EXHAUSTIVE else ("crash", "error-before", "rejected"),
    "list": FAULTS if EXHAUSTIVE else ("crash", "error-before", "rejected"),
    "commit": COMMIT_FAULTS,
}
EACH = 1 if EXHAUSTIVE else 5 if sys.platform == "emscripten" else 2
Make = Callable[[World], Scenario]


def broken_promises(trial: Trial, faultless: Trial) -> list[str]:
    """What a trial that has finished does not hold of what was promised."""
    found = list(trial.world.violations)
    scenario = trial.scenario
    if not scenario.results(trial.result, faultless.result):
        found.append(f"the result is {trial.result!r:.300}, and without a fault {faultless.result!r:.300}")
    if scenario.histories:
        mine, theirs = trial.outline(), faultless.outline()
        found += [
            f"the history of {place} is {mine.get(place)}, and without a fault {theirs.get(place)}"
            for place in sorted(mine.keys() | theirs.keys())
            if mine.get(place) != theirs.get(place)
        ]
    for name, count in faultless.world.effects.items():
        if count and not trial.world.effects[name] and scenario.name != "at_most_once":
            found.append(f"step {name} never ran")
    for commits in trial.store.histories.values():
        ids = [e.id for commit in commits for _, e in commit if isinstance(e, (ev.StepCompleted, ev.StepFailed))]
        if len(ids) != len(set(ids)):
            found.append(f"a step has two outcomes: {ids}")
        entries = [e.entry for commit in commits for _, e in commit if isinstance(e, ev.SignalReceived)]
        if len(entries) != len(set(entries)):
            found.append("a signal was consumed twice")
    found += [f"left behind: {key}" for key in trial.left]
    try:
        scenario.check(trial)
    except AssertionError as error:
        found.append(str(error).splitlines()[0])
    return found


def tried(make: Make, fault: Any, faultless: Trial, name: str) -> tuple[Trial | None, list[str]]:
    """A trial with that fault, and what is wrong with it, each line with the fault's name."""
    trial = Trial(make, fault)
    try:
        trial.run()
    except (Exception, BaseExceptionGroup) as error:
        return None, [f"{name}: did not finish: {type(error).__name__}: {str(error)[:300]}"]
    except BaseException as error:
        if type(error).__name__ not in ("Endless", "SimulatedCrash"):
            raise
        return None, [f"{name}: did not finish: {type(error).__name__}: {error}"]
    if not trial.hit:
        return None, [f"{name}: the fault was not injected"]
    return trial, [f"{name}: {line}" for line in broken_promises(trial, faultless)]


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: make.__name__)
def test_without_a_fault(make: Make) -> None:
    """Each scenario ends by itself in one process, twice in the same way, and leaves nothing behind."""
    one, two = Trial(make).run(), Trial(make).run()
    assert broken_promises(one, two) == []
    assert (one.processes, one.retried, one.calls) == (1, 0, two.calls)


@pytest.mark.slow
@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: make.__name__)
def test_a_fault_at_every_callback(make: Make) -> None:
    """Crash, crash after, lost answer, lost request, refusal: at every callback the run finishes with the same result.

    Committed steps never run again, each step ran at least once, at-most-once steps at most once, charges and signals
    count once, the digest chain holds, and deleting the runs leaves an empty store.
    """
    faultless = Trial(make).run()
    finished = processes = 0
    wrong: list[str] = []
    faults = [(call, verb, kind) for call, verb in enumerate(faultless.verbs, 1) for kind in KINDS[verb]][::EACH]
    for call, verb, kind in faults:
        trial, lines = tried(make, fault_at(call, kind), faultless, f"{kind} at {verb} {call}")
        wrong += lines
        if trial is not None:
            finished += 1
            processes += trial.processes
    injected = len(faults)
    print(
        f"\n{make.__name__}: {faultless.calls} callbacks, {injected} faults, {finished} finished, {processes} processes"
    )
    assert wrong == []
    assert finished == injected


@pytest.mark.slow
@pytest.mark.skipif(not EXHAUSTIVE, reason="ALKALINE_EXHAUSTIVE=1 tries every pair of crashes")
@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: make.__name__)
def test_a_second_crash_during_recovery(make: Make) -> None:
    """A crash, and another one at every callback of the process that recovers from it."""
    faultless = Trial(make).run()
    injected = finished = 0
    wrong: list[str] = []
    for call in range(1, faultless.calls + 1, 3):
        for second in range(1, 60, 2):
            trial = Trial(make, fault_at(call, "crash-after"))
            trial.second = fault_at(second, "crash-after")
            trial.run()
            injected += trial.second_hit
            wrong += [f"crash after {call}, then {second}: {line}" for line in broken_promises(trial, faultless)]
            finished += trial.second_hit
            if not trial.second_hit:
                break
    print(f"\n{make.__name__}: {injected} pairs of crashes, {finished} finished")
    assert wrong == []
