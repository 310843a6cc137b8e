"""The OpenAPI document: valid, made of the one table, and true of a real server for requests drawn from it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import positive_data_acceptance

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http import patience, streaming
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Request
from alkaline_hosts._http.openapi import document
from alkaline_hosts._http.routes import VERBS
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.memory import MemoryHost
from tests.http.wire import served
from tests.support import drive

TOKEN = "a-token-for-these-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
OPAQUE = ("GET /runs", "DELETE /runs", "GET /runs/{id}/queries/{name}")
"""What a page gave as ``after``, and JSON inside of a query, can't be said by a schema of texts."""
EXAMPLES = 12
"""Requests that are drawn for each operation."""


def test_the_document_is_valid_and_has_each_verb() -> None:
    """OpenAPI 3.1 by its own validator; each row of the table is an operation with all that it takes."""
    found = document("/agents", True)
    OpenAPIV31SpecValidator(found).validate()
    operations = [(path, method) for path, each in found["paths"].items() for method in each]
    assert sorted(operations) == sorted((verb.path, verb.method.lower()) for verb in VERBS)
    ids = [operation["operationId"] for each in found["paths"].values() for operation in each.values()]
    assert len(set(ids)) == len(ids) == len(VERBS)
    for verb in VERBS:
        operation = found["paths"][verb.path][verb.method.lower()]
        wires = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert wires == {each.wire for each in verb.query.values()}
        assert str(verb.status) in operation["responses"]
        assert ("requestBody" in operation) == bool(verb.body)


def test_the_document_is_served_beside_the_runs() -> None:
    """Wherever the app is mounted; by GET and HEAD alone, to who may ask."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            api = HttpApi(runtime)
            for path, server in (("/openapi.json", "/"), ("/a/b/openapi.json", "/a/b")):
                answer = await api.handle(Request("GET", path, {}))
                assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
                found = json.loads(answer.body)
                assert found["servers"] == [{"url": server}]
                assert "security" not in found
            refused = await api.handle(Request("POST", "/openapi.json", {}))
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
            assert (await api.handle(Request("GET", "/runs/openapi.json", {}))).status == 404

    drive(test)


@workflow
async def flow(ctx: Context, value: Any = None) -> Any:
    ctx.on_query("value", lambda *given: [value, *given])
    ctx.on_update("set", lambda given: given)
    return [value, await ctx.step("step", lambda: 1), await ctx.wait_for_signal("go")]


class Server:
    """A real server in a thread of its own, with a run that waits."""

    def __init__(self) -> None:
        self.port = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            await (await runtime.start(flow, "x", id="a")).settle()
            async with served(asgi_app(runtime, token=TOKEN, serve=False)) as self.port:
                self._ready.set()
                await self._over.wait()

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "MAX_SECONDS", 0.05)  # a stream, and who waits for a run, end soon
        patch.setattr(patience, "WAIT_SECONDS", 0.05)
        with Server() as found:
            yield found


@pytest.fixture(scope="module")
def api_schema(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json", headers=HEADERS)


schema = schemathesis.pytest.from_fixture("api_schema").include(path_regex="^/runs")  # moves take canonical msgpack


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_a_real_server_answers_as_the_document_says(case: schemathesis.Case) -> None:
    """Requests drawn from the document, good and bad ones: never a 500, and each answer as it promises."""
    opaque = [positive_data_acceptance] if case.operation.label in OPAQUE else []
    case.call_and_validate(headers=HEADERS, timeout=20, excluded_checks=opaque)


def test_whole_numbers_of_json_are_whole_however_they_are_written() -> None:
    """A budget of 1e3 tokens, which JSON Schema calls an integer, was refused."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[flow]) as runtime:
            api = HttpApi(runtime)
            for tokens, status in ((b"1e3", 201), (b"1000.0", 201), (b"1.5", 400), (b"true", 400)):
                body = b'{"workflow": "flow", "budget": {"tokens": ' + tokens + b"}}"
                assert (await api.handle(Request("POST", "/runs", {}, body))).status == status

    drive(test)
