"""``Board``: the verbs over tasks that people and agents share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from .. import keys
from ..arguments import expect, several, whole
from ..budget import Budget, check_plain, micros
from ..errors import ConflictError, InvalidInput
from ..limits import check_charge, check_seconds
from ..names import check_id, check_name, check_text, check_workflow_name
from ..runs import ANCESTRY
from ..runtime.runtime import Runtime
from ..structs import dataclass
from ..workflows import Workflow
from . import claiming, graph, holding, log, working
from .claims import Claim
from .engine import Engine
from .log import BoardEvent, Comment
from .moment import Head, Moment
from .states import GIVEN_BLOCKS
from .tasks import (
    CLAIM_SECONDS,
    HIGHEST,
    KIND,
    LOWEST,
    MAX_FAILURES,
    MAX_PARENTS,
    Task,
    check_board,
    check_ref,
    check_task_id,
    place_of,
)

Seconds = float | timedelta
_Comments = list[Comment]
_Events = list[BoardEvent]
_Names = list[str]


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, the ``items``, and where the next page begins; ``after`` is None behind the last one."""

    items: list[Task]
    after: str | None

    def __iter__(self) -> Any:
        """The tasks."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many tasks this page has."""
        return len(self.items)


class Board:
    """The board ``name`` in a runtime's store; it comes into being with its first task. ``by``: who asks, for the log.

    Any number of processes may work on a board. Each verb is one commit that checks what it has read, so it is done
    whole or not at all, and a task has one holder at a time. What comes due (a claim that runs out, a time to begin) is
    done by whatever drives the runtime: ``run_due``, ``serve``, ``work``.

    Every verb is ERR_NOT_FOUND for a task that is not there, and ERR_CONFLICT with nothing written in a state in which
    it can't be asked; ``docs/board.md`` has the table. What can't be is ERR_INVALID_INPUT, and a ``reason`` is for
    whoever reads the task and its log.
    """

    def __init__(self, runtime: Runtime, name: str, by: str | None = None) -> None:
        self._engine, self._runtime = drive(runtime), runtime
        self.name, self.by = check_board(name), None if by is None else check_name(by, "by")

    # --- making ----------------------------------------------------------------------------------------------------
    async def create(
        self,
        title: str,
        body: Any = None,
        *,
        id: str | None = None,
        key: str | None = None,
        parents: Iterable[str] = (),
        gate: str = "done",
        priority: int = 0,
        assignee: str | None = None,
        reviewer: str | None = None,
        pool: str | None = None,
        workflow: str | Workflow | None = None,
        input: Any = None,
        not_before: datetime | None = None,
        triage: bool = False,
        ttl: Seconds = CLAIM_SECONDS,
        max_time: Seconds | None = None,
        stall: Seconds | None = None,
        max_failures: int = MAX_FAILURES,
        backoff: Seconds = 0,
        budget: Budget | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Task:
        """A new task. The same ``key`` gives the task that was made with it, unless that was archived.

        ``body`` and ``metadata``: what it is about, for whoever does it. ``id``: its own, if None a random one.
        ``priority``: the higher, the sooner. ``assignee``: who is to do it, if None anybody; ``reviewer``: who looks at
        it then. ``pool``: it needs a place of that pool while its work is done. ``not_before``: a datetime, when it may
        begin. ``budget``: what it may spend.
        ``parents``: it waits until each of them is done, or with ``gate="ended"`` until it ended, and is given their
        results; ``"other/id"`` is the task of another board. ``workflow``: claiming it starts that run with ``input``,
        and what becomes of the run becomes of it.
        ``ttl``: for how many seconds a claim holds without a heartbeat; ``max_time``: how long an attempt may take;
        ``stall``: how long without progress; ``max_failures``: in a row, then it has failed; ``backoff``: seconds
        before it is tried again, twice as long each time. ``triage``: somebody has to accept it first.
        """
        task = Task(
            check_task_id(id) if id is not None else f"t{self._runtime.host.entropy(6).hex()}",
            check_name(title, "a title"), "triage" if triage else "ready",
            self._runtime.codec.through(body, "body"), self._runtime.codec.through(metadata or {}, "metadata"),
            assignee=_who(assignee, "assignee"), reviewer=_who(reviewer, "reviewer"), created_by=self.by, key=key,
            pool=_who(pool, "pool"),
            priority=_priority(priority), input=self._runtime.codec.through(input, "input"),
            workflow=workflow.name if isinstance(workflow, Workflow) else workflow,
            not_before=None if not_before is None else _ms_of(not_before),
            ttl=_length(ttl, "ttl", 0.001), max_time=None if max_time is None else _length(max_time, "max_time", 0.001),
            stall=None if stall is None else _length(stall, "stall", 0.001), backoff=_length(backoff, "backoff"),
            max_failures=max_failures, budget=_limits(budget), created_at=self._runtime.host.now_ms(),
            chain=[*ANCESTRY.get()],
        )  # fmt: skip
        waits_for = self._refs(parents)
        whole(max_failures, "max_failures", 1)
        expect(triage, bool, "triage", "True or False")
        if task.workflow is not None:
            check_workflow_name(task.workflow)
            if task.workflow in self._runtime.registry.names():
                self._runtime.owner.check_nesting(self._runtime.registry.newest(task.workflow), task.chain)
        return await self._engine.change(
            self.name, [], lambda moment: self._create(moment, task, waits_for, graph.check_gate(gate)), self.by
        )

    async def _create(self, moment: Moment, task: Task, parents: _Names, gate: str) -> Task:
        made = Task.from_map({**task.to_map(), "parents": []})  # a new one for each try
        if made.pool is not None and made.pool not in moment.head.pools:
            known = ", ".join(moment.head.pools) or "none"
            raise InvalidInput(
                f"board {self.name!r} has no pool {made.pool!r}; it has {known}: configure(pools=) makes one"
            )
        if made.key is not None and (there := await self._of_key(moment, made)) is not None:
            return there
        (other,) = await moment.find([made.id])
        if other is not None:
            raise ConflictError(f"there is a task {made.id!r} already; choose another id, or leave it out", id=made.id)
        moment.add(made)
        for parent in parents:
            await graph.link(moment, parent, made, gate)
        if made.state == "triage":
            moment.move("create", made, "triage", title=made.title)
        else:
            await moment.rest("create", made, title=made.title)
        return made

    async def _of_key(self, moment: Moment, made: Task) -> Task | None:
        """The task that was made with the key of ``made``, or None, and then the key is that of ``made``."""
        place = keys.board(self.name, "i", sha256(check_name(made.key, "key").encode()).hexdigest()[:32])
        entry = (await moment.store.host.get([place]))[0]
        if entry is not None:
            (there,) = await moment.find([moment.store.opened(entry)])
            if there is not None and there.state != "archived":
                return there
        moment.write.checks[place] = None if entry is None else entry.version
        moment.write.puts[place] = moment.store.codec.encode(made.id)
        return None

    async def swarm(
        self,
        goal: str,
        parts: Iterable[str],
        *,
        check: str | None = "check what the parts have found",
        body: Any = None,
        key: str | None = None,
        priority: int = 0,
        workers: str | None = None,
        checker: str | None = None,
        writer: str | None = None,
    ) -> Task:
        """A goal that many work for, made in one commit: its parts side by side, then a check of them, then the goal.

        The goal is the task that puts together what the parts have found; it is returned, and its metadata names the
        ``parts`` and the ``check``. Its comments are where all of them write for each other. ``workers``, ``checker``
        and ``writer`` are the assignees of the parts, the check and the goal; ``check=None`` leaves that out. The same
        ``key`` gives the swarm that was made with it. ``body`` and ``priority`` are those of all its tasks.
        """
        titles = [check_name(each, "a part") for each in several(parts, "parts", "a list of titles")]
        if not 1 <= len(titles) <= MAX_PARENTS:
            raise InvalidInput(f"a swarm has 1 to {MAX_PARENTS} parts; let a part be a swarm of its own")
        base, now = f"s{self._runtime.host.entropy(6).hex()}", self._runtime.host.now_ms()
        ids = [f"{base}.{n}" for n in range(1, len(titles) + 1)]
        told = {"parts": ids, "check": f"{base}.check" if check is not None else None}
        common: dict[str, Any] = {
            "created_by": self.by,
            "priority": _priority(priority),
            "created_at": now,
            "chain": [*ANCESTRY.get()],
        }
        plain = self._runtime.codec.through(body, "body")

        def task(id: str, title: str, assignee: str | None, **more: Any) -> Task:
            return Task(
                id, check_name(title, "a title"), body=plain, assignee=_who(assignee, "an assignee"), **common, **more
            )

        of_goal = {"metadata": {"goal": base}}
        members = [(task(id, title, workers, **of_goal), list[str]()) for id, title in zip(ids, titles, strict=True)]
        if check is not None:
            members.append((task(f"{base}.check", check, checker, **of_goal), ids))
        last = task(base, goal, writer, metadata=told, key=key)

        async def make(moment: Moment) -> Task:
            if key is not None and (there := await self._of_key(moment, last)) is not None:
                return there
            for member, waits_for in members:
                await self._create(moment, member, waits_for, "done")
            return await self._create(moment, last, [*ids, *([f"{base}.check"] if check is not None else [])], "done")

        return await self._engine.change(self.name, [], make, self.by)

    async def accept(self, id: str) -> Task:
        """Let a task out of triage."""
        return await self._rest("accept", id)

    async def edit(
        self,
        id: str,
        *,
        title: str | None = None,
        body: Any = None,
        priority: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Task:
        """Change what is given of ``title``, ``body``, ``priority`` and ``metadata``; the rest stays."""
        new = {
            "title": None if title is None else check_name(title, "a title"),
            "body": self._runtime.codec.through(body, "body"),
            "priority": None if priority is None else _priority(priority),
            "metadata": self._runtime.codec.through(metadata, "metadata"),
        }

        async def edit(moment: Moment, task: Task) -> None:
            for name, value in new.items():
                if value is not None:
                    setattr(task, name, value)
            moment.touch(task)
            moment.tell("edit", task.id, changed=[name for name, value in new.items() if value is not None])

        return await self._change(id, edit)

    async def assign(self, id: str, assignee: str | None) -> Task:
        """Give a task that nobody holds to an assignee, or with None to anybody."""
        _who(assignee, "assignee")

        async def assign(moment: Moment, task: Task) -> None:
            if task.claim is not None:
                raise ConflictError(f"task {id!r} is held by {task.claim['worker']!r}; reclaim it first", id=id)
            task.assignee = assignee
            moment.touch(task)
            moment.tell("assign", id, assignee=assignee)

        return await self._change(id, assign)

    async def link(self, parent: str, child: str, gate: str = "done") -> Task:
        """``child`` waits for ``parent`` from here on. ERR_CYCLE_DETECTED, with the chain, where that waits for it.

        ``gate``, and a ``parent`` of another board: as for ``create``. Both boards are changed in one commit.
        """
        check_ref(parent, self.name)

        async def link(moment: Moment, task: Task) -> None:
            if task.claim is not None:
                raise ConflictError(f"task {child!r} is held by {task.claim['worker']!r}; reclaim it first", id=child)
            await graph.link(moment, parent, task, gate)
            await moment.gate(task)

        return await self._change(child, link)

    async def unlink(self, parent: str, child: str) -> Task:
        """``child`` waits for ``parent`` no longer."""
        check_ref(parent, self.name)

        async def unlink(moment: Moment, task: Task) -> None:
            await graph.unlink(moment, parent, task)
            await moment.gate(task)

        return await self._change(child, unlink)

    async def schedule(self, id: str, not_before: datetime | None) -> Task:
        """A task that nobody holds begins then and not before, or with None as soon as it may."""
        at = None if not_before is None else _ms_of(not_before)

        async def schedule(moment: Moment, task: Task) -> None:
            moment.check("schedule", task)
            task.not_before = at
            await moment.rest("schedule", task, not_before=at)

        return await self._change(id, schedule)

    # --- working ---------------------------------------------------------------------------------------------------
    async def claim(
        self, worker: str, *, assignees: Iterable[str | None] = (None,), review: bool = False, workflows: bool = True
    ) -> Claim | None:
        """The task that is to be done next, which ``worker`` holds from here on; None where there is none.

        The highest priority first, then who has waited longest, among those of ``assignees`` (None: those of nobody).
        With ``review``, among those to be reviewed. Unless ``workflows`` is False, tasks that are bound to a workflow
        of this runtime are claimed for their runs, which are started, and the next task for this worker is looked for.
        """
        whose = [_who(each, "assignees") for each in several(assignees, "assignees", "a list of names, or None")]
        return await claiming.claim(self._engine, self.name, check_name(worker, "a worker"), whose, review, workflows)

    async def held(self, id: str, token: str) -> Claim:
        """The claim of that ``token`` on a task, for whoever was handed it by another call or process.

        ERR_CONFLICT where the claim is over.
        """
        moment = Moment(self._engine.store, self.name)
        task = await moment.task(check_task_id(id))
        holding.require(task, check_name(token, "a claim's token"), "held")
        return Claim(self._engine, self.name, task, await moment.results_of_parents(task))

    async def work(
        self,
        do: Callable[[Claim], Awaitable[Any]],
        *,
        worker: str,
        assignees: Iterable[str | None] = (None,),
        review: bool = False,
        concurrency: int = 1,
        until: Callable[[], bool] | None = None,
        poll: Seconds = 1.0,
    ) -> None:
        """Claim tasks and do them, for ever, or until ``until()`` is true.

        ``do`` is given the claim. What it returns completes the task, what it raises fails it; where it has ended the
        claim itself (blocked it, say), that stands. The claim is kept by heartbeats meanwhile, and ``do`` is cancelled
        when it is lost. ``concurrency``: so many at once. ``poll``: seconds between two looks where nobody tells of a
        new task. Tasks that are bound to a workflow of this runtime are started as well. ``assignees`` and ``review``:
        as for ``claim``.
        """
        whole(concurrency, "concurrency", 1)
        whose = [_who(each, "assignees") for each in several(assignees, "assignees", "a list of names, or None")]
        pause = check_seconds(poll, "poll", 0.001)
        name = check_name(worker, "a worker")
        await working.work(self._engine, self.name, do, name, whose, review, concurrency, until, pause)

    async def reclaim(self, id: str, reason: str = "") -> Task:
        """Take a task away from whoever holds it: their verbs count no more. A task with a run is cancelled instead."""
        check_text(reason, "a reason")

        async def reclaim(moment: Moment, task: Task) -> None:
            moment.check("reclaim", task)
            if task.run is not None:
                raise ConflictError(f"task {id!r} is done by run {task.run!r}: cancel the task, and reopen it", id=id)
            await holding.give_back(moment, "reclaim", task, reason)

        return await self._change(id, reclaim)

    async def block(self, id: str, kind: str = "needs_input", reason: str = "") -> Task:
        """Hold a task up that nobody holds, until ``unblock``. ``kind``: needs_input, capability or transient."""
        if kind not in GIVEN_BLOCKS or kind == "dependency":
            raise InvalidInput(f"a block is needs_input, capability or transient, not {kind!r}; tasks wait by link")
        check_text(reason, "a block's reason")

        async def block(moment: Moment, task: Task) -> None:
            if task.state == "running":
                raise ConflictError(f"task {id!r} is running: whoever holds it blocks it, or reclaim it first", id=id)
            moment.check("block", task)
            await holding.block(moment, task, kind, reason, 0, [], False)

        return await self._change(id, block)

    async def unblock(self, id: str, answer: str | None = None) -> Task:
        """Let a blocked task go on, with an answer as a comment. One whose parent failed stays: reopen the parent."""

        async def unblock(moment: Moment, task: Task) -> None:
            moment.check("unblock", task)
            task.block, task.failures = None, 0
            if answer is not None:
                log.comment(moment, task, answer)
            await moment.rest("unblock", task)

        return await self._change(id, unblock)

    async def approve(self, id: str) -> Task:
        """A task in review is done. Whoever holds it for a review completes its claim instead."""

        async def approve(moment: Moment, task: Task) -> None:
            moment.check("approve", task)
            await holding.end(moment, "approve", task, "done")

        return await self._change(id, approve)

    async def request_changes(self, id: str, text: str) -> Task:
        """A task in review is not good yet: it goes back, with ``text`` as a comment."""

        async def changes(moment: Moment, task: Task) -> None:
            if task.state != "review":
                raise ConflictError(f"task {id!r} is {task.state}, and not in review; nothing was written", id=id)
            log.comment(moment, task, text)
            await moment.rest("request_changes", task, text=text[:500])

        return await self._change(id, changes)

    async def cancel(self, id: str, reason: str = "") -> Task:
        """Withdraw a task that has not ended: whoever holds it loses it, and its run is cancelled."""
        check_text(reason, "a reason")

        async def cancel(moment: Moment, task: Task) -> None:
            moment.check("cancel", task)
            task.stopping = task.run
            await holding.end(moment, "cancel", task, "cancelled", reason)

        task = await self._change(id, cancel)
        if task.stopping is not None:
            await self._runtime.chores.do(keys.chore(KIND, f"{self.name}:{id}"))
        return task

    async def reopen(self, id: str) -> Task:
        """Let a task that failed or was cancelled be tried again; what its failure held up waits for it again."""

        async def reopen(moment: Moment, task: Task) -> None:
            moment.check("reopen", task)
            if task.stopping is not None:
                raise ConflictError(f"task {id!r} can be reopened once its run {task.stopping!r} has ended", id=id)
            task.outcome, task.failures, task.blocks, task.failure = None, 0, {}, None
            await moment.rest("reopen", task)
            await moment.tell_children(task)

        return await self._change(id, reopen)

    async def archive(self, id: str) -> Task:
        """Put a task that has ended out of sight. What depends on it stands as it stood."""

        async def archive(moment: Moment, task: Task) -> None:
            moment.check("archive", task)
            moment.move("archive", task, "archived")

        return await self._change(id, archive)

    async def purge(self, id: str) -> None:
        """Delete an archived task, its comments and attachments. ERR_CONFLICT while what waits for it is open."""
        await claiming.purge(self._engine, self.name, check_task_id(id), self.by)

    # --- saying ----------------------------------------------------------------------------------------------------
    async def comment(self, id: str, text: str) -> Task:
        """Say something of a task."""

        async def comment(moment: Moment, task: Task) -> None:
            log.comment(moment, task, text)

        return await self._change(id, comment)

    async def attach(self, id: str, name: str, data: bytes, type: str = "application/octet-stream") -> Task:
        """Keep bytes of a media ``type`` with a task, under a name; one of the same name is replaced."""
        check_name(name, "an attachment's name")
        check_name(type, "an attachment's type")
        await self.get(id)
        digest = await log.put_chunks(self._engine.store, self.name, id, data)

        async def attach(moment: Moment, task: Task) -> None:
            log.attach(moment, task, name, type, data, digest)

        return await self._change(id, attach)

    async def attachment(self, id: str, name: str) -> bytes:
        """The bytes that were attached, verified by their digest."""
        return await log.attachment(self._engine.store, self.name, await self.get(id), name)

    # --- looking ---------------------------------------------------------------------------------------------------
    async def get(self, id: str) -> Task:
        """A task as it stands, with ``"other/id"`` that of another board."""
        moment = Moment(self._engine.store, self.name)
        return await moment.task(check_ref(id, self.name))

    async def list(
        self, state: str | None = None, assignee: str | None = None, after: str = "", limit: int = 50
    ) -> TaskPage:
        """A page of up to ``limit`` tasks: all of them by id; or those of a state, as they are claimed.

        Those of one assignee, or of one after the other. Pass ``page.after`` on for the next one, until it is None.
        """
        whole(limit, "limit", 1, 1_000)
        expect(after, str, "after", "what an earlier page gave, or empty")
        return TaskPage(
            *await claiming.page(self._engine.store, self.name, state, _who(assignee, "assignee"), after, limit)
        )

    async def comments(self, id: str, after: int = 0, limit: int = 50) -> _Comments:
        """What was said of a task, from the comment behind number ``after`` on, at most ``limit``."""
        return await log.comments(self._engine.store, *place_of(self.name, check_ref(id, self.name)), after, limit)

    async def children(self, id: str, after: str = "", limit: int = 100) -> _Names:
        """The tasks that depend on it, behind ``after``, at most ``limit``: ids, and ``board/id`` of other boards."""
        whole(limit, "limit", 1, 1_000)
        prefix = keys.board(self.name, "p", check_task_id(id), "")
        entries = await self._runtime.host.list(prefix, prefix + after if after else "", limit)
        return [entry.key.removeprefix(prefix) for entry in entries]

    async def events(self, after: int = 0, limit: int = 100) -> _Events:
        """What happened, from the event behind number ``after`` on, at most ``limit``."""
        return await log.events(self._engine.store, self.name, after, limit)

    async def deliver(self, subscriber: str, tell: Callable[[BoardEvent], Awaitable[Any]]) -> int:
        """Hand each event that ``subscriber`` has not had to ``tell``; its place is durable. How many there were."""
        return await log.deliver(self._engine.store, self.name, subscriber, tell)

    async def head(self) -> Head:
        """What the board counts: tasks by state, claimed ones by assignee, limits, budget; one read."""
        moment = Moment(self._engine.store, self.name)
        await moment.open()
        return moment.head

    # --- limits ----------------------------------------------------------------------------------------------------
    async def configure(
        self,
        *,
        most: int | None = None,
        each: Mapping[str, int] | None = None,
        budget: Budget | None = None,
        pools: Mapping[str, int] | None = None,
    ) -> Head:
        """Set the board's limits, all of them; what is left out is none.

        ``most``: so many tasks are claimed at a time. ``each``: by assignee, "" for tasks of nobody and "*" for all who
        are not named. ``budget``: what all its tasks may spend together. ``pools``: by name, how many tasks that need a
        place of it are done at a time, whoever does them; those of a pool that is left out wait until it is there.
        """
        if most is not None:
            whole(most, "most", 1)
        for name, number in dict(each or {}).items():
            check_text(name, "an assignee in each", 200)
            whole(number, f"each[{name!r}]", 1)
        places = {_who(name, "a pool") or "": number for name, number in dict(pools or {}).items()}
        for name, number in places.items():
            whole(number, f"pools[{name!r}]", 1)
        limits = _limits(budget)

        async def configure(moment: Moment) -> Head:
            moment.head.most, moment.head.each, moment.head.budget = most, dict(each or {}), limits
            moment.head.pools = places
            moment.tell("configure", "", most=most, each=dict(each or {}), budget=limits, pools=places or None)
            return moment.head

        return await self._engine.change(self.name, [], configure, self.by)

    async def top_up(self, id: str, tokens: int = 0, usd: float | None = None) -> Task:
        """Add ``tokens``, and ``usd`` in dollars, to a task's budget, and let it go on if it was blocked for that."""
        check_charge(tokens, usd, "top_up")

        async def top_up(moment: Moment, task: Task) -> None:
            if task.budget is not None:
                more = (tokens, micros(usd))
                task.budget = [
                    None if limit is None else limit + added for limit, added in zip(task.budget, more, strict=True)
                ]
            moment.touch(task)
            moment.tell("top_up", id, tokens=tokens, usd=usd)
            if task.state == "blocked" and task.block is not None and task.block["kind"] == "budget":
                task.block = None
                await moment.rest("unblock", task)

        return await self._change(id, top_up)

    # --- all of them -----------------------------------------------------------------------------------------------
    async def _change(self, id: str, change: Callable[[Moment, Task], Awaitable[None]]) -> Task:
        async def work(moment: Moment) -> Task:
            task = await moment.task(id)
            await change(moment, task)
            return task

        return await self._engine.change(self.name, [check_task_id(id)], work, self.by)

    def _refs(self, parents: Iterable[str]) -> _Names:
        given = several(parents, "parents", "a list of tasks' ids")
        found = list(dict.fromkeys(check_ref(each, self.name) for each in given))
        if len(found) > MAX_PARENTS:
            raise InvalidInput(f"a task has at most {MAX_PARENTS} parents; let some of them wait for each other")
        return found

    async def _rest(self, verb: str, id: str) -> Task:
        async def rest(moment: Moment, task: Task) -> None:
            moment.check(verb, task)
            await moment.rest(verb, task)

        return await self._change(id, rest)


def drive(runtime: Runtime) -> Engine:
    """From here on the runtime does what comes due on every board of its store. Making a ``Board`` does so as well."""
    expect(runtime, Runtime, "Board(runtime=)", "a Runtime")
    return runtime.chores.keeper(KIND, lambda: Engine(runtime))


def _who(name: object, what: str) -> str | None:
    return None if name is None else check_id(name, f"{what}: a name, or None for anybody; it")


def _priority(value: object) -> int:
    whole(value, "priority", LOWEST, HIGHEST)
    return value  # type: ignore[return-value]  # whole has looked


def _length(value: Any, what: str, least: float = 0) -> int:
    return round(check_seconds(value, what, least) * 1000)


def _ms_of(when: Any) -> int:
    if not isinstance(when, datetime) or when.utcoffset() is None:
        raise InvalidInput("not_before wants an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)")
    return round(when.timestamp() * 1000)


def _limits(budget: Any) -> list[Any] | None:
    expect(budget, (Budget, type(None)), "budget", "a Budget, such as Budget(tokens=1000), or None")
    check_plain(budget, "a board or a task")
    return None if budget is None else [budget.tokens, None if budget.usd is None else micros(budget.usd)]
