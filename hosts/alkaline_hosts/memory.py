"""Memory: for tests, and for runs that need not outlive their process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable

from alkaline_edge.errors import ClosedError
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch


class MemoryStore:
    """What several MemoryHosts can share: sorted keys and their entries."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.owners: set[str] = set()

    def apply(self, batch: Batch) -> Committed | Conflict:
        """All of ``batch``, or nothing."""
        failed = tuple(key for key, version in batch.checks if self._version(key) != version)
        if failed:
            return Conflict(failed)
        for key, value in batch.puts:
            if key not in self.entries:
                if not self.keys or key > self.keys[-1]:
                    self.keys.append(key)
                else:
                    insort(self.keys, key)
            self.entries[key] = Entry(key, bytes(value), batch.id)
        for key in batch.deletes:
            if self.entries.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        return Committed(batch.id)

    def _version(self, key: str) -> str | None:
        entry = self.entries.get(key)
        return None if entry is None else entry.version

    def under(self, prefix: str, after: str, limit: int) -> list[Entry]:
        """Entries under ``prefix`` behind ``after``, at most ``limit``."""
        start = bisect_left(self.keys, prefix) if after < prefix else bisect_right(self.keys, after)
        found = self.keys[start : start + limit]
        if found and not found[-1].startswith(prefix):  # keys are ASCII: what begins with it stands before this
            del found[bisect_left(found, f"{prefix}\x7f") :]
        return [self.entries[key] for key in found]


class MemoryHost:
    """Keeps everything in a dict; gone with the process.

    Hosts given the same ``store`` see the same keys. ``now_ms`` and ``entropy`` replace the clock and the entropy.
    """

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        now_ms: Callable[[], int] | None = None,
        entropy: Callable[[int], bytes] | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.capabilities = Capabilities("memory", durability="volatile", threads=sys.platform != "emscripten")
        self._now_ms, self._entropy = now_ms, entropy or os.urandom
        self._closed = False
        self._held: set[str] = set()

    async def get(self, keys: Iterable[str]) -> list[Entry | None]:
        """As Host.get."""
        self._open()
        return [self.store.entries.get(key) for key in keys]

    async def list(self, prefix: str, after: str = "", limit: int = 500) -> list[Entry]:
        """As Host.list."""
        self._open()
        return self.store.under(prefix, after, limit)

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit."""
        self._open()
        check_batch(batch, self.capabilities)
        return self.store.apply(batch)

    async def close(self) -> None:
        """As Host.close. The store stays for other hosts that share it."""
        self._closed = True
        self.store.owners -= self._held

    async def hold(self, owner: str) -> Callable[[], None] | None:
        """As KnowsOwners: until this host is closed."""
        self._open()
        self._held.add(owner)
        self.store.owners.add(owner)

        def let_go() -> None:
            self._held.discard(owner)
            self.store.owners.discard(owner)

        return let_go

    async def alive(self, owner: str) -> bool:
        """As KnowsOwners: a host that was closed advances nothing."""
        self._open()
        return owner in self.store.owners

    def now_ms(self) -> int:
        """The system's clock."""
        return time.time_ns() // 1_000_000 if self._now_ms is None else self._now_ms()

    def entropy(self, n: int) -> bytes:
        """The system's entropy."""
        return self._entropy(n)

    async def sleep(self, seconds: float) -> None:
        """Real seconds."""
        await asyncio.sleep(seconds)

    async def run_in_thread(self, fn: Callable[..., object], *args: object) -> object:
        """For sync steps."""
        return await asyncio.to_thread(fn, *args)

    def _open(self) -> None:
        if self._closed:
            raise ClosedError("this host is closed; make another one")
