"""A store that somebody has changed behind the kernel's back: what is read of it is refused, or is what was written."""

from __future__ import annotations

from random import Random
from typing import Any

from alkaline_edge import AlkalineError, Runtime
from alkaline_edge.host import Capabilities, Entry
from alkaline_edge.runtime.moved import ARRIVING
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.testing.simulated import SimulatedStore

WAYS = ("flip", "swap", "drop", "copy")


async def tried(store: SimulatedStore, limits: Capabilities, random: Random, flows: list[Any]) -> list[str]:
    """What is wrong: a history that reads as another one than was written."""
    histories = [key for key in store.keys if key[:2] in ("h/", "s/")]
    if not histories:
        return []
    changed = SimulatedStore()
    changed.entries, changed.keys = dict(store.entries), list(store.keys)
    key, way = random.choice(histories), random.choice(WAYS)
    value = changed.entries[key].value
    if way == "flip":
        at = random.randrange(len(value))
        value = value[:at] + bytes([value[at] ^ (1 << random.randrange(8))]) + value[at + 1 :]
    elif way in ("swap", "copy"):
        other = random.choice(histories)
        if way == "swap":
            changed.entries[other] = Entry(other, value, "0" * 16)
        value = store.entries[other].value
    if way == "drop":
        del changed.entries[key]
        changed.keys.remove(key)
    else:
        changed.entries[key] = Entry(key, value, "0" * 16)
    sound, touched = (Runtime(SimulatedHost(one, capabilities=limits), workflows=flows) for one in (store, changed))
    wrong: list[str] = []
    for record in (await sound.list_executions(limit=200)).items:
        if record.moved_to == ARRIVING:
            continue
        was = [(one.at, one.event) for one in await sound.history(record.id)]
        try:
            now = [(one.at, one.event) for one in await touched.history(record.id)]
        except AlkalineError:
            continue
        if now != was:
            wrong.append(f"a {way} of {key} went unnoticed: {record.id} reads {now!r:.200} and was {was!r:.200}")
    return wrong
