"""One change of a board in the making: what is read for it, what it moves, and the one commit that it becomes.

Every change checks the head of its board, so changes of a board are one behind the other, and what a change has read of
other tasks (a graph, say) is true in the moment of its commit. A heartbeat alone does not: it touches its task and
nothing else, and every change checks the tasks that it writes as well.

Where tasks of several boards depend on each other, a change of one board is a change of the others too, in the same
commit: whose head it checks where it writes to them, and where it only reads, the tasks that it has read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .. import keys
from ..budget import Budget
from ..errors import ConflictError, InvalidInput, NotFound, StoreError
from ..host import Entry
from ..runtime.store import Store
from ..runtime.write import Write
from ..structs import dataclass, field
from ..workflows import Workflow
from .states import State, leads, starts
from .tasks import MAX_BYTES, Task, place_of

INLINE_CHILDREN = 32
"""Children that are told of a task's end in the same commit; the others are told page by page."""
MOST_CHECKED = 64
"""Tasks of another board that are read before its head is checked in their place."""
_MOST_RESULT, _TO_END = 64 * 1024, 1024
"""Bytes of a run's result that its task holds as well, and what a task needs besides to say how it ended."""
EVENT = tuple[str, str, str | None, dict[str, Any]]


@dataclass(slots=True)
class Head:
    """What a board counts. ``number``: of its last event; ``running``: claimed tasks by assignee, "" for none.

    ``most``: how many may be claimed at a time; ``each``: by assignee; ``pools``: by pool, of which ``pooled`` are.
    ``budget``: of tokens and micro-dollars, and ``spent`` and ``reserved`` of it. ``version_tag``: the store's version
    of it, None before there is one.
    """

    number: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    pooled: dict[str, int] = field(default_factory=dict)
    most: int | None = None
    each: dict[str, int] = field(default_factory=dict)
    budget: list[Any] | None = None
    spent: list[int] = field(default_factory=lambda: [0, 0])
    reserved: list[int] = field(default_factory=lambda: [0, 0])
    version_tag: str | None = None

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "version_tag"}

    def has_room(self, assignee: str | None) -> bool:
        """Whether one more task of that assignee may be claimed."""
        if self.most is not None and sum(self.running.values()) >= self.most:
            return False
        limit = self.each.get(assignee or "", self.each.get("*"))
        return limit is None or self.running.get(assignee or "", 0) < limit

    def open_pools(self) -> list[str]:
        """The pools that have a place for one more task."""
        return [name for name, most in self.pools.items() if self.pooled.get(name, 0) < most]

    def left(self) -> list[int | None]:
        """What may still be spent or reserved of the board's budget, None for no limit."""
        budget = self.budget or [None, None]
        return [
            None if limit is None else max(0, limit - spent - reserved)
            for limit, spent, reserved in zip(budget, self.spent, self.reserved, strict=True)
        ]


class Moment:
    """What is read and changed of one board. ``by``: who asks for it, for the log.

    ``beside``: the moment of another board, whose commit is that of this one as well.
    """

    def __init__(self, store: Store, board: str, by: str | None = None, beside: Moment | None = None) -> None:
        self.store, self.board, self.by = store, board, by
        self.now: int = store.host.now_ms() if beside is None else beside.now
        self.head = Head()
        self.write: Write = Write() if beside is None else beside.write
        self._boards: dict[str, Moment] = {} if beside is None else beside._boards
        """By name, the boards of the commit."""
        self._boards[board] = self
        self._tasks: dict[str, Task | None] = {}
        self._before: dict[str, tuple[set[str], State | None, str | None, str | None]] = {}
        """Of each task that was read: its keys beside its own, its state, and whose it counted as while it ran, and of
        which pool."""
        self._at: dict[str, State | None] = {}
        """The state that each of them is in by now; None for a new one."""
        self._changed: dict[str, Task] = {}
        self._dropped: list[Task] = []
        self._events: list[EVENT] = []
        self.after: list[Callable[[], Awaitable[None]]] = []
        """What is to be done once the commit is there."""
        self.start: tuple[Workflow, Any, Budget | None, Task] | None = None
        """The run that the commit starts: its workflow, input and budget, and the task, which names it."""

    # --- reading ---------------------------------------------------------------------------------------------------
    async def open(self, ids: Iterable[str] = ()) -> None:
        """Read the head, and with it the tasks of ``ids``."""
        wanted = list(dict.fromkeys(ids))
        head, *tasks = await self.store.host.get([keys.board(self.board, "h"), *map(self._key, wanted)])
        if head is not None:
            values = self.store.opened(head)
            if type(values) is not dict:
                raise StoreError(f"the head of board {self.board!r} is damaged: restore it")
            known = {name: values[name] for name in Head.__slots__ if name in values}
            self.head = Head(**known)
            self.head.version_tag = head.version
        for id, entry in zip(wanted, tasks, strict=True):
            self._keep(id, entry)

    async def on(self, board: str) -> Moment:
        """What is read and changed of ``board`` in the same commit."""
        if board not in self._boards:
            await Moment(self.store, board, self.by, self).open()
        return self._boards[board]

    async def find(self, refs: Iterable[str]) -> list[Task | None]:
        """Tasks, also of other boards; None for those that are not there."""
        wanted = [place_of(self.board, ref) for ref in refs]
        for board in dict.fromkeys(board for board, _ in wanted):
            await (await self.on(board))._read(id for each, id in wanted if each == board)
        return [self._boards[board]._tasks[id] for board, id in wanted]

    async def _read(self, ids: Iterable[str]) -> None:
        unread = list(dict.fromkeys(id for id in ids if id not in self._tasks))
        if unread:
            entries = await self.store.host.get(list(map(self._key, unread)))
            for id, entry in zip(unread, entries, strict=True):
                self._keep(id, entry)

    async def task(self, ref: str) -> Task:
        """A task; ERR_NOT_FOUND where there is none."""
        (found,) = await self.find([ref])
        if found is None:
            board, id = place_of(self.board, ref)
            raise NotFound(f"there is no task {id!r} on board {board!r}; list() shows what is there", id=id)
        return found

    async def parents_of(self, task: Task) -> list[Task | None]:
        """Its parents, None for one that was purged."""
        return await self.find(ref for ref, _ in task.parents)

    async def results_of_parents(self, task: Task) -> dict[str, Any]:
        """What its parents came to, by how the task names them."""
        found = zip(task.parents, await self.parents_of(task), strict=True)
        return {ref: parent.result for (ref, _), parent in found if parent is not None}

    def _key(self, id: str) -> str:
        return keys.board(self.board, "t", id)

    def _keep(self, id: str, entry: Entry | None) -> None:
        task = None if entry is None else Task.from_map(self.store.opened(entry), entry.version)
        self._tasks[id] = task
        if task is not None:
            self._at[id] = task.state
            keyed = {task.index(self.board), *task.timer(self.board)}
            self._before[id] = (keyed, task.state, counted_as(task), pooled_as(task))

    # --- changing --------------------------------------------------------------------------------------------------
    def add(self, task: Task) -> None:
        """A new task."""
        self._tasks[task.id] = self._changed[task.id] = task
        self._before[task.id], self._at[task.id] = (set(), None, None, None), None

    def drop(self, task: Task) -> None:
        """The task is no more."""
        self._changed.pop(task.id, None)
        self._dropped.append(task)

    def touch(self, task: Task) -> None:
        """The task has changed."""
        self._changed[task.id] = task

    def check(self, verb: str, task: Task) -> None:
        """ERR_CONFLICT where ``verb`` can't be asked in the task's state."""
        if task.state not in starts(verb):
            raise ConflictError(
                f"task {task.id!r} is {task.state}, and {verb} wants one that is {' or '.join(starts(verb))}; nothing "
                "was written",
                id=task.id,
                state=task.state,
            )

    def move(self, verb: str, task: Task, end: State, /, **detail: Any) -> None:
        """Take the task along one of the ways that there are, and say so in the log."""
        start = self._at[task.id]
        if not leads(verb, start, end):
            raise ConflictError(
                f"task {task.id!r} is {task.state}, and no {verb} leads from there to {end}; nothing was written",
                id=task.id,
                state=task.state,
            )
        if end != start:
            task.entered_at = self.now
        task.state = self._at[task.id] = end
        self.touch(task)
        self.tell(verb, task.id, state=end, **detail)

    def tell(self, kind: str, task: str, /, **detail: Any) -> None:
        """An event for the log."""
        self._events.append((kind, task, self.by, {name: item for name, item in detail.items() if item is not None}))

    async def rest(self, verb: str, task: Task, /, **detail: Any) -> None:
        """Take the task to where it rests, by its parents and the clock."""
        self.move(verb, task, task.rest(await self.parents_of(task), self.now), **detail)

    async def tell_children(self, task: Task) -> None:
        """Let those that depend on the task know how it stands: some now, the others by its timer."""
        prefix = keys.board(self.board, "p", task.id, "")
        after = "" if task.pages is None else prefix + task.pages
        entries = await self.store.host.list(prefix, after, INLINE_CHILDREN)
        ids = [entry.key.removeprefix(prefix) for entry in entries]
        for ref, child in zip(ids, await self.find(ids), strict=True):
            if child is not None:
                await self._boards[place_of(self.board, ref)[0]].gate(child)
        task.pages = ids[-1] if len(ids) == INLINE_CHILDREN else None
        self.touch(task)

    async def gate(self, child: Task) -> None:
        """A parent has changed: where the child rests may have, too."""
        resting = child.state in ("todo", "scheduled", "ready")
        waits = child.state == "blocked" and child.block is not None and child.block["kind"] == "parent"
        if not resting and not waits:
            return
        reason = child.block
        end = child.rest(await self.parents_of(child), self.now)
        if end != child.state:
            self.move("gate", child, end, reason=(child.block or {}).get("reason"))
        elif child.block != reason:
            self.touch(child)

    def room(self, task: Task) -> int:
        """How many bytes a run's result may have for the task to hold it as well, and be stored."""
        most = min(MAX_BYTES, self.store.limits.max_value, self.store.limits.max_batch_bytes // 2)
        return min(_MOST_RESULT, most - len(self.store.codec.encode(task.to_map(), "task")) - _TO_END)

    # --- the commit ------------------------------------------------------------------------------------------------
    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        changed = any(each._is_changed for each in self._boards.values())
        return not (changed or self.write.puts or self.write.deletes)

    @property
    def _is_changed(self) -> bool:
        return bool(self._changed or self._events or self._dropped)

    def finish(self) -> Write:
        """The batch."""
        for each in self._boards.values():
            if each is not self and not each._is_changed:
                each._hold()
            else:
                each._put()
        self.write.proof = keys.board(self.board, "h")
        return self.write

    def _hold(self) -> None:
        """What was read of the board is to be true in the moment of the commit."""
        if len(self._tasks) > MOST_CHECKED:
            self.write.checks[keys.board(self.board, "h")] = self.head.version_tag
            return
        for id, task in self._tasks.items():
            self.write.checks[self._key(id)] = None if task is None else task.version_tag

    def _put(self) -> None:
        write, codec, head = self.write, self.store.codec, self.head
        key = keys.board(self.board, "h")
        for id, task in self._changed.items():
            task.updated_at = self.now
            task.set_wake(self.now)
            before, state, counted, pool = self._before[id]
            write.checks[self._key(id)] = task.version_tag or None
            data = codec.encode(task.to_map(), "task")
            if len(data) > MAX_BYTES:
                raise InvalidInput(
                    f"task {id!r} is over {MAX_BYTES} bytes with its body, input and result: attach what is large; "
                    "nothing was written",
                    limit=MAX_BYTES,
                )
            write.puts[self._key(id)] = data
            write.index(before, {task.index(self.board), *task.timer(self.board)}, codec.encode(self.now))
            _count(head.counts, state, task.state)
            _count(head.running, counted, counted_as(task))
            _count(head.pooled, pool, pooled_as(task))
        for task in self._dropped:
            before, state, _, _ = self._before[task.id]
            write.checks[self._key(task.id)] = task.version_tag
            write.deletes |= {self._key(task.id), *before}
            _count(head.counts, state, None)
        for kind, id, by, detail in self._events:
            head.number += 1
            event = {"n": head.number, "at": self.now, "kind": kind, "task": id, "by": by, "detail": detail}
            write.puts[keys.board(self.board, "e", keys.position(head.number))] = codec.encode(event, "event")
        write.checks[key] = head.version_tag
        write.puts[key] = codec.encode(head.to_map(), "head")


def counted_as(task: Task) -> str | None:
    """Whose task it counts as while it is claimed; None while it is not."""
    return (
        None if task.claim is None else (task.assignee or "") if task.claim["role"] == "author" else task.reviewer or ""
    )


def pooled_as(task: Task) -> str | None:
    """The pool that the task has a place of while its work is done; None while it is not."""
    return None if task.claim is None or task.claim["role"] != "author" else task.pool


def _count(counts: dict[str, int], before: str | None, after: str | None) -> None:
    if before == after:
        return
    if before is not None:
        counts[before] = counts.get(before, 0) - 1
        if counts[before] <= 0:
            del counts[before]
    if after is not None:
        counts[after] = counts.get(after, 0) + 1
