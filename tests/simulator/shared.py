"""What runs share: a limit that steps wait for, a schedule that starts runs, a board whose tasks workers do.

Drawn for some of the schedules with one store. Who asks for it stands here too, and what must be true of it at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from alkaline_edge import Runtime
from alkaline_edge.board import Board, Claim
from alkaline_edge.capacity import Limit, Limits
from alkaline_edge.errors import ClosedError, ConflictError
from alkaline_edge.triggers import Every, Triggers

from .timeline import PROCESS

if TYPE_CHECKING:
    from .outside import Act, Client
    from .schedule import Member, Schedule

TICK, BOARD, LIMIT = "tick", "board", "model"
HOLD = 15.0
"""Seconds for which a place is held: longer than the slowest callback of a weather in which places are counted."""


class Sharing:
    """What is shared in one schedule, and what was seen of it."""

    def __init__(self, schedule: Schedule, random: Random) -> None:
        self.schedule, self.random = schedule, random
        alone, bodies = schedule.stores == 1, schedule.program.bodies
        free = [n for n, body in enumerate(bodies) if not {"wait", "late"} & {each.kind for each in body.root.walk()}]
        self.limit = random.randint(1, 3) if alone and random.random() < 0.07 else 0
        """How many limited steps run at a time; 0: as many as like."""
        self.ticks = random.randint(1, 3) if alone and free and random.random() < 0.05 else 0
        """How many runs a schedule starts."""
        self.every = max(random.choice((2, 10, 60)), round(schedule.program.seconds() / 40))
        self.overlap: Any = random.choice(("skip", "buffer", "allow", "cancel"))
        self.body = random.choice(free) if free else 0
        self.triggered = self.ticks > 0 and random.random() < 0.4
        """Whether somebody triggers one more, twice with one key."""
        self.tasks = random.randint(1, 4) if alone and random.random() < 0.06 else 0
        self.hands = random.randint(1, 2)
        """How many workers the board has."""
        self.lasts = random.choice((0, 0.5, 8))
        self.ttl = max(random.choice((5.0, 20.0)), 5 + 2 * schedule.weather.clocks / 1000)
        """Clocks that differ by more than a claim lasts take each back as it is made: docs/board.md says so."""
        self.fails = random.choice((0, 0, 1))
        """How many attempts at a task fail."""
        # One that fails until it is mended would fail a thousand times in a moment.
        hitched = {n for n in free if any(node.kind == "hitch" for node in bodies[n].root.walk())}
        whole = [n for n in free if not bodies[n].doomed and n not in hitched]
        self.bound = random.choice(whole) if whole and random.random() < 0.4 else None
        """The workflow that the last task is bound to."""
        weather = schedule.weather
        timed = {kind for _, kind in weather.timed}
        self.counted = not weather.clocks and not timed & {"freeze", "long-freeze"} and weather.slowest <= 3
        """Whether no more than ``limit`` may be inside: whoever can't renew a place may be in it still."""
        self.is_set = self.all_done = False
        self.inside: list[Member] = []
        self.held: dict[tuple[str, int], Member] = {}
        self.done: set[str] = set()

    def seconds(self) -> float:
        """How long it takes where nothing goes wrong."""
        ticks = (self.ticks + 1) * (self.schedule.program.seconds() + 3 * self.every + 60) if self.ticks else 0
        tasks = self.tasks * (self.lasts + 4 * self.ttl + 60) if self.tasks else 0
        bound = self.schedule.program.seconds() if self.tasks and self.bound is not None else 0
        return ticks + tasks + bound + (600 if self.limit else 0)

    def driven(self, runtime: Runtime) -> None:
        """Have a process drive what there is."""
        if self.ticks:
            Triggers(runtime)
        if self.tasks:
            Board(runtime, BOARD)

    def clients(self) -> Iterator[tuple[str, list[tuple[str, Act]]]]:
        """Those who ask, each with what it does in order."""
        if self.limit:
            yield "limiter", [("limit", self._set)]
        if self.ticks:
            more = [("trigger", self._trigger)] * 2 if self.triggered else []
            yield "scheduler", [("schedule", self._schedule), *more, ("its end", self._ended)]
        if self.tasks:
            posts = [(f"task {n}", self._post(n)) for n in range(self.tasks)]
            yield "poster", [*posts, ("all done", self._all_done)]
            for n in range(self.hands):
                yield f"hand{n}", [("work", self._work)]

    # --- limits ------------------------------------------------------------------------------------------------------
    async def _set(self, client: Client, member: Member) -> None:
        await Limits(member.runtime(0), HOLD).set(Limit(LIMIT, concurrency=self.limit))
        self.is_set = True

    async def limited(self, work: Any) -> Any:
        """Do ``work`` with a place held."""
        member: Any = PROCESS.get()
        was_set = self.is_set  # what was read before, and answered late, says that there is no limit

        async def inside() -> Any:
            if not was_set:
                return await work()
            self.inside.append(member)
            within = [each for each in self.inside if not each.stopped]
            if len(within) > self.limit and self.counted:
                self.schedule.world.wrong(f"{len(within)} steps ran at a time under a limit of {self.limit}")
            try:
                return await work()
            finally:
                self.inside.remove(member)

        self.schedule.world.faults["limited"] += 1
        return await Limits(member.runtime(0), HOLD).run(LIMIT, inside)

    # --- schedules ---------------------------------------------------------------------------------------------------
    async def _schedule(self, client: Client, member: Member) -> None:
        await Triggers(member.runtime(0)).create(
            TICK, f"w{self.body}", Every(self.every), {"depth": 0}, overlap=self.overlap, max_runs=self.ticks,
            on_conflict="join",
        )  # fmt: skip

    async def _trigger(self, client: Client, member: Member) -> None:
        await Triggers(member.runtime(0)).trigger(TICK, dedupe="once")

    async def _ended(self, client: Client, member: Member) -> None:
        triggers = Triggers(member.runtime(0))
        found = await triggers.get(TICK)
        while found.status != "ended" or found.wake is not None:  # the last one may wait for another's end
            await asyncio.sleep(max(2.0, self.schedule.poll / 2))
            found = await triggers.get(TICK)
        self.schedule.world.faults["ticked"] += self.ticks

    # --- boards ------------------------------------------------------------------------------------------------------
    def _post(self, n: int) -> Act:
        """The task ``n``, which waits for the one before it in half of the schedules."""
        bound = self.bound if n == self.tasks - 1 else None

        async def post(client: Client, member: Member) -> None:
            more: dict[str, Any] = {} if bound is None else {"workflow": f"w{bound}", "input": {"depth": 0}}
            parents = [f"t{n - 1}"] if n and self.fails else []
            with contextlib.suppress(ConflictError):  # an earlier try was there
                await Board(member.runtime(0), BOARD).create(
                    f"task {n}", id=f"t{n}", key=f"key{n}", parents=parents, ttl=self.ttl, max_failures=1_000,
                    priority=n % 2, **more,
                )  # fmt: skip

        return post

    async def _work(self, client: Client, member: Member) -> None:
        poll = max(1.0, self.schedule.poll / 4)
        await Board(member.runtime(0), BOARD).work(
            self._do, worker=client.name, until=lambda: self.all_done, poll=poll, concurrency=self.hands
        )
        if not self.all_done:
            raise ClosedError("this worker's process was closed")

    async def _do(self, claim: Claim) -> str:
        task, member, world = claim.task, PROCESS.get(), self.schedule.world
        if self.held.setdefault((task.id, task.epoch), member) is not member:  # type: ignore[arg-type]
            world.wrong(f"two processes hold task {task.id} under claim {task.epoch}")
        if claim.parents.keys() - self.done:
            world.wrong(f"task {task.id} began before {claim.parents.keys() - self.done} were done")
        await asyncio.sleep(self.lasts)
        if task.epoch <= self.fails:
            raise ConnectionError("by the program")
        self.done.add(task.id)  # as far as this worker knows: whether it is believed is the board's to say
        return f"did {task.id}"

    async def _all_done(self, client: Client, member: Member) -> None:
        board = Board(member.runtime(0), BOARD)
        while any(task.state != "done" for task in await board.list()):
            await asyncio.sleep(max(2.0, self.schedule.poll / 2))
        self.all_done = True
        self.schedule.world.faults["tasks"] += self.tasks

    # --- at the end --------------------------------------------------------------------------------------------------
    async def judge(self, runtime: Runtime, ids: list[str]) -> Iterator[str]:
        """What is wrong with it."""
        wrong: list[str] = []
        if self.ticks:
            runs = [id for id in ids if id.startswith(f"{TICK}@") and "~" not in id]
            ticked = [id for id in runs if "@now:" not in id]
            least = 1 if self.schedule.weather.clocks else self.ticks  # a tick of a clock that was ahead counts twice
            if not least <= len(ticked) <= self.ticks or len(runs) - len(ticked) != self.triggered:
                wrong.append(f"a schedule of {self.ticks} ticks, {self.triggered} triggered, has started {runs}")
        if self.tasks:
            for task in await Board(runtime, BOARD).list():
                ends = [attempt["outcome"] for attempt in task.attempts]
                bound = task.workflow is not None
                if not bound and task.result != f"did {task.id}":
                    wrong.append(f"task {task.id} has the result {task.result!r:.100}")
                if ends.count("completed") != 1 or ends[-1] != "completed":
                    wrong.append(f"the attempts at task {task.id} ended {ends}")
        return iter(wrong)
