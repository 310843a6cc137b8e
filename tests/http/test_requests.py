"""Requests as they must not be: each is a 4xx with a reason, and nothing is logged as a defect of ours."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from alkaline_edge import Codec, Context, InvalidInput, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http.json import from_json, to_json
from alkaline_hosts.asgi import asgi_app
from tests.support import drive

TOKEN = "a-token-for-these-tests"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class City:
    name: str


@workflow
async def flow(ctx: Context, value: Any = None) -> Any:
    ctx.on_query("value", lambda: value)
    ctx.on_update("never", lambda _: None)
    if value == "wait":
        return await ctx.wait_for_signal("go")
    return value


def codec() -> Codec:
    made = Codec()
    made.register(City, "City", asdict, lambda fields: City(**fields))
    return made


class App:
    """The app, asked below any client: the bytes of a request are the test's own."""

    def __init__(self, **options: Any) -> None:
        self.runtime = Runtime(SimulatedHost(), workflows=[flow], codec=codec())
        self.app = asgi_app(self.runtime, **({"token": TOKEN, "serve": False} | options))

    async def __aenter__(self) -> App:
        await (await self.runtime.start(flow, "wait", id="a")).settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runtime.close()

    async def ask(self, method: str, target: bytes, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        path, _, query = target.partition(b"?")
        given = {"authorization": f"Bearer {TOKEN}"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], head, sent[1]["body"]


def strict(data: bytes) -> Any:
    """JSON as a browser reads it."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(data, parse_constant=refuse)


@pytest.fixture(autouse=True)
def _nothing_is_a_defect(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


BAD = {
    "deep JSON": (400, "POST", b"/runs", b"[" * 100_000),
    "deep and whole JSON": (400, "POST", b"/runs/a/signals/x", b"[" * 5_000 + b"]" * 5_000),
    "a value nested past the limit": (400, "POST", b"/runs/a/signals/x", b"[" * 100 + b"]" * 100),
    "limit=\u00b2": (400, "GET", b"/runs?limit=%C2%B2"),
    "limit of 5,000 digits": (400, "GET", b"/runs?limit=" + b"9" * 5_000),
    "limit=0": (400, "GET", b"/runs?limit=0"),
    "limit=-1": (400, "GET", b"/runs?limit=-1"),
    "limit=1001": (400, "GET", b"/runs?limit=1001"),
    "after of 5,000 digits": (400, "GET", b"/runs/a/events?after=" + b"9" * 5_000),
    "generation=\u00b2": (400, "GET", b"/moves/a/digests?generation=%C2%B2"),
    "an unknown filter": (400, "GET", b"/runs?owner=me"),
    "an unknown query": (400, "GET", b"/runs/a?x=1"),
    "a query where there is none": (400, "POST", b"/runs/a/pause?reason=x"),
    "a name twice in the query": (400, "GET", b"/runs?limit=1&limit=2"),
    "settle=maybe": (400, "POST", b"/runs?settle=maybe", b'{"workflow": "flow"}'),
    "an attribute without a value": (400, "GET", b"/runs?attribute=x"),
    "an attribute of many digits": (400, "GET", b"/runs?attribute=x=" + b"9" * 4_000),
    "percent and nothing": (400, "GET", b"/runs/%"),
    "percent and no digits": (400, "GET", b"/runs/%zz"),
    "percent-encoded bytes that are no UTF-8": (400, "GET", b"/runs/%ff"),
    "the same in the query": (400, "GET", b"/runs?after=%ff"),
    "raw bytes that are no UTF-8": (400, "GET", b"/runs/\xff\xfe"),
    "a surrogate, percent-encoded": (400, "GET", b"/runs/%ED%A0%80"),
    "a NUL": (404, "GET", b"/runs/a%00b"),
    "a body that is no UTF-8": (400, "POST", b"/runs/a/signals/x", b'"\xff"'),
    "a lone surrogate in JSON": (400, "POST", b"/runs/a/signals/x", b'"\\ud800"'),
    "NaN": (400, "POST", b"/runs/a/signals/x", b"NaN"),
    "Infinity": (400, "POST", b"/runs/a/signals/x", b"[-Infinity]"),
    "a number of 5,000 digits": (400, "POST", b"/runs/a/signals/x", b"9" * 5_000),
    "a number beyond all bounds": (400, "POST", b"/runs/a/signals/x", b"[1e999]"),
    "an empty name of a run": (404, "POST", b"/runs//signals/cancel"),
    "an empty name in the middle": (404, "GET", b"/runs/a//queries/value"),
    "a name twice in an object": (400, "POST", b"/runs", b'{"workflow": "flow", "workflow": "flow"}'),
    "the same further in": (400, "POST", b"/runs/a/signals/x", b'[{"a": {"b": 1, "b": 2}}]'),
    "two values": (400, "POST", b"/runs/a/signals/x", b"1 2"),
    "no body": (400, "POST", b"/runs"),
    "no object": (400, "POST", b"/runs", b"[]"),
    "a workflow that is no text": (400, "POST", b"/runs", b'{"workflow": 1}'),
    "an unknown field": (400, "POST", b"/runs", b'{"workflow": "flow", "inputs": 1}'),
    "attributes: [1]": (400, "POST", b"/runs", b'{"workflow": "flow", "attributes": [1]}'),
    "attributes: 'x'": (400, "POST", b"/runs", b'{"workflow": "flow", "attributes": "x"}'),
    "an attribute that is a list": (400, "POST", b"/runs", b'{"workflow": "flow", "attributes": {"a": []}}'),
    "an attribute beyond all bounds": (
        400,
        "POST",
        b"/runs",
        b'{"workflow": "flow", "attributes": {"a": 1%s}}' % (b"0" * 4_000),
    ),
    "an attribute that is no text": (400, "POST", b"/runs", b'{"workflow": "flow", "attributes": {"a": "\\ud800"}}'),
    "id: 5": (400, "POST", b"/runs", b'{"workflow": "flow", "id": 5}'),
    "id: a/b": (400, "POST", b"/runs", b'{"workflow": "flow", "id": "a/b"}'),
    "id of 10,000": (400, "POST", b"/runs", b'{"workflow": "flow", "id": "%s"}' % (b"x" * 10_000)),
    "on_conflict: 1": (400, "POST", b"/runs", b'{"workflow": "flow", "on_conflict": 1}'),
    "start_at without an offset": (400, "POST", b"/runs", b'{"workflow": "flow", "start_at": "2026-11-26T15:00:00"}'),
    "start_at: 5": (400, "POST", b"/runs", b'{"workflow": "flow", "start_at": 5}'),
    "budget: 5": (400, "POST", b"/runs", b'{"workflow": "flow", "budget": 5}'),
    "budget: {}": (400, "POST", b"/runs", b'{"workflow": "flow", "budget": {}}'),
    "budget of a text": (400, "POST", b"/runs", b'{"workflow": "flow", "budget": {"tokens": "many"}}'),
    "budget below 0": (400, "POST", b"/runs", b'{"workflow": "flow", "budget": {"usd": -1}}'),
    "an empty dedupe": (400, "POST", b"/runs/a/signals/x?dedupe="),
    "a dedupe of 100,000": (400, "POST", b"/runs/a/signals/x?dedupe=" + b"x" * 100_000),
    "a signal's name of 100,000": (400, "POST", b"/runs/a/signals/" + b"x" * 100_000),
    "a body for pause": (400, "POST", b"/runs/a/pause", b'{"reason": "x"}'),
    "mode=x": (400, "POST", b"/moves/import?mode=x"),
    "a part that is none": (400, "POST", b"/moves/accept", b"\xc1"),
    "a part that asks for 16 MiB of nothing": (400, "POST", b"/moves/accept", b"\xdd\x01\x00\x00\x00" + b"\x80" * 100),
    "a place that is none": (400, "POST", b"/moves/a/part", b"\x93\x01\x02\x03"),
    "a letter that is none": (400, "POST", b"/moves/take-over", b"\x80"),
    "a bundle that is none": (400, "POST", b"/moves/import", b"\x93\x01"),
    "PUT": (405, "PUT", b"/runs/a"),
    "PATCH": (405, "PATCH", b"/runs/a"),
    "PATCH of all": (405, "PATCH", b"/runs"),
    "POST of a record": (405, "POST", b"/runs/a"),
    "GET of a signal": (405, "GET", b"/runs/a/signals/x"),
    "GET of a cancel": (405, "GET", b"/runs/a/cancel"),
    "POST of a query": (405, "POST", b"/runs/a/queries/value"),
    "POST of the store's name": (405, "POST", b"/moves"),
    "nothing there": (404, "GET", b"/"),
    "nothing of the run": (404, "GET", b"/runs/a/b/c/d"),
    "no such verb": (404, "POST", b"/runs/a/delete"),
    "no such query": (404, "GET", b"/runs/a/queries/x%20y"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_a_caller_does_wrong_is_told_to_the_caller(case: tuple[Any, ...]) -> None:
    """A 4xx with one of the nine codes and a short reason; 405 names the methods; the run is not harmed."""
    status, *request = case

    async def test() -> None:
        async with App() as app:
            got, headers, body = await app.ask(*request)
            error = strict(body)["error"]
            assert (got, error["code"][:4]) == (status, "ERR_"), error
            assert 10 < len(error["message"]) < 1_000
            if status == 405:
                assert headers["allow"]
                assert request[0] not in headers["allow"].split(", ")
            assert (await app.runtime.get_execution("a")).status == "suspended"
            assert (await app.ask("GET", b"/runs"))[0] == 200

    drive(test)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "\u00b2"}, 400),
        ({"content-length": "-1"}, 400),
        ({"content-length": "x"}, 400),
        ({"content-length": "9" * 5_000}, 413),
        ({"content-type": "application/msgpack"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-type": "application/json; charset=UTF-8"}, 202),
        ({"content-type": "application/x-www-form-urlencoded"}, 202),
        ({}, 202),
        ({"content-encoding": "identity"}, 202),
    ],
)
def test_headers_that_say_what_the_body_is(headers: dict[str, str], status: int) -> None:
    """A length that is none is no defect of ours; a body that says it is something else is refused, curl's is taken."""

    async def test() -> None:
        async with App() as app:
            assert (await app.ask("POST", b"/runs/a/signals/x", b'{"a": 1}', headers))[0] == status

    drive(test)


def test_requests_drawn_at_random_are_answered_below_500() -> None:
    """Any method, any path, any query, any body: cut, doubled and mixed from what is right."""
    draw = random.Random(5)
    pieces = [
        b"runs",
        b"moves",
        b"a",
        b"signals",
        b"updates",
        b"queries",
        b"value",
        b"never",
        b"events",
        b"%",
        b"%ff",
        b"..",
        b"cancel",
        b"bundle",
        b"part",
        b"accept",
        b"import",
        b"\xff",
        b"%2F",
        b"digests",
        b"*",
        b"",
        b"freeze",
    ]
    words = [
        b"limit",
        b"after",
        b"status",
        b"attribute",
        b"=",
        b"&",
        b"1",
        b"-1",
        b"%C2%B2",
        b"x=y",
        b"settle",
        b"\x80",
        b"+",
        b"generation",
        b"name",
        b"store",
        b"dedupe",
        b"?",
        b"#",
    ]
    bodies = [
        b"",
        b"null",
        b'{"workflow": "flow"}',
        b'{"workflow": "flow", "id": "b", "input": "wait"}',
        b"[" * 3_000,
        b"\xdc\xff\xff",
        b"\x93\x01",
        b'{"a": 1e999}',
        b"\x00" * 50,
        b'"\\udc00"',
        b"-",
        b"{}",
    ]

    async def test() -> None:
        async with App() as app:
            for _ in range(1_500):
                path = b"/" + b"/".join(draw.choices(pieces, k=draw.randint(0, 4)))
                query = b"".join(draw.choices(words, k=draw.randint(0, 5)))
                body = draw.choice(bodies)
                body = body[: draw.randint(0, len(body))] if draw.random() < 0.3 else body
                method = draw.choice(["GET", "POST", "HEAD", "PUT", "OPTIONS"])
                kind = draw.choice(["application/json", "application/msgpack", "text/plain"])
                if b"never" in path:
                    continue  # an update waits for a minute
                status, headers, answer = await app.ask(method, path + b"?" + query, body, {"accept": kind})
                assert status < 500, (method, path, query, body, answer)
                if method != "HEAD" and status != 204 and headers.get("content-type") != "text/event-stream":
                    assert headers["content-length"] == str(len(answer))

    drive(test)


def test_head_is_get_without_its_body() -> None:
    """The same status and headers, also of an error."""

    async def test() -> None:
        async with App() as app:
            for target in (b"/runs/a", b"/runs", b"/runs/none", b"/moves", b"/runs/a/events"):
                status, headers, body = await app.ask("GET", target)
                assert body
                assert await app.ask("HEAD", target) == (status, headers, b"")

    drive(test)


def test_every_value_of_a_history_is_json_in_a_record_an_event_and_a_list() -> None:
    """NaN, endless integers, bytes, times and classes: one run's result never keeps the others from being listed."""
    nan, huge = float("nan"), 10**5_000
    values = {
        "nan": (nan, "NaN"),
        "inf": ([float("inf"), -float("inf")], ["Infinity", "-Infinity"]),
        "huge": (huge, hex(huge)),
        "less": (-huge, hex(-huge)),
        "big": (2**70, 2**70),
        "bytes": (b"\x00\xff", "AP8="),
        "city": (City("Oslo"), {"<City>": {"name": "Oslo"}}),
        "mixed": ({"a": [nan, City("x"), b"1"]}, {"a": ["NaN", {"<City>": {"name": "x"}}, "MQ=="]}),
    }

    async def test() -> None:
        async with App() as app:
            for id, (value, _) in values.items():
                await (await app.runtime.start(flow, value, id=id)).settle()
            listed = {run["id"]: run["result"] for run in strict((await app.ask("GET", b"/runs"))[2])["runs"]}
            for id, (_, shown) in values.items():
                assert listed[id] == shown
                assert strict((await app.ask("GET", b"/runs/%s" % id.encode()))[2])["result"] == shown
                assert strict((await app.ask("GET", b"/runs/%s/events" % id.encode()))[2])[-1]["value"] == shown
                assert strict((await app.ask("GET", b"/runs/%s/queries/value" % id.encode()))[2]) == shown

    drive(test)


def test_values_drawn_at_random_are_strict_json() -> None:
    """Whatever stands beside or inside of what."""
    draw = random.Random(11)
    leaves = [
        None,
        True,
        1,
        -(2**64),
        10**4_299,
        10**4_300,
        float("nan"),
        float("inf"),
        0.1,
        b"x",
        City("a"),
        "\u2028",
        "",
    ]

    def value(depth: int) -> Any:
        kind = draw.random()
        if depth == 0 or kind < 0.4:
            return draw.choice(leaves)
        if kind < 0.7:
            return [value(depth - 1) for _ in range(draw.randint(0, 3))]
        return {str(n): value(depth - 1) for n in range(draw.randint(0, 3))}

    for _ in range(300):
        strict(to_json(value(4), codec()).encode())


def test_what_is_wrong_with_a_large_body_is_found_in_time_that_grows_with_it() -> None:
    """One name twice among 200,000 is told in a second and not in an hour: whoever sends it holds up nobody."""
    body = json.dumps({f"k{n}": 1 for n in range(200_000)})[:-1] + ', "k199999": 2}'
    begun = time.process_time()
    with pytest.raises(InvalidInput, match="'k199999' stands twice"):
        from_json(body)
    assert time.process_time() - begun < 5


def test_filters_of_the_list_are_those_that_it_names() -> None:
    """Attributes may come several times; they narrow together."""

    async def test() -> None:
        async with App() as app:
            for n in range(6):
                attributes = {"n": n, "even": n % 2 == 0, "kind": "x y"}
                await (await app.runtime.start(flow, n, id=f"b{n}", attributes=attributes)).settle()
            for query, ids in (
                (b"attribute=even=true", ["b0", "b2", "b4"]),
                (b"attribute=kind=x+y&attribute=n=3", ["b3"]),
                (b"attribute=kind=x%20y&limit=2", ["b0", "b1"]),
                (b"status=suspended", ["a"]),
                (b"attribute=n=7", []),
                (b"attribute=n=%222%22", []),
            ):
                status, _, body = await app.ask("GET", b"/runs?" + query)
                assert (status, [run["id"] for run in strict(body)["runs"]]) == (200, ids), query

    drive(test)


def test_a_request_that_nobody_will_answer_ends() -> None:
    """An update of a run that can't go on here, and ?settle of one that goes on for ever: within a minute."""

    @workflow(name="flow")
    async def busy(ctx: Context, value: Any = None) -> Any:
        ctx.on_update("later", lambda _: None)
        await ctx.step("long", ctx_sleep)

    async def ctx_sleep() -> None:
        await host.sleep(1_000_000)

    host = SimulatedHost()

    async def test() -> None:
        app = App.__new__(App)
        async with Runtime(host, workflows=[busy]) as runtime:
            app.app, before = asgi_app(runtime, token=TOKEN, serve=False), host.now_ms()
            status, _, body = await app.ask("POST", b"/runs?settle=1", b'{"workflow": "flow", "id": "b"}')
            assert (status, strict(body)["status"]) == (201, "running")
            assert 60_000 <= host.now_ms() - before < 62_000
        async with Runtime(host) as knows_nothing:
            app.app = asgi_app(knows_nothing, token=TOKEN, serve=False)
            status, _, body = await app.ask("POST", b"/runs/b/updates/later", b"1")
            assert (status, strict(body)["error"]["code"]) == (503, "ERR_STORE")
            assert "is recorded" in strict(body)["error"]["message"]
            assert len(asyncio.all_tasks()) <= 2

    drive(test)


@pytest.mark.parametrize("time", ["2036-11-26T15:00:00", "tomorrow", ""])
def test_a_time_says_its_offset(time: str) -> None:
    """Whose three o'clock it is nobody can guess: a run that began by the server's would be hours off."""

    async def test() -> None:
        async with App() as app:
            body = json.dumps({"workflow": "flow", "id": "b", "start_at": time}).encode()
            status, _, answer = await app.ask("POST", b"/runs", body)
            assert status == 400
            assert "with its offset" in strict(answer)["error"]["message"]

    drive(test)


def test_who_drives_a_run_and_the_names_of_its_keys_are_shown_to_nobody() -> None:
    """A caller has no use for them."""

    async def test() -> None:
        async with App() as app:
            record = strict((await app.ask("GET", b"/runs/a"))[2])
            assert record["id"] == "a"
            assert not record.keys() & {"owner", "run", "epoch", "lease_until", "version_tag"}

    drive(test)


def test_what_another_run_has_taken_is_a_conflict() -> None:
    """409, so that a client can tell it from a request that is wrong."""

    async def test() -> None:
        async with App() as app:
            status, _, answer = await app.ask("POST", b"/runs", b'{"workflow": "flow", "id": "a", "input": 2}')
            assert status == 409
            assert strict(answer)["error"]["code"] == "ERR_CONFLICT"

    drive(test)
