"""A board as text: its columns, and what depends on what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from .states import STATES
from .tasks import Task, shown_block

_WIDTH = 60


def line(task: Task) -> str:
    """A task in one line: its id, who has it, its title, and what holds it up."""
    who = task.claim["worker"] if task.claim is not None else task.assignee
    parts = [task.id, f"({who})" if who else "", _cut(task.title), f"P{task.priority:+d}" if task.priority else ""]
    why = shown_block(task) or (task.failure or {}).get("message", "") if task.state in ("blocked", "failed") else ""
    return " ".join(part for part in (*parts, f"- {_cut(why)}" if why else "") if part)


def columns(tasks: Iterable[Task]) -> str:
    """The tasks by state, in the order of the states; a state without any is left out."""
    found = list(tasks)
    lines: list[str] = []
    for state in STATES:
        here = [task for task in found if task.state == state]
        if here:
            lines += [f"{state} ({len(here)})", *(f"  {line(task)}" for task in here)]
    return "\n".join(lines)


def graph(tasks: Iterable[Task], others: Mapping[str, Task] = MappingProxyType({})) -> str:
    """What depends on what, as trees from the tasks that wait for none. One that stands further up is named alone.

    ``others``: parents of other boards, by how the tasks name them.
    """
    own = {task.id: task for task in tasks}
    found = {**{ref: task for ref, task in others.items() if "/" in ref}, **own}
    children: dict[str, list[str]] = {}
    for task in own.values():
        for parent, _ in task.parents:
            children.setdefault(parent, []).append(task.id)
    lines: list[str] = []
    placed: set[str] = set()
    roots = [id for id, task in found.items() if id not in own or not any(each in found for each, _ in task.parents)]
    ahead = [(id, 0) for id in reversed(roots)]
    while ahead:
        id, depth = ahead.pop()
        task = found[id]
        indent = "  " * depth
        if id in placed:
            lines.append(f"{indent}{id} (above)")
            continue
        placed.add(id)
        home = id.removesuffix(task.id)
        lines.append(f"{indent}[{task.state}] {home}{line(task)}")
        ahead += [(child, depth + 1) for child in reversed(children.get(id, []))]
    return "\n".join(lines)


def _cut(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= _WIDTH else f"{one[: _WIDTH - 3]}..."
