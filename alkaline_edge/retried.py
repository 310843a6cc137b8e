"""What counts of a history whose run had failed and was tried again.

A Retried event names what counts no more: ranges ``[commit, place, commit, place]`` of events, the second end left
out. Nothing is removed. A replay passes over what is void, and the digests go over all of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from .events import AttemptFailed, Retried, StepCompleted, StepFailed
from .history import Timed
from .structs import dataclass


@dataclass(frozen=True, slots=True)
class Void:
    """Events that count no more, as ranges in order that don't overlap. ``Void()``: all of them count."""

    starts: tuple[tuple[int, int], ...] = ()
    ends: tuple[tuple[int, int], ...] = ()

    def holds(self, commit: int, place: int) -> bool:
        """Whether the event at that place of that commit counts no more."""
        at = bisect_right(self.starts, (commit, place)) - 1
        return at >= 0 and (commit, place) < self.ends[at]

    def counting(self, commit: int, events: Sequence[Timed]) -> list[Timed]:
        """Those of a commit's events that count."""
        if not self.starts:
            return list(events)
        return [each for place, each in enumerate(events) if not self.holds(commit, place)]


class Former:
    """The steps that count no more, by their place in the handler, in the order in which they were recorded.

    Another step in the place of one that has acted is another effect, so that it must have another idempotency key:
    the service that is called would take it for the first one, and do nothing.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[tuple[str, Any]]] = {}

    def note(self, events: Iterable[Timed]) -> None:
        """Some of what counts no more."""
        for _, event in events:
            if isinstance(event, (StepCompleted, StepFailed, AttemptFailed)):  # at most once is never made void
                calls = self._calls.setdefault(event.id, [])
                if (event.name, event.args) not in calls:
                    calls.append((event.name, event.args))

    def mark(self, id: str, name: str, digest: Any) -> str:
        """What the key of a step ends with; empty where no other one has stood in its place."""
        calls = self._calls.get(id, [])
        n = calls.index((name, digest)) if (name, digest) in calls else len(calls)
        return f"~{n}" if n else ""


def void_of(ranges: Iterable[Sequence[int]]) -> Void:
    """The union of ``ranges``."""
    merged: list[list[tuple[int, int]]] = []
    for first, place, last, behind in sorted(map(tuple, ranges)):
        if merged and (first, place) <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], (last, behind))
        else:
            merged.append([(first, place), (last, behind)])
    return Void(tuple(each[0] for each in merged), tuple(each[1] for each in merged))


def void_in(commits: Iterable[Sequence[Timed]]) -> Void:
    """What counts no more of a history, by its own Retried events."""
    return void_of(
        part for events in commits for _, event in events if isinstance(event, Retried) for part in event.void
    )


def counting(commits: Sequence[Sequence[Timed]]) -> list[list[Timed]]:
    """The commits of a history with the events that count, some commits with none."""
    void = void_in(commits)
    return [void.counting(n, events) for n, events in enumerate(commits)]


def ranges_of(places: Iterable[tuple[int, int]], commits: Sequence[Sequence[Timed]]) -> list[list[int]]:
    """Events of ``commits`` as ranges, one for all that stand one behind the other."""
    found: list[list[int]] = []
    for commit, place in sorted(places):
        if found:
            last, behind = found[-1][2:]
            if (commit, place) == (last, behind) or (
                place == 0 and commit == last + 1 and behind == len(commits[last])
            ):
                found[-1][2:] = [commit, place + 1]
                continue
        found.append([commit, place, commit, place + 1])
    return found
