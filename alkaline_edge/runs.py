"""What a run is: its header in the history, what a handler may know of it, and its record in the store."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal

from .errors import StoreError
from .events import FORMAT_VERSION, LOOP_RULES
from .limits import MAX_ID
from .names import check_name
from .structs import NamedTuple, dataclass, field

Status = Literal["running", "suspended", "completed", "failed", "paused", "cancelled"]
ANCESTRY: ContextVar[tuple[str, ...]] = ContextVar("ancestry", default=())
"""The workflows of the run whose step is under way here, root first, or those that a task came of which is worked on:
what is made meanwhile comes of them too."""
NOT_BEGUN = "timer start_at"
"""What a run waits for whose time to begin has not come."""


class State(NamedTuple):
    """What is known of all runs of a status."""

    finished: bool
    """Nothing of the run changes any more."""
    colour: str
    """In a terminal."""


STATES: dict[Status, State] = {
    "running": State(False, "cyan"),
    "suspended": State(False, "yellow"),
    "completed": State(True, "green"),
    "failed": State(True, "red"),
    "paused": State(False, "magenta"),
    "cancelled": State(True, "bright_black"),
}
STATUSES: tuple[Status, ...] = tuple(STATES)
FINISHED: frozenset[str] = frozenset(status for status, state in STATES.items() if state.finished)


@dataclass(slots=True)
class Header:
    """The map in the Started event: all that the machine must know before the first step. It never changes."""

    id: str
    run: str
    workflow: str
    version: int
    generation: int = 0
    parent: list[str] | None = None
    """id, random run id and command id of the parent; None for a root."""
    chain: list[str] = field(default_factory=list)
    """Names of the ancestors' workflows, root first, and of this one."""
    max_depth: int = 16
    accounts: list[list[Any]] = field(default_factory=list)
    """Budgets to spend from, this run's own last: [random run id, tokens or None, micro-usd or None]."""
    shared: bool = False
    """The accounts are shared with other runs from the start."""
    spent: list[int] = field(default_factory=lambda: [0, 0])
    """Charges of earlier generations: tokens, micro-usd."""
    totals: list[list[int]] = field(default_factory=list)
    """What was spent on each account when this history began."""
    carried: list[list[Any]] = field(default_factory=list)
    """Signals that an earlier generation left: [entry, name, payload]."""
    forked_from: list[Any] | None = None
    policy: list[Any] | None = None
    """What the budget says beside its limits, see ``Purse.policy``; stored where there is something."""
    loop: int = LOOP_RULES
    """The rules of the handler's loop. 1, which is not stored: those of 0.1, the asyncio of the Python that ran it."""

    @property
    def depth(self) -> int:
        """0 for a root."""
        return len(self.chain) - 1

    @property
    def former(self) -> bool:
        """Whether 0.1 wrote the history."""
        return self.loop == 1

    def by_our_rules(self) -> Header:
        """This header as it would be if the history had been written by the rules of today."""
        return Header.from_map({**self.to_map(), "loop": LOOP_RULES})

    def child_ids(self, command: str) -> tuple[str, str | None]:
        """The id of a child that was given none; and the one that 0.1 gave it, which a history may hold.

        The generation has a sign of its own: behind a ``~`` it would read as the command of a grandchild.
        """
        if not self.generation:
            return self._fitting("", command), None
        return self._fitting(f"+{self.generation}", command), self._fitting(f"~{self.generation}", command)

    def _fitting(self, generation: str, command: str) -> str:
        id = f"{self.id}{generation}~{command}"
        return id if len(id) <= MAX_ID else f"{self.run}{generation}~{command}"

    def to_map(self) -> dict[str, Any]:
        """What the Started event holds."""
        values = {name: getattr(self, name) for name in self.__slots__}
        if self.former:
            del values["loop"]
        if self.policy is None:
            del values["policy"]
        return {"format": FORMAT_VERSION, **values}

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> Header:
        """The header of a Started event; ERR_STORE when a newer version wrote it."""
        if not isinstance(values, dict):
            raise StoreError("the history's header is not a map: it is damaged, restore it")
        version = values.get("format")
        if type(version) is not int or version != FORMAT_VERSION:
            raise StoreError(
                f"the history is of format {version}, and this alkaline_edge reads format {FORMAT_VERSION}; upgrade to "
                f"a version that reads format {version}. Nothing was changed",
                format=version,
            )
        rules = values.get("loop", 1)
        if type(rules) is not int or not 1 <= rules <= LOOP_RULES:
            raise StoreError(
                f"the history was written by rules {rules!r} of the handler's loop, and this alkaline_edge knows those "
                f"up to {LOOP_RULES}; upgrade to a version that knows them. Nothing was changed",
                loop=rules,
            )
        try:
            needed = {name: values[name] for name in cls.__slots__ if name not in ("loop", "policy")}
            return cls(**needed, policy=values.get("policy"), loop=rules)
        except KeyError as missing:
            raise StoreError(f"the history's header lacks {missing.args[0]!r}: it is damaged, restore it") from None


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """``ctx.execution``: what a handler may know of its run. ``attempt`` counts replay passes: never branch on it.

    ``id`` is what callers name the run by, ``run`` the random id that it keeps wherever it is moved, ``generation`` how
    often it has continued as new. ``workflow`` and ``version`` say what it runs. ``parent`` is the id of the run that
    started it, None for a root, and ``depth`` how many ancestors it has.
    """

    id: str
    workflow: str
    version: int
    parent: str | None
    depth: int
    attempt: int
    run: str
    generation: int

    def idempotency_key(self, step: str) -> str:
        """The stable key of ``step`` (a name, or a command's id) in this run: pass it to the service you call."""
        return f"{self.run}.{self.generation}.{step}"


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What a step may know: give the step function a parameter annotated ``StepInfo`` to get it.

    ``idempotency_key`` is the same for every attempt of this step, in every process; ``attempt`` is 1 at first.
    ``run_id`` is the id of the run, ``step`` the step's name and ``command_id`` its place in the handler.
    """

    run_id: str
    step: str
    command_id: str
    attempt: int
    idempotency_key: str

    def publish(self, topic: str, data: Any = None) -> None:
        """Show ``data`` to whoever watches the run in this process now: a model's tokens as they come, a progress.

        They hear ``Published``, and ``runtime.follow(id, live=True)`` and the stream over HTTP pass it on. It is never
        recorded and nobody may need it: who comes later, or watches from another process, gets the step's result alone.
        An attempt that is tried again publishes again; ``attempt`` tells them apart. May be called from any thread.
        ERR_INVALID_INPUT for data that can't be stored, or takes more than 64 KiB.
        """
        check_name(topic, "a topic")  # here nobody watches: what a step is called with by a test of its own


@dataclass(slots=True)
class ExecutionRecord:
    """A run as the store knows it. Times are milliseconds since 1970; ``spent`` is tokens and usd.

    ``id`` is what callers name it by, ``run`` the random id that it keeps wherever it is moved. ``workflow`` and
    ``version`` say what it runs, ``parent`` is the id of the run that started it and ``depth`` how many ancestors it
    has. ``status`` is where it stands. It was made at ``created_at``, and written last at ``updated_at``.
    ``generation``: how often it has continued as new; ``attempt``: how often it was replayed. ``result``, or
    ``failure`` with ``type`` and ``message``, is how it ended; ``attributes`` are what lists find it by; ``moved_to``
    is where it went. ``owner``, ``lease_until`` and ``epoch`` are the lease: the epoch goes up with each new owner.
    ``head`` is the digest of the last commit. ``waiting`` says in words what a suspended run waits for, ``wake_at``
    when a timer is next due. ``cursor_length`` is the number of commits. ``ahead``: by how many ms recorded time is
    ahead of the clock, after a clock that was, and ``ahead_since``: up to which recorded time it was not;
    ``doubted_since``: since when, by the clock, it is not known whether the recorded time is ahead or the clock is
    behind; stored where they are not 0. ``clocks``: the clock when the owner before the last one wrote the record, and
    when it was written last.
    """

    id: str
    run: str
    workflow: str
    version: int
    status: Status
    created_at: int
    updated_at: int
    generation: int = 0
    attempt: int = 0
    spent: dict[str, Any] = field(default_factory=lambda: {"tokens": 0, "usd": 0.0})
    cursor_length: int = 0
    head: bytes = b""
    waiting: list[str] = field(default_factory=list)
    wake_at: int | None = None
    parent: str | None = None
    depth: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    lease_until: int = 0
    epoch: int = 0
    result: Any = None
    failure: dict[str, Any] | None = None
    moved_to: str | None = None
    ahead: int = 0
    ahead_since: int = 0
    doubted_since: int = 0
    clocks: list[int] = field(default_factory=list)
    copy: bool = False
    """It goes on in another store, as far as is known here: it stays paused, and its requests wait, until somebody
    resumes it or the run is handed over to this store. Stored where it is true."""
    retried: int = 0
    """So often it has failed and was tried again in its present history. Stored where it is not 0."""
    topped_up: list[int] = field(default_factory=list)
    """What the limits of its budget are raised by once it is tried again: tokens, micro-usd and ms. It has failed of
    its budget then, and was topped up since. Stored where there is something."""
    version_tag: str = ""
    """The store's version of this record: what a conditional commit checks. Not part of the stored map."""

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        values = dict(zip(_ALWAYS, _always(self), strict=True))
        for name, value in zip(_WHERE_SET, _where_set(self), strict=True):
            if value:
                values[name] = value
        return values

    @classmethod
    def from_map(cls, values: dict[str, Any], version_tag: str) -> ExecutionRecord:
        """The record of a stored map. Fields of a newer version are left out, missing ones get their defaults."""
        if not values.keys() <= _STORED:
            values = {name: value for name, value in values.items() if name in _STORED}
        return cls(**values, version_tag=version_tag)

    @property
    def finished(self) -> bool:
        """Completed, failed or cancelled."""
        return self.status in FINISHED

    @property
    def begins_at(self) -> int | None:
        """When a run that was started with ``start_at`` begins, ms since 1970; None once it has begun."""
        return self.wake_at if self.waiting == [NOT_BEGUN] else None

    def begin_at(self, at: int) -> None:
        """The run begins at ``at`` (ms since 1970), and not before."""
        self.waiting, self.wake_at = [NOT_BEGUN], at

    def end_cancelled(self, reason: str | None) -> None:
        """The run is over, and nobody's."""
        self.owner, self.lease_until, self.waiting, self.wake_at = None, 0, [], None
        self.status = "cancelled"
        message = f"run {self.id!r} was cancelled" + (f": {reason}" if reason else "")
        self.failure = {"type": "RunCancelled", "message": message, "code": "ERR_CLOSED", "detail": {"reason": reason}}

    @property
    def created(self) -> datetime:
        """``created_at`` as an aware datetime."""
        return datetime.fromtimestamp(self.created_at / 1000, UTC)


_WHERE_SET = ("ahead", "ahead_since", "doubted_since", "copy", "clocks", "retried", "topped_up")
_ALWAYS = tuple(name for name in ExecutionRecord.__slots__ if name not in (*_WHERE_SET, "version_tag"))
_STORED = frozenset((*_ALWAYS, *_WHERE_SET))
_always, _where_set = attrgetter(*_ALWAYS), attrgetter(*_WHERE_SET)
