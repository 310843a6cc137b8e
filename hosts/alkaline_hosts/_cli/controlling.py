"""``alkaline control``: serve the control plane of a configuration."""

from __future__ import annotations

import os
from pathlib import Path

import click

from alkaline_edge.errors import InvalidInput

from . import output
from .serving import address_of, listening
from .shell import AS_JSON, reported

_MOST = 1024 * 1024


@click.command()
@click.argument("config", metavar="CONFIG")
@click.option("--bind", default="127.0.0.1:8750", show_default=True, metavar="ADDRESS:PORT", help="Where to listen.")
@click.option("--check", is_flag=True, help="Only say whether the configuration is right.")
@AS_JSON
@reported
def control(config: str, bind: str, check: bool, as_json: bool) -> None:
    """Watch over several servers, and operate them, by their HTTP APIs: a page and a JSON API.

    CONFIG is a TOML file of servers, and of who may look or operate: docs/control.md. It keeps nothing.
    """
    from ..control import control_app

    with Path(config).open("rb") as source:
        data = source.read(_MOST + 1)
    if len(data) > _MOST:
        raise InvalidInput(f"{config} has more than {_MOST:,} bytes: it is no configuration")
    app = control_app(data.decode("utf-8-sig", "replace"), os.environ)
    if check:
        if as_json:
            output.print_json({"config": config, "ok": True})
        else:
            output.say(f"{config}: right")
        return
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise InvalidInput("alkaline control needs uvicorn: pip install 'alkaline-edge[serve]'") from None
    address, port = address_of(bind)
    listener = listening(address, port)
    place, port = listener.getsockname()[:2]
    output.note(f"control at http://{f'[{place}]' if ':' in place else place}:{port}/")
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
    finally:
        listener.close()
