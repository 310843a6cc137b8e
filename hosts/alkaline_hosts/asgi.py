"""``asgi_app``: runs over HTTP on any ASGI server: start, signal, look, and move them.

    app = asgi_app(Runtime(PostgresHost(pool), workflows=[research]), token=os.environ["ALKALINE_TOKEN"])

docs/http.md has the routes: runs as JSON, and moves, which ``alkaline_hosts.remote.Remote`` speaks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from alkaline_edge.errors import InvalidInput
from alkaline_edge.runtime import Runtime

from ._http.api import HttpApi
from ._http.messages import JSON, MAX_BODY, Head, Request, Response, shown
from ._http.signing import Access

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_log = logging.getLogger("alkaline_edge.http")
App = Callable[[Scope, Receive, Send], Awaitable[None]]


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
    needed; ``open_to_all`` does without, for a server that only its own machine or a proxy with a check of its own can
    reach: then pages of other origins are refused, and so is a request by a name with a dot in it that is not in
    ``hosts``. ``origins``: the web origins whose pages may ask. ``max_body``: bytes of a request. ``serve``: while the
    application is up, wake timers and take up runs (the server must support lifespan). The caller closes the runtime.
    """
    access = None
    if token or keys:
        access = Access(token, keys)
    elif not open_to_all:
        raise InvalidInput("say who may ask: give a token or keys, or open_to_all=True")
    return _Application(runtime, HttpApi(runtime, access, origins, max_body, open_to_all, hosts), serve)


class _Application:
    def __init__(self, runtime: Runtime, api: HttpApi, serve: bool) -> None:
        self._runtime, self._api, self._serve = runtime, api, serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        until = asyncio.Event()
        task = asyncio.ensure_future(self._runtime.serve(until)) if self._serve else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        until.set()
        if task is not None:
            await asyncio.wait({task}, timeout=10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = _head(scope)
        response = self._api.refuse(head)
        if response is None:
            body = await self._body(receive)
            if body is None:
                return
            if len(body) > self._api.max_body:
                response = self._api.too_large(head)
            else:
                response = await self._api.handle(Request(*head, bytes(body), lambda: _gone(receive)))
        _noted(head, response)
        await _send(response, send, head.method != "HEAD")

    async def _body(self, receive: Receive) -> bytearray | None:
        """The body, as far as one chunk past the limit; None when the client went away before its end."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > self._api.max_body or not message.get("more_body", False):
                return body


async def _gone(receive: Receive) -> None:
    """Until the client has gone away."""
    if (await receive())["type"] != "http.disconnect":
        await asyncio.get_running_loop().create_future()  # a server that tells nothing of it


def _noted(head: Head, response: Response) -> None:
    """Log each answer: a failure at INFO, the others at DEBUG; what is wrong inside was logged as an error."""
    level = logging.INFO if response.status >= 400 else logging.DEBUG
    if _log.isEnabledFor(level):
        why = ""
        if response.status >= 400 and response.headers.get("content-type") == JSON:
            why = f": {json.loads(response.body)['error']['message'][:300]}"
        _log.log(level, "%s %s %d%s", *shown(head), response.status, why)


def _head(scope: Scope) -> Head:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Head(scope["method"], target, headers)


async def _send(response: Response, send: Send, with_body: bool) -> None:
    headers = {**response.headers, "content-length": str(len(response.body))}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
