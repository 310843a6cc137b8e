"""``alkaline purge`` and ``alkaline retention``: runs that ended long ago."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import click

from alkaline_edge import Runtime
from alkaline_edge.errors import InvalidInput
from alkaline_edge.retention import Retention, Rule
from alkaline_edge.runs import FINISHED

from . import output
from .addresses import Address
from .moving import asking
from .rooms import Room
from .shell import AS_JSON, on_store, opened_to_write, reading, reported, writing

_PAGE = 500
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_STATUS = click.option("--status", type=click.Choice(sorted(FINISHED)), help="Only runs that ended so.")
_WORKFLOW = click.option("--workflow", help="Only runs of this workflow.")
_AGE = click.option(
    "--older-than", "age", required=True, metavar="TIME", help="Runs that ended so long ago: 30d, 12h, 90m, 45s."
)
_ROOM = Room("rules of retention", Retention)
_Page = tuple[list[str], dict[str, str], str | None]


@click.command("purge")
@_AGE
@_STATUS
@_WORKFLOW
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
@click.option("--archive", metavar="URL", help="Store the runs in this store first.")
@AS_JSON
@reported
@on_store()
def purge(store: Address, age: str, dry_run: bool, archive: str | None, as_json: bool, **only: str | None) -> None:
    """Delete runs that ended long ago, with all that belongs to them; docs/retention.md says what stays."""
    seconds = _seconds(age, "--older-than")
    if not store.is_server:
        reading(store, lambda runtime: runtime.list_executions(limit=1))  # one that is not there is not created
        runs, kept = (reading if dry_run else writing)(store, _in_store(store, seconds, dry_run, archive, only))
    elif archive is None:

        async def ask(server: Any) -> tuple[list[str], dict[str, str]]:
            async def page(after: str) -> _Page:
                found = await server.purge(seconds, dry_run=dry_run, after=after, limit=_PAGE, **only)
                return found["runs"], found["kept"], found["after"]

            return await _every(page)

        runs, kept = asking(store, ask)
    else:
        raise InvalidInput("--archive wants a store on both sides, and a server's URL was given: name its store")
    if as_json:
        output.print_json({"runs": runs, "kept": kept, "dry_run": dry_run})
        return
    for id, why in kept.items():
        output.note(f"{id}: kept: {why}")
    for id in runs if dry_run else ():
        output.say(id)
    output.say(f"{len(runs):,} {'would go' if dry_run else 'are deleted'}, {len(kept):,} are kept")


def _in_store(
    store: Address, seconds: int, dry_run: bool, archive: str | None, only: dict[str, str | None]
) -> Callable[[Runtime], Any]:
    async def work(runtime: Runtime) -> tuple[list[str], dict[str, str]]:
        host = None if archive is None or dry_run else opened_to_write(store._replace(url=archive))

        async def page(after: str) -> _Page:
            found = await runtime.purge(seconds, dry_run=dry_run, after=after, limit=_PAGE, archive=host, **only)
            return found.runs, found.kept, found.after

        try:
            return await _every(page)
        finally:
            if host is not None:
                await host.close()

    return work


async def _every(page: Callable[[str], Awaitable[_Page]]) -> tuple[list[str], dict[str, str]]:
    runs, kept = list[str](), dict[str, str]()
    after: str | None = ""
    while after is not None:
        gone, left, after = await page(after)
        runs += gone
        kept |= left
    return runs, kept


@click.group("retention")
def retention() -> None:
    """List, make and delete the rules by which runs that have ended are purged.

    They are kept by alkaline serve, and by any process that makes a Retention of its Runtime.
    """


@retention.command("list")
@AS_JSON
@reported
@on_store()
def list_(store: Address, as_json: bool) -> None:
    """List the rules of a store, by name, and what they have purged."""
    rules: list[Rule] = _ROOM.read(store, lambda there: there.list())
    if as_json:
        output.print_json([rule.to_map() for rule in rules])
        return
    for rule in rules:
        _say(rule)
    if not rules:
        output.note("no rules")


@retention.command("set")
@_AGE
@_STATUS
@_WORKFLOW
@click.option("--every", default="1h", show_default=True, metavar="TIME", help="How often is looked after it.")
@AS_JSON
@reported
@on_store("RULE")
def set_(store: Address, rule: str, age: str, every: str, as_json: bool, **only: Any) -> None:
    """Make a rule, or change one that is there."""
    least, pause = _seconds(age, "--older-than"), _seconds(every, "--every")
    made: Rule = _ROOM.write(store, lambda there: there.set(rule, least, every=pause, **only))
    output.print_json(made.to_map()) if as_json else _say(made)


@retention.command("delete")
@AS_JSON
@reported
@on_store("RULE")
def delete(store: Address, rule: str, as_json: bool) -> None:
    """Delete a rule; what it has purged stays gone."""
    _ROOM.change(store, lambda there: there.list(), lambda there: there.delete(rule))
    output.print_json({"rule": rule, "deleted": True}) if as_json else output.say(f"{rule}: deleted")


def _say(rule: Rule) -> None:
    only = " ".join(each for each in (rule.status, rule.workflow) if each is not None)
    where, when = (
        " to the archive" if rule.archive else "",
        f"{_shown(rule.older_than)} ago, every {_shown(rule.every)}",
    )
    output.say(f"{rule.name}: {only or 'all'} runs that ended {when}{where}; {rule.purged:,} are purged")
    for id, why in rule.kept.items():
        output.note(f"  {id}: kept: {why}")


def _seconds(text: str, option: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII)
    if found is None:
        raise InvalidInput(f"{option} is a whole number with its unit, such as 30d, 12h, 90m or 45s, not {text[:60]!r}")
    return int(found[1]) * _UNITS[found[2]]


def _shown(ms: int) -> str:
    seconds = ms // 1000
    unit = next((unit for unit in "dhm" if seconds and seconds % _UNITS[unit] == 0), "s")
    return f"{seconds // _UNITS[unit]}{unit}"
