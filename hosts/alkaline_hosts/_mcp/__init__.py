"""MCP, serving: a runtime as a server of tools. `mcp_server` is the door."""
