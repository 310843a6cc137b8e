"""The shop's MCP server: ``python orders.py`` over stdio, ``python orders.py PORT [ORIGIN ...]`` over HTTP on loopback.

ORIGIN is that of a page which may call it. ORDERS_LOG names a file that gets a line for each call.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("orders", log_level="CRITICAL")


def did(what: str) -> None:
    """The world has changed, or was looked at."""
    with Path(os.environ.get("ORDERS_LOG", os.devnull)).open("a") as log:
        log.write(f"{what}\n")


@server.tool()
def look_up(order: str) -> str:
    """What an order is about."""
    did(f"look_up {order}")
    return f"order {order}: a kettle for 12 euros, broken on arrival"


@server.tool()
def refund(order: str, euros: int) -> str:
    """Give the money back."""
    did(f"refund {order}")
    return f"{euros} euros are on their way back"


def serve(port: int, origins: list[str]) -> None:
    """Over HTTP."""
    import uvicorn
    from starlette.middleware.cors import CORSMiddleware

    app = server.streamable_http_app()
    app = CORSMiddleware(app, allow_origins=origins, allow_methods=["POST"], allow_headers=["*"])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]), sys.argv[2:])
    else:
        server.run("stdio")
