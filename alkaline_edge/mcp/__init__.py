"""Tools of MCP servers as durable steps, over any client that has ``call_tool``."""

from .failing import ToolFailed
from .listing import durable_tools
from .results import text_of
from .tools import durable_tool

__all__ = ["ToolFailed", "durable_tool", "durable_tools", "text_of"]
