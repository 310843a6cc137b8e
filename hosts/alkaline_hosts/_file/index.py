"""What a file host keeps in memory: every key in order, small values, and where in the file the large ones are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from alkaline_edge.host import Entry

IN_MEMORY = 4096
"""Bytes of a value up to which it is kept in memory; larger ones are read from the file each time."""
CHUNK = 1024
"""Keys in one list of SortedKeys; at twice as many it is split."""
PER_KEY = 24
"""About how many bytes a live key costs in a compacted file, beside its suffix and its value."""


class Extent(NamedTuple):
    """A large value: ``length`` bytes at ``offset`` of the file."""

    key: str
    offset: int
    length: int
    version: str


class SortedKeys:
    """A sorted list that stays cheap at a million keys: many short lists, so an insertion moves little memory."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        ordered = sorted(keys)
        self._chunks = [ordered[n : n + CHUNK] for n in range(0, len(ordered), CHUNK)] or [[]]
        self._firsts = [chunk[0] for chunk in self._chunks if chunk]

    def add(self, key: str) -> None:
        """Insert a key that is not there."""
        firsts = self._firsts
        place = bisect_right(firsts, key) - 1
        if place < 0:
            place = 0
            firsts[:1] = [key]
        chunk = self._chunks[place]
        if not chunk or key > chunk[-1]:
            chunk.append(key)
        else:
            insort(chunk, key)
        if len(chunk) > 2 * CHUNK:
            self._chunks[place : place + 1] = [chunk[:CHUNK], chunk[CHUNK:]]
            firsts.insert(place + 1, chunk[CHUNK])

    def remove(self, key: str) -> None:
        """Take out a key that is there."""
        place = bisect_right(self._firsts, key) - 1
        chunk = self._chunks[place]
        at = bisect_left(chunk, key)
        del chunk[at]
        if chunk:
            if at == 0:
                self._firsts[place] = chunk[0]
        else:
            del self._firsts[place]
            if len(self._chunks) > 1:
                del self._chunks[place]

    def under(self, prefix: str, after: str, limit: int) -> list[str]:
        """At most ``limit`` keys that start with ``prefix`` and are greater than ``after``, ascending."""
        found: list[str] = []
        for key in self._from(prefix, after):
            if len(found) >= limit or not key.startswith(prefix):
                break
            found.append(key)
        return found

    def _from(self, prefix: str, after: str) -> Iterator[str]:
        inclusive = after < prefix
        start = prefix if inclusive else after
        bisect = bisect_left if inclusive else bisect_right
        place = max(0, bisect_right(self._firsts, start) - 1)
        at = bisect(self._chunks[place], start)
        for n in range(place, len(self._chunks)):
            chunk = self._chunks[n]
            for m in range(at, len(chunk)):
                yield chunk[m]
            at = 0


class Index:
    """key -> its entry, or the place of its large value. ``live``: about how many bytes of the file are not garbage."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry | Extent] = {}
        self.live = 0
        self._sorted = SortedKeys()
        # New keys wait here until somebody asks for the order: most keys of a history are sealed and deleted before.
        self._waiting: dict[str, None] = {}

    def put(self, key: str, value: bytes, version: str, offset: int) -> None:
        """``key`` is now ``value``, which stands at ``offset`` of the file."""
        value = bytes(value)  # a caller's bytearray may change; bytes are not copied
        size = len(value)
        old = self.entries.get(key)
        self.entries[key] = Entry(key, value, version) if size <= IN_MEMORY else Extent(key, offset, size, version)
        self.live += PER_KEY + len(key) + size
        if old is None:
            self._waiting[key] = None
        else:
            self.live -= self._cost(old)

    def delete(self, key: str) -> None:
        """``key`` is gone, if it was there."""
        old = self.entries.pop(key, None)
        if old is None:
            return
        self.live -= self._cost(old)
        if key in self._waiting:
            del self._waiting[key]
        else:
            self._sorted.remove(key)

    def keys(self) -> SortedKeys:
        """The keys in order."""
        if len(self._waiting) * 4 > len(self.entries):
            self._sorted = SortedKeys(self.entries)
        else:
            for key in self._waiting:
                self._sorted.add(key)
        self._waiting = {}
        return self._sorted

    def _cost(self, kept: Entry | Extent) -> int:
        size = len(kept.value) if isinstance(kept, Entry) else kept.length
        return PER_KEY + len(kept.key) + size
