"""The verbs of a board: what each does in which state, and what it costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from alkaline_edge import (
    AlkalineError,
    Budget,
    BudgetExceeded,
    ConflictError,
    Context,
    CycleDetected,
    InvalidInput,
    NotFound,
    Runtime,
    workflow,
)
from alkaline_edge.board import Board, Claim
from alkaline_edge.board.states import STATES, WAYS, starts
from alkaline_edge.host import Capabilities
from alkaline_edge.testing import SimulatedHost
from tests.support import drive


def on_board(test: Callable[[Board, SimulatedHost], Awaitable[Any]], *workflows: Any, auto: bool = False) -> None:
    """Run a test with a board of its own."""

    async def body() -> None:
        host = SimulatedHost()
        host.clock.auto = auto
        async with Runtime(host, workflows=workflows) as runtime:
            await test(Board(runtime, "b", by="tester"), host)

    drive(body)


async def claimed(board: Board, worker: str = "w", **given: Any) -> Claim:
    claim = await board.claim(worker, **given)
    assert claim is not None
    return claim


async def pass_time(board: Board, host: SimulatedHost, seconds: float) -> None:
    host.advance(seconds)
    await board._runtime.run_due()


def test_a_task_is_claimed_by_one_worker_and_done() -> None:
    """With its result, its attempt and its place in the log."""

    async def test(board: Board, host: SimulatedHost) -> None:
        made = await board.create("look it up", {"q": "durable"}, id="a")
        assert (made.state, made.created_by) == ("ready", "tester")
        claim = await claimed(board)
        assert (claim.task.id, claim.task.state, claim.task.epoch) == ("a", "running", 1)
        assert await board.claim("other") is None
        await claim.complete({"n": 1}, "found it")
        done = await board.get("a")
        assert (done.state, done.outcome, done.result, done.summary, done.claim) == (
            "done",
            "done",
            {"n": 1},
            "found it",
            None,
        )
        assert [(each["worker"], each["outcome"]) for each in done.attempts] == [("w", "completed")]
        assert [event.kind for event in await board.events()] == ["create", "claim", "complete"]
        assert (await board.head()).counts == {"done": 1}

    on_board(test)


def test_the_highest_priority_is_claimed_first_and_then_who_came_first() -> None:
    """Over several lanes: one's own tasks and those of nobody."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for id, priority, assignee in (
            ("a", 0, None),
            ("b", 5, "me"),
            ("c", 5, None),
            ("d", -499, "me"),
            ("e", 499, "other"),
        ):
            await board.create("t", id=id, priority=priority, assignee=assignee)
            host.advance(0.001)
        got = [(await claimed(board, assignees=(None, "me"))).task.id for _ in range(4)]
        assert got == ["b", "c", "a", "d"]
        assert await board.claim("w", assignees=(None, "me")) is None
        assert (await claimed(board, assignees=["other"])).task.id == "e"

    on_board(test)


def test_a_task_waits_until_its_parents_are_done_and_is_given_their_results() -> None:
    """Two parents: with the first it waits still."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        await board.create("b", id="b")
        child = await board.create("c", id="c", parents=["a", "b"])
        assert child.state == "todo"
        await (await claimed(board)).complete("A")
        assert (await board.get("c")).state == "todo"
        await (await claimed(board)).complete("B")
        assert (await board.get("c")).state == "ready"
        assert (await claimed(board)).parents == {"a": "A", "b": "B"}
        assert await board.children("a") == ["c"]

    on_board(test)


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_parent_that_ended_badly_releases_nobody(how: str) -> None:
    """Its child is held up and says why, unless it asked for any end; the parent is reopened, done, and it goes on."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        await board.create("c", id="c", parents=["a"])
        await board.create("cleanup", id="d", parents=["a"], gate="ended")
        if how == "fail":
            await (await claimed(board)).fail("no", retry=False)
        else:
            await board.cancel("a", "no need")
        child = await board.get("c")
        assert child.state == "blocked"
        assert child.block is not None
        assert child.block["kind"] == "parent"
        assert (await board.get("d")).state == "ready"
        assert (await board.unblock("c")).state == "blocked"
        await board.archive("a")
        assert (await board.get("c")).state == "blocked"
        await board.create("late", id="l", parents=["a"])
        assert (await board.get("l")).state == "blocked"

    async def again(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", priority=1)
        await board.create("c", id="c", parents=["a"])
        await board.cancel("a")
        assert (await board.get("c")).state == "blocked"
        await board.reopen("a")
        assert (await board.get("c")).state == "todo"
        await (await claimed(board)).complete()
        assert (await board.get("c")).state == "ready"

    on_board(test)
    on_board(again)


@pytest.mark.parametrize("children", [31, 32, 33, 64, 65, 100])
def test_all_that_depend_on_a_task_are_told_however_many_they_are(children: int) -> None:
    """Some with its end, and the rest page by page, by whatever drives the runtime."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        for n in range(children):
            await board.create("c", id=f"c{n}", parents=["a"])
        await (await claimed(board)).complete()
        await board._runtime.run_due()
        assert (await board.head()).counts == {"done": 1, "ready": children}
        assert (await board.get("a")).wake is None

    on_board(test)


def test_links_that_come_round_are_refused_with_the_chain() -> None:
    """At any length; and nothing is written."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("0", id="t0")
        for n in range(1, 6):
            await board.create(str(n), id=f"t{n}", parents=[f"t{n - 1}"])
        before = await board.events()
        for last, chain in (
            ("t5", ["t0", "t1", "t2", "t3", "t4", "t5", "t0"]),
            ("t1", ["t0", "t1", "t0"]),
            ("t0", ["t0", "t0"]),
        ):
            with pytest.raises(CycleDetected, match=r"waits for it|wait for") as caught:
                await board.link(last, "t0")
            assert caught.value.detail["chain"] == chain
        assert await board.events() == before
        await board.link("t0", "t5")
        await board.unlink("t4", "t5")
        with pytest.raises(InvalidInput, match="does not depend"):
            await board.unlink("t4", "t5")
        await board.link("t5", "t4")
        assert [parent for parent, _ in (await board.get("t4")).parents] == ["t3", "t5"]

    on_board(test)


def test_a_claim_runs_out_without_a_heartbeat_and_its_verbs_count_no_more() -> None:
    """The next one has the task; what the first says then is refused, and changes nothing."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", ttl=60)
        first = await claimed(board, "first")
        for _ in range(5):
            await pass_time(board, host, 50)
            await first.heartbeat()
        await pass_time(board, host, 61)
        assert (await board.get("a")).state == "ready"
        second = await claimed(board, "second")
        assert second.task.epoch == 2
        for verb in (
            first.complete(), first.fail("x"), first.block("needs_input"), first.request_review(), first.release(),
            first.heartbeat(), first.spend(1), first.comment("x"),
        ):  # fmt: skip
            with pytest.raises(ConflictError, match="another worker holds it"):
                await verb
        assert first.over
        await second.complete("mine")
        with pytest.raises(ConflictError, match="completed"):
            await second.complete("twice")
        task = await board.get("a")
        assert (task.result, task.comments) == ("mine", 0)
        assert [each["outcome"] for each in task.attempts] == ["expired", "completed"]

    on_board(test)


def test_a_claim_that_has_run_out_counts_no_more_before_anybody_has_noticed() -> None:
    """The clock decides, and not who looks first."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", ttl=60)
        claim = await claimed(board)
        host.advance(60)
        with pytest.raises(ConflictError, match="expired"):
            await claim.complete()
        with pytest.raises(ConflictError, match="run out"):
            await claim.heartbeat()

    on_board(test)


@pytest.mark.parametrize(("limit", "why"), [({"max_time": 100}, "timed_out"), ({"stall": 100}, "stalled")])
def test_a_worker_that_is_too_slow_or_stuck_loses_its_task(limit: dict[str, float], why: str) -> None:
    """Though its heartbeats come; one that goes on does not stall."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", ttl=60, **limit)
        claim = await claimed(board)
        await pass_time(board, host, 50)
        await claim.heartbeat(progress=True)
        await pass_time(board, host, 49)
        await claim.heartbeat()
        await pass_time(board, host, 30)
        if why == "stalled":
            await claim.heartbeat()
            assert (await board.get("a")).state == "running"
            await pass_time(board, host, 21)
        task = await board.get("a")
        assert (task.state, task.attempts[-1]["outcome"], task.failures) == ("ready", why, 1)

    on_board(test)


def test_failures_in_a_row_end_in_failed_and_a_success_begins_anew() -> None:
    """With a pause before each try that doubles."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", max_failures=3, backoff=10)
        await (await claimed(board)).fail("one")
        assert (await board.get("a")).state == "scheduled"
        await pass_time(board, host, 10)
        await (await claimed(board)).fail("two")
        await pass_time(board, host, 19)
        assert await board.claim("w") is None
        await pass_time(board, host, 1)
        await (await claimed(board)).fail("three")
        task = await board.get("a")
        assert (task.state, task.outcome, task.failure) == (
            "failed",
            "failed",
            {"type": "TaskFailed", "message": "three"},
        )
        reopened = await board.reopen("a")
        assert (reopened.state, reopened.failures) == ("ready", 0)
        await (await claimed(board)).fail("later", after=5)
        await pass_time(board, host, 5)
        await (await claimed(board)).complete()
        assert (await board.get("a")).failures == 0

    on_board(test)


def test_a_task_is_blocked_for_a_reason_and_goes_on_by_an_answer() -> None:
    """The third time for one reason, somebody has to look at it."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        for _ in range(2):
            await (await claimed(board)).block("needs_input", "which one?")
            blocked = await board.get("a")
            assert (blocked.state, blocked.block and blocked.block["reason"]) == ("blocked", "which one?")
            assert (await board.unblock("a", "the red one")).state == "ready"
        await (await claimed(board)).block("needs_input", "which one?")
        assert (await board.get("a")).state == "triage"
        assert (await board.accept("a")).state == "ready"
        assert [comment.text for comment in await board.comments("a")] == ["the red one"] * 2
        await board.block("a", reason="stop")
        assert await board.claim("w") is None
        await board.unblock("a")
        claim = await claimed(board)
        with pytest.raises(ConflictError, match="running"):
            await board.block("a")
        await claim.block("transient", "the service is down", after=30)
        assert (await board.get("a")).state == "scheduled"
        await pass_time(board, host, 30)
        assert (await board.get("a")).state == "ready"

    on_board(test)


def test_a_worker_that_needs_another_task_first_waits_for_it() -> None:
    """And is held to the rules of links."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", priority=1)
        await board.create("b", id="b", parents=["a"])
        claim = await claimed(board)
        with pytest.raises(CycleDetected):
            await claim.block("dependency", "b first", on=("b",))
        with pytest.raises(InvalidInput, match="names the tasks"):
            await claim.block("dependency")
        await board.create("c", id="c")
        await claim.block("dependency", "c first", on=("c",))
        assert (await board.get("a")).state == "todo"
        await (await claimed(board)).complete()
        assert (await claimed(board)).task.id == "a"

    on_board(test)


def test_work_is_reviewed_by_another_worker_or_by_anybody() -> None:
    """Changes are asked for, made, and approved."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        await (await claimed(board, "writer")).request_review("done, I think", {"draft": 1}, reviewer="critic")
        assert await board.claim("x", review=True) is None
        review = await claimed(board, "critic", review=True, assignees=["critic"])
        assert review.reviewing
        assert (review.task.author, review.task.result) == ("writer", {"draft": 1})
        await review.request_changes("shorter")
        writer = await claimed(board, "writer")
        assert not writer.reviewing
        with pytest.raises(ConflictError, match="not to be reviewed"):
            await writer.request_changes("no")
        await writer.request_review("shorter now", {"draft": 2})
        review = await claimed(board, "critic", review=True, assignees=["critic"])
        await review.release("no time")
        assert (await board.get("a")).state == "review"
        assert (await board.request_changes("a", "even shorter")).state == "ready"
        await (await claimed(board, "writer")).request_review("", {"draft": 3})
        await (await claimed(board, "critic", review=True, assignees=["critic"])).complete(summary="good")
        done = await board.get("a")
        assert (done.state, done.result, done.summary) == ("done", {"draft": 3}, "good")
        await board.create("b", id="b")
        await (await claimed(board, "writer")).request_review()
        assert (await board.approve("b")).state == "done"

    on_board(test)


def test_limits_hold_in_all_and_for_each_assignee() -> None:
    """A place that comes free may be taken."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for n in range(6):
            await board.create("t", id=f"t{n}", assignee=("a", "b")[n % 2])
        await board.configure(most=3, each={"a": 1, "*": 5})
        assert (await claimed(board, assignees=["a"])).task.id == "t0"
        assert await board.claim("w", assignees=["a"]) is None
        held = [await claimed(board, assignees=["a", "b"]) for _ in range(2)]
        assert {claim.task.id for claim in held} == {"t1", "t3"}
        assert await board.claim("w", assignees=["b"]) is None
        host.advance(0.001)
        await held[0].release()
        assert (await claimed(board, assignees=["b"])).task.id == "t5"
        assert (await board.head()).running == {"a": 1, "b": 2}

    on_board(test)


def test_a_budget_of_a_task_and_of_the_board_is_never_overspent() -> None:
    """What does not fit is refused whole; a top-up lets the task go on."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.configure(budget=Budget(tokens=100))
        await board.create("a", id="a", budget=Budget(tokens=50, usd=1.0))
        claim = await claimed(board)
        await claim.spend(40, 0.5)
        for tokens, usd in ((11, None), (1, 0.6)):
            with pytest.raises(BudgetExceeded, match="task 'a'"):
                await claim.spend(tokens, usd)
        await claim.block_for_budget("more, please")
        assert await board.claim("w") is None
        assert (await board.top_up("a", 100)).state == "ready"
        claim = await claimed(board)
        with pytest.raises(BudgetExceeded, match="the board"):
            await claim.spend(61)
        await claim.spend(60)
        assert ((await board.get("a")).spent, (await board.head()).spent) == ([100, 500_000], [100, 500_000])
        await board.create("b", id="b")
        assert await board.claim("w") is None  # nothing is left for it

    on_board(test)


def test_a_key_makes_one_task_until_that_is_archived() -> None:
    """However often it is sent."""

    async def test(board: Board, host: SimulatedHost) -> None:
        first = await board.create("a", key="order 1")
        assert (await board.create("a again", key="order 1")).id == first.id
        assert len(await board.events()) == 1
        await board.cancel(first.id)
        assert (await board.create("a", key="order 1")).id == first.id
        await board.archive(first.id)
        assert (await board.create("a", key="order 1")).id != first.id

    on_board(test)


def test_a_task_begins_when_its_time_has_come() -> None:
    """Whatever drives the runtime sees to it, and says when to come again."""

    async def test(board: Board, host: SimulatedHost) -> None:
        when = datetime.fromtimestamp(host.now_ms() / 1000 + 100, UTC)
        await board.create("a", id="a", not_before=when)
        assert await board._runtime.run_due() == host.now_ms() + 100_000
        assert (await board.get("a")).state == "scheduled"
        await pass_time(board, host, 100)
        assert (await board.get("a")).state == "ready"
        await board.schedule("a", datetime.fromtimestamp(host.now_ms() / 1000 + 50, UTC))
        assert (await board.get("a")).state == "scheduled"
        assert (await board.schedule("a", None)).state == "ready"
        assert await board._runtime.run_due() is None

    on_board(test)


def test_bytes_are_attached_and_read_back_at_any_size() -> None:
    """Around the size of a chunk; the newest of a name is the one."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        chunk = (1 << 20) - 1024
        for size in (0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk):
            data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            await board.attach("a", "report", data, "text/plain")
            assert await board.attachment("a", "report") == data
        task = await board.get("a")
        assert [(each["name"], each["size"], each["by"]) for each in task.attachments] == [
            ("report", 3 * chunk, "tester")
        ]
        with pytest.raises(NotFound, match="attachment"):
            await board.attachment("a", "other")
        with pytest.raises(InvalidInput, match="bytes"):
            await board.attach("a", "x", "text")  # type: ignore[arg-type]

    on_board(test)


def test_each_event_is_delivered_to_each_subscriber_and_counted_once_by_its_number() -> None:
    """Its place outlives the process; a delivery that fails comes again."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for n in range(130):
            await board.create("t", id=f"t{n}")
        heard: list[int] = []

        async def tell(event: Any) -> None:
            if len(heard) == 120:
                heard.append(0)
                raise ConnectionError("down")
            heard.append(event.number)

        with pytest.raises(ConnectionError):
            await board.deliver("mail", tell)
        assert await board.deliver("mail", tell) == 30
        assert await board.deliver("mail", tell) == 0
        assert sorted(set(heard) - {0}) == list(range(1, 131))
        assert await board.deliver("other", tell) == 130
        assert [event.number for event in await board.events(after=128)] == [129, 130]

    on_board(test)


def test_an_archived_task_is_purged_with_all_that_it_had() -> None:
    """But not while something that waits for it is open."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", key="k")
        await board.create("c", id="c", parents=["a"])
        await board.comment("a", "x")
        await board.attach("a", "f", b"data")
        await (await claimed(board)).complete()
        with pytest.raises(ConflictError, match="archived"):
            await board.purge("a")
        await board.archive("a")
        with pytest.raises(ConflictError, match="'c'"):
            await board.purge("a")
        await board.cancel("c")
        await board.purge("a")
        left = [key for key in host.store.keys if "/a/" in key or key.endswith("/a")]
        assert left == []
        assert (await board.head()).counts == {"cancelled": 1}
        with pytest.raises(NotFound):
            await board.get("a")
        assert (await board.reopen("c")).state == "ready"

    on_board(test)


def test_pages_of_tasks_hold_them_all_in_their_order() -> None:
    """By id, or of a state as they are claimed; a page costs what it returns."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for n in range(23):
            await board.create("t", id=f"t{n:02}", priority=n % 3, assignee=(None, "a")[n % 2])
        wanted = {None: [f"t{n:02}" for n in range(23)]}
        wanted["ready"] = [f"t{n:02}" for n in sorted(range(23), key=lambda n: (n % 2, -(n % 3), n))]
        for state, ids in wanted.items():
            for limit in (1, 7, 22, 23, 24):
                found, after = list[str](), ""
                while True:
                    page = await board.list(state, after=after, limit=limit)
                    found += [task.id for task in page]
                    assert len(page) <= limit
                    if page.after is None:
                        break
                    after = page.after
                assert found == ids
        mine = await board.list("ready", "a", limit=100)
        assert [task.id for task in mine] == [id for id in wanted["ready"] if int(id[1:]) % 2]
        before = dict(host.counts)
        await board.list("ready", limit=5)
        assert {verb: host.counts[verb] - before[verb] for verb in before} == {"get": 1, "list": 1, "commit": 0}

    on_board(test)


def test_claiming_listing_and_promoting_cost_the_same_however_many_tasks_there_are() -> None:
    """Operations are counted among 30 tasks and among 3,000."""

    async def test(board: Board, host: SimulatedHost) -> None:
        counts: list[dict[str, Any]] = []
        made = 0
        for size in (30, 3_000):
            while made < size:
                made += 1
                await board.create("t", id=f"t{made}", assignee=f"a{made % 7}")
            await board.create("root", id=f"root{size}", priority=9)
            for n in range(5):
                await board.create("leaf", id=f"leaf{size}.{n}", parents=[f"root{size}"], assignee="leaf")
            before = dict(host.counts)
            claim = await claimed(board)
            await claim.heartbeat()
            await claim.complete()
            await board.list("ready", "a3", limit=10)
            await board.head()
            counts.append({verb: host.counts[verb] - before[verb] for verb in before})
        assert counts[0] == counts[1]
        assert counts[0]["commit"] == 3

    on_board(test)


VERBS: dict[str, Callable[[Board], Awaitable[Any]]] = {
    "accept": lambda board: board.accept("a"),
    "schedule": lambda board: board.schedule("a", None),
    "approve": lambda board: board.approve("a"),
    "unblock": lambda board: board.unblock("a"),
    "cancel": lambda board: board.cancel("a"),
    "reopen": lambda board: board.reopen("a"),
    "archive": lambda board: board.archive("a"),
    "reclaim": lambda board: board.reclaim("a"),
    "request_changes": lambda board: board.request_changes("a", "x"),
    "block": lambda board: board.block("a"),
}


async def bring(board: Board, host: SimulatedHost, state: str) -> None:
    """A task "a" in that state."""
    later = datetime.fromtimestamp(host.now_ms() / 1000 + 500, UTC)
    await board.create("parent", id="p", assignee="nobody")
    await board.create(
        "t", id="a", triage=state == "triage", parents=["p"] if state == "todo" else (),
        not_before=later if state == "scheduled" else None,
    )  # fmt: skip
    if state in ("running", "review", "done", "failed"):
        claim = await claimed(board)
        if state == "review":
            await claim.request_review()
        elif state == "done":
            await claim.complete()
        elif state == "failed":
            await claim.fail("x", retry=False)
    if state == "blocked":
        await board.block("a")
    if state in ("cancelled", "archived"):
        await board.cancel("a")
    if state == "archived":
        await board.archive("a")
    assert (await board.get("a")).state == state


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", STATES)
def test_a_verb_does_what_the_table_says_in_each_state(verb: str, state: str) -> None:
    """It leads along a way that there is, or is ERR_CONFLICT with nothing written."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await bring(board, host, state)
        before = dict(host.store.entries)
        allowed = state in starts(verb) and (verb, state) not in {("request_changes", "running"), ("block", "running")}
        if allowed:
            task = await VERBS[verb](board)
            assert (verb, state, task.state) in {(way.verb, way.start, way.end) for way in WAYS}
        else:
            with pytest.raises(ConflictError, match=r"nothing was written|reclaim it first"):
                await VERBS[verb](board)
            assert host.store.entries == before

    on_board(test)


@workflow
async def long(ctx: Context, input: Any) -> str:
    return "x" * input["size"]


@pytest.mark.parametrize(("body", "size", "most"), [(100_000, 40_000, 10**8), (0, 3_500, 4_096), (0, 70_000, 10**8)])
def test_a_result_that_its_task_has_no_room_for_stays_with_the_run(body: int, size: int, most: int) -> None:
    """The task is done all the same, and says which run has it: it stayed claimed for ever."""

    async def test() -> None:
        host = SimulatedHost(capabilities=Capabilities("simulated", durability="volatile", max_value=most))
        host.clock.auto = True
        async with Runtime(host, workflows=[long]) as runtime:
            board = Board(runtime, "b")
            await board.create("t", "b" * body, id="a", workflow=long, input={"size": size})
            end = host.now_ms() + 30_000
            await board.work(never, worker="w", until=lambda: host.now_ms() >= end)
            task = await board.get("a")
            assert task.state == "done"
            assert task.result["bytes"] >= size
            assert (await runtime.get_execution(task.result["run"])).result == "x" * size

    drive(test)


@workflow
async def double(ctx: Context, input: Any) -> Any:
    if input.get("wait"):
        await ctx.sleep(input["wait"])
    if input.get("spend"):
        ctx.spend(input["spend"])
    if input.get("fail"):
        raise ValueError("no such thing")
    return {"twice": 2 * input.get("n", 0), "parents": input.get("parents")}


def test_a_task_bound_to_a_workflow_ends_as_its_run_does() -> None:
    """Claiming it starts the run, in one commit; parents' results are among its input."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", workflow=double, input={"n": 2})
        await board.create("b", id="b", workflow=double, input={"n": 3}, parents=["a"])
        await board.create("bad", id="bad", workflow=double, input={"fail": True}, max_failures=2)
        deadline = host.now_ms() + 60_000
        await board.work(never, worker="w", until=lambda: host.now_ms() >= deadline)
        a, b, bad = [await board.get(id) for id in ("a", "b", "bad")]
        assert (a.state, a.result) == ("done", {"twice": 4, "parents": None})
        assert (b.state, b.result) == ("done", {"twice": 6, "parents": {"a": a.result}})
        assert (bad.state, bad.failure, len(bad.attempts)) == (
            "failed",
            {"type": "ValueError", "message": "no such thing"},
            2,
        )
        runs = await board._runtime.list_executions()
        assert len(runs) == 4

    on_board(test, double, auto=True)


async def never(claim: Claim) -> None:
    raise AssertionError("there is no task for a worker")


def test_cancelling_a_task_cancels_its_run_and_the_other_way_round() -> None:
    """What the run had spent is charged, and what was reserved for it is free again."""

    async def test(board: Board, host: SimulatedHost) -> None:
        runtime = board._runtime
        await board.configure(budget=Budget(tokens=100))
        for id in ("a", "b"):
            await board.create("t", id=id, workflow=double, input={"wait": 1_000, "spend": 7}, budget=Budget(tokens=40))
        assert await board.claim("w") is None
        head = await board.head()
        assert (head.reserved, head.left()) == ([80, 0], [20, None])
        runs = {id: (await board.get(id)).run for id in ("a", "b")}
        await board.cancel("a", "no need")
        await runtime.cancel(runs["b"] or "")
        for _ in range(4):
            await pass_time(board, host, 2)
        assert [(await board.get(id)).state for id in ("a", "b")] == ["cancelled", "cancelled"]
        assert [(await runtime.get_execution(run or "")).status for run in runs.values()] == ["cancelled", "cancelled"]
        assert (await board.head()).reserved == [0, 0]
        assert (await board.get("a")).wake is None
        assert await runtime.run_due() is None

    on_board(test, double)


def test_a_task_whose_budget_is_used_up_can_still_be_reviewed() -> None:
    """Its author has spent all of it: a reviewer claims it all the same; what is sent back waits for a top-up."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for id in ("a", "b"):
            await board.create(id, id=id, budget=Budget(tokens=5))
            claim = await claimed(board)
            await claim.spend(5)
            await claim.request_review("look", "done")
        await (await claimed(board, "r", review=True)).complete()
        await (await claimed(board, "r", review=True)).request_changes("again")
        assert await board.claim("w") is None
        assert [(task.id, task.state) for task in await board.list()] == [("a", "done"), ("b", "blocked")]
        await board.top_up("b", 5)
        assert (await claimed(board)).task.id == "b"

    on_board(test, auto=True)


def test_a_run_that_uses_its_budget_up_blocks_its_task_until_a_top_up() -> None:
    """It may not spend more than the task has left."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", workflow=double, input={"spend": 30}, budget=Budget(tokens=20))
        assert await board.claim("w") is None
        await pass_time(board, host, 2)
        task = await board.get("a")
        assert (task.state, task.block and task.block["kind"], task.spent) == (
            "blocked",
            "budget",
            [30, 0],
        )  # what was asked for counts, as everywhere
        await board.top_up("a", 40)
        assert await board.claim("w") is None
        await pass_time(board, host, 2)
        task = await board.get("a")
        assert (task.state, task.spent) == ("done", [60, 0])

    on_board(test, double)


def test_a_run_that_takes_too_long_is_cancelled_before_the_next_one_begins() -> None:
    """No two runs of one task go on at a time."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", workflow=double, input={"wait": 10_000}, max_time=100, max_failures=2)
        assert await board.claim("w") is None
        await pass_time(board, host, 101)
        for _ in range(3):
            await pass_time(board, host, 2)
        task = await board.get("a")
        assert (task.state, task.attempts[-1]["outcome"]) == ("ready", "timed_out")
        (run,) = await board._runtime.list_executions()
        assert run.status == "cancelled"

    on_board(test, double)


def test_a_worker_does_what_it_claims_until_it_is_told_to_stop() -> None:
    """What it returns completes a task, what it raises fails it, and what it says itself stands."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("good", id="good", input={"n": 1})
        await board.create("bad", id="bad", max_failures=1)
        await board.create("asks", id="asks")
        await board.create("spends", id="spends", budget=Budget(tokens=5))
        await board.create("slow", id="slow", ttl=3)
        await board.create("odd", id="odd", max_failures=1)

        async def do(claim: Claim) -> Any:
            match claim.task.id:
                case "bad":
                    raise ValueError("token=abc123secret is wrong")
                case "asks":
                    await claim.block("needs_input", "who?")
                case "spends":
                    await claim.spend(6)
                case "slow":
                    await host.sleep(20)
                case "odd":
                    return object()
            return claim.task.input

        deadline = host.now_ms() + 60_000
        await board.work(do, worker="w", concurrency=2, until=lambda: host.now_ms() >= deadline)
        states = {task.id: task.state for task in await board.list()}
        assert states == {
            "good": "done",
            "bad": "failed",
            "asks": "blocked",
            "spends": "blocked",
            "slow": "done",
            "odd": "failed",
        }
        assert (await board.get("good")).result == {"n": 1}
        assert (await board.get("slow")).attempts[-1]["outcome"] == "completed"
        assert "abc123secret" not in str((await board.get("bad")).failure)

    on_board(test, auto=True)


def test_a_worker_that_loses_its_claim_is_stopped() -> None:
    """Its work is cancelled, and says nothing more."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a", ttl=9)
        stopped: list[str] = []

        async def do(claim: Claim) -> None:
            if claim.task.epoch == 1:
                await board.reclaim("a", "by hand")
                try:
                    await host.sleep(1_000)
                finally:
                    stopped.append(claim.worker)

        deadline = host.now_ms() + 60_000
        await board.work(do, worker="w", until=lambda: host.now_ms() >= deadline)
        task = await board.get("a")
        assert (stopped, task.state, task.epoch, task.failures) == (["w"], "done", 2, 0)

    on_board(test, auto=True)


def test_what_a_task_can_not_be_made_of_is_refused() -> None:
    """Before anything is stored."""

    async def test(board: Board, host: SimulatedHost) -> None:
        for wrong in (
            {"title": ""}, {"title": 5}, {"body": object()}, {"id": "a/b"}, {"id": "x" * 81}, {"key": 5},
            {"parents": "a"}, {"parents": ["a b"]}, {"gate": "maybe"}, {"priority": 500}, {"priority": 1.5},
            {"assignee": "a b"}, {"workflow": "a/b"}, {"input": object()}, {"not_before": 5}, {"triage": 1}, {"ttl": 0},
            {"max_time": -1}, {"stall": "x"}, {"max_failures": 0}, {"backoff": -1}, {"budget": 5}, {"metadata": {1: 2}},
            {"parents": [f"p{n}" for n in range(101)]}, {"body": "x" * 140_000},
        ):  # fmt: skip
            given: dict[str, Any] = {"title": "t", **wrong}
            with pytest.raises(InvalidInput):
                await board.create(given.pop("title"), **given)
        with pytest.raises(NotFound):
            await board.create("t", parents=["nobody"])
        for ask in (
            board.list("open"), board.list(None, "a"), board.list(limit=0), board.events(-1), board.configure(most=0),
            board.claim(""), board.claim("w", assignees="abc"), board.block("a", "dependency"), board.top_up("a", -1),
            board.configure(each={"a": 0}),
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                await ask
        assert host.store.keys == []
        for name in ("a:b", "", "a b", "x" * 61):
            with pytest.raises(InvalidInput):
                Board(board._runtime, name)
        with pytest.raises(InvalidInput):
            Board(host, "b")  # type: ignore[arg-type]

    on_board(test)


def test_what_is_asked_of_no_task_is_not_found() -> None:
    """By every verb."""

    async def test(board: Board, host: SimulatedHost) -> None:
        more: list[Callable[[Board], Awaitable[Any]]] = [
            lambda board: board.get("a"), lambda board: board.purge("a"), lambda board: board.assign("a", "b"),
            lambda board: board.comment("a", "x"), lambda board: board.link("b", "a"),
            lambda board: board.top_up("a", 1),
        ]  # fmt: skip
        for verb in (*VERBS.values(), *more):
            with pytest.raises(NotFound, match="no task"):
                await verb(board)
        assert host.store.keys == []

    on_board(test)


def test_a_task_that_is_held_is_not_given_away_under_its_holder() -> None:
    """It is reclaimed first."""

    async def test(board: Board, host: SimulatedHost) -> None:
        await board.create("a", id="a")
        await board.create("b", id="b", assignee="x")
        await claimed(board)
        for ask in (board.assign("a", "x"), board.link("b", "a")):
            with pytest.raises(AlkalineError, match="reclaim it first"):
                await ask
        await board.reclaim("a")
        assert (await board.assign("a", "x")).lane == "a=x"
        assert (await board.edit("a", title="new", priority=7)).priority == 7
        assert (await claimed(board, assignees=["x"])).task.title == "new"

    on_board(test)


@pytest.mark.parametrize("check", ["check it", None])
def test_a_swarm_works_side_by_side_is_checked_and_put_together(check: str | None) -> None:
    """It is made in one commit, once for its key; the goal is given what all of them have found."""

    async def test(board: Board, host: SimulatedHost) -> None:
        before = host.counts["commit"]
        goal = await board.swarm(
            "report", ["wind", "rain", "sun"], check=check, key="k", workers="w", checker="c", writer="x"
        )
        assert host.counts["commit"] == before + 1
        assert (await board.swarm("report", ["other"], key="k")).id == goal.id
        assert (await board.head()).counts == {"ready": 3, "todo": 1 if check is None else 2}
        assert await board.claim("c", assignees=["c", "x"]) is None
        for n in range(3):
            await (await claimed(board, assignees=["w"])).complete(n)
        if check is not None:
            claim = await claimed(board, assignees=["c", "x"])
            assert (claim.task.title, claim.task.metadata) == (check, {"goal": goal.id})
            await claim.complete("all right")
        last = await claimed(board, assignees=["c", "x"])
        assert last.task.id == goal.id
        assert [last.parents[id] for id in goal.metadata["parts"]] == [0, 1, 2]
        assert last.parents.get(goal.metadata["check"]) == (None if check is None else "all right")
        for wrong in ([], "abc", [5], ["x"] * 101):
            with pytest.raises(InvalidInput):
                await board.swarm("goal", wrong)

    on_board(test)


def test_a_swarm_with_a_part_that_fails_is_held_up() -> None:
    """Neither its check nor its goal is released."""

    async def test(board: Board, host: SimulatedHost) -> None:
        goal = await board.swarm("report", ["wind", "rain"])
        await (await claimed(board)).complete()
        await (await claimed(board)).fail("no", retry=False)
        assert await board.claim("w") is None
        assert (await board.get(goal.id)).state == "blocked"
        await board.reopen(goal.metadata["parts"][1])
        await (await claimed(board)).complete()
        assert (await claimed(board)).task.id == goal.metadata["check"]

    on_board(test)
