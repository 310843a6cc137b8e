"""What was learned of steps, kept in the store so that a new process begins with it: a bounded summary per name.

It is no part of any history, and everything goes on without it: what can't be read, or is of a newer version, is left
alone and said once. Where two processes have learned of one step, what is kept is the middle of both.
"""

from __future__ import annotations

from typing import Any

from .. import keys
from ..errors import AlkalineError
from ..host import Conflict, Entry
from ..structs import NamedTuple
from . import reporting
from .segments import keys_of
from .store import Store
from .write import Write

VERSION = 1
MOST_NAMES = 1_000
"""So many are read at the start; of more than these the others are learned anew."""
_PAGE = 200
KEPT = 32
"""Durations that are stored of a step, the newest."""


class Summary(NamedTuple):
    """What is kept of the step ``name``: its ``limit``, what one is ``expected`` to take and how long the last ones
    took, in ms, and ``at``, ms since 1970, when that was written."""

    name: str
    limit: float
    expected: float | None
    durations: list[int]
    at: int


class Memory:
    """What the processes of a store have learned."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions: dict[str, str] = {}
        """By key, the version that this process has read or written last."""
        self._foreign: set[str] = set()
        """Keys that are left alone."""

    async def load(self) -> list[Summary]:
        """All that is kept and can be read."""
        found: list[Summary] = []
        after = ""
        while len(found) < MOST_NAMES:
            entries = await self._store.host.list(keys.LEARNED, after, _PAGE)
            for entry in entries:
                if (summary := self._read(entry)) is not None:
                    found.append(summary)
            if len(entries) < _PAGE:
                break
            after = entries[-1].key
        return found[:MOST_NAMES]

    async def save(self, summaries: list[Summary]) -> None:
        """Keep these, each put together with what another process has kept meanwhile. What others are quicker with is
        left to the next time."""
        at_once = keys_of(self._store.limits)
        for start in range(0, len(summaries), at_once):
            write, page = Write(), summaries[start : start + at_once]
            places = [keys.learned(each.name) for each in page]
            for summary, key, entry in zip(page, places, await self._store.host.get(places), strict=True):
                own = entry is not None and self._versions.get(key) == entry.version
                theirs = None if entry is None or own else self._read(entry)
                if key in self._foreign:
                    continue
                kept = summary if theirs is None else between(summary, theirs)
                write.checks[key] = None if entry is None else entry.version
                write.puts[key] = self._store.codec.encode([VERSION, *kept])
            if write.puts:
                done = await self._store.commit(write)
                if not isinstance(done, Conflict):
                    self._versions.update((key, done.version) for key in write.puts)

    def _read(self, entry: Entry) -> Summary | None:
        try:
            values = self._store.opened(entry)
            if type(values) is not list or values[0] != VERSION:
                raise ValueError("what was learned of a step is of a newer version")
            summary = checked(*values[1:])
            if keys.learned(summary.name) != entry.key:
                raise ValueError("what was learned of a step stands where another belongs")
        except (AlkalineError, TypeError, ValueError, IndexError) as error:
            if entry.key not in self._foreign:
                reporting.set_apart(entry.key, str(error))
            self._foreign.add(entry.key)
            return None
        self._versions[entry.key] = entry.version
        return summary


def checked(name: Any, limit: Any, expected: Any, durations: Any, at: Any) -> Summary:
    """A summary of what was stored; ValueError for what is none."""
    numbers = [limit, at, *([] if expected is None else [expected]), *durations]
    if type(name) is not str or any(type(each) not in (int, float) or not 0 <= each < 1e15 for each in numbers):
        raise ValueError("what was learned of a step is damaged")
    return Summary(name, float(limit), expected, [round(each) for each in durations][-KEPT:], round(at))


def between(one: Summary, other: Summary) -> Summary:
    """What two processes have learned of one step, in the middle: of the durations half of each."""
    known = [each.expected for each in (one, other) if each.expected is not None]
    half = KEPT // 2
    return Summary(
        one.name,
        (one.limit + other.limit) / 2,
        sum(known) / len(known) if known else None,
        other.durations[-half:] + one.durations[-half:],
        max(one.at, other.at),
    )
