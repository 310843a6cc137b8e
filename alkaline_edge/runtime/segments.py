"""Segments: which commits of a history are put together into one value, and the tail that is not sealed yet.

Whoever writes segments cuts them here: the driver as a run advances, an import, a part of a history that arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import keys
from ..host import Capabilities
from .write import Write

_OTHER_KEYS = 20
"""Keys that may stand in a batch beside commits: the record, its indexes, its timer."""


def room_of(limits: Capabilities) -> int:
    """Bytes of commits that go together into one value, and into one batch with the record."""
    return max(1, min(limits.max_value, limits.max_batch_bytes) // 2)


def keys_of(limits: Capabilities) -> int:
    """How many commits of their own keys go into one batch with the record."""
    return min(200, max(1, limits.max_batch_keys - _OTHER_KEYS))


def cut(commits: Sequence[bytes], at: int, most: int, room: int) -> int:
    """How many of the commits from ``at`` on go together: ``most`` of them, ``room`` bytes, one at least."""
    count = size = 0
    for raw in commits[at : at + most]:
        size += len(raw)
        if count and size > room:
            break
        count += 1
    return count


def lengths(commits: Sequence[bytes], limits: Capabilities) -> Iterable[tuple[int, int]]:
    """``commits`` as segments: (the place of the first, how many), each as long as the host takes."""
    at = 0
    while at < len(commits):
        count = cut(commits, at, max(1, limits.segment_commits), room_of(limits))
        yield at, count
        at += count


class Tail:
    """The commits at the end of a history that stand under keys of their own.

    ``seal`` puts the first of them into a segment. Where large values cut it short, the rest stays the tail; a commit
    that alone fills a value stays under its own key for good, and whoever reads finds it between two segments.
    """

    __slots__ = ("_commits", "_size")

    def __init__(self, commits: Iterable[bytes] = ()) -> None:
        self._commits = list(commits)
        self._size = sum(map(len, self._commits))

    def __len__(self) -> int:
        return len(self._commits)

    def add(self, raw: bytes) -> None:
        """One more commit at the end."""
        self._commits.append(raw)
        self._size += len(raw)

    def extend(self, raws: Sequence[bytes]) -> None:
        """More of them."""
        self._commits += raws
        self._size += sum(map(len, raws))

    def clear(self) -> None:
        """What comes next stands behind a segment."""
        self._commits.clear()
        self._size = 0

    def due(self, limits: Capabilities) -> bool:
        """Whether a segment's worth has come together."""
        most = limits.segment_commits
        return most > 0 and (len(self._commits) >= most or self._size >= room_of(limits)) and len(self._commits) > 1

    def seal(self, write: Write, name: str, length: int, limits: Capabilities) -> int:
        """Put the first segment of a history of ``length`` commits into ``write``, in place of the commits' own keys.

        Returns how many commits are sealed or left as they are; ``drop`` them once ``write`` is durable.
        """
        first = length - len(self._commits)
        room = room_of(limits)
        if len(self._commits[0]) > room:
            return 1
        most = min(limits.segment_commits, max(1, limits.max_batch_keys - _OTHER_KEYS))
        count = cut(self._commits, 0, most, room)
        write.puts[keys.segment(name, first)] = b"".join(self._commits[:count])
        write.deletes.update(keys.commit(name, first + n) for n in range(count))
        return count

    def drop(self, count: int) -> None:
        """The first ``count`` commits are no part of the tail any more."""
        self._size -= sum(map(len, self._commits[:count]))
        del self._commits[:count]
