"""``alkaline learned``: what the processes of a store have learned of their steps."""

from __future__ import annotations

import click

from alkaline_edge.runtime.remembering import Memory

from . import output
from .addresses import Address
from .rooms import Room
from .shell import AS_JSON, on_store, reported

_ROOM = Room("what was learned", lambda runtime: Memory(runtime.store))


@click.command("learned")
@AS_JSON
@reported
@on_store()
def learned(store: Address, as_json: bool) -> None:
    """Show what was learned of each step: how many at once, and how long one takes."""
    found = sorted(_ROOM.read(store, lambda memory: memory.load()))
    if as_json:
        output.print_json([each._asdict() for each in found])
        return
    for each in found:
        takes = "" if each.expected is None else f", {each.expected / 1000:.3g} s each"
        output.say(f"{each.name}: {each.limit:.3g} at once{takes}, {output.time_of(each.at)}")
    if not found:
        output.note("nothing was learned")
