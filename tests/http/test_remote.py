"""What a Remote makes of answers that are none of ours, of endless ones, and of late ones; and its verbs."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alkaline_edge import (
    AlkalineError,
    Context,
    InvalidInput,
    Runtime,
    StoreError,
    UnknownOutcome,
    hand_over,
    reclaim,
    workflow,
)
from alkaline_edge.codec import Codec
from alkaline_edge.runtime.handing import Local
from alkaline_hosts._http.fetching import Bounded
from alkaline_hosts._http.messages import SMALL
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.remote import Remote
from tests.http.test_answers import TOKEN, Server
from tests.support import drive

URL = "https://edge.example"
VERBS: dict[str, Callable[[Remote], Awaitable[Any]]] = {
    "identity": lambda r: r.identity(),
    "place": lambda r: r.place("a"),
    "digests": lambda r: r.digests("a", 0),
    "accept": lambda r: r.accept(b"x"),
    "freeze": lambda r: r.freeze("a", "n", "s"),
    "take_over": lambda r: r.take_over(b"x"),
    "confirm": lambda r: r.confirm("a", "s"),
    "import_": lambda r: r.import_(b"x"),
    "start": lambda r: r.start("flow"),
    "status": lambda r: r.status("a"),
    "runs": lambda r: r.runs(),
    "events": lambda r: r.events("a"),
    "signal": lambda r: r.signal("a", "s"),
    "update": lambda r: r.update("a", "u"),
    "query": lambda r: r.query("a", "q"),
    "pause": lambda r: r.pause("a"),
    "resume": lambda r: r.resume("a"),
    "cancel": lambda r: r.cancel("a"),
}
FOREIGN = [
    b"",
    b"<html>Please log in to the hotel's network</html>",
    b"\xc1",
    b"\x93\x01\x02",
    b"OK",
    b"{",
    b"\xff\xfe",
    b"[NaN]",
]


@workflow
async def waiting(ctx: Context) -> Any:
    return await ctx.wait_for_signal("x")


def answering(status: int, body: bytes) -> Any:
    async def fetch(*_: Any) -> tuple[int, bytes]:
        return status, body

    return fetch


@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_that_is_not_ours_is_not_the_callers_fault(verb: str) -> None:
    """ERR_STORE that names the URL, for every verb: the answer may be had again, and the caller gave nothing wrong."""

    async def test() -> None:
        for body in FOREIGN:
            with pytest.raises(UnknownOutcome, match=r"https://edge\.example answered"):
                await VERBS[verb](Remote(URL, token=TOKEN, fetch=answering(200, body)))
        for status, body in (
            (302, b""),
            (0, b""),
            (403, b"<html>"),
            (502, b""),
            (500, b"[]"),
            (404, b'{"error": 1}'),
            (400, b'{"error": {"code": [], "message": 1}}'),
            (400, b'{"error": {"code": "x"}}'),
        ):
            with pytest.raises(StoreError, match=r"https://edge\.example answered with HTTP status"):
                await VERBS[verb](Remote(URL, token=TOKEN, fetch=answering(status, body)))

    drive(test)


@pytest.mark.parametrize("verb", ["status", "signal", "cancel", "pause", "resume", "start", "runs"])
def test_another_s_json_is_not_taken_for_ours(verb: str) -> None:
    """A service that says yes to everything has recorded nothing; nor is what is said of another run believed."""
    other = {"id": "b", "workflow": "w", "status": "running", "runs": 1}
    bodies: list[Any] = [{}, {"hello": 1}, {"ok": True, "id": "a"}, {"status": "running"}]
    bodies += [other] if verb not in ("start", "runs") else []

    async def test() -> None:
        for body in bodies:
            with pytest.raises(UnknownOutcome, match=r"https://edge\.example answered in another form"):
                await VERBS[verb](Remote(URL, token=TOKEN, fetch=answering(200, json.dumps(body).encode())))

    drive(test)


def test_right_answers_that_are_cut_or_changed_are_never_believed_nor_blamed_on_the_caller() -> None:
    """Any byte of a place or a record changed, and any end cut off: the same value, or ERR_STORE."""
    draw = random.Random(3)

    async def test() -> None:
        async with Server() as server:
            for ask, path in ((lambda r: r.place("a"), "/moves/a"), (lambda r: r.status("a"), "/runs/a")):
                right = (await server.ask("GET", path)).content
                for _ in range(150):
                    where, body = draw.randrange(len(right)), bytearray(right)
                    body[where] = draw.randrange(256)
                    given = bytes(body) if draw.random() < 0.5 else right[:where]
                    with contextlib.suppress(StoreError):
                        await ask(Remote(URL, token=TOKEN, fetch=answering(200, given)))

    drive(test)


def test_a_hand_over_to_a_login_page_may_be_done_again() -> None:
    """The run stays here, and the error says where the answer came from."""

    async def test() -> None:
        async with Runtime(MemoryHost(), workflows=[waiting]) as runtime:
            await (await runtime.start(waiting, id="a")).settle()
            for body in FOREIGN[:2]:
                with pytest.raises(UnknownOutcome, match=r"https://edge\.example answered with"):
                    await hand_over(runtime, "a", Remote(URL, token=TOKEN, fetch=answering(200, body)))
            assert (await runtime.get_execution("a")).status == "suspended"

    drive(test)


@asynccontextmanager
async def raw_server(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that reads a request and answers with what the test says; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/msgpack\r\n"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "none"])
def test_an_endless_answer_is_not_read(coding: str) -> None:
    """A place has a hundred bytes: neither 40 MB on the wire nor 40 MB packed into 40 KB are taken into memory."""
    zeros = b"\0" * 40_000_000
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "none": bytes}[coding](zeros)

    async def endless(writer: asyncio.StreamWriter) -> None:
        said = b"" if coding == "none" else b"content-encoding: %s\r\n" % coding.encode()
        writer.write(HEAD + said + b"content-length: %d\r\n\r\n" % len(packed))
        for place in range(0, len(packed), 100_000):
            writer.write(packed[place : place + 100_000])
            await writer.drain()

    async def test() -> None:
        async with raw_server(endless) as url, Remote(url, token=TOKEN) as remote:
            with pytest.raises(StoreError):  # what the import of httpx takes is not counted
                await Remote("http://127.0.0.1:9", token=TOKEN).place("a")
            tracemalloc.start()
            try:
                with pytest.raises(UnknownOutcome, match="http://127"):
                    await remote.place("a")
                assert tracemalloc.get_traced_memory()[1] < 5_000_000
            finally:
                tracemalloc.stop()

    asyncio.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize("cut", ["silent", "drip", "head"])
def test_an_answer_that_does_not_come_ends_with_the_time(cut: str) -> None:
    """Neither silence nor a byte now and then holds a caller: the time-out is for the whole of a small answer."""

    async def slow(writer: asyncio.StreamWriter) -> None:
        if cut != "silent":
            writer.write(HEAD + (b"" if cut == "head" else b"content-length: 1000\r\n\r\n"))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if cut == "drip":
                writer.write(b"\0")
                await writer.drain()

    async def test() -> None:
        async with raw_server(slow) as url, Remote(url, token=TOKEN, timeout=0.2) as remote:
            begun = asyncio.get_running_loop().time()
            with pytest.raises(UnknownOutcome, match="do it again"):
                await remote.place("a")
            assert asyncio.get_running_loop().time() - begun < 1

    asyncio.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize("name", ["", "\ud800", 5, None])
def test_a_name_that_no_path_can_have_is_refused_before_it_is_sent(name: Any) -> None:
    """Clients leave out what is empty: the answer would be another verb's."""

    async def test() -> None:
        remote = Remote(URL, token=TOKEN, fetch=answering(200, b"{}"))
        asked = [remote.status(name), remote.query("a", name), remote.signal(name, "s"), remote.signal("a", name)]
        for each in [*asked, remote.place(name), remote.cancel(name), remote.update("a", name)]:
            with pytest.raises(InvalidInput, match=r"over HTTP|text"):
                await each
        with pytest.raises(InvalidInput, match="surrogate"):
            await remote.signal("a", "s", dedupe="\ud800")

    drive(test)


@pytest.mark.parametrize(
    "given",
    [
        {"token": TOKEN + "\n"},
        {"token": " " + TOKEN},
        {"token": "t\u00f6ken-of-enough-bytes"},
        {"token": ""},
        {"token": 5},
        {"key": ("my laptop", TOKEN)},
        {"key": ("laptop", "short")},
        {"key": ("laptop", None)},
        {"key": "laptop:" + TOKEN},
        {"url": "http://[::1"},
        {"url": "http://localhost:99999"},
        {"url": None},
    ],
    ids=str,
)
def test_a_secret_or_a_url_that_can_not_be_sent_is_refused_where_it_is_given(given: dict[str, Any]) -> None:
    """A token read from a file with its line break would otherwise be a server that is "not reached", for ever."""
    with pytest.raises(InvalidInput) as caught:
        Remote(**{"url": URL} | given)
    assert "short" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_request_to_this_machine_goes_by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would read the token: it is for the way to other machines."""
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(10_000))
        writer.close()

    async def nothing(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 1\r\n\r\n\xc0")

    async def test() -> None:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with server, raw_server(nothing) as url, Remote(url, token=TOKEN) as remote:
            assert await remote.place("a") is None
        assert seen == []

    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_large_error_is_not_read() -> None:
    """An export may have a gigabyte, and what says that there is none may not."""

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD.replace(b"200 OK", b"500 No") + b"content-length: 40000000\r\n\r\n")
        for _ in range(400):
            writer.write(b"\0" * 100_000)
            await writer.drain()

    async def test() -> None:
        async with raw_server(endless) as url, Remote(url, token=TOKEN) as remote:
            with pytest.raises(UnknownOutcome, match="more than 65,536 bytes"):
                await remote.export("a")

    asyncio.run(asyncio.wait_for(test(), 30))


def test_what_is_no_json_is_refused_before_it_is_sent() -> None:
    """NaN, bytes and objects have no JSON: the caller is told at once."""

    async def test() -> None:
        for value in (float("nan"), b"x", object(), {1, 2}):
            with pytest.raises(InvalidInput, match="a JSON value"):
                await Remote(URL, token=TOKEN, fetch=answering(200, b"{}")).signal("a", "s", value)

    drive(test)


def test_a_run_is_taken_back_and_reclaimed_and_an_ended_one_copied_over_http() -> None:
    """What a Remote is asked for in a limbo; a run that has ended is nobody's, so no letter comes of it."""

    async def test() -> None:
        async with Server() as server, Runtime(MemoryHost(), workflows=[waiting]) as runtime:
            remote = Remote("http://localhost", token=TOKEN, fetch=server.fetch)
            await (await runtime.start(waiting, id="w")).settle()
            name = await remote.identity()
            for back in (lambda: hand_over(remote, "w", runtime), lambda: reclaim(runtime, "w", name)):
                await Local(runtime).freeze("w", "server", name)
                assert (await back()).moved_to is None
            home = await Local(runtime).identity()
            await remote.freeze("a", "here", home)
            with pytest.raises(InvalidInput, match="brackets"):
                await reclaim(remote, "a", "other")
            assert (await reclaim(remote, "a", home)).moved_to is None
            await remote.freeze("a", "here", home)
            assert (await hand_over(runtime, "a", remote)).moved_to is None
            await remote.cancel("a")
            await server.runtime.settle("a")
            assert (await hand_over(remote, "a", runtime)).status == "cancelled"

    drive(test)


def test_starting_with_all_there_is_over_http() -> None:
    """Joining what is there, attributes, a later beginning and a budget reach the run; a conflict is told."""

    async def test() -> None:
        async with Server() as server:
            remote = Remote("http://localhost", token=TOKEN, fetch=server.fetch)
            assert (await remote.start("flow", 2, id="a", on_conflict="join"))["id"] == "a"
            with pytest.raises(AlkalineError, match="exists already"):
                await remote.start("flow", 2, id="a")
            with pytest.raises(InvalidInput, match="on_conflict is"):
                await remote.start("flow", 2, id="a", on_conflict="replace")
            late = datetime.now(UTC) + timedelta(days=40_000)
            record = await remote.start("flow", 3, id="b", attributes={"n": 1}, start_at=late, budget={"tokens": 5})
            assert (record["attributes"], record["wake_at"]) == ({"n": 1}, round(late.timestamp() * 1000))
            assert [run["id"] for run in (await remote.runs(attributes={"n": 1}))["runs"]] == ["b"]
            assert (await remote.start("flow", 4, id="c", settle=True))["status"] == "suspended"
            assert [event["kind"] for event in await remote.events("c")] == ["Started"]
            await remote.pause("c")
            await server.runtime.settle("c")
            assert (await remote.status("c"))["status"] == "paused"
            stored = await server.runtime.history("b")
            assert stored[0].event.header["accounts"][0][1:] == [5, None]  # type: ignore[union-attr]  # a Started
            assert Codec().encode(json.loads(json.dumps(record["attributes"]))) == Codec().encode({"n": 1})

    drive(test)


def test_an_answer_of_a_fetch_of_ones_own_is_bounded_too() -> None:
    """It may have read all of it: what can't be an answer is not decoded."""

    async def test() -> None:
        fetch = answering(200, b"\xc0" * (SMALL + 1))
        with pytest.raises(UnknownOutcome, match=f"more than {SMALL:,} bytes"):
            await Remote(URL, token=TOKEN, fetch=fetch).identity()

    drive(test)


def test_an_answer_that_says_it_is_something_else_is_not_read() -> None:
    """An empty page of a proxy would mean that there is no such run."""

    class Page(Bounded):
        """Answers in the name of the server."""

        async def bounded(self, *_: Any) -> tuple[int, bytes, str]:
            return 200, b"\xc0", "text/html; charset=utf-8"

    async def test() -> None:
        with pytest.raises(UnknownOutcome, match="is it an alkaline_edge host"):
            await Remote(URL, token=TOKEN, fetch=Page()).place("a")

    drive(test)


def test_attributes_that_read_as_something_else_are_found_as_the_texts_that_they_are() -> None:
    """The text 7 and the number 7 are two values, over HTTP too."""

    async def test() -> None:
        async with Server() as server:
            for id, value in (("text", "7"), ("number", 7), ("word", "true"), ("flag", True)):
                await server.runtime.start("flow", 1, id=id, attributes={"of": value})
            remote = Remote("http://localhost", token=TOKEN, fetch=server.fetch)
            for id, value in (("text", "7"), ("number", 7), ("word", "true"), ("flag", True)):
                found = await remote.runs(attributes={"of": value})
                assert [each["id"] for each in found["runs"]] == [id]

    drive(test)
