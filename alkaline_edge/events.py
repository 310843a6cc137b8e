"""What happened: the events of a history, in the past tense, frozen.

In a commit an event is a list whose first item is its kind (SPEC.md, "Events"); here each kind is a named tuple with
the same items in the same order, so making one from the other is a single call. A kind that this version does not
know is refused, never skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import StoreError
from .structs import NamedTuple

FORMAT_VERSION = 1
"""The version of the history format. A commit of a higher one is refused with the version that is needed."""
LOOP_RULES = 2
"""By which the handler's loop orders and numbers what asyncio does. Each history says its own; 0.1 said none."""


class Started(NamedTuple):
    """The first event of a history. ``header`` says what the run is: see ``runs.Header``."""

    kind: int
    header: dict[str, Any]
    input: Any


class StepCompleted(NamedTuple):
    """A step returned. ``args`` is the crc32 of its canonical arguments, None where it has none."""

    kind: int
    id: str
    name: str
    args: int | None
    value: Any


class StepFailed(NamedTuple):
    """A step raised, and is not tried again."""

    kind: int
    id: str
    name: str
    args: int | None
    failure: dict[str, Any]


class AttemptFailed(NamedTuple):
    """An attempt of a step raised, and another one follows, not before ``retry_at`` (ms since 1970)."""

    kind: int
    id: str
    name: str
    args: int | None
    attempt: int
    failure: dict[str, Any]
    retry_at: int


class StepIntended(NamedTuple):
    """An at-most-once step is about to start: without an outcome behind it, it must not start again."""

    kind: int
    id: str
    name: str
    args: int | None


class StepCharged(NamedTuple):
    """What the step ``id`` cost; stands right before its StepCompleted. ``totals``: of the shared accounts."""

    kind: int
    id: str
    tokens: int
    micros: int
    totals: list[list[int]] | None


class TimerFired(NamedTuple):
    """A durable timer, sleep or timeout came due."""

    kind: int
    id: str


class SignalReceived(NamedTuple):
    """A signal arrived. ``entry`` is the inbox entry's id: the same entry is never consumed twice."""

    kind: int
    entry: str
    name: str
    payload: Any


class Drawn(NamedTuple):
    """A value that the handler drew: ``what`` is now, random, uuid or patched."""

    kind: int
    what: str
    value: Any


class Spent(NamedTuple):
    """The handler called ``ctx.spend``. ``refused``: it raised BudgetExceeded there."""

    kind: int
    tokens: int
    micros: int
    label: str
    refused: bool
    totals: list[list[int]] | None


class ChildStarted(NamedTuple):
    """A child run was created in this commit."""

    kind: int
    id: str
    workflow: str
    args: int | None
    child: str


class ChildFinished(NamedTuple):
    """A child run ended: ``outcome`` is completed, failed or cancelled; ``value`` its result or failure."""

    kind: int
    id: str
    outcome: str
    value: Any


class CancelRequested(NamedTuple):
    """Somebody asked for the run's end; the handler may clean up."""

    kind: int
    reason: str | None


class Paused(NamedTuple):
    """No new effect starts from here."""

    kind: int


class Resumed(NamedTuple):
    """Effects start again."""

    kind: int


class UpdateReceived(NamedTuple):
    """A validated update arrived. ``entry`` is the inbox entry's id, under which the reply is kept."""

    kind: int
    entry: str
    name: str
    payload: Any


class UpdateReplied(NamedTuple):
    """The update ``entry`` was answered; ``ok`` false: ``value`` is a failure."""

    kind: int
    entry: str
    ok: bool
    value: Any


class Emitted(NamedTuple):
    """The handler told whoever listens. It takes no part in replay."""

    kind: int
    topic: str
    data: Any


class Completed(NamedTuple):
    """The handler returned."""

    kind: int
    value: Any


class Failed(NamedTuple):
    """The handler raised."""

    kind: int
    failure: dict[str, Any]


class Cancelled(NamedTuple):
    """The run was cancelled, and has cleaned up."""

    kind: int
    reason: str | None


class ContinuedAsNew(NamedTuple):
    """The run goes on in a new history, which starts with ``input``."""

    kind: int
    input: Any


class Retried(NamedTuple):
    """A run that had failed goes on again. What stands in ``void`` counts no more: see ``retried``.

    ``tokens`` and ``micros`` were spent in it, and stay spent.
    """

    kind: int
    void: list[list[int]]
    tokens: int
    micros: int


class ToppedUp(NamedTuple):
    """What the limits of the run's budget were raised by before it was tried again; stands right behind a Retried."""

    kind: int
    tokens: int
    micros: int
    ms: int


Event = (
    Started | StepCompleted | StepFailed | AttemptFailed | StepIntended | StepCharged | TimerFired | SignalReceived
    | Drawn | Spent | ChildStarted | ChildFinished | CancelRequested | Paused | Resumed | UpdateReceived
    | UpdateReplied | Emitted | Completed | Failed | Cancelled | ContinuedAsNew | Retried | ToppedUp
)  # fmt: skip

STARTED, STEP_COMPLETED, STEP_FAILED, ATTEMPT_FAILED, STEP_INTENDED, STEP_CHARGED = 0, 1, 2, 3, 4, 5
TIMER_FIRED, SIGNAL_RECEIVED, DRAWN, SPENT, CHILD_STARTED, CHILD_FINISHED = 6, 7, 8, 9, 10, 11
CANCEL_REQUESTED, PAUSED, RESUMED, UPDATE_RECEIVED, UPDATE_REPLIED, EMITTED = 12, 13, 14, 15, 16, 17
COMPLETED, FAILED, CANCELLED, CONTINUED_AS_NEW, RETRIED, TOPPED_UP = 18, 19, 20, 21, 22, 23


class Kind(NamedTuple):
    """What there is to know of one kind of event, but for the shapes of its items: those are ``shapes.EVENTS``."""

    cls: type[Any]
    words: Callable[[Any], str]
    """How messages and lists name an event of the kind."""
    role: str = "wakes"
    """What a replay does with it, see the sets below; ``wakes``: it tells the handler something."""
    differs: tuple[int, ...] = ()
    """Its items that differ between any two runs: comparing leaves them out, and the id of the command."""
    named: int = 0
    """Its item that is the name which the handler or the sender gave; 0: there is none."""
    value: int = 0
    """Its item that people want to see, such as a result; 0: there is none."""
    alike: str = ""
    """What it is: events that are the same stand in each other's place, when two histories are compared."""
    colour: str = ""
    """In a terminal; none for what goes well and is nothing special."""


def _of(verb: str) -> Callable[[Any], str]:
    return lambda event: verb


KINDS: tuple[Kind, ...] = (
    Kind(Started, _of("run started"), value=2, colour="bold"),
    Kind(
        StepCompleted,
        lambda event: f"step {event.name!r} completed (command {event.id})",
        named=2,
        value=4,
        alike="outcome of a step",
    ),
    Kind(
        StepFailed,
        lambda event: f"step {event.name!r} failed (command {event.id})",
        named=2,
        value=4,
        alike="outcome of a step",
        colour="red",
    ),
    Kind(
        AttemptFailed,
        lambda event: f"attempt {event.attempt} of step {event.name!r} failed (command {event.id})",
        differs=(6,),
        named=2,
        value=5,
        colour="yellow",
    ),
    Kind(
        StepIntended,
        lambda event: f"step {event.name!r} intended, at most once (command {event.id})",
        "compared",
        named=2,
    ),
    Kind(StepCharged, lambda event: f"{event.tokens} tokens charged (command {event.id})", differs=(4,), colour="dim"),
    Kind(TimerFired, lambda event: f"a timer fired (command {event.id})"),
    Kind(
        SignalReceived,
        lambda event: f"signal {event.name!r} received",
        differs=(1,),
        named=2,
        value=3,
        colour="cyan",
    ),
    Kind(
        Drawn,
        lambda event: f"ctx.patched({event.value!r})" if event.what == "patched" else f"ctx.{event.what}()",
        "synchronous",
        named=1,
        value=2,
        colour="dim",
    ),
    Kind(
        Spent,
        lambda event: f"ctx.spend({event.tokens}, {event.label!r})",
        "synchronous",
        differs=(5,),
        named=3,
        colour="dim",
    ),
    Kind(ChildStarted, lambda event: f"child {event.workflow!r} started (command {event.id})", differs=(4,), named=2),
    Kind(ChildFinished, lambda event: f"a child {event.outcome} (command {event.id})", value=3),
    Kind(CancelRequested, _of("cancel requested"), value=1, colour="yellow"),
    Kind(Paused, _of("run paused"), "told"),
    Kind(Resumed, _of("run resumed"), "told"),
    Kind(
        UpdateReceived,
        lambda event: f"update {event.name!r} received",
        differs=(1,),
        named=2,
        value=3,
        colour="cyan",
    ),
    Kind(
        UpdateReplied,
        lambda event: "update answered" if event.ok else "update refused by its handler",
        "told, compared",
        differs=(1,),
        value=3,
    ),
    Kind(Emitted, lambda event: f"emitted on {event.topic!r}", "told", named=1, value=2),
    Kind(Completed, _of("run completed"), "ends", value=1, alike="ending", colour="bold green"),
    Kind(Failed, _of("run failed"), "ends", value=1, alike="ending", colour="bold red"),
    Kind(Cancelled, _of("run cancelled"), "ends", value=1, alike="ending", colour="bright_black"),
    Kind(ContinuedAsNew, _of("run continued as new"), "ends", value=1, alike="ending"),
    Kind(Retried, _of("run tried again"), "synchronous", differs=(1, 2, 3), colour="yellow"),
    Kind(ToppedUp, _of("run topped up"), "synchronous", differs=(1, 2, 3), colour="yellow"),
)
"""Every kind, at the place of its number. A new one is a class, a number, an entry here, one in ``shapes.EVENTS``, one
in SPEC.md, and what ``Execution._apply`` does with it; tests/test_events.py fails where one of them is forgotten."""


def _with_role(role: str) -> frozenset[int]:
    return frozenset(number for number, kind in enumerate(KINDS) if role in kind.role)


CLASSES: tuple[type[Any], ...] = tuple(kind.cls for kind in KINDS)
"""The class of each kind, by its number."""
SYNCHRONOUS = _with_role("synchronous")
"""Kinds that a handler consumes without awaiting: they follow the event that woke it."""
AGAIN = frozenset({RETRIED, TOPPED_UP})
"""Kinds by which a run goes on behind its end."""
INFORMATIONAL = _with_role("told")
"""Kinds that tell the handler nothing: it is not fed them when they have just been committed."""
ENDINGS = _with_role("ends")
"""Kinds that end a history."""
COMPARED = _with_role("compared")
"""Kinds that a replay compares with what the handler has asked for at their place, and that wake nobody."""
SPECIAL = (INFORMATIONAL | ENDINGS) - COMPARED
"""Kinds that have no place of their own in a replay."""

LENGTHS = tuple(len(cls._fields) for cls in CLASSES)


def event_of(raw: list[Any]) -> Event:
    """The event of a decoded list. ERR_STORE for an unknown kind or a wrong shape."""
    try:
        kind = raw[0]
        if len(raw) == LENGTHS[kind] and kind >= 0:
            found: Event = tuple.__new__(CLASSES[kind], raw)
            return found
    except (IndexError, KeyError, TypeError):
        pass
    raise _unreadable(raw)


def _unreadable(raw: Any) -> StoreError:
    if isinstance(raw, list) and raw and isinstance(raw[0], int) and raw[0] >= len(CLASSES):
        return StoreError(
            f"the history holds an event of kind {raw[0]}, which a newer alkaline_edge wrote (this one reads format "
            f"{FORMAT_VERSION}, kinds 0 to {len(CLASSES) - 1}); upgrade to read it. Nothing was changed",
            kind=raw[0],
        )
    return StoreError("the history holds an event of a shape that its kind does not have: it is damaged")


def with_items(event: Event, items: list[Any]) -> Event:
    """``event`` with other items in the same places."""
    changed: Event = tuple.__new__(type(event), items)
    return changed


def name_of(event: Event) -> str:
    """``StepCompleted`` for a step that completed, and so on: what people read."""
    return type(event).__name__


def describe(event: Event) -> str:
    """``step 'search' completed (command 3)``: how messages name an event."""
    return KINDS[event[0]].words(event)


def given_name(event: Event) -> str | None:
    """The name that the handler or the sender gave to what happened; None for what has none."""
    place = KINDS[event[0]].named
    name = event[place] if place else None
    return name if isinstance(name, str) else None  # a long label stands in a blob
