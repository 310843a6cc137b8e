"""``alkaline serve``: run a store's workflows and answer for them over HTTP, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click

from alkaline_edge import Codec, InvalidInput, Runtime, Workflow
from alkaline_edge.board import drive
from alkaline_edge.interrupts import ends_the_process
from alkaline_edge.redaction import redact
from alkaline_edge.retention import Retention
from alkaline_edge.triggers import Triggers

from . import serving_log
from .addresses import Address
from .code import code_of
from .shell import AS_JSON, check_seal, on_store, opened_to_write, reported
from .watching import Watching, with_watching

MOST_GRACE = 86_400
"""The longest grace, in seconds: a day."""


@click.command("serve")
@click.option(
    "--workflows", "names", multiple=True, metavar="MODULE[:NAME]",
    help="What it can run; without any it keeps runs and moves them.",
)  # fmt: skip
@click.option("--codec", metavar="MODULE:NAME", help="The Codec that your types are registered on.")
@click.option("--log-level", "level", default="info", show_default=True, type=click.Choice(serving_log.LEVELS))
@click.option("--bind", default="127.0.0.1:8000", show_default=True, metavar="ADDRESS:PORT")
@click.option("--inspect", "inspecting", is_flag=True, help="Show the inspector, a page that looks at runs, at /.")
@click.option("--origin", "origins", multiple=True, help="A web origin whose pages may ask.")
@click.option(
    "--concurrency", type=click.IntRange(1), metavar="N",
    help="Drive at most N runs at once, and leave the others to other processes on the store.",
)  # fmt: skip
@click.option(
    "--grace", default=10.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
    help="How long steps in flight may take to end when this is told to stop.",
)  # fmt: skip
@AS_JSON
@reported
@with_watching
@on_store()
def serve(
    store: Address,
    names: Sequence[str],
    codec: str | None,
    level: str,
    bind: str,
    inspecting: bool,
    origins: Sequence[str],
    concurrency: int | None,
    grace: float,
    watching: Watching,
    as_json: bool,
) -> None:
    """Run a store's workflows and answer for them over HTTP, until interrupted.

    On SIGTERM or SIGINT it starts nothing more, lets steps in flight end, and hands its runs to the other
    processes on the store; a second signal does not wait for the steps.

    ALKALINE_TOKEN holds the bearer token that is let in, ALKALINE_KEY a key for signed requests, NAME:SECRET. TLS
    is the business of the proxy in front. /healthz says that the process lives, /readyz that its store answers.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise InvalidInput("alkaline serve needs uvicorn: pip install 'alkaline-edge[serve]'") from None
    address, port = address_of(bind)
    if not grace <= MOST_GRACE:  # nan is not
        raise InvalidInput(f"--grace wants a number of seconds from 0 to {MOST_GRACE:,}, not {grace}")
    known, chosen = code_of(names, codec)  # the module first: it may set logging up in its own way
    serving_log.begin(level, watching.form)

    def server(app: Any) -> Any:
        until_forced = max(1, round(grace))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=until_forced,
        )
        made: Any = uvicorn.Server(config)
        made.capture_signals = contextlib.nullcontext  # signals are ours: see _until_told
        return made

    _run(_serve(server, store, (address, port), known, chosen, inspecting, origins, concurrency, grace, watching))


def _run(serving: Coroutine[Any, Any, None]) -> None:
    """As asyncio.run, but that a task or a callback of a step, which no step can catch, does not end the server.

    asyncio lets SystemExit and KeyboardInterrupt through to whoever runs the loop. Whoever awaits such a task has its
    error all the same: the step that made it fails, and everything else goes on.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(serving)
        while True:
            try:
                loop.run_until_complete(task)
                return
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done() or ends_the_process(error):
                    raise
                serving_log.left_behind(error)


def address_of(bind: str) -> tuple[str, int]:
    """An address and a port; ERR_INVALID_INPUT for what is none."""
    address, _, port = bind.rpartition(":")
    if not address or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise InvalidInput(f"--bind wants ADDRESS:PORT, with a port from 0 to 65535, not {bind[:100]!r}")
    return address.strip("[]"), int(port)


def listening(address: str, port: int) -> socket.socket:
    """The socket to serve on: made here, so that what is wrong with it is told as every other error is."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such address"
        raise InvalidInput(f"--bind {address}:{port}: {why}; give another address or port") from None


async def _serve(
    server_of: Callable[[Any], Any],
    store: Address,
    place: tuple[str, int],
    workflows: list[Workflow],
    codec: Codec,
    inspecting: bool,
    origins: Sequence[str],
    concurrency: int | None,
    grace: float,
    watching: Watching,
) -> None:
    from .._inspector.door import inspected
    from ..asgi import asgi_app

    name, sign, secret = os.environ.get("ALKALINE_KEY", "").partition(":")
    keys = {name: secret} if sign else None
    token = os.environ.get("ALKALINE_TOKEN", "")
    if not token and not keys:
        raise InvalidInput("say who may ask: set ALKALINE_TOKEN, or ALKALINE_KEY to NAME:SECRET")
    if inspecting and not token:
        raise InvalidInput(
            "--inspect wants ALKALINE_TOKEN beside ALKALINE_KEY: a page sends a token, and signs nothing"
        )
    listener = listening(*place)
    try:
        host = opened_to_write(store)
        try:
            await host.list("", limit=1)  # a store that does not answer is told before anybody is told to ask here
            # Its end hands over what is still in flight.
            async with Runtime(host, workflows=workflows, codec=codec, on_event=watching) as runtime:
                await check_seal(runtime)
                Triggers(runtime)  # its schedules are driven as well
                drive(runtime)  # and its boards
                Retention(runtime)  # and its rules of what is kept
                app: Any = asgi_app(runtime, token=token, keys=keys, origins=origins, serve=False)
                address, port = listener.getsockname()[:2]
                url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
                serving_log.listening(url, _shown(store.url), [f"{w.name} v{w.version}" for w in workflows])
                probed = watching.probed(inspected(app) if inspecting else app, runtime)

                def ending() -> None:
                    probed.stop()
                    app.end_waits()

                await _until_told(server_of(probed), listener, runtime, concurrency, grace, ending)
        finally:
            await host.close()
            await watching.close()
    finally:
        listener.close()


def _shown(store: str) -> str:
    """A store for the log: a URL without what may be a secret."""
    return redact(store)


async def _until_told(
    server: Any,
    listener: socket.socket,
    runtime: Runtime,
    concurrency: int | None,
    grace: float,
    end_waits: Callable[[], None],
) -> None:
    """Serve until a signal; then steps in flight have ``grace`` seconds to end, or until another signal."""
    loop = asyncio.get_running_loop()
    stop, at_once = asyncio.Event(), asyncio.Event()

    def told() -> None:
        if stop.is_set():
            at_once.set()
            server.force_exit = True
        else:
            loop.call_later(grace, at_once.set)
        stop.set()
        server.should_exit = True
        runtime.drain()
        end_waits()

    for each in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows, where an interrupt ends the process
            loop.add_signal_handler(each, told)
    working = asyncio.ensure_future(runtime.serve(stop, concurrency))
    working.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve(sockets=[listener])
        await working
        ends = [asyncio.ensure_future(runtime.settle(id)) for id in runtime.active()]
        waits: list[asyncio.Future[Any]] = [asyncio.gather(*ends), asyncio.ensure_future(at_once.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    finally:
        working.cancel()
