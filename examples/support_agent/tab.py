"""The support agent in a page: its run in IndexedDB, the model's words as they come, and two buttons that decide."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import js
import support
from pyodide.ffi import create_proxy

from alkaline_edge import Followed, Runtime
from alkaline_edge.errors import NotFound
from alkaline_hosts.indexeddb import IndexedDBHost
from alkaline_hosts.pydantic_ai import pending_events, resolve_event

RUN = "support"
window: Any = js


class Page(support.Place):
    """The page shows what is to be decided by itself."""

    async def requested(self, number: int) -> None:
        """Tell the journal, where the address names one: a test's, that counts."""
        if os.environ["JOURNAL"]:
            await window.fetch(f"{os.environ['JOURNAL']}?request {number}")


support.place = Page()


def shown(id: str) -> Any:
    """An element of the page."""
    return window.document.getElementById(id)


def on_click(id: str, does: Any) -> None:
    """Run an async function where a button is pressed."""
    shown(id).addEventListener("click", create_proxy(lambda _: asyncio.ensure_future(does())))


async def decide(runtime: Runtime, yes: bool) -> None:
    """The answer to what is asked."""
    for each in await pending_events(runtime, RUN):
        await resolve_event(runtime, each["token"], yes)


async def watch(runtime: Runtime) -> None:
    """The run's history as it grows, and between its events what the model is saying."""
    async for each in runtime.follow(RUN, live=True):
        if isinstance(each, Followed):
            line = window.document.createElement("li")
            line.textContent = f"{type(each.event).__name__} {getattr(each.event, 'name', '')}"
            shown("history").append(line)
        elif each.topic == "text":  # other topics are of who traces
            shown("words").append(each.data)


async def tell(runtime: Runtime) -> None:
    """How the run stands, and what is to be decided."""
    while True:
        record = await runtime.get_execution(RUN)
        waits = await pending_events(runtime, RUN)
        shown("what").textContent = "; ".join(each["message"] for each in waits)
        shown("decide").hidden = not waits
        shown("status").textContent = str(record.result) if record.finished else record.status
        if record.finished:
            return
        await asyncio.sleep(0.2)


async def main() -> None:
    """Go on with the run of an earlier visit, or wait for the button."""
    runtime = Runtime(IndexedDBHost("support"), workflows=[support.help_out])
    serving = asyncio.ensure_future(runtime.serve())
    on_click("yes", lambda: decide(runtime, True))
    on_click("no", lambda: decide(runtime, False))
    pressed = asyncio.Event()
    shown("ask").addEventListener("click", create_proxy(lambda _: pressed.set()))
    try:
        await runtime.get_execution(RUN)
    except NotFound:
        shown("ask").disabled = False
        shown("status").textContent = "ready"
        await pressed.wait()
        shown("ask").disabled = True
        await runtime.start(support.help_out, "Please refund order 7", id=RUN)
    await asyncio.gather(watch(runtime), tell(runtime), serving)
