"""A simulated host: a store in memory, a clock that tests move, and a fault at any callback.

Time is virtual. Whoever sleeps is woken when the clock gets there, and the clock jumps to the next sleeper by itself
once nothing else makes progress: a workflow that sleeps for a month ends at once. Entropy comes from a seed, so the
same program makes the same history.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from types import coroutine
from typing import Any, Literal

from ..errors import ClosedError, StoreError, UnknownOutcome
from ..host import Batch, Capabilities, Committed, Conflict, Entry
from ..limits import check_batch

FaultKind = Literal["crash", "crash-after", "applied-then-error", "error-before", "rejected"]
FAULTS: tuple[FaultKind, ...] = ("crash", "crash-after", "applied-then-error", "error-before", "rejected")
START_MS = 1_700_000_000_000
IDLE_TURNS = 12
"""Turns of the host's loop without any progress after which time jumps."""


class SimulatedCrash(BaseException):
    """The process died. Not an Exception: nothing may handle it."""


@dataclass(slots=True)
class SimulatedStore:
    """What survives a crash: the entries, and the clock."""

    entries: dict[str, Entry] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    now_ms: int = START_MS
    progress: int = 0
    sleepers: list[float] = field(default_factory=list)
    drawn: int = 0

    def apply(self, batch: Batch) -> Committed | Conflict:
        """All of the batch, or nothing."""
        failed = tuple(
            key
            for key, version in batch.checks
            if (self.entries[key].version if key in self.entries else None) != version
        )
        if failed:
            return Conflict(failed)
        for key, value in batch.puts:
            if key not in self.entries:
                insort(self.keys, key)
            self.entries[key] = Entry(key, bytes(value), batch.id)
        for key in batch.deletes:
            if self.entries.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        return Committed(batch.id)


@coroutine
def _turn() -> Generator[None, None, None]:
    """One turn of whatever event loop runs this."""
    yield


class SimulatedHost:
    """A host for tests. ``fault(call, verb)`` is asked at every storage callback, numbered from 1, what to do to it.

    Answers: None, or one of FAULTS. ``crash``: nothing is applied and the process is dead, also for all later calls;
    ``crash-after``: applied, then dead; ``applied-then-error``: applied, and the answer lost; ``error-before``: not
    applied, and the answer lost; ``rejected``: refused, nothing applied. For get and list the last three all mean that
    the call fails. ``reopen`` is the next process on the same store.
    """

    def __init__(
        self,
        store: SimulatedStore | None = None,
        *,
        seed: int = 0,
        fault: Callable[[int, str], FaultKind | None] | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.store = store or SimulatedStore()
        self.capabilities = capabilities or Capabilities("simulated", durability="volatile", segment_commits=8)
        self.seed, self.fault = seed, fault
        self.calls = 0
        self.counts = {"get": 0, "list": 0, "commit": 0}
        self.batches: list[Batch] = []
        self.dead = False
        self._closed = False

    def reopen(self, fault: Callable[[int, str], FaultKind | None] | None = None) -> SimulatedHost:
        """The host of the next process."""
        return SimulatedHost(self.store, seed=self.seed, fault=fault, capabilities=self.capabilities)

    def _call(self, verb: str) -> FaultKind | None:
        if self.dead:
            raise SimulatedCrash
        if self._closed:
            raise ClosedError("this host is closed; make another one")
        self.calls += 1
        self.counts[verb] += 1
        self.store.progress += 1
        kind = self.fault(self.calls, verb) if self.fault is not None else None
        if kind == "crash":
            self.die()
        return kind

    def die(self) -> None:
        """Be dead from here on."""
        self.dead = True
        raise SimulatedCrash

    def _fail(self, kind: FaultKind | None) -> None:
        if kind == "crash-after":
            self.die()
        if kind in ("applied-then-error", "error-before"):
            raise UnknownOutcome("simulated: the answer was lost")
        if kind == "rejected":
            raise StoreError("simulated: the store refused")

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        kind = self._call("get")
        self._fail(kind)
        await _turn()
        return [self.store.entries.get(key) for key in keys]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        kind = self._call("list")
        self._fail(kind)
        await _turn()
        keys = self.store.keys
        start = bisect_left(keys, max(prefix, after))
        found: list[Entry] = []
        for key in keys[start:]:
            if not key.startswith(prefix) or len(found) == limit:
                break
            if key > after:
                found.append(self.store.entries[key])
        return found

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit."""
        kind = self._call("commit")
        check_batch(batch, self.capabilities)
        if kind in ("error-before", "rejected"):
            self._fail(kind)
        await _turn()
        if self.dead:
            raise SimulatedCrash
        self.batches.append(batch)
        outcome = self.store.apply(batch)
        self._fail(kind)
        return outcome

    async def close(self) -> None:
        """As Host.close."""
        self._closed = True

    def now_ms(self) -> int:
        """Virtual time."""
        return self.store.now_ms

    def advance(self, seconds: float) -> None:
        """Move time on, or back with a negative number; sleepers whose time has come wake up."""
        self.store.now_ms += round(seconds * 1000)
        self.store.progress += 1

    def entropy(self, n: int) -> bytes:
        """Bytes of a stream that the seed fixes, and that goes on over crashes."""
        out = b""
        while len(out) < n:
            self.store.drawn += 1
            out += sha256(f"{self.seed}:{self.store.drawn}".encode()).digest()
        return out[:n]

    async def sleep(self, seconds: float) -> None:
        """Virtual seconds: returns when the clock gets there, which it does by itself once all else is idle."""
        store = self.store
        until = store.now_ms + max(0.0, seconds) * 1000
        insort(store.sleepers, until)
        try:
            idle, seen = 0, store.progress
            while store.now_ms < until:
                await _turn()
                if self.dead:
                    raise SimulatedCrash
                if store.progress != seen:
                    idle, seen = 0, store.progress
                else:
                    idle += 1
                if idle > IDLE_TURNS and store.sleepers[0] >= until:
                    store.now_ms = max(store.now_ms, -int(-until // 1))
                    store.progress += 1
            await _turn()
        finally:
            store.sleepers.remove(until)

    def watch(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Nobody else writes without a test's doing: there is nothing to tell, and nothing to poll for."""
        return lambda: None


def fault_at(call: int, kind: FaultKind) -> Callable[[int, str], FaultKind | None]:
    """A fault at one callback, by its number."""
    return lambda n, verb: kind if n == call else None
