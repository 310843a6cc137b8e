"""The world of one schedule: audited stores, hosts whose callbacks faults befall, and what steps did outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from random import Random
from typing import Any

from alkaline_edge import StepInfo
from alkaline_edge import events as ev
from alkaline_edge.codec import BlobRef, Codec
from alkaline_edge.errors import AlkalineError, ClosedError, StoreError, UnknownOutcome
from alkaline_edge.history import Cursor, Timed, blobs_of, split
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch
from alkaline_edge.retried import counting
from alkaline_edge.runtime.moved import ARRIVING
from alkaline_edge.testing.simulated import SimulatedStore

from .faults import Befalls
from .programs import Node, Program
from .timeline import PROCESS, START_MS, Process, Timeline, later, turn

_SETTLE = (ev.STEP_COMPLETED, ev.STEP_FAILED)


def _key(name: str, event: Any) -> str:
    """The idempotency key of the step that ``event`` of the history called ``name`` settles."""
    run, _, generation = name.partition("-")
    return f"{run}.{generation or 0}.{event[1]}"


class History:
    """What has been committed of one generation of one run, in whichever store."""

    __slots__ = ("commits", "cursor", "large", "raws")

    def __init__(self) -> None:
        self.cursor = Cursor()
        self.raws: list[bytes] = []
        self.commits: list[list[Timed]] = []
        self.large = False
        """Some of its values stand in blobs."""

    @property
    def events(self) -> list[Timed]:
        """All that count, in order."""
        return [timed for commit in counting(self.commits) for timed in commit]


class World:
    """All that outlives processes, and what is wrong with it."""

    def __init__(self, program: Program, capabilities: Capabilities, most_calls: int, most_callbacks: int) -> None:
        self.loop = Timeline(most_callbacks)
        self.program, self.capabilities = program, capabilities
        self._nodes = {node.id: node for node in program.nodes()}
        self.left = most_calls
        self.calls = self.commits = 0
        self.codec = Codec()
        self.histories: dict[str, History] = {}
        self.settled: set[str] = set()
        self.holders: dict[str, Process | None] = {}
        self.epochs: dict[tuple[str, str], int] = {}
        self.zombie: Zombie | None = None
        """The owner that dies with a commit on its way, where there is to be one."""
        self.starts: Counter[str] = Counter()
        self.arguments: dict[str, Any] = {}
        self.violations: list[str] = []
        self.over = False
        self.mended = False
        """Whether what "hitch" steps need is there."""
        self.sharing: Any = None
        """What runs share besides."""
        self.not_before = self.clocks = 0.0
        self.faults: Counter[str] = Counter()
        self.befalls: Befalls | None = None

    def wrong(self, what: str) -> None:
        """Note a violation."""
        if not self.over:
            self.violations.append(what)

    # --- effects -----------------------------------------------------------------------------------------------------
    def node(self, id: int) -> Node | None:
        """The node of that id."""
        return self._nodes.get(id)

    def value(self, id: int, place: int) -> str:
        """What the step of that node returns."""
        node = self._nodes.get(id)
        return f"v{id}.{place}" + "x" * (node.args.get("size", 0) if node is not None else 0)

    def did(self, info: StepInfo, args: Any, once: bool = False) -> None:
        """A step's effect happens."""
        key = info.idempotency_key
        run = key.split(".")[0]
        holder, here = self.holders.get(run), PROCESS.get()
        if (
            info.run_id.split("~")[0] == "run"
            and "~fork-" not in info.run_id
            and self.loop.now < (self.not_before - self.clocks)
        ):
            self.wrong(f"step {info.step} ran at {self.loop.now} s, and the run was to start at {self.not_before} s")
        # One that is owner no more may not know of it; and what fails until it is mended may be tried again.
        if key in self.settled and holder is here and info.step[0] != "h":
            self.wrong(f"a committed step ran again: {info.step} of {info.run_id}")
        topped_up = self.faults["topped up"]
        if info.step[0] == "d" and info.run_id == "run" and self.program.budget is not None and not topped_up:
            self.wrong(f"step {info.step} ran, and no budget pays for it")
        call = f"{key} {info.step}"  # new code may ask for another step in the place of one that was not recorded
        # Where what failed before it was mended, what was in flight beside it follows from another outcome.
        if self.arguments.setdefault(call, args) != args and not self.was_retried(run):
            self.wrong(f"a step ran again with other arguments: {info.step}, {self.arguments[call]} and then {args}")
        self.starts[key] += 1
        if once and self.starts[key] > 1:
            self.wrong(f"a step started twice at most once: {info.step} of {info.run_id}")

    # --- histories ---------------------------------------------------------------------------------------------------
    def committed(self, name: str, position: int, raw: bytes, store: str) -> None:
        """A commit of a history lands in a store. At each position there is one, wherever."""
        history = self.histories.setdefault(name, History())
        known = history.raws
        if position < len(known):
            if known[position] != raw:
                self.wrong(f"a run has two histories: they part at commit {position} of {name} (in store {store})")
            return
        if position > len(known):
            self.wrong(f"a history has a gap: commit {position} of {name}, and {len(known)} are known")
            return
        try:
            events = history.cursor.advance(raw, self.codec)
        except AlkalineError as error:
            self.wrong(f"the digest chain of {name} broke as it was written: {error}")
            return
        known.append(raw)
        history.commits.append(events)
        history.large = history.large or bool(blobs_of([event for _, event in events]))
        self.settled |= {_key(name, event) for _, event in events if event[0] in _SETTLE}
        if any(event[0] == ev.RETRIED for _, event in events):
            self._forget(name, history)

    def _forget(self, name: str, history: History) -> None:
        """What counts no more, such as a clean-up after the failure, may run again, and be given something else."""
        counts = {_key(name, event) for _, event in history.events if event[0] in _SETTLE}
        recorded = {_key(name, event) for commit in history.commits for _, event in commit if event[0] in _SETTLE}
        self.settled -= recorded - counts
        for call in [call for call in self.arguments if call.partition(" ")[0] in recorded - counts]:
            del self.arguments[call]

    def generations(self, run: str) -> list[History]:
        """The histories of all generations of the run with that random id."""
        found: list[History] = []
        while (history := self.histories.get(f"{run}-{len(found)}" if found else run)) is not None:
            found.append(history)
        return found

    def events_of(self, run: str) -> list[Timed]:
        """All events of all generations of the run with that random id."""
        return [timed for history in self.generations(run) for timed in history.events]

    def was_retried(self, run: str) -> bool:
        """Whether the run with that random id has failed, and was tried again."""
        return any(event[0] == ev.RETRIED for _, event in self.events_of(run))

    def went_on(self, record: Any) -> bool:
        """Whether some store has more of the run than the one that ``record`` is of."""
        generations = self.generations(record.run)
        if record.generation < len(generations) - 1:
            return True
        return bool(generations) and record.cursor_length < len(generations[-1].raws)


class AuditedStore(SimulatedStore):
    """A store whose every write is read by the world."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self.world, self.name = world, name
        self.there: set[str] = set()
        """Ids of all runs here."""
        self.ended: set[str] = set()
        """Those that have ended."""
        self.batches: list[Batch] | None = None
        """What was applied, in order, where that is kept."""
        self.recorded: set[str] = set()
        """Random ids of all runs that had a record here: of a fork or a copy that was cut off before, nobody knows."""
        self.deleted: set[str] = set()
        """Random ids of the runs that were deleted here."""
        self.left = False
        """Everything has gone on to another store: what still lands here counts for nothing."""
        self.watchers: list[tuple[Process, Callable[[], Any]]] = []

    def write(self, batch: Batch, process: Process | None) -> Committed | Conflict:
        """As ``apply``, by a process."""
        before = {put.key: self.entries.get(put.key) for put in batch.puts if put.key[0] in "rhs"}
        gone = [self.entries[key] for key in batch.deletes if key[0] == "r" and key in self.entries]
        outcome = self.apply(batch)
        if isinstance(outcome, Conflict) or self.left:
            return outcome
        if self.batches is not None:
            self.batches.append(batch)
        self.world.commits += 1
        for key, value in batch.puts:
            if key[0] == "h" and key[1] == "/":
                old = before.get(key)
                if old is not None and old.value != value:
                    self.world.wrong(f"a commit was overwritten: {key} in store {self.name}")
                _, name, place = key.split("/")
                self.world.committed(name, int(place[1:]), value, self.name)
            elif key[0] == "s" and key[1] == "/":
                _, name, place = key.split("/")
                for n, raw in enumerate(split(value)):
                    self.world.committed(name, int(place[1:]) + n, raw, self.name)
            elif key[0] == "r":
                self._record(value, process)
            if self.deleted and key[0] in "hsbdl" and key.split("/")[1].partition("-")[0] in self.deleted:
                self.world.wrong(f"something of a run that was deleted was written: {key} in store {self.name}")
        for entry in gone:
            self._gone(entry)
        return outcome

    def _gone(self, entry: Entry) -> None:
        id = entry.key[2:]
        self.ended.discard(id)
        self.there.discard(id)
        self.world.epochs = {at: n for at, n in self.world.epochs.items() if at[0] != self.name}
        self.deleted.add(self.world.codec.decode(entry.value)["run"])
        if self.world.zombie is not None:
            self.world.zombie.is_gone(id)

    def _record(self, value: bytes, process: Process | None) -> None:
        record = self.world.codec.decode(value)
        run, epoch, world = record["run"], record["epoch"], self.world
        self.there.add(record["id"])
        if record["status"] in ("completed", "failed", "cancelled"):
            self.ended.add(record["id"])
        else:
            self.ended.discard(record["id"])
        self.recorded.add(run)
        if run in self.deleted and record["moved_to"] != ARRIVING:  # what begins an arrival may have been on its way
            world.wrong(f"run {record['id']} came back to store {self.name} after it was deleted")
        known = world.epochs.get((self.name, run), 0)
        if epoch < known:
            world.wrong(f"the epoch of {record['id']} went back in store {self.name}: {known} to {epoch}")
        if record["owner"] is not None and (epoch > known or run not in world.holders):
            world.holders[run] = process
        world.epochs[(self.name, run)] = epoch

    def tell(self, world: World, by: Process | None, random: Random, misses: bool) -> None:
        """Tell watchers of a commit, in a moment."""
        for process, callback in self.watchers:
            if process is by or process.dead or (misses and random.random() < 0.3):
                continue
            later(world.loop, 0.001, lambda process=process, callback=callback: process.call_soon(callback))  # type: ignore[misc]


class SimHost:
    """One process's handle on a store. Faults are the world's to draw."""

    def __init__(self, world: World, process: Process, store: AuditedStore, seed: str) -> None:
        self.world, self.process, self.store = world, process, store
        self.capabilities = world.capabilities
        self._random = Random(seed)
        self._closed = False

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        wanted = list(keys)
        late = None if self._undisturbed() else await self._begin("get", wanted)
        find = self.store.entries.get
        found = [find(key) for key in wanted]
        if late is not None:
            await self._late(late)
        return found

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        late = None if self._undisturbed() else await self._begin("list", prefix)
        found = self.store.under(prefix, after, limit)
        if late is not None:
            await self._late(late)
        return found

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit."""
        check_batch(batch, self.capabilities)
        kind = None if self._undisturbed() else await self._begin("commit", batch)
        process, world = self.process, self.world
        if world.zombie is not None:
            if kind == "late" and world.zombie.begins(batch):
                raise UnknownOutcome("simulated: the answer was lost")
            if world.zombie.sends(self, batch):
                process.kill()
                await _never(world)
        if kind == "late":
            later(world.loop, self._random.choice((0.01, 0.5, 5.0, 60.0)), lambda: self._apply(batch))
            raise UnknownOutcome("simulated: the answer was lost")
        outcome = self._apply(batch)
        if isinstance(kind, float):
            await self._late(kind)
            return outcome
        if kind == "crash-after":
            process.kill()
            await _never(world)
        if kind == "applied-then-error":
            raise UnknownOutcome("simulated: the answer was lost")
        if kind == "applied-then-conflict" and isinstance(outcome, Committed):
            return Conflict(tuple(check.key for check in batch.checks) or tuple(put.key for put in batch.puts))
        return outcome

    def commit_now(self, batch: Batch) -> Committed | Conflict | None:
        """As ``commit``, without a wait. A process that is killed in it gets no further than to its next callback."""
        check_batch(batch, self.capabilities)
        if self._closed:
            raise ClosedError("this host is closed; make another one")
        world, process = self.world, self.process
        world.calls += 1
        if world.calls > world.left:
            return None
        kind = world.befalls(process, "commit", batch) if world.befalls is not None else None
        if isinstance(kind, float):
            return None
        if kind is not None:
            world.faults[kind] += 1
        if kind == "crash":
            process.kill()
            return None
        if kind in ("rejected", "quota"):
            raise StoreError("simulated: the store refused")
        if kind in ("error-before", "late"):
            raise UnknownOutcome("simulated: the answer was lost")
        if world.zombie is not None and world.zombie.sends(self, batch):
            process.kill()
            return None
        outcome = self._apply(batch)
        if kind == "crash-after":
            process.kill()
            return None
        if kind == "applied-then-error":
            raise UnknownOutcome("simulated: the answer was lost")
        if kind == "applied-then-conflict" and isinstance(outcome, Committed):
            return Conflict(tuple(check.key for check in batch.checks))
        return outcome

    def _apply(self, batch: Batch) -> Committed | Conflict:
        outcome = self.store.write(batch, self.process)
        if self.store.watchers and isinstance(outcome, Committed):
            self.store.tell(self.world, self.process, self._random, getattr(self, "watch_may_miss", False))
        return outcome

    async def _late(self, seconds: float) -> None:
        """The answer is on its way for so long: what it says was true when it was given."""
        self.world.faults["stale"] += 1
        sleeper = self.world.loop.create_future()
        self.world.loop.call_later(seconds, _wake, sleeper)
        await sleeper

    def _undisturbed(self) -> bool:
        """Whether a callback is at its work at once: no fault can befall it, and nobody has a turn before it."""
        world, process = self.world, self.process
        befalls, loop = world.befalls, process.loop
        if self._closed or loop.queue or process.stopped or world.calls >= world.left:
            return False
        if befalls is not None and loop.now < befalls.until:
            return False
        world.calls += 1
        return True

    async def _begin(self, verb: str, what: Any) -> str | float | None:
        """What befalls the callback behind its work: a kind of fault, or the seconds that its answer takes."""
        if self._closed:
            raise ClosedError("this host is closed; make another one")
        world = self.world
        world.calls += 1
        if world.calls > world.left:
            world.loop.stop_as_endless(f"{world.calls} callbacks of hosts and no end")
            await _never(world)
        if world.loop.queue or self.process.stopped:  # a process that blocks does not reach its store meanwhile
            await turn()
        kind = world.befalls(self.process, verb, what) if world.befalls is not None else None
        if kind is None:
            return None
        if isinstance(kind, float):
            if kind < 0:
                return -kind
            sleeper = world.loop.create_future()
            world.loop.call_later(kind, _wake, sleeper)
            await sleeper
            return None
        world.faults[kind] += 1
        if kind == "crash":
            self.process.kill()
            await _never(world)
        if kind in ("rejected", "quota"):
            raise StoreError("simulated: the store refused")
        if kind == "error-before" or (verb != "commit" and kind != "crash-after"):
            raise UnknownOutcome("simulated: the answer was lost")
        if kind == "crash-after" and verb != "commit":
            self.process.kill()
            await _never(world)
        return str(kind)

    async def close(self) -> None:
        """As Host.close."""
        self._closed = True

    def now_ms(self) -> int:
        """The clock of the process."""
        process = self.process
        now, frozen = process.loop.now, process.frozen_until
        return START_MS + int((now if now > frozen else frozen) * 1000) + process.skew_ms

    def entropy(self, n: int) -> bytes:
        """Bytes of a stream of the process's own."""
        return self._random.randbytes(n)

    async def sleep(self, seconds: float) -> None:
        """Virtual seconds."""
        loop = self.world.loop
        sleeper = loop.create_future()
        loop.call_later(max(0.0, min(seconds, 1e7)), _wake, sleeper)
        await sleeper

    async def run_in_thread(self, fn: Callable[..., Any], *args: Any) -> Any:
        """A thread: the process goes on meanwhile."""
        await self.sleep(self._random.choice((0.0, 0.01, 2.0)))
        self.process.in_thread = True
        try:
            return fn(*args)
        finally:
            self.process.in_thread = False


class Zombie:
    """An owner of the run ``id`` that dies with a commit on its way, which lands once the run was deleted.

    ``commits``: how many of its commits get through before. ``seconds``: how long after the delete the last one lands:
    by then another run may have the id.
    """

    def __init__(self, id: str, commits: int, seconds: float) -> None:
        self.id, self.left, self.seconds = id, commits, seconds
        self.sent: tuple[SimHost, Batch] | None = None

    def begins(self, batch: Batch) -> bool:
        """Whether the batch makes the run. One that lands late would begin it anew: nothing is left that says no."""
        return (f"r/{self.id}", None) in batch.checks

    def sends(self, host: SimHost, batch: Batch) -> bool:
        """Whether it dies now, with ``batch`` on its way."""
        if self.sent is not None or not any(put.key[:2] == "h/" for put in batch.puts):
            return False
        if not any(key == f"r/{self.id}" and version is not None for key, version in batch.checks):
            return False
        self.left -= 1
        if self.left >= 0:
            return False
        self.sent = host, batch
        host.world.faults["crash-late"] += 1
        return True

    def is_gone(self, id: str) -> None:
        """A run was deleted."""
        if id == self.id and self.sent is not None:
            host, batch = self.sent
            later(host.world.loop, self.seconds, lambda: self._lands(host, batch))

    def _lands(self, host: SimHost, batch: Batch) -> None:
        if not host.store.left:
            host.world.faults["landed"] += 1
            if isinstance(host.store.write(batch, host.process), Committed):
                host.world.wrong(f"a commit for {self.id}, which was deleted, landed: {batch}")


class WatchingHost(SimHost):
    """A host that tells of what others commit."""

    watch_may_miss = False

    def watch(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """As the hosts that have it."""
        watcher = (self.process, callback)
        self.store.watchers.append(watcher)
        return lambda: self.store.watchers.remove(watcher) if watcher in self.store.watchers else None


class MissingHost(WatchingHost):
    """A host whose notices may get lost."""

    watch_may_miss = True


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)


async def _never(world: World) -> None:
    future = world.loop.create_future()
    process = PROCESS.get()
    if process is not None:
        process.kept.append(future)
    await future


def seed_of(*parts: Any) -> str:
    """A seed for one stream of chance."""
    return sha256(repr(parts).encode()).hexdigest()


__all__ = ["AuditedStore", "BlobRef", "MissingHost", "SimHost", "WatchingHost", "World", "Zombie", "seed_of"]
