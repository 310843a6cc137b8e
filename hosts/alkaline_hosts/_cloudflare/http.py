"""A Worker's request to ``HttpApi`` and its answer back, with the body bounded while it comes in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

from .._http.api import HttpApi
from .._http.messages import Head, Request, Response
from .._http.patience import WAIT_SECONDS, arriving


async def respond(api: HttpApi, request: Any, streams: set[asyncio.Future[None]]) -> Any:
    """A workers.Response for a workers.Request. What goes on behind a Response that streams is added to ``streams``."""
    from workers import Response as WorkerResponse

    url = urlsplit(str(request.url))
    target = url.path + (f"?{url.query}" if url.query else "")
    method = str(getattr(request.method, "value", request.method))
    head = Head(method, target, {str(name).lower(): str(value) for name, value in request.headers.items()})
    response: Response | None = api.refuse(head)
    if response is None:
        try:
            body = await _body(request, api.max_body)
            response = api.too_large(head) if body is None else await api.handle(Request(*head, body))
        except TimeoutError:
            response = api.too_slow(head)
    if response.chunks is not None:
        return await _streamed(response, response.chunks, method != "HEAD", streams)
    body_of = None if method == "HEAD" else response.body or None
    return WorkerResponse(body_of, status=response.status, headers=response.headers)


async def _streamed(
    response: Response, chunks: AsyncGenerator[bytes, None], with_body: bool, streams: set[asyncio.Future[None]]
) -> Any:
    """A Response whose body is written while the client reads it."""
    import js
    from pyodide.ffi import to_js
    from workers import Response as WorkerResponse

    if not with_body:
        await chunks.aclose()
        return WorkerResponse(None, status=response.status, headers=response.headers)
    platform: Any = js
    pipe = platform.TransformStream.new()
    writer = pipe.writable.getWriter()

    async def pump() -> None:
        try:
            async for chunk in chunks:
                await writer.write(to_js(chunk))  # waits for a slow client, and fails once it is gone
            await writer.close()
        except Exception:
            with contextlib.suppress(Exception):
                await writer.abort()
        finally:
            await chunks.aclose()

    task = asyncio.ensure_future(pump())
    streams.add(task)
    task.add_done_callback(streams.discard)
    return WorkerResponse(pipe.readable, status=response.status, headers=response.headers)


async def _body(request: Any, limit: int) -> bytes | None:
    """The body; None as soon as it is over ``limit`` bytes, TimeoutError where it comes too slowly."""
    js_request: Any = request.js_object
    stream: Any = js_request.body
    if not hasattr(stream, "getReader"):  # null: a request without a body
        return b""
    reader = stream.getReader()
    chunks: list[bytes] = []
    size = 0
    async with arriving(WAIT_SECONDS) as came:
        while True:
            chunk = await reader.read()
            if chunk.done:
                return b"".join(chunks)
            data = chunk.value.to_bytes()
            size += len(data)
            if size > limit:
                await reader.cancel()
                return None
            chunks.append(data)
            came(size)
