"""``alkaline budget``: named budgets that runs share."""

from __future__ import annotations

from typing import Any

import click

from alkaline_edge.capacity import Budgets, SharedBudget

from . import output
from .addresses import Address
from .moving import at_run
from .rooms import Room
from .shell import AS_JSON, on_store, reported

_ROOM = Room("budgets", Budgets)


@click.group("budget")
def budget() -> None:
    """Look at the named budgets of a store, set them, and top them up. A run's own: alkaline top-up."""


@budget.command("show")
@AS_JSON
@reported
@on_store("BUDGET")
def show(store: Address, budget: str, as_json: bool) -> None:
    """Show what a budget allows, and what is spent and reserved of it."""
    _print(_ROOM.read(store, lambda budgets: budgets.state(budget)), as_json)


@budget.command("set")
@click.option("--tokens", type=int, help="No limit without.")
@click.option("--usd", type=float, help="No limit without.")
@click.option("--warn", type=float, metavar="SHARE", help="Warn from this share of it on, such as 0.8.")
@AS_JSON
@reported
@on_store("BUDGET")
def set_(store: Address, budget: str, as_json: bool, **limits: Any) -> None:
    """Make a budget, or give one that is there other limits; what was spent stands."""
    _print(_ROOM.write(store, lambda budgets: budgets.set(budget, **limits)), as_json)


@budget.command("top-up")
@click.option("--tokens", type=int, default=0)
@click.option("--usd", type=float)
@click.option("--key", help="The same key counts once, however often it is sent.")
@AS_JSON
@reported
@on_store("BUDGET")
def top_up(store: Address, budget: str, as_json: bool, **given: Any) -> None:
    """Add to a budget, and let the runs go on that wait for it."""
    found = _ROOM.change(store, lambda budgets: budgets.state(budget), lambda budgets: budgets.top_up(budget, **given))
    _print(found, as_json)


@click.command("top-up")
@click.option("--tokens", type=int)
@click.option("--usd", type=float)
@click.option("--seconds", type=float)
@click.option("--key", help="The same key counts once, however often it is sent.")
@AS_JSON
@reported
@on_store("RUN")
def top_up_run(store: Address, id: str, key: str | None, as_json: bool, **given: float | None) -> None:
    """Raise the limits of a run's own budget: one that waits for that goes on, one that failed for it by retry."""
    amounts = {name: amount for name, amount in given.items() if amount is not None}
    at_run(store, id, lambda runs: runs.top_up(id, amounts, key))
    if as_json:
        output.print_json({"run": id, "recorded": True})
    else:
        output.say(f"{id}: topped up; it takes that when a runtime goes on with it")


def _print(found: SharedBudget, as_json: bool) -> None:
    if as_json:
        output.print_json(found.to_map())
        return
    tokens, money = found.limits
    limits = [f"{tokens:,} tokens"] if tokens is not None else []
    limits += [f"{money / 1_000_000:g} usd"] if money is not None else []
    used = f"{found.used(0):,} tokens and {found.used(1) / 1_000_000:g} usd are spent or reserved"
    waits = f", {len(found.waiting)} runs wait" if found.waiting else ""
    output.say(f"{found.name}: {', '.join(limits) or 'no limit'}; {used}{waits}")
