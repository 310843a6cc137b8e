"""What goes wrong with a tool's call, in five words, from the errors that clients raise.

No client is imported here: errors are known by the names of their classes.
"""

from __future__ import annotations

from typing import Any, Final

from ..failures import StepError

__all__ = ["INVALID_PARAMS", "ToolFailed", "failure_of", "revived"]

INVALID_PARAMS: Final = -32602
"""JSON-RPC's code for parameters that a server does not take; a state of a call that it does not know is one."""
_CLOSED, _TIMED_OUT, _NO_CAPABILITY, _NO_JSON = -32000, -32001, -32021, -32700
_UNREACHABLE = {
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "HTTPStatusError",
    "TransportError",
    "TransportException",
}
_MALFORMED = {"ValidationError", "JSONDecodeError"}
_LIES = ("Invalid structured content", "Invalid schema for tool", "Unexpected content type")


class ToolFailed(Exception):
    """A tool's call came to no result. What a tool itself reports as an error is a result: ``is_error`` in it.

    ``code`` is one of: ``unreachable`` (the server is gone, or what answers is not one), ``timeout``, ``refused`` (an
    error of the protocol; its number is ``detail["rpc"]``), ``invalid`` (an answer that breaks the protocol, or the
    schema that the tool itself declares), ``unanswered`` (it asks for what nobody here can give, or for ever more).
    """

    def __init__(self, message: str, code: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail or {}


def revived(error: StepError) -> BaseException:
    """The ToolFailed that a step has raised, as the history kept it; any other error as it is."""
    if error.type == "ToolFailed" and isinstance(error.code, str):
        return ToolFailed(str(error), error.code, error.detail if isinstance(error.detail, dict) else {})
    if error.type == "TimeoutError":
        return ToolFailed(str(error), "timeout")
    return error


def failure_of(error: BaseException, tool: str) -> ToolFailed | None:
    """What a client's error means; None where it is none that a server causes."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # anyio's groups, around what one of their tasks raised
    names = {kind.__name__ for kind in type(error).__mro__}
    if "MCPError" in names or "McpError" in names:
        return _of_protocol(error, tool)
    if isinstance(error, TimeoutError) or "TimeoutException" in names:
        return ToolFailed(f"tool {tool!r} did not answer in time", "timeout")
    if isinstance(error, (OSError, EOFError)) or names & _UNREACHABLE:
        return ToolFailed(f"tool {tool!r} was not reached: {_words(error)}", "unreachable")
    text = str(error)
    if names & _MALFORMED or (isinstance(error, RuntimeError) and (text.startswith(_LIES) or "output schema" in text)):
        return ToolFailed(f"tool {tool!r} answered what is not valid: {_words(error)}", "invalid")
    return None


def _of_protocol(error: BaseException, tool: str) -> ToolFailed:
    number = getattr(error, "code", None)
    if number == _CLOSED:
        return ToolFailed(f"tool {tool!r} was not reached: {_words(error)}", "unreachable", {"rpc": number})
    if number == _TIMED_OUT:
        return ToolFailed(f"tool {tool!r} did not answer in time", "timeout", {"rpc": number})
    if number == _NO_JSON:
        return ToolFailed(f"tool {tool!r} answered what is not valid: {_words(error)}", "invalid", {"rpc": number})
    hint = (
        "; it asks for input: make the client with alkaline_hosts.mcp.mcp_client, or give yours a callback for that"
        if number == _NO_CAPABILITY
        else ""
    )
    detail = {"rpc": number} if isinstance(number, int) else {}
    return ToolFailed(f"tool {tool!r} was refused: {_words(error)}{hint}", "refused", detail)


def _words(error: BaseException) -> str:
    """What the error says, of a length that a record takes. A server may have written it."""
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 500 else f"{text[:500]}..."
