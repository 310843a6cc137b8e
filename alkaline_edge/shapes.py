"""The shapes of what comes in from outside: each item of each event, of the header, of the record and of requests.

One table each. What passes here can still be nonsense, which a replay refuses in words; it can't be of a type that any
reader trips over. An item that holds a text, bytes, a list or a map may stand in a blob instead (SPEC.md, "Events").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from . import events as ev
from .codec import BlobRef
from .errors import InvalidInput
from .events import Event
from .limits import MAX_ID
from .names import check_id
from .runs import STATUSES

Shape = Callable[[Any], bool]
Fits = Callable[[Shape, Any], bool]
"""Whether an item is of a shape, or the large value that it refers to."""
_MOST = 2**63
_LAST_MS = 253_402_300_800_000
"""Milliseconds from 1970 to the year 10000, where Python's calendar ends."""


def _text(value: Any) -> bool:
    return type(value) is str


def _code(value: Any) -> bool:
    """What an error calls itself: a text, or a number such as an HTTP status."""
    return type(value) is str or (type(value) is int and -_MOST < value < _MOST)


def _name(value: Any) -> bool:
    """The name of a type: it becomes a class of that name."""
    return type(value) is str and "\0" not in value


def _id(value: Any) -> bool:
    try:
        return bool(check_id(value))
    except InvalidInput:
        return False


def _flag(value: Any) -> bool:
    return type(value) is bool


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _time(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LAST_MS


def _crc(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**32)


def _digest(value: Any) -> bool:
    return type(value) is bytes


def _map(value: Any) -> bool:
    return type(value) is dict


def _any(value: Any) -> bool:
    return True


def _maybe(shape: Shape) -> Shape:
    return lambda value: value is None or shape(value)


def _blob(shape: Shape) -> Shape:
    return lambda value: type(value) is BlobRef or shape(value)


def _list(shape: Shape) -> Shape:
    return lambda value: type(value) is list and all(map(shape, value))


def _row(*shapes: Shape) -> Shape:
    return lambda value: (
        type(value) is list
        and len(value) == len(shapes)
        and all(shape(item) for shape, item in zip(shapes, value, strict=True))
    )


def _one_of(*values: str) -> Shape:
    return lambda value: type(value) is str and value in values


def _fields(wanted: dict[str, Shape], may: dict[str, Shape]) -> Shape:
    both = {**wanted, **may}
    return lambda value: (
        type(value) is dict
        and wanted.keys() <= value.keys()
        and all(key not in both or both[key](item) for key, item in value.items())
    )


_usd: Shape = lambda value: type(value) in (int, float)  # noqa: E731  # a line of the table below
_share: Shape = lambda value: type(value) in (int, float) and 0 < value <= 1  # noqa: E731
_sum = _row(_count, _count)
_amounts = _row(_count, _count, _count)
_failure = _fields({"type": _name, "message": _text}, {"code": _maybe(_code), "detail": _any})
_failure_or_blob = _blob(_failure)
_totals = _maybe(_list(_sum))
_call = (_text, _text, _crc)
_reason = _blob(_maybe(_text))

EVENTS: dict[type[Any], tuple[Shape, ...]] = {
    ev.Started: (_map, _any),
    ev.StepCompleted: (*_call, _any),
    ev.StepFailed: (*_call, _failure_or_blob),
    ev.AttemptFailed: (*_call, _count, _failure_or_blob, _time),
    ev.StepIntended: _call,
    ev.StepCharged: (_text, _count, _count, _blob(_totals)),
    ev.TimerFired: (_text,),
    ev.SignalReceived: (_text, _text, _any),
    ev.Drawn: (_one_of("now", "random", "uuid", "patched"), _any),
    ev.Spent: (_count, _count, _blob(_text), _flag, _blob(_totals)),
    ev.ChildStarted: (_text, _text, _crc, _id),
    ev.ChildFinished: (_text, _one_of("completed", "failed", "cancelled"), _any),
    ev.CancelRequested: (_reason,),
    ev.Paused: (),
    ev.Resumed: (),
    ev.UpdateReceived: (_text, _text, _any),
    ev.UpdateReplied: (_text, _flag, _any),
    ev.Emitted: (_text, _any),
    ev.Completed: (_any,),
    ev.Failed: (_failure_or_blob,),
    ev.Cancelled: (_reason,),
    ev.ContinuedAsNew: (_any,),
    ev.Retried: (_blob(_list(_row(_count, _count, _count, _count))), _count, _count),
    ev.ToppedUp: (_count, _count, _count),
}
"""The shape of each item of each event, behind its kind."""

_DRAWN: dict[str, Shape] = {
    "now": _time, "random": lambda value: type(value) is float and 0 <= value < 1, "uuid": _text, "patched": _text,
}  # fmt: skip

HEADER: dict[str, Shape] = {
    "id": _id, "run": _id, "workflow": _id, "version": _count, "generation": _count,
    "parent": _maybe(_list(_text)), "chain": _list(_text), "max_depth": _count,
    "accounts": _list(_row(_id, _maybe(_count), _maybe(_count))), "shared": _flag, "spent": _sum,
    "totals": _list(_sum), "carried": _list(_row(_text, _text, _any)), "forked_from": _maybe(_row(_id, _count)),
    "loop": _count,
    "policy": _maybe(_row(_one_of("fail", "pause"), _maybe(_share), _maybe(_count), _maybe(_time))),
}  # fmt: skip

RECORD_NEEDS = ("run", "workflow", "version", "status", "created_at", "updated_at")
"""What a whole record has; a part holds some of its fields."""
RECORD: dict[str, Shape] = {
    "created_at": _time,
    "id": _id, "run": _id, "workflow": _id, "version": _count, "generation": _count, "updated_at": _time,
    "status": _one_of(*STATUSES), "attempt": _count,
    "spent": _fields({"tokens": _count, "usd": _usd}, {}), "waiting": _list(_text), "wake_at": _maybe(_count),
    "parent": _maybe(_id), "depth": _count, "attributes": _map, "failure": _maybe(_failure), "cursor_length": _count,
    "head": _digest, "epoch": _count, "owner": _maybe(_text), "lease_until": _count, "moved_to": _maybe(_text),
    "ahead": _count, "ahead_since": _count, "doubted_since": _count, "clocks": _list(_count), "copy": _flag,
    "retried": _count, "topped_up": lambda value: value == [] or _amounts(value),
}  # fmt: skip

_child = _row(_text, _count, _one_of("completed", "failed", "cancelled"), _any, _maybe(_id))
REQUESTS: dict[str, Shape] = {
    "signal": _any, "update": _any, "cancel": _maybe(_text), "pause": lambda value: value is None,
    "resume": lambda value: value is None, "child": _child,
}  # fmt: skip
"""The payload of each kind of request."""


def as_it_stands(shape: Shape, item: Any) -> bool:
    """Whether ``item`` is of that shape, where its large values are not at hand."""
    return shape(item)


def check_event(event: Event, fits: Fits = as_it_stands) -> None:
    """InvalidInput for an event with an item that its kind does not have."""
    cls = type(event)
    for name, shape, item in zip(cls._fields[1:], EVENTS[cls], event[1:], strict=True):
        if shape is not _any and not fits(shape, item):
            raise _wrong(f"{name} of {cls.__name__}", item)
    match event:
        case ev.Started():
            check_header(event.header, fits)
        case ev.Retried() if type(event.void) is list and any(a < 1 or (a, b) >= (c, d) for a, b, c, d in event.void):
            raise _wrong("a range of a Retried", event.void)
        case ev.Drawn() if not fits(_DRAWN[event.what], event.value):
            raise _wrong(f"a drawn {event.what}", event.value)
        case ev.ChildFinished() if event.outcome != "completed" and not fits(_failure_or_blob, event.value):
            raise _wrong("the failure of a child", event.value)
        case ev.UpdateReplied() if not event.ok and not fits(_failure_or_blob, event.value):
            raise _wrong("the failure of an update", event.value)
        case _:
            pass


def check_header(header: dict[str, Any], fits: Fits = as_it_stands) -> None:
    """InvalidInput for a header with a field that is none."""
    for name, shape in HEADER.items():
        if name in header and not fits(shape, header[name]):
            raise _wrong(f"{name} of the header", header[name])
    parent, accounts = header.get("parent"), header.get("accounts", [])
    if parent is not None and not (len(parent) == 4 and _id(parent[0]) and re.fullmatch("[0-9]{1,18}", parent[3])):
        raise _wrong("parent of the header", parent)
    if len(header.get("totals", accounts)) != len(accounts) or not header.get("chain", [""]):
        raise InvalidInput("the header's accounts and totals, or its chain of workflows, don't fit: refused")


def check_history(history: Iterable[list[tuple[int, Event]]], fits: Fits = as_it_stands, first: int = 0) -> None:
    """InvalidInput for commits, from number ``first`` on, that are not of the shape that a history has.

    ``fits`` looks at large values, which are of the shape of what they stand for.
    """
    ended: Any = None
    last: type[Event] | None = None
    before = 0
    for n, commit in enumerate(history, first):
        if not commit:
            raise InvalidInput(f"commit {n} holds no event: refused")
        if _time(commit[0][0]) and commit[0][0] < before:
            raise InvalidInput(f"commit {n} is earlier than the one before it: refused, recorded time never goes back")
        before = commit[0][0]
        for place, (time_ms, event) in enumerate(commit):
            if type(event[0]) is not int:  # true, which Python takes for 1
                raise _wrong(f"the kind of an event in commit {n}", event[0])
            again = type(event) is ev.Retried and event.void != [] and not (first and n == first)
            if again and not place and ended in (ev.FAILED, ev.CANCELLED):
                ended = None
            elif again or ended is not None or not _stands(type(event), n, place, last):
                raise InvalidInput(f"commit {n} has an event that stands in no history at that place: refused")
            if not _time(time_ms):
                raise _wrong(f"the time of commit {n}", time_ms)
            check_event(event, fits)
            ended, last = event[0] if event[0] in ev.ENDINGS else None, type(event)


def _stands(kind: type[Event], commit: int, place: int, last: type[Event] | None) -> bool:
    """Whether an event of that kind may stand there, behind ``last``."""
    if kind is ev.ToppedUp:
        return place > 0 and last is ev.Retried
    return (kind is ev.Started) == (commit == 0 and place == 0)


def check_record(values: dict[str, Any], needs: Iterable[str] = ()) -> None:
    """InvalidInput for a record from outside that a store can't hold, or that lacks one of ``needs``."""
    for name in needs:
        if name not in values:
            raise InvalidInput(f"the record lacks {name}: nothing was written")
    for name, value in values.items():
        if not RECORD.get(name, _any)(value):
            raise _wrong(f"{name} of the record", value)
    for key, value in values.get("attributes", {}).items():
        check_id(key, "an attribute's name")
        if type(value) not in (str, int, float, bool):
            raise _wrong(f"attribute {key!r} of the record", value)


def check_request(entry: Any, stored: bool = False) -> None:
    """InvalidInput for a request that a run could not read.

    ``stored``: it is in a store, where its payload may stand in a blob, and a newer version may have sent it.
    """
    whole = (
        isinstance(entry, list) and len(entry) in (4, 5) and all(map(_text, entry[:3])) and all(map(_time, entry[4:]))
    )
    fits = whole and (stored if type(entry[3]) is BlobRef else REQUESTS.get(entry[1], _any)(entry[3]))
    if not fits or not (stored or 0 < len(entry[0]) <= MAX_ID):
        raise InvalidInput("a request must be [entry, kind, name, payload, accepted]: nothing was written")
    if entry[1] not in REQUESTS and not stored:
        raise InvalidInput(f"a request of kind {entry[1][:40]!r} is unknown; a newer alkaline_edge sent it: upgrade")


def check_shared(account: Any) -> None:
    """InvalidInput for a shared account from outside that is none."""
    if not _row(_id, _count, _count)(account):
        raise InvalidInput("shared accounts must be [run, tokens, micro-usd]: nothing was written")


def _wrong(what: str, value: Any) -> InvalidInput:
    return InvalidInput(f"{what} is not of the shape that it has in a history ({type(value).__name__}): refused")
