"""A task as it is stored, and what follows from it alone: where it stands in the indexes, when it is looked at."""

from __future__ import annotations

from typing import Any

from .. import keys, stored
from ..errors import InvalidInput, StoreError
from ..names import check_id
from ..structs import dataclass, field
from .states import BLOCKS, ENDED, STATES, State

MAX_BYTES = 128 * 1024
"""Bytes of a task with its body, input and result: it is written whenever it moves."""
MAX_PARENTS = 100
MAX_ATTACHMENTS = 100
KEPT_ATTEMPTS = 10
"""Attempts that a task remembers, the newest."""
LOWEST, HIGHEST = -499, 499
"""Priorities: the highest is claimed first."""
CLAIM_SECONDS = 900.0
MAX_FAILURES = 3
MAX_BLOCKS = 2
"""So often a task may be blocked for one reason and let go again; the next time somebody has to look at it."""
GATES = ("done", "ended")
"""What a link asks of the parent: that it ended well, or that it ended."""
_LEAST_LOOK_MS, _LONGEST_LOOK_MS = 1_000, 60_000
KIND = "task"
OF_POOL = "/~"
"""Between whose a lane is and the pool that its tasks need a place of: so they stand behind those of no pool."""


@dataclass(slots=True)
class Task:
    """A task as the store knows it. Times are ms since 1970, lengths ms; money is in micro-dollars.

    ``claim`` says who holds it: ``token``, ``worker``, ``role`` (author or reviewer), ``began``, ``until`` (None for a
    run, whose own lease says whether it lives), ``progress``. ``epoch`` goes up with each claim. ``parents``: each the
    id, or ``board/id`` on another board, and what the link asks of it. ``outcome`` is how it ended, also once it is
    archived.

    ``title``, ``body``, ``metadata``, ``priority``, ``assignee``, ``pool``, ``key``, ``workflow``, ``input``,
    ``not_before``, ``ttl``, ``max_time``, ``stall``, ``max_failures``, ``backoff`` and ``budget`` are what
    ``Board.create`` was given.
    ``state``: where it stands since ``entered_at``; it was made by ``created_by`` at ``created_at`` and changed last at
    ``updated_at``. ``spent``: tokens and micro-dollars. ``attempts``: how the last ones ended; ``block``: why it is
    held up, and ``blocks`` how often for each kind. ``result`` and ``summary``, or ``failure``, are what came of it.
    ``comments``: how many there are; ``attachments``: the name, type, size and digest of each. ``wake``: when it is to
    be looked at, whatever happens. ``version_tag``: the store's version of it.
    """

    id: str
    title: str
    state: State = "ready"
    body: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    assignee: str | None = None
    reviewer: str | None = None
    author: str | None = None
    """Who did the work that is reviewed."""
    created_by: str | None = None
    pool: str | None = None
    key: str | None = None
    parents: list[list[str]] = field(default_factory=list)
    workflow: str | None = None
    input: Any = None
    chain: list[str] = field(default_factory=list)
    """The workflows that it comes of, root first: those of the run whose step made it, and of what that came of."""
    run: str | None = None
    """The run that the present claim has started."""
    not_before: int | None = None
    ttl: int = round(CLAIM_SECONDS * 1000)
    max_time: int | None = None
    stall: int | None = None
    max_failures: int = MAX_FAILURES
    backoff: int = 0
    budget: list[Any] | None = None
    spent: list[int] = field(default_factory=lambda: [0, 0])
    reserved: list[int] | None = None
    """What the run may still spend of the board's budget."""
    stopping: str | None = None
    """A run of it that was asked to end, since the task has."""
    claim: dict[str, Any] | None = None
    epoch: int = 0
    failures: int = 0
    """In a row; a success, an unblock and a reopening begin anew."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    block: dict[str, Any] | None = None
    blocks: dict[str, int] = field(default_factory=dict)
    result: Any = None
    summary: str = ""
    failure: dict[str, Any] | None = None
    outcome: str | None = None
    comments: int = 0
    attachments: list[dict[str, Any]] = field(default_factory=list)
    pages: str | None = None
    """The last of its children that was told of its end, while not all have been."""
    wake: int | None = None
    created_at: int = 0
    entered_at: int = 0
    updated_at: int = 0
    version_tag: str = ""

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return stored.to_map(self)

    @classmethod
    def from_map(cls, values: Any, version_tag: str = "") -> Task:
        """The task of a stored map; ERR_STORE for what is none. What a newer version added is left out.

        ``version_tag``: the store's version of it.
        """
        made = stored.from_map(cls, values, version_tag, "a task in the store is damaged: restore it")
        if made.state not in STATES or type(made.id) is not str:
            raise StoreError("a task in the store is damaged or of a newer version: upgrade, or restore it")
        return made

    @property
    def ended(self) -> bool:
        """Done, failed, cancelled or archived."""
        return self.state in ENDED

    @property
    def lane(self) -> str:
        """Whose queue it stands in: an assignee's, nobody's, or that of a workflow."""
        if self.state == "review":
            return f"a={self.reviewer or ''}"
        whose = f"w={self.workflow}" if self.workflow is not None else f"a={self.assignee or ''}"
        return whose if self.pool is None else f"{whose}{OF_POOL}{self.pool}"

    def index(self, board: str) -> str:
        """Its key in the index: in a lane the highest priority first, and then who came first."""
        rank = 500 if self.ended else 500 - self.priority
        order = f"{rank:03d}{max(0, self.entered_at):013d}"
        return keys.board(board, "q", self.state, self.lane, order, self.id)

    def order(self) -> tuple[int, int, str]:
        """Where it stands among the tasks of several lanes."""
        return -self.priority, self.entered_at, self.id

    def timer(self, board: str) -> list[str]:
        """The key of its timer, if it has one."""
        return [] if self.wake is None else [keys.timer(self.wake, keys.chore(KIND, f"{board}:{self.id}"))]

    def set_wake(self, now: int) -> None:
        """Say when it is to be looked at, whatever happens."""
        times = [] if self.pages is None else [now]
        if self.state == "scheduled" and self.not_before is not None:
            times.append(self.not_before)
        if self.claim is not None:
            began, until = self.claim["began"], self.claim["until"]
            times += [] if until is None else [until]
            times += [] if self.max_time is None else [began + self.max_time]
            times += [] if self.stall is None or self.run else [self.claim["progress"] + self.stall]
            if self.run is not None:
                times.append(now + min(_LONGEST_LOOK_MS, max(_LEAST_LOOK_MS, (now - began) // 4)))
                times = [max(now + _LEAST_LOOK_MS, each) for each in times]
        if self.stopping is not None:
            times.append(now + _LEAST_LOOK_MS)
        self.wake = min(times, default=None)

    def overdue(self, now: int) -> str | None:
        """Why whoever holds it is to lose it: ``expired``, ``timed_out``, ``stalled``; None where nothing is wrong."""
        if self.claim is None:
            return None
        until = self.claim["until"]
        if until is not None and until <= now:
            return "expired"
        if self.max_time is not None and self.claim["began"] + self.max_time <= now:
            return "timed_out"
        if self.stall is not None and self.run is None and self.claim["progress"] + self.stall <= now:
            return "stalled"
        return None

    def rest(self, parents: list[Task | None], now: int) -> State:
        """Where it rests once nobody holds it. ``parents``: those of ``parents``, None for one that was purged."""
        open_ = False
        for (ref, gate), parent in zip(self.parents, parents, strict=True):
            if parent is None or (parent.ended and (gate == "ended" or parent.outcome == "done")):
                continue
            if parent.ended:
                self.block = {"kind": "parent", "reason": f"{ref} ended {parent.outcome}", "by": None, "at": now}
                return "blocked"
            open_ = True
        if self.block is not None and self.block["kind"] == "parent":
            self.block = None
        if self.block is not None:
            return "blocked"
        if open_:
            return "todo"
        if self.not_before is not None and self.not_before > now:
            return "scheduled"
        self.not_before = None
        return "ready"

    def close_attempt(self, outcome: str, now: int, text: str = "") -> None:
        """Nobody holds it any more: remember how that attempt ended, and ``text``, why."""
        assert self.claim is not None
        self.attempts.append(
            {
                "epoch": self.epoch,
                "worker": self.claim["worker"],
                "role": self.claim["role"],
                "began": self.claim["began"],
                "ended": now,
                "outcome": outcome,
                "text": text[:500],
                "run": self.run,
            }
        )
        del self.attempts[:-KEPT_ATTEMPTS]
        self.claim = self.run = None


def check_board(name: object) -> str:
    """``name`` as a board's: without a colon, which stands between it and a task's id in timers."""
    found = check_id(name, "a board's name")
    if ":" in found or len(found) > 60:
        raise InvalidInput("a board's name has at most 60 characters, and no colon among them")
    return found


def check_task_id(id: object) -> str:
    """``id`` as a task's: the id of its runs holds it, and the board's name."""
    found = check_id(id, "a task's id")
    if len(found) > 80:
        raise InvalidInput("a task's id has at most 80 characters")
    return found


def check_ref(ref: object, board: str) -> str:
    """``ref`` as ``board`` names a task: by its id, or ``other/id`` for a task of another board of the store."""
    home, id = place_of(board, ref) if isinstance(ref, str) else (board, ref)
    return seen_from(board, check_board(home), check_task_id(id))


def place_of(board: str, ref: str) -> tuple[str, str]:
    """Board and id of the task that ``board`` names ``ref``."""
    other, slash, id = ref.partition("/")
    return (other, id) if slash else (board, ref)


def seen_from(board: str, home: str, ref: str) -> str:
    """How ``board`` names the task that board ``home`` names ``ref``."""
    other, id = place_of(home, ref)
    return id if other == board else f"{other}/{id}"


def shown_block(task: Task) -> str:
    """Why it is blocked, in words."""
    if task.block is None:
        return ""
    kind = task.block["kind"]
    return f"{kind}: {task.block['reason'] or BLOCKS.get(kind, '')}"
