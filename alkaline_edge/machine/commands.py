"""What the handler asks for: the commands of a run, in the imperative.

A command is identified by ``id``: its place in the order in which its scope issued commands, such as ``3`` for the
third of the handler itself or ``2.1`` for the first of the second thing the handler started.

A new kind is a class here and in the unions below, and has an answer to each of these: who carries it out
(``Driver._obey``), which event answers it (``Execution._apply``), and what becomes of it when nobody awaits it any more
(``Pending.withdraw``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..names import Need
from ..retry import Retry
from ..structs import dataclass


class RunStep:
    """Run ``fn(*args, **kwargs)`` outside of the handler. ``attempt`` and ``not_before_ms`` move with its retries.

    ``began_ms``: when its last attempt began here, by the host's clock; 0 before.
    """

    verb: ClassVar[str] = "step"
    __slots__ = (
        "args",
        "at_most_once",
        "attempt",
        "began_ms",
        "compensate",
        "cost",
        "digest",
        "fn",
        "id",
        "intended",
        "kwargs",
        "limits",
        "name",
        "not_before_ms",
        "reserved",
        "retry",
        "timeout",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        name: str,
        digest: int | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.id, self.name, self.digest = id, name, digest
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.retry: Retry | None = None
        self.timeout: float | None = None
        self.at_most_once = False
        self.compensate: Callable[..., Any] | None = None
        self.cost: Any = None
        self.limits: tuple[Need, ...] = ()
        self.reserved: tuple[int, int] = (0, 0)
        self.attempt = 1
        self.began_ms = 0
        self.not_before_ms = 0
        self.intended = False

    @property
    def outlives(self) -> bool:
        """Whether its completion counts though nobody waits for it: it is to be undone, or has cost something."""
        return self.compensate is not None or self.cost is not None


class StartTimer:
    """Wake the handler at ``deadline_ms``. ``name`` says what for: sleep, timeout, or the loop's call_later.

    ``is_date``: the deadline is a date of the world's clock, not a delay from the recorded time ``begun_ms``.
    """

    verb: ClassVar[str] = "timer"
    __slots__ = ("begun_ms", "deadline_ms", "fire", "id", "is_date", "name")

    def __init__(
        self, id: str, name: str, begun_ms: int, deadline_ms: int, fire: Callable[[], None], is_date: bool = False
    ) -> None:
        self.id, self.name, self.fire, self.is_date = id, name, fire, is_date
        self.begun_ms, self.deadline_ms = begun_ms, deadline_ms


class AwaitSignal:
    """Wake the handler when a signal of ``name`` arrives. Nothing to do for the runtime: it says what is waited for."""

    verb: ClassVar[str] = "signal"
    __slots__ = ("id", "name")

    def __init__(self, id: str, name: str) -> None:
        self.id, self.name = id, name


@dataclass(slots=True, eq=False)
class StartChild:
    """Create the run ``child`` and tell how it ended. ``started`` once the history says that it was created."""

    verb: ClassVar[str] = "child"
    id: str
    name: str
    digest: int | None
    version: int | None
    child: str
    input: Any
    budget: tuple[int | None, int | None] | None
    on_parent_close: str
    started: bool = False
    former: str | None = None
    """The id that 0.1 gave the child, which a history may hold."""


@dataclass(slots=True, eq=False)
class CancelChild:
    """Ask the child run to end: its waiter is gone."""

    verb: ClassVar[str] = "cancel-child"
    id: str
    child: str


@dataclass(slots=True, eq=False)
class ReplyToUpdate:
    """Store the answer to the update ``id`` (the inbox entry)."""

    verb: ClassVar[str] = "reply"
    id: str
    ok: bool
    value: Any
    error: BaseException | None = None
    """What the handler raised, for the log."""


Command = RunStep | StartTimer | AwaitSignal | StartChild | CancelChild | ReplyToUpdate
Waitable = RunStep | StartTimer | AwaitSignal | StartChild


def describe(command: Waitable) -> str:
    """``step 'search' (command 3)``: how messages name a command."""
    return f"{command.verb} {command.name!r} (command {command.id})"
