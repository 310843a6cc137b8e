"""``/healthz``, ``/readyz`` and ``/metrics`` in front of the API: for whatever watches the process, without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from alkaline_edge.errors import AlkalineError

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
_TEXT = "text/plain; charset=utf-8"
PATIENCE_SECONDS, FRESH_SECONDS = 5.0, 1.0
"""How long the store may take to answer, and how long its answer stands: asking is not for anybody to repeat."""


class Probes:
    """Answers probes, and hands everything else to ``app``.

    ``asked`` asks the store for something small; ``metrics`` gives what ``/metrics`` shows, and its form, where it is
    wanted. ``stop``: from now on it is not ready, so that nobody sends it more.
    """

    def __init__(
        self, app: _App, asked: Callable[[], Awaitable[Any]], metrics: tuple[Callable[[], bytes], str] | None = None
    ) -> None:
        self._app, self._asked, self._metrics = app, asked, metrics
        self._stopping = False
        self._lock = asyncio.Lock()
        self._found: tuple[float, bool] = (float("-inf"), False)

    def stop(self) -> None:
        """The process is about to end."""
        self._stopping = True

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """As ASGI."""
        path = scope.get("path") if scope["type"] == "http" else None
        if path not in ("/healthz", "/readyz") and (path != "/metrics" or self._metrics is None):
            await self._app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(scope, send, 405, b"only GET\n", _TEXT)
        elif path == "/healthz":
            await _answer(scope, send, 200, b"ok\n", _TEXT)
        elif path == "/metrics" and self._metrics is not None:
            await _answer(scope, send, 200, self._metrics[0](), self._metrics[1])
        elif self._stopping:
            await _answer(scope, send, 503, b"stopping\n", _TEXT)
        elif await self._ready():
            await _answer(scope, send, 200, b"ok\n", _TEXT)
        else:
            await _answer(scope, send, 503, b"the store does not answer\n", _TEXT)

    async def _ready(self) -> bool:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            at, found = self._found
            if now - at > FRESH_SECONDS:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await self._asked()
                    found = True
                except (AlkalineError, TimeoutError):
                    found = False
                self._found = (asyncio.get_running_loop().time(), found)
            return found


async def _answer(scope: _Scope, send: _Send, status: int, body: bytes, form: str) -> None:
    headers = [
        (b"content-type", form.encode()), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
