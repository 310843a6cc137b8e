"""One seed, one schedule: a program, a world, processes that come and go, and those who ask from outside."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from alkaline_edge import AlkalineError, Retry, Runtime, replay
from alkaline_edge.errors import UnknownOutcome
from alkaline_edge.runtime import waking
from alkaline_edge.runtime.syncing import hand_over, sync

from . import faults
from .handlers import Hopeless, workflows
from .oracle import Oracle, Told, shared
from .programs import Author, Program, show
from .timeline import PROCESS, Endless, Process, later
from .world import AuditedStore, MissingHost, SimHost, WatchingHost, World, seed_of

ID = "run"
COLLECT = 25
"""Schedules after which garbage is collected: it costs more than a schedule."""
MOST_CALLS = 40_000
MOST_CALLBACKS = 600_000
WAITING = ("ERR_STORE", "ERR_CONFLICT", "ERR_NOT_FOUND", "ERR_CLOSED")


@dataclass(slots=True)
class Outcome:
    """What became of a schedule."""

    seed: int
    program: Program
    violations: list[str]
    faults: Counter[str]
    calls: int
    steps: int
    ended: str
    setting: str = ""
    plan: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    """How each run ended."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For running schedules in: what dead processes leave behind is collected between them, and says nothing.

    Their coroutines are closed as they are collected, and their ``finally`` blocks find no loop to run on. Within a
    schedule that must not happen: it would come at another moment each time.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    log = logging.getLogger("alkaline_edge")
    said, log.disabled = log.disabled, True
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that were never awaited: their process died
            yield
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = hook
        log.disabled = said


class Schedule:
    """Everything is drawn from ``seed``; a program given by hand takes the place of the one drawn."""

    undone = 0
    """How many were run in this interpreter."""

    def __init__(self, seed: int, program: Program | None = None, *, calm: bool = False) -> None:
        self.seed = seed
        draw = Random(seed_of(seed, "setting"))
        self.limits = faults.capabilities(draw)
        self.lease = draw.choice((8.0, 20.0, 30.0))
        self.poll = draw.choice((1.0, 5.0, 20.0))
        self.retry = Retry(max_attempts=3, backoff=1.0) if draw.random() < 0.3 else None
        self.weather = faults.draw(draw, self.lease)
        if calm:
            self.weather = faults.Weather(until=1.0)
        drawn = Author(Random(seed_of(seed, "program")), faults.sizes(draw, self.limits)).program()
        self.program = program or drawn
        self.poll = max(self.poll, self.program.seconds() / 200, self.weather.until / 60)
        self.stores = draw.choice((1, 1, 2))
        self.workers = draw.choice((1, 1, 2, 3))
        self.modes = [draw.choice(("serve", "serve", "due")) for _ in range(self.workers + self.stores)]
        self.host_class = draw.choice((SimHost, WatchingHost, MissingHost))
        self.world = World(self.program, self.limits, MOST_CALLS, MOST_CALLBACKS)
        self.world.clocks = self.weather.clocks / 1000
        self.random = Random(seed_of(seed, "chance"))
        self.told = Told()
        self.statuses: list[str] = []
        self.fleet = Fleet(self)
        self.plan = Plan(self, Random(seed_of(seed, "plan")))

    def run(self) -> Outcome:
        """Until every run has ended and everything was checked, or something is wrong."""
        world = self.world
        befalls = faults.Befalls(self.weather, Random(seed_of(self.seed, "faults")))
        world.befalls = befalls
        before, waking.POLL_SECONDS = waking.POLL_SECONDS, self.poll
        loop = world.loop
        ended, plan = "never", self.plan.described()
        try:
            ended = loop.run_until_complete(self._main(befalls))
        except Endless as error:
            world.wrong(f"endless: {error}; {self._states()}")
        finally:
            waking.POLL_SECONDS = before
            self._drop()
        steps = sum(world.starts.values())
        return Outcome(self.seed, self.program, world.violations, world.faults, world.calls, steps, ended,
                       self.setting(), plan, self.statuses)  # fmt: skip

    def setting(self) -> str:
        """The limits and the weather in words."""
        limits = self.limits
        return (
            f"{self.stores} stores, {self.modes[: self.workers]} {self.host_class.__name__}, "
            f"inline {limits.inline_limit}, max_value {limits.max_value}, segments of {limits.segment_commits}, "
            f"lease {self.lease}, poll {self.poll}; {self.weather}"
        )

    def _drop(self) -> None:
        """Let go of all that dead and living processes hold, while no callback can run."""
        loop = self.world.loop
        self.world.over = True
        for process in self.fleet.all:
            process.dead = process.stopped = True
        loop.queue.clear()
        loop.timers.clear()
        self.world.befalls = None
        for process in self.fleet.all:
            process.kept.clear()
        self.fleet.all.clear()
        self.plan.clients.clear()
        loop.close()
        Schedule.undone += 1
        if Schedule.undone % COLLECT == 0:
            gc.collect()

    # --- the course of things ----------------------------------------------------------------------------------------
    async def _main(self, befalls: faults.Befalls) -> str:
        loop, weather = self.world.loop, self.weather
        self.fleet.begin()
        self.plan.begin()
        for at, kind in weather.timed:
            if await self._sooner(at):
                break
            self.fleet.befall(kind, befalls)
        await self._sooner(weather.until)
        befalls.until = loop.now
        self.fleet.calm = True
        deadline = loop.now + self.program.seconds() + self.plan.seconds() + 6 * self.lease + 20 * self.poll + 200
        while not self._done():
            if loop.now > deadline:
                self.world.wrong(f"not alive: {self._states()}")
                return "never"
            await asyncio.sleep(self.poll)
        await asyncio.sleep(2 + 2 * self.poll)  # what came too late is swept
        return await self._judge()

    async def _sooner(self, at: float) -> bool:
        """Wait until then; True where all is done before."""
        loop = self.world.loop
        while loop.now < at:
            if self._done() and loop.now > 0:
                return True
            await asyncio.sleep(min(max(0.5, self.poll), at - loop.now))
        return False

    def _records(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for store in self.fleet.stores:
            for key, entry in store.entries.items():
                if key[:2] == "r/":
                    found.setdefault(key[2:], []).append(self.world.codec.decode(entry.value))
        return found

    def _done(self) -> bool:
        if not self.plan.done():
            return False
        ended = set().union(*(store.ended for store in self.fleet.stores))
        return all(entry.key[2:] in ended for store in self.fleet.stores for entry in store.under("r/", "", 1000))

    def _states(self) -> str:
        records = [
            f"{one['id']} {one['status']} waits for {one['waiting']} moved {one['moved_to']}"
            for several in self._records().values() for one in several
        ]  # fmt: skip
        stuck = [f"{p.name}: {id} {error}" for p in self.fleet.alive() for id, error in p.stuck()]
        return f"runs {records}, stuck {stuck}, plan left {self.plan.left()}"

    # --- at the end --------------------------------------------------------------------------------------------------
    async def _judge(self) -> str:
        world = self.world
        for process in self.fleet.all:
            if not process.dead:
                for id, error in process.crashed():
                    world.wrong(f"a raw error ended the driving of {id}: {type(error).__name__}: {error}")
                process.kill()
        judge = self.fleet.spawn("judge", newest=True)
        task = judge.run(self._look(judge))
        await asyncio.wait([task])
        error = task.exception()
        if error is not None:
            world.wrong(f"the end could not be looked at: {type(error).__name__}: {error}")
        return "ended"

    async def _look(self, judge: Member) -> None:
        world, told = self.world, self.told
        oracle = Oracle(world, told, 0 if not self.weather.clocks else 2 * self.weather.clocks + 50)
        ended = False
        for place in range(self.stores):
            runtime = judge.runtime(place)
            page = await runtime.list_executions(limit=200)
            for record in page.items:
                if not record.finished:
                    continue
                ended = ended or record.id == ID
                self.statuses.append(record.status)
                for problem in oracle.judge(record, record.id == ID):
                    world.wrong(problem)
                if record.id == ID:
                    self._told_same(record)
                bundle = await runtime.export(record.id)
                for checked in replay.check(bundle, judge.flows):
                    if not checked.ok:
                        world.wrong(f"the history of {record.id} does not replay: {checked.message}")
            for problem in shared(world, self.fleet.stores[place].entries) if self.stores == 1 else ():
                world.wrong(problem)
            self._left(place, {record.id: record for record in page.items})
        if not ended:
            world.wrong(f"run {ID!r} has ended in no store: {self._states()}")
        if self.random.random() < 0.3:
            await self._delete(judge)

    def _told_same(self, record: Any) -> None:
        wanted = record.result if record.status == "completed" else record.status
        for given in self.told.results:
            if given != wanted:
                self.world.wrong(f"who waited was told {given!r:.200}, and the run ended with {wanted!r:.200}")

    def _left(self, place: int, records: dict[str, Any]) -> None:
        entries = self.fleet.stores[place].entries
        for key in entries:
            if key[:2] in ("i/", "t/"):
                id = key.split("/")[1] if key[0] == "i" else key.split("/")[2]
                record = records.get(id)
                if record is None or (record.finished and (key[0] == "t" or "/~" not in key)):
                    self.world.wrong(f"left behind: {key}")

    async def _delete(self, judge: Member) -> None:
        for place in range(self.stores):
            runtime = judge.runtime(place)
            for record in (await runtime.list_executions(limit=200)).items:
                if record.finished:
                    await runtime.delete(record.id)
            entries = self.fleet.stores[place].entries
            if not any(key[:2] == "r/" for key in entries):
                left = [key for key in entries if key[:2] not in ("m/", "g/", "i/")]
                if left:
                    self.world.wrong(f"left behind by delete: {left[:5]}")


class Member(Process):
    """A process of the fleet, with a runtime for each store that it reaches."""

    def __init__(self, fleet: Fleet, name: str, skew_ms: int, flows: list[Any]) -> None:
        super().__init__(fleet.schedule.world.loop, name, skew_ms)
        self.fleet, self.flows = fleet, flows
        self.world = fleet.schedule.world
        self.runtimes: dict[int, Runtime] = {}
        self.again: Callable[[], None] | None = None
        """Begins what comes after it, when it is dead."""

    def died(self) -> None:
        """Another takes its place in a while."""
        if self.again is not None:
            again, self.again = self.again, None
            later(self.loop, 0.5 + self.fleet.random.random() * 4, again)

    def runtime(self, place: int) -> Runtime:
        """Its runtime on the store at ``place``."""
        if place not in self.runtimes:
            schedule = self.fleet.schedule
            seed = seed_of(schedule.seed, self.name, place)
            host = schedule.host_class(self.world, self, self.fleet.stores[place], seed)
            self.runtimes[place] = Runtime(host, workflows=self.flows, lease=schedule.lease, retry=schedule.retry)
        return self.runtimes[place]

    def stuck(self) -> list[tuple[str, AlkalineError]]:
        """What can't go on here."""
        return [each for runtime in self.runtimes.values() for each in runtime.stuck.items()]

    def crashed(self) -> list[tuple[str, BaseException]]:
        """What ended in an error that is not the kernel's."""
        return [each for runtime in self.runtimes.values() for each in runtime.crashed.items()]


class Fleet:
    """The processes, and what befalls them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.stores = [AuditedStore(schedule.world, "ab"[n]) for n in range(schedule.stores)]
        self.all: list[Member] = []
        self.calm = self.patched = self.newer = False
        self.count = 0
        self.random = Random(seed_of(schedule.seed, "fleet"))

    def alive(self) -> list[Member]:
        """Those that run."""
        return [member for member in self.all if not member.dead]

    def spawn(self, role: str, newest: bool = False) -> Member:
        """A new process. Others' memory lies elsewhere."""
        schedule = self.schedule
        self.count += 1
        clocks = schedule.weather.clocks
        skew = self.random.randint(-clocks, clocks) if clocks and not newest else 0
        flows = workflows(schedule.program, self.patched or newest, self.newer or newest)
        member = Member(self, f"{role}-{self.count}", skew, flows)
        member.kept.append([object() for _ in range(self.random.choice((0, 1, 7, 50)))])
        self.all.append(member)
        return member

    def begin(self) -> None:
        """The first workers, one more for each further store."""
        places = [0] * self.schedule.workers + list(range(1, self.schedule.stores))
        for place, mode in zip(places, self.schedule.modes, strict=False):
            self._worker(place, mode)

    def _worker(self, place: int, mode: str) -> None:
        member = self.spawn(f"worker{place}")
        member.again = lambda: self._worker(place, mode)
        member.run(_serve(member, place) if mode == "serve" else _due(member, place, self.schedule.poll))

    def befall(self, kind: str, befalls: faults.Befalls) -> None:
        """Something happens to one of them, or to all."""
        random, loop, alive = self.random, self.schedule.world.loop, self.alive()
        self.schedule.world.faults[kind] += 1
        if kind in ("deploy", "deploy-back"):
            if kind == "deploy":
                self.patched = self.newer = True
            elif not self._begun_newer():
                self.newer = False
            for member in alive:
                member.kill()
            return
        if kind == "outage":
            befalls.out["all"] = loop.now + random.choice((0.5, 10, 60))
        if not alive:
            return
        member = random.choice(alive)
        if kind == "kill":
            member.kill()
        elif kind == "freeze":
            member.freeze(random.uniform(0.1, 5))
        elif kind == "long-freeze":
            member.freeze(random.uniform(1, 4) * self.schedule.lease)
        elif kind == "clock":
            member.skew_ms = random.randint(-self.schedule.weather.clocks, self.schedule.weather.clocks)
        elif kind == "close":
            member.run(_closed(member))

    def _begun_newer(self) -> bool:
        """A run of the new version can't go back; the fleet may all the same, and waits for the next deployment."""
        return self.newer


async def _serve(member: Member, place: int) -> None:
    runtime = member.runtime(place)
    while True:
        try:
            await runtime.serve()
        except AlkalineError as error:
            if error.code == "ERR_CLOSED":
                return
            if error.code != "ERR_STORE":
                member.world.wrong(f"serve ended: {error.code} {error}")
                return
        except Exception as error:
            member.world.wrong(f"serve ended in a raw error: {type(error).__name__}: {error}")
            return
        await asyncio.sleep(1)


async def _due(member: Member, place: int, poll: float) -> None:
    runtime = member.runtime(place)
    while True:
        at: float | None = None
        try:
            await runtime.recover()
            at = await runtime.run_due()
        except AlkalineError as error:
            if error.code == "ERR_CLOSED":
                return
            if error.code != "ERR_STORE":
                member.world.wrong(f"run_due ended: {error.code} {error}")
        except Exception as error:
            member.world.wrong(f"run_due ended in a raw error: {type(error).__name__}: {error}")
        wait = poll if at is None else min(poll, (at - member.now_ms()) / 1000)
        await asyncio.sleep(max(0.05, wait))


async def _closed(member: Member) -> None:
    """Close every runtime of the process, and end it."""
    begun = member.loop.now
    for runtime in member.runtimes.values():
        if member.fleet.random.random() < 0.5:
            runtime.drain()
        with contextlib.suppress(AlkalineError):
            await runtime.close()
    if member.loop.now - begun > 300 and member.fleet.calm:
        member.world.wrong("close took more than 300 s")
    member.kill()


from .outside import Plan  # noqa: E402  # it names what stands above

__all__ = [
    "ID",
    "PROCESS",
    "WAITING",
    "Hopeless",
    "Outcome",
    "Schedule",
    "UnknownOutcome",
    "gc",
    "hand_over",
    "show",
    "sync",
]
