"""Workflows as the tools of an MCP server, used by the official client over HTTP, with tasks and without."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result

from alkaline_edge import Context, InvalidInput, Runtime, workflow
from alkaline_edge.retention import Retention
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http.messages import Request as Asked
from alkaline_hosts._mcp import server as server_module
from alkaline_hosts._mcp.server import KEY, McpApi
from alkaline_hosts._mcp.tools import schema_of
from alkaline_hosts.mcp_server import mcp_server
from alkaline_hosts.memory import MemoryHost
from tests.http.wire import served
from tests.support import drive

ROOT = Path(__file__).parents[2]


class Order(TypedDict):
    item: str
    count: int


@workflow
async def double(ctx: Context, n: int) -> int:
    """Doubles a number."""
    return await ctx.step("double", lambda: 2 * n)


@workflow
async def order(ctx: Context, wanted: Order) -> Any:
    return {"ordered": wanted["item"], "by": await ctx.wait_for_signal("elicit:who")}


@workflow
async def slow(ctx: Context) -> str:
    await ctx.sleep(2)
    return "slept"


@workflow
async def broken(ctx: Context) -> None:
    raise ValueError("it is broken")


class Task(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int | None = None
    status_message: str | None = None


class TaskParams(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class TaskRequest(Request[TaskParams, str]):
    name_param = "taskId"
    method: str
    params: TaskParams


class Looked(Result):
    result_type: str | None = None
    status: str = ""
    ttl_ms: int | None = None
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


class Tasks(ClientExtension):
    """The extension as a client has it: a task is polled, and its user is asked, until there is a result."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, user: Callable[[str], ElicitResult] | None = None, interval: float = 0.05) -> None:
        self.user, self.interval = user, interval
        self.seen: list[str] = []
        self.begun = asyncio.Event()

    def claims(self) -> list[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Task, resolve=self._resolve)]

    async def _resolve(self, task: Task, context: ClaimContext) -> CallToolResult:
        self.begun.set()
        while True:
            await asyncio.sleep(self.interval)
            found = await self.ask(context.session, "tasks/get", task.task_id)
            self.seen.append(found.status)
            if found.status == "completed":
                return CallToolResult.model_validate(found.result)
            if found.status in ("failed", "cancelled"):
                raise RuntimeError(found.status)
            if found.input_requests and self.user is not None:
                answers = {
                    key: self.user(each["params"]["message"]).model_dump(mode="json", exclude_none=True)
                    for key, each in found.input_requests.items()
                }
                await self.ask(context.session, "tasks/update", task.task_id, answers)

    async def ask(self, session: Any, method: str, id: str, answers: dict[str, Any] | None = None) -> Looked:
        params = TaskParams(task_id=id, input_responses=answers)
        found: Looked = await session.send_request(TaskRequest(method=method, params=params), Looked)
        return found


async def declines(*_: Any) -> ElicitResult:
    return ElicitResult(action="decline")


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[tuple[Runtime, str]]:
    async with Runtime(MemoryHost(), workflows=[double, order, slow, broken]) as runtime:
        app = mcp_server(runtime, open_to_all=True, serve=False, **({"quick": 0.2} | options))
        over = asyncio.Event()
        serving = asyncio.ensure_future(runtime.serve(over))  # uvicorn does it by its lifespan, which is off here
        async with served(app) as port:
            yield runtime, f"http://127.0.0.1:{port}/mcp"
        over.set()
        await serving


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 90))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_that_knows_nothing_of_us_uses_a_workflow_as_a_tool(mode: Any) -> None:
    """Of 2026-07-28 and of before: it lists the tools, calls them, and sees what went wrong as a tool's error."""

    async def test() -> None:
        async with stage() as (runtime, url), Client(url, mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"double", "order", "slow", "broken"}
            assert tools["double"].description == "Doubles a number."
            assert tools["double"].input_schema["properties"] == {"n": {"type": "integer"}}
            assert tools["order"].input_schema["required"] == ["count", "item"]
            answer = await client.call_tool("double", {"n": 21})
            assert (answer.content[0].text, answer.is_error) == ("42", False)  # type: ignore[union-attr]
            assert (await client.call_tool("slow", {})).content[0].text == "slept"  # type: ignore[union-attr]
            for name, given, words in (
                ("broken", {}, "ValueError: it is broken"),
                ("double", {}, "wants n"),
                ("double", {"n": 1, "m": 2}, "takes n, not m"),
            ):
                failed = await client.call_tool(name, given)
                assert failed.is_error
                assert words in failed.content[0].text  # type: ignore[union-attr]
            with pytest.raises(MCPError, match="no tool"):
                await client.call_tool("none", {})
            assert len((await runtime.list_executions()).items) == 3

    run(test)


def test_a_client_without_tasks_is_asked_within_the_call() -> None:
    """The run waits for a signal, the client's user is asked, and the call goes on with the answer."""
    asked: list[str] = []

    async def user(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"value": "ann"})

    async def test() -> None:
        async with stage() as (_, url), Client(url, elicitation_callback=user) as client:
            answer = await client.call_tool("order", {"item": "tea", "count": 2})
            assert answer.structured_content == {
                "ordered": "tea",
                "by": {"action": "accept", "content": {"value": "ann"}},
            }
            assert asked == ["The tool waits for elicit:who."]
        async with stage() as (runtime, url), Client(url) as client:
            refused = await client.call_tool("order", {"item": "tea", "count": 2})
            assert refused.is_error
            assert "can't be asked" in refused.content[0].text  # type: ignore[union-attr]
            assert (await runtime.list_executions("suspended")).items

    run(test)


def test_a_client_with_tasks_gets_one_and_polls_it() -> None:
    """Quick calls are answered at once; a slow one is a task, which is working, asks, and is completed."""

    async def test() -> None:
        async with stage() as (_, url):
            tasks = Tasks(lambda _: ElicitResult(action="accept", content={"value": "bob"}))
            async with Client(url, extensions=[tasks], elicitation_callback=declines) as client:
                assert (await client.call_tool("double", {"n": 2})).content[0].text == "4"  # type: ignore[union-attr]
                assert tasks.seen == []
                assert (await client.call_tool("slow", {})).content[0].text == "slept"  # type: ignore[union-attr]
                assert (tasks.seen[0], tasks.seen[-1]) == ("working", "completed")
                tasks.seen.clear()
                answer = await client.call_tool("order", {"item": "tea", "count": 1})
                assert answer.structured_content["by"]["content"] == {"value": "bob"}
                assert "input_required" in tasks.seen

    run(test)


def test_a_task_is_cancelled_and_unknown_ones_are_refused() -> None:
    """What is no task of this server is -32602, also a run that was started otherwise; cancelling is cooperative."""

    async def test() -> None:
        async with stage() as (runtime, url):
            tasks = Tasks()
            async with Client(url, extensions=[tasks]) as client:
                calling = asyncio.ensure_future(client.call_tool("order", {"item": "tea", "count": 1}))
                await tasks.begun.wait()
                id = (await runtime.list_executions()).items[0].id
                await tasks.ask(client.session, "tasks/cancel", id)
                with pytest.raises(RuntimeError, match="cancelled"):
                    await calling
                await tasks.ask(client.session, "tasks/update", id, {"who#0.0": {"action": "accept"}})
                await runtime.start(double, 1, id="other")
                for unknown in ("none", "other"):
                    with pytest.raises(MCPError, match="no task") as refused:
                        await tasks.ask(client.session, "tasks/get", unknown)
                    assert refused.value.error.code == -32602
            async with Client(url) as client:
                with pytest.raises(MCPError) as refused:
                    await tasks.ask(client.session, "tasks/get", id)
                assert refused.value.error.code == -32021

    run(test)


def test_a_task_is_kept_as_long_as_the_stores_rules_say() -> None:
    """Without an end while it works, and where no rule is about it; else so long from its creation on."""

    async def test() -> None:
        async with stage() as (runtime, url):
            retention = Retention(runtime)
            await retention.set("failed", timedelta(days=1), status="failed")
            await retention.set("others", timedelta(days=2), workflow="double")
            tasks = Tasks()
            async with Client(url, extensions=[tasks], elicitation_callback=declines) as client:
                task = await client.session.call_tool("slow", {}, allow_claimed=True)
                assert isinstance(task, Task)
                assert task.ttl_ms is None
                await runtime.result(task.task_id, 60)
                assert (await tasks.ask(client.session, "tasks/get", task.task_id)).ttl_ms is None
                await retention.set("slow", timedelta(hours=1), workflow="slow")
                await retention.set("all", timedelta(hours=3))
                found = await tasks.ask(client.session, "tasks/get", task.task_id)
                record = await runtime.get_execution(task.task_id)
                assert found.ttl_ms == record.updated_at - record.created_at + 3_600_000

    run(test)


def test_calls_with_one_key_are_one_run() -> None:
    """A client that lost an answer sends its call again: nothing is done twice."""

    async def test() -> None:
        async with stage() as (runtime, url), Client(url) as client:
            for _ in range(3):
                answer = await client.call_tool("double", {"n": 5}, meta={KEY: "once"})
                assert answer.content[0].text == "10"  # type: ignore[union-attr]
            assert len((await runtime.list_executions()).items) == 1

    run(test)


def test_a_server_that_is_killed_between_call_and_result_gives_the_result_all_the_same(tmp_path: Path) -> None:
    """SIGKILL while the task waits for its user, and again behind the answer: each step ran once, the client has it."""
    store, notes = tmp_path / "store.alkaline", tmp_path / "notes"
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]

    def start() -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.mcp.serving_process", str(store), str(port)]
        return subprocess.Popen(program, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'hosts'}", "PATH": ""})

    async def up() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)

    async def test() -> None:
        process = start()
        try:
            await up()
            url, tasks = f"http://127.0.0.1:{port}/", Tasks()

            @asynccontextmanager
            async def connected() -> AsyncIterator[Client]:
                async with Client(url, extensions=[tasks], elicitation_callback=declines) as client:
                    yield client

            async def look(status: str) -> Looked:
                """The task once it has that status, asked for by a new client each time."""
                while True:
                    async with connected() as client:
                        found = await tasks.ask(client.session, "tasks/get", task.task_id)
                    if found.status == status:
                        return found
                    await asyncio.sleep(0.1)

            async with connected() as client:
                task = await client.session.call_tool("publish", {"path": str(notes)}, allow_claimed=True)
                assert isinstance(task, Task)
            for _ in range(2):
                process.kill()
                process.wait()
                process = start()
                await up()
                asked = (await look("input_required")).input_requests or {}
            (key,) = asked
            assert asked[key]["params"]["message"] == "Shall it be published?"
            yes = {"action": "accept", "content": {"value": "yes"}}
            async with connected() as client:
                await tasks.ask(client.session, "tasks/update", task.task_id, {key: yes})
                await tasks.ask(client.session, "tasks/update", task.task_id, {key: yes, "unknown": yes})
            process.kill()
            process.wait()
            process = start()
            await up()
            done = await look("completed")
            assert done.result is not None
            assert CallToolResult.model_validate(done.result).structured_content == {"said": "yes"}
            assert notes.read_text().split() == ["written", "published"]
        finally:
            process.kill()
            process.wait()

    run(test)


def envelope(method: str, able: Any = None, **params: Any) -> tuple[dict[str, str], bytes]:
    able = {} if able is None else able
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": able}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **params}}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    if "name" in params:
        headers["mcp-name"] = params["name"]
    return headers, json.dumps(body).encode()


def test_what_is_no_call_is_an_error_of_the_protocol() -> None:
    """Each with its code and status: no JSON, a batch, another version, headers that say something else."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[double]) as runtime:
            api = McpApi(runtime)

            async def ask(headers: dict[str, str], body: bytes, method: str = "POST") -> tuple[int, Any]:
                answer = await api.handle(Asked(method, "/mcp", headers, body))
                return answer.status, (json.loads(answer.body).get("error") or {}).get("code") if answer.body else None

            headers, body = envelope("tools/list")
            assert await ask(headers, body) == (200, None)
            assert await ask({}, b"{") == (400, -32700)
            assert await ask({}, b"[]") == (400, -32600)
            assert await ask({}, b'{"jsonrpc": "2.0", "id": null, "method": "ping"}') == (400, -32600)
            assert await ask({}, b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}') == (400, -32602)
            assert await ask({}, b'{"jsonrpc": "2.0", "method": "notifications/initialized"}') == (202, None)
            assert await ask({**headers, "mcp-method": "tools/call"}, body) == (400, -32020)
            assert await ask({"mcp-protocol-version": "2031-01-01"}, body) == (400, -32020)
            assert await ask({}, body.replace(b"2026-07-28", b"2031-01-01")) == (400, -32020)
            later = {**headers, "mcp-protocol-version": "2031-01-01"}
            assert await ask(later, body.replace(b"2026-07-28", b"2031-01-01")) == (400, -32022)
            assert await ask(headers, body.replace(b"io.modelcontextprotocol/client", b"x/")) == (400, -32602)
            assert await ask(*envelope("prompts/list")) == (404, -32601)
            assert await ask(*envelope("tasks/get", taskId="x")) == (400, -32021)
            able = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
            assert await ask(*envelope("tasks/get", able)) == (400, -32602)
            assert await ask(*envelope("tools/call", name="double", arguments=7)) == (200, None)
            assert (await ask({}, b"", "GET"))[0] == 405

    drive(test)


def test_a_call_that_takes_too_long_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of 2026-07-28 without tasks gets a state to come back with; an older one is told to."""
    monkeypatch.setattr(server_module, "PATIENCE_SECONDS", 0.1)

    async def test() -> None:
        async with stage() as (_, url), Client(url) as client:
            assert (await client.call_tool("slow", {})).content[0].text == "slept"  # type: ignore[union-attr]
        async with stage() as (_, url), Client(url, mode="legacy") as client:
            answer = await client.call_tool("slow", {}, meta={KEY: "k"})
            assert "Call again with the same" in answer.content[0].text  # type: ignore[union-attr]
            await asyncio.sleep(2)
            assert (await client.call_tool("slow", {}, meta={KEY: "k"})).content[0].text == "slept"  # type: ignore[union-attr]

    run(test)


def test_a_query_that_raises_keeps_nobody_from_being_asked() -> None:
    """Its words are missing, and the task is asked for as any other."""

    @workflow
    async def shy(ctx: Context) -> Any:
        ctx.on_query("go", lambda: 1 / 0)
        return await ctx.wait_for_signal("go")

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[shy]) as runtime:
            api = McpApi(runtime)
            able = {"extensions": {"io.modelcontextprotocol/tasks": {}}, "elicitation": {}}
            answer = await api.handle(Asked("POST", "/mcp", *envelope("tools/call", able, name="shy")))
            task = json.loads(answer.body)["result"]
            assert (task["resultType"], task["status"]) == ("task", "input_required")
            found = await api.handle(Asked("POST", "/mcp", *envelope("tasks/get", able, taskId=task["taskId"])))
            asked = json.loads(found.body)["result"]["inputRequests"]
            assert asked["go#0.0"]["params"]["message"] == "The tool waits for go."

    drive(test)


def test_annotations_are_schemas() -> None:
    """What JSON has a word for; anything else is any value."""
    assert schema_of(list[int]) == {"type": "array", "items": {"type": "integer"}}
    assert schema_of(dict[str, float]) == {"type": "object", "additionalProperties": {"type": "number"}}
    assert schema_of(str | None) == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema_of(Literal["a", 1]) == {"enum": ["a", 1]}
    assert schema_of(Order)["properties"] == {"item": {"type": "string"}, "count": {"type": "integer"}}
    assert schema_of(bytes) == schema_of(Any) == {}


def test_a_server_is_set_up_by_what_it_has() -> None:
    """Nobody who may ask, a workflow that is not there, a runtime that is none: refused where it is given."""
    runtime = Runtime(SimulatedHost(), workflows=[double])
    with pytest.raises(InvalidInput, match="who may ask"):
        mcp_server(runtime)
    with pytest.raises(InvalidInput, match="no workflow"):
        mcp_server(runtime, open_to_all=True, schemas={"none": {}})
    with pytest.raises(InvalidInput, match="a Runtime"):
        mcp_server(7, open_to_all=True)  # type: ignore[arg-type]
