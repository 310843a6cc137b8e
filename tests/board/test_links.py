"""Tasks that depend on tasks of other boards: released by the outcome, whole or not at all, and never in a circle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alkaline_edge import ConflictError, Context, CycleDetected, InvalidInput, NotFound, Runtime, workflow
from alkaline_edge.board import Board, Claim
from alkaline_edge.board.moment import MOST_CHECKED
from alkaline_edge.board.showing import graph
from alkaline_edge.host import Batch, Committed, Conflict
from alkaline_edge.testing import SimulatedCrash, SimulatedHost, SimulatedStore
from tests.support import drive


class Between(SimulatedHost):
    """Calls ``meanwhile`` once, between what the next commit has read and that commit."""

    meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def commit(self, batch: Batch) -> Committed | Conflict:
        """As SimulatedHost.commit."""
        then, self.meanwhile = self.meanwhile, None
        if then is not None:
            await then()
        return await super().commit(batch)


@workflow
async def given(ctx: Context, input: Any) -> Any:
    return input


def on_boards(test: Callable[..., Awaitable[Any]], *names: str) -> None:
    """Run a test with a host and a board of each name on it."""

    async def body() -> None:
        host = Between()
        async with Runtime(host, workflows=[given]) as runtime:
            await test(host, *(Board(runtime, name, by="tester") for name in names))

    drive(body)


async def claimed(board: Board) -> Claim:
    claim = await board.claim("w")
    assert claim is not None
    return claim


def test_a_task_waits_for_one_of_another_board_and_is_given_its_result() -> None:
    """Its own board's name before an id is that board's task, a run is given the results too, and both logs say it."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        await here.create("a", id="a")
        child = await here.create("c", id="c", parents=["there/a", "here/a", "a"])
        assert (child.state, child.parents) == ("todo", [["there/a", "done"], ["a", "done"]])
        await here.create("r", id="r", workflow=given, input={"n": 1}, parents=["there/a"])
        assert await there.children("a") == ["here/c", "here/r"]
        assert await there.children("a", after="here/c") == ["here/r"]
        assert (await here.get("there/a")).title == "a"
        await (await claimed(there)).complete("THERE")
        assert (await here.get("c")).state == "todo"
        await (await claimed(here)).complete("HERE")
        claim = await claimed(here)
        assert (claim.task.id, claim.parents) == ("c", {"there/a": "THERE", "a": "HERE"})
        assert (await here.held("c", claim.token)).parents == claim.parents
        assert await here.claim("w") is None  # which starts the run
        await here._runtime.run_due()
        host.advance(5)
        await here._runtime.run_due()
        assert (await here.get("r")).result == {"n": 1, "parents": {"there/a": "THERE"}}
        assert [(e.kind, e.detail) for e in await there.events() if e.kind == "link"] == [
            ("link", {"child": "here/c"}), ("link", {"child": "here/r"}),
        ]  # fmt: skip
        assert [(e.kind, e.task) for e in await here.events() if e.kind == "gate"] == [("gate", "r"), ("gate", "c")]

    on_boards(test, "here", "there")


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_parent_of_another_board_that_ended_badly_releases_nobody(how: str) -> None:
    """Unless the link asks for any end; once the parent is reopened and done, what it held up goes on."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        await here.create("c", id="c", parents=["there/a"])
        await here.create("tidy up", id="d", parents=["there/a"], gate="ended")
        if how == "fail":
            await (await claimed(there)).fail("no", retry=False)
        else:
            await there.cancel("a")
        child = await here.get("c")
        assert (child.state, child.block and child.block["reason"]) == (
            "blocked", "there/a ended failed" if how == "fail" else "there/a ended cancelled",
        )  # fmt: skip
        assert (await here.get("d")).state == "ready"
        assert (await here.unblock("c")).state == "blocked"
        assert (await here.create("late", id="l", parents=["there/a"])).state == "blocked"
        await there.reopen("a")
        assert [(await here.get(id)).state for id in "cdl"] == ["todo", "todo", "todo"]
        await (await claimed(there)).complete()
        assert [(await here.get(id)).state for id in "cdl"] == ["ready", "ready", "ready"]

    on_boards(test, "here", "there")


def test_a_circle_over_boards_is_refused_with_the_chain() -> None:
    """As the board that is asked names the tasks, at any length, and nothing is written on any of them."""

    async def test(host: Between, *boards: Board) -> None:
        a, b, c = boards
        await a.create("t", id="t")
        await b.create("t", id="t", parents=["a/t"])
        await c.create("t", id="t", parents=["b/t"])
        await b.create("u", id="u", parents=["t"])
        await c.create("u", id="u", parents=["b/u", "t"])
        before = [await board.events() for board in boards]
        for board, last, chain in (
            (a, "c/u", ["t", "b/t", "b/u", "c/u", "t"]),
            (a, "b/t", ["t", "b/t", "t"]),
            (b, "c/t", ["t", "c/t", "t"]),
            (c, "c/t", ["t", "t"]),
        ):
            with pytest.raises(CycleDetected) as caught:
                await board.link(last, "t")
            got = caught.value.detail["chain"]
            assert (got[0], got[-1], len(got)) == ("t", "t", len(chain) if last != "c/u" else len(got))
            if last != "c/u":
                assert got == chain
            else:
                assert got in (chain, ["t", "b/t", "c/t", "c/u", "t"])
        with pytest.raises(CycleDetected):
            claim = await claimed(a)
            await claim.block("dependency", on=("c/u",))
        assert (await a.get("t")).state == "running"
        assert [await board.events() for board in boards[1:]] == before[1:]

    on_boards(test, "a", "b", "c")


def test_of_two_links_that_would_close_a_circle_together_one_is_refused() -> None:
    """Each looks before the other has written, on boards of their own."""

    async def test(host: Between, a: Board, b: Board) -> None:
        await a.create("t", id="t")
        await b.create("t", id="t")
        host.meanwhile = lambda: b.link("a/t", "t")
        with pytest.raises(CycleDetected):
            await a.link("b/t", "t")
        assert ((await a.get("t")).state, (await b.get("t")).state) == ("ready", "todo")

    on_boards(test, "a", "b")


@pytest.mark.parametrize("long", [1, MOST_CHECKED - 2, MOST_CHECKED + 2])
def test_a_circle_that_is_closed_through_other_boards_meanwhile_is_found(long: int) -> None:
    """Whether its tasks are checked one by one, or there are so many that the head is."""

    async def test(host: Between, a: Board, b: Board, c: Board, d: Board) -> None:
        await a.create("t", id="t")
        await d.create("t", id="t", parents=["a/t"])
        await b.create("t", id="0")
        for n in range(long):
            await b.create("t", id=str(n + 1), parents=[str(n)])
        await c.create("t", id="t", parents=[f"b/{long}"])
        host.meanwhile = lambda: b.link("d/t", "0")
        with pytest.raises(CycleDetected):
            await a.link("c/t", "t")

    on_boards(test, "a", "b", "c", "d")


@pytest.mark.parametrize("how", ["complete", "cancel"])
def test_a_parent_that_ends_while_it_is_linked_is_seen(how: str) -> None:
    """The link that was looked at before the end stands behind it."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        claim = await claimed(there)
        host.meanwhile = claim.complete if how == "complete" else lambda: there.cancel("a")
        made = await here.create("c", id="c", parents=["there/a"])
        assert made.state == (await here.get("c")).state == ("ready" if how == "complete" else "blocked")

    on_boards(test, "here", "there")


@pytest.mark.parametrize("how", ["complete", "cancel"])
def test_a_child_that_is_linked_while_its_parent_ends_is_told(how: str) -> None:
    """The end that was looked at before the link stands behind it."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        claim = await claimed(there)
        host.meanwhile = lambda: here.create("c", id="c", parents=["there/a"])
        await (claim.complete() if how == "complete" else there.cancel("a"))
        assert (await here.get("c")).state == ("ready" if how == "complete" else "blocked")

    on_boards(test, "here", "there")


def test_what_was_read_of_another_board_is_true_when_it_counts() -> None:
    """A task that another verb lets rest does not go by a parent's state of a moment ago."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        await here.create("d", id="d", parents=["there/a"], gate="ended")
        await here.block("d")
        await there.cancel("a")
        host.meanwhile = lambda: there.reopen("a")
        assert (await here.unblock("d")).state == "todo"

    on_boards(test, "here", "there")


def test_a_link_to_another_board_is_undone_and_its_parent_purged() -> None:
    """But not while the child of the other board is open."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("a", id="a")
        await there.create("b", id="b")
        await here.create("c", id="c", parents=["there/a", "there/b"])
        assert (await here.unlink("there/b", "c")).parents == [["there/a", "done"]]
        assert await there.children("b") == []
        with pytest.raises(InvalidInput, match="does not depend"):
            await here.unlink("there/b", "c")
        await there.cancel("a")
        await there.archive("a")
        with pytest.raises(ConflictError, match="here/c"):
            await there.purge("a")
        await here.cancel("c")
        await here.archive("c")
        await here.purge("c")
        assert await there.children("a") == []
        await there.purge("a")

    on_boards(test, "here", "there")


@pytest.mark.parametrize("ref", ["", "/", "there/", "/a", "there/a/b", "the:re/a", "there/a b", 7, None])
def test_what_names_no_task_of_any_board_is_refused(ref: Any) -> None:
    """Before anything is read; and what is not there is not found."""

    async def test(host: Between, here: Board) -> None:
        await here.create("c", id="c")
        claim = await claimed(here)
        for verb in (
            lambda: here.create("x", parents=[ref]), lambda: here.link(ref, "c"), lambda: here.unlink(ref, "c"),
            lambda: claim.block("dependency", on=(ref,)),
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                await verb()
        with pytest.raises(NotFound, match="board 'there'"):
            await here.create("x", parents=["there/a"])
        assert (await here.head()).counts == {"running": 1}

    on_boards(test, "here")


@pytest.mark.parametrize("kind", ["crash", "crash-after"])
@pytest.mark.parametrize("ends", ["complete", "fail"])
def test_a_crash_at_every_commit_of_a_parents_end_releases_all_or_nobody(kind: str, ends: str) -> None:
    """Children on three boards, more than are told at once: what was not told is told by the next process."""

    async def once(place: int) -> bool:
        store, names, commits = SimulatedStore(), ("a", "b", "c"), 0
        async with Runtime(SimulatedHost(store)) as runtime:
            boards = [Board(runtime, name) for name in names]
            await boards[0].create("root", id="root", priority=9, max_failures=1)
            for n in range(24):
                for board in boards:
                    await board.create("c", id=f"c{n}", parents=["a/root"])

        def fault(number: int, verb: str) -> str | None:
            nonlocal commits
            commits += verb == "commit"
            return kind if verb == "commit" and commits == place else None

        host = SimulatedHost(store, fault=fault)
        runtime = Runtime(host)
        root = Board(runtime, "a")
        try:
            claim = await claimed(root)
            await (claim.complete() if ends == "complete" else claim.fail("no"))
            await runtime.run_due()
        except SimulatedCrash:
            pass
        host.dead = True
        died = commits >= place
        try:
            await runtime.close()
        except SimulatedCrash:
            pass
        async with Runtime(SimulatedHost(store)) as runtime:
            boards = [Board(runtime, name) for name in names]
            store.clock.advance(1_000_000)
            for _ in range(3):
                await runtime.run_due()
            if (await boards[0].get("root")).state == "ready":
                assert [(await board.head()).counts["todo"] for board in boards] == [24, 24, 24]
                claim = await claimed(boards[0])
                await (claim.complete() if ends == "complete" else claim.fail("no"))
                await runtime.run_due()
            ended = (await boards[0].get("root")).state
            for board in boards:
                counts = (await board.head()).counts
                counts.pop(ended, None)
                assert counts == {"ready" if ended == "done" else "blocked": 24}
        return died

    async def test() -> None:
        place = 1
        while await once(place):
            place += 1
        assert place > 3

    drive(test)


def test_a_release_over_boards_costs_what_it_releases() -> None:
    """However many tasks stand on both boards."""

    async def test(host: Between, here: Board, there: Board) -> None:
        counts, made = list[dict[str, int]](), 0
        for size in (20, 200):
            while made < size:
                made += 1
                await here.create("t", id=f"t{made}", assignee=f"a{made % 7}")
                await there.create("t", id=f"t{made}", assignee=f"a{made % 7}")
            await there.create("root", id=f"root{size}")
            for n in range(5):
                await here.create("leaf", id=f"leaf{size}.{n}", parents=[f"there/root{size}"], assignee="leaf")
            before = dict(host.counts)
            await (await claimed(there)).complete()
            counts.append({verb: host.counts[verb] - before[verb] for verb in before})
        assert counts[0] == counts[1]
        assert counts[0]["commit"] == 2

    on_boards(test, "here", "there")


def test_the_graph_of_a_board_shows_the_parents_on_others() -> None:
    """As trees from them; one that was purged is left out."""

    async def test(host: Between, here: Board, there: Board) -> None:
        await there.create("build it", id="a", assignee="ops")
        await here.create("try it", id="c", parents=["there/a"])
        await here.create("tell of it", id="d", parents=["c", "there/a"])
        tasks = list(await here.list())
        others = {"there/a": await here.get("there/a")}
        assert graph(tasks, others).splitlines() == [
            "[ready] there/a (ops) build it", "  [todo] c try it", "    [todo] d tell of it", "  d (above)",
        ]  # fmt: skip
        assert graph(tasks).splitlines() == ["[todo] c try it", "  [todo] d tell of it"]

    on_boards(test, "here", "there")
