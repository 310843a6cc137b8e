"""One table of verbs: what each takes agrees at every door, and no door has forgotten one."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from alkaline_edge import Context, InvalidInput, NotFound, Runtime, workflow
from alkaline_edge.board import Board
from alkaline_edge.runtime.syncing import Peer
from alkaline_edge.testing import SimulatedHost
from alkaline_edge.triggers import Every, Triggers
from alkaline_hosts._http.api import HttpApi
from alkaline_hosts._http.messages import Head, Request
from alkaline_hosts._http.moves import MovesApi
from alkaline_hosts._http.routes import ALL, START, VERBS, Verb, route, verb_of
from alkaline_hosts._http.runs import RunsApi
from alkaline_hosts._http.verbs import MoveVerbs, RunVerbs
from alkaline_hosts.remote import Remote
from alkaline_hosts.worker import DurableRuns
from tests.support import drive

DOCS = Path(__file__).parents[2] / "docs" / "http.md"


def verbs_of(kind: type[Any]) -> set[str]:
    return {name for name, each in vars(kind).items() if inspect.isfunction(each) and not name.startswith("_")}


def parameters(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(method).parameters.items() if name != "self"}


def signature(method: Callable[..., Any]) -> str:
    return str(inspect.signature(method))


@pytest.mark.parametrize(("promised", "done"), [(RunVerbs, RunsApi), (MoveVerbs, MovesApi)])
def test_each_verb_has_an_entry_and_a_behaviour(promised: type[Any], done: type[Any]) -> None:
    """A method of the verbs, a row of the table, a method that does it, with the same parameters; and none too many."""
    area = ("/runs", "/health", "/schedules", "/boards") if promised is RunVerbs else "/moves"
    assert verbs_of(promised) == {verb.name for verb in VERBS if verb.path.startswith(area)} == verbs_of(done)
    for name in verbs_of(promised):
        assert signature(getattr(done, name)) == signature(getattr(promised, name)), name


@pytest.mark.parametrize("door", [Remote, DurableRuns])
def test_no_door_has_parameters_of_its_own(door: type[Any]) -> None:
    """A Remote and a Durable Object inherit the verbs as they are; ``start`` once took 6, 5, 4 and 3 parameters."""
    kinds = [RunVerbs, MoveVerbs] if door is Remote else [RunVerbs]
    for kind in kinds:
        for name in verbs_of(kind):
            assert getattr(door, name) is getattr(kind, name), name


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"{verb.method} {verb.path}")
def test_an_entry_names_every_parameter_once(verb: Verb) -> None:
    """In the path, the query, the body or the route; and what the query must have is what has no default."""
    wanted = parameters(getattr(RunVerbs, verb.name, None) or getattr(MoveVerbs, verb.name))
    in_path = re.findall(r"{(\w+)}", verb.path)
    elsewhere = [*in_path, *verb.query, *verb.fixed]
    body = list(START) if verb.body == ALL else [verb.body] if verb.body else []
    assert sorted([*elsewhere, *body]) == sorted(wanted)
    for name, each in verb.query.items():
        needed = (
            wanted[name].default is inspect.Parameter.empty and wanted[name].kind is not wanted[name].VAR_POSITIONAL
        )
        assert each.needed == needed, name
    if verb.method in ("GET", "DELETE"):
        assert verb.body == ""


def test_the_runtime_and_a_peer_take_the_same() -> None:
    """What a run is started with is what ``Runtime.start`` takes, and a Remote has what a move wants of a side."""
    assert set(parameters(Runtime.start)) == set(START)
    for name in ("signal", "query", "update", "cancel", "pause", "delete", "fork"):
        assert list(parameters(getattr(Runtime, name))) == list(parameters(getattr(RunVerbs, name))), name
    for name in verbs_of(Peer) - {"refuses"}:
        assert list(parameters(getattr(Peer, name))) == list(parameters(getattr(MoveVerbs, name))), name


def test_the_page_for_users_has_every_route() -> None:
    """Each verb over runs is a row of docs/http.md, with its method and every name of its query."""
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    for verb in VERBS:
        if not verb.path.startswith(("/moves", "/health")):
            path = re.sub(r"{(\w+)}", lambda found: found[1].upper(), verb.path)
            row = next((line for line in rows if f"`{verb.method} {path}`" in line), None)
            assert row is not None, path
            assert all(re.search(rf"\b{each.wire}\b", row) for each in verb.query.values()), path


TEXTS = st.text(min_size=1).filter(lambda text: text not in (".", ".."))
SCALARS = st.one_of(
    st.text(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "settle": st.booleans(),
    "dry_run": st.booleans(),
    "older_than": st.integers(0, 10**15 - 1),
    "limit": st.integers(0, 10**15 - 1),
    "generation": st.integers(0, 10**15 - 1),
    "at": st.integers(0, 10**15 - 1),
    "attributes": st.dictionaries(st.text().filter(lambda name: "=" not in name), SCALARS, max_size=4),
    "args": st.lists(st.recursive(SCALARS, lambda each: st.lists(each, max_size=3)), max_size=3),
}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"{verb.method} {verb.path}")
@settings(max_examples=25, deadline=None)
@drawn(data=st.data())
def test_what_is_asked_for_is_what_arrives(verb: Verb, data: st.DataObject) -> None:
    """Any text in a path or a query, any number, flag, attribute and argument: the other side reads what was given."""
    given: dict[str, Any] = {name: data.draw(TEXTS) for name in re.findall(r"{(\w+)}", verb.path)}
    for name in verb.query:
        strategy = VALUES["limit"] if name == "after" and verb.name == "events" else VALUES.get(name, st.text())
        given[name] = data.draw(strategy)
    given |= verb.fixed
    if verb.path == "/moves/{id}" and given["id"] in ("accept", "take-over", "import"):
        return
    assert verb_of(verb.name, given) is verb
    path, query = verb.target(given)
    head = Head(verb.method, path + (f"?{urlencode(query)}" if query else ""), {})
    found, arrived = route(head)
    assert found is verb
    arrived |= verb.asked(head)
    nothing = {name: value for name, value in given.items() if value is False or value in ([], {})}
    assert {**nothing, **arrived} == given


@workflow
async def asked(ctx: Context) -> Any:
    ctx.on_query("sum", lambda *numbers: sum(numbers))
    return await ctx.wait_for_signal("go")


def linked(api: HttpApi) -> Remote:
    """A Remote that asks ``api``, without a network."""

    async def fetch(method: str, url: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(url)
        answer = await api.handle(
            Request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers, body)
        )
        return answer.status, answer.body

    return Remote("http://localhost", token="a-token-for-these-tests", fetch=fetch)


def test_arguments_of_a_query_and_the_end_of_a_run_go_over_http() -> None:
    """``query(id, name, *args)`` and ``delete`` do there what they do in the process."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[asked]) as runtime:
            remote = linked(HttpApi(runtime))
            await remote.start("asked", id="a", settle=True)
            assert await remote.query("a", "sum", 1, 2, 39) == await runtime.query("a", "sum", 1, 2, 39) == 42
            assert await remote.query("a", "sum") == 0
            with pytest.raises(Exception, match="cancel") as refused:
                await remote.delete("a")
            assert getattr(refused.value, "code", None) == "ERR_CONFLICT"
            await remote.cancel("a", "enough")
            await runtime.settle("a")
            await remote.delete("a")
            with pytest.raises(NotFound):
                await remote.status("a")

    drive(test)


@workflow
async def costly(ctx: Context) -> Any:
    return await ctx.step("call", lambda: "called", cost=9)


def test_a_run_is_topped_up_over_http() -> None:
    """With a budget that says so, from where it was started; once for each key."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[costly]) as runtime:
            remote = linked(HttpApi(runtime))
            budget = {"tokens": 5.0, "on_exceeded": "pause", "warn": 0.5, "seconds": 1_000}
            shown = await remote.start("costly", id="a", settle=True, budget=budget)
            assert shown["status"] == "suspended"
            for amounts in ({}, {"euros": 5}, [5], {"tokens": -1}):
                with pytest.raises(InvalidInput):
                    await remote.top_up("a", amounts)  # type: ignore[arg-type]
            for _ in range(2):
                await remote.top_up("a", {"tokens": 3}, "one")
            await runtime.settle("a")
            assert (await remote.status("a"))["status"] == "suspended"
            await remote.top_up("a", {"tokens": 1})
            await runtime.settle("a")
            assert (await remote.status("a"))["result"] == "called"

    drive(test)


def test_runs_that_ended_are_purged_over_http() -> None:
    """In pages, and with a dry run first; without an age nothing is deleted."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[asked]) as runtime:
            api = HttpApi(runtime)
            remote = linked(api)
            for id in ("a", "b", "c"):
                await remote.start("asked", id=id, settle=True)
                if id != "b":
                    await runtime.signal(id, "go")
                    await runtime.settle(id)
            assert (await api.handle(Request("DELETE", "/runs", {}))).status == 400
            assert await remote.purge(0, dry_run=True) == {"runs": ["a", "c"], "kept": {}, "after": None}
            first = await remote.purge(0, "completed", "asked", limit=1)
            assert first["runs"] == ["a"]
            assert (await remote.purge(0, "completed", "asked", after=first["after"]))["runs"] == ["c"]
            assert [run["id"] for run in (await remote.runs())["runs"]] == ["b"]

    drive(test)


def test_schedules_and_boards_are_read_over_http() -> None:
    """Page by page, by who drives none of them; the token of a claim, by which others could act, is not among it."""

    async def test() -> None:
        host = SimulatedHost()
        async with Runtime(host, workflows=[asked]) as maker, Runtime(host) as looker:
            remote = linked(HttpApi(looker))
            assert await remote.schedules() == {"schedules": [], "after": None}
            assert await remote.boards() == {"boards": [], "after": None}
            assert await remote.tasks("nothing") == {"tasks": [], "after": None}
            for n in range(3):
                await Triggers(maker).create(f"s{n}", asked, Every(60), {"n": n})
                await Board(maker, f"b{n}-x").create("look", id="t")
            await Board(maker, "b0").create("look", id="t", priority=3)
            claim = await Board(maker, "b0").claim("somebody")
            assert claim is not None
            found = [each async for each in pages(remote.schedules, "schedules")]
            assert [(each["id"], each["workflow"], each["input"]) for each in found] == [
                (f"s{n}", "asked", {"n": n}) for n in range(3)
            ]
            due = (await Triggers(maker).get("s0")).due
            assert found[0]["due"] == due
            boards = [each async for each in pages(remote.boards, "boards")]
            assert sorted(each["name"] for each in boards) == ["b0", "b0-x", "b1-x", "b2-x"]
            assert {each["name"]: each["counts"] for each in boards}["b0"] == {"running": 1}
            (task,) = (await remote.tasks("b0", "running"))["tasks"]
            assert (task["id"], task["priority"], task["claim"]["worker"]) == ("t", 3, "somebody")
            assert claim.token not in str(await remote.tasks("b0"))
            for refused in (remote.tasks("a:b"), remote.tasks("b0", "no state"), remote.schedules(limit=0)):
                with pytest.raises(InvalidInput):
                    await refused
            assert looker._waker.chores is None, "it drives nothing"

    drive(test)


async def pages(verb: Callable[..., Any], name: str) -> AsyncIterator[Any]:
    """All of them, two at a time."""
    after: str | None = ""
    while after is not None:
        page = await verb(after, 2)
        assert len(page[name]) <= 2
        for each in page[name]:
            yield each
        after = page["after"]


@workflow
async def doubling(ctx: Context, n: int) -> Any:
    first = await ctx.step("double", lambda k: 2 * k, n)
    return [first, await ctx.step("double", lambda k: 2 * k, first)]


def test_a_fork_and_a_bundle_go_over_http() -> None:
    """The fork is another run, paused, with what was edited; the bundle is what the runtime exports."""

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[doubling]) as runtime:
            remote = linked(HttpApi(runtime))
            await remote.start("doubling", 1, "a", settle=True)
            forked = await remote.fork("a", 2, {"1": 50})
            assert (forked["status"], forked["id"]) == ("paused", forked["id"])
            assert forked["id"] != "a"
            await remote.resume(forked["id"])
            await runtime.settle(forked["id"])
            assert (await remote.status(forked["id"]))["result"] == [50, 100]
            assert (await remote.fork("a", 1))["cursor_length"] == 1
            with pytest.raises(InvalidInput, match=r"at 1 to \d+, not 99"):
                await remote.fork("a", 99)
            with pytest.raises(InvalidInput, match="edit"):
                await remote.fork("a", 1, [1])  # type: ignore[arg-type]
            bundle = await remote.bundle("a")
            assert bundle == await runtime.export("a")
        async with Runtime(SimulatedHost(), workflows=[doubling]) as elsewhere:
            await elsewhere.import_(bundle)
            assert (await elsewhere.get_execution("a")).result == [2, 4]

    drive(test)


def test_what_the_query_lacks_is_named() -> None:
    """A needed name is asked for, under the status of a caller's mistake."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            api = HttpApi(runtime, open_moves=True)
            for target in ("/moves/a/digests", "/moves/a/confirm", "/moves/a/freeze?name=x"):
                answer = await api.handle(Request("GET" if "digests" in target else "POST", target, {}))
                assert answer.status == 400, target
                assert b"wants" in answer.body

    drive(test)


@pytest.mark.parametrize("id", ["", 7])
def test_what_is_no_part_of_a_path_asks_for_nothing_else(id: Any) -> None:
    """The empty id would be the list of all runs: refused before it is sent."""

    async def test() -> None:
        async with Runtime(SimulatedHost()) as runtime:
            remote = linked(HttpApi(runtime))
            for ask in (remote.status, remote.delete, remote.place):
                with pytest.raises(InvalidInput, match=r"no path leads there|is a text"):
                    await ask(id)

    drive(test)


def test_a_verb_that_does_nothing_says_so() -> None:
    """The verbs by themselves are a promise: whoever inherits them without doing them is told."""
    with pytest.raises(NotImplementedError):
        asyncio.run(RunVerbs().pause("a"))
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        next(each for each in VERBS if each.name == "runs").asked(Head("GET", "/runs?attribute=x", {}))
