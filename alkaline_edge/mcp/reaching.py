"""One call of a tool, over whatever client there is: known by what it has, never by its class.

The SDK's ``Client`` and ``ClientSession``, fastmcp's ``Client``, an object with ``call_tool``, an async function
``(name, arguments)``, or a function without parameters that makes one of these, which is then opened for the call.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput

__all__ = ["IDEMPOTENCY_KEY", "Call", "check_client", "connected", "reach"]

IDEMPOTENCY_KEY = "alkaline.dev/idempotency-key"
"""The name, in a call's ``_meta``, of what is the same for each attempt of one step."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a server."""

    name: str
    arguments: dict[str, Any]
    key: str
    responses: dict[str, Any] | None = None
    """Answers to what it has asked for, by the keys that it gave; with ``state``, what it wants back."""
    state: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """More of ``_meta``."""

    def options(self) -> dict[str, Any]:
        """Whatever a client may take beside the tool's name and arguments."""
        return {
            "meta": {**self.more, IDEMPOTENCY_KEY: self.key},
            "allow_input_required": True,
            "input_responses": self.responses,
            "request_state": self.state,
        }


def check_client(client: Any) -> None:
    """InvalidInput for what is no client, before anything is recorded."""
    if not callable(client) and not hasattr(type(client), "call_tool") and not hasattr(client, "call_tool"):
        raise InvalidInput(
            f"a client has call_tool, is an async function (name, arguments), or makes a client when it is called; "
            f"got a {type(client).__name__}"
        )


async def reach(client: Any, call: Call) -> Any:
    """What the client gives for the call."""
    async with connected(client) as found:
        return await _asked(found, call) if hasattr(found, "call_tool") else await _given(found, call)


@asynccontextmanager
async def connected(client: Any) -> AsyncIterator[Any]:
    """What has ``call_tool``, or is the async function: made and opened for as long as this lasts, if need be."""
    if hasattr(type(client), "call_tool") or not callable(client) or _wanted(client) >= 2:
        yield client
        return
    made: Any = client()
    if not hasattr(type(made), "__aenter__"):
        yield made
        return
    async with made as entered:
        yield entered if entered is not None else made


async def _asked(client: Any, call: Call) -> Any:
    try:
        session = getattr(client, "session", None)
    except RuntimeError as error:
        raise InvalidInput(
            "the MCP client is not connected: call durable_tool within its `async with`, or give it a function that "
            "makes the client, which is then opened for each call"
        ) from error
    method = getattr(session, "call_tool", None) or client.call_tool
    return await _given(method, call)


async def _given(method: Callable[..., Any], call: Call) -> Any:
    """Call ``method`` with what it takes of the options. One that takes no answers has never asked for any."""
    parameters = inspect.signature(method).parameters
    named = {name: value for name, value in call.options().items() if name in parameters}
    return await method(call.name, call.arguments, **named)


def _wanted(function: Callable[..., Any]) -> int:
    """How many positional arguments ``function`` takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds for one in inspect.signature(function).parameters.values())
