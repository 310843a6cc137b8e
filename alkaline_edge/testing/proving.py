"""Proving a workflow against crashes: one before and one behind each commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..arguments import expect, expect_call
from ..errors import InvalidInput
from ..workflows import Workflow
from .simulated import Fault, SimulatedCrash, SimulatedHost
from .trial import Trial

EVERY = "every commit"
MOST_PROCESSES = 3
Script = Callable[[Trial], Awaitable[Any]]
"""What somebody outside does with the runs of a trial. It is begun again after a crash."""


class Proof(NamedTuple):
    """What held. ``commits``: those of a run without a crash; ``crashes``: how often a process died at one of them.

    ``steps``: how often each step was begun in the run without one.
    """

    commits: int
    crashes: int
    steps: dict[str, int]


class _Outcome(NamedTuple):
    """How each run ended, by its id: its status, with its result or failure."""

    runs: dict[str, tuple[str, Any]]


async def prove(
    workflow: Workflow,
    input: Any = None,
    *,
    signals: Mapping[str, Any] | None = None,
    script: Script | None = None,
    crash_at: str | Iterable[int] = EVERY,
    workflows: Iterable[Workflow] = (),
    same: Callable[[Any, Any], bool] | None = None,
    **options: Any,
) -> Proof:
    """Run ``workflow`` on ``input`` without a crash, and then again and again, killed before and behind each commit.

    Whenever it is killed, the next process must bring it to the same end, no step may begin whose outcome is recorded,
    nothing may be left, and the code must go on with its history; AssertionError says which did not hold, and where.

    ``signals`` are sent once the run has settled, by name, with their payload. ``script(trial)`` does it all in their
    place: start runs, signal them, await them; it is begun again after a crash, so that each of its acts must be one
    that may be repeated, as ``Trial.start`` and the signals of its runs are. ``crash_at``: "every commit", or the
    numbers of some, from 1. ``workflows``: others that it starts. ``same(a, b)``: whether two results will do for
    each other, where chance is in them. ``options`` are Trial's, such as ``stubs=``. What is
    none of these is ERR_INVALID_INPUT.
    """
    expect(workflow, Workflow, "prove(workflow=)", "a function with @workflow")
    expect_call(script, "prove(script=)", "an async function of a Trial")
    expect_call(same, "prove(same=)", "a function of two results")
    if isinstance(crash_at, str) and crash_at != EVERY:
        raise InvalidInput(f"prove(crash_at=) is {EVERY!r} or the numbers of commits, not {crash_at!r}")
    one = _One((workflow, *workflows), script or _script(workflow, input, dict(signals or {})), options)
    wanted, commits, steps, _ = await one.run(0, None)
    numbers = range(1, commits + 1) if isinstance(crash_at, str) else list(crash_at)
    crashes = 0
    for number in numbers:
        if type(number) is not int or not 1 <= number <= commits:
            raise InvalidInput(f"prove(crash_at=): there are commits 1 to {commits}, and no {number!r}")
        kinds: tuple[tuple[Fault, str], ...] = (("crash", "before"), ("crash-after", "behind"))
        for kind, words in kinds:
            place = f"killed {words} commit {number} of {commits}"
            try:
                found, _, _, died = await one.run(number, kind)
            except AssertionError as error:
                raise AssertionError(f"{place}: {error}") from None
            _compare(wanted, found, same, place)
            crashes += died
    return Proof(commits, crashes, steps)


def _compare(wanted: _Outcome, found: _Outcome, same: Callable[[Any, Any], bool] | None, place: str) -> None:
    for id in sorted(wanted.runs.keys() | found.runs.keys()):
        one, other = wanted.runs.get(id), found.runs.get(id)
        if one == other or (one and other and one[0] == other[0] and same is not None and same(one[1], other[1])):
            continue
        raise AssertionError(f"{place}, run {id} ended as {_words(other)}; without a crash it ended as {_words(one)}")


def _words(end: tuple[str, Any] | None) -> str:
    return "nothing: it was not there" if end is None else f"{end[0]} with {end[1]!r}"


def _script(workflow: Workflow, input: Any, signals: dict[str, Any]) -> Script:
    async def script(trial: Trial) -> None:
        run = await trial.start(workflow, input)
        for name, payload in signals.items():
            await run.settle()
            if not (await trial.runtime.get_execution(run.id)).finished:
                await run.signal(name, payload)
        with contextlib.suppress(Exception):  # how it ended is compared, whatever that is
            await run.result()

    return script


class _One:
    """One trial after the other, each killed once at most."""

    def __init__(self, workflows: tuple[Workflow, ...], script: Script, options: dict[str, Any]) -> None:
        self._workflows, self._script, self._options = workflows, script, options

    async def run(self, at: int, kind: Fault) -> tuple[_Outcome, int, dict[str, int], bool]:
        """How it ended, killed at the commit ``at``; the commits, how often each step began, and whether it died."""
        commits = 0

        def fault(call: int, verb: str) -> Fault:
            nonlocal commits
            commits += verb == "commit"
            return kind if verb == "commit" and commits == at else None

        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(_quiet)
        try:
            async with Trial(*self._workflows, host=_Mortal(fault=fault), **self._options) as trial:
                died = await self._until_done(trial)
                counted = commits
                trial.assert_sent_once()
                await trial.assert_nothing_left()
                await trial.assert_replays()
                trial.assert_sent_once()
                steps: dict[str, int] = {}
                for one in trial.sent:
                    steps[one.step] = steps.get(one.step, 0) + 1
                return await _outcome(trial), counted, steps, died
        finally:
            loop.set_exception_handler(handler)

    async def _until_done(self, trial: Trial) -> bool:
        """Let processes follow each other until the script is done; whether one of them died."""
        for process in range(MOST_PROCESSES):
            death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if isinstance(trial.host, _Mortal):
                trial.host.death = death
            work = asyncio.ensure_future(self._script(trial))
            await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
            if not trial.host.dead:
                await work
                return process > 0
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await trial.crash()
        raise AssertionError(f"it was not done after {MOST_PROCESSES} processes")


class _Mortal(SimulatedHost):
    """A host that tells when its process dies."""

    death: asyncio.Future[None] | None = None

    def die(self) -> None:
        """As SimulatedHost.die."""
        if self.death is not None and not self.death.done():
            self.death.set_result(None)
        super().die()


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a process that died has left to the loop is no news."""
    if not isinstance(context.get("exception"), (SimulatedCrash, asyncio.CancelledError)):
        loop.default_exception_handler(context)


async def _outcome(trial: Trial) -> _Outcome:
    runs: dict[str, tuple[str, Any]] = {}
    for record in (await trial.runtime.list_executions(limit=1_000)).items:
        failure = record.failure or {}
        end = record.result if record.failure is None else (failure.get("type"), failure.get("message"))
        runs[record.id] = (record.status, end)
    return _Outcome(runs)
