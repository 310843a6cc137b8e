"""Spans of a history: those that were told live, with the same ids, as far as the record says.

A history has no time at which a step began. It began after what stands before it was recorded, and that is taken for
it: of steps that ran at once, those that ended later are shown as shorter than they were.
"""

from __future__ import annotations

from alkaline_edge import events as ev
from alkaline_edge.replay import History

from .live import root_of
from .spans import INTERNAL, Of, Span, Value, run_span, span_id, step_span


def of_history(history: History) -> list[Span]:
    """The run's own span first, and then those of its steps and children in the order in which they ended."""
    header = history.header
    of = Of(header.id, header.run, header.workflow, header.generation)
    links = () if header.parent is None else (root_of(header.parent[1]),)
    timed = history.events()
    begun, error, marks = timed[0][0], None, list[tuple[int, str]]()
    found: list[Span] = []
    starts = _Starts(begun)
    costs: dict[str, dict[str, Value]] = {}
    children: dict[str, tuple[str, int]] = {}
    failed: dict[str, int] = {}
    for at, event in timed:
        match event:
            case ev.AttemptFailed():
                failed[event.id] = event.attempt
                start, kind = starts.of(event.id), str(event.failure.get("type"))
                found.append(step_span(of, event.name, event.id, start, at, event.attempt, kind, {}, last=False))
                starts.again(event.id, at)
            case ev.StepCharged():
                costs[event.id] = {"alkaline.cost.tokens": event.tokens} if event.tokens else {}
                if event.micros:
                    costs[event.id]["alkaline.cost.usd"] = event.micros / 1_000_000
            case ev.StepCompleted() | ev.StepFailed():
                kind_of = None if isinstance(event, ev.StepCompleted) else str(event.failure.get("type"))
                attempt, more = failed.pop(event.id, 0) + 1, costs.pop(event.id, {})
                found.append(step_span(of, event.name, event.id, starts.of(event.id), at, attempt, kind_of, more))
            case ev.ChildStarted():
                children[event.id] = (event.workflow, at)
            case ev.ChildFinished():
                workflow, since = children.pop(event.id, ("", starts.of(event.id)))
                found.append(_child_span(of, event, workflow, since, at))
            case ev.SignalReceived():
                marks.append((at, f"signal {event.name}"))
            case ev.CancelRequested() | ev.Paused() | ev.Resumed() | ev.TimerFired():
                marks.append((at, ev.describe(event)))
            case ev.Failed():
                error = str(event.failure.get("type"))
            case ev.Cancelled():
                error = "RunCancelled"
        starts.saw(at)
    return [run_span(of, begun, timed[-1][0], error, links, tuple(marks)), *found]


def _child_span(of: Of, event: ev.ChildFinished, workflow: str, since: int, at: int) -> Span:
    attributes: dict[str, Value] = {"alkaline.run.id": of.id, "alkaline.command.id": event.id}
    error = None if event.outcome == "completed" else event.outcome
    if error is not None:
        attributes["error.type"] = error
    id = span_id(of.run, of.generation, event.id)
    name = f"alkaline.child {workflow}".strip()
    return Span(of.trace, id, of.root, name, INTERNAL, since, at, attributes, error)


class _Starts:
    """When commands were asked for, as far as it shows: when something was recorded that came before them."""

    def __init__(self, begun: int) -> None:
        self._last = begun
        self._again: dict[str, int] = {}

    def of(self, id: str) -> int:
        """When the command began at the earliest."""
        return self._again.get(id, self._last)

    def again(self, id: str, at: int) -> None:
        """An attempt of it failed: the next one begins behind that."""
        self._again[id] = at

    def saw(self, at: int) -> None:
        """Something was recorded."""
        self._last = at
