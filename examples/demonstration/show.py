"""What the demo prints: readable in a terminal of 100 columns, and plain when it goes into a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alkaline_edge.events import SignalReceived, StepCompleted

from .agents import Agent, Effect, History
from .evidence import Check, Twice

COLUMNS = 62
"""Characters of the timeline's axis."""


class Marks(NamedTuple):
    """What a cell of the timeline is drawn with."""

    work: str
    lost: str
    kill: str
    line: str


def marks_for(console: Console) -> Marks:
    """Block characters where the output can take them."""
    return Marks("#", "x", "K", "|") if console.encoding.lower() in ("ascii", "us-ascii") else Marks("█", "▒", "K", "│")


def table(title: str, *columns: tuple[str, str]) -> Table:
    """An empty table in the demo's style; columns are (heading, "left" or "right")."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, side in columns:
        made.add_column(heading, justify="right" if side == "right" else "left", header_style="dim", overflow="fold")
    return made


def kills(agent: Agent, twice: list[Twice]) -> Table:
    """Each kill, with what it cost."""
    made = table(
        "What was run again: only what was in flight",
        ("kill", "right"), ("committed", "right"), ("in flight, so run again", "left"), ("how far it had come", "left"),
    )  # fmt: skip
    for number, kill in enumerate(agent.kills, 1):
        lost = [one for one in twice if one.kill == number]
        first = [str(number), f"{len(kill.committed)} steps"]
        if not lost:
            made.add_row(*first, Text("nothing", style="dim"), "")
        for one in lost:
            attempt = f" (attempt {one.attempt})" if one.attempt > 1 else ""
            made.add_row(*first, one.step + attempt, "had ended, not committed" if one.ended else "had begun")
            first = ["", ""]
    return made


def results(found: Iterable[Check]) -> Table:
    """The claims, each with what was expected and what was found."""
    made = table("What holds", ("", "left"), ("claim", "left"), ("expected", "right"), ("found", "right"))
    for check in found:
        mark = Text("ok", style="green") if check.holds else Text("FAILS", style="bold red")
        made.add_row(mark, check.claim, check.expected, check.found)
    return made


def group_of(step: str) -> str:
    """The row of the timeline that a step belongs to."""
    verb, _, rest = step.partition(" ")
    if verb in ("index", "outline", "condense"):
        return verb
    if verb == "read":
        document = rest.split(" ")[0]
        return "read topics" if document.startswith("topic:") else f"read {document.split('/')[0].removesuffix('.py')}"
    return step


def timeline(console: Console, agent: Agent, history: History) -> Table:
    """When which group of steps ran, with the kills; a mark stands for all that happened in its slice of time."""
    marks, effects = marks_for(console), agent.effects()
    ends = {one.event.id: one.at for one in history.events if isinstance(one.event, StepCompleted)}
    first, last = effects[0].at, max(max(ends.values()), effects[-1].at)
    scale = _Scale(first, last)
    rows = _rows(effects, ends, agent, scale, marks)
    made = table(
        f"The trace, over {(last - first) / 1000:.1f} seconds and {len(agent.starts)} processes",
        ("", "left"), ("", "left"), ("steps", "right"), ("again", "right"),
    )  # fmt: skip
    killed = {scale.cell(kill.at): str(number) for number, kill in enumerate(agent.kills, 1)}
    header = Text("".join(killed.get(n, " ") for n in range(COLUMNS)), style="bold red")
    made.add_row(Text("killed", style="bold red"), header, "", "")
    for name, (cells, done, again) in rows.items():
        line = Text()
        for n, mark in enumerate(cells):
            if mark == " " and n in killed:
                line.append(marks.line, style="red")
            else:
                line.append(mark, style="red" if mark == marks.lost else "cyan")
        made.add_row(name, line, str(done), str(again) if again else "")
    approved = [one.at for one in history.events if isinstance(one.event, SignalReceived)]
    made.caption = f"{marks.work} work   {marks.lost} lost at a kill, and run again   A approval"
    made.caption_justify = "left"
    made.add_row("approval", Text(" " * scale.cell(approved[0]) + "A", style="bold green"), "", "")
    return made


class _Scale:
    def __init__(self, first: int, last: int) -> None:
        self._first, self._span = first, max(1, last - first)

    def cell(self, at: int) -> int:
        return min(COLUMNS - 1, max(0, (at - self._first) * COLUMNS // self._span))


def _rows(
    effects: list[Effect], ends: dict[str, int], agent: Agent, scale: _Scale, marks: Marks
) -> dict[str, tuple[list[str], int, int]]:
    """Cells, committed steps and executions lost at a kill, by group, in the order in which they began."""
    rows: dict[str, tuple[list[str], int, int]] = {}
    killed = {kill.pid: kill for kill in agent.kills}
    last = {(one.command, one.attempt): one.pid for one in effects if one.phase == "begin"}
    counted: set[str] = set()
    for one in effects:
        if one.phase != "begin":
            continue
        cells, done, again = rows.setdefault(_row_name(one.step, effects), ([" "] * COLUMNS, 0, 0))
        lost = last[one.command, one.attempt] != one.pid and one.pid in killed
        end = killed[one.pid].at if lost else min(ends.get(one.command, one.at), one.at + 1_000)
        for n in range(scale.cell(one.at), scale.cell(max(one.at, end)) + 1):
            if cells[n] != marks.lost:
                cells[n] = marks.lost if lost else marks.work
        fresh = one.command not in counted and one.command in ends
        counted.add(one.command)
        rows[_row_name(one.step, effects)] = (cells, done + fresh, again + lost)
    return rows


def _row_name(step: str, effects: list[Effect]) -> str:
    """Groups of a few steps share a row, so that the timeline stays short."""
    name = group_of(step)
    if not name.startswith("read ") or name == "read topics":
        return name
    many = sum(one.phase == "begin" and group_of(one.step) == name for one in effects)
    return name if many >= 8 else "read others"
