"""Runs over HTTP, as plain values: what a Worker's ``fetch`` and a Durable Object's RPC methods share.

    POST /runs                          {"workflow", "input"?, "id"?, "on_conflict"?, "attributes"?, "start_at"?,
                                        "budget"?}; ?settle=1 waits until it rests, for a minute at most
    GET  /runs                          ?status= &workflow= &attribute=NAME=VALUE &after= &limit=
    GET  /runs/ID                       the run's record
    GET  /runs/ID/events                its history, event by event; ?after=N leaves out the first N
    POST /runs/ID/signals/NAME          the payload; ?dedupe=KEY makes a repeated signal one signal
    GET  /runs/ID/queries/NAME
    POST /runs/ID/updates/NAME          the payload; answers with the reply
    POST /runs/ID/cancel                ?reason=
    POST /runs/ID/pause | resume

Bodies are JSON (``json`` says how values look in it); docs/http.md is the page for users. HEAD is GET without the
body. An error is {"error": {"code", "message", "detail"}} under the status that fits its code. Nothing here asks who is
calling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from alkaline_edge.budget import Budget
from alkaline_edge.errors import AlkalineError, InvalidInput, NotFound, UnknownOutcome
from alkaline_edge.failures import describe, redact, revive
from alkaline_edge.runs import ExecutionRecord
from alkaline_edge.runtime import Run, Runtime

from .json import from_json, to_json
from .messages import Refused, Request, pick

PUBLIC = (
    "id", "workflow", "version", "status", "attempt", "spent", "cursor_length", "waiting", "wake_at", "parent", "depth",
    "attributes", "created_at", "updated_at", "result", "failure", "generation", "moved_to",
)  # fmt: skip
"""The fields of a record that are shown: not its owner and not the random id in its keys."""
START = ("workflow", "input", "id", "on_conflict", "attributes", "start_at", "budget")
"""What a run is started with, over HTTP, over RPC and by a Remote."""
WAIT_SECONDS = 60.0
"""For how long an HTTP request waits for a run: longer ones are cut by what lies between."""

T = TypeVar("T")


def shown(record: ExecutionRecord) -> dict[str, Any]:
    """A record as callers see it."""
    return {name: getattr(record, name) for name in PUBLIC}


class RunsApi:
    """The verbs, over one runtime. Each returns plain values and raises what the runtime raises.

    ``touched`` takes the ids of the runs that it set in motion; without it they are not kept.
    """

    def __init__(self, runtime: Runtime, touched: set[str] | None = None) -> None:
        self._runtime, self._touched = runtime, touched

    async def start(
        self,
        workflow: str,
        input: Any = None,
        id: str | None = None,
        settle: bool = False,
        on_conflict: str = "reject",
        attributes: dict[str, Any] | None = None,
        start_at: str | datetime | None = None,
        budget: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Record a run and begin it. With ``settle``, return when it is finished or suspended.

        ``start_at`` may be ISO 8601 text with its offset, ``budget`` is {"tokens": 1000, "usd": 0.5} or a part of it.
        """
        run = await self._start(workflow, input, id, on_conflict, attributes, start_at, budget)
        if settle:
            await run.settle()
        return await self.status(run.id)

    async def _start(
        self, workflow: Any, input: Any, id: Any, on_conflict: Any, attributes: Any, start_at: Any, budget: Any
    ) -> Run:
        run = await self._runtime.start(
            workflow, input, id, on_conflict, attributes, _time(start_at), budget=_budget(budget)
        )
        self._touch(run.id)
        return run

    def _touch(self, id: str) -> None:
        if self._touched is not None:
            self._touched.add(id)

    async def status(self, id: str) -> dict[str, Any]:
        """The run's record, and under "stuck" what keeps it from going on in this process."""
        return self._shown(await self._runtime.get_execution(id))

    def _shown(self, record: ExecutionRecord) -> dict[str, Any]:
        runtime, stuck = self._runtime, None
        error: BaseException | None = runtime.stuck.get(record.id) or runtime.crashed.get(record.id)
        if error is not None and not record.finished:
            code, text = getattr(error, "code", None), redact(str(error))
            stuck = {
                "code": code if isinstance(code, str) else None,
                "message": text if isinstance(error, AlkalineError) else f"{type(error).__name__}: {text}",
            }
        return {**shown(record), "stuck": stuck}

    async def runs(
        self,
        status: str | None = None,
        workflow: str | None = None,
        after: str = "",
        limit: int = 50,
        attributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A page of records."""
        page = await self._runtime.list_executions(status, workflow, attributes, after=after, limit=limit)
        return {"runs": [self._shown(record) for record in page], "after": page.after}

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
        self._touch(id)
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
        self._touch(id)
        return await self._runtime.update(id, name, payload)

    async def cancel(self, id: str, reason: str | None = None) -> None:
        """Ask for the run's end."""
        self._touch(id)
        await self._runtime.cancel(id, reason)

    async def pause(self, id: str) -> None:
        """Ask for a pause."""
        self._touch(id)
        await self._runtime.pause(id)

    async def resume(self, id: str) -> None:
        """Go on after a pause, or after code was mended."""
        self._touch(id)
        await self._runtime.resume(id)

    # --- over HTTP -------------------------------------------------------------------------------------------------
    async def handle(self, request: Request, rest: list[str]) -> tuple[int, str]:
        """Answer a request whose path behind /runs is ``rest``: a status and JSON. Errors are raised."""
        status, value = await self._route(request, rest)
        return status, to_json(value, self._runtime.codec)

    async def _route(self, request: Request, rest: list[str]) -> tuple[int, Any]:
        head = request.head
        match rest:
            case []:
                methods: dict[str, Any] = {"GET": self._list, "POST": self._begin}
                return await pick(methods, request.method, head)(request)  # type: ignore[no-any-return]  # one of these
            case [id]:
                pick({"GET": True}, request.method, head)
                head.query()
                return 200, await self.status(id)
            case [id, "events"]:
                pick({"GET": True}, request.method, head)
                return 200, await self.events(id, _number(head.query("after"), "after", 0))
            case [id, "queries", name]:
                pick({"GET": True}, request.method, head)
                head.query()
                return 200, await self.query(id, name)
            case [id, "signals" | "updates" as kind, name]:
                pick({"POST": True}, request.method, head)
                given = head.query("dedupe") if kind == "signals" else head.query()
                payload = _parsed(request.body)
                if kind == "updates":
                    return 200, await self._update(request, id, name, payload)
                await self.signal(id, name, payload, given.get("dedupe"))
            case [id, "cancel" | "pause" | "resume" as verb]:
                pick({"POST": True}, request.method, head)
                given = head.query("reason") if verb == "cancel" else head.query()
                if request.body.strip() not in (b"", b"null", b"{}"):
                    raise InvalidInput(f"{verb} takes no body" + ("; say why in ?reason=" if verb == "cancel" else ""))
                await getattr(self, verb)(id, **given)
            case _:
                raise NotFound(f"there is no {head.path[:200]}; runs are under /runs, see docs/http.md")
        return 202, await self.status(id)

    async def _list(self, request: Request) -> tuple[int, Any]:
        query = request.head.query("status", "workflow", "after", "limit", many="attribute")
        attributes = dict(attribute(text, "attribute=") for text in query["attribute"])
        limit = _number(query, "limit", 50)
        after = query.get("after", "")
        return 200, await self.runs(query.get("status"), query.get("workflow"), after, limit, attributes)

    async def _begin(self, request: Request) -> tuple[int, Any]:
        settle = _flag(request.head.query("settle"), "settle")
        wanted = _parsed(request.body)
        if not isinstance(wanted, dict) or not isinstance(wanted.get("workflow"), str):
            raise InvalidInput('expected a JSON object with the name of a workflow: {"workflow": "research"}')
        unknown = sorted(wanted.keys() - set(START))
        if unknown:
            raise InvalidInput(f"a run is started with {', '.join(START)}, not with {', '.join(unknown)[:200]}")
        given = {name: wanted.get(name) for name in START}
        run = await self._start(**given | {"on_conflict": wanted.get("on_conflict", "reject")})
        if settle:
            await self._within(run.settle(), request)
        return 201, await self.status(run.id)

    async def _update(self, request: Request, id: str, name: str, payload: Any) -> Any:
        self._touch(id)
        answered, reply = await self._within(self._runtime.update(id, name, payload), request)
        if not answered:
            raise UnknownOutcome(
                f"run {id!r} did not answer the update {name!r} within {WAIT_SECONDS:.0f} seconds; it is recorded, and "
                "the run takes it when a runtime goes on with it",
                id=id,
            )
        return reply

    async def _within(self, work: Coroutine[Any, Any, T], request: Request) -> tuple[bool, T | None]:
        """What ``work`` returns, if it does so in time and while somebody waits for it; nothing goes on behind."""
        task = asyncio.ensure_future(work)
        limits = [asyncio.ensure_future(self._runtime.host.sleep(WAIT_SECONDS))]
        if request.gone is not None:
            limits.append(asyncio.ensure_future(request.gone()))
        try:
            await asyncio.wait([task, *limits], return_when=asyncio.FIRST_COMPLETED)
            return (True, task.result()) if task.done() else (False, None)
        finally:
            for each in (task, *limits):
                each.cancel()
            await asyncio.gather(task, *limits, return_exceptions=True)


def attribute(text: str, option: str) -> tuple[str, Any]:
    """``NAME=VALUE``; VALUE is a number, true or false where it reads as JSON, otherwise text ("7" is the text 7)."""
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidInput(f"{option} wants NAME=VALUE, not {text[:60]!r}")
    try:
        found = from_json(value)
    except InvalidInput:
        return name, value
    return name, found if isinstance(found, (str, int, float, bool)) else value


def _parsed(body: bytes) -> Any:
    return from_json(body) if body.strip() else None


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Refused(400, f"{name} is a whole number of at most 15 digits, not {text[:40]!r}")
    return int(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "0").lower()
    if text not in ("", "0", "1", "true", "false"):
        raise Refused(400, f"{name} is 1 or 0, not {text[:40]!r}")
    return text in ("", "1", "true")


def _time(given: str | datetime | None) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    try:
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput("start_at is a time with its offset, such as 2026-11-26T15:00:00Z")
    return found


def _budget(given: Any) -> Budget | None:
    if given is None or isinstance(given, Budget):
        return given
    if not isinstance(given, Mapping) or not given or given.keys() - {"tokens", "usd"}:
        raise InvalidInput('budget is {"tokens": 1000, "usd": 0.5}, or one of the two')
    return Budget(**given)
