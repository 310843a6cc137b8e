"""What to change in code that does not go on with a history: a way to keep what the old runs have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .. import events as ev
from ..errors import DeterminismError
from ..events import Event

_NAME = re.compile(r"^(step|child|timer|signal) '([^']*)'")
_WORD = re.compile(r"[^A-Za-z0-9]+")
_FITTING = "fitting"
_LONGEST = 60


def mend(error: DeterminismError, events: list[Event], version: int) -> str:
    """What would let the run go on: which calls to put behind ``ctx.patched``, or which ``version=`` to raise.

    ``events``: the whole history; ``version``: that of its workflow. For code that stands still at the history's end,
    it says what to await instead.
    """
    position = place(error, events)
    if position is None:
        return "await only what ctx gives: put what is awaited there into a function, and call it with ctx.step"
    event = events[position]
    code = str(error.detail.get("code", ""))
    return f"{_patched(event, code, events)}; or leave these runs to the code that they began with: {_raise(version)}"


def place(error: DeterminismError, events: list[Event]) -> int | None:
    """The number of the event at which ``error`` says that code and history disagree; None where it is none of them.

    The machine counts what wakes the handler and what it draws. Whoever looks at a history counts every event.
    """
    counted, history = error.detail.get("position"), error.detail.get("history")
    if not isinstance(counted, int):
        return None
    found = next((n for n in range(counted, len(events)) if ev.describe(events[n]) in str(history)), None)
    return found if found is not None else min(counted, len(events) - 1)


def unknown(name: str, version: int, known: Iterable[tuple[str, int]]) -> str:
    """What would let a run of ``name`` and ``version`` go on with code whose workflows are the ``known`` ones."""
    versions = sorted(number for label, number in known if label == name)
    if versions:
        return (
            f"keep the definition with version={version} beside version={versions[-1]}, and register both, until its "
            "last run has ended"
        )
    return f'keep the workflow of that name until its last run has ended; one that was renamed says name="{name}"'


def _raise(version: int) -> str:
    return f"give the changed workflow version={version + 1}, and register version={version} beside it"


def _patched(event: Event, code: str, events: list[Event]) -> str:
    has, given = _call(event), _NAME.match(code)
    if isinstance(event, (ev.Drawn, ev.Spent)):
        return f'the runs have {has} here: keep it `if not ctx.patched("{_change(event)}")`'
    if isinstance(event, (ev.Completed, ev.Failed, ev.Cancelled, ev.ContinuedAsNew)):
        if code.startswith("ended"):
            return (
                f'the runs ended in another way: keep that `if not ctx.patched("{_change(event)}")`; code that was not '
                "changed ends by something that is not recorded, such as a clock or a variable outside of it"
            )
        return f'the runs had ended here: ask for more only `if ctx.patched("{_change(event)}")`'
    if given is None:
        if code.startswith("ctx."):
            return f'call {code} only `if ctx.patched("{_change(event)}")`: the runs have {has} here'
        return f'the code asks for {has} no longer: keep it `if not ctx.patched("{_change(event)}")`'
    wants = f"{given[1]} {given[2]!r}"
    change = _identifier(given[2])
    if has == wants:
        return (
            f'{has} is given other arguments: give it the new ones only `if ctx.patched("{change}")`, and those that '
            "it had otherwise"
        )
    if given[1] in ("signal", "timer"):
        return f'the code has {wants} in place of {has}: keep the old way `if not ctx.patched("{_change(event)}")`'
    if not any(_call(each) == wants for each in events):
        return (
            f'ask for {wants} only `if ctx.patched("{change}")`; where it takes the place of {has}, keep that in the '
            "`else`"
        )
    return f'the order of {has} and {wants} is another one: keep the old one `if not ctx.patched("{change}")`'


def _call(event: Any) -> str:
    """What the handler had called, in words such as a command has."""
    match event:
        case ev.StepCompleted() | ev.StepFailed() | ev.AttemptFailed() | ev.StepIntended():
            return f"step {event.name!r}"
        case ev.ChildStarted():
            return f"child {event.workflow!r}"
        case ev.Drawn():
            return f"ctx.{event.what}()"
        case ev.Spent():
            return "ctx.spend()"
        case ev.TimerFired():
            return "a timer"
        case ev.ChildFinished():
            return "a child"
    return ev.describe(event)


def _change(event: Event) -> str:
    """A name for the change that took ``event`` away."""
    return "without-" + _identifier(ev.given_name(event) or ev.name_of(event))


def _identifier(name: str) -> str:
    return _WORD.sub("-", name).strip("-")[:_LONGEST].lower() or _FITTING
