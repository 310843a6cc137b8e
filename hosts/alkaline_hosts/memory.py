"""Memory: for tests, and for runs that need not outlive their process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from alkaline_edge.arguments import expect, expect_call
from alkaline_edge.host import Batch, Capabilities, Committed, Conflict, Entry
from alkaline_edge.limits import check_batch

from ._ranges import SortedKeys
from ._system import Threaded

__all__ = ["MemoryHost", "MemoryStore"]


class MemoryStore:
    """What several MemoryHosts can share: sorted keys and their entries."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys = SortedKeys()
        self.owners: set[str] = set()

    def apply(self, batch: Batch) -> Committed | Conflict:
        """All of ``batch``, or nothing."""
        id, checks, puts, deletes = batch
        entries, keys, new = self.entries, self.keys, tuple.__new__
        for key, version in checks:
            if self._version(key) != version:
                return Conflict(tuple(key for key, version in checks if self._version(key) != version))
        for key, value in puts:
            if key not in entries:
                keys.add(key)
            entries[key] = new(Entry, (key, bytes(value), id))
        for key in deletes:
            if entries.pop(key, None) is not None:
                keys.remove(key)
        return Committed(id)

    def _version(self, key: str) -> str | None:
        entry = self.entries.get(key)
        return None if entry is None else entry.version

    def under(self, prefix: str, after: str, limit: int) -> list[Entry]:
        """Entries under ``prefix`` behind ``after``, at most ``limit``."""
        return [self.entries[key] for key in self.keys.under(prefix, after, limit)]


class MemoryHost(Threaded):
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
        expect(store, (MemoryStore, type(None)), "MemoryHost(store=)", "a MemoryStore")
        expect_call(now_ms, "MemoryHost(now_ms=)", "a function that gives milliseconds")
        expect_call(entropy, "MemoryHost(entropy=)", "a function of a number of bytes")
        self.store = store or MemoryStore()
        threads = sys.platform != "emscripten"
        self.capabilities = Capabilities("memory", durability="volatile", threads=threads, synchronous=True)
        self._now_ms, self._entropy = now_ms or super().now_ms, entropy or super().entropy
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
        return self.commit_now(batch)

    def commit_now(self, batch: Batch) -> Committed | Conflict:
        """As Host.commit, which waits for nothing here."""
        self._open()
        check_batch(batch, self.capabilities)
        return self.store.apply(batch)

    async def close(self) -> None:
        """As Host.close. The store stays for other hosts that share it."""
        await super().close()
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
        """The clock that was given, otherwise the system's."""
        return self._now_ms()

    def entropy(self, n: int) -> bytes:
        """The entropy that was given, otherwise the system's."""
        return self._entropy(n)
