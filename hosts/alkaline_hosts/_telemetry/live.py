"""Spans of what lifecycle events tell: each once, by the process in which it happened."""

from __future__ import annotations

from typing import Any, NamedTuple

from alkaline_edge import lifecycle

from .spans import INTERNAL, Of, Span, Value, run_span, span_id, step_span, trace_id

TOPIC = "telemetry"
"""What a step publishes on this topic are attributes of its span."""
MOST = 10_000
"""Runs that are remembered: of one that was forgotten nothing more is told until it is taken up again."""


class _Known(NamedTuple):
    of: Of
    begun: int
    links: tuple[tuple[str, str], ...] = ()


class Live:
    """Makes spans of lifecycle events."""

    def __init__(self) -> None:
        self._runs: dict[str, _Known] = {}
        self._published: dict[tuple[str, str], dict[str, Value]] = {}

    def of(self, id: str) -> Of | None:
        """The run of that id, where this process has met it."""
        known = self._runs.get(id)
        return None if known is None else known.of

    def traceparent(self, id: str, command: str) -> str | None:
        """The W3C header that names the span of a command of the run ``id``; None where this process has not met it."""
        of = self.of(id)
        return None if of is None else f"00-{of.trace}-{span_id(of.run, of.generation, command)}-01"

    def told(self, event: lifecycle.LifecycleEvent, around: tuple[str, str] | None = None) -> list[Span]:
        """The spans that have ended with ``event``. ``around``: the trace and span in which it was told, if any."""
        match event:
            case lifecycle.RunStarted():
                of = Of(event.id, event.run, event.workflow, event.generation)
                self._keep(of, event.at, ())
                return [] if around is None else [_marked(of, f"start {of.workflow}", event.at, around)]
            case lifecycle.RunResumed():
                parent = event.parent
                link = () if parent is None else (root_of(parent[1]),)
                self._keep(Of(event.id, event.run, event.workflow, event.generation), event.begun, link)
                return []
            case lifecycle.Published():
                if event.topic == TOPIC and isinstance(event.data, dict) and len(self._published) < MOST:
                    found = self._published.setdefault((event.id, event.command), {})
                    found.update({str(name): value for name, value in event.data.items() if isinstance(value, Value)})
                return []
        known = self._runs.get(event.id)
        return [] if known is None else self._of_known(event, known)

    def _of_known(self, event: lifecycle.LifecycleEvent, known: _Known) -> list[Span]:
        of = known.of
        match event:
            case lifecycle.StepRetrying():
                more = self._published.pop((event.id, event.command), {})
                start = event.began or event.at
                error = event.type or "Exception"
                return [
                    step_span(of, event.name, event.command, start, event.at, event.attempt, error, more, last=False)
                ]
            case lifecycle.StepFinished():
                more = self._published.pop((event.id, event.command), {})
                if event.tokens:
                    more["alkaline.cost.tokens"] = event.tokens
                if event.usd:
                    more["alkaline.cost.usd"] = event.usd
                failed = None if event.ok else event.error or "Exception"
                start = event.began or event.at
                return [step_span(of, event.name, event.command, start, event.at, event.attempt, failed, more)]
            case lifecycle.RunContinuedAsNew():
                self._keep(of._replace(generation=event.generation), event.at, ())
                return [run_span(of, known.begun, event.at, None, known.links)]
            case lifecycle.RunCompleted():
                return self._ended(known, event.at, None)
            case lifecycle.RunFailed():
                return self._ended(known, event.at, str(event.failure.get("type") or "Exception"))
            case lifecycle.RunWasCancelled():
                return self._ended(known, event.at, "RunCancelled")
        return []

    def _ended(self, known: _Known, at: int, error: str | None) -> list[Span]:
        self._runs.pop(known.of.id, None)
        return [run_span(known.of, known.begun, at, error, known.links)]

    def _keep(self, of: Of, begun: int, links: tuple[tuple[str, str], ...]) -> None:
        self._runs.pop(of.id, None)
        self._runs[of.id] = _Known(of, begun, links)
        while len(self._runs) > MOST:
            del self._runs[next(iter(self._runs))]


def root_of(run: str) -> tuple[str, str]:
    """The trace and the span of the run whose random id is ``run``, as it was before it continued as new."""
    return trace_id(run, 0), span_id(run, 0, "")


def signal_span(of: Of, name: str, at: int, key: str, around: tuple[str, str]) -> Span:
    """That somebody has signalled a run: in its trace, with a link to theirs. ``key`` tells one from the other."""
    made = _marked(of, f"signal {name}", at, around)
    return made._replace(id=span_id(of.run, of.generation, f"signal {key}"))


def _marked(of: Of, what: str, at: int, around: tuple[str, str]) -> Span:
    attributes: dict[str, Any] = {"alkaline.run.id": of.id}
    id = span_id(of.run, of.generation, what)
    return Span(of.trace, id, of.root, f"alkaline.{what}", INTERNAL, at, at, attributes, None, (around,))
