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
from alkaline_edge.keys import is_chore
from alkaline_edge.replay.reading import of_events
from alkaline_edge.runs import FINISHED
from alkaline_edge.runtime import waking
from alkaline_edge.runtime.syncing import hand_over, sync

from . import disk, faults, tampering
from .handlers import Hopeless, workflows
from .oracle import Oracle, Told, shared
from .programs import Author, Program, show
from .shared import Sharing
from .timeline import PROCESS, Endless, Process, later
from .world import AuditedStore, MissingHost, SimHost, WatchingHost, World, seed_of

ID = "run"
FORKED = "~fork-"
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
    commits: int = 0
    signals: int = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For running schedules in: what dead processes leave behind is collected between them, and says nothing.

    Their coroutines are closed as they are collected, and their ``finally`` blocks find no loop to run on. Within a
    schedule that must not happen: it would come at another moment each time.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    every: Any = getattr(asyncio.tasks, "_all_tasks", None)  # newer Pythons keep them otherwise
    log = logging.getLogger("alkaline_edge")
    said, log.disabled = log.disabled, True
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        if every is not None:
            every.add = lambda task: None  # nobody asks for them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that were never awaited: their process died
            yield
            gc.collect()
    finally:
        if every is not None:
            every.__dict__.pop("add", None)
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = hook
        log.disabled = said


class Schedule:
    """Everything is drawn from ``seed``; a program given by hand takes the place of the one drawn."""

    def __init__(self, seed: int, program: Program | None = None, *, calm: bool = False) -> None:
        self.seed = seed
        draw = Random(seed_of(seed, "setting"))
        self.limits = faults.capabilities(draw)
        self.lease = draw.choice((8.0, 20.0, 30.0))
        self.poll = draw.choice((2.0, 10.0, 30.0, 60.0))
        self.retry = Retry(max_attempts=3, backoff=1.0) if draw.random() < 0.3 else None
        self.weather = faults.draw(draw, self.lease)
        if calm:
            self.weather = faults.Weather(until=1.0)
        drawn = Author(Random(seed_of(seed, "program")), faults.sizes(draw, self.limits)).program()
        self.program = program or drawn
        self.poll = max(self.poll, self.program.seconds() / 40, self.weather.until / 8)
        self.stores = draw.choice((1, 1, 2))
        self.workers = draw.choice((1, 1, 1, 1, 2, 3))
        self.lingers = draw.random() < 0.15
        """Whether the others go on for a while after the end; who looks at it sweeps what they left."""
        self.modes = [draw.choice(("serve", "serve", "due")) for _ in range(self.workers + self.stores)]
        self.host_class = draw.choice((SimHost, WatchingHost, MissingHost))
        self.logged = draw.random() < 0.1
        """Whether the first store's batches are kept, for a log of the file host that is cut."""
        self.world = World(self.program, self.limits, MOST_CALLS, MOST_CALLBACKS)
        self.world.clocks = self.weather.clocks / 1000
        self.random = Random(seed_of(seed, "chance"))
        self.told = Told()
        self.sharing = self.world.sharing = Sharing(self, Random(seed_of(seed, "shared")))
        self.statuses: list[str] = []
        self.fleet = Fleet(self)
        self.plan = Plan(self, Random(seed_of(seed, "plan")))

    def run(self) -> Outcome:
        """Until every run has ended and everything was checked, or something is wrong."""
        world = self.world
        befalls = faults.Befalls(self.weather, Random(seed_of(self.seed, "faults")))
        world.befalls = befalls
        before = waking.POLL_SECONDS, waking.IDLE_SECONDS
        waking.POLL_SECONDS, waking.IDLE_SECONDS = self.poll, max(20.0, self.poll)
        loop = world.loop
        ended, plan = "never", self.plan.described()
        try:
            ended = loop.run_until_complete(self._main(befalls))
        except Endless as error:
            world.wrong(f"endless: {error}; {self._states()}")
        finally:
            waking.POLL_SECONDS, waking.IDLE_SECONDS = before
            self._drop()
        steps = sum(world.starts.values())
        return Outcome(self.seed, self.program, world.violations, world.faults, world.calls, steps, ended,
                       self.setting(), plan, self.statuses, world.commits, len(self.told.signals))  # fmt: skip

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
        if self.fleet.ever_newer and not self.fleet.newer:
            self.fleet.deploy(newer=True)  # the right code is back
        deadline = loop.now + self.program.seconds() + self.plan.seconds() + 6 * self.lease + 20 * self.poll + 200
        while not self._done():
            if loop.now > deadline:
                self.world.wrong(f"not alive: {self._states()}")
                return "never"
            await asyncio.sleep(self.poll / 4)
        if self.lingers:
            await asyncio.sleep(2 + 2 * self.poll)  # what came too late is swept
        return await self._judge()

    async def _sooner(self, at: float) -> bool:
        """Wait until then; True where all is done before."""
        loop = self.world.loop
        while loop.now < at:
            if self._done() and loop.now > 0:
                return True
            await asyncio.sleep(min(max(0.5, self.poll / 4), at - loop.now))
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
        stores = self.fleet.stores
        ended = stores[0].ended.union(*(store.ended for store in stores[1:]))
        if self.world.mended and len(stores) > 1 and self._goes_on():
            return False
        return all(id in ended or self._left_alone(id) for store in stores for id in store.there - ended)

    def _goes_on(self) -> bool:
        """Whether the run, tried again in one store, goes on there: a copy elsewhere says for ever that it failed."""
        records = self._records().get(ID, [])
        return any(r["status"] not in (*FINISHED, "paused") and r["moved_to"] is None for r in records)

    def _left_alone(self, id: str) -> bool:
        """Whether it is a fork that nobody has resumed."""
        _, forked, end = id.partition(FORKED)
        return bool(forked) and "~" not in end and id not in self.plan.forks

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
            await runtime.run_due()
            page = await runtime.list_executions(limit=200)
            for record in page.items:
                if not record.finished:
                    continue
                if self.stores > 1 and record.status == "failed" and world.went_on(record):
                    continue  # a copy, of a run that was tried again where it is judged
                ended = ended or record.id == ID
                self.statuses.append(record.status)
                for problem in oracle.judge(record, record.id == ID, FORKED in record.id):
                    world.wrong(problem)
                if record.id == ID:
                    self._told_same(record)
                await self._replayed(runtime, record, judge.flows)
            for problem in shared(world, self.fleet.stores[place].entries) if self.stores == 1 else ():
                world.wrong(problem)
            self._left(place, {record.id: record for record in page.items})
        for problem in await self.sharing.judge(judge.runtime(0), sorted(self.fleet.stores[0].there)):
            world.wrong(problem)
        if not ended:
            world.wrong(f"run {ID!r} has ended in no store: {self._states()}")
        if self.random.random() < 0.1:
            for problem in await tampering.tried(self.fleet.stores[0], self.limits, self.random, judge.flows):
                world.wrong(problem)
            world.faults["tampered"] += 1
        if self.logged:
            for problem in disk.tried(self.fleet.stores[0].batches, self.random):
                world.wrong(problem)
            world.faults["torn"] += 1
        if self.random.random() < 0.2:
            await self._delete(judge)

    async def _replayed(self, runtime: Runtime, record: Any, flows: list[Any]) -> None:
        """Replay the histories of all the run's generations, the last one as a bundle now and then."""
        histories = self.world.generations(record.run)
        sources: list[Any] = []
        if self.random.random() < 0.7:  # the rest were replayed by each process that took them up
            sources = [of_events(history.commits) for history in histories if not history.large]
        if self.random.random() < 0.2 or not histories or histories[-1].large:
            sources.append(await runtime.export(record.id))
        for checked in replay.check(sources, flows):
            if not checked.ok:
                self.world.wrong(f"a history of {record.id} does not replay: {checked.message}")

    def _told_same(self, record: Any) -> None:
        wanted = record.result if record.status == "completed" else record.status
        for given in self.told.results:
            before = given == "failed" and self.world.was_retried(record.run)
            if given != wanted and not before:
                self.world.wrong(f"who waited was told {given!r:.200}, and the run ended with {wanted!r:.200}")

    def _left(self, place: int, records: dict[str, Any]) -> None:
        entries = self.fleet.stores[place].entries
        for key in entries:
            if key[:2] in ("i/", "t/"):
                id = key.split("/")[1] if key[0] == "i" else key.split("/")[2]
                record = records.get(id)
                if is_chore(id):
                    continue
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
                known = self.fleet.stores[place].recorded
                left = [
                    key for key in entries
                    if key[:2] not in ("m/", "g/", "i/") and key.split("/")[1].partition("-")[0] in known
                ]  # fmt: skip
                if left:
                    self.world.wrong(f"left behind by delete: {left[:5]}")


class Member(Process):
    """A process of the fleet, with a runtime for each store that it reaches."""

    def __init__(self, fleet: Fleet, name: str, skew_ms: int, flows: list[Any]) -> None:
        super().__init__(fleet.schedule.world.loop, name, skew_ms)
        self.fleet, self.flows = fleet, flows
        self.world = fleet.schedule.world
        self.runtimes: dict[int, Runtime] = {}
        self.again: list[Callable[[], None]] = []
        """Begin what comes after it, when it is dead."""
        self.on_death: list[Callable[[], None]] = []

    def died(self) -> None:
        """Another takes its place in a while."""
        for tell in self.on_death:
            tell()
        again, self.again = self.again, []
        for begin in again:
            later(self.loop, 0.5 + self.fleet.random.random() * 4, begin)

    def runtime(self, place: int) -> Runtime:
        """Its runtime on the store at ``place``."""
        if place not in self.runtimes:
            schedule = self.fleet.schedule
            seed = f"{schedule.seed} {self.name} {place}"
            host = schedule.host_class(self.world, self, self.fleet.stores[place], seed)
            made = Runtime(host, workflows=self.flows, lease=schedule.lease, retry=schedule.retry)
            self.runtimes[place] = made
            schedule.sharing.driven(made)
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
        self.stores[0].batches = [] if schedule.logged else None
        self.all: list[Member] = []
        self.calm = self.patched = self.newer = self.ever_newer = False
        self.swapping = False
        """Everything is on its way to another store: nobody else begins anything meanwhile."""
        self.count = 0
        self.page: Member | None = None
        """The newest worker of the first store: some programs ask from the process that also drives."""
        self.deployed: dict[tuple[bool, bool], list[Any]] = {}
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
        flows = self._flows(self.patched or newest, self.newer or newest)
        member = Member(self, f"{role}-{self.count}", skew, flows)
        member.kept.append([object() for _ in range(self.random.choice((0, 1, 7, 50)))])
        self.all.append(member)
        return member

    def _flows(self, patched: bool, newer: bool) -> list[Any]:
        """What is deployed: made once, since every process of the schedule has the same code."""
        found = self.deployed.get((patched, newer))
        if found is None:
            found = self.deployed[patched, newer] = workflows(self.schedule.program, patched, newer)
        return found

    def begin(self) -> None:
        """The first workers, one more for each further store."""
        places = [0] * self.schedule.workers + list(range(1, self.schedule.stores))
        for place, mode in zip(places, self.schedule.modes, strict=False):
            self._worker(place, mode)

    def _worker(self, place: int, mode: str) -> None:
        if self.swapping:
            later(self.schedule.world.loop, 1.0, lambda: self._worker(place, mode))
            return
        member = self.spawn(f"worker{place}")
        member.again.append(lambda: self._worker(place, mode))
        if place == 0:
            self.page = member
        member.run(_serve(member, place) if mode == "serve" else _due(member, place, self.schedule.poll))

    def befall(self, kind: str, befalls: faults.Befalls) -> None:
        """Something happens to one of them, or to all."""
        random, loop, alive = self.random, self.schedule.world.loop, self.alive()
        if kind == "swap" and not self._may_swap():
            kind = "kill"
        self.schedule.world.faults[kind] += 1
        if kind in ("deploy", "deploy-back"):
            self.deploy(newer=kind == "deploy")
            return
        if kind == "swap":
            self._swap()
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

    def _may_swap(self) -> bool:
        """Nothing may write to a store that is left: what lands late would."""
        return len(self.stores) == 1 and "late" not in self.schedule.weather.commits and not self.swapping

    def _swap(self) -> None:
        """Every process ends, and another one goes on upon an empty store; if it dies before that, on the old one."""
        self.swapping = True
        for member in self.alive():
            member.kill()
        swapper = self.spawn("swapper")
        swapper.on_death.append(lambda: setattr(self, "swapping", False))
        swapper.run(self._swapped(swapper))

    async def _swapped(self, member: Member) -> None:
        schedule, old, runtime = self.schedule, self.stores[0], member.runtime(0)
        new = AuditedStore(schedule.world, f"{old.name}+")
        new.batches = None if old.batches is None else list(old.batches)
        seed = seed_of(schedule.seed, "swap", member.name)
        with contextlib.suppress(AlkalineError):
            await runtime.swap_host(schedule.host_class(schedule.world, member, new, seed))
        if runtime.host is not None and runtime.host.store is new:  # type: ignore[attr-defined]  # the simulator's
            old.left, self.stores[0] = True, new
            schedule.world.faults["swapped"] += 1
        member.kill()

    def deploy(self, newer: bool) -> None:
        """Every process is replaced by one with other code: patched and with version 2, or without version 2 again.

        A patch stays: taken out again, it would be one that some runs have passed and the code no longer knows.
        """
        self.patched, self.newer = self.patched or newer, newer
        self.ever_newer = self.ever_newer or newer
        for member in self.alive():
            member.kill()


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
    closed = 0
    while closed < len(member.runtimes):  # who asks meanwhile may open another one
        runtime = list(member.runtimes.values())[closed]
        closed += 1
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
