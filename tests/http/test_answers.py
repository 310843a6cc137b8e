"""The ASGI app as its callers see it: who is let in, what is bounded, and what an error looks like."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import Any

import httpx
import pytest

from alkaline_edge import ConflictError, Context, InvalidInput, NotFound, Runtime, StoreError, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http import application
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Head
from alkaline_hosts._http.signing import Access, sign
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.remote import Remote
from tests.support import drive

TOKEN = "a-token-for-these-tests"
SECRET = "a-secret-of-enough-bytes"
ORIGIN = "https://app.example"


@workflow
async def flow(ctx: Context, n: int) -> Any:
    ctx.on_query("bad", lambda: 1 / 0)
    return await ctx.wait_for_signal("go")


class Server:
    """An app on a simulated host, asked in memory."""

    def __init__(self, **options: Any) -> None:
        self.runtime = Runtime(SimulatedHost(), workflows=[flow])
        self.app = asgi_app(self.runtime, **({"token": TOKEN} | options))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    async def __aenter__(self) -> Server:
        await (await self.runtime.start("flow", 1, id="a")).settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.runtime.close()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request with the right token, unless headers say otherwise."""
        headers = {"authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **options)

    async def fetch(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        """For a Remote."""
        response = await self.client.request(method, url, headers=headers, content=body)
        return response.status_code, response.content


def test_a_server_that_nobody_was_named_for_is_refused() -> None:
    """Access is said aloud, and short secrets are no secrets."""
    runtime = Runtime(SimulatedHost())
    with pytest.raises(InvalidInput, match="who may ask"):
        asgi_app(runtime)
    for short in ({"token": "short"}, {"keys": {"k": "short"}}, {"token": [TOKEN, ""]}):
        with pytest.raises(InvalidInput, match="random ones or more"):
            asgi_app(runtime, **short)  # type: ignore[arg-type]  # each is one of the parameters
    for other in ({"token": TOKEN + "\n"}, {"token": "\u00fc" * 30}, {"token": [5]}, {"keys": {"my laptop": SECRET}}):
        with pytest.raises(InvalidInput):  # what no header can have would be a server that lets nobody in
            asgi_app(runtime, **other)  # type: ignore[arg-type]  # each is one of the parameters
    with pytest.raises(InvalidInput, match="without a path"):
        asgi_app(runtime, token=TOKEN, origins=["*"])


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
@pytest.mark.parametrize("request_", [("GET", "/runs/a"), ("POST", "/moves/accept"), ("GET", "/nothing")])
def test_without_the_token_nothing_is_told(header: str | None, request_: tuple[str, str]) -> None:
    """401 whatever was asked for, before the body is read, and nothing about what is there."""

    async def test() -> None:
        async with Server() as server:
            headers = {} if header is None else {"authorization": header}
            response = await server.client.request(*request_, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "ERR_INVALID_INPUT"
            assert response.headers["cache-control"] == "no-store"

    drive(test)


def test_one_of_several_tokens_is_enough() -> None:
    """So that one can be replaced."""

    async def test() -> None:
        async with Server(token=["an-older-token-of-ours", TOKEN]) as server:
            assert (await server.ask("GET", "/runs/a")).status_code == 200
            older = {"authorization": "bearer an-older-token-of-ours"}
            assert (await server.ask("GET", "/runs/a", headers=older)).status_code == 200

    drive(test)


def test_a_signed_request_counts_once_and_for_itself_alone() -> None:
    """Replayed, changed in any part, under another key, too old or too new: 401, and nothing is done."""

    async def test() -> None:
        now = 1_700_000_000.0
        access = Access(keys={"laptop": SECRET, "phone": "another-secret-of-enough"}, clock=lambda: now)
        async with Server() as server:
            api = HttpApi(server.runtime, access)
            server.app._api = api  # type: ignore[attr-defined]  # one whose clock stands still
            path, body = "/runs/a/signals/other?dedupe=d", b'{"n":1}'

            async def ask(headers: dict[str, str], path: str = path, body: bytes = body, method: str = "POST") -> int:
                return (await server.ask(method, path, headers=headers, content=body)).status_code

            good = sign("laptop", SECRET, "POST", path, body, now)
            assert await ask(good, body=b'{"n":2}') == 401
            assert await ask(good, path="/runs/a/signals/other?dedupe=e") == 401
            assert await ask(good, path="/runs/b/signals/other?dedupe=d") == 401
            assert await ask(good, method="PUT") == 401
            header = good["authorization"]
            for old, new in (("laptop", "phone"), ("laptop", "nobody"), ("time=17", "time=18"), ("nonce=", "nonce=0")):
                assert await ask({"authorization": header.replace(old, new)}) == 401
            assert await ask({"authorization": header[:-1] + ("0" if header[-1] != "0" else "1")}) == 401
            assert await ask({"authorization": header.split(", sig", maxsplit=1)[0]}) == 401
            assert (await server.runtime.store.keys_under("i/a/")) == []
            assert await ask(good) == 202
            assert await ask(good) == 401
            for skew in (-301, 301):
                assert await ask(sign("laptop", SECRET, "POST", path, body, now + skew)) == 401
            now += 400  # what was seen is forgotten when it is too old anyway
            assert await ask(good) == 401
            assert await ask(sign("laptop", SECRET, "POST", path, body, now)) == 202
            assert await ask({"authorization": f"Bearer {SECRET}"}) == 401

    drive(test)


def test_a_signature_is_over_what_the_module_says() -> None:
    """A vector, computed with nothing of ours, so that clients in other languages can be written."""
    import hmac
    from hashlib import sha256

    header = sign("k", SECRET, "post", "/runs?x=1", b"body", 12)["authorization"]
    fields = dict(part.split("=") for part in header.split(" ", 1)[1].split(", "))
    lines = ["alkaline-hmac-sha256", "k", "12", fields["nonce"], "POST", "/runs?x=1", sha256(b"body").hexdigest()]
    assert fields["signature"] == hmac.new(SECRET.encode(), "\n".join(lines).encode(), sha256).hexdigest()


def test_a_body_is_bounded_while_it_comes_in() -> None:
    """By its announced length before it is read, and without one as soon as it is over the limit."""

    async def test() -> None:
        async with Server(max_body=1_000) as server:
            assert (await server.ask("POST", "/moves/accept", content=b"x" * 1_001)).status_code == 413
            assert (await server.ask("POST", "/moves/accept", content=b"x" * 1_000)).status_code == 400
            given = 0

            async def endless() -> Any:
                nonlocal given
                for _ in range(1_000):
                    given += 100
                    yield b"x" * 100

            messages: list[Any] = []
            body = endless()

            async def receive() -> Any:
                return {"type": "http.request", "body": await anext(body), "more_body": True}

            async def send(message: Any) -> None:
                messages.append(message)

            headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
            scope = {"type": "http", "method": "POST", "path": "/moves/accept", "headers": headers, "query_string": b""}
            await server.app(scope, receive, send)
            assert messages[0]["status"] == 413
            assert given == 1_100

    drive(test)


def test_a_body_is_bounded_in_time_while_it_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then would hold a connection for ever; as fast as 16 KiB a second it may take what it takes."""
    monkeypatch.setattr(application, "WAIT_SECONDS", 0.05)

    async def test() -> None:
        async with Server() as server:
            for size, status in ((1, 408), (2_000, 202)):
                chunks, messages = 0, []

                async def receive(size: int = size) -> Any:
                    nonlocal chunks
                    chunks += 1
                    await asyncio.sleep(0.02)
                    return {"type": "http.request", "body": b" " * size, "more_body": chunks < 8}

                async def send(message: Any, messages: list[Any] = messages) -> None:
                    messages.append(message)

                headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
                path = "/runs/a/signals/go"
                scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
                await server.app(scope, receive, send)
                assert messages[0]["status"] == status
                assert ((b"connection", b"close") in messages[0]["headers"]) == (status == 408)

    drive(test)


def test_a_client_that_goes_away_while_it_sends_changes_nothing() -> None:
    """A body that does not end is no request."""

    async def test() -> None:
        async with Server() as server:
            messages = iter([{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}])

            async def receive() -> Any:
                return next(messages)

            async def send(message: Any) -> None:
                raise AssertionError(message)

            headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
            path = "/runs/a/signals/go"
            scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
            await server.app(scope, receive, send)
            assert (await server.runtime.get_execution("a")).status == "suspended"

    drive(test)


def test_errors_are_one_of_the_nine_codes_in_the_form_that_was_asked_for() -> None:
    """JSON, or msgpack for who accepts it; the status fits the code, and nothing of the inside is told."""

    async def test() -> None:
        async with Server() as server:
            cases = [
                ("GET", "/runs/none", 404, "ERR_NOT_FOUND"), ("GET", "/else", 404, "ERR_NOT_FOUND"),
                ("GET", "/moves/a/else", 404, "ERR_NOT_FOUND"), ("POST", "/moves/accept", 400, "ERR_INVALID_INPUT"),
                ("POST", "/moves/a/freeze", 400, "ERR_INVALID_INPUT"), ("GET", "/runs/a/events?after=x", 400,
                "ERR_INVALID_INPUT"), ("POST", "/runs", 400, "ERR_INVALID_INPUT"), ("PUT", "/runs/a", 405,
                "ERR_INVALID_INPUT"), ("GET", "/runs/a/queries/none", 404, "ERR_NOT_FOUND"),
                ("GET", "/moves/a/digests", 400, "ERR_INVALID_INPUT"),
            ]  # fmt: skip
            for method, path, status, code in cases:
                response = await server.ask(method, path)
                assert (response.status_code, response.json()["error"]["code"]) == (status, code), path
                packed = await server.ask(method, path, headers={"accept": "application/msgpack"})
                if "/moves" in path:
                    assert Codec().decode(packed.content)["error"]["code"] == code
            theirs = await server.ask("GET", "/runs/a/queries/bad")  # the workflow's own error, as an update's is
            assert (theirs.status_code, theirs.json()["error"]) == (422, {"code": None, "message": "division by zero"})
            assert "Traceback" not in theirs.text
            assert (await server.ask("POST", "/runs/a/signals/go", content=b"\xff\xfe")).status_code == 400

            async def broken(*_: Any) -> Any:
                raise RuntimeError("a secret of the inside")

            server.runtime.get_execution = broken  # type: ignore[method-assign]  # a defect, as any could be
            wrong = await server.ask("GET", "/runs/a")
            assert wrong.status_code == 500
            assert "inside the server" in wrong.json()["error"]["message"]
            assert "secret" not in wrong.text

    drive(test)


def test_pages_of_named_origins_may_ask_and_no_others() -> None:
    """A preflight is answered without a token, since a browser sends none with it."""

    async def test() -> None:
        async with Server(origins=[ORIGIN]) as server:
            asks = {"origin": ORIGIN, "access-control-request-method": "POST"}
            answer = await server.client.options("/moves/accept", headers=asks)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, ORIGIN)
            assert "authorization" in answer.headers["access-control-allow-headers"]
            for other in ("https://evil.example", "null", ORIGIN + ".evil.example"):
                answer = await server.client.options("/moves/accept", headers=asks | {"origin": other})
                assert "access-control-allow-origin" not in answer.headers
                assert "access-control-allow-methods" not in answer.headers
            for path, status in (("/runs/a", 200), ("/runs/none", 404)):
                answer = await server.ask("GET", path, headers={"origin": ORIGIN})
                assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
                assert answer.headers["vary"] == "origin"
            refused = await server.client.get("/runs/a", headers={"origin": ORIGIN})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
        async with Server() as server:
            assert "access-control-allow-origin" not in (await server.client.options("/runs", headers=asks)).headers

    drive(test)


def test_without_access_no_run_is_moved() -> None:
    """Who puts the verbs behind a check of his own opens the moves by name."""

    async def test() -> None:
        async with Server() as server:
            for open_moves, status in ((False, 403), (True, 200)):
                api = HttpApi(server.runtime, open_moves=open_moves)
                head = Head("GET", "/moves", {})
                assert api.refuse(head) is None
                from alkaline_hosts._http.messages import Request

                assert (await api.handle(Request(*head))).status == status

    drive(test)


def test_a_remote_raises_what_the_other_side_raised() -> None:
    """By its code and with its detail; what is no answer of ours is ERR_STORE."""

    async def test() -> None:
        async with Server() as server:
            remote = Remote("http://localhost", token=TOKEN, fetch=server.fetch)
            with pytest.raises(NotFound, match="no run 'none'") as missing:
                await remote.status("none")
            assert missing.value.detail["http"] == 404
            with pytest.raises(NotFound):
                await remote.export("none")
            with pytest.raises(InvalidInput, match="not one that this server accepts"):
                await Remote("http://localhost", token="wrong-token-altogether", fetch=server.fetch).place("a")
            with pytest.raises(ConflictError, match="exists"):
                await remote.start("flow", 1, id="a")
            assert (await remote.status("a"))["status"] == "suspended"
            await remote.signal("a", "go", {"yes": True}, dedupe="x")
            assert await server.runtime.result("a", None) == {"yes": True}

            async def page(*_: Any) -> tuple[int, bytes]:
                return 502, b"<html>"

            async def text(*_: Any) -> tuple[int, bytes]:
                return 200, b"<html>"

            for fetch in (page, text):
                other = Remote("http://localhost", token=TOKEN, fetch=fetch)
                with pytest.raises((StoreError, InvalidInput)):
                    await other.place("a")
                with pytest.raises(StoreError, match="is it an alkaline_edge host"):
                    await other.status("a")

    drive(test)


@pytest.mark.parametrize(
    "url",
    ["edge.example", "ftp://edge.example", "http://edge.example", "https://user:secret@edge.example", "https://e?x"],
)
def test_a_url_that_would_leak_a_secret_is_refused(url: str) -> None:
    """No TLS, a secret inside of the URL, or no URL at all."""
    with pytest.raises(InvalidInput):
        Remote(url, token=TOKEN)


def test_names_of_runs_travel_whole() -> None:
    """Characters that mean something in a URL, a run that is called like a route, and dots, which clients take away."""

    async def test() -> None:
        async with Server(keys={"k": SECRET}) as server:
            remote = Remote("http://localhost/base", key=("k", SECRET), fetch=server.fetch)
            for id in ("a:b@c~d+e=f", "runs", "moves", "store", ".", ".."):
                await remote.start("flow", 1, id=id)
                place = await remote.place(id)
                assert place is not None
                assert place.id == id
                assert (await remote.status(id))["id"] == id
            for name in (".", "..", "!.", "!!..", "/..", "!", "!a"):
                await remote.signal(".", name)
                with pytest.raises(NotFound, match=re.escape(repr(name))):
                    await remote.query("..", name)
            await server.runtime.settle(".")
            found = [each["name"] for each in await remote.events(".") if each["kind"] == "SignalReceived"]
            assert sorted(found) == sorted((".", "..", "!.", "!!..", "/..", "!", "!a"))

    drive(test)


def test_the_app_serves_runs_while_it_is_up() -> None:
    """Lifespan: timers wake, and the end waits for it."""
    import asyncio

    async def test() -> None:
        async with Server() as server:
            messages: asyncio.Queue[Any] = asyncio.Queue()
            sent: list[str] = []

            async def send(message: Any) -> None:
                sent.append(message["type"])

            await messages.put({"type": "lifespan.startup"})
            life = asyncio.ensure_future(server.app({"type": "lifespan"}, messages.get, send))
            await server.ask("POST", "/runs/a/signals/go", content=json.dumps(7).encode())
            assert await server.runtime.result("a", 5) == 7
            await messages.put({"type": "lifespan.shutdown"})
            await life
            assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    drive(test)


def test_a_body_that_says_it_is_too_large_is_refused_before_any_of_it_is_read() -> None:
    """Its sender is told at once, and not after the first megabyte of it."""

    async def test() -> None:
        async with Server(max_body=1_000) as server:
            messages: list[Any] = []

            async def receive() -> Any:
                raise AssertionError("nothing of it is read")

            async def send(message: Any) -> None:
                messages.append(message)

            headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-length", b"1001")]
            scope = {"type": "http", "method": "POST", "path": "/moves/accept", "headers": headers, "query_string": b""}
            await server.app(scope, receive, send)
            assert messages[0]["status"] == 413

    drive(test)


def test_a_token_that_begins_like_the_right_one_in_every_form_is_refused() -> None:
    """One in 256 wrong tokens has a digest whose first byte is right: that is no more of a token than the others."""

    async def test() -> None:
        first = hashlib.sha256(TOKEN.encode()).digest()[:1]
        wrong = next(
            each
            for n in range(10_000)
            if hashlib.sha256((each := f"a-wrong-token-{n:05}").encode()).digest()[:1] == first
        )
        async with Server(token=[TOKEN, "another-token-of-this-server"]) as server:
            answer = await server.ask("GET", "/runs", headers={"authorization": f"Bearer {wrong}"})
            assert answer.status_code == 401

    drive(test)
