"""Runs over HTTP, as plain values: what a Worker's ``fetch`` and a Durable Object's RPC methods share.

    POST /runs                          {"workflow", "input"?, "id"?, "attributes"?}; ?settle=1 waits until it rests
    GET  /runs                          ?status= &workflow= &after= &limit=
    GET  /runs/ID                       the run's record
    GET  /runs/ID/events                its history, event by event; ?after=N leaves out the first N
    POST /runs/ID/signals/NAME          the payload; ?dedupe=KEY makes a repeated signal one signal
    GET  /runs/ID/queries/NAME
    POST /runs/ID/updates/NAME          the payload; answers with the reply
    POST /runs/ID/cancel | pause | resume

Bodies are JSON. An error is {"error": {"code", "message"}} under the status that fits its code. Nothing here asks who
is calling: the Worker in front decides that.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote

from alkaline_edge.errors import AlkalineError, InvalidInput, NotFound
from alkaline_edge.failures import StepError, describe, revive
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime import Run, Runtime

from ._http import STATUS

PUBLIC = (
    "id", "workflow", "version", "status", "attempt", "spent", "cursor_length", "waiting", "wake_at", "parent", "depth",
    "attributes", "created_at", "updated_at", "result", "failure",
)  # fmt: skip
"""The fields of a record that are shown: not its owner and not the random id in its keys."""


class Answer(NamedTuple):
    """An HTTP status and the JSON text that goes with it."""

    status: int
    body: str


def to_json(value: Any) -> str:
    """``value`` as JSON: bytes as base64, dates as ISO text."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode("ascii")
    if isinstance(value, date):
        return value.isoformat()
    raise InvalidInput(f"a {type(value).__name__} has no place in JSON; return plain values")


def shown(record: ExecutionRecord) -> dict[str, Any]:
    """A record as callers see it."""
    return {name: getattr(record, name) for name in PUBLIC}


class RunsApi:
    """The verbs, over one runtime. Each returns plain values and raises what the runtime raises.

    ``touched`` are the runs that it set in motion.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.touched: set[str] = set()

    async def start(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        attributes: dict[str, Any] | None = None,
        settle: bool = False,
    ) -> dict[str, Any]:
        """Record a run and begin it. With ``settle``, return when it is finished or suspended."""
        run: Run = await self._runtime.start(workflow, input, id, attributes=attributes)
        self.touched.add(run.id)
        if settle:
            await run.settle()
        return await self.status(run.id)

    async def status(self, id: str) -> dict[str, Any]:
        """The run's record."""
        return shown(await self._runtime.get_execution(id))

    async def runs(
        self, status: str | None = None, workflow: str | None = None, after: str = "", limit: int = 50
    ) -> dict[str, Any]:
        """A page of records, and where the next one begins, None at the end."""
        page = await self._runtime.list_executions(status, workflow, after=after, limit=limit)
        return {"runs": [shown(record) for record in page], "after": page.after}

    async def events(self, id: str, after: int = 0) -> list[dict[str, Any]]:
        """The history behind its first ``after`` events: number, commit, time, kind and what the event holds."""
        found = []
        for number, (commit, at, event) in enumerate(await self._fields(id)):
            if number >= after:
                held = event._asdict()
                del held["kind"]
                found.append({"n": number, "commit": commit, "at": at, "kind": type(event).__name__, **held})
        return found

    async def _fields(self, id: str) -> list[tuple[int, int, Any]]:
        return [(item.commit, item.at, item.event) for item in await self._runtime.history(id)]

    async def signal(self, id: str, name: str, payload: Any = None, dedupe: str | None = None) -> None:
        """Send a signal; it is durable when this returns."""
        self.touched.add(id)
        await self._runtime.signal(id, name, payload, dedupe)

    async def query(self, id: str, name: str, *args: Any) -> Any:
        """What the run's query handler returns. What it raises is a StepError here, fit for callers elsewhere."""
        try:
            return await self._runtime.query(id, name, *args)
        except AlkalineError:
            raise
        except Exception as error:
            raise revive(describe(error, self._runtime.codec)) from error

    async def update(self, id: str, name: str, payload: Any = None) -> Any:
        """Send an update and return its reply."""
        self.touched.add(id)
        return await self._runtime.update(id, name, payload)

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end."""
        self.touched.add(id)
        await self._runtime.cancel(id, reason)

    async def pause(self, id: str) -> None:
        """Ask for a pause."""
        self.touched.add(id)
        await self._runtime.pause(id)

    async def resume(self, id: str) -> None:
        """Go on after a pause, or after code was mended."""
        self.touched.add(id)
        await self._runtime.resume(id)

    # --- over HTTP -------------------------------------------------------------------------------------------------
    async def handle(self, method: str, path: str, query: Mapping[str, str], body: str) -> Answer:
        """Answer one request; see this module for what there is. Errors that callers can act on become answers."""
        try:
            status, value = await self._route(method, path, query, body)
            return Answer(status, to_json(value))
        except AlkalineError as error:
            return Answer(STATUS.get(error.code, 422), to_json({"error": {"code": error.code, "message": str(error)}}))
        except StepError as error:  # what a query or an update handler raised
            return Answer(422, to_json({"error": {"code": error.code, "message": str(error)}}))

    async def _route(self, method: str, path: str, query: Mapping[str, str], body: str) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.split("/") if part]
        if "runs" not in parts:
            raise NotFound("there is nothing here; runs are under /runs")
        match method, parts[parts.index("runs") + 1 :]:
            case "POST", []:
                return 201, await self._start(_parsed(body), query)
            case "GET", []:
                return 200, await self.runs(
                    query.get("status"), query.get("workflow"), query.get("after", ""), _number(query, "limit", 50)
                )
            case "GET", [id]:
                return 200, await self.status(id)
            case "GET", [id, "events"]:
                return 200, await self.events(id, _number(query, "after", 0))
            case "GET", [id, "queries", name]:
                return 200, await self.query(id, name)
            case "POST", [id, "signals", name]:
                await self.signal(id, name, _parsed(body), query.get("dedupe"))
            case "POST", [id, "updates", name]:
                return 200, await self.update(id, name, _parsed(body))
            case "POST", [id, "cancel"]:
                await self.cancel(id, query.get("reason"))
            case "POST", [id, "pause"]:
                await self.pause(id)
            case "POST", [id, "resume"]:
                await self.resume(id)
            case _:
                raise NotFound(f"there is no {method} {path}")
        return 202, await self.status(id)

    async def _start(self, wanted: Any, query: Mapping[str, str]) -> dict[str, Any]:
        if not isinstance(wanted, dict) or not isinstance(wanted.get("workflow"), str):
            raise InvalidInput('expected a JSON object with the name of a workflow: {"workflow": "research"}')
        unknown = wanted.keys() - {"workflow", "input", "id", "attributes"}
        if unknown:
            raise InvalidInput(f"a run is started with workflow, input, id and attributes, not {sorted(unknown)}")
        return await self.start(
            wanted["workflow"], wanted.get("input"), wanted.get("id"), wanted.get("attributes"), "settle" in query
        )


def _parsed(body: str) -> Any:
    try:
        return json.loads(body) if body.strip() else None
    except ValueError:
        raise InvalidInput("the body is not JSON") from None


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise InvalidInput(f"{name} is a number, not {text!r}")
    return int(text)
