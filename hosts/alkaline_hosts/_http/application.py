"""``application``: an ASGI application around an ``HttpApi``, of which ``asgi_app`` and ``mcp_server`` are made."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from alkaline_edge import Runtime
from alkaline_edge.arguments import expect, whole
from alkaline_edge.errors import ClosedError, InvalidInput

from .api import HttpApi
from .messages import JSON, Head, Request, Response, shown
from .patience import WAIT_SECONDS, arriving
from .signing import Access

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_log = logging.getLogger("alkaline_edge.http")
App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def who_may_ask(
    door: str,
    runtime: Runtime,
    token: str | Iterable[str],
    keys: Mapping[str, str | bytes] | None,
    max_body: int,
    serve: bool,
    open_to_all: bool,
) -> Access | None:
    """The access that a ``door`` was given, its other settings checked; None where it says that it is open to all.

    ERR_INVALID_INPUT for settings of the wrong kind, and where nobody was named: access is said aloud.
    """
    expect(runtime, Runtime, f"{door}(runtime=)", "a Runtime")
    for given, what in ((serve, "serve"), (open_to_all, "open_to_all")):
        expect(given, bool, f"{door}({what}=)", "True or False")
    whole(max_body, f"{door}(max_body=)", 0)
    if token or keys:
        return Access(token, keys)  # says what they are where they are none
    if not open_to_all:
        raise InvalidInput("say who may ask: give a token or keys, or open_to_all=True")
    return None


def application(runtime: Runtime, api: HttpApi, serve: bool) -> App:
    """What answers by ``api`` on an ASGI server; ``serve``: and serves while it is up."""
    return _Application(runtime, api, serve)


class _Application:
    def __init__(self, runtime: Runtime, api: HttpApi, serve: bool) -> None:
        self._runtime, self._api, self._serve = runtime, api, serve
        self._ending = asyncio.Event()
        self._reading: set[asyncio.Timeout] = set()

    def end_waits(self) -> None:
        """Answer now who waits for a run, or is still sending: the server is about to stop, and would cut them off."""
        self._ending.set()
        for each in self._reading:
            each.reschedule(0)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: _Receive, send: _Send) -> None:
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

    async def _http(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        head = _head(scope)
        response, unread = self._api.refuse(head), False
        if response is None:
            unread = True
            try:
                body = await self._body(receive)
            except TimeoutError:
                response = self._api.too_slow(head)
            except ClosedError as error:
                response = self._api.answer(head, error)
            else:
                if body is None:
                    return
                if len(body) > self._api.max_body:
                    response = self._api.too_large(head)
                else:
                    unread = False
                    response = await self._api.handle(Request(*head, bytes(body), lambda: self._gone(receive)))
            if unread and str(scope.get("http_version", "1.1")).startswith("1"):
                response.headers["connection"] = "close"  # the rest of the body would be read as the next request
        _noted(head, response)
        if response.chunks is None:
            await _send(response, send, head.method != "HEAD")
        else:
            await _stream(response, response.chunks, send, head.method != "HEAD", lambda: self._gone(receive))

    async def _body(self, receive: _Receive) -> bytearray | None:
        """The body, as far as one chunk past the limit; None when the client went away before its end.

        TimeoutError where it comes too slowly: a client that sends a byte now and then would be waited for for ever.
        ClosedError where the server is stopped before it is there.
        """
        body = bytearray()
        until_stop = asyncio.timeout(0 if self._ending.is_set() else None)
        self._reading.add(until_stop)
        try:
            async with arriving(WAIT_SECONDS) as came, until_stop:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._api.max_body or not message.get("more_body", False):
                        return body
                    came(len(body))
        except TimeoutError:
            if until_stop.expired():
                raise ClosedError("this server is being stopped, and has not read the whole request") from None
            raise
        finally:
            self._reading.discard(until_stop)

    async def _gone(self, receive: _Receive) -> None:
        """Until nobody is to be waited for: the client has gone away, or the server is stopped."""
        leaving, ending = asyncio.ensure_future(_left(receive)), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (leaving, ending):
                each.cancel()
            await asyncio.gather(leaving, ending, return_exceptions=True)


async def _left(receive: _Receive) -> None:
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


def _head(scope: _Scope) -> Head:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Head(scope["method"], target, headers)


async def _stream(
    response: Response,
    chunks: AsyncGenerator[bytes, None],
    send: _Send,
    with_body: bool,
    gone: Callable[[], Awaitable[None]],
) -> None:
    """Send ``chunks`` until they end, or the client has gone away. A slow one is waited for, and nothing piles up."""

    async def pump() -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    await _begin(response.status, response.headers, send)
    tasks = [asyncio.ensure_future(pump()), asyncio.ensure_future(gone())] if with_body else []
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await chunks.aclose()
    await send({"type": "http.response.body", "body": b""})


async def _begin(status: int, headers: Mapping[str, str], send: _Send) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _send(response: Response, send: _Send, with_body: bool) -> None:
    headers = dict(response.headers)
    if response.status != 204:
        headers["content-length"] = str(len(response.body))
    await _begin(response.status, headers, send)
    await send({"type": "http.response.body", "body": response.body if with_body else b""})
