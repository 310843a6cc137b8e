"""Which pages of a browser reach a server that asks for no secret: none of another site, whatever they send."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from alkaline_edge import InvalidInput, Runtime
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Head
from alkaline_hosts.asgi import asgi_app
from tests.http.test_requests import TOKEN, App
from tests.support import drive

MINE = "https://mine.example"
OPEN: dict[str, Any] = {"token": (), "open_to_all": True, "origins": [MINE]}
REQUESTS = [
    ("POST", b"/runs", b'{"workflow": "flow", "id": "evil"}'),
    ("POST", b"/moves/a/bundle", b""),
    ("POST", b"/runs/a/cancel", b""),
    ("POST", b"/runs/a/signals/go", b"1"),
    ("GET", b"/runs", b""),
    ("HEAD", b"/runs/a", b""),
    ("GET", b"/moves", b""),
    ("POST", b"/moves/accept", b""),
    ("GET", b"/runs/a/queries/value", b""),
]
FOREIGN = [
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "content-type": "text/plain"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "file://"},
    {"origin": "https://mine.example.evil.example"},
    {"origin": "http://mine.example"},
    {"origin": "https://mine.example:8443"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "http://localhost:8000"},
    {"origin": "http://["},
    {"origin": "null", "host": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
]
REBOUND = [
    {"host": "evil.example"},
    {"host": "evil.example:8000"},
    {"host": "evil.example.:8000"},
    {"host": "127.0.0.1.nip.example"},
    {"host": "EVIL.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    {"host": "localhost.evil.example"},
    {"host": "evil.example:8000", "origin": MINE},
]
OURS = [
    {},
    {"host": "127.0.0.1:8000"},
    {"host": "[::1]:8000"},
    {"host": "localhost:8000"},
    {"host": "agents.localhost"},
    {"host": "agents"},
    {"host": "10.0.0.7:8000"},
    {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    {"host": "localhost:8000", "origin": MINE, "sec-fetch-site": "cross-site"},
    {"host": "localhost:8000", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
]


@pytest.mark.parametrize("headers", [*FOREIGN, *REBOUND], ids=str)
def test_a_page_of_another_site_is_refused_with_nothing_done(headers: dict[str, str]) -> None:
    """Also what needs no preflight, what has no Origin, and what asks by a name that was made to point here."""

    async def test() -> None:
        async with App(**OPEN) as app:
            for method, target, body in REQUESTS:
                status, answer, _ = await app.ask(method, target, body, {"host": "127.0.0.1:8000"} | headers)
                assert status == 403, (method, target)
                if headers.get("origin") != MINE:
                    assert "access-control-allow-origin" not in answer
            assert [run.id for run in await app.runtime.list_executions()] == ["a"]
            record = await app.runtime.get_execution("a")
            assert (record.status, record.moved_to) == ("suspended", None)
            assert await app.runtime.store.keys_under("i/") == []
            assert await app.runtime.store.keys_under("m/") == []

    drive(test)


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_programs_and_pages_of_ours_are_let_in(headers: dict[str, str]) -> None:
    """By an address, a name that nobody can point here, the same origin, or one that was named."""

    async def test() -> None:
        async with App(**OPEN) as app:
            assert (await app.ask("GET", b"/runs/a", headers=headers))[0] == 200
            assert (await app.ask("POST", b"/runs/a/signals/x", b"1", headers))[0] == 202

    drive(test)


def test_a_name_is_let_in_where_it_was_named() -> None:
    """Such as that of a proxy with a check of its own."""

    async def test() -> None:
        async with App(**OPEN, hosts=["Agents.example"]) as app:
            for host, status in (("agents.example", 200), ("agents.example:443", 200), ("x.agents.example", 403)):
                assert (await app.ask("GET", b"/runs", headers={"host": host}))[0] == status

    drive(test)


def test_where_a_secret_is_asked_for_a_page_has_none() -> None:
    """Nothing is looked at but the secret: a proxy may change the Host, and a page may be ours."""

    async def test() -> None:
        async with App() as app:
            for headers in itertools.chain(FOREIGN, REBOUND):
                assert (await app.ask("GET", b"/runs/a", headers=headers))[0] == 200
                assert (await app.ask("GET", b"/runs/a", headers=headers | {"authorization": "x"}))[0] == 401

    drive(test)


def test_a_worker_that_lets_everybody_in_refuses_pages_of_others_too() -> None:
    """By its own name, which it does not know, unless it is told: then only by that."""
    runtime = Runtime(SimulatedHost())
    for hosts, host, origin, status in (
        (None, "me.workers.example", None, 0),
        (None, "me.workers.example", "https://me.workers.example", 0),
        (None, "me.workers.example", "https://evil.example", 403),
        (None, "me.workers.example", MINE, 0),
        (["localhost"], "localhost:8787", None, 0),
        (["localhost"], "evil.example:8787", None, 403),
    ):
        api = HttpApi(runtime, None, [MINE], hosts=hosts)
        head = Head("POST", "/runs", {"host": host} | ({} if origin is None else {"origin": origin}))
        answer = api.refuse(head)
        assert (0 if answer is None else answer.status) == status, (hosts, host, origin)


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "app.example", "https://app.example/", "https://a.b/c", "http://[", ""]
)
def test_origins_and_hosts_are_written_as_browsers_send_them(origin: str) -> None:
    """A pattern, a path or a name without a scheme would never match: refused where it is given."""
    with pytest.raises(InvalidInput, match="an origin is written"):
        asgi_app(Runtime(SimulatedHost()), token=TOKEN, origins=[origin])
    for host in ("*", "http://agents.example", "agents.example:80", ""):
        with pytest.raises(InvalidInput, match="a host is written"):
            asgi_app(Runtime(SimulatedHost()), token=TOKEN, hosts=[host])
