"""What a listing of a history's keys holds: segments, and commits that stand alone between and behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from .. import keys
from ..history import split
from ..host import Entry


class Gap(Exception):
    """A commit is missing between two that are there."""


async def once(entries: list[Entry]) -> AsyncIterator[list[Entry]]:
    """``entries`` as the only page."""
    yield entries


def between(segment: Entry, loose: deque[Entry] | None) -> list[Entry]:
    """The loose commits up to where ``segment`` begins; they are taken from ``loose``."""
    start = keys.position_of(segment.key)
    found: list[Entry] = []
    while loose and keys.position_of(loose[0].key) < start:
        found.append(loose.popleft())
    return found


def follows(entries: list[Entry], expected: int) -> bool:
    """Whether these loose commits begin at position ``expected`` and leave none out."""
    first, last = keys.position_of(entries[0].key), keys.position_of(entries[-1].key)
    return first == expected and last == first + len(entries) - 1


def fresh(entries: list[Entry], expected: int) -> list[bytes]:
    """The commits of ``entries`` from position ``expected`` on."""
    if entries and not keys.is_segment(entries[0].key) and follows(entries, expected):
        return [entry.value for entry in entries]
    page: list[bytes] = []
    for entry in entries:
        start = keys.position_of(entry.key)
        commits = split(entry.value) if keys.is_segment(entry.key) else [entry.value]
        if start > expected + len(page):
            raise Gap
        page.extend(commits[max(0, expected + len(page) - start) :])
    return page
