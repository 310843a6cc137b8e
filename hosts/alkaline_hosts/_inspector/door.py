"""``inspected``: an ASGI application that shows the inspector beside an API, and may let nobody change anything."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .page import page

_Scope = MutableMapping[str, Any]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[_Scope, Any, _Send], Awaitable[None]]
ABOUT = "/inspector.json"
LOOKING = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def inspected(app: App, *, read_only: bool = False, token: bool = True) -> App:
    """``app``, an API of runs, with the inspector at ``/``.

    ``read_only``: what would change something is refused with 403 before the API hears of it. ``token``: whether the
    API asks for one, which the page then asks for. The page itself holds nothing of the store and is given to all.
    """
    about = json.dumps({"inspector": 1, "read_only": read_only, "token": token}).encode()
    refusal = {
        "code": "ERR_INVALID_INPUT",
        "message": "this server shows a store and changes nothing; start it with --write for that",
    }
    refused = json.dumps({"error": refusal}).encode()

    async def answer(scope: _Scope, receive: Any, send: _Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["path"] == "/" and scope["method"] in LOOKING:
            html, policy = page()
            await _send(send, scope, 200, "text/html; charset=utf-8", html, {"content-security-policy": policy})
        elif scope["path"] == ABOUT and scope["method"] in LOOKING:
            await _send(send, scope, 200, "application/json", about)
        elif read_only and scope["method"] not in LOOKING:
            await _send(send, scope, 403, "application/json", refused, {"connection": "close"})
        else:
            await app(scope, receive, send)

    return answer


async def _send(
    send: _Send, scope: _Scope, status: int, kind: str, body: bytes, more: dict[str, str] | None = None
) -> None:
    headers = {**_HEADERS, "content-type": kind, "content-length": str(len(body)), **(more or {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
