"""What depends on what: links between tasks, also of several boards, which never come round to where they began."""

from __future__ import annotations

from .. import keys
from ..errors import ConflictError, CycleDetected, InvalidInput
from .moment import Moment
from .tasks import GATES, MAX_PARENTS, Task, check_ref, place_of, seen_from

MAX_ANCESTORS = 10_000
"""Ancestors that are looked through for a circle; more are refused."""
_NOT_HELD = ("triage", "todo", "scheduled", "ready", "blocked")


def check_gate(gate: object) -> str:
    """ERR_INVALID_INPUT for what no link asks."""
    if gate not in GATES:
        raise InvalidInput(f'a gate is "done" (the parent ended well) or "ended" (it ended), not {gate!r}')
    return str(gate)


async def link(moment: Moment, parent: str, child: Task, gate: str) -> None:
    """``child`` depends on ``parent`` from here on. ERR_CYCLE_DETECTED where the parent depends on the child."""
    check_gate(gate)
    if child.state not in (*_NOT_HELD, "running"):
        raise ConflictError(
            f"task {child.id!r} is {child.state}, and one that is made to wait has not ended or gone to review; "
            "nothing was written",
            id=child.id,
            state=child.state,
        )
    parent = check_ref(parent, moment.board)
    await moment.task(parent)
    chain = await _chain(moment, parent, child.id)
    if chain:
        raise CycleDetected(
            f"task {child.id!r} can't wait for {parent!r}, which waits for it: {' <- '.join(chain)}; "
            "nothing was written",
            chain=chain,
        )
    found = next((each for each in child.parents if each[0] == parent), None)
    if found is not None:
        found[1] = gate
    elif len(child.parents) >= MAX_PARENTS:
        raise InvalidInput(f"task {child.id!r} has {MAX_PARENTS} parents already; let some of them wait for each other")
    else:
        child.parents.append([parent, gate])
    moment.write.puts[key_of(moment.board, parent, child.id)] = moment.store.codec.encode(None)
    moment.touch(child)
    moment.tell("link", child.id, parent=parent, gate=gate)
    await _tell_other(moment, "link", parent, child)


async def unlink(moment: Moment, parent: str, child: Task) -> None:
    """``child`` waits for ``parent`` no longer."""
    parent = check_ref(parent, moment.board)
    left = [each for each in child.parents if each[0] != parent]
    if len(left) == len(child.parents):
        raise InvalidInput(f"task {child.id!r} does not depend on {parent!r}; nothing was written")
    child.parents = left
    moment.write.deletes.add(key_of(moment.board, parent, child.id))
    moment.touch(child)
    moment.tell("unlink", child.id, parent=parent)
    await _tell_other(moment, "unlink", parent, child)


def key_of(board: str, parent: str, child: str) -> str:
    """By which a parent, also of another board, finds a task of ``board`` that depends on it."""
    home, id = place_of(board, parent)
    return keys.board(home, "p", id, seen_from(home, board, child))


async def _tell_other(moment: Moment, kind: str, parent: str, child: Task) -> None:
    """Say it in the log of the parent's board as well, if that is another: whatever ends there knows of the link."""
    home, id = place_of(moment.board, parent)
    if home != moment.board:
        (await moment.on(home)).tell(kind, id, child=seen_from(home, moment.board, child.id))


async def _chain(moment: Moment, start: str, goal: str) -> list[str]:
    """A way from ``start`` up to ``goal`` among the ancestors, from the child on: [goal, ..., start, goal]; or none."""
    below: dict[str, str | None] = {start: None}
    ahead = [start]
    while ahead:
        if goal in below:
            chain, at = [goal], below[goal] if goal != start else None
            if goal == start:
                return [goal, goal]
            while at is not None:
                chain.append(at)
                at = below[at]
            return [*chain, goal]
        found = list(zip(ahead, await moment.find(ahead), strict=True))
        ahead = []
        for ref, task in found:
            for parent, _ in task.parents if task is not None else ():
                seen = seen_from(moment.board, place_of(moment.board, ref)[0], parent)
                if seen not in below:
                    below[seen] = ref
                    ahead.append(seen)
        if len(below) > MAX_ANCESTORS:
            raise InvalidInput(
                f"task {start!r} has over {MAX_ANCESTORS} ancestors, which are not looked through; flatten"
            )
    return []
