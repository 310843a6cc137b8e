"""A run's events as a stream over HTTP: each once, wherever the wire is cut, and none when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import (
    ClosedError,
    ConflictError,
    Context,
    InvalidInput,
    NotFound,
    Runtime,
    StepInfo,
    UnknownOutcome,
    hand_over,
    workflow,
)
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http import api as api_module
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Request
from alkaline_hosts._http.streaming import Frames
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.remote import Remote
from tests.http.wire import CuttingProxy, served
from tests.support import drive

TOKEN = "a-token-for-these-tests"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


async def speak(text: str, info: StepInfo) -> str:
    for word in text.split():
        info.publish("word", word)
        await asyncio.sleep(0)
    return text


@workflow
async def talk(ctx: Context, lines: list[str]) -> Any:
    said = [await ctx.step("speak", speak, line) for line in lines]
    ctx.emit("said", len(said))
    return [said, await ctx.wait_for_signal("go")]


@workflow
async def told_to(ctx: Context, lines: list[str]) -> Any:
    await ctx.wait_for_signal("begin")
    return [await ctx.step("speak", speak, line) for line in lines]


@workflow
async def count(ctx: Context, n: int) -> int:
    for k in range(n):
        await ctx.step("count", lambda k=k: "\u00fc\n" * k)
    return n


async def whole(api: HttpApi, id: str, after: str = "", header: bool = False) -> tuple[int, bytes]:
    """The status and all bytes of a stream of a run that has ended."""
    target = f"/runs/{id}/stream" + (f"?after={after}" if after and not header else "")
    answer = await api.handle(Request("GET", target, {"last-event-id": after} if header else {}))
    data = b"" if answer.chunks is None else b"".join([chunk async for chunk in answer.chunks])
    return answer.status, data or answer.body


def read(data: bytes) -> list[tuple[str, Any]]:
    return list(Frames().feed(data))


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(0, 12), cuts=st.lists(st.floats(0, 1), max_size=5), header=st.booleans(), data=st.data())
def test_a_stream_cut_at_any_byte_goes_on_without_loss_or_doubles(
    steps: int, cuts: list[float], header: bool, data: st.DataObject
) -> None:
    """Each connection is cut after some bytes, which come in pieces; the next names the last event that was whole."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[count]) as runtime:
            await (await runtime.start(count, steps, id="c")).result()
            api = HttpApi(runtime)
            heard: list[Any] = []
            for cut in [*cuts, 1.0]:
                last = heard[-1]["place"] if heard else ""
                status, sent = await whole(api, "c", last, header)
                if status == 204:
                    break
                sent = sent[: round(cut * len(sent))]
                frames, at = Frames(), 0
                while at < len(sent):
                    size = data.draw(st.integers(1, 400), "piece")
                    heard += [value for kind, value in frames.feed(sent[at : at + size]) if not kind]
                    at += size
            history = json.loads((await api.handle(Request("GET", "/runs/c/events", {}))).body)
            assert heard == [{"place": f"0.{each['n']}", **each} for each in history]

    drive(test)


def test_a_stream_has_what_happens_as_it_happens_and_ends_behind_the_last_event() -> None:
    """What steps publish comes before their results, without an id; behind the end there is nothing to come for."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[told_to]) as runtime:
            api = HttpApi(runtime)
            await (await runtime.start(told_to, ["hello there", "bye"], id="t")).settle()
            answer = await api.handle(Request("GET", "/runs/t/stream", {}))
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            assert answer.chunks is not None
            sent = b""
            async for chunk in answer.chunks:
                sent += chunk
                if b'"kind": "Started"' in chunk:
                    await runtime.signal("t", "begin")
            found = [(kind, value.get("kind"), value.get("data")) for kind, value in read(sent)]
            step = ("", "StepCompleted", None)
            said = [("published", "Published", word) for word in ("hello", "there", "bye")]
            assert found[:2] == [("", "Started", None), ("", "SignalReceived", None)]
            assert found[2:] == [said[0], said[1], step, said[2], step, ("", "Completed", None), ("end", None, None)]
            assert (await whole(api, "t", "0.4", header=True))[0] == 204
            assert (await whole(api, "t", "0.3"))[1].count(b"\nid: ") == 1
            # a header is newer than the URL that an EventSource comes back with
            both = Request("GET", "/runs/t/stream?after=0.0", {"last-event-id": "0.4"})
            assert (await api.handle(both)).status == 204

    drive(test)


def test_what_can_not_be_streamed_is_an_answer_like_any_other() -> None:
    """404, 400, 409, 405, too many at once; and HEAD is GET without the body."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[talk]) as runtime:
            await (await runtime.start(talk, [], id="t")).settle()
            app = asgi_app(runtime, token=TOKEN, serve=False)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:

                async def ask(target: str, method: str = "GET") -> int:
                    return (await client.request(method, target, headers=HEADERS)).status_code

                assert await ask("/runs/none/stream") == 404
                assert await ask("/runs/t/stream?after=x") == 400
                assert await ask("/runs/t/stream?limit=3") == 400
                assert await ask("/runs/t/stream", "POST") == 405
                assert await ask("/runs/t/stream", "HEAD") == 200
                assert (await client.get("/runs/t/stream")).status_code == 401
            api = HttpApi(runtime)
            ahead = await api.handle(Request("GET", "/runs/t/stream?after=0.9", {}))
            assert ahead.chunks is not None
            problem = read(b"".join([chunk async for chunk in ahead.chunks]))
            assert [(kind, value["error"]["code"]) for kind, value in problem] == [("problem", "ERR_CONFLICT")]

    drive(test)


def test_streams_are_bounded_in_number_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is 503 until another has ended; a quiet one sends comments, and ends after its time."""
    monkeypatch.setattr(api_module, "MAX_STREAMS", 1)

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[talk]) as runtime:
            await (await runtime.start(talk, [], id="t")).settle()
            api = HttpApi(runtime)
            first = await api.handle(Request("GET", "/runs/t/stream", {}))
            assert first.chunks is not None
            assert await anext(first.chunks) == b"retry: 1000\n\n"
            assert (await api.handle(Request("GET", "/runs/t/stream", {}))).status == 503
            began = runtime.host.now_ms()
            rest = [chunk async for chunk in first.chunks]
            assert runtime.host.now_ms() - began == 900_000
            assert rest.count(b":\n\n") == 900 // 15
            assert not any(b"event: end" in chunk for chunk in rest)
            again = await api.handle(Request("GET", "/runs/t/stream", {}))
            assert again.status == 200
            assert not runtime._teller.followed
            assert not runtime._teller.has_listeners

    drive(test)


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Runtime, int]]:
    runtime = Runtime(MemoryHost(), workflows=[talk, count])
    async with runtime, served(asgi_app(runtime, token=TOKEN, serve=False)) as port:
        yield runtime, port


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_remote_hears_each_event_once_though_the_wire_is_cut_again_and_again() -> None:
    """The wire is cut after a drawn number of bytes, each time anew, while the run goes on."""
    draw = random.Random(7)

    async def test() -> None:
        async with stage() as (runtime, port), CuttingProxy(port) as proxy:
            lines = [f"line {n} of a long talk" for n in range(30)]
            await runtime.start(talk, lines, id="t")
            heard: list[Any] = []
            proxy.arm("down", 100)

            async def cut_again() -> None:
                while proxy.cuts < 12:
                    if proxy.count["down"] >= proxy.limit:
                        proxy.arm("down", draw.randint(100, 2_000))
                    await asyncio.sleep(0.001)
                proxy.arm("down", -1)

            cutting = asyncio.ensure_future(cut_again())
            async with Remote(proxy.url, token=TOKEN) as remote:
                async for event in remote.stream("t"):
                    if "place" in event:
                        heard.append(event)
                    if event["kind"] == "Emitted":
                        await runtime.signal("t", "go", "on", dedupe="once")
                assert proxy.cuts > 3
                cutting.cancel()
                proxy.arm("down", -1)
                assert heard == [{"place": f"0.{each['n']}", **each} for each in await remote.events("t")]
                assert heard[-1]["kind"] == "Completed"
                assert [each async for each in remote.stream("t", heard[-1]["place"])] == []
                assert [each async for each in remote.stream("t", heard[-2]["place"])] == heard[-1:]

    run(test)


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """The follower is gone as soon as its client is, and the server ends though a stream is open."""

    async def test() -> None:
        async with stage() as (runtime, port):
            await (await runtime.start(talk, [], id="t")).settle()
            async with Remote(f"http://127.0.0.1:{port}", token=TOKEN) as remote:
                stream = remote.stream("t")
                assert (await anext(stream))["kind"] == "Started"
                assert runtime._teller.followed
                await stream.aclose()
                await until(lambda: not runtime._teller.followed)
                left = remote.stream("t")
                await anext(left)
                await left.aclose()

    run(test)


def test_a_stream_that_can_not_go_on_says_why_at_the_other_end() -> None:
    """A run that is handed over, one that is not there, a place that is none, a fetch that can't stream."""

    async def test() -> None:
        async with stage() as (runtime, port), Runtime(MemoryHost(), workflows=[talk]) as target:
            await (await runtime.start(talk, [], id="t")).settle()
            async with Remote(f"http://127.0.0.1:{port}", token=TOKEN) as remote:
                stream = remote.stream("t")
                assert [(await anext(stream))["kind"] for _ in range(2)] == ["Started", "Emitted"]
                await hand_over(runtime, "t", target)
                with pytest.raises(ConflictError, match="handed over"):
                    await anext(stream)
                for wrong, kind in (("none", NotFound), ("t", InvalidInput)):
                    with pytest.raises(kind):
                        await anext(remote.stream(wrong, "x" if wrong == "t" else ""))

        async def fetch(*_: Any) -> tuple[int, bytes]:
            return 200, b"{}"

        with pytest.raises(InvalidInput, match="stream"):
            await anext(Remote("http://localhost", fetch=fetch).stream("t"))

    run(test)


def test_a_server_that_does_not_come_back_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some connections in a row that brought nothing: whoever asks knows the last place that it had."""
    monkeypatch.setattr("alkaline_hosts.remote._TRIES", 2)

    async def test() -> None:
        async with Remote("http://127.0.0.1:1", token=TOKEN) as remote:
            with pytest.raises(UnknownOutcome, match="not reached 3 times"):
                await anext(remote.stream("t"))

    run(test)


def test_a_runtime_that_is_closed_ends_its_streams() -> None:
    """With ERR_CLOSED, which a Remote takes for a server that comes back."""

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[talk]) as runtime:
            await (await runtime.start(talk, [], id="t")).settle()
            answer = await HttpApi(runtime).handle(Request("GET", "/runs/t/stream", {}))
            assert answer.chunks is not None
            sent = [await anext(answer.chunks) for _ in range(3)]
            rest = asyncio.ensure_future(anext(answer.chunks))
            await asyncio.sleep(0)
            await runtime.close()
            sent.append(await rest)
            assert b"ERR_CLOSED" in b"".join([*sent, *[chunk async for chunk in answer.chunks]])
            with pytest.raises(ClosedError):
                runtime.follow("t")

    run(test)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 200))
def test_what_is_no_stream_is_refused_or_nothing(data: bytes, at: int) -> None:
    """Any bytes in any pieces: frames, or ERR_INVALID_INPUT."""
    frames = Frames()
    try:
        for piece in (data[:at], data[at:]):
            list(frames.feed(piece))
    except InvalidInput:
        pass
    assert read(b"event: x\r\ndata: {}\r\n\r\n: pulse\n\ndata: [1,\ndata: 2]\n\nid: 4\n\n") == [("x", {}), ("", [1, 2])]
