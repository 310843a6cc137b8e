"""A process that serves workflows as MCP tools from a file: killed and started again by the tests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts.file import FileHost
from alkaline_hosts.mcp_server import mcp_server


async def note(path: str, what: str) -> str:
    with Path(path).open("a") as file:
        file.write(f"{what}\n")
    return what


@workflow
async def publish(ctx: Context, path: str) -> dict[str, str]:
    """Writes, asks for an approval, and publishes."""
    ctx.on_query("approve", lambda: "Shall it be published?")
    await ctx.step("write", note, path, "written")
    said = await ctx.wait_for_signal("approve")
    await ctx.sleep(0.2)
    await ctx.step("publish", note, path, "published")
    return {"said": said}


async def main(store: str, port: int) -> None:
    async with Runtime(FileHost(store), workflows=[publish], lease=1.0) as runtime:
        app = mcp_server(runtime, open_to_all=True, quick=0.1)
        await uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical")).serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
