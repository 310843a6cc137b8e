"""JSON-RPC as MCP has it over HTTP: a request per POST, with its protocol version in it. Pure: no I/O.

The revision 2026-07-28 has no sessions: each request says its version and what its client can do, in ``_meta`` and in
headers, which must agree. Before it, a client began with ``initialize``; it is answered too, without a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from alkaline_edge.errors import InvalidInput

from .._http.json import from_json
from .._http.messages import Request

MODERN = "2026-07-28"
FORMER = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""The versions that begin with ``initialize``."""
TASKS = "io.modelcontextprotocol/tasks"
_META = "io.modelcontextprotocol/"
VERSION, CAPABILITIES = f"{_META}protocolVersion", f"{_META}clientCapabilities"

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32020, -32021, -32022
STATUS = {
    PARSE_ERROR: 400, INVALID_REQUEST: 400, INVALID_PARAMS: 400, HEADER_MISMATCH: 400, MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400, METHOD_NOT_FOUND: 404,
}  # fmt: skip
"""HTTP statuses by code; 200 for what is not among them."""
_NAMED = {"tools/call": "name", "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId"}
"""By method, what of its parameters the header Mcp-Name repeats."""


class RpcError(Exception):
    """An answer that is an error of the protocol, with what clients are told of it."""

    def __init__(self, code: int, message: str, data: Any = None, id: Any = None) -> None:
        super().__init__(message)
        self.code, self.data, self.id = code, data, id

    def value(self) -> dict[str, Any]:
        """As it is sent."""
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.data is not None:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": self.id, "error": error}


class Call(NamedTuple):
    """One request. ``modern``: of the revision without sessions; ``able``: what the client has said that it can do."""

    id: Any
    method: str
    params: dict[str, Any]
    modern: bool
    able: Mapping[str, Any]

    @property
    def has_tasks(self) -> bool:
        """Whether the client takes a task in place of a result."""
        extensions = self.able.get("extensions")
        return isinstance(extensions, Mapping) and TASKS in extensions

    @property
    def can_be_asked(self) -> bool:
        """Whether its user can be asked for something."""
        return isinstance(self.able.get("elicitation"), Mapping)

    def text(self, name: str) -> str:
        """A parameter that is a text; RpcError where it is none."""
        value = self.params.get(name)
        if not isinstance(value, str) or not value:
            raise RpcError(INVALID_PARAMS, f"{self.method} wants {name}, a text", id=self.id)
        return value


def parse(request: Request) -> Call | None:
    """The call of a POST; None for a notification, which nobody wants answered. RpcError for what is neither."""
    try:
        body = from_json(request.body)
    except InvalidInput as error:
        raise RpcError(PARSE_ERROR, str(error)) from None
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or not isinstance(body.get("method"), str):
        raise RpcError(INVALID_REQUEST, "the body is one JSON-RPC 2.0 request or notification")
    if "id" not in body:
        return None
    id, method, params = body["id"], body["method"], body.get("params")
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise RpcError(INVALID_REQUEST, "the id of a request is a text or a whole number")
    if params is not None and not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params is an object", id=id)
    params = params or {}
    meta = params.get("_meta")
    asked = request.headers.get("mcp-protocol-version")
    in_body = meta.get(VERSION) if isinstance(meta, dict) else None
    if in_body is None and asked != MODERN:
        if asked is not None and asked not in FORMER:
            raise _unsupported(asked, id)
        return Call(id, method, params, False, {})
    return _modern(request.headers, Call(id, method, params, True, {}), meta)


def _modern(headers: Mapping[str, str], call: Call, meta: Any) -> Call:
    if not isinstance(meta, dict) or VERSION not in meta or not isinstance(meta.get(CAPABILITIES), dict):
        raise RpcError(INVALID_PARAMS, f"params._meta must have {VERSION} and {CAPABILITIES}", id=call.id)
    version, named = meta[VERSION], _NAMED.get(call.method)
    pairs = [("mcp-protocol-version", version), ("mcp-method", call.method)]
    if named is not None and ("mcp-name" in headers or call.method == "tools/call"):
        pairs.append(("mcp-name", call.params.get(named)))
    for name, value in pairs:
        if headers.get(name) != value and value is not None:
            raise RpcError(HEADER_MISMATCH, f"the header {name} is not what the body says", id=call.id)
    if version != MODERN:
        raise _unsupported(version, call.id)
    return call._replace(able=meta[CAPABILITIES])


def _unsupported(version: Any, id: Any) -> RpcError:
    data = {"supported": [*FORMER, MODERN], "requested": version}
    return RpcError(UNSUPPORTED_VERSION, "this protocol version is not spoken here", data, id)
