"""An MCP server in a Durable Object of real workerd: its tools are workflows, its tasks the object's runs."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp import Client
from mcp_types import ElicitResult

from tests.mcp.test_mcp_server import Task, Tasks, declines
from wasm.workers.harness import WorkerServer


def test_the_official_client_uses_an_object_as_a_server_of_tools(current: WorkerServer) -> None:
    """It lists them, calls one, and gets another's result by a task that asks its user on the way."""

    async def test() -> None:
        url = f"{current.url.rstrip('/')}/runs-of/tools/mcp"
        async with Client(url) as client:
            assert {"approval", "many"} <= {tool.name for tool in (await client.list_tools()).tools}
            answer = await client.call_tool("many", {"steps": 10})
            assert answer.content[0].text == "45"  # type: ignore[union-attr]
        tasks = Tasks(lambda _: ElicitResult(action="accept", content={"value": "ann"}), interval=0.3)
        async with Client(url, extensions=[tasks], elicitation_callback=declines) as client:
            done = await client.call_tool("approval", {"topic": "launch"})
            assert done.structured_content == {"topic": "launch", "answer": "ann"}
            assert "input_required" in tasks.seen
            assert tasks.seen[-1] == "completed"

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_task_of_an_object_outlives_a_kill(servers: Any) -> None:
    """workerd is killed while the task waits; the object that comes back goes on with it."""

    async def test() -> None:
        server: WorkerServer = servers()
        tasks = Tasks()
        path = "/runs-of/killed/mcp"
        async with Client(server.url.rstrip("/") + path, extensions=[tasks], elicitation_callback=declines) as client:
            task = await client.session.call_tool("approval", {"topic": "launch"}, allow_claimed=True)
            assert isinstance(task, Task)
        server.kill()
        server.start()
        url = server.url.rstrip("/") + path
        async with Client(url, extensions=[tasks], elicitation_callback=declines) as client:
            found = await tasks.ask(client.session, "tasks/get", task.task_id)
            assert found.input_requests is not None
            bob = {"action": "accept", "content": {"value": "bob"}}
            answers = dict.fromkeys(found.input_requests, bob)
            await tasks.ask(client.session, "tasks/update", task.task_id, answers)
            while found.status != "completed":
                await asyncio.sleep(0.2)
                found = await tasks.ask(client.session, "tasks/get", task.task_id)
            assert found.result is not None
            assert found.result["structuredContent"] == {"topic": "launch", "answer": "bob"}
        assert server.fetch(f"/marks?run={task.task_id}").json() == {"draft": 1, "stamp": 1, "send": 1}

    asyncio.run(asyncio.wait_for(test(), 120))
