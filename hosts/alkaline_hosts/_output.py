"""How ``alkaline`` prints: tables in a terminal, aligned plain text when piped, JSON when asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alkaline_edge import ExecutionRecord, Recorded, divergence, events
from alkaline_edge.replay import Checked, Diff

_STATUS = {
    "running": "cyan", "suspended": "yellow", "completed": "green", "failed": "red", "paused": "magenta",
    "cancelled": "bright_black",
}  # fmt: skip
_PIPED_WIDTH = 10_000


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH, no_color=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def note(text: str) -> None:
    """A line beside the table."""
    _console().print(Text(text, style="dim"))


def time_of(ms: int | None) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: bytes as base64, datetimes as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def print_json(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain_record(record: ExecutionRecord) -> dict[str, Any]:
    """A record for programs; its times stay milliseconds since 1970."""
    values: dict[str, Any] = plain(record.to_map())
    values["head"] = record.head.hex()
    return values


def _status(record: ExecutionRecord) -> Text:
    return Text(record.status, style=_STATUS.get(record.status, ""))


def print_runs(records: Sequence[ExecutionRecord]) -> None:
    """A line a run."""
    if not records:
        note("no runs")
        return
    table = _table("id", "workflow", "status", "tokens", "commits", "waits for", "updated")
    for record in records:
        table.add_row(
            record.id, f"{record.workflow} v{record.version}", _status(record), str(record.spent.get("tokens", 0)),
            str(record.cursor_length), ", ".join(record.waiting), time_of(record.updated_at),
        )  # fmt: skip
    _console().print(table)


def print_record(record: ExecutionRecord) -> None:
    """A run, a line a field; fields that say nothing are left out."""
    table = _table("", "")
    table.show_header = False
    spent = f"{record.spent.get('tokens', 0)} tokens, {record.spent.get('usd', 0.0)} usd"
    rows: list[tuple[str, Any]] = [
        ("id", record.id), ("workflow", f"{record.workflow} version {record.version}"), ("status", _status(record)),
        ("waits for", ", ".join(record.waiting)), ("wakes at", time_of(record.wake_at)), ("parent", record.parent),
        ("attributes", _brief(record.attributes) if record.attributes else None), ("spent", spent),
        ("commits", str(record.cursor_length)), ("attempt", str(record.attempt)), ("owner", record.owner),
        ("epoch", str(record.epoch)), ("created", time_of(record.created_at)), ("updated", time_of(record.updated_at)),
        ("handed over to", record.moved_to),
        ("result", _brief(record.result) if record.status == "completed" else None),
        ("failure", f"{record.failure['type']}: {record.failure['message']}" if record.failure else None),
    ]  # fmt: skip
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="bold"), value)
    _console().print(table)


def _brief(value: Any, limit: int = 2_000) -> str:
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def plain_event(position: int, recorded: Recorded) -> dict[str, Any]:
    """An event for programs: its fields by name."""
    event = recorded.event
    fields = {name: plain(value) for name, value in zip(event._fields[1:], event[1:], strict=True)}
    return {
        "position": position, "commit": recorded.commit, "at": recorded.at, "event": events.name_of(event), **fields,
    }  # fmt: skip


def print_events(history: Sequence[Recorded]) -> None:
    """A line an event: when since the start, what, and how it came out."""
    table = _table("#", "commit", "time", "event", "value")
    start = history[0].at if history else 0
    for position, recorded in enumerate(history):
        event = recorded.event
        shown = next((getattr(event, n) for n in _VALUES if hasattr(event, n)), None)
        style = "red" if "failed" in divergence.describe(event) else ""
        table.add_row(
            str(position), str(recorded.commit), _since(recorded.at - start), Text(divergence.describe(event), style),
            "" if shown is None else _brief(shown, 120),
        )  # fmt: skip
    _console().print(table)


_VALUES = ("value", "failure", "payload", "input", "data", "reason")


def _since(ms: int) -> str:
    seconds = ms / 1000
    if seconds < 60:
        return f"+{seconds:.3f} s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"+{hours}:{minutes:02d}:{rest:06.3f}"


def print_diff(found: Diff) -> None:
    """The differences, a line a side."""
    if found.same:
        note(f"the same: {found.common} events")
        return
    console = _console()
    console.print(f"the first {found.common} events are the same")
    for change in found.changes:
        for sign, style, position, text in (
            ("-", "red", change.a, change.text_a),
            ("+", "green", change.b, change.text_b),
        ):
            if text is not None:
                console.print(Text(f"{sign} {position:>5}  {text}", style=style))


def print_checks(results: Sequence[Checked]) -> None:
    """A line a history, and below it why it does not fit."""
    console = _console()
    styles = {"ok": "green", "diverged": "red", "unknown": "yellow", "unreadable": "red"}
    for result in results:
        line = Text(f"{result.verdict:<10}", style=styles[result.verdict])
        console.print(line.append(f" {result.name} ({result.events} events)", style="default"))
        if result.message:
            console.print(Text(result.message), soft_wrap=True)
