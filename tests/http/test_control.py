"""The control plane over several servers: what it shows, what it does, who may, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from alkaline_edge import Context, InvalidInput, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts._control.config import config_of
from alkaline_hosts.asgi import asgi_app
from alkaline_hosts.control import control_app
from tests.support import drive

CONFIG = """
[[server]]
name = "a"
url = "https://a.test"
token_env = "SERVER"

[[server]]
name = "b"
url = "https://b.test"
token_env = "SERVER"

[[server]]
name = "gone"
url = "https://gone.test"

[[access]]
name = "support"
role = "look"
token_env = "LOOK"

[[access]]
name = "on call"
role = "operate"
token_env = "OPERATE"
"""
SECRETS = {"SERVER": "server-token-0123456789", "LOOK": "look-token-0123456789", "OPERATE": "operate-token-0123"}
broken: set[str] = set()


def work(name: str) -> str:
    if name in broken:
        raise ConnectionError("down")
    return name


@workflow
async def waits(ctx: Context, name: str) -> Any:
    await ctx.step("work", work, name)
    return await ctx.wait_for_signal("go")


@workflow
async def other(ctx: Context, name: str) -> Any:
    return await ctx.step("work", work, name)


async def call(
    app: Any, method: str, path: str, token: str | None, body: bytes = b""
) -> tuple[int, Any, dict[str, str]]:
    """One request to an ASGI application."""
    target, _, query = path.partition("?")
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    sent: list[dict[str, Any]] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return given.pop(0) if given else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": target, "raw_path": target.encode(), "query_string": query.encode(),
        "headers": headers, "root_path": "", "scheme": "https", "http_version": "1.1",
    }  # fmt: skip
    await app(scope, receive, send)
    data = b"".join(each.get("body", b"") for each in sent[1:])
    head = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], data, head


class Plane:
    """A control plane over two servers that are there and one that is not."""

    def __init__(self, runtimes: dict[str, Runtime]) -> None:
        self.runtimes = runtimes
        self.apps = {name: asgi_app(each, token=SECRETS["SERVER"], serve=False) for name, each in runtimes.items()}
        self.app = control_app(CONFIG, SECRETS, fetch=self.fetch)
        self.asked: list[str] = []

    async def fetch(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(url)
        name = parts.netloc.partition(".")[0]
        if name not in self.apps:
            raise ConnectionRefusedError
        self.asked.append(f"{method} {parts.path}")
        token = headers["authorization"].removeprefix("Bearer ")
        target, query = parts.path, parts.query
        sent: list[Any] = []
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return given.pop(0) if given else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": target, "raw_path": target.encode(),
            "query_string": query.encode(), "root_path": "", "scheme": "https", "http_version": "1.1",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        }  # fmt: skip
        assert token == SECRETS["SERVER"]
        await self.apps[name](scope, receive, send)
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])

    async def ask(self, path: str, body: Any = None, token: str | None = SECRETS["OPERATE"], status: int = 200) -> Any:
        method, data = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        found, answer, _ = await call(self.app, method, path, token, data)
        assert found == status, answer
        return json.loads(answer)


@asynccontextmanager
async def planes() -> AsyncIterator[Plane]:
    broken.clear()
    async with AsyncExitStack() as stack:
        runtimes = {
            name: await stack.enter_async_context(Runtime(SimulatedHost(seed=n), workflows=[waits, other]))
            for n, name in enumerate("ab")
        }
        for name, runtime in runtimes.items():
            for n in range(2):
                await (await runtime.start("waits", f"{name}{n}", id=f"{name}{n}")).settle()
        broken.add("x")
        await (await runtimes["a"].start("other", "x", id="failed")).settle()
        yield Plane(runtimes)


async def statuses(plane: Plane) -> dict[str, str]:
    return {
        record.id: record.status for runtime in plane.runtimes.values() for record in await runtime.list_executions()
    }


def test_it_shows_all_servers_side_by_side_and_says_which_is_down() -> None:
    """One list, counts, who serves what, the first timer; and a server that is down hides none of the others."""

    async def test() -> None:
        async with planes() as plane:
            runs = await plane.ask("api/runs", token=SECRETS["LOOK"])
            assert {(run["server"], run["id"]) for run in runs["runs"]} == {
                ("a", "a0"), ("a", "a1"), ("b", "b0"), ("b", "b1"), ("a", "failed")
            }  # fmt: skip
            assert runs["counts"] == {"suspended": 4, "failed": 1}
            assert list(runs["down"]) == ["gone"]
            assert "not reached" in runs["down"]["gone"]
            only = await plane.ask("api/runs?status=suspended&server=b&limit=1")
            assert ([run["id"] for run in only["runs"]], only["total"]) == (["b0"], 2)
            await plane.runtimes["b"].start("waits", "later", id="later")
            health = await plane.ask("api/health", token=SECRETS["LOOK"])
            assert list(health["servers"]) == ["a", "b"]
            assert health["servers"]["a"]["workflows"] == ["waits version 1", "other version 1"]
            assert health["servers"]["a"]["serving"] is False
            held = health["servers"]["b"]["owners"]
            assert [each["runs"] for each in held.values()] in ([], [1])
            assert health["servers"]["a"]["store"] != health["servers"]["b"]["store"]

    drive(test)


def test_what_is_late_left_and_stuck_is_told() -> None:
    """A timer that nobody wakes, a run whose owner is gone, and code that disagrees with its history."""

    @workflow(name="waits")
    async def changed(ctx: Context, name: str) -> Any:
        return await ctx.step("another", work, name)

    @workflow
    async def sleeps(ctx: Context) -> None:
        await ctx.sleep(10)

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[waits, sleeps]) as first:
            await (await first.start("waits", "a", id="a")).settle()
            await (await first.start("sleeps", id="s")).settle()
        host = host.reopen()
        host.advance(60)
        async with Runtime(host, workflows=[changed]) as runtime:
            await runtime.signal("a", "go")
            await runtime.settle("a")
            plane = Plane({"a": runtime})
            health = (await plane.ask("api/health"))["servers"]["a"]
            assert health["late"] == 50_000
            assert "ERR_DETERMINISM" in str(health["stuck"]["a"])

    drive(test)


def test_many_runs_are_operated_at_once_after_a_dry_run() -> None:
    """A dry run does nothing; then each run has its outcome. A workflow is paused, and goes on, everywhere."""

    async def test() -> None:
        async with planes() as plane:
            before = await statuses(plane)
            tried = await plane.ask("api/bulk", {"verb": "pause", "workflow": "waits"})
            assert ([run["id"] for run in tried["runs"]], tried["dry_run"]) == (["a0", "a1", "b0", "b1"], True)
            assert await statuses(plane) == before
            done = await plane.ask("api/bulk", {"verb": "pause", "workflow": "waits", "dry_run": False})
            assert [run["outcome"] for run in done["runs"]] == ["done"] * 4
            for runtime in plane.runtimes.values():
                await asyncio.gather(*(runtime.settle(id) for id in runtime.active()))
            assert set((await statuses(plane)).values()) == {"paused", "failed"}
            done = await plane.ask(
                "api/bulk", {"verb": "resume", "status": "paused", "dry_run": False, "servers": ["b"]}
            )
            assert [run["id"] for run in done["runs"]] == ["b0", "b1"]
            cancel = {"verb": "cancel", "workflow": "waits", "dry_run": False, "reason": "over"}
            assert len((await plane.ask("api/bulk", cancel))["runs"]) == 4
            for name, runtime in plane.runtimes.items():
                for n in range(2):
                    await runtime.settle(f"{name}{n}")
            assert set((await statuses(plane)).values()) == {"cancelled", "failed"}
            again = await plane.ask("api/bulk", {"verb": "retry", "status": "failed", "dry_run": False})
            assert again["runs"][0]["outcome"] == "done"
            broken.clear()
            await plane.runtimes["a"].settle("failed")
            gone = {"verb": "purge", "status": "cancelled", "older_than": 0, "dry_run": False}
            assert len((await plane.ask("api/bulk", gone))["servers"]["a"]["runs"]) == 2
            assert list(await statuses(plane)) == ["failed"]

    drive(test)


def test_a_run_is_handed_from_one_server_to_another() -> None:
    """It goes on there, and once alone."""

    async def test() -> None:
        async with planes() as plane:
            found = await plane.ask("api/hand", {"run": "a0", "source": "a", "target": "b"})
            assert (found["server"], found["status"]) == ("b", "suspended")
            record = await plane.runtimes["a"].get_execution("a0")
            assert record.moved_to is not None
            await plane.runtimes["b"].signal("a0", "go", 1)
            assert await plane.runtimes["b"].result("a0", 5) == 1
            await plane.ask("api/hand", {"run": "a1", "source": "a", "target": "gone"}, status=502)
            await plane.ask("api/hand", {"run": "a1", "source": "a", "target": "nowhere"}, status=404)
            await plane.ask("api/hand", {"run": "a1", "source": "a", "target": "a"}, status=400)

    drive(test)


@pytest.mark.parametrize(
    ("path", "body", "token", "status"),
    [
        ("api/runs", None, None, 401),
        ("api/runs", None, "another-token-0123456", 401),
        ("api/bulk", {"verb": "cancel", "workflow": "waits", "dry_run": False}, SECRETS["LOOK"], 403),
        ("api/hand", {"run": "a0", "source": "a", "target": "b"}, SECRETS["LOOK"], 403),
        ("api/bulk", {"verb": "cancel", "dry_run": False}, SECRETS["OPERATE"], 400),
        ("api/bulk", {"verb": "delete", "workflow": "waits", "dry_run": False}, SECRETS["OPERATE"], 400),
        ("api/bulk", {"verb": "cancel", "workflow": "waits", "dry_run": 0}, SECRETS["OPERATE"], 400),
        ("api/bulk", {"verb": "cancel", "workflow": "waits", "dry_run": False, "all": 1}, SECRETS["OPERATE"], 400),
        ("api/bulk", {"verb": "purge", "dry_run": False}, SECRETS["OPERATE"], 400),
        ("api/bulk", {"verb": "cancel", "status": "done", "dry_run": False}, SECRETS["OPERATE"], 400),
        ("api/bulk", [], SECRETS["OPERATE"], 400),
        ("api/bulk", {"pad": "x" * 70_000}, SECRETS["OPERATE"], 413),
        ("api/runs?limit=x", None, SECRETS["LOOK"], 400),
        ("api/runs?server=nowhere", None, SECRETS["LOOK"], 404),
        ("api/nothing", None, SECRETS["LOOK"], 404),
    ],
)
def test_what_may_not_be_asked_is_refused_and_changes_nothing(
    path: str, body: Any, token: str | None, status: int
) -> None:
    """A token that is unknown, or without the role; and what is asked in another form than the page says."""

    async def test() -> None:
        async with planes() as plane:
            before = await statuses(plane)
            answer = await plane.ask(path, body, token, status)
            assert answer["error"]["message"]
            assert not [each for each in plane.asked if not each.startswith("GET")]
            assert await statuses(plane) == before

    drive(test)


def test_the_page_holds_no_data_and_loads_nothing_from_elsewhere() -> None:
    """It is given to anybody, by a policy that lets no script of another place run in it."""

    async def test() -> None:
        async with planes() as plane:
            for path, media in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
                status, data, head = await call(plane.app, "GET", f"/{path}", None)
                assert (status, head["content-type"].split(";")[0]) == (200, media)
                assert "default-src 'none'" in head["content-security-policy"]
                assert b"innerHTML" not in data
                assert b"http" not in data.replace(b"HTTP", b"")
            assert plane.asked == []

    drive(test)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[[access]]", "[[acess]]"), "acess"),
        (('role = "look"', 'role = "admin"'), "look or operate"),
        (('token_env = "LOOK"', 'token_env = "NONE"'), "NONE"),
        (('token_env = "LOOK"', 'token_env = "OPERATE"'), "one token"),
        (('name = "b"', 'name = "a"'), "one name"),
        (('url = "https://a.test"', 'url = "ftp://a.test"'), "http"),
        (('url = "https://a.test"', 'url = "http://a.test"'), "clear"),
        (('url = "https://a.test"', "url = 5"), "url"),
        (('url = "https://a.test"', 'url = "https://a.test"\ninsecure = 1'), "insecure"),
        (("[[server]]", "[server]"), "list"),
        (('name = "a"', "name = "), "TOML"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_said_by_its_place(change: tuple[str, str], says: str) -> None:
    """Before anything is served, and without a word of a secret."""
    once = change[0] == "[[server]]"
    text = CONFIG.replace(*change) if not once else "server = 5\n" + CONFIG.split("[[access]]")[0][:0]
    with pytest.raises(InvalidInput, match=says) as raised:
        control_app(text, SECRETS)
    assert not any(secret in str(raised.value) for secret in SECRETS.values())


def test_the_file_that_the_page_shows_is_right() -> None:
    """docs/control.md, "The control plane"."""
    page = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0]
    names = ("EU_TOKEN", "EDGE_TOKEN", "SUPPORT_TOKEN", "ON_CALL_TOKEN")
    found = config_of(text, {name: f"{name.lower()}-0123456789" for name in names})
    assert [each.name for each in found.servers] == ["europe", "edge"]
    assert [(each.name, each.role) for each in found.access] == [("support", "look"), ("on call", "operate")]


def test_the_command_says_whether_a_file_is_right(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alkaline control FILE --check`, for a deploy."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    path = tmp_path / "control.toml"
    path.write_text(CONFIG)
    assert "right" in CliRunner().invoke(alkaline, ["control", str(path), "--check"]).stdout
    path.write_text(CONFIG.replace("operate", "rule"))
    result = CliRunner().invoke(alkaline, ["control", str(path), "--check"])
    assert (result.exit_code, "look or operate" in result.stderr) == (2, True)
    assert CliRunner().invoke(alkaline, ["control", str(tmp_path / "none.toml")]).exit_code == 2
