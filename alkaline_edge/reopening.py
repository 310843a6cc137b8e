"""Where a run that has ended goes on when it is tried again: at what it failed of. Pure, and without its code.

There may be several ways, the one first that keeps most of what is recorded. Which of them the code agrees with only a
replay says; the last one holds whatever the code is, as far as it is the code that wrote the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import events as ev
from .errors import ERR_BUDGET_EXCEEDED, ConflictError
from .events import Event
from .history import Timed
from .retried import Void, ranges_of, void_in, void_of
from .structs import NamedTuple

Place = tuple[int, int]
_WAKES = frozenset(number for number, kind in enumerate(ev.KINDS) if "wakes" in kind.role)
_OF_A_BLOCK = ev.SYNCHRONOUS | {ev.EMITTED}
_STEPS = (ev.StepCompleted, ev.StepFailed, ev.AttemptFailed, ev.StepIntended)
COMPENSATION = "compensate "
"""How the names of steps begin that undo others."""
PARENT_ENDED = "its parent "
"""How the reason begins for which a parent ends its children."""


class Way(NamedTuple):
    """What counts no more, ranges as ``Retried`` has them; what was spent in it; and what came from outside in it."""

    void: list[list[int]]
    tokens: int
    micros: int
    added: list[int]
    """What the run was topped up by: tokens, micro-usd and ms."""
    outside: list[tuple[int, Event]]

    def events(self) -> list[Event]:
        """The events that say so."""
        retried = ev.Retried(ev.RETRIED, self.void, self.tokens, self.micros)
        return [retried, ev.ToppedUp(ev.TOPPED_UP, *self.added)] if any(self.added) else [retried]


class One(NamedTuple):
    """An event that counts: its commit, its place in that, its time and itself."""

    commit: int
    place: int
    at: int
    event: Any

    @property
    def where(self) -> Place:
        """Its commit and its place."""
        return self.commit, self.place


def counting_of(commits: Sequence[Sequence[Timed]], void: Void) -> list[One]:
    """Every event that counts."""
    return [
        One(n, place, *timed)
        for n, events in enumerate(commits)
        for place, timed in enumerate(events)
        if not void.holds(n, place)
    ]


def is_of_budget(failure: Any) -> bool:
    """Whether a run has failed because its budget, or that of a child, was used up; a group: for nothing else."""
    if not isinstance(failure, dict):
        return False
    detail = failure.get("detail")
    codes = detail.get("codes") if isinstance(detail, dict) else None
    return failure.get("code") == ERR_BUDGET_EXCEEDED or codes == [ERR_BUDGET_EXCEEDED]


def ways(id: str, commits: Sequence[Sequence[Timed]], added: Sequence[int] = ()) -> list[Way]:
    """How the run ``id`` can be tried again, whose history has ended. ERR_CONFLICT where it can't, and why.

    ``added``: what it was topped up by since then.
    """
    return [_with(way, added) for way in _ways(id, commits)]


def is_of_another(commits: Sequence[Sequence[Timed]]) -> bool:
    """Whether the run failed of a step or a child, and not by itself."""
    return _cause(counting_of(commits, void_in(commits))) is not None


def _with(way: Way, added: Sequence[int]) -> Way:
    return way._replace(added=[a + b for a, b in zip(way.added, added or (0, 0, 0), strict=True)])


def _ways(id: str, commits: Sequence[Sequence[Timed]]) -> list[Way]:
    all_of_it = counting_of(commits, void_in(commits))
    _refuse_undone(id, all_of_it)
    last = all_of_it[-1]
    if isinstance(last.event, ev.Cancelled):
        asked = [n for n, one in enumerate(all_of_it) if isinstance(one.event, ev.CancelRequested)]
        return [_cut(id, commits, all_of_it, asked[-1] if asked else len(all_of_it) - 1, set())]
    at = _cause(all_of_it)
    if at is None:
        blocks = [_block_before(all_of_it)]
        if is_of_budget(last.event.failure):  # what came before the charge that went over is a reason last of all
            over = min(_refused(all_of_it, blocks[0]), default=len(all_of_it))
            blocks.insert(0, {n for n in blocks[0] if n >= over})
        found = [_way(commits, all_of_it, {len(all_of_it) - 1})]
        for block in blocks:
            found += [_way(commits, all_of_it, {*block, len(all_of_it) - 1}, repeated=block)] if block else []
        return found
    intended = {one.event.id for one in all_of_it if isinstance(one.event, ev.StepIntended)}
    if all_of_it[at].event.id in intended:
        raise ConflictError(
            f"run {id!r} failed of step {all_of_it[at].event.name!r}, which starts at most once, and it was started: "
            "fork the run, and give the step's result with edit=",
            id=id,
        )
    failed = [n for n in range(len(all_of_it)) if _failed(all_of_it[n].event) and all_of_it[n].event.id not in intended]
    first = all_of_it[at].commit
    later, found = {n for n in failed if all_of_it[n].commit >= first}, []
    for chosen in (later, {at}) if len(later) > 1 else (later,):
        found.append(_without(commits, all_of_it, chosen))
    found.append(_cut(id, commits, all_of_it, at, {n for n in failed if all_of_it[n].commit == first}))
    return found


def _refuse_undone(id: str, all_of_it: Iterable[One]) -> None:
    """ERR_CONFLICT where compensation began."""
    completed: set[str] = set()
    undone: list[str] = []
    for one in all_of_it:
        if isinstance(one.event, _STEPS):
            name = one.event.name
            if name.startswith(COMPENSATION) and any(
                each.startswith(name.removeprefix(COMPENSATION)) for each in completed
            ):
                undone.append(name.removeprefix(COMPENSATION))
            completed.add(name)
    if undone:
        raise ConflictError(
            f"run {id!r} has undone {', '.join(dict.fromkeys(undone[:5]))} when it failed: what is recorded of it is "
            "not true any more. Start it anew, or fork it at a commit before those steps",
            id=id,
        )


def _failed(event: Event) -> bool:
    return isinstance(event, ev.StepFailed) or (isinstance(event, ev.ChildFinished) and event.outcome != "completed")


def _failure(event: Any) -> Any:
    return event.failure if isinstance(event, ev.StepFailed) else event.value


def _cause(all_of_it: Sequence[One]) -> int | None:
    """What the run failed of: the last step or child with its failure, else one that woke it last; None: its code."""
    failure = all_of_it[-1].event.failure
    if (failure.get("detail") or {}) == {**(failure.get("detail") or {}), "unrecorded": True}:
        return None
    failed = [n for n, one in enumerate(all_of_it) if _failed(one.event)]
    for n in reversed(failed):
        other = _failure(all_of_it[n].event) or {}
        if (other.get("type"), other.get("message")) == (failure.get("type"), failure.get("message")):
            return n
    if is_of_budget(failure):  # of its own: what it caught before is no reason
        return None
    woke = [one.commit for one in all_of_it if one.event[0] in _WAKES]
    return next((n for n in failed if woke and all_of_it[n].commit == woke[-1]), None)


def _block_before(all_of_it: Sequence[One]) -> set[int]:
    """What the handler drew and emitted in the turn in which it failed."""
    found: set[int] = set()
    for n in range(len(all_of_it) - 2, 0, -1):
        if all_of_it[n].event[0] not in _OF_A_BLOCK or all_of_it[n].event[0] in ev.AGAIN:
            break
        found.add(n)
    return found


def _refused(all_of_it: Sequence[One], block: Iterable[int]) -> list[int]:
    """The charges in ``block`` that went over the budget."""
    return [n for n in block if isinstance(all_of_it[n].event, ev.Spent) and all_of_it[n].event.refused]


def _without(commits: Sequence[Sequence[Timed]], all_of_it: Sequence[One], failed: set[int]) -> Way:
    """All counts but ``failed``, what the handler drew because of them, and the end."""
    void = {*failed, len(all_of_it) - 1}
    commit, because = -1, False
    for n, one in enumerate(all_of_it):
        if one.event[0] in _WAKES:
            because = n in failed and (because or one.commit != commit)
            commit = one.commit
        elif because and one.event[0] in _OF_A_BLOCK:
            void.add(n)
    return _way(commits, all_of_it, void)


def _cut(id: str, commits: Sequence[Sequence[Timed]], all_of_it: Sequence[One], at: int, failed: set[int]) -> Way:
    """Nothing counts from there on, but what woke the handler together with it."""
    first = all_of_it[at].commit
    void = set(failed) | {at, len(all_of_it) - 1}
    for n, one in enumerate(all_of_it):
        if one.commit > first or (one.commit == first and one.event[0] not in _WAKES and n > at):
            void.add(n)
    for n in sorted(void):
        event = all_of_it[n].event
        if isinstance(event, (ev.StepIntended, ev.ChildStarted)):
            what = f"step {event.name!r}, which starts at most once," if isinstance(event, ev.StepIntended) else (
                f"the child {event.child!r}"
            )  # fmt: skip
            raise ConflictError(
                f"{what} was started behind that of which run {id!r} failed, and would be started again: fork the run "
                f"at {first} commits instead, or at more",
                id=id,
            )
    return _way(commits, all_of_it, void, outside=True)


def _way(
    commits: Sequence[Sequence[Timed]],
    all_of_it: Sequence[One],
    void: set[int],
    repeated: Iterable[int] = (),
    outside: bool = False,
) -> Way:
    """``void`` and the attempts of what failed in it. ``repeated``: charges that the handler makes again."""
    ids = {all_of_it[n].event.id for n in void if isinstance(all_of_it[n].event, ev.StepFailed)}
    void |= {n for n, one in enumerate(all_of_it) if isinstance(one.event, ev.AttemptFailed) and one.event.id in ids}
    charges = [
        all_of_it[n].event
        for n in void.difference(repeated)
        if isinstance(all_of_it[n].event, (ev.Spent, ev.StepCharged, ev.Retried))
    ]
    raised = [all_of_it[n].event[1:] for n in void if isinstance(all_of_it[n].event, ev.ToppedUp)]
    came = [
        (all_of_it[n].at, all_of_it[n].event)
        for n in sorted(void)
        if outside and isinstance(all_of_it[n].event, (ev.SignalReceived, ev.UpdateReceived))
    ]
    ranges = ranges_of((all_of_it[n].where for n in void), commits)
    spent = sum(each.tokens for each in charges), sum(each.micros for each in charges)
    return Way(ranges, *spent, [sum(each) for each in zip((0, 0, 0), *raised, strict=True)], came)


def union(commits: Sequence[Sequence[Timed]], way: Way) -> list[list[Timed]]:
    """The events that count once that way is taken, commit by commit, and those that say so behind them."""
    before = void_in(commits)
    void = void_of([*([*a, *b] for a, b in zip(before.starts, before.ends, strict=True)), *way.void])
    kept = [void.counting(n, events) for n, events in enumerate(commits)]
    return [*kept, [(commits[-1][-1][0], event) for event in way.events()]]
