"""What ``Host.list`` asks for as a range of keys, for stores that know ranges and not prefixes, and keys in order.

Keys are ASCII.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

CHUNK = 1024
"""Keys in one list of SortedKeys; at twice as many it is split."""


def end_of(prefix: str) -> str:
    """The first key behind all keys that start with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\x7f"


def bounds(prefix: str, after: str) -> tuple[str, bool, str]:
    """Of the keys under ``prefix`` and behind ``after``: where they begin, whether that key is one of them, their end.

    The end is none of them.
    """
    return (after, False, end_of(prefix)) if after >= prefix else (prefix, True, end_of(prefix))


def among(keys: Sequence[str], prefix: str, after: str, limit: int) -> Sequence[str]:
    """Of the sorted ``keys`` those under ``prefix`` and behind ``after``, at most ``limit``."""
    start = bisect_left(keys, prefix) if after < prefix else bisect_right(keys, after)
    found = keys[start : start + limit]
    if found and not found[-1].startswith(prefix):
        found = found[: bisect_left(found, end_of(prefix))]
    return found


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
        place, end = max(0, bisect_right(self._firsts, max(prefix, after)) - 1), end_of(prefix)
        for chunk in islice(self._chunks, place, None):
            found += among(chunk, prefix, after, limit - len(found))
            if len(found) >= limit or (chunk and chunk[-1] >= end):
                break
        return found

    def __iter__(self) -> Iterator[str]:
        """All of them, ascending."""
        return chain.from_iterable(self._chunks)

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._chunks))
