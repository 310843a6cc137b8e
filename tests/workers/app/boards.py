"""A Durable Object with a board, a limit, a named budget and schedules, whose commits are read as they land.

Its clock can be moved. What is found wrong is kept in the object's storage, so that a kill does not lose it.
"""

import asyncio
import json
from random import Random

from auditing import Audit
from flows import mark
from workers import DurableObject

from alkaline_edge import Budget, workflow
from alkaline_edge.board import Board
from alkaline_edge.capacity import Budgets, Limit, Limits
from alkaline_edge.errors import BudgetExceeded, ConflictError
from alkaline_edge.triggers import Every
from alkaline_hosts.durable_object import DurableObjectHost
from alkaline_hosts.worker import DurableRuns

SHARE, COST = 60, 5
"""Tokens that the board gets at a time, and that a piece of work spends."""


@workflow
async def job(ctx, input):
    """What becomes of a task that is bound to a workflow."""
    await ctx.sleep(0.1)
    ctx.spend(COST)
    await ctx.step("do", lambda: None)
    if input["fails"] and len(ctx.execution.id) % 2:
        raise ValueError("by chance")
    return ctx.execution.id


@workflow
async def tick(ctx, input):
    """A run of a schedule, which leaves a mark outside."""
    return await ctx.step("tick", mark, input, ctx.execution.id)


@workflow
async def quick(ctx, count):
    """Steps that wait for nothing: plain functions and async ones, in turn."""

    async def same(n):
        return n

    for n in range(count):
        await ctx.step(same if n % 2 else int, n)


class Jumping:
    """The storage of an object whose clock is not the platform's: alarms are set by the one and ring by the other."""

    def __init__(self, storage, host):
        self.inner, self.host = storage, host

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def setAlarm(self, at):
        return self.inner.setAlarm(at - self.host.jump)

    async def getAlarm(self):
        at = await self.inner.getAlarm()
        return at + self.host.jump if isinstance(at, (int, float)) else at


class AuditedHost(DurableObjectHost):
    """Reads each commit as it lands, on either way, and has a clock that can be moved."""

    jump = 0

    def __init__(self, ctx):
        super().__init__(ctx)
        self._storage = Jumping(self._storage, self)
        self._exec("CREATE TABLE IF NOT EXISTS audit (task TEXT, epoch INTEGER, token TEXT, wrong TEXT)")
        self.audit = Audit(self._value)
        for task, epoch, token, wrong in self._rows("SELECT * FROM audit"):
            if wrong:
                self.audit.wrong.append(wrong)
            else:
                self.audit.claims[task, epoch] = token
        self.at_once = self.awaited = 0

    async def commit(self, batch):
        self.awaited += 1
        return await super().commit(batch)

    def commit_now(self, batch):
        outcome = super().commit_now(batch)
        self.at_once += outcome is not None
        return outcome

    def now_ms(self):
        return super().now_ms() + self.jump

    async def move_clock(self, jump):
        """Be so many ms ahead of the platform from now on. The alarm rings when the clock says so, as ever."""
        at = await self._storage.getAlarm()
        self.jump = jump
        if isinstance(at, (int, float)):
            self._storage.setAlarm(at)

    def _commit(self, batch):
        known, seen = set(self.audit.claims), len(self.audit.wrong)
        self.audit.before(batch)
        outcome = super()._commit(batch)
        if type(outcome).__name__ == "Committed":
            self.audit.landed(batch)
            for task, epoch in self.audit.claims.keys() - known:
                token = self.audit.claims[task, epoch]
                self._exec("INSERT INTO audit VALUES (?, ?, ?, '')", task, epoch, token)
            for wrong in self.audit.wrong[seen:]:
                self._exec("INSERT INTO audit VALUES ('', 0, '', ?)", wrong)
        return outcome

    def _rows(self, sql, *parameters):
        return self._exec(sql, *parameters).raw().toArray().to_py()

    def _value(self, key):
        rows = self._rows("SELECT value FROM alkaline_entries WHERE key = ?", key)
        return bytes(rows[0][0]) if rows else None


class Boards(DurableRuns, DurableObject):
    """The ready-made class, and what workers on its board ask for over RPC."""

    workflows = (job, tick, quick)

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.board = Board(self._runtime, "b")
        self.limits = Limits(self._runtime, hold=1.0)
        self.budgets = Budgets(self._runtime)

    def make_host(self, ctx, env):
        return AuditedHost(ctx)

    # --- a board -----------------------------------------------------------------------------------------------------
    async def fill(self, count, seed):
        """A board of so many tasks that depend on each other, with limits and budgets that are all too small."""
        await self._take_up()
        random = Random(seed)
        await self.board.configure(most=5, pools={"few": 2}, budget=Budget(tokens=SHARE))
        await self.limits.set(Limit("model", concurrency=2))
        await self.budgets.set("shared", tokens=count * COST // 2)
        for n in range(count):
            parents = random.sample([f"t{m}" for m in range(n)], min(n, random.choice((0, 0, 1, 2))))
            bound = random.random() < 0.25
            await self.board.create(
                "t", id=f"t{n}", parents=parents, gate=random.choice(("done", "done", "ended")), ttl=0.5,
                priority=random.randint(-2, 2), max_failures=random.choice((2, 4, 8)), backoff=0.1,
                pool=random.choice((None, "few")), budget=Budget(tokens=2 * COST),
                workflow="job" if bound else None, input={"fails": random.random() < 0.3} if bound else None,
            )  # fmt: skip

    async def work(self, worker, seconds, review):
        """Work on the board for so long, within this call."""
        await self._take_up()
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        await self.board.work(
            self._attempt, worker=worker, review=review, concurrency=2, until=lambda: clock() >= end, poll=0.05
        )

    async def _attempt(self, claim):
        """The work of a task; how it ends is by chance, the same one for the same attempt."""
        chance = Random(f"{claim.task.id} {claim.task.epoch}").random()
        key = f"{claim.task.id} {claim.task.epoch}"
        if claim.reviewing:
            if chance < 0.4:
                await claim.request_changes("again")
            return None
        await claim.spend(COST)
        try:
            await self.budgets.reserve("shared", key, COST)
        except BudgetExceeded:
            pass  # one of the others has it
        await self.limits.run("model", lambda: asyncio.sleep(chance / 20))
        await self.budgets.settle("shared", key, COST - 1)
        if chance < 0.15:
            raise ConnectionError("by chance")
        if chance < 0.25:
            await claim.block("transient", "down", after=0.2)
        elif chance < 0.35:
            await claim.request_review("look", claim.token)
        elif chance < 0.4:
            await claim.release()
        return claim.token

    async def take(self, worker):
        """Claim a task for somebody who works elsewhere: its id and the claim's token, or nothing."""
        await self._take_up()
        claim = await self.board.claim(worker)
        return json.dumps(None if claim is None else [claim.task.id, claim.token])

    async def give(self, id, token):
        """Somebody who works elsewhere has done a task; whether that counted."""
        await self._take_up()
        try:
            claim = await self.board.held(id, token)
            try:
                await claim.spend(COST)
            except BudgetExceeded as error:
                await claim.block_for_budget(str(error))
                return True
            await claim.complete(token)
        except ConflictError:
            return False
        return True

    async def move_clock(self, jump):
        """See AuditedHost."""
        await self._take_up()
        await self._host.move_clock(jump)

    async def tend(self):
        """Top up whatever waits for its budget; the tasks that can still go on."""
        await self._take_up()
        head = await self.board.head()
        if head.left()[0] < COST:
            await self.board.configure(most=5, pools={"few": 2}, budget=Budget(tokens=head.budget[0] + SHARE))
        tasks = {task.id: task for task in await self.board.list(limit=1000)}
        for task in tasks.values():
            if task.state == "blocked" and task.block["kind"] == "budget":
                await self.board.top_up(task.id, COST)
        held_up = set()
        for id in sorted(tasks, key=lambda name: int(name[1:])):  # parents come first
            task = tasks[id]
            waits = task.state == "todo" and any(parent in held_up for parent, _ in task.parents)
            short = task.state == "blocked" and task.block["kind"] == "budget"
            if waits or task.state == "triage" or (task.state == "blocked" and not short):
                held_up.add(id)
        return json.dumps([id for id, task in tasks.items() if not task.ended and id not in held_up])

    async def verdict(self):
        """What was found wrong, in its commits and in what they came to."""
        await self._take_up()
        tasks, head, audit = list(await self.board.list(limit=1000)), await self.board.head(), self._host.audit
        wrong = [*audit.wrong]
        for task in tasks:
            if task.state == "blocked" and task.block["kind"] != "parent":
                wrong.append(f"{task.id} is blocked: {task.block}")
            if task.state == "done" and task.workflow is not None and task.result != task.attempts[-1]["run"]:
                wrong.append(f"{task.id} has the result {task.result}, and not that of its run")
            if task.state == "done" and task.workflow is None:
                last = [each["epoch"] for each in task.attempts if each["role"] == "author"][-1]
                if task.result != audit.claims[task.id, last]:
                    wrong.append(f"{task.id} has the result of a claim that was not its last")
        index = {key for (key,) in self._host._rows("SELECT key FROM alkaline_entries WHERE key GLOB 'k/b/q/*'")}
        if index != {task.index("b") for task in tasks}:
            wrong.append("the index is not that of the tasks")
        timers = {key for (key,) in self._host._rows("SELECT key FROM alkaline_entries WHERE key GLOB 't/*!task*'")}
        if timers != {timer for task in tasks for timer in task.timer("b")}:
            wrong.append("the timers are not those of the tasks")
        events, after = [], 0
        while page := await self.board.events(after, 500):
            events += page
            after = page[-1].number
        if [event.number for event in events] != list(range(1, head.number + 1)):
            wrong.append("the log has gaps")
        counts = {state: sum(task.state == state for task in tasks) for state in {task.state for task in tasks}}
        if head.running or head.counts != counts:
            wrong.append(f"the head counts {head.running} {head.counts}, and there are {counts}")
        return json.dumps({"wrong": wrong, "tasks": len(tasks), "claims": len(audit.claims), "counts": counts})

    async def lanes(self, steps):
        """How many commits of a run of so many steps were made without a wait, and how many with one."""
        host = self._host
        host.at_once = host.awaited = 0
        run = await self._runtime.start("quick", steps)
        await run.result()
        return json.dumps([host.at_once, host.awaited])

    # --- schedules ---------------------------------------------------------------------------------------------------
    async def schedule(self, id, seconds, times):
        """So many ticks; nothing but the object's alarm drives them."""
        await self._take_up()
        await self.triggers.create(id, "tick", Every(seconds), id, overlap="allow", max_runs=times)
