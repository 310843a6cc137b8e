"""Clients of MCP servers for ``alkaline_edge.mcp.durable_tool``: the official SDK's, which is the extra ``mcp``, and a
small one for pages and Workers, which needs nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from alkaline_edge.errors import InvalidInput, UnknownOutcome
from alkaline_edge.limits import check_seconds

from ._http.fetching import Fetch, default

__all__ = ["FetchClient", "MCPError", "mcp_client"]


def mcp_client(server: Any, **options: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """A function that makes a client of ``server``, which ``durable_tool`` opens for each call.

    ``server`` is a URL, an ``mcp.StdioServerParameters``, or whatever else ``mcp.Client`` takes and can take again;
    ``options`` are its own. So a call needs no connection that was made before it, in this process or in another, and a
    server that comes back is found again. The client says that it answers elicitations, as ``durable_tool`` does: of a
    server of before 2026-07-28, which asks within the call, they are declined unless ``elicitation_callback`` is given.
    ERR_INVALID_INPUT: the extra is not installed.
    """
    try:
        from mcp import Client
    except ImportError as error:
        raise InvalidInput("the MCP client is an extra: pip install alkaline-edge[mcp]") from error
    if "elicitation_callback" not in options:
        options["elicitation_callback"] = _declines
    return lambda: Client(server, **options)


async def _declines(context: Any, params: Any) -> Any:
    from mcp_types import ElicitResult

    return ElicitResult(action="decline")


class MCPError(Exception):
    """What a server answered in place of a result: an error of JSON-RPC, with its number in ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FetchClient:
    """A client for pages and Workers: one POST a call, by the platform's own ``fetch`` (elsewhere by httpx).

    It speaks the protocol of 2026-07-28, which has no sessions, with servers over HTTP, and needs no package there.
    ``headers`` go with each call, such as ``authorization``; ``timeout`` is in seconds; an answer of more than
    ``max_bytes`` is refused as it comes in. ``fetch(method, url, headers, body)`` may be given in place of the
    platform's; it returns the status and the body. It checks no result against a tool's schema and sends no headers
    that a tool's schema asks for: the official client does both. ERR_INVALID_INPUT: the URL is none of http or https.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_bytes: int = 4 * 1024 * 1024,
        fetch: Fetch | None = None,
    ) -> None:
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise InvalidInput("an MCP server's URL begins with https:// or http:// and names a host")
        self._url, self._headers, self._most = url, dict(headers or {}), max_bytes
        self._timeout = check_seconds(timeout, "FetchClient(timeout=)", least=1e-3)
        self._fetch = fetch

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        input_responses: Mapping[str, Any] | None = None,
        request_state: str | None = None,
    ) -> dict[str, Any]:
        """The result, as JSON has it. MCPError where the server refused, or what answered is no MCP server.

        ``meta`` goes into the request's ``_meta``; ``input_responses`` and ``request_state`` answer what an earlier
        call was asked for.
        """
        params: dict[str, Any] = {"name": name, "arguments": dict(arguments), "_meta": {**(meta or {}), **_META}}
        if input_responses is not None:
            params["inputResponses"] = dict(input_responses)
        if request_state is not None:
            params["requestState"] = request_state
        return await self._asked("tools/call", params, name)

    async def list_tools(self, *, cursor: str | None = None) -> dict[str, Any]:
        """A page of the server's tools, as JSON has it: ``tools``, and ``nextCursor`` where there are more.

        That is the ``cursor`` of the next page.
        """
        return await self._asked("tools/list", {"_meta": _META} | ({} if cursor is None else {"cursor": cursor}), None)

    async def _asked(self, method: str, params: Mapping[str, Any], name: str | None) -> dict[str, Any]:
        headers = {
            **self._headers,
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": _VERSION,
            "mcp-method": method,
            **({} if name is None else {"mcp-name": _as_header(name)}),
        }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        status, answer = await self._posted(headers, body)
        return _result_in(answer, status)

    async def _posted(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. The connection is the call's own: the next one may be in another loop."""
        if self._fetch is not None:
            status, answer = await self._fetch("POST", self._url, headers, body)
            if len(answer) > self._most:
                raise MCPError(f"the server answered with more than {self._most:,} bytes", _MALFORMED)
            return status, answer
        fetch: Any = default(self._timeout)
        try:
            status, answer, _ = await fetch.bounded("POST", self._url, headers, body, self._most)
            return status, answer
        except UnknownOutcome as error:
            raise MCPError(str(error), _MALFORMED) from error
        finally:
            if hasattr(fetch, "close"):
                await fetch.close()


_MALFORMED = -32700
_VERSION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "alkaline_edge", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}},
}
_PLAIN = re.compile(r"[!-~]([ -~]*[!-~])?")


def _as_header(name: str) -> str:
    """As the protocol writes what is no plain ASCII into a header."""
    if _PLAIN.fullmatch(name) and not name.startswith("=?base64?"):
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


def _result_in(answer: bytes, status: int) -> dict[str, Any]:
    """The result in a body, which is one message, or a stream of events of which one holds it."""
    for text in [answer, *_events(answer)]:
        try:
            message = json.loads(text)
        except ValueError:
            continue
        if not isinstance(message, dict) or message.get("id") != 1:
            continue
        if isinstance(message.get("result"), dict):
            result: dict[str, Any] = message["result"]
            return result
        error = message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            raise MCPError(str(error.get("message")), code if isinstance(code, int) else -32603)
    if status in (502, 503, 504) or status == 404:
        raise ConnectionError(f"HTTP {status}, and no MCP server behind it")
    raise MCPError(f"HTTP {status}, and no message of MCP: is it an MCP server of {_VERSION}?", _MALFORMED)


def _events(answer: bytes) -> Iterator[bytes]:
    """The data of the events of a stream."""
    data: list[bytes] = []
    for line in [*answer.splitlines(), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
