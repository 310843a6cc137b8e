"""The states of a task and every way between them: the one table from which code, page and picture come."""

from __future__ import annotations

from typing import Literal

from ..structs import NamedTuple

State = Literal[
    "triage", "todo", "scheduled", "ready", "running", "blocked", "review", "done", "failed", "cancelled", "archived"
]
Who = Literal["anybody", "worker", "holder", "reviewer", "gate", "clock", "run"]
"""Who may: anybody; a worker, who gets a claim by it; who holds the claim on the task, as an author or as a reviewer;
the board itself, when the parents end, when a time has come, or when the task's run ends."""


class Way(NamedTuple):
    """One way from a state to another. ``start`` is None for a new task."""

    verb: str
    start: State | None
    end: State
    who: Who


STATES: dict[State, str] = {
    "triage": "somebody has to look at it first",
    "todo": "its parents have not all ended as its links ask",
    "scheduled": "its time has not come",
    "ready": "a worker may claim it",
    "running": "a worker holds it, or its run goes on",
    "blocked": "it waits for somebody outside, and says for what",
    "review": "the work is done, and a reviewer is to look at it",
    "done": "it ended well: what depends on it may begin",
    "failed": "it ended badly, or too often",
    "cancelled": "it was withdrawn",
    "archived": "it has ended, is in no list but its own, and may be purged",
}
ENDED: frozenset[State] = frozenset(("done", "failed", "cancelled", "archived"))
"""No worker takes it up from there."""
BLOCKS = {
    "needs_input": "somebody has to answer",
    "capability": "whoever held it can't do it",
    "transient": "something outside is down; it comes back by itself after a while",
    "dependency": "another task has to be done first: link it",
    "budget": "its budget is used up: top it up",
    "parent": "a parent ended otherwise than its link asks",
    "cycle": "its run would come of itself, or is too deep: its reason has the chain",
}
"""The kinds of blocks, each with what it means. The last three are the board's own."""
GIVEN_BLOCKS = ("needs_input", "capability", "transient", "dependency")

_UNCLAIMED: tuple[State, ...] = ("triage", "todo", "scheduled", "ready", "blocked", "review")
_REST: tuple[State, ...] = ("todo", "scheduled", "ready", "blocked")
"""Where a task rests that nobody holds, by its parents and the clock."""


def _ways() -> list[Way]:
    rows: list[tuple[str, tuple[State | None, ...], tuple[State, ...], Who]] = [
        ("create", (None,), ("triage", *_REST), "anybody"),
        ("accept", ("triage",), _REST, "anybody"),
        ("gate", _REST, _REST, "gate"),
        ("schedule", _REST, _REST, "anybody"),
        ("due", ("scheduled",), ("ready",), "clock"),
        ("claim", ("ready", "review"), ("running",), "worker"),
        ("complete", ("running",), ("done",), "holder"),
        ("request_review", ("running",), ("review",), "holder"),
        ("approve", ("review",), ("done",), "anybody"),
        ("request_changes", ("running",), _REST, "reviewer"),
        ("request_changes", ("review",), _REST, "anybody"),
        ("block", ("running",), (*_REST, "triage"), "holder"),
        ("block", ("triage", *_REST), ("blocked",), "anybody"),
        ("unblock", ("blocked",), _REST, "anybody"),
        ("release", ("running",), (*_REST, "review"), "holder"),
        ("fail", ("running",), (*_REST, "review", "failed"), "holder"),
        ("reclaim", ("running",), (*_REST, "review", "failed"), "clock"),
        ("reclaim", ("running",), (*_REST, "review"), "anybody"),
        ("outcome", ("running",), (*_REST, "done", "failed", "cancelled"), "run"),
        ("cancel", (*_UNCLAIMED, "running"), ("cancelled",), "anybody"),
        ("reopen", ("failed", "cancelled"), _REST, "anybody"),
        ("archive", ("done", "failed", "cancelled"), ("archived",), "anybody"),
    ]
    return [Way(verb, start, end, who) for verb, begins, ends, who in rows for start in begins for end in ends]


WAYS: tuple[Way, ...] = tuple(_ways())
"""Every way that there is. What is not here is ERR_CONFLICT with nothing written."""
_LEADS = frozenset((way.verb, way.start, way.end) for way in WAYS)
_BEGINS = frozenset((way.verb, way.start) for way in WAYS)


def leads(verb: str, start: State | None, end: State) -> bool:
    """Whether ``verb`` may take a task from ``start`` to ``end``."""
    return (verb, start, end) in _LEADS


def starts(verb: str) -> list[State]:
    """The states that ``verb`` may be asked in."""
    return [state for state in STATES if (verb, state) in _BEGINS]


def table() -> str:
    """The ways as rows of a page: a verb and who may, from where, to where."""
    rows: dict[tuple[str, str, tuple[str, ...]], list[str | None]] = {}
    for verb in dict.fromkeys(way.verb for way in WAYS):
        for who in dict.fromkeys(way.who for way in WAYS if way.verb == verb):
            for start in dict.fromkeys(way.start for way in WAYS if (way.verb, way.who) == (verb, who)):
                ends = tuple(way.end for way in WAYS if (way.verb, way.who, way.start) == (verb, who, start))
                rows.setdefault((verb, who, ends), []).append(start)
    lines = ["| Verb | Who | From | To |", "| --- | --- | --- | --- |"]
    for (verb, whose, to), begins in rows.items():
        lines.append(f"| `{verb}` | {whose} | {', '.join(each or '(new)' for each in begins)} | {', '.join(to)} |")
    return "\n".join(lines)


_NOT_DRAWN = ("gate", "schedule", "due", "unblock", "reclaim", "outcome", "cancel", "reopen", "archive")


def picture() -> str:
    """What workers and reviewers do, as a mermaid diagram; the states in which a task rests are drawn as one.

    All of the table at once would be a tangle.
    """
    labels: dict[tuple[str, str], list[str]] = {}
    for way in WAYS:
        start, end = _drawn(way.start), _drawn(way.end)
        if start != end and way.verb not in _NOT_DRAWN:
            verbs = labels.setdefault((start, end), [])
            verbs += [] if way.verb in verbs else [way.verb]
    ways = [f"    {start} --> {end}: {', '.join(verbs)}" for (start, end), verbs in labels.items()]
    return "\n".join(["stateDiagram-v2", *ways])


def _drawn(state: State | None) -> str:
    return "[*]" if state is None else "resting" if state in _REST else state
