"""OTLP over HTTP as JSON, to a receiver on loopback: what arrives, and what is kept where none answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from alkaline_edge import Context, InvalidInput, Runtime, StoreError, workflow
from alkaline_edge.mcp import durable_tool
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts import otlp
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Request
from alkaline_hosts._telemetry.spans import span_id, trace_id
from alkaline_hosts.otlp import OtlpExporter
from tests.telemetry.flows import killed_moved_and_resumed


class Receiver:
    """A collector: its requests, and what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str], Any]] = []
        self.status = 200
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((head[0], headers, json.loads(body)))
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for _, _, body in self.requests
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    async with server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
        yield receiver


def attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_a_receiver_shows_one_unbroken_trace_of_a_run_that_was_killed_moved_and_resumed() -> None:
    """Each process has an exporter of its own, and none knows of the others."""

    async def test() -> tuple[Receiver, str]:
        async with receiving() as receiver:
            exporters: list[OtlpExporter] = []

            def listener() -> OtlpExporter:
                exporters.append(OtlpExporter(receiver.url, headers={"authorization": "Bearer t"}, service="mine"))
                return exporters[-1]

            run, _ = await killed_moved_and_resumed(listener)
            for each in exporters:
                await each.close()
            return receiver, run

    receiver, run = asyncio.run(test())
    line, headers, body = receiver.requests[0]
    assert line.startswith("POST /v1/traces ")
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer t"
    assert body["resourceSpans"][0]["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "mine"}}
    ]
    mine = [span for span in receiver.spans if span["traceId"] == trace_id(run, 0)]
    assert Counter(span["name"] for span in mine) == {
        "invoke_workflow journey": 1, "alkaline.step look": 1, "alkaline.step flaky": 2, "chat small-1": 1,
        "alkaline.step each": 3,
    }  # fmt: skip
    ids = [span["spanId"] for span in mine]
    assert len(set(ids)) == len(ids)
    roots = [span for span in mine if "parentSpanId" not in span]
    assert [span["spanId"] for span in roots] == [span_id(run, 0, "")]
    assert {span.get("parentSpanId") for span in mine if span not in roots} == {roots[0]["spanId"]}
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in mine)
    (chat,) = [span for span in mine if span["name"] == "chat small-1"]
    assert chat["kind"] == 3
    assert attributes(chat)["gen_ai.usage.input_tokens"] == "11"
    (failed,) = [span for span in mine if "status" in span]
    assert failed["status"] == {"code": 2, "message": "ConnectionError"}


@workflow
async def short(ctx: Context, n: int) -> int:
    await ctx.map(lambda each: ctx.step("a", str, each), range(n))
    return n


def test_a_collector_that_is_down_harms_no_run_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the spans come when it is back; what it will never take is dropped."""

    async def test() -> None:
        async with receiving() as receiver:
            exporter = OtlpExporter(receiver.url)
            receiver.status = 503
            async with Runtime(SimulatedHost(), workflows=[short], on_event=exporter) as runtime:
                for id in ("a", "b"):
                    assert await (await runtime.start(short, 1, id=id)).result() == 1
            assert caplog.text.count("traces are not exported: the collector answered 503") == 1
            receiver.status = 200
            await exporter.close()
            assert (
                len({span["spanId"] for span in receiver.requests[-1][2]["resourceSpans"][0]["scopeSpans"][0]["spans"]})
                == 4
            )
            receiver.status, before = 400, len(receiver.requests)
            async with Runtime(SimulatedHost(), workflows=[short], on_event=exporter) as runtime:
                await (await runtime.start(short, 1, id="c")).result()
            with caplog.at_level(logging.CRITICAL):
                await exporter.close()
            assert len(receiver.requests) == before + 1

    asyncio.run(test())


@pytest.mark.parametrize("count", [511, 512, 1_025])
def test_many_spans_go_in_parts(count: int) -> None:
    """At the border of one request, and beyond."""

    async def test() -> None:
        sizes: list[int] = []

        async def fetch(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
            sizes.append(len(json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]))
            return 200, b""

        exporter = OtlpExporter("https://collector.example/v1/traces", fetch=fetch)
        async with Runtime(SimulatedHost(), workflows=[short], on_event=exporter) as runtime:
            await (await runtime.start(short, count - 1, id="a")).result()
        await exporter.close()
        assert sum(sizes) == count
        assert max(sizes) <= 512

    asyncio.run(test())


def test_a_network_that_fails_says_what_kind_of_error_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are more spans kept than there is room for, and it is not asked again at each event."""

    monkeypatch.setattr(otlp, "_MOST", 1_000)

    async def test() -> None:
        asked = 0

        async def fetch(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
            nonlocal asked
            asked += 1
            raise OSError("no route, with the token hunter2")

        exporter = OtlpExporter("http://127.0.0.1:1/v1/traces", fetch=fetch)
        async with Runtime(SimulatedHost(), workflows=[short], on_event=exporter) as runtime:
            for id in range(3):
                await (await runtime.start(short, 400, id=f"{id}")).result()
        assert asked <= 2
        with pytest.raises(StoreError) as error:
            await exporter.flush()
        assert "hunter2" not in str(error.value)
        assert len(exporter._waiting) <= 1_000

    asyncio.run(test())


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "collector"},
        {"url": "ftp://collector/v1/traces"},
        {"url": "http://user:secret@collector/v1/traces"},
        {"url": 5},
        {"url": "http://c/", "headers": ["a"]},
        {"url": "http://c/", "timeout": 0},
        {"url": "http://c/", "fetch": "httpx"},
        {"url": "http://c/", "service": None},
    ],
)
def test_what_is_no_collector_is_bad_input(wrong: dict[str, Any]) -> None:
    """Before a run is started, and without the secret in the message."""
    with pytest.raises(InvalidInput) as error:
        OtlpExporter(**wrong)
    assert "secret@" not in str(error.value)


@workflow
async def calls(ctx: Context) -> Any:
    await ctx.child(short, 1, id="kid")
    return await durable_tool(ctx, client, "look", {"at": 1}, meta=listening[-1].meta)


listening: list[OtlpExporter] = []
asked: list[Any] = []


async def client(name: str, arguments: dict[str, Any], meta: Any = None) -> Any:
    asked.append(meta)
    return {"content": [], "isError": False}


GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "linked"),
    [
        (GIVEN, True), (GIVEN.upper(), False), (f"cc{GIVEN[2:]}-more", True), (f"ff{GIVEN[2:]}", False),
        ("00-" + "0" * 32 + GIVEN[35:], False), ("", False), ("nonsense", False),
    ],
)  # fmt: skip
def test_a_trace_goes_on_from_who_starts_a_run_over_http_to_the_server_of_its_tools(header: str, linked: bool) -> None:
    """The start is linked to the span that traceparent names, once and of no child; a call of a tool carries that of
    its step, which is the span that is exported. A header that is none is as if it were not there."""
    sent: list[Any] = []

    async def fetch(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        sent.append(json.loads(body))
        return 200, b"{}"

    async def test() -> None:
        asked.clear()
        listening.append(OtlpExporter("https://collector.example/v1/traces", fetch=fetch))
        async with Runtime(SimulatedHost(), workflows=[calls, short], on_event=listening[-1]) as runtime:
            api = HttpApi(runtime)
            body = json.dumps({"workflow": "calls", "id": "r"}).encode()
            headers = {"content-type": "application/json", "traceparent": header}
            assert (await api.handle(Request("POST", "/runs?settle=1", headers, body))).status == 201
        await listening[-1].close()

    asyncio.run(test())
    spans = [
        span
        for body in sent
        for each in body["resourceSpans"]
        for scope in each["scopeSpans"]
        for span in scope["spans"]
    ]
    starts = [span for span in spans if span["name"].startswith("alkaline.start ")]
    assert [span["name"] for span in starts] == ["alkaline.start calls"] * linked
    assert [(one["traceId"], one["spanId"]) for span in starts for one in span["links"]] == [
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    ] * linked
    (tool,) = [span for span in spans if span["name"] == "alkaline.step mcp look"]
    assert asked[0]["traceparent"] == f"00-{tool['traceId']}-{tool['spanId']}-01"
    assert len(asked[0]) == 2, "beside the idempotency key"
