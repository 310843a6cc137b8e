"""How ``alkaline`` prints: tables in a terminal, aligned plain text when piped, JSON when asked.

Names and values come from histories, which may come from strangers: control characters are shown as escapes, and
nothing is taken for markup.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alkaline_edge import ExecutionRecord, Recorded, events
from alkaline_edge.replay import Checked, Diff, duration
from alkaline_edge.replay.comparing import diff_lines
from alkaline_edge.runs import STATES
from alkaline_edge.triggers import Schedule

from .._http.json import DIGITS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NARROW = 110
"""Columns of a terminal below which a list leaves out numbers."""
LEAST = 8
"""Columns of a cell that is cut."""
WHOLE = ("id", "status", "updated", "time")
_TERMINAL_VALUE = 100
"""Characters of a value that a table in a terminal shows; a pipe gets it whole."""


def safe(value: Any) -> str:
    """``value`` as one line of printable text."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


Cell = tuple[str, str]
"""Text and its style in a terminal."""


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    right: Sequence[str] = (),
    heading: bool = True,
    one_line: bool = False,
    console: Console | None = None,
) -> None:
    """Columns named in ``right`` hold numbers. In a pipe every row is one line, in a terminal with ``one_line`` alone.

    There the columns of WHOLE and numbers stay whole, and others are cut; otherwise long cells are folded.
    """
    console = console or Console(highlight=False)
    if not console.is_terminal:
        lines = [[safe(text) for text, _ in row] for row in rows]
        _plain([list(columns), *lines] if heading else lines, [name in right for name in columns])
        return
    if one_line:
        _lines(console, columns, rows, right)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), show_header=heading)
    for name in columns:
        side: Any = "right" if name in right else "left"
        table.add_column(Text(name), overflow="fold", justify=side, no_wrap=name in right)
    for row in rows:
        table.add_row(*(Text(safe(text), style) for text, style in row))
    console.print(table)


def _lines(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[str]) -> None:
    """A line a row. Numbers and the columns of WHOLE stay whole; the widest of the others give way."""
    head: list[Cell] = [(name, "bold") for name in columns]
    cells = [[(safe(text), style) for text, style in row] for row in (head, *rows)]
    widths = [max(cell_len(row[n][0]) for row in cells) for n in range(len(columns))]
    others = [n for n, name in enumerate(columns) if name not in (*right, *WHOLE)]
    over = sum(widths) + 2 * (len(columns) - 1) - console.width
    while over > 0 and (n := max(others, key=lambda n: widths[n])) in others and widths[n] > LEAST:
        widths[n] -= 1
        over -= 1
    if over > 0 and "id" in columns:  # a long id, which `--json` and a pipe have whole
        widths[columns.index("id")] = max(LEAST, widths[columns.index("id")] - over)
    for row in cells:
        line = Text()
        for n, (text, style) in enumerate(row):
            shown = _cut(text, widths[n])
            space = " " * (widths[n] - cell_len(shown))
            line.append(space + shown if columns[n] in right else shown + space, style)
            line.append("  " if n < len(row) - 1 else "")
        line.rstrip()
        console.print(line, soft_wrap=True)


def _cut(text: str, width: int) -> str:
    """``text`` in ``width`` columns, with what says how long it was."""
    if cell_len(text) <= width:
        return text
    place = text.rfind("... (")
    tail = text[place:] if text.endswith(" characters)") and place > 0 and len(text) - place < width - 4 else "\u2026"
    while cell_len(text) + cell_len(tail) > width:
        text = text[: min(len(text) - 1, width)]
    return text + tail


def _plain(lines: list[list[str]], right: list[bool]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)] if lines else []
    for line in lines:
        cells: list[str] = []
        for text, width, numbers in zip(line, widths, right, strict=True):
            space = " " * (width - cell_len(text))
            cells.append(space + text if numbers else text + space)
        print("  ".join(cells).rstrip())


def say(text: str, style: str = "") -> None:
    """One line of plain text, whatever is in it, coloured in a terminal."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Text(safe(text), style), soft_wrap=True)
    else:
        print(safe(text))


def note(text: str) -> None:
    """A line beside the table."""
    say(text, "dim")


def time_of(ms: int | None) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    if ms is None:
        return ""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: bytes as {"base64": text}, datetimes and what is no finite number as text.

    An integer of more than 4,300 digits is its hexadecimal text, as over HTTP: Python writes none in decimal.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -DIGITS < value < DIGITS:
        return hex(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def print_json(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """JSON on one line, at once: a line an event."""
    print(json.dumps(plain(value), ensure_ascii=False), flush=True)


def plain_record(record: ExecutionRecord) -> dict[str, Any]:
    """A record for programs; its times stay milliseconds since 1970."""
    values: dict[str, Any] = plain(record.to_map())
    values["head"] = record.head.hex()
    return values


def print_runs(records: Sequence[ExecutionRecord], console: Console | None = None) -> None:
    """A line a run."""
    if not records:
        note("no runs")
        return
    terminal = (console or Console()).is_terminal
    rows = [
        [
            (record.id, "bold"), (f"{record.workflow} v{record.version}", ""), _status(record),
            (str(record.spent.get("tokens", 0)), ""), (str(record.cursor_length), ""), (_waiting(record), ""),
            (time_of(record.updated_at)[: 19 if terminal else None].replace("T", " " if terminal else "T"), "dim"),
        ]
        for record in records
    ]  # fmt: skip
    columns = ["id", "workflow", "status", "tokens", "commits", "waits for", "updated"]
    if terminal and (console or Console()).width < NARROW:  # ids and times whole: what show tells as well gives way
        rows = [[*row[:3], *row[5:]] for row in rows]
        columns = [*columns[:3], *columns[5:]]
    _table(columns, rows, right=("tokens", "commits"), one_line=True, console=console)


def runs_as_text(heading: str, records: Sequence[ExecutionRecord], console: Console) -> Text:
    """A heading and a line a run, as they are shown in a terminal again and again."""
    with console.capture() as shown:
        console.print(Text(safe(heading)), soft_wrap=True)
        if records:
            print_runs(records, console)
    return Text.from_ansi(shown.get())


def print_schedules(schedules: Sequence[Schedule]) -> None:
    """A line a schedule."""
    if not schedules:
        note("no schedules")
        return
    rows: list[list[Cell]] = [
        [
            (each.id, "bold"), (each.workflow, ""), (each.when.describe(), ""), (each.status, ""),
            (time_of(each.due), ""), (str(each.started), ""), (str(each.skipped), ""),
        ]
        for each in schedules
    ]  # fmt: skip
    columns = ["id", "workflow", "when", "status", "next", "started", "skipped"]
    _table(columns, rows, right=("started", "skipped"), one_line=True)


def print_schedule(schedule: Schedule) -> None:
    """All of a schedule, a field a line."""
    fields = {
        "id": schedule.id, "workflow": schedule.workflow, "when": schedule.when.describe(),
        "status": schedule.status, "next": time_of(schedule.due), "last": time_of(schedule.fired),
        "started": str(schedule.started), "skipped": str(schedule.skipped), "missed": time_of(schedule.missed),
        "overlap": schedule.overlap, "running": ", ".join(schedule.running), "waiting": schedule.waiting or "",
        "input": "" if schedule.input is None else _brief(schedule.input),
    }  # fmt: skip
    _table(["", ""], [[(name, "dim"), (text, "")] for name, text in fields.items() if text], heading=False)


def _status(record: ExecutionRecord) -> Cell:
    state = STATES.get(record.status)  # a server that is newer than this may know of others
    return record.status, "" if state is None else state.colour


def _waiting(record: ExecutionRecord) -> str:
    return ", ".join(record.waiting)


def print_record(
    record: ExecutionRecord, requests: Sequence[str] = (), held_up: str = "", trace: str | None = None
) -> None:
    """A run, a line a field; fields that say nothing are left out.

    ``requests`` wait to be taken up by an owner; ``held_up``: why the run does not go on; ``trace``: its trace.
    """
    spent = f"{record.spent.get('tokens', 0)} tokens, {record.spent.get('usd', 0.0)} usd"
    failure = f"{record.failure['type']}: {record.failure['message']}" if record.failure else ""
    fields: list[tuple[str, Cell]] = [
        ("id", (record.id, "bold")),
        ("workflow", (f"{record.workflow} version {record.version}", "")),
        ("status", _status(record)),
        ("waits for", (_waiting(record), "")),
        ("wakes at", (time_of(record.wake_at), "")),
        ("held up", (held_up, "red")),
        ("not taken up", (_not_taken(requests), "yellow")),
        ("parent", (record.parent or "", "")),
        ("attributes", (_brief(record.attributes) if record.attributes else "", "")),
        ("spent", (spent, "")),
        ("commits", (str(record.cursor_length), "")),
        ("generation", (str(record.generation) if record.generation else "", "")),
        ("attempt", (str(record.attempt), "")),
        ("trace", (trace or "", "dim")),
        ("owner", (record.owner or "", "")),
        ("epoch", (str(record.epoch) if record.epoch else "", "")),
        ("created", (time_of(record.created_at), "")),
        ("updated", (f"{time_of(record.updated_at)}, {duration(record.updated_at - record.created_at)} later", "")),
        ("handed over to", (record.moved_to or "", "")),
        ("result", (_brief(record.result) if record.status == "completed" else "", "")),
        ("failure", (failure, "red" if record.status == "failed" else "")),
    ]
    rows = [[(name, "dim"), cell] for name, cell in fields if cell[0]]
    _table(["", " "], rows, heading=False)


def _not_taken(requests: Sequence[str]) -> str:
    if not requests:
        return ""
    return (
        f"{', '.join(requests)}: no runtime that knows this workflow has taken it up; where one serves this store, "
        "its log and its GET /runs/ID say what keeps it"
    )


def _brief(value: Any) -> str:
    """``value`` as JSON on one line; in a terminal no more of it than is pleasant."""
    text = json.dumps(plain(value), ensure_ascii=False)
    if len(text) <= _TERMINAL_VALUE or not Console().is_terminal:
        return text
    return f"{text[:_TERMINAL_VALUE]}... ({len(text):,} characters)"


def plain_event(position: int, recorded: Recorded) -> dict[str, Any]:
    """An event for programs: its fields by name."""
    event = recorded.event
    fields = {name: plain(value) for name, value in zip(event._fields[1:], event[1:], strict=True)}
    return {
        "position": position, "commit": recorded.commit, "at": recorded.at, "event": events.name_of(event), **fields,
    }  # fmt: skip


def print_events(history: Sequence[Recorded]) -> None:
    """A line an event: when, how long after the one before, what, and how it came out."""
    rows: list[list[Cell]] = []
    before = history[0].at if history else 0
    terminal = Console().is_terminal
    if terminal and history:
        note(f"from {time_of(before)}, over {duration(history[-1].at - before)}")
    start = before
    for position, recorded in enumerate(history):
        event = recorded.event
        kind = events.KINDS[event[0]]
        shown = event[kind.value] if kind.value else None
        at = duration(recorded.at - start) if terminal else time_of(recorded.at)
        rows.append([
            (str(position), "dim"), (str(recorded.commit), "dim"), (at, "dim"),
            (f"+{duration(recorded.at - before)}", "" if recorded.at - before >= 1_000 else "dim"),
            (events.describe(event), kind.colour), ("" if shown is None else _value(event, shown), "dim"),
        ])  # fmt: skip
        before = recorded.at
    _table(["#", "commit", "time", "took", "event", "value"], rows, ("#", "commit", "time", "took"), one_line=True)


def print_event(recorded: Recorded, before: int) -> None:
    """One event on one line, at once; ``before``: the time of the one before it, ms since 1970."""
    event = recorded.event
    kind = events.KINDS[event[0]]
    shown = event[kind.value] if kind.value else None
    value = "" if shown is None else f"  {_value(event, shown)}"
    say(f"{time_of(recorded.at)}  +{duration(recorded.at - before)}  {events.describe(event)}{value}", kind.colour)
    sys.stdout.flush()


def _value(event: events.Event, value: Any) -> str:
    if isinstance(event, events.Drawn) and event.what == "now":
        return time_of(value)
    if isinstance(value, dict) and {"type", "message"} <= value.keys() <= {"type", "message", "code", "detail"}:
        return f"{value['type']}: {value['message']}"
    return _brief(value)


def print_diff(found: Diff) -> None:
    """The differences, a line a side."""
    if found.same:
        say(f"the same: {found.common} events", "green")
        return
    say(f"the first {found.common} events are the same")
    styles = {"-": "red", "+": "green", ">": "yellow", "=": "dim"}
    for sign, text in diff_lines(found):
        say(text, styles[sign])


def print_checks(results: Sequence[Checked]) -> None:
    """A line a history, and below it why it does not fit."""
    styles = {"ok": "green", "diverged": "bold red", "unknown": "yellow", "unreadable": "bold red"}
    for result in results:
        of = f", {result.run} of {result.workflow}" if result.run else ""
        say(f"{result.verdict:<10}  {result.name} ({result.events} events{of})", styles[result.verdict])
        for line in result.message.splitlines():
            say(f"            {line}")
        if result.mend:
            say(f"            to mend it: {result.mend}")
    if len(results) > 1:
        fit = sum(result.ok for result in results)
        say(f"{fit} of {len(results)} fit", "green" if fit == len(results) else "red")
