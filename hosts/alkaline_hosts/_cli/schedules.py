"""``alkaline schedules``: what is started by the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import click

from alkaline_edge.errors import InvalidInput
from alkaline_edge.triggers import Cron, Every, Schedule, SchedulePage, Triggers
from alkaline_edge.triggers.schedule import OVERLAPS

from .._http.json import from_json
from . import output
from .addresses import Address
from .moving import asking
from .rooms import Room
from .shell import AS_JSON, on_store, reported

_MANY = 1_000
_ROOM = Room("schedules", Triggers)


@click.group("schedules")
def schedules() -> None:
    """List, make and change the schedules of a store: what starts runs by the clock.

    They are driven by alkaline serve, and by any process that makes a Triggers of its Runtime.
    """


@schedules.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MANY))
@click.option("--after", default="", help="Go on behind this one, which an earlier page gave.")
@AS_JSON
@reported
@on_store()
def list_(store: Address, limit: int, after: str, as_json: bool) -> None:
    """List the schedules of a store, by id."""
    if store.is_server:
        given = asking(store, lambda server: server.schedules(after, limit))
        page = SchedulePage([Schedule.from_map(each) for each in given["schedules"]], given["after"])
    else:
        page = _ROOM.read(store, lambda triggers: triggers.list(after, limit))
    if as_json:
        output.print_json({"schedules": [_plain(each) for each in page], "after": page.after})
        return
    output.print_schedules(page.items)
    if page.after is not None:
        output.note(f"more: --after {page.after}")


@schedules.command("show")
@AS_JSON
@reported
@on_store("SCHEDULE")
def show(store: Address, schedule: str, as_json: bool) -> None:
    """Show one schedule: when it ticks, what it started, what it waits for."""
    _print(_ROOM.read(store, lambda triggers: triggers.get(schedule)), as_json)


@schedules.command("create")
@click.option("--cron", metavar="EXPRESSION", help='Five fields, or six with seconds before them: "30 3 * * 1-5".')
@click.option("--zone", default="UTC", show_default=True, help="The time zone of --cron, such as Europe/Riga.")
@click.option("--every", type=float, metavar="SECONDS", help="In place of --cron: an interval.")
@click.option("--input", "given", metavar="JSON", help="The input of each run.")
@click.option("--overlap", type=click.Choice(OVERLAPS), default="skip", show_default=True, help="While a run goes on.")
@click.option("--catch-up", type=float, default=86_400, show_default=True, metavar="SECONDS", help="Of missed ticks.")
@click.option("--jitter", type=float, default=0, show_default=True, metavar="SECONDS", help="Start up to so late.")
@click.option("--ends-at", metavar="TIME", help="No tick behind it: ISO 8601 with an offset.")
@click.option("--max-runs", type=click.IntRange(1), help="No more than so many.")
@click.option("--replace", is_flag=True, help="Give a schedule that is there these settings.")
@AS_JSON
@reported
@on_store("SCHEDULE", "WORKFLOW")
def create(
    store: Address,
    schedule: str,
    workflow: str,
    cron: str | None,
    zone: str,
    every: float | None,
    given: str | None,
    ends_at: str | None,
    replace: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make a schedule that starts WORKFLOW."""
    if (cron is None) == (every is None):
        raise InvalidInput("say when, by --cron or by --every, and not by both")
    when = Cron(cron, zone) if cron is not None else Every(every or 0)
    value = None if given is None else from_json(given, "--input", python=True)
    end, there = None if ends_at is None else _time(ends_at, "--ends-at"), "replace" if replace else "reject"
    made = _ROOM.write(
        store,
        lambda triggers: triggers.create(schedule, workflow, when, value, ends_at=end, on_conflict=there, **settings),
    )
    _print(made, as_json)


def _verb(name: str, help: str, does: Callable[[Triggers, str], Awaitable[Any]], said: str) -> None:
    """A command of a schedule and nothing more."""

    @schedules.command(name, help=help)
    @AS_JSON
    @reported
    @on_store("SCHEDULE")
    def command(store: Address, schedule: str, as_json: bool) -> None:
        _change(store, schedule, lambda triggers: does(triggers, schedule))
        _said(as_json, schedule, said)


_verb("pause", "Start nothing until it is resumed.", Triggers.pause, "paused; what is due meanwhile is left out")
_verb("resume", "Go on with the next tick.", Triggers.resume, "goes on with its next tick")
_verb("end", "Never start anything again; the schedule stays to be looked at.", Triggers.end, "ended")
_verb("delete", "Delete a schedule; its runs stay.", Triggers.delete, "deleted")


@schedules.command("trigger")
@click.option("--dedupe", help="The same key starts one run, however often it is sent.")
@AS_JSON
@reported
@on_store("SCHEDULE")
def trigger(store: Address, schedule: str, dedupe: str | None, as_json: bool) -> None:
    """Start a run now, whatever the clock says."""
    run = _change(store, schedule, lambda triggers: triggers.trigger(schedule, dedupe))
    _said(as_json, schedule, f"run {run} is started by whoever drives schedules", run=run)


@schedules.command("backfill")
@click.option("--beside", is_flag=True, help="All side by side, and not one after the other.")
@AS_JSON
@reported
@on_store("SCHEDULE", "FROM", "TO")
def backfill(store: Address, schedule: str, beside: bool, as_json: bool, **given: str) -> None:
    """Start the ticks FROM a time TO another, ISO 8601 with an offset, that were not started."""
    start, end = _time(given["from"], "FROM"), _time(given["to"], "TO")
    overlap = "allow" if beside else "buffer"
    _change(store, schedule, lambda triggers: triggers.backfill(schedule, start, end, overlap=overlap))
    _said(as_json, schedule, "its ticks of that time are started by whoever drives schedules")


def _change(store: Address, schedule: str, does: Callable[[Triggers], Awaitable[Any]]) -> Any:
    return _ROOM.change(store, lambda triggers: triggers.get(schedule), does)


def _time(text: str, what: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput(f"{what} is a time with an offset, such as 2026-12-01T03:00:00Z, not {text[:60]!r}")
    return found


def _plain(schedule: Schedule) -> dict[str, Any]:
    return {**schedule.to_map(), "when": schedule.when.describe()}


def _print(schedule: Schedule, as_json: bool) -> None:
    if as_json:
        output.print_json(_plain(schedule))
    else:
        output.print_schedule(schedule)


def _said(as_json: bool, schedule: str, text: str, **found: str) -> None:
    if as_json:
        output.print_json({"schedule": schedule, **found, "recorded": True})
    else:
        output.say(f"{schedule}: {text}")
