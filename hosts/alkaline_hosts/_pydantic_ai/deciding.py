"""What somebody outside decides for an agent: which calls of tools, how it is shown, and what is an answer."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults

__all__ = ["Decision", "REFUSED", "digest_of", "shape"]

REFUSED = "alkaline.refused"
"""The one key of a payload that says there will be no answer."""
_RESULTS: TypeAdapter[DeferredToolResults] = TypeAdapter(DeferredToolResults)
_FORM = '{"approvals": {CALL_ID: true | false | {...}}, "calls": {CALL_ID: result}}, or true or false for all approvals'
_SHOWN = 2_000
"""Characters of what is shown of one call's arguments."""


def shape(payload: Any) -> str:
    """Why a payload can't be a decision, whatever was asked; empty for one that can."""
    if isinstance(payload, bool) or (isinstance(payload, dict) and payload.keys() == {REFUSED}):
        return ""
    try:
        _RESULTS.validate_python(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:4])) or "it"
        return f"a decision is {_FORM}; {place[:100]}: {first['msg'][:200]}"
    return ""


def digest_of(payload: JsonValue) -> str:
    """The same for the same answer: one that is sent again counts once, and another one after a wrong one counts."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Decision:
    """The calls that wait for one, where the agent's ``ask`` is that of ``RequestInput``."""

    def __init__(self, requests: DeferredToolRequests) -> None:
        self._requests = requests

    @classmethod
    def of(cls, ask: Callable[..., Any]) -> Decision | None:
        """Of the ``ask`` of a wait; None for a wait of another kind, whose answer may be anything.

        A waiter is told no more than a function, within which RequestInput's own is bound to the calls. Where that is
        otherwise one day, the answer is what it is without this: Pydantic AI's to judge.
        """
        bound = inspect.getclosurevars(ask).nonlocals.get("ask", ask) if inspect.isfunction(ask) else ask
        last = bound.args[-1] if isinstance(bound, functools.partial) and bound.args else None
        return cls(last) if isinstance(last, DeferredToolRequests) else None

    def shown(self, token: str) -> dict[str, Any]:
        """As a query gives it: also what an MCP or AG-UI client is asked for, since its form takes a yes or no."""
        approvals = [_shown(call) for call in self._requests.approvals]
        calls = [_shown(call) for call in self._requests.calls]
        words = ", ".join(f"{each['tool']} {each['args']}" for each in (*approvals, *calls))
        schema = {"type": "object", "properties": {"value": {"type": "boolean"}}, "required": ["value"]}
        return {
            "message": f"The agent wants: {words}",
            "requestedSchema": schema,
            "token": token,
            "approvals": approvals,
            "calls": calls,
        }

    def read(self, payload: Any) -> tuple[JsonValue, str]:
        """The decision in the form that Pydantic AI takes, or why it is none."""
        if isinstance(payload, bool):
            if self._requests.calls:
                return None, f"true and false are for approvals, and results are asked for: send {_FORM}"
            return {"approvals": {call.tool_call_id: payload for call in self._requests.approvals}}, ""
        wrong = shape(payload)
        if wrong or (isinstance(payload, dict) and payload.keys() == {REFUSED}):
            return payload, wrong
        for name, asked in (("approvals", self._requests.approvals), ("calls", self._requests.calls)):
            known = {call.tool_call_id for call in asked}
            given = payload.get(name) or {}
            if unknown := sorted(given.keys() - known):
                return None, f"no call {unknown[0]!r:.100} waits among the {name}; {sorted(known)!r:.300} do"
            if missing := sorted(known - given.keys()):
                return None, f"call {missing[0]!r:.100} waits among the {name}, and there is no decision on it"
        known = {call.tool_call_id for call in (*self._requests.approvals, *self._requests.calls)}
        for name in ("metadata", "answered_by"):
            if unknown := sorted((payload.get(name) or {}).keys() - known):
                return None, f"no call {unknown[0]!r:.100} waits, which {name} names"
        return payload, ""


def _shown(call: Any) -> dict[str, Any]:
    args = call.args if isinstance(call.args, str) else json.dumps(call.args or {})
    return {"id": call.tool_call_id, "tool": call.tool_name, "args": args[:_SHOWN]}
