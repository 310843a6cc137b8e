"""Activations: which events of a commit are applied together, before the handler goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .events import (
    CANCEL_REQUESTED,
    KINDS,
    STARTED,
    STEP_CHARGED,
    STEP_COMPLETED,
    UPDATE_RECEIVED,
    Event,
    StepCompleted,
)
from .structs import NamedTuple

_ALONE = frozenset((STARTED, CANCEL_REQUESTED, UPDATE_RECEIVED))
"""Kinds that wake the handler by themselves, whatever stands beside them."""
_JOINED = frozenset(number for number, kind in enumerate(KINDS) if "wakes" in kind.role) - _ALONE
"""Kinds that are applied together with those that they stand beside in a commit."""


class Together(NamedTuple):
    """Not of a history: what a replay takes for several events of one commit that wake the handler together."""

    kind: int
    events: list[Event]


TOGETHER = -1
"""The kind of a Together, which no event has."""


def together(commit: list[tuple[int, Event]]) -> list[tuple[int, Any]]:
    """A commit's events as the machine takes them: those that wake the handler, one behind the other, are one.

    A charge belongs to the step behind it, so it makes no second one of it.
    """
    if len(commit) < 2:
        return commit
    found: list[tuple[int, Any]] = []
    side_by_side: list[tuple[int, Event]] = []
    for timed in [*commit, None]:
        if timed is not None and timed[1][0] in _JOINED:
            side_by_side.append(timed)
            continue
        if sum(event[0] != STEP_CHARGED for _, event in side_by_side) > 1:
            found.append((side_by_side[0][0], Together(TOGETHER, [event for _, event in side_by_side])))
        else:
            found += side_by_side
        side_by_side = []
        if timed is not None:
            found.append(timed)
    return found


def first_of(event: Any) -> Event:
    """``event``, or the first of several that stand together."""
    return event.events[0] if event[0] == TOGETHER else event  # type: ignore[no-any-return]  # a Together or an Event


def page_of(batch: Iterable[tuple[int, Any]]) -> list[Any]:
    """What a replay takes of some commits: ``(time in ms, event)`` each, those that stand together as one.

    A step that completed is a bare list instead, ``[time, id, name, args, value]``: most events are one, and all that
    becomes of most of these is that they are matched with what the handler asks for. ``timed`` gives any as a pair.
    """
    return [[time_ms, *event[1:]] if event[0] == STEP_COMPLETED else (time_ms, event) for time_ms, event in batch]


def timed(entry: Any) -> tuple[int, Any]:
    """An entry of a page: its time in ms, and the event, or what stands for several."""
    if type(entry) is list:
        return entry[0], tuple.__new__(StepCompleted, (STEP_COMPLETED, *entry[1:]))
    return entry  # type: ignore[no-any-return]  # a pair


def is_kind(entry: Any, kinds: frozenset[int]) -> bool:
    """Whether an entry of a page is of one of ``kinds``, which steps that complete are not."""
    return type(entry) is tuple and entry[1][0] in kinds
