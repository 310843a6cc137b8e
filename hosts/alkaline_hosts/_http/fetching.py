"""One request over the network, by httpx or by the platform's ``fetch``: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from alkaline_edge.errors import InvalidInput, UnknownOutcome
from alkaline_edge.limits import MAX_BUNDLE_BYTES

from .messages import SMALL
from .patience import PULSE_SECONDS, SLOWEST, arriving


class Fetch(Protocol):
    """One request: its answer's status and body. Whatever goes wrong on the way is an exception of any kind.

    A body should be bounded while it comes in: Remote looks at its length, and by then it is in memory.
    """

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Awaitable[tuple[int, bytes]]:
        """It must not follow redirects: the secret in the headers is for one server."""
        ...


def too_large(name: str, limit: int) -> UnknownOutcome:
    """What is raised where an answer is longer than ``limit`` bytes."""
    return UnknownOutcome(
        f"{name} answered with more than {limit:,} bytes, which what was asked for can't have: is it an alkaline_edge "
        "host?"
    )


def default(timeout: float, proxies: bool = True) -> Fetch:
    """What asks on this platform; ``timeout``: seconds for an answer that is not large.

    ``proxies``: by the proxy that the environment names, where it names one and the platform lets us choose.
    """
    return _Javascript(timeout) if sys.platform == "emscripten" else _Httpx(timeout, proxies)


def _limit(status: int, limit: int) -> int:
    """What an answer may have: an error, or what somebody on the way says, is small whatever was asked for."""
    return limit if 200 <= status < 300 else min(limit, SMALL)


class Streaming(Protocol):
    """What a Fetch has beside it that can read an answer while it comes in, as ``Remote.stream`` does."""

    def stream(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[tuple[int, str, AsyncIterator[bytes]]]:
        """The status, the content type and the body of one answer; leaving it closes the connection."""
        ...


class Bounded:
    """A Fetch that stops reading at ``limit`` bytes and in time, and tells the answer's type beside it."""

    async def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """As a Fetch."""
        status, answer, _ = await self.bounded(method, url, headers, body, MAX_BUNDLE_BYTES)
        return status, answer

    async def bounded(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit: int
    ) -> tuple[int, bytes, str]:
        """Status, body and content type of the answer."""
        raise NotImplementedError


class _Httpx(Bounded):
    """httpx, opened with the first request."""

    def __init__(self, timeout: float, proxies: bool) -> None:
        try:
            import httpx
        except ModuleNotFoundError:
            raise InvalidInput(
                "Remote needs httpx to ask over the network: pip install 'alkaline-edge[http]', or pass fetch="
            ) from None
        self._timeout = timeout
        self._new: Callable[[], Any] = lambda: httpx.AsyncClient(
            timeout=timeout, follow_redirects=False, trust_env=proxies
        )
        self._client: Any = None

    async def bounded(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit: int
    ) -> tuple[int, bytes, str]:
        """The body is read as it is on the wire: nothing that is packed was asked for, and nothing is unpacked."""
        if self._client is None:
            self._client = self._new()
        data = bytearray()
        async with (
            arriving(self._timeout + len(body) / SLOWEST) as came,
            self._client.stream(method, url, headers=dict(headers), content=body) as response,
        ):
            if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                return response.status_code, b"", "packed"
            limit = _limit(response.status_code, limit)
            async for chunk in response.aiter_raw(64 * 1024):
                data += chunk
                if len(data) > limit:
                    raise too_large(urlsplit(url)._replace(path="", query="").geturl(), limit)
                came(len(data))
            return response.status_code, bytes(data), response.headers.get("content-type", "")

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, str, AsyncIterator[bytes]]]:
        """As Streaming. A server that sends not even a comment for as long as three of them is taken for gone."""
        if self._client is None:
            self._client = self._new()
        silence = max(self._timeout, 3 * PULSE_SECONDS)
        async with self._client.stream(method, url, headers=dict(headers), timeout=silence) as response:
            yield response.status_code, response.headers.get("content-type", ""), response.aiter_raw()

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class _Javascript(Bounded):
    """The platform's ``fetch``, in a browser or a Worker. It unpacks what is packed; what comes of that is bounded."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    async def bounded(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit: int
    ) -> tuple[int, bytes, str]:
        """The platform tells how an answer was packed to nobody, so that is not looked at."""
        import js
        from pyodide.ffi import to_js

        window: Any = js

        sent = {name: value for name, value in headers.items() if name != "accept-encoding"}  # a page may not set it
        options: dict[str, Any] = {"method": method, "headers": sent, "redirect": "manual"}
        if method == "POST":
            options["body"] = body
        data = bytearray()
        async with arriving(self._timeout + len(body) / SLOWEST) as came:
            response = await window.fetch(url, to_js(options, dict_converter=window.Object.fromEntries))
            kind = str(response.headers.get("content-type") or "")
            limit = _limit(int(response.status), limit)
            reader = response.body.getReader() if hasattr(response.body, "getReader") else None
            while reader is not None:
                chunk = await reader.read()
                if chunk.done:
                    break
                data += chunk.value.to_bytes()
                if len(data) > limit:
                    reader.cancel()
                    raise too_large(urlsplit(url)._replace(path="", query="").geturl(), limit)
                came(len(data))
        return int(response.status), bytes(data), kind

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, str, AsyncIterator[bytes]]]:
        """As Streaming."""
        import js
        from pyodide.ffi import to_js

        window: Any = js
        sent = {name: value for name, value in headers.items() if name != "accept-encoding"}
        options = {"method": method, "headers": sent, "redirect": "manual"}
        response = await window.fetch(url, to_js(options, dict_converter=window.Object.fromEntries))
        reader = response.body.getReader() if hasattr(response.body, "getReader") else None

        async def body() -> AsyncIterator[bytes]:
            while reader is not None:
                async with asyncio.timeout(max(self._timeout, 3 * PULSE_SECONDS)):
                    chunk = await reader.read()
                if chunk.done:
                    return
                yield chunk.value.to_bytes()

        try:
            yield int(response.status), str(response.headers.get("content-type") or ""), body()
        finally:
            if reader is not None:
                with contextlib.suppress(Exception):
                    await reader.cancel()
