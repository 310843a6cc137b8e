"""A simulated host: a store in memory, a clock that tests move, and a fault at any callback.

Time is virtual (see ``clock.VirtualClock``): a workflow that sleeps for a month ends at once. Entropy comes from a
seed, so the same program makes the same history.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from ..arguments import expect
from ..errors import ClosedError, StoreError, UnknownOutcome
from ..host import Batch, Capabilities, Committed, Conflict, Entry
from ..limits import check_batch
from .clock import VirtualClock, turn

FaultKind = Literal["crash", "crash-after", "applied-then-error", "error-before", "rejected", "applied-then-conflict"]
FAULTS: tuple[FaultKind, ...] = ("crash", "crash-after", "applied-then-error", "error-before", "rejected")
"""The faults that any callback can have."""
COMMIT_FAULTS: tuple[FaultKind, ...] = (*FAULTS, "applied-then-conflict")
"""The faults that a commit can have."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The callback takes ``ms`` of virtual time before it does its work; others go on meanwhile."""

    ms: float


Fault = FaultKind | Delay | None
Hook = Callable[[int, str, tuple[Any, ...]], Fault]
"""Asked at every storage callback: its number from 1, its verb, its arguments."""


class SimulatedCrash(BaseException):
    """The process died. Not an Exception: nothing may handle it."""


@dataclass(slots=True)
class SimulatedStore:
    """What survives a crash: the entries, the clock, and how much entropy was drawn.

    ``keys`` are those of ``entries``, sorted; ``watchers`` the handles that want to hear of commits, and how.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    clock: VirtualClock = field(default_factory=VirtualClock)
    drawn: int = 0
    watchers: list[tuple[SimulatedHost, Callable[[], Any]]] = field(default_factory=list)

    def notify(self, writer: SimulatedHost) -> None:
        """Tell every handle but the one that wrote, which are other processes."""
        for host, callback in list(self.watchers):
            if host is not writer and not host.dead:
                callback()

    def apply(self, batch: Batch) -> Committed | Conflict:
        """All of the batch, or nothing."""
        failed = tuple(key for key, version in batch.checks if self.version(key) != version)
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

    def version(self, key: str) -> str | None:
        """The version of ``key``, None where absent."""
        entry = self.entries.get(key)
        return None if entry is None else entry.version

    def under(self, prefix: str, after: str, limit: int) -> list[Entry]:
        """As Host.list."""
        start = bisect_left(self.keys, prefix) if after < prefix else bisect_right(self.keys, after)
        found: list[Entry] = []
        for key in self.keys[start : start + max(0, limit)]:
            if not key.startswith(prefix):
                break
            found.append(self.entries[key])
        return found


class SimulatedHost:
    """A host for tests: one handle, which stands for one process. ``reopen`` is the next process on the same store.

    ``on_call(number, verb, arguments)``, which may be set at any time, says what befalls a storage callback. Its
    answers, besides None:

    - ``crash``: nothing is applied, and the process is dead: this and every later call raises SimulatedCrash;
    - ``crash-after``: applied, then dead;
    - ``applied-then-error``: applied, and the answer is lost (UnknownOutcome);
    - ``error-before``: not applied, and the answer is lost (UnknownOutcome);
    - ``rejected``: refused with StoreError, nothing applied;
    - ``applied-then-conflict``: applied, and answered as a conflict, as a client that retries by itself does;
    - ``Delay(ms)``: later in virtual time.

    For ``get`` and ``list``, every kind but the crashes and Delay means that the call fails. ``fault(number, verb)``
    is a shorter form of the hook. ``seed`` fixes the entropy; ``clock`` is shared with other stores. ``capabilities``:
    what it says of itself, and the limits that it holds to.
    """

    def __init__(
        self,
        store: SimulatedStore | None = None,
        *,
        clock: VirtualClock | None = None,
        seed: int = 0,
        fault: Callable[[int, str], Fault] | None = None,
        on_call: Hook | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        expect(store, (SimulatedStore, type(None)), "SimulatedHost(store=)", "a SimulatedStore")
        self.store = store or SimulatedStore(clock=clock or VirtualClock())
        self.clock = clock or self.store.clock
        self.capabilities = capabilities or Capabilities("simulated", durability="volatile", segment_commits=8)
        self.seed, self.fault, self.on_call = seed, fault, on_call
        self.calls = 0
        self.counts = {"get": 0, "list": 0, "commit": 0}
        self.batches: list[Batch] = []
        """Every batch that reached the store, in order, those that ended in a conflict included."""
        self.dead = False
        self._closed = False
        self._online = True
        self._when_online: list[Callable[[], None]] = []

    @property
    def online(self) -> bool:
        """Whether there is a network, which a test says: steps wait for one whose Retry asks for it."""
        return self._online

    @online.setter
    def online(self, there_is: bool) -> None:
        self._online = there_is
        for callback in list(self._when_online) if there_is else ():
            callback()

    def is_online(self) -> bool:
        """As KnowsNetwork.is_online."""
        return self._online

    def when_online(self, callback: Callable[[], None]) -> Callable[[], None]:
        """As KnowsNetwork.when_online."""
        self._when_online.append(callback)
        return lambda: self._when_online.remove(callback)

    def reopen(self, fault: Callable[[int, str], Fault] | None = None, on_call: Hook | None = None) -> SimulatedHost:
        """The host of the next process: same store, same clock, entropy that goes on, counters at 0."""
        return SimulatedHost(
            self.store,
            clock=self.clock,
            seed=self.seed,
            fault=fault,
            on_call=on_call,
            capabilities=self.capabilities,
        )

    def commit_now(self, batch: Batch) -> Committed | Conflict | None:
        """As ``commit``, without a turn, where ``capabilities`` say that the host is synchronous.

        None where ``Delay`` befalls it.
        """
        self._alive()
        check_batch(batch, self.capabilities)
        self.calls += 1
        self.counts["commit"] += 1
        kind = self.on_call(self.calls, "commit", (batch,)) if self.on_call is not None else None
        if kind is None and self.fault is not None:
            kind = self.fault(self.calls, "commit")
        if kind == "crash":
            self.die()
        return None if isinstance(kind, Delay) else self._apply(batch, kind)

    # --- the contract ------------------------------------------------------------------------------------------------
    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        wanted = list(keys)
        kind = await self._begin("get", wanted)
        self._fail(kind)
        return [self.store.entries.get(key) for key in wanted]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        kind = await self._begin("list", prefix, after, limit)
        self._fail(kind)
        return self.store.under(prefix, after, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit."""
        self._alive()
        check_batch(batch, self.capabilities)
        return self._apply(batch, await self._begin("commit", batch))

    def _apply(self, batch: Batch, kind: FaultKind | None) -> Committed | Conflict:
        if kind in ("error-before", "rejected"):
            self._fail(kind)
        self.batches.append(batch)
        outcome = self.store.apply(batch)
        if isinstance(outcome, Committed) and (batch.puts or batch.deletes):
            self.store.notify(self)
        self._fail(kind)
        if kind == "applied-then-conflict" and isinstance(outcome, Committed):
            return Conflict(tuple(check.key for check in batch.checks) or tuple(put.key for put in batch.puts))
        return outcome

    async def close(self) -> None:
        """As Host.close."""
        self._closed = True

    def now_ms(self) -> int:
        """Virtual time."""
        return self.clock.now_ms

    def entropy(self, n: int) -> bytes:
        """Bytes of a stream that the seed fixes, and that goes on over crashes."""
        out = b""
        while len(out) < n:
            self.store.drawn += 1
            out += sha256(f"{self.seed}:{self.store.drawn}".encode()).digest()
        return out[:n]

    async def sleep(self, seconds: float) -> None:
        """Virtual seconds: returns when the clock gets there, which it does by itself once all else is idle."""
        await self.clock.sleep(seconds, self._check_dead)

    def watch(self, callback: Callable[[], Any]) -> Callable[[], None]:
        """Call ``callback`` whenever another handle on the store has committed, at once."""
        watcher = (self, callback)
        self.store.watchers.append(watcher)

        def unsubscribe() -> None:
            if watcher in self.store.watchers:
                self.store.watchers.remove(watcher)

        return unsubscribe

    # --- what tests do -----------------------------------------------------------------------------------------------
    def advance(self, seconds: float) -> None:
        """Move time on, or back with a negative number; sleepers whose time has come wake up."""
        self.clock.advance(seconds * 1000)

    def die(self) -> None:
        """Be dead from here on."""
        self.dead = True
        raise SimulatedCrash

    def _check_dead(self) -> None:
        if self.dead:
            raise SimulatedCrash

    def _alive(self) -> None:
        self._check_dead()
        if self._closed:
            raise ClosedError("this host is closed; make another one")

    async def _begin(self, verb: str, *arguments: Any) -> FaultKind | None:
        self._alive()
        self.calls += 1
        self.counts[verb] += 1
        self.clock.touch()
        kind = self.on_call(self.calls, verb, arguments) if self.on_call is not None else None
        if kind is None and self.fault is not None:
            kind = self.fault(self.calls, verb)
        if kind == "crash":
            self.die()
        if isinstance(kind, Delay):
            await self.clock.sleep(kind.ms / 1000, self._check_dead)
            return None
        # A store answers after a turn, so that callers interleave; and a process may have died meanwhile.
        await turn()
        self._check_dead()
        return kind

    def _fail(self, kind: FaultKind | None) -> None:
        if kind == "crash-after":
            self.die()
        if kind in ("applied-then-error", "error-before"):
            raise UnknownOutcome("simulated: the answer was lost")
        if kind == "rejected":
            raise StoreError("simulated: the store refused")


def fault_at(call: int, kind: Fault) -> Callable[[int, str], Fault]:
    """A fault at one callback, by its number."""
    return lambda n, verb: kind if n == call else None


def crash_at(call: int) -> Callable[[int, str], Fault]:
    """The process dies at that callback, before anything is applied."""
    return fault_at(call, "crash")


def applied_then_error_at(call: int) -> Callable[[int, str], Fault]:
    """The answer to that callback is lost after it was applied."""
    return fault_at(call, "applied-then-error")
