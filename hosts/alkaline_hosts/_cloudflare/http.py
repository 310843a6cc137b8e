"""A Worker's request to ``HttpApi`` and its answer back, with the body bounded while it comes in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .._http.api import HttpApi
from .._http.messages import Head, Request, Response


async def respond(api: HttpApi, request: Any) -> Any:
    """A workers.Response for a workers.Request."""
    from workers import Response as WorkerResponse

    url = urlsplit(str(request.url))
    target = url.path + (f"?{url.query}" if url.query else "")
    method = str(getattr(request.method, "value", request.method))
    head = Head(method, target, {str(name).lower(): str(value) for name, value in request.headers.items()})
    response: Response | None = api.refuse(head)
    if response is None:
        body = await _body(request, api.max_body)
        response = api.too_large(head) if body is None else await api.handle(Request(*head, body))
    body_of = None if method == "HEAD" else response.body or None
    return WorkerResponse(body_of, status=response.status, headers=response.headers)


async def _body(request: Any, limit: int) -> bytes | None:
    """The body; None as soon as it is over ``limit`` bytes."""
    js_request: Any = request.js_object
    stream: Any = js_request.body
    if not hasattr(stream, "getReader"):  # null: a request without a body
        return b""
    reader = stream.getReader()
    chunks: list[bytes] = []
    size = 0
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
