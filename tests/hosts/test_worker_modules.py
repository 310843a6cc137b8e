"""The Cloudflare modules outside of a Worker: they import, they refuse what is no binding, and the API is plain."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import InvalidInput
from alkaline_hosts._cloudflare.platform import WorkerPlatform, raw_binding
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Request
from alkaline_hosts.d1 import D1Host
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.memory import MemoryHost

MODULES = ("cloudflare_kv", "d1", "durable_object", "worker")


@pytest.mark.parametrize("module", MODULES)
def test_imports_on_cpython_without_clock_and_entropy(module: str) -> None:
    """Each module imports where there is no JavaScript, and draws no entropy and reads no clock while it does."""
    program = f"""
import os, random, time, uuid
import asyncio, dataclasses, msgpack, urllib.parse, json, base64  # what Python brings may seed itself
def forbidden(*args): raise RuntimeError("not at import")
os.urandom = random.random = random.getrandbits = time.time = time.time_ns = uuid.uuid4 = forbidden
import alkaline_hosts.{module}
import sys
assert not {{"js", "pyodide", "workers"}} & sys.modules.keys()
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout == "imported\n", done.stderr


REQUESTS = """
import asyncio, sys
import alkaline_hosts.worker
from alkaline_edge import Budget, Context, Retry, Runtime, workflow
from alkaline_hosts.memory import MemoryHost

def loaded():
    return {name for name in sys.modules if name.startswith("alkaline_")}

def fails():
    raise ValueError("no")

@workflow
async def kid(ctx: Context):
    ctx.spend(1)

@workflow(budget=Budget(tokens=100))
async def flow(ctx: Context, again: bool):
    ctx.on_query("q", lambda: 1)
    ctx.on_update("u", lambda given: given)
    await ctx.all(ctx.step("a", lambda: 1), ctx.child(kid))
    for each in asyncio.as_completed([asyncio.ensure_future(ctx.sleep(0))]):
        await each
    try:
        await ctx.step("f", fails, retry=Retry(max_attempts=2, backoff=0))
    except ValueError:
        pass
    await ctx.wait_for_signal("go")
    if not again:
        ctx.continue_as_new(True)

async def main():
    async with Runtime(MemoryHost(), workflows=[flow, kid]) as runtime:
        run = await runtime.start(flow, False, id="a")
        await run.settle()
        await run.query("q")
        await run.update("u", 1)
        await run.signal("go")
    host=runtime.host
    async with Runtime(host, workflows=[flow, kid]) as runtime:
        await runtime.run_due()
        run = await runtime.resume("a")
        await run.settle()
        await run.signal("go")
        await run.result(5)
        await runtime.list_executions(status="completed")
        other = await runtime.start(flow, False, id="b")
        await other.settle()
        await other.cancel()
        await other.settle()
        await runtime.history("a")
before = loaded()
asyncio.run(main())
print(*sorted(loaded() - before))
"""


def test_what_requests_ask_for_is_loaded_with_the_worker() -> None:
    """Starting, branching, failing, waiting, answering, listing, ending: none of it imports anything of ours then."""
    done = subprocess.run(
        [sys.executable, "-c", REQUESTS],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert (done.stdout, done.stderr) == ("\n", "")


def test_what_is_no_binding_is_refused() -> None:
    """A host that is handed something else says what it wanted."""
    with pytest.raises(InvalidInput, match="a D1 binding"):
        D1Host(object())
    with pytest.raises(InvalidInput, match="ctx of a Durable Object"):
        DurableObjectHost(None)


def test_wrappers_of_the_sdk_are_taken_off() -> None:
    """Whatever the SDK wraps around a binding, the host uses what is inside."""

    class Raw:
        def prepare(self) -> None: ...

    class Wrapper:
        def __init__(self, inner: Any) -> None:
            self._binding = inner

    raw = Raw()
    assert raw_binding(Wrapper(raw), "prepare", "D1") is raw
    assert raw_binding(Wrapper(Wrapper(raw)), "prepare", "D1") is raw
    assert raw_binding(raw, "prepare", "D1") is raw


def test_entropy_is_drawn_in_one_piece_and_used_once() -> None:
    """No byte is handed out twice: neither by one host, whatever the sizes, nor by two."""
    drawn: list[bytes] = []

    def counted(n: int) -> bytes:
        drawn.append(secrets.token_bytes(n))
        return drawn[-1]

    with mock.patch("os.urandom", counted):
        hosts = [WorkerPlatform(), WorkerPlatform()]
        given = [host.entropy(size) for _ in range(30) for host in hosts for size in (8, 13, 63, 64, 65, 300)]
    assert [len(got) for got in given] == [8, 13, 63, 64, 65, 300] * 60
    assert len(drawn) < len(given) / 2
    used: set[tuple[int, int]] = set()
    for got in given:
        [(piece, start)] = [(n, where) for n, each in enumerate(drawn) if (where := each.find(got)) >= 0]
        places = {(piece, start + n) for n in range(len(got))}
        assert not used & places
        used |= places


@workflow(name="asked", version=1)
async def asked(ctx: Context, start: Any) -> Any:
    """Waits until it is told to stop."""
    ctx.on_query("start", lambda: start)
    ctx.on_query("broken", lambda: {}["absent"])
    return await ctx.wait_for_signal("stop")


@workflow(name="bytes", version=1)
async def raw_bytes(ctx: Context, _: Any) -> Any:
    """A result that JSON does not have."""
    return [b"\x00\xff", ctx.now()]


def served(body: Callable[[Callable[..., Awaitable[tuple[int, Any]]]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Runtime(MemoryHost(), workflows=[asked, raw_bytes]) as runtime:
            api = HttpApi(runtime)

            async def call(method: str, path: str, value: str = "", **query: str) -> tuple[int, Any]:
                target = f"{path}?{urlencode(query)}"
                answer = await api.handle(Request(method, target, {}, value.encode()))
                return answer.status, json.loads(answer.body)

            call.settle = runtime.settle  # type: ignore[attr-defined]  # for tests that wait
            await body(call)

    asyncio.run(main())


def test_a_run_over_http() -> None:
    """Start, look, ask, signal, and read the result, under any path that ends in /runs."""

    async def body(call: Any) -> None:
        start = json.dumps({"workflow": "asked", "input": {"a": 1}, "id": "exe_1"})
        status, record = await call("POST", "/any/where/runs", start, settle="1")
        assert (status, record["status"], record["waiting"]) == (201, "suspended", ["signal stop"])
        assert await call("GET", "/runs/exe_1/queries/start") == (200, {"a": 1})
        assert (await call("POST", "/runs/exe_1/signals/stop", '"now"', dedupe="once"))[0] == 202
        assert (await call("POST", "/runs/exe_1/signals/stop", '"now"', dedupe="once"))[0] == 202
        await call.settle("exe_1")
        status, record = await call("GET", "/runs/exe_1")
        assert (record["status"], record["result"]) == ("completed", "now")
        assert not {"owner", "run", "epoch", "head"} & record.keys()
        status, events = await call("GET", "/runs/exe_1/events", after="1")
        assert [event["kind"] for event in events] == ["SignalReceived", "Completed"]
        status, page = await call("GET", "/runs", status="completed", limit="5")
        assert ([run["id"] for run in page["runs"]], page["after"]) == (["exe_1"], None)

    served(body)


def test_errors_over_http() -> None:
    """What the caller did wrong has a status and a message of its own."""

    async def body(call: Any) -> None:
        await call("POST", "/runs", json.dumps({"workflow": "asked", "id": "a"}), settle="1")
        for status, code, request in (
            (404, "ERR_NOT_FOUND", ("GET", "/elsewhere")),
            (405, "ERR_INVALID_INPUT", ("PATCH", "/runs/a")),
            (404, "ERR_NOT_FOUND", ("GET", "/runs/none")),
            (404, "ERR_NOT_FOUND", ("POST", "/runs", '{"workflow": "none"}')),
            (400, "ERR_INVALID_INPUT", ("POST", "/runs", "[]")),
            (400, "ERR_INVALID_INPUT", ("POST", "/runs", "not JSON")),
            (400, "ERR_INVALID_INPUT", ("POST", "/runs", '{"workflow": "asked", "inputs": 1}')),
            (409, "ERR_CONFLICT", ("POST", "/runs", '{"workflow": "asked", "id": "a"}')),
        ):
            answer = await call(*request)
            assert (answer[0], answer[1]["error"]["code"]) == (status, code), request
            assert answer[1]["error"]["message"]
        assert (await call("GET", "/runs", limit="many"))[0] == 400
        status, answer = await call("GET", "/runs/a/queries/broken")  # what a query raises is the workflow's own error
        assert (status, answer["error"]["message"]) == (422, "absent")

    served(body)


def test_results_that_json_lacks() -> None:
    """Bytes are shown as base64 and times as ISO text."""

    async def body(call: Any) -> None:
        _, record = await call("POST", "/runs", '{"workflow": "bytes"}', settle="1")
        assert record["result"][0] == "AP8="
        assert record["result"][1].endswith("+00:00")

    served(body)
