"""``alkaline list`` and ``alkaline top``: the runs of a store, the newest first, and what goes on in it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import click
from rich.console import Console
from rich.live import Live

from alkaline_edge import ExecutionRecord, InvalidInput
from alkaline_edge.runs import STATUSES

from .._http.parameters import attribute
from . import output
from .addresses import Address
from .looking import Listed, all_of, page_of
from .shell import AS_JSON, on_store, reported

_AGE = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TOP_STATES = ("running", "suspended", "paused", "failed")
"""What ``top`` shows; the rest is counted."""


@click.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only runs in this state.")
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="Only runs with this attribute.")
@click.option("--roots", is_flag=True, help="Only runs that no other run has started.")
@click.option("--since", metavar="TIME", help="Only runs of since then, by --by: 90m, 12h, 3d, or 2026-11-27T03:00Z.")
@click.option(
    "--by", type=click.Choice(["updated", "created", "id"]), default="updated", show_default=True,
    help="The order. By a time the newest are first, and every run that matches is read; by id only those shown are.",
)  # fmt: skip
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--after", default="", help="By id: go on behind this place, which an earlier page gave.")
@AS_JSON
@reported
@on_store()
def list_(
    store: Address,
    status: str | None,
    workflow: str | None,
    attributes: Sequence[str],
    roots: bool,
    since: str | None,
    by: str,
    limit: int,
    after: str,
    as_json: bool,
) -> None:
    """List the runs of a store, the newest first, and how many there are in each state."""
    wanted = dict(attribute(text, "--attribute") for text in attributes) or None
    if by == "id":
        if roots or since is not None:
            raise InvalidInput("--roots and --since are for a list by time: leave out --by id")
        _print_page(page_of(store, status, workflow, wanted, after, limit), as_json)
        return
    if after:
        raise InvalidInput("--after is for a list by id, which has pages: add --by id")
    earliest = None if since is None else _time(since)
    found = all_of(store, status, workflow, wanted)

    def time_of(record: ExecutionRecord) -> int:
        return record.created_at if by == "created" else record.updated_at

    chosen = [
        (n, record)
        for n, record in enumerate(found.records)
        if (earliest is None or time_of(record) >= earliest) and not (roots and record.parent is not None)
    ]
    chosen.sort(key=lambda one: (-time_of(one[1]), one[1].id))
    counts = Counter[str](record.status for _, record in chosen)
    shown = chosen[:limit]
    if as_json:
        raw = found.from_server["runs"] if found.from_server else None
        runs = [output.plain_record(record) if raw is None else raw[n] for n, record in shown]
        output.print_json({"runs": runs, "after": None, "counts": dict(counts), "unreadable": sorted(found.left_out)})
        return
    output.print_runs([record for _, record in shown])
    _notes(found)
    if Console().is_terminal and chosen:
        output.note(counted(counts))
    if len(shown) < len(chosen):
        output.note(f"{len(shown):,} of {len(chosen):,}: more with --limit, --since, --status, or by id with --by id")


def _print_page(page: Listed, as_json: bool) -> None:
    if as_json:
        runs = [output.plain_record(record) for record in page.records]
        found = {"runs": runs, "after": page.after}
        output.print_json(
            page.from_server or ({**found, "unreadable": sorted(page.left_out)} if page.left_out else found)
        )
        return
    output.print_runs(page.records)
    _notes(page)
    if page.after is not None:
        output.note(f"more: --after {page.after}")


def _notes(page: Listed) -> None:
    for id, why in page.left_out.items():
        output.note(f"{id}: left out: {why}")


def counted(counts: Counter[str]) -> str:
    """How many runs there are in each state, in words."""
    states = [*STATUSES, *sorted(set(counts) - set(STATUSES))]
    each = [f"{counts[status]:,} {status}" for status in states if counts[status]]
    return f"{sum(counts.values()):,} runs: {', '.join(each)}"


def _time(text: str) -> int:
    """Since when, in ms since 1970."""
    found = _AGE.fullmatch(text)
    if found is not None:
        return round((time.time() - int(found[1]) * _SECONDS[found[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(f"--since is so long ago, as 90m, 12h or 3d, or a time as 2026-11-27T03:00Z, not {text[:40]!r}")


# --- live -----------------------------------------------------------------------------------------------------------
class _Moment(NamedTuple):
    counts: Counter[str]
    shown: list[ExecutionRecord]
    left_out: int


@click.command()
@click.option(
    "--every", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds between looks."
)
@click.option("--once", is_flag=True, help="Look once; so it does where the output is no terminal.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="So many runs are shown.")
@AS_JSON
@reported
@on_store()
def top(store: Address, every: float, once: bool, limit: int, as_json: bool) -> None:
    """Show what goes on in a store, again and again: runs by state, those that changed last first. Ctrl-C ends it."""
    if as_json:
        moment = _moment(store, limit)
        runs = [output.plain_record(record) for record in moment.shown]
        output.print_json({"counts": dict(moment.counts), "runs": runs, "left_out": moment.left_out})
        return
    console = Console(highlight=False)
    if once or not console.is_terminal:
        moment = _moment(store, limit)
        output.say(_heading(moment))
        output.print_runs(moment.shown)
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            moment = _moment(store, min(limit, max(1, console.height - 4)))
            live.update(output.runs_as_text(_heading(moment), moment.shown, console), refresh=True)
            time.sleep(every)


def _moment(store: Address, limit: int) -> _Moment:
    found = all_of(store, None, None, None)
    live = sorted(
        (record for record in found.records if record.status in TOP_STATES),
        key=lambda record: (TOP_STATES.index(record.status), -record.updated_at, record.id),
    )
    return _Moment(Counter[str](record.status for record in found.records), live[:limit], len(found.left_out))


def _heading(moment: _Moment) -> str:
    apart = f"; {moment.left_out:,} can't be read" if moment.left_out else ""
    return f"{output.time_of(round(time.time() * 1000))[:19]}Z  {counted(moment.counts)}{apart}"
