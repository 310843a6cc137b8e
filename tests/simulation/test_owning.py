"""Several owners of one store, some of them slow for longer than a lease: never two histories, and one result.

A slow owner is a zombie: its lease has run out while it was away, another owner has gone on, and then its write lands.
``ALKALINE_EXHAUSTIVE=1`` tries more seeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Any

import pytest

from alkaline_edge import AlkalineError, Context, Runtime, workflow
from alkaline_edge import events as ev
from alkaline_edge.host import Batch
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import Delay

from .engine import CAPABILITIES, LEASE, MOST_SECONDS, Outside, Trial, Violation
from .test_exhaustive import Make, broken_promises
from .workflows import SCENARIOS

SEEDS = range(300 if os.environ.get("ALKALINE_EXHAUSTIVE") == "1" else 12)
PAUSING = ("update", "pause", "cancel_tree")
"""Scenarios whose driver must be alone: a second one would pause again what the first has resumed."""


class Owners(Trial):
    """A scenario with several runtimes at once, whose callbacks are late, lost or refused as a seed says."""

    def __init__(self, make: Make, seed: int, count: int = 2) -> None:
        super().__init__(make)
        self.random = random.Random(seed)
        self.count = count
        self.late = 0
        self.results: list[Any] = []

    def run(self) -> Trial:
        """Until every owner has the result; one of them may die on the way."""
        asyncio.run(self._together())
        return self

    async def _together(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        hosts = [
            SimulatedHost(self.store, seed=n, on_call=self._befalls, capabilities=CAPABILITIES)
            for n in range(self.count)
        ]
        async with asyncio.timeout(MOST_SECONDS):
            self.results = await asyncio.gather(*(self._own(host, n) for n, host in enumerate(hosts)))
        self.result = self.results[0]
        last = SimulatedHost(self.store, capabilities=CAPABILITIES)
        last.advance(LEASE + 60)
        runtime = Runtime(last, workflows=self.scenario.workflows, lease=LEASE, **self.scenario.options)
        await runtime.recover()
        await self._leave(runtime)

    def _befalls(self, call: int, verb: str, arguments: tuple[Any, ...]) -> Any:
        if self.store.clock.now_ms > 1_700_000_000_000 + 60 * 86_400_000:
            raise Violation("no end in sight")
        chance = self.random.random()
        if chance < 0.80:
            return None
        if chance < 0.92:
            return Delay(self.random.uniform(1, 2_000))
        if chance < 0.97:
            self.late += 1
            return Delay(self.random.uniform(LEASE, 4 * LEASE) * 1_000)
        lost = ["applied-then-error", "error-before", "rejected"]
        return self.random.choice([*lost, "applied-then-conflict"] if verb == "commit" else lost)

    async def _own(self, host: SimulatedHost, place: int) -> Any:
        await host.sleep(place * 0.01)
        runtime = Runtime(host, workflows=self.scenario.workflows, lease=LEASE, **self.scenario.options)
        for _ in range(500):
            try:
                await runtime.recover()
                await runtime.run_due()
                result = await self.scenario.script(Outside(self, runtime))
            except AlkalineError as error:
                if error.code not in ("ERR_STORE", "ERR_CONFLICT", "ERR_NOT_FOUND"):
                    raise
                await host.sleep(7)
            else:
                await _closed(runtime)
                return result
        raise Violation(f"owner {place} never got the result")


async def _closed(runtime: Runtime) -> None:
    with contextlib.suppress(AlkalineError):
        await runtime.close()


def promises(trial: Owners, faultless: Trial) -> list[str]:
    """What does not hold. A zombie may run a step once more before its write is refused, unless at most once."""
    wrong = [line for line in broken_promises(trial, faultless) if "ran again although" not in line]
    if sum(isinstance(event, ev.CancelRequested) for event in trial.events()) > 1:  # each driver asked for it
        wrong = [line for line in wrong if not line.startswith("the history of")]
    if any(not trial.scenario.results(result, faultless.result) for result in trial.results):
        wrong.append(f"the owners have different results: {trial.results!r:.300}")
    return wrong


@pytest.mark.parametrize("make", [m for m in SCENARIOS if m.__name__ not in PAUSING], ids=lambda make: make.__name__)
@pytest.mark.parametrize("count", [2, 3])
def test_owners_that_race(make: Make, count: int) -> None:
    """Owners with delays beyond the lease and lost answers, by seed: one history, one result, nothing left behind."""
    faultless = Trial(make).run()
    wrong: list[str] = []
    late = finished = 0
    for seed in SEEDS:
        trial = Owners(make, seed, count)
        try:
            trial.run()
            finished += 1
            wrong += [f"seed {seed}: {line}" for line in promises(trial, faultless)]
        except (Exception, BaseExceptionGroup) as error:
            wrong.append(f"seed {seed}: did not finish: {type(error).__name__}: {str(error)[:200]}")
        late += trial.late
    print(f"\n{make.__name__}: {count} owners, {len(SEEDS)} seeds, {late} delays beyond a lease, {finished} finished")
    assert wrong == []
    assert finished == len(SEEDS)
    assert late > 0


def _counting(ran: list[str]) -> Any:
    async def step(name: str) -> str:
        ran.append(name)
        await asyncio.sleep(0)
        return name

    @workflow(name="three")
    async def three(ctx: Context) -> Any:
        return [await ctx.step(name, step, name) for name in ("a", "b", "c")]

    return three


@pytest.mark.parametrize("late", ["a", "b", "c"])
def test_a_zombie_is_refused_by_the_store(late: str) -> None:
    """An owner's write lands a minute after its lease ran out, when another one has finished the run: it is refused.

    The zombie throws away what it has in memory, reads again, and gives the other's result.
    """
    refused: list[Batch] = []

    async def main() -> None:
        ran: list[str] = []
        flow = _counting(ran)
        zombie_host = SimulatedHost(seed=1)

        def befalls(number: int, verb: str, arguments: tuple[Any, ...]) -> Any:
            if verb != "commit" or refused:
                return None
            batch: Batch = arguments[0]
            names = [put for put in batch.puts if put.key.startswith("h/") and late.encode() in put.value[-3:]]
            if not names:
                return None
            refused.append(batch)
            return Delay(2 * LEASE * 1000)

        zombie_host.on_call = befalls
        zombie = Runtime(zombie_host, workflows=[flow], lease=LEASE)
        run = await zombie.start("three", id="run")
        while not refused:
            await asyncio.sleep(0)
        host = SimulatedHost(zombie_host.store, seed=2)
        host.clock.advance(LEASE * 1000 + 1)
        other = Runtime(host, workflows=[flow], lease=LEASE)
        assert [taken.id for taken in await other.recover()] == ["run"]
        await other.settle("run")
        finished = await other.history("run")
        assert (await other.get_execution("run")).result == ["a", "b", "c"]
        assert await run.result() == ["a", "b", "c"]
        assert refused[0].id not in {entry.version for entry in host.store.entries.values()}
        assert await zombie.history("run") == finished
        names = [each.event.name for each in finished if isinstance(each.event, ev.StepCompleted)]
        assert names == ["a", "b", "c"]
        assert ran.count(late) == 2, "the step in flight runs again, once"
        await zombie.close()
        await other.close()

    asyncio.run(main())


def test_a_zombie_of_a_deleted_run_does_not_write_into_its_successor() -> None:
    """A run is deleted and created again under its id while an owner of the first is away: nothing of it arrives."""
    held: list[Batch] = []

    async def main() -> None:
        ran: list[str] = []
        flow = _counting(ran)
        zombie_host = SimulatedHost(seed=1)

        def befalls(number: int, verb: str, arguments: tuple[Any, ...]) -> Any:
            if verb == "commit" and not held and number > 3:
                held.append(arguments[0])
                return Delay(10 * LEASE * 1000)
            return None

        zombie_host.on_call = befalls
        zombie = Runtime(zombie_host, workflows=[flow], lease=LEASE)
        await zombie.start("three", id="run")
        while not held:
            await asyncio.sleep(0)
        host = SimulatedHost(zombie_host.store, seed=2)
        host.clock.advance(LEASE * 1000 + 1)
        other = Runtime(host, workflows=[flow], lease=LEASE)
        await other.recover()
        await other.settle("run")
        await other.delete("run")
        again = await other.start("three", id="run")
        assert await again.result() == ["a", "b", "c"]
        before = dict(host.store.entries)
        host.clock.advance(20 * LEASE * 1000)
        await zombie.settle("run")
        assert host.store.entries == before
        await zombie.close()
        assert host.store.entries == before
        await other.close()

    asyncio.run(main())
