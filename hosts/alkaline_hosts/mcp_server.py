"""``mcp_server``: each workflow of a runtime as a tool of an MCP server on ASGI, with tasks that outlive its process.

    app = mcp_server(Runtime(PostgresHost(pool), workflows=[research]), token=os.environ["ALKALINE_TOKEN"])

A call is a run. A client that takes tasks (the extension ``io.modelcontextprotocol/tasks`` of 2026-07-28) gets one
where the run takes longer than a moment: it is the run, so it goes on from its last step when the server dies, and is
asked for on any server of the store. It needs no package but this one. docs/mcp.md has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alkaline_edge import Runtime
from alkaline_edge.board import Board
from alkaline_edge.limits import check_seconds

from ._http.application import App, application, who_may_ask
from ._http.messages import MAX_BODY
from ._mcp.server import McpApi

__all__ = ["mcp_server"]


def mcp_server(
    runtime: Runtime,
    *,
    token: str | Iterable[str] = (),
    keys: Mapping[str, str | bytes] | None = None,
    origins: Iterable[str] = (),
    max_body: int = MAX_BODY,
    serve: bool = True,
    open_to_all: bool = False,
    hosts: Iterable[str] = (),
    quick: float = 1.0,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
    boards: Iterable[Board] = (),
) -> App:
    """An ASGI application that is an MCP server of streamable HTTP, at whatever path it is mounted.

    Who may ask, ``origins``, ``max_body``, ``serve`` and ``hosts`` are as for ``asgi_app``. ``quick``: seconds for
    which a client that takes tasks waits for a result before it gets a task. ``schemas``: by workflow, the JSON Schema
    of its arguments, in place of what the handler's annotations say; then all arguments are the run's input.
    ``boards``: of ``runtime``, whose verbs are tools as well, named by the board: ``team_create``, ``team_claim``.
    """
    access = who_may_ask("mcp_server", runtime, token, keys, max_body, serve, open_to_all)
    quick = check_seconds(quick, "mcp_server(quick=)")
    api = McpApi(runtime, access, origins, max_body, hosts, quick=quick, schemas=schemas, boards=boards)
    return application(runtime, api, serve)
