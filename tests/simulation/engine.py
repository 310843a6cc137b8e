"""One run of a scenario in a simulated world: processes that die and follow each other, and what must hold throughout.

``World`` is all that survives a process besides the store: what the steps did to the outside. ``Watched`` is the
store with an auditor in it, who reads each commit as it lands. ``Trial`` drives a scenario with a fault somewhere, and
with the next process after a crash, until it has finished.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from alkaline_edge import (
    AlkalineError,
    ClosedError,
    Codec,
    ConflictError,
    ExecutionRecord,
    Runtime,
    StepInfo,
    StoreError,
    Workflow,
)
from alkaline_edge import events as ev
from alkaline_edge.history import Cursor, Timed
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict
from alkaline_edge.runtime.write import indexes_of
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore

CAPABILITIES = Capabilities(
    "simulated", durability="volatile", segment_commits=4, inline_limit=600, max_value=2048, max_batch_bytes=65_536
)
"""Small enough that short runs seal segments and cut large values into chunks."""
LEASE = 30.0
MOST_PROCESSES = 6
MOST_CALLS = 4_000
MOST_SECONDS = 20.0
"""Of real time, for one process: virtual time costs none, so a process that takes this long hangs."""
MOST_VIRTUAL_MS = 30 * 86_400_000


class Violation(AssertionError):
    """A promise was broken."""


class World:
    """What the steps of a scenario did outside, by their idempotency key. It survives crashes."""

    def __init__(self) -> None:
        self.settled: set[str] = set()
        """Keys of the steps whose outcome is committed: they must never run again."""
        self.attempts: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        """Attempts by the step's name."""
        self.order: list[str] = []
        self.arguments: dict[str, Any] = {}
        self.violations: list[str] = []

    def did(self, info: StepInfo, *args: Any) -> None:
        """A step runs, with these arguments."""
        key = info.idempotency_key
        if key in self.settled:
            self.violations.append(f"step {info.step} ran again although its outcome was committed")
        if self.arguments.setdefault(key, args) != args:
            self.violations.append(f"step {info.step} ran again with other arguments: {args}, {self.arguments[key]}")
        self.attempts[key] += 1
        self.effects[info.step] += 1
        self.order.append(info.step)


class Watched(SimulatedStore):
    """A store whose every commit is read by an auditor."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.histories: dict[str, list[list[Timed]]] = {}
        self.cursors: dict[str, Cursor] = {}
        self.epochs: dict[str, int] = {}
        self._codec = Codec()

    def apply(self, batch: Batch) -> Committed | Conflict:
        """As SimulatedStore.apply; a commit of a history must be the next one, fenced by its run's record."""
        fresh = [put for put in batch.puts if put.key.startswith("h/") and put.key not in self.entries]
        again = [put.key for put in batch.puts if put.key.startswith("h/") and put.key in self.entries]
        outcome = super().apply(batch)
        if isinstance(outcome, Conflict):
            return outcome
        if again:
            self.world.violations.append(f"commits of a history were overwritten: {again}")
        for key, value in fresh:
            self._read(key.split("/")[1], value, {check.key for check in batch.checks})
        for key, value in batch.puts:
            if key.startswith("r/"):
                record = self._codec.decode(value)
                if record["epoch"] < self.epochs.get(record["run"], 0):
                    self.world.violations.append(f"the epoch of {record['id']} went back")
                self.epochs[record["run"]] = record["epoch"]
        return outcome

    def _read(self, name: str, raw: bytes, checked: set[str]) -> None:
        cursor = self.cursors.setdefault(name, Cursor())
        if not any(key.startswith("r/") for key in checked):
            self.world.violations.append(f"a commit of {name} was not fenced by its run's record")
        try:
            events = cursor.advance(raw, self._codec)
        except AlkalineError as error:
            self.world.violations.append(f"the digest chain of {name} broke as it was written: {error}")
            return
        self.histories.setdefault(name, []).append(events)
        for _, event in events:
            if isinstance(event, (ev.StepCompleted, ev.StepFailed)):
                run, _, generation = name.partition("-")
                self.world.settled.add(f"{run}.{generation or 0}.{event.id}")


@dataclass(slots=True)
class Scenario:
    """A program and what the world does to it. ``script`` is what an outside driver does: it is begun again after a
    failure or a crash, so each of its acts must be one that may be repeated."""

    name: str
    workflows: list[Workflow]
    script: Callable[[Outside], Awaitable[Any]]
    ordered: bool = True
    """The order of events is fixed: nothing runs in parallel, and nothing comes from outside at an open moment."""
    results: Callable[[Any, Any], bool] = lambda result, faultless: bool(result == faultless)
    """Whether a result will do, given the faultless one."""
    histories: bool = True
    """The events must be those of the faultless run; False where a crash may rightly make other ones."""
    check: Callable[[Trial], None] = lambda trial: None
    """What else must hold at the end."""
    by_chance: tuple[str, ...] = ()
    """Names of steps, to their first dash, whose arguments and results are drawn by chance."""
    options: dict[str, Any] = field(default_factory=dict)


class Outside:
    """What the driver of a scenario does from outside. Every act may be repeated."""

    def __init__(self, trial: Trial, runtime: Runtime) -> None:
        self.trial, self.runtime = trial, runtime

    async def start(self, workflow: str, input: Any = None, id: str = "run", **options: Any) -> Any:
        """The run, started now or before."""
        return await self.runtime.start(workflow, input, id=id, on_conflict="join", **options)

    async def events(self, id: str = "run") -> list[ev.Event]:
        """The events of the run's present history."""
        return [recorded.event for recorded in await self.runtime.history(id)]

    async def until(self, holds: Callable[[ExecutionRecord], bool], id: str = "run") -> None:
        """Wait until the run's record is like that, or the run has ended; wakes timers meanwhile."""
        while True:
            record = await self.runtime.get_execution(id)
            if record.finished or holds(record):
                return
            if id in self.runtime.stuck:
                raise self.runtime.stuck[id]
            if id in self.runtime.active():
                await self.runtime.settle(id)
                continue
            await self.runtime.run_due()
            await self.runtime.host.sleep(1)

    async def until_waiting(self, what: str, id: str = "run") -> None:
        """Wait until the run is suspended on something called like that."""
        await self.until(lambda r: r.status == "suspended" and any(what in one for one in r.waiting), id)

    async def happened(self, kind: type[Any], id: str = "run") -> bool:
        """Whether such an event is recorded."""
        return any(isinstance(event, kind) for event in await self.events(id))

    async def signal(self, name: str, payload: Any = None, *, dedupe: str, id: str = "run") -> None:
        """Send a signal that counts once; that the run has ended by now is no error."""
        with contextlib.suppress(ConflictError):
            await self.runtime.signal(id, name, payload, dedupe=dedupe)

    async def cancel(self, reason: str, id: str = "run") -> None:
        """Cancel, unless that was asked for already."""
        record = await self.runtime.get_execution(id)
        if not record.finished and not await self.happened(ev.CancelRequested, id):
            with contextlib.suppress(ConflictError):
                await self.runtime.cancel(id, reason)

    async def result(self, id: str = "run") -> Any:
        """The result, or what the run ended with in words."""
        run = await self.runtime.resume(id)
        try:
            return await run.result()
        except Exception as error:
            if isinstance(error, StoreError) or not (await self.runtime.get_execution(id)).finished:
                raise
            return f"{type(error).__name__}: {error}"


class Mortal(SimulatedHost):
    """A host that tells when its process dies."""

    on_death: Callable[[], None] = staticmethod(lambda: None)

    def die(self) -> None:
        self.on_death()
        super().die()


class Trial:
    """A scenario in a world of its own, with a hook that decides what befalls each callback of the first process."""

    def __init__(self, make: Callable[[World], Scenario], fault: Callable[[int, str], Any] | None = None) -> None:
        self.world = World()
        self.scenario = make(self.world)
        self.store = Watched(self.world)
        self.fault = fault
        self.calls = 0
        """Callbacks of the first process."""
        self.verbs: list[str] = []
        self.hit = False
        self.second: Callable[[int, str], Any] | None = None
        """What befalls the callbacks of the second process."""
        self.second_hit = False
        self.processes = 0
        self.retried = 0
        """How often the driver began its script again in the same process, after an error of the store."""
        self.result: Any = None
        self.records: list[ExecutionRecord] = []
        self.left: list[str] = []

    def run(self) -> Trial:
        """Until it has finished, by as many processes as it takes."""
        host = Mortal(self.store, fault=self._faulty, capabilities=CAPABILITIES)
        while self.processes < MOST_PROCESSES:
            self.processes += 1
            if asyncio.run(self._process(host)):
                return self
            self.calls = self.calls or host.calls
            host.clock.advance(LEASE * 1000 + 1_000)
            host = Mortal(self.store, fault=self._limited, capabilities=CAPABILITIES)
        raise Violation(f"not finished after {MOST_PROCESSES} processes")

    def _faulty(self, call: int, verb: str) -> Any:
        self.verbs.append(verb)
        kind = self.fault(call, verb) if self.fault is not None else None
        self.hit = self.hit or kind is not None
        return kind or self._limited(call, verb)

    def _limited(self, call: int, verb: str) -> Any:
        if self.processes == 2 and self.second is not None:
            kind = self.second(call, verb)
            self.second_hit = self.second_hit or kind is not None
            return kind
        if call > MOST_CALLS or self.store.clock.now_ms > 1_700_000_000_000 + MOST_VIRTUAL_MS:
            raise Endless(f"{call} callbacks and no end")
        return None

    async def _process(self, host: Mortal) -> bool:
        """The life of one process; False when it was killed."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        death: asyncio.Future[None] = loop.create_future()
        host.on_death = lambda: death.done() or death.set_result(None)  # type: ignore[func-returns-value]
        work = asyncio.ensure_future(self._live(host))
        async with asyncio.timeout(MOST_SECONDS):
            await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
        if host.dead:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return False
        await work
        return True

    async def _live(self, host: SimulatedHost) -> None:
        runtime = Runtime(host, workflows=self.scenario.workflows, lease=LEASE, **self.scenario.options)
        outside = Outside(self, runtime)
        for attempt in range(5):
            try:
                if self.processes > 1 or attempt:
                    await runtime.recover()
                    await runtime.run_due()
                self.result = await self.scenario.script(outside)
                self.calls = self.calls or host.calls
                host.fault = None
                await self._leave(runtime)
                return
            except AlkalineError as error:
                if error.code != "ERR_STORE":
                    raise
                self.retried += 1
                for id in list(runtime.stuck):
                    await _again(runtime, id)
        raise Violation("five errors of the store from one fault")

    async def _leave(self, runtime: Runtime) -> None:
        """Read what is left, then delete every run: a store without runs is empty."""
        await _all_settled(runtime)
        self.records = list((await runtime.list_executions(limit=100)).items)
        for record in self.records:
            await runtime.history(record.id)
        self.left = sorted(key for key in self.store.keys if key.startswith(("i/", "t/")))
        wanted = {key for record in self.records for key in indexes_of(record)}
        held = {key for key in self.store.keys if key.startswith(("x/", "t/"))}
        self.left += [f"index {key}" for key in sorted(wanted ^ held)]
        self.left += [f"{record.id} is {record.status}" for record in self.records if not record.finished]
        if not self.left:
            for record in self.records:
                await runtime.delete(record.id)
            self.left = [f"after delete: {key}" for key in self.store.keys]
        await runtime.close()

    # --- what was recorded -----------------------------------------------------------------------------------------
    def events(self, workflow: str | None = None) -> list[ev.Event]:
        """All events of all histories, or of those of one workflow."""
        return [
            event
            for commits in self.store.histories.values()
            for commit in commits
            for _, event in commit
            if workflow is None or commits[0][0][1].header["workflow"] == workflow  # type: ignore[union-attr]
        ]

    def outline(self) -> dict[str, list[Any]]:
        """Each history without times, random ids and drawn values; sorted where the order is open."""
        lines: dict[str, list[Any]] = {}
        for commits in self.store.histories.values():
            header = commits[0][0][1].header  # type: ignore[union-attr]  # the first event is Started
            place = f"{header['workflow']} {'child' if header['parent'] else header['id']} {header['generation']}"
            events = [_outlined(event, self.scenario.by_chance) for commit in commits for _, event in commit]
            lines.setdefault(place, []).extend(events)
        return {place: events if self.scenario.ordered else sorted(events, key=repr) for place, events in lines.items()}


class Endless(BaseException):
    """The run does not end; nothing may handle it."""


async def _again(runtime: Runtime, id: str) -> None:
    with contextlib.suppress(AlkalineError):
        await runtime.resume(id)


async def _all_settled(runtime: Runtime) -> None:
    """Until no run is being driven: children that are cancelled end after their parent."""
    for _ in range(50):
        await runtime.run_due()
        if not runtime.active():
            return
        await runtime.host.sleep(1)


def _outlined(event: ev.Event, by_chance: tuple[str, ...]) -> tuple[Any, ...]:
    values = event._asdict()
    if values.get("name", "").split("-")[0] in by_chance:
        del values["args"], values["value"]
    for name in ("kind", "entry", "retry_at", "totals", "child"):
        values.pop(name, None)
    if isinstance(event, ev.Drawn):
        values.pop("value")
    if isinstance(event, ev.Started):
        header = dict(event.header)
        values["header"] = (header["workflow"], header["generation"], header["chain"], header["spent"])
    return (type(event).__name__, *[repr(value) for value in values.values()])


__all__ = ["LEASE", "Outside", "Scenario", "SimulatedCrash", "Trial", "Violation", "Watched", "World", "ClosedError"]
