"""A runtime as an MCP server: each workflow a tool, each run of it a task. No I/O of its own; ``rpc`` has the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from alkaline_edge import Runtime, __version__
from alkaline_edge.board import Board
from alkaline_edge.errors import AlkalineError, ConflictError, InvalidInput, NotFound
from alkaline_edge.runs import ExecutionRecord

from .._http.api import Gate, HttpApi
from .._http.json import to_json
from .._http.messages import JSON, MAX_BODY, Request, Response, pick
from . import rpc, tasks
from .boards import verbs_of
from .rpc import INVALID_PARAMS, MODERN, Call, RpcError
from .tools import Tool, tool_of

KEY = "alkaline.dev/idempotency-key"
"""In the ``_meta`` of a call: calls of a tool with the same key are one run."""
PATIENCE_SECONDS = 45.0
"""How long a client that takes no tasks waits for a result; then it is told to ask again."""
_LOOK_SECONDS = 0.5
_INFO = {"name": "alkaline_edge", "version": __version__}


class McpApi(HttpApi):
    """Answers MCP requests for one runtime; who may ask is as it is for an HttpApi.

    ``quick``: seconds that a client which takes tasks waits for a result before it gets a task. ``schemas``: by
    workflow, of its arguments, in place of what its annotations say. ``boards``: whose verbs are tools as well.
    """

    def __init__(
        self,
        runtime: Runtime,
        access: Gate | None = None,
        origins: Iterable[str] = (),
        max_body: int = MAX_BODY,
        hosts: Iterable[str] | None = None,
        touched: set[str] | None = None,
        quick: float = 1.0,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        boards: Iterable[Board] = (),
    ) -> None:
        super().__init__(runtime, access, origins, max_body, hosts=hosts, touched=touched)
        self._mcp, self._quick, given = runtime, quick, dict(schemas or {})
        self._tools: dict[str, Tool] = {
            each.name: tool_of(each, given.pop(each.name, None)) for each in runtime.registry.newest_of_each()
        }
        self._verbs = verbs_of(boards)
        taken = sorted(self._verbs.keys() & self._tools.keys())
        if taken:
            raise InvalidInput(f"a workflow and a verb of a board have one name: {', '.join(taken)[:200]}")
        if given:
            raise InvalidInput(f"schemas names no workflow of this runtime: {', '.join(sorted(given))[:200]}")

    async def _answer(self, request: Request) -> Response:
        pick({"POST": self}, request.method, request.head)
        call: Call | None = None
        try:
            call = rpc.parse(request)
            if call is None:
                return Response(202, {}, b"")
            try:
                result = await self._called(call)
            except (InvalidInput, NotFound, ConflictError) as error:
                raise RpcError(INVALID_PARAMS, str(error)) from None
            except AlkalineError as error:
                raise RpcError(rpc.INTERNAL, str(error)) from None
        except RpcError as error:
            error.id = error.id if call is None else call.id
            return self._sent(rpc.STATUS.get(error.code, 200), error.value())
        return self._sent(200, {"jsonrpc": "2.0", "id": call.id, "result": result})

    def _sent(self, status: int, value: Any) -> Response:
        return Response(status, {"content-type": JSON}, to_json(value, self._mcp.codec).encode())

    async def _called(self, call: Call) -> dict[str, Any]:
        match call.method:
            case "tools/list":
                every = [*self._tools.values(), *(each.tool for each in self._verbs.values())]
                return _cacheable(call, {"tools": [each.shown() for each in every]})
            case "tools/call":
                return await self._call(call)
            case "initialize" if not call.modern:
                asked = call.params.get("protocolVersion")
                version = asked if asked in rpc.FORMER else rpc.FORMER[-1]
                return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": _INFO}
            case "ping" if not call.modern:
                return {}
            case "server/discover" if call.modern:
                able: dict[str, Any] = {"tools": {}, "extensions": {rpc.TASKS: {}}}
                found = {"supportedVersions": [*rpc.FORMER, MODERN], "capabilities": able}
                return _cacheable(call, {**found, "_meta": {"io.modelcontextprotocol/serverInfo": _INFO}})
            case "tasks/get" | "tasks/update" | "tasks/cancel" if call.modern:
                return await self._of_task(call)
        raise RpcError(rpc.METHOD_NOT_FOUND, f"there is no method {call.method[:100]} here")

    # --- tools -----------------------------------------------------------------------------------------------------
    async def _call(self, call: Call) -> dict[str, Any]:
        name = call.text("name")
        if name in self._verbs:
            return _complete(call, await self._verbs[name].call(call.params.get("arguments"), self._mcp.codec))
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join([*self._tools, *self._verbs]) or "none"
            raise RpcError(INVALID_PARAMS, f"there is no tool {name[:100]}; there are {known}")
        state = call.params.get("requestState") if call.modern else None
        if state is not None:
            record = await self._task(str(state), name)
            await self._answered(call, record)
            return await self._outcome(call, record.id, PATIENCE_SECONDS)
        try:
            input = tool.input_of(call.params.get("arguments"))
            run = await self._mcp.start(name, input, self._id(call, name), "join", {tasks.ATTRIBUTE: name})
        except InvalidInput as error:
            return _complete(call, tasks.refusal(str(error)))
        if self._touched is not None:
            self._touched.add(run.id)
        return await self._outcome(call, run.id, self._quick if call.has_tasks else PATIENCE_SECONDS)

    def _id(self, call: Call, name: str) -> str:
        """The id of the run, which nobody guesses; that of the same key is the same."""
        meta = call.params.get("_meta")
        key = meta.get(KEY) if isinstance(meta, Mapping) else None
        if key is None:
            return f"mcp_{self._mcp.host.entropy(16).hex()}"
        if not isinstance(key, str) or not key:
            raise InvalidInput(f"{KEY} is a text")
        return f"mcp_{sha256(f'{name} {key}'.encode()).hexdigest()[:40]}"

    async def _outcome(self, call: Call, id: str, seconds: float) -> dict[str, Any]:
        """What a call is answered: its result, a task, or what the run wants to know first."""
        record, asked = await self._rested(id, seconds)
        if record.finished:
            return _complete(call, tasks.result(record, self._mcp.codec, call.modern))
        if call.has_tasks:
            return {"resultType": "task", **tasks.task(record, asked)}
        if call.modern and (call.can_be_asked or not asked):
            wanted = {key: request for key, (_, request) in asked.items()}
            more = {"inputRequests": wanted} if wanted else {}
            return {"resultType": "input_required", "requestState": id, **more}
        if asked:
            names = ", ".join(name for name, _ in asked.values())
            return _complete(call, tasks.refusal(f"{id} waits for {names}, and this client can't be asked"))
        text = f"{id} is not done within {PATIENCE_SECONDS:.0f} seconds; it goes on. Call again with the same {KEY}"
        return _complete(call, tasks.refusal(text))

    async def _rested(self, id: str, seconds: float) -> tuple[ExecutionRecord, tasks.Asked]:
        """The run once it has ended or waits for an answer; as it is after ``seconds``."""
        host = self._mcp.host
        until = host.now_ms() + seconds * 1000
        while True:
            left = (until - host.now_ms()) / 1000
            if left > 0:
                work = [asyncio.ensure_future(self._mcp.settle(id)), asyncio.ensure_future(host.sleep(left))]
                try:
                    await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in work:
                        each.cancel()
                    await asyncio.gather(*work, return_exceptions=True)
            record = await self._mcp.get_execution(id)
            asked = await tasks.asked_by(self._mcp, record)
            if record.finished or asked or host.now_ms() >= until:
                return record, asked
            await host.sleep(min(_LOOK_SECONDS, max(0.0, (until - host.now_ms()) / 1000)))

    # --- tasks -----------------------------------------------------------------------------------------------------
    async def _task(self, id: str, tool: str | None = None) -> ExecutionRecord:
        """The record of a task; RpcError for what is none, or is one of another tool."""
        try:
            record = await self._mcp.get_execution(id)
        except AlkalineError:
            record = None
        if record is None or tasks.ATTRIBUTE not in record.attributes or tool not in (None, record.workflow):
            raise RpcError(INVALID_PARAMS, f"there is no task {id[:200]}")
        return record

    async def _answered(self, call: Call, record: ExecutionRecord) -> None:
        responses = call.params.get("inputResponses")
        if responses is not None and not isinstance(responses, Mapping):
            raise RpcError(INVALID_PARAMS, "inputResponses is an object: answers by their keys")
        if responses and not record.finished:
            await tasks.answer(self._mcp, record, responses)
            if self._touched is not None:
                self._touched.add(record.id)

    async def _of_task(self, call: Call) -> dict[str, Any]:
        if not call.has_tasks:
            data: dict[str, Any] = {"requiredCapabilities": {"extensions": {rpc.TASKS: {}}}}
            raise RpcError(rpc.MISSING_CAPABILITY, f"{call.method} is for clients that declare {rpc.TASKS}", data)
        record = await self._task(call.text("taskId"))
        if call.method == "tasks/update":
            await self._answered(call, record)
            return {"resultType": "complete"}
        if call.method == "tasks/cancel":
            if not record.finished:
                await self._mcp.cancel(record.id, "a client cancelled the task")
                if self._touched is not None:
                    self._touched.add(record.id)
            return {"resultType": "complete"}
        asked = await tasks.asked_by(self._mcp, record) if call.can_be_asked else {}
        kept = await tasks.kept_for(self._mcp, record)
        found = {"resultType": "complete", **tasks.task(record, asked, kept)}
        if asked:
            found["inputRequests"] = {key: request for key, (_, request) in asked.items()}
        if record.finished and record.status != "cancelled":
            found["result"] = _complete(call, tasks.result(record, self._mcp.codec, True))
        return found


def _complete(call: Call, result: dict[str, Any]) -> dict[str, Any]:
    return {"resultType": "complete", **result} if call.modern else result


def _cacheable(call: Call, result: dict[str, Any]) -> dict[str, Any]:
    return {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **result} if call.modern else result
