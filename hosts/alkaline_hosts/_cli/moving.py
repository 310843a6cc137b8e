"""The commands of ``alkaline`` that reach over a network: handover, sync, and parts of export and import."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import click

from alkaline_edge import InvalidInput, Peer, Runtime, hand_over, sync
from alkaline_edge.runtime.syncing import Synced

from .._http.runs import RunsApi
from .._http.verbs import RunVerbs
from ..remote import Remote
from . import output
from .shell import AS_JSON, on_store, opened_to_read, opened_to_write, reported, showing, writing_to_run
from .stores import Store

_SECRETS = """Over http(s), ALKALINE_TOKEN holds the bearer token, or ALKALINE_KEY a key for signed requests, as
NAME:SECRET; ALKALINE_SOURCE_TOKEN, ALKALINE_TARGET_TOKEN and so on where the two sides want different ones. So for
sealed stores: ALKALINE_SOURCE_KEYS, empty where that side is not sealed, and ALKALINE_SOURCE_TENANT."""


def is_remote(store: Store) -> bool:
    """Whether ``store`` is a server."""
    return store.url.startswith(("http://", "https://"))


def remote(url: str, side: str = "") -> Remote:
    """The runs behind ``url``, asked with the secret in the environment: a command line is seen by others."""

    def found(name: str) -> str | None:
        return os.environ.get(f"ALKALINE_{side}_{name}") or os.environ.get(f"ALKALINE_{name}") or None

    token, key = found("TOKEN"), found("KEY")
    if key is not None and token is None:
        name, sign, secret = key.partition(":")
        if not sign:
            raise InvalidInput("ALKALINE_KEY is a key's name and its secret: NAME:SECRET")
        return Remote(url, key=(name, secret))
    if token is None:
        raise InvalidInput(f"{url} wants to know who asks: set ALKALINE_TOKEN or ALKALINE_KEY")
    return Remote(url, token=token)


def asking(store: Store, ask: Callable[[Remote], Awaitable[Any]]) -> Any:
    """What ``ask`` returns of the server that ``store`` is."""

    async def work() -> Any:
        async with remote(store.url) as server:
            return await ask(server)

    return asyncio.run(work())


def at_run(store: Store, run: str, ask: Callable[[RunVerbs], Coroutine[Any, Any, Any]]) -> Any:
    """What ``ask`` returns of the verbs over the runs of ``store``: a server's, or those of a store that is there."""
    if is_remote(store):
        return asking(store, ask)
    return writing_to_run(store, run, lambda runtime: ask(RunsApi(runtime)))


@contextlib.asynccontextmanager
async def _side(store: Store, side: str, write: bool) -> AsyncIterator[Runtime | Peer]:
    if is_remote(store):
        async with remote(store.url, side) as server:
            yield server
        return
    store = store.on(side)
    host = opened_to_write(store) if write else opened_to_read(store)
    try:
        async with Runtime(host, codec=showing()) as runtime:
            yield runtime
    finally:
        await host.close()


def _there(store: Store, run: str, target: Store) -> None:
    """ERR_NOT_FOUND where the source is a store or a run that is not there, before anything is created."""
    if store.url == target.url:
        raise InvalidInput("source and target are the same store")
    if is_remote(store):
        return

    async def look() -> None:
        host = opened_to_read(store.on("SOURCE"))
        try:
            async with Runtime(host, codec=showing()) as runtime:
                await runtime.get_execution(run)
        finally:
            await host.close()

    asyncio.run(look())


@click.command(epilog=_SECRETS)
@AS_JSON
@reported
@on_store("RUN", "TARGET")
def handover(store: Store, run: str, target: str, as_json: bool) -> None:
    """Move a run to TARGET, a store or the http(s) URL of a server: it is frozen here and goes on there.

    Interrupted at any point, the same command goes on from there, and the run is never advanced on both sides.
    """
    there = store._replace(url=target)
    _there(store, run, there)

    async def work() -> Any:
        async with _side(store, "SOURCE", True) as a, _side(there, "TARGET", True) as b:
            return await hand_over(a, run, b)

    place = asyncio.run(work())
    if as_json:
        output.print_json({"run": run, "commits": place.length, "head": place.head.hex(), "status": place.status})
    else:
        output.say(f"{run}: handed over, {place.length:,} commits; it goes on there ({place.status})")


@click.command("sync", epilog=_SECRETS)
@AS_JSON
@reported
@on_store("RUN", "TARGET")
def sync_(store: Store, run: str, target: str, as_json: bool) -> None:
    """Bring TARGET's copy of a run up to date, sending only what it lacks; refused where that is no fast-forward."""
    there = store._replace(url=target)
    _there(store, run, there)

    async def work() -> Synced:
        async with _side(store, "SOURCE", False) as a, _side(there, "TARGET", True) as b:
            return await sync(a, b, run)

    done = asyncio.run(work())
    place = done.place
    if as_json:
        output.print_json({"run": run, "commits": place.length, "head": place.head.hex(), "sent": done.sent})
    else:
        output.say(f"{run}: {place.length:,} commits there, {done.sent:,} bytes were sent")
