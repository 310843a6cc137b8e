"""What a file host keeps in memory: every key in order, small values, and where in the file the large ones are."""

from __future__ import annotations

from typing import NamedTuple

from alkaline_edge.host import Entry

from .._ranges import SortedKeys

IN_MEMORY = 4096
"""Bytes of a value up to which it is kept in memory; larger ones are read from the file each time."""
PER_KEY = 24
"""About how many bytes a live key costs in a compacted file, beside its suffix and its value."""


class Extent(NamedTuple):
    """A large value: ``length`` bytes at ``offset`` of the file."""

    key: str
    offset: int
    length: int
    version: str


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
