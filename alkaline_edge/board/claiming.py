"""Which task is next, pages of tasks, and the end of archived ones: all of it costs what it returns."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from .. import keys
from ..errors import ConflictError, CycleDetected, DepthExceeded, InvalidInput
from ..runtime.store import Store
from . import graph, runs
from .claims import Claim
from .engine import Engine, Stale
from .moment import Moment
from .states import STATES
from .tasks import OF_POOL, Task

_RUNS = 16
"""Runs that one call of ``claim`` starts at most; the next call starts more."""


async def claim(
    engine: Engine, board: str, worker: str, assignees: list[str | None], review: bool, workflows: bool
) -> Claim | None:
    """See ``Board.claim``."""
    known = engine.runtime.registry.names() if workflows and not review else []
    for _ in range(_RUNS):
        found = await engine.change(
            board, [], lambda moment: _next(engine, moment, worker, assignees, review, known), worker
        )
        if found is None:
            return None
        task, parents = found
        if task.run is None:
            return Claim(engine, board, task, parents)
        engine.follow(board, task)
    return None


async def _next(
    engine: Engine, moment: Moment, worker: str, assignees: list[str | None], review: bool, known: list[str]
) -> tuple[Task, dict[str, Any]] | None:
    head, state = moment.head, "review" if review else "ready"
    if not head.counts.get(state) or 0 in head.left():
        return None
    lanes = [f"a={each or ''}" for each in assignees if head.has_room(each)]
    lanes += [f"w={name}" for name in known if head.has_room(None)]
    if not review:
        lanes += [f"{lane}{OF_POOL}{pool}" for pool in head.open_pools() for lane in list(lanes)]
    first: tuple[str, str] | None = None
    for lane in lanes:
        prefix = keys.board(moment.board, "q", state, lane, "")
        for entry in await moment.store.host.list(prefix, "", 1):
            if entry.key.startswith(prefix + OF_POOL[1:]):
                continue  # behind its own tasks, of which there are none, stand those of its pools
            order, id = entry.key.split("/")[-2:]
            first = min(first or (order, id), (order, id))
    if first is None:
        return None
    (task,) = await moment.find([first[1]])
    if task is None or task.state != state:
        raise Stale  # the index is newer than the head
    used_up = zip(task.budget or (), task.spent, strict=False)
    if not review and any(limit is not None and spent >= limit for limit, spent in used_up):
        task.block = {"kind": "budget", "reason": "its budget is used up", "by": None, "at": moment.now}
        moment.move("gate", task, "blocked", kind="budget")
        raise Stale
    if task.workflow is not None and not review and await _comes_of_itself(engine, moment, task):
        raise Stale
    parents = await moment.results_of_parents(task)
    task.epoch += 1
    task.claim = {
        "token": moment.store.host.entropy(8).hex(),
        "worker": worker,
        "role": "reviewer" if review else "author",
        "began": moment.now,
        "until": moment.now + task.ttl,
        "progress": moment.now,
    }
    moment.move("claim", task, "running", worker=worker, epoch=task.epoch)
    if task.workflow is not None and not review:
        task.run = f"{moment.board}.{task.id}.{task.epoch}-{task.claim['token'][:6]}"
        task.claim["until"] = None
        given = task.input
        if parents and (given is None or type(given) is dict):
            given = {**(given or {}), "parents": parents}
        definition = engine.runtime.registry.newest(task.workflow)
        moment.start = (definition, given, runs.budget_of(moment, task), task)
    return task, parents


async def _comes_of_itself(engine: Engine, moment: Moment, task: Task) -> bool:
    """Fail a task whose run would come of itself: whoever made it did not know the workflow."""
    try:
        engine.runtime.owner.check_nesting(engine.runtime.registry.newest(task.workflow or ""), task.chain)
    except (CycleDetected, DepthExceeded) as error:
        task.failure = {"type": type(error).__name__, "message": str(error), "code": error.code}
        task.block = {"kind": "cycle", "reason": str(error), "by": None, "at": moment.now}
        moment.move("gate", task, "blocked", kind="cycle")
        return True
    return False


async def page(
    store: Store, board: str, state: str | None, assignee: str | None, after: str, limit: int
) -> tuple[list[Task], str | None]:
    """See ``Board.list``."""
    if state is not None and state not in STATES:
        raise InvalidInput(f"state is one of {', '.join(STATES)}, not {state!r}")
    if state is None and assignee is not None:
        raise InvalidInput("tasks of one assignee are listed by state: give a state as well")
    parts = ["t"] if state is None else ["q", state] if assignee is None else ["q", state, f"a={assignee}"]
    prefix = keys.board(board, *parts, "")
    found: list[Task] = []
    while True:
        wanted = limit - len(found)
        entries = await store.host.list(prefix, prefix + after if after else "", wanted)
        if state is None:
            found += [Task.from_map(store.opened(entry), entry.version) for entry in entries]
        elif entries:
            tasks = await Moment(store, board).find(entry.key.rsplit("/", 1)[1] for entry in entries)
            found += [task for task in tasks if task is not None and task.state == state]
        if len(entries) < wanted:
            return found, None
        after = entries[-1].key.removeprefix(prefix)
        if len(found) == limit:
            return found, after


async def purge(engine: Engine, board: str, id: str, by: str | None) -> None:
    """See ``Board.purge``."""

    async def look(moment: Moment) -> None:
        task = await moment.task(id)
        if task.state != "archived" or task.pages is not None or task.stopping is not None:
            raise ConflictError(f"task {id!r} is {task.state}, and one that is purged is archived and at rest", id=id)
        prefix, after = keys.board(board, "p", id, ""), ""
        while True:
            entries = await moment.store.host.list(prefix, after, 500)
            refs = [entry.key.removeprefix(prefix) for entry in entries]
            for ref, child in zip(refs, await moment.find(refs), strict=True):
                if child is not None and not child.ended:
                    raise ConflictError(f"task {ref!r} waits for {id!r} and is {child.state}: end it first", id=id)
            if len(entries) < 500:
                break
            after = entries[-1].key
        for parent, _ in task.parents:
            moment.write.deletes.add(graph.key_of(board, parent, id))
        if task.key is not None:
            await _forget_key(moment, task)
        moment.drop(task)
        moment.tell("purge", id)

    await engine.change(board, [id], look, by)
    prefixes = [keys.board(board, kind, id, "") for kind in ("c", "a", "p")]
    await engine.store.purge(prefixes)


async def _forget_key(moment: Moment, task: Task) -> None:
    place = keys.board(moment.board, "i", sha256((task.key or "").encode()).hexdigest()[:32])
    entry = (await moment.store.host.get([place]))[0]
    if entry is not None and moment.store.opened(entry) == task.id:
        moment.write.checks[place] = entry.version
        moment.write.deletes.add(place)
