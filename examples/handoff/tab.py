"""What runs in the tab: the run begins on IndexedDB, and is handed over to the Worker across the network."""

from __future__ import annotations

import json

from agent import journey

from alkaline_edge import Runtime, hand_over, sync
from alkaline_hosts.indexeddb import IndexedDBHost
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.remote import Remote


async def first_stop(config_text: str) -> str:
    """Start the run, do the first stop's work, hand the run over; where it stood here and there, as JSON."""
    config = json.loads(config_text)
    host = IndexedDBHost("handoff")
    async with Runtime(host, workflows=[journey]) as runtime:
        run = await runtime.start("journey", config["stops"], id=config["run"], on_conflict="join")
        await run.settle()
        # A copy that nobody advances, to show that a tab can keep one, or send one anywhere, at any time.
        copy = (await sync(runtime, Runtime(MemoryHost()), run.id)).place
        there = await hand_over(runtime, run.id, Remote(config["edge"], token=config["token"]))
        moved_to = (await runtime.get_execution(run.id)).moved_to
    await host.close()
    return json.dumps({
        "copy": [copy.length, copy.head.hex()], "there": [there.length, there.head.hex()], "moved_to": moved_to,
    })  # fmt: skip
