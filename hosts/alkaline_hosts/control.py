"""``control_app``: one place to look at several servers and Workers, and to operate them, by their HTTP APIs.

Nobody needs it, nothing of a run depends on it, and it keeps nothing: its configuration is a file, and what it shows is
in the stores. ``alkaline control CONFIG`` serves it on loopback; docs/control.md has the file and the API.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._control.app import ControlApp
from ._control.config import config_of
from ._control.plane import Plane
from .remote import Fetch, Remote

__all__ = ["control_app"]


def control_app(
    configuration: str, environment: Mapping[str, str] | None = None, fetch: Fetch | None = None
) -> ControlApp:
    """An ASGI application for a configuration, the text of its TOML file.

    ``environment`` has the tokens that it names, if None that of the process; ``fetch`` is as ``Remote`` takes it.
    ERR_INVALID_INPUT for what is wrong in the configuration, by its place. No server is asked before somebody asks.
    """
    config = config_of(configuration, os.environ if environment is None else environment)
    options: dict[str, Any] = {} if fetch is None else {"fetch": fetch}
    servers = {
        each.name: Remote(each.url, token=each.token, insecure=each.insecure, **options) for each in config.servers
    }
    return ControlApp(Plane(servers), config.access)
