"""Many workers on one board or two, which die at any commit while clocks jump: what must hold always, and at last."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.board import Board, Claim, Head, Task
from alkaline_edge.host import Batch, Committed, Conflict
from alkaline_edge.testing import SimulatedHost, SimulatedStore
from tests.board.audit.auditing import Audit
from tests.support import drive

KINDS = ("crash", "crash-after", "applied-then-error", "error-before", "applied-then-conflict")
TASKS = 14


class Audited(SimulatedStore):
    """A store that reads each commit of the board as it lands."""

    def __init__(self) -> None:
        super().__init__()
        self.audit = Audit(lambda key: None if (entry := self.entries.get(key)) is None else entry.value)

    def apply(self, batch: Batch) -> Committed | Conflict:
        """As SimulatedStore.apply."""
        self.audit.before(batch)
        outcome = super().apply(batch)
        if isinstance(outcome, Committed):
            self.audit.landed(batch)
        return outcome


@workflow
async def job(ctx: Context, input: Any) -> Any:
    await ctx.sleep(7)
    await ctx.step("do", lambda: None)
    if input["fails"] and len(str(ctx.execution.id)) % 2:
        raise ValueError("by chance")
    return ctx.execution.id


class Crowd:
    """Workers on one board, or on several whose tasks depend on each other, begun anew when they die."""

    def __init__(
        self, seed: int, workers: int, crash_at: set[int], kind: Any, jumps: bool, boards: tuple[str, ...] = ("b",)
    ) -> None:
        self.boards = boards
        self.store, self.random = Audited(), Random(seed)
        self.workers, self.crash_at, self.kind, self.jumps = workers, crash_at, kind, jumps
        self.commits = 0
        self.done: list[tuple[str, str]] = []

    async def do(self, host: SimulatedHost, claim: Claim) -> Any:
        """The work of a task: takes a while, and ends by what the seed and the attempt say."""
        chance = Random(f"{claim.task.id} {claim.task.epoch}").random()
        await host.sleep(chance * 20)
        if claim.reviewing:
            if chance < 0.4:
                await claim.request_changes("again")
            return None
        if chance < 0.2:
            raise ConnectionError("by chance")
        if chance < 0.3:
            await claim.block("transient", "down", after=5)
        elif chance < 0.45:
            await claim.request_review("look", claim.token)
        elif chance < 0.5:
            await claim.release()
        return claim.token

    async def work(self, name: str, until: int) -> None:
        while self.store.clock.now_ms < until:
            died = asyncio.Event()

            def fault(number: int, verb: str, died: asyncio.Event = died) -> Any:
                if verb != "commit":
                    return None
                self.commits += 1
                if self.jumps and self.commits % 23 == 0:
                    self.store.clock.advance(self.random.choice((-90_000, -3_000, 3_000, 30_000, 90_000)))
                found = self.kind if self.commits in self.crash_at else None
                if found in ("crash", "crash-after"):
                    died.set()
                return found

            host = SimulatedHost(self.store, fault=fault)
            runtime = Runtime(host, workflows=[job], lease=5)
            boards = [Board(runtime, each) for each in self.boards]

            async def do(claim: Claim, host: SimulatedHost = host) -> Any:
                return await self.do(host, claim)

            ends = lambda: self.store.clock.now_ms >= until  # noqa: E731  # read by both
            working = asyncio.gather(
                *(board.work(do, worker=name, until=ends, poll=4) for board in boards),
                *(board.work(do, worker=f"{name}r", review=True, until=ends, poll=9) for board in boards),
                runtime.recover(),
            )
            dying = asyncio.ensure_future(died.wait())
            await asyncio.wait([working, dying], return_when=asyncio.FIRST_COMPLETED)
            host.dead = died.is_set()
            working.cancel()
            dying.cancel()
            await asyncio.gather(working, runtime.close(), return_exceptions=True)
            await self.store.clock.sleep(0.5)

    async def go(self) -> None:
        host = SimulatedHost(self.store)
        async with Runtime(host) as runtime:
            boards = {name: Board(runtime, name) for name in self.boards}
            homes = [self.random.choice(self.boards) for _ in range(TASKS)]
            for n in range(TASKS):
                earlier = [f"{homes[m]}/t{m}" for m in range(n)]
                parents = self.random.sample(earlier, min(n, self.random.choice((0, 0, 1, 2, 3))))
                bound = self.random.random() < 0.25
                await boards[homes[n]].create(
                    "t", id=f"t{n}", parents=parents, gate=self.random.choice(("done", "done", "ended")), ttl=6,
                    priority=self.random.randint(-2, 2), max_failures=self.random.choice((1, 3, 5)), backoff=1,
                    workflow="job" if bound else None, input={"fails": self.random.random() < 0.3} if bound else None,
                )  # fmt: skip
            for _ in range(20):
                until = self.store.clock.now_ms + 120_000
                await asyncio.gather(*(self.work(f"w{n}", until) for n in range(self.workers)))
                if not await self.open(boards):
                    break
            await self.settled(boards)

    async def open(self, boards: dict[str, Board]) -> list[str]:
        """Tasks that can still go on: those that have not ended, and wait for none that a parent holds up."""
        tasks = {task.id: task for board in boards.values() for task in await board.list(limit=100)}
        assert len(tasks) == TASKS
        held_up: set[str] = set()
        for task in sorted(tasks.values(), key=lambda task: int(task.id[1:])):  # parents come first
            waits = task.state == "todo" and any(parent.split("/")[-1] in held_up for parent, _ in task.parents)
            if waits or task.state in ("blocked", "triage"):
                held_up.add(task.id)
        return [task.id for task in tasks.values() if not task.ended and task.id not in held_up]

    async def settled(self, boards: dict[str, Board]) -> None:
        """What must hold at the end."""
        assert self.store.audit.wrong == []
        assert await self.open(boards) == []
        tasks = {name: list(await board.list(limit=100)) for name, board in boards.items()}
        timers = {key for key in self.store.keys if key.startswith("t/") and "!task" in key}
        assert timers == {timer for name, each in tasks.items() for task in each for timer in task.timer(name)}
        for name, board in boards.items():
            await self.settled_on(board, tasks[name])

    async def settled_on(self, board: Board, tasks: list[Task]) -> None:
        name, numbers = board.name, self.store.audit.numbers.get(board.name, [])
        assert numbers == list(range(1, len(numbers) + 1))
        for task in tasks:
            if task.state == "blocked":
                assert task.block is not None
                assert task.block["kind"] == "parent"
            if task.state == "done" and task.workflow is None:
                author = [each for each in task.attempts if each["role"] == "author"]
                tokens = [self.store.audit.claims[task.id, each["epoch"]] for each in author]
                assert task.result == tokens[-1]
            if task.state == "done" and task.workflow is not None:
                assert task.result == task.attempts[-1]["run"]
        index = {key for key in self.store.keys if key.startswith(f"k/{name}/q/")}
        assert index == {task.index(name) for task in tasks}
        head: Head = await board.head()
        assert head.running == {}
        assert head.counts == {state: sum(t.state == state for t in tasks) for state in {t.state for t in tasks}}


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 8]),
    st.sets(st.integers(1, 300), max_size=15),
    st.sampled_from(KINDS),
    st.booleans(),
    st.sampled_from([("b",), ("b",), ("b",), ("b", "c")]),
)
def test_no_task_is_lost_run_by_two_or_released_by_a_failed_gate(
    seed: int, workers: int, crash_at: set[int], kind: str, jumps: bool, boards: tuple[str, ...]
) -> None:
    """Whatever dies when, wherever clocks jump, and over boards as on one."""
    drive(Crowd(seed, workers, crash_at, kind, jumps, boards).go)


def test_a_crash_at_every_commit_of_a_claim_and_its_end() -> None:
    """One worker, one task with a child; it dies before or behind each of its commits."""

    async def once(kind: str, place: int) -> bool:
        crowd = Crowd(0, 1, {place}, kind, False)
        async with Runtime(SimulatedHost(crowd.store)) as runtime:
            board = Board(runtime, "b")
            await board.create("t", id="t0", ttl=6, workflow="job", input={"fails": False})
            await board.create("t", id="t1", ttl=6, parents=["t0"], max_failures=9)
            await crowd.work("w", crowd.store.clock.now_ms + 900_000)
            tasks = [await board.get(id) for id in ("t0", "t1")]
            assert crowd.store.audit.wrong == []
            assert [task.state for task in tasks] == ["done", "done"]
            return crowd.commits >= place

    async def test() -> None:
        for kind in ("crash", "crash-after"):
            place = 1
            while await once(kind, place):
                place += 1
            assert place > 8

    drive(test)
