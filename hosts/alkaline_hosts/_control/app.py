"""The control plane over HTTP: a JSON API and a plain page, for who has a token. ASGI, and nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qsl

from alkaline_edge.errors import ERR_CONFLICT, ERR_INVALID_INPUT, ERR_NOT_FOUND, AlkalineError, InvalidInput

from .config import Access
from .page import PAGE, SCRIPT, STYLE
from .plane import Chosen, Plane

MOST_BODY = 64 * 1024
_STATIC = {
    "": (PAGE, "text/html; charset=utf-8"),
    "page.css": (STYLE, "text/css; charset=utf-8"),
    "page.js": (SCRIPT, "text/javascript; charset=utf-8"),
}
_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store"),
]  # fmt: skip
_STATUS = {ERR_INVALID_INPUT: 400, ERR_NOT_FOUND: 404, ERR_CONFLICT: 409}
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[dict[str, Any]]]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ControlApp:
    """An ASGI application over a ``Plane``. Who asks is told by a bearer token, whose role says what it may do."""

    def __init__(self, plane: Plane, access: list[Access]) -> None:
        self._plane = plane
        self._roles = [(sha256(each.token.encode()).digest(), each.role) for each in access]

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")).lstrip("/")
        if path in _STATIC and scope["method"] in ("GET", "HEAD"):
            text, media = _STATIC[path]
            await _answer(send, 200, text.encode() if scope["method"] == "GET" else b"", media)
            return
        status, value = 200, None
        try:
            value = await self._asked(scope, path, receive)
        except _Refused as error:
            status, value = error.status, {"error": {"code": "ERR_INVALID_INPUT", "message": str(error)}}
        except AlkalineError as error:
            status = _STATUS.get(error.code, 502)
            value = {"error": {"code": error.code, "message": str(error)}}
        await _answer(send, status, json.dumps(value, ensure_ascii=False, default=str).encode(), "application/json")

    async def _live(self, receive: _Receive, send: _Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._plane.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _role(self, scope: Mapping[str, Any]) -> str:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        digest = sha256(token.strip()).digest()
        role = None
        for known, each in self._roles:  # all of them, whichever it is: how long it takes says nothing
            role = each if compare_digest(known, digest) else role
        if scheme.lower() != b"bearer" or role is None:
            raise _Refused(401, "this control plane wants a bearer token that its configuration knows")
        return role

    async def _asked(self, scope: Mapping[str, Any], path: str, receive: _Receive) -> Any:
        role, method, plane = self._role(scope), scope["method"], self._plane
        if path in ("api/health", "api/runs"):
            if method != "GET":
                raise _Refused(405, f"{path} is asked by GET")
            if path == "api/health":
                return await plane.health()
            query = dict(parse_qsl(scope.get("query_string", b"").decode("ascii", "replace")))
            limit = query.pop("limit", "200")
            if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:6]) <= 10_000:
                raise InvalidInput("limit is a number from 1 to 10,000")
            return await plane.runs(_chosen(query), int(limit))
        if path not in ("api/bulk", "api/hand"):
            raise _Refused(404, "there is nothing here; the API has api/health, api/runs, api/bulk and api/hand")
        if method != "POST":
            raise _Refused(405, f"{path} is asked by POST")
        if role != "operate":
            raise _Refused(403, "this token may look, and not operate: nothing was changed")
        given = await _body(receive)
        return await (self._bulk(given) if path == "api/bulk" else self._hand(given))

    async def _bulk(self, given: dict[str, Any]) -> Any:
        verb, dry_run = given.pop("verb", None), given.pop("dry_run", True)
        older_than, reason = given.pop("older_than", None), given.pop("reason", None)
        if not isinstance(verb, str) or not isinstance(dry_run, bool):
            raise InvalidInput('verb is a text, and dry_run true or false: {"verb": "cancel", "dry_run": true}')
        if not isinstance(reason, (str, type(None))):
            raise InvalidInput("reason is a text")
        chosen = _chosen(given)
        if verb != "purge":
            return await self._plane.bulk(verb, chosen, dry_run, reason)
        if isinstance(older_than, bool) or not isinstance(older_than, int) or older_than < 0:
            raise InvalidInput("a purge wants older_than, whole seconds since a run has ended")
        return await self._plane.purge(chosen, older_than, dry_run)

    async def _hand(self, given: dict[str, Any]) -> Any:
        wanted = ("run", "source", "target")
        if sorted(given) != sorted(wanted) or not all(isinstance(given[name], str) for name in wanted):
            raise InvalidInput("a run is handed with run, source and target, each a text")
        return await self._plane.hand(given["run"], given["source"], given["target"])


def _chosen(given: Mapping[str, Any]) -> Chosen:
    unknown = sorted(given.keys() - {"status", "workflow", "server", "servers"})
    if unknown:
        raise InvalidInput(f"runs are chosen by status, workflow and server, not by {', '.join(unknown)[:200]}")
    servers = given.get("servers", given.get("server", ()))
    several = (servers,) if isinstance(servers, str) else tuple(servers) if isinstance(servers, (list, tuple)) else None
    texts = [given.get("status"), given.get("workflow"), *(several or ())]
    if several is None or not all(isinstance(each, (str, type(None))) for each in texts):
        raise InvalidInput("status, workflow and server are texts, servers a list of them")
    return Chosen(given.get("status") or None, given.get("workflow") or None, several)


async def _body(receive: _Receive) -> dict[str, Any]:
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, "the request ended before its body did")
        data += message.get("body", b"")
        if len(data) > MOST_BODY:
            raise _Refused(413, f"a request here has {MOST_BODY:,} bytes at most")
        if not message.get("more_body"):
            break
    try:
        found = json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("the body is a JSON object")
    return found


async def _answer(send: _Send, status: int, body: bytes, media: str) -> None:
    headers = [*_HEADERS, (b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
