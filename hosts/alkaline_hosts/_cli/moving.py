"""The commands of ``alkaline`` that move runs, handover and sync, and how every command reaches a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import click

from alkaline_edge import AlkalineError, ExecutionRecord, InvalidInput, NotFound, Peer, Runtime, hand_over, sync
from alkaline_edge import reclaim as reclaim_
from alkaline_edge.runtime.syncing import Synced

from .._http.runs import RunsApi
from .._http.verbs import RunVerbs
from ..remote import Remote
from . import output
from .addresses import Address
from .shell import AS_JSON, check_seal, on_store, opened_to_read, opened_to_write, reported, showing, writing_to_run

_SECRETS = """Over http(s), ALKALINE_TOKEN holds the bearer token, or ALKALINE_KEY a key for signed requests, as
NAME:SECRET; ALKALINE_SOURCE_TOKEN, ALKALINE_TARGET_TOKEN and so on where the two sides want different ones. So for
sealed stores: ALKALINE_SOURCE_KEYS, empty where that side is not sealed, and ALKALINE_SOURCE_TENANT."""


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
    return Remote(url, token=token)  # without one too: a server may be open to all, such as a Worker under development


@contextlib.asynccontextmanager
async def secrets_named() -> AsyncIterator[None]:
    """A server that lets nobody in without a secret says so; where this command takes one from, it can't know."""
    try:
        yield
    except AlkalineError as error:
        if error.detail.get("http") in (401, 403):
            error.args = (f"{error}; this command asks with the secret in ALKALINE_TOKEN or ALKALINE_KEY",)
        raise


def asking(store: Address, ask: Callable[[Remote], Awaitable[Any]]) -> Any:
    """What ``ask`` returns of the server that ``store`` is."""

    async def work() -> Any:
        async with remote(store.url) as server, secrets_named():
            return await ask(server)

    return asyncio.run(work())


def at_run(store: Address, id: str, ask: Callable[[RunVerbs], Coroutine[Any, Any, Any]]) -> Any:
    """What ``ask`` returns of the verbs over the runs of ``store``: a server's, or those of a store that is there."""
    if store.is_server:
        return asking(store, ask)
    return writing_to_run(store, id, lambda runtime: ask(RunsApi(runtime)))


@contextlib.asynccontextmanager
async def _side(store: Address, side: str, write: bool) -> AsyncIterator[Runtime | Peer]:
    if store.is_server:
        async with remote(store.url, side) as server, secrets_named():
            yield server
        return
    store = store.on(side)
    host = opened_to_write(store) if write else opened_to_read(store)
    try:
        async with Runtime(host, codec=showing()) as runtime:
            if write:
                await check_seal(runtime)
            yield runtime
    finally:
        await host.close()


def _there(store: Address, id: str, target: Address) -> None:
    """ERR_NOT_FOUND where the source is a store or a run that is not there, before anything is created.

    A run that is on its way from the target need not be in the source yet: it can be taken back.
    """
    if store.is_that_of(target):
        raise InvalidInput("source and target are the same store")
    if store.is_server:
        return

    async def look(side: Address) -> ExecutionRecord | None:
        host = opened_to_read(side)
        try:
            async with Runtime(host, codec=showing()) as runtime:
                return await runtime.store.find(id)
        finally:
            await host.close()

    if asyncio.run(look(store.on("SOURCE"))) is not None or target.is_server:
        return
    there = None
    with contextlib.suppress(NotFound):
        there = asyncio.run(look(target.on("TARGET")))
    if there is None or there.moved_to is None:
        raise NotFound(f"there is no run {id!r} in this store; list_executions() shows what is there", id=id)


@click.command(epilog=_SECRETS)
@AS_JSON
@reported
@on_store("RUN", "TARGET")
def handover(store: Address, id: str, target: str, as_json: bool) -> None:
    """Move a run to TARGET, a store or the http(s) URL of a server: it is frozen here and goes on there.

    Interrupted at any point, the same command goes on from there, and the run is never advanced on both sides. From
    where it did not arrive to where it was frozen, it takes the run back.
    """
    there = store._replace(url=target)
    _there(store, id, there)

    async def work() -> Any:
        async with _side(store, "SOURCE", True) as a, _side(there, "TARGET", True) as b:
            return await hand_over(a, id, b)

    place = asyncio.run(work())
    if as_json:
        output.print_json({"run": id, "commits": place.length, "head": place.head.hex(), "status": place.status})
    else:
        output.say(f"{id}: handed over, {place.length:,} commits; it goes on there ({place.status})")


@click.command(epilog=_SECRETS)
@click.option("--lost", metavar="NAME", required=True, help="The store that is lost: what `show` has in brackets.")
@AS_JSON
@reported
@on_store("RUN")
def reclaim(store: Address, id: str, lost: str, as_json: bool) -> None:
    """Go on with a run that was handed over to a store which is lost for good, from what is here of it.

    What that store did since is done again. While it is there, use handover from it instead: it takes the run back.
    """
    if store.is_server:
        place = asking(store, lambda server: server.reclaim(id, lost))
    else:
        place = writing_to_run(store, id, lambda runtime: reclaim_(runtime, id, lost))
    if as_json:
        output.print_json({"run": id, "commits": place.length, "head": place.head.hex(), "status": place.status})
    else:
        output.say(f"{id}: goes on here again ({place.status}), from {place.length:,} commits")


@click.command("sync", epilog=_SECRETS)
@AS_JSON
@reported
@on_store("RUN", "TARGET")
def sync_(store: Address, id: str, target: str, as_json: bool) -> None:
    """Bring TARGET's copy of a run up to date, sending only what it lacks; refused where that is no fast-forward."""
    there = store._replace(url=target)
    _there(store, id, there)

    async def work() -> Synced:
        async with _side(store, "SOURCE", False) as a, _side(there, "TARGET", True) as b:
            return await sync(a, b, id)

    done = asyncio.run(work())
    place = done.place
    if as_json:
        output.print_json({"run": id, "commits": place.length, "head": place.head.hex(), "sent": done.sent})
    else:
        output.say(f"{id}: {place.length:,} commits there, {done.sent:,} bytes were sent")
