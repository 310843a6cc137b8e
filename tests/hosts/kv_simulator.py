"""Cloudflare KV as it really is, which the local emulator is not: seen from several places, late, in virtual time.

One ``SimulatedKV`` is the namespace; ``at(place)`` is how one data centre sees it, as a Namespace of ``KVHost``.

- A write is seen at once where it was made, and elsewhere after ``lag`` seconds. List lags by ``list_lag``, also where
  the write was made if ``list_lag_here`` is set.
- What a get saw is remembered in that place for ``ttl`` seconds, and so is that there was nothing.
- One write per second and key; more is an error, as from the platform. Keys, values and pages have their limits.
- ``fault(operation, number)`` names what goes wrong with the number-th put, get, list or delete: "lost" (nothing
  happened) or "answer lost" (it happened), both of which raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["lost", "answer lost"]
MAX_KEY, MAX_VALUE, PAGE = 512, 25 * 1024 * 1024, 1000


class KVError(Exception):
    """What the platform raises."""


@dataclass
class _Write:
    when: float
    place: str
    value: bytes | None  # None: a delete


@dataclass
class SimulatedKV:
    """The namespace, its clock in ``now`` (seconds), and its faults."""

    lag: float = 60.0
    list_lag: float = 60.0
    list_lag_here: float = 0.0
    ttl: float = 60.0
    page: int = PAGE
    fault: Callable[[str, int], Fault | None] = lambda operation, number: None
    now: float = 1_000_000.0
    writes: dict[str, list[_Write]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unlisted_reads: list[str] = field(default_factory=list)

    def at(self, place: str) -> Place:
        """The namespace as seen from ``place``, with a cache of its own."""
        return Place(self, place)

    def truth(self) -> dict[str, bytes]:
        """What will be there once everything is seen everywhere."""
        last = {key: history[-1].value for key, history in self.writes.items()}
        return {key: value for key, value in last.items() if value is not None}

    def seen(self, key: str, place: str, lag: float, lag_here: float) -> bytes | None:
        """The newest value of ``key`` that has come to ``place``."""
        found = None
        for write in self.writes.get(key, []):
            if self.now - write.when >= (lag_here if write.place == place else lag):
                found = write.value
        return found

    def begin(self, operation: str) -> Fault | None:
        """Count an operation; what goes wrong with it. A lost one raises here."""
        self.counts[operation] += 1
        fault = self.fault(operation, self.counts[operation])
        if fault == "lost":
            raise KVError("Network connection lost")
        return fault

    def write(self, key: str, place: str, value: bytes | None) -> None:
        """Record a write, within the platform's limits."""
        if not 0 < len(key.encode()) <= MAX_KEY:
            raise KVError(f"414 UTF-8 encoded length of key is {len(key)}, over the limit of {MAX_KEY}")
        if value is not None and len(value) > MAX_VALUE:
            raise KVError(f"413 value length of {len(value)} exceeds limit of {MAX_VALUE}")
        history = self.writes.setdefault(key, [])
        if history and self.now - history[-1].when < 1.0:
            raise KVError("429 Too Many Requests: one write per second to the same key")
        history.append(_Write(self.now, place, value))


class Place:
    """One data centre's view."""

    def __init__(self, kv: SimulatedKV, name: str) -> None:
        self._kv, self._name = kv, name
        self._cache: dict[str, tuple[float, bytes | None]] = {}
        self._listed: set[str] = set()

    async def get(self, key: str) -> bytes | None:
        """As Namespace.get, from the cache where it has the key or its absence."""
        fault = self._kv.begin("get")
        if key not in self._listed:
            self._kv.unlisted_reads.append(key)
        cached = self._cache.get(key)
        if cached is None or self._kv.now - cached[0] >= self._kv.ttl:
            cached = self._cache[key] = (self._kv.now, self._kv.seen(key, self._name, self._kv.lag, 0.0))
        if fault:
            raise KVError("Network connection lost")
        return cached[1]

    async def put(self, key: str, value: bytes) -> None:
        """As Namespace.put."""
        fault = self._kv.begin("put")
        self._kv.write(key, self._name, value)
        self._listed.add(key)
        if fault:
            raise KVError("Network connection lost")

    async def delete(self, key: str) -> None:
        """As Namespace.delete."""
        fault = self._kv.begin("delete")
        self._kv.write(key, self._name, None)
        if fault:
            raise KVError("Network connection lost")

    async def list(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
        """As Namespace.list."""
        fault = self._kv.begin("list")
        kv = self._kv
        names = sorted(
            key
            for key in kv.writes
            if key.startswith(prefix) and kv.seen(key, self._name, kv.list_lag, kv.list_lag_here) is not None
        )
        start = int(cursor or 0)
        self._listed.update(names)
        if fault:
            raise KVError("Network connection lost")
        more = start + kv.page < len(names)
        return names[start : start + kv.page], str(start + kv.page) if more else None
