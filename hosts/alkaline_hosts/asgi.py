"""``asgi_app``: runs over HTTP on any ASGI server: start, signal, look, and move them.

    app = asgi_app(Runtime(PostgresHost(pool), workflows=[research]), token=os.environ["ALKALINE_TOKEN"])

docs/http.md has the routes: runs as JSON, and moves, which ``alkaline_hosts.remote.Remote`` speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alkaline_edge import Runtime

from ._http.api import HttpApi
from ._http.application import App as App
from ._http.application import application, who_may_ask
from ._http.messages import MAX_BODY

__all__ = ["App", "asgi_app"]


def asgi_app(
    runtime: Runtime,
    *,
    token: str | Iterable[str] = (),
    keys: Mapping[str, str | bytes] | None = None,
    origins: Iterable[str] = (),
    max_body: int = MAX_BODY,
    serve: bool = True,
    open_to_all: bool = False,
    hosts: Iterable[str] = (),
) -> App:
    """An ASGI application that answers for ``runtime``.

    ``token``: bearer tokens that are let in; ``keys``: secrets of signed requests, by the key's name. One of the two is
    needed (ERR_INVALID_INPUT otherwise); ``open_to_all`` does without, for a server that only its own machine or a
    proxy with a check of its own can reach: then pages of other origins are refused, and so is a request by a name with
    a dot in it that is not in ``hosts``. ``origins``: the web origins whose pages may ask. ``max_body``: bytes of a
    request. ``serve``: while the application is up, wake timers and take up runs (the server must support lifespan).
    The caller closes the runtime.
    """
    access = who_may_ask("asgi_app", runtime, token, keys, max_body, serve, open_to_all)
    return application(runtime, HttpApi(runtime, access, origins, max_body, open_to_all, hosts), serve)
