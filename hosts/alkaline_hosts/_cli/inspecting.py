"""``alkaline inspect``: a page that shows the runs of a store, on this machine, until interrupted."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any
from urllib.parse import quote, urlencode

import click

from alkaline_edge import InvalidInput, Runtime
from alkaline_edge.redaction import redact

from . import files
from .addresses import Address
from .serving import listening
from .shell import AS_JSON, check_seal, on_store, opened_to_read, opened_to_write, reported, showing

LOOPBACK = "127.0.0.1"


@click.command("inspect")
@click.option("--port", default=0, type=click.IntRange(0, 65_535), help="The port; by itself one that is free.")
@click.option("--write", "write", is_flag=True, help="Let the page signal, pause, cancel and fork runs.")
@click.option("--open", "open_", is_flag=True, help="Open the page in the browser of this machine.")
@AS_JSON
@reported
@on_store()
def inspect(store: Address, port: int, write: bool, open_: bool, as_json: bool) -> None:
    """Show the runs of a store in the browser, until interrupted.

    It prints the address of a page on this machine, with a token that is made for it. The store is opened to read, and
    works beside its writer; with --write the page may change runs, and runs nothing. `alkaline page` writes the page
    itself to a file, which opens a dropped store or the address of a server.
    """
    if store.is_server:
        raise InvalidInput(
            "a server shows itself: start it with alkaline serve --inspect; or put the page that alkaline page writes "
            "on a web origin that the server was told of with --origin, and give it the server's address"
        )
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise InvalidInput("alkaline inspect needs uvicorn: pip install 'alkaline-edge[serve]'") from None
    listener = listening(LOOPBACK, port)
    try:
        asyncio.run(_show(uvicorn, store, listener, write, open_, as_json))
    finally:
        listener.close()


@click.command("page")
@click.argument("file")
@AS_JSON
@reported
def page_(file: str, as_json: bool) -> None:
    """Write the inspector to FILE, a page that opens from a disk or any web server."""
    from .._inspector.page import page

    html = page().html
    with files.written(file) as write:
        if not write(html):
            return  # into a pipe, which is to hold nothing else
    text = f"{file}: the inspector, {len(html):,} bytes; open it in a browser"
    click.echo(json.dumps({"file": file, "bytes": len(html)}) if as_json else text)


async def _show(uvicorn: Any, store: Address, listener: Any, write: bool, open_: bool, as_json: bool) -> None:
    from .._inspector.door import inspected
    from ..asgi import asgi_app

    host = opened_to_write(store) if write else opened_to_read(store)
    try:
        await host.list("", limit=1)  # a store that does not answer is told before anybody is told to look
        async with Runtime(host, codec=showing()) as runtime:
            await check_seal(runtime)
            token = secrets.token_urlsafe(24)
            app: Any = asgi_app(runtime, token=token, serve=False)
            door = inspected(app, read_only=not write)
            url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
            address = f"{url}#{urlencode({'token': token, 'store': redact(store.url)}, quote_via=quote)}"
            _say(address, write, as_json)
            if open_:
                click.launch(address)
            config = uvicorn.Config(
                door, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
            )
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            await _until_told(server, serving, app)
    finally:
        await host.close()


async def _until_told(server: Any, serving: asyncio.Future[None], app: Any) -> None:
    """Until the server was told to stop: streams that are open end then, and are not waited for."""
    while not server.should_exit and not serving.done():
        await asyncio.wait([serving], timeout=0.2)
    app.end_waits()
    await serving


def _say(address: str, write: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"url": address, "write": write}))
        return
    click.echo(address)
    click.echo("the page may change runs" if write else "the page looks only; --write lets it answer runs", err=True)
    click.echo("until interrupted: Ctrl-C", err=True)
