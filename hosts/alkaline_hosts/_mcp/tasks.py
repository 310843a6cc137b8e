"""Runs as tasks: what a client is told of a run, what it is asked for, and where its answers go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from alkaline_edge import Runtime, keys
from alkaline_edge.codec import Codec
from alkaline_edge.events import SignalReceived
from alkaline_edge.retention import MAX_RULES, Rule
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime.requests import requests_of

from .._http.json import to_json

ATTRIBUTE = "mcp"
"""The attribute of runs that are tasks: the tool's name. What is started otherwise is no task of any client."""
ELICIT = "elicit:"
"""What begins the name of a signal that takes a client's whole answer: {"action": ..., "content": {...}}."""
POLL_MS = 1_000
_STATUS = {"completed": "completed", "failed": "completed", "cancelled": "cancelled"}
_ANSWER = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}

Asked = dict[str, tuple[str, dict[str, Any]]]
"""What a run waits for: by the key that clients answer under, the signal's name and the request for it."""


def task(record: ExecutionRecord, asked: Mapping[str, Any], kept: int | None = None) -> dict[str, Any]:
    """A run as a Task. ``kept``: how many ms from its creation on, where a rule says so; else until it is deleted."""
    found: dict[str, Any] = {
        "taskId": record.id,
        "status": _STATUS.get(record.status, "input_required" if asked else "working"),
        "createdAt": _time(record.created_at),
        "lastUpdatedAt": _time(record.updated_at),
        "ttlMs": kept,
        "pollIntervalMs": POLL_MS,
    }
    if record.waiting and not record.finished:
        found["statusMessage"] = f"waits for {', '.join(record.waiting)}"[:500]
    return found


async def kept_for(runtime: Runtime, record: ExecutionRecord) -> int | None:
    """ms from its creation that a task stays there, by the store's rules of retention; None where none is about it.

    A run is purged so long after its end, so until then there is no end to its time.
    """
    if not record.finished:
        return None
    entries = await runtime.host.list(keys.RULES, "", MAX_RULES)
    rules = [Rule.from_map(runtime.store.opened(entry), entry.version) for entry in entries]
    about = [
        rule.older_than
        for rule in rules
        if rule.status in (None, record.status) and rule.workflow in (None, record.workflow)
    ]
    return record.updated_at - record.created_at + min(about) if about else None


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def result(record: ExecutionRecord, codec: Codec, modern: bool) -> dict[str, Any]:
    """What a run that has ended came to, as a tool's result."""
    if record.status == "completed":
        value = record.result
        text = value if isinstance(value, str) else to_json(value, codec)
        found = _result(text, False)
        if value is not None and not isinstance(value, str) and (modern or isinstance(value, dict)):
            found["structuredContent"] = value
        return found
    failure = record.failure or {}
    return _result(f"{failure.get('type', 'Error')}: {failure.get('message', record.status)}", True)


def refusal(text: str) -> dict[str, Any]:
    """A tool's result that says what is wrong, so that a model can see it and do better."""
    return _result(text, True)


def _result(text: str, is_error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}


async def asked_by(runtime: Runtime, record: ExecutionRecord) -> Asked:
    """What the run waits for of a client. A key names one wait, and no other in the run's life.

    What is asked is what the run's query of the signal's name says, if it has one: a text, or {"message": ...,
    "requestedSchema": {...}}.
    """
    names = [text.removeprefix("signal ") for text in record.waiting if text.startswith("signal ")]
    if record.status != "suspended" or not names:
        return {}
    entries = await runtime.host.list(keys.requests(record.id), "", 100)
    sent = {request.name for request in requests_of(entries, runtime.store) if request.kind == "signal"}
    names = [name for name in names if name not in sent]  # else it is answered, and the run has yet to hear of it
    events = [each.event for each in await runtime.history(record.id)]
    had = Counter(event.name for event in events if isinstance(event, SignalReceived))
    found: Asked = {}
    for name in dict.fromkeys(names):
        params: dict[str, Any] = {"mode": "form", "message": f"The tool waits for {name}.", "requestedSchema": _ANSWER}
        try:
            said = await runtime.query(record.id, name)
        except Exception:  # there is none, or it raised: what is asked for is asked for all the same
            said = None
        if isinstance(said, str):
            params["message"] = said
        elif isinstance(said, Mapping):
            params.update(said)
        key = f"{name}#{record.generation}.{had[name]}"
        found[key] = (name, {"method": "elicitation/create", "params": params})
    return found


async def answer(runtime: Runtime, record: ExecutionRecord, responses: Mapping[str, Any]) -> None:
    """Hand a client's answers to the run. Keys that are unknown, or answered already, are passed over.

    A signal whose name begins with ``elicit:`` gets the answer as it is. Another one gets what was entered; where the
    user declined, the run is cancelled, since nothing tells it otherwise.
    """
    asked = await asked_by(runtime, record)
    for key, response in responses.items():
        if key not in asked or not isinstance(response, Mapping):
            continue
        name = asked[key][0]
        action, content = response.get("action"), response.get("content")
        if name.startswith(ELICIT):
            payload: Any = {"action": action, "content": content}
        elif action == "accept":
            payload = content["value"] if isinstance(content, dict) and content.keys() == {"value"} else content
        else:
            await runtime.cancel(record.id, f"the client's user answered {action} to {name}"[:500])
            continue
        await send_answer(runtime, record, key, name, payload)


async def send_answer(runtime: Runtime, record: ExecutionRecord, key: str, name: str, payload: Any) -> None:
    """The signal that answers what is asked under ``key``: once, however often it is sent."""
    await runtime.signal(record.id, name, payload, dedupe=f"asked:{key}"[:200])
