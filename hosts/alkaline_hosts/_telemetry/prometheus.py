"""Metrics of what is told live, in Prometheus' text form, by its client library."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from alkaline_edge import lifecycle

from .live import Live

FORM = CONTENT_TYPE_LATEST
MOST_NAMES = 500
"""Names of steps that are counted apart; those that come later are counted together, since a name may be made up."""
OTHERS = "(others)"
_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Counted:
    """Counts lifecycle events. ``active`` and ``stuck`` say how many runs are driven here, and how many can't be."""

    def __init__(self, active: Callable[[], int], stuck: Callable[[], int]) -> None:
        self._live = Live()
        self._registry = CollectorRegistry()
        self._names: set[str] = set()
        self._started = Counter("alkaline_runs_started", "Runs that began", ["workflow"], registry=self._registry)
        self._ended = Counter("alkaline_runs", "Runs that ended", ["workflow", "status"], registry=self._registry)
        labels = ["workflow", "step", "outcome"]
        self._steps = Histogram(
            "alkaline_step_duration_seconds", "The last attempt of a step", labels, buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip
        self._retries = Counter(
            "alkaline_step_retries", "Attempts that failed and are tried again", labels[:2], registry=self._registry
        )
        self._tokens = Counter("alkaline_tokens", "Tokens that steps cost", labels[:2], registry=self._registry)
        for name, text, count in (("alkaline_runs_active", "Runs that are driven here", active),
                                  ("alkaline_runs_stuck", "Runs that can't go on here", stuck)):  # fmt: skip
            Gauge(name, text, registry=self._registry).set_function(count)
        ProcessCollector(registry=self._registry)

    def __call__(self, event: lifecycle.LifecycleEvent) -> None:
        """Count one event."""
        of = self._live.of(event.id)
        spans = self._live.told(event)
        of = of or self._live.of(event.id)
        workflow = "" if of is None else of.workflow
        match event:
            case lifecycle.RunStarted():
                self._started.labels(workflow).inc()
            case lifecycle.RunCompleted():
                self._ended.labels(workflow, "completed").inc()
            case lifecycle.RunFailed():
                self._ended.labels(workflow, "failed").inc()
            case lifecycle.RunWasCancelled():
                self._ended.labels(workflow, "cancelled").inc()
            case lifecycle.StepRetrying():
                self._retries.labels(workflow, self._named(event.name)).inc()
            case lifecycle.StepFinished():
                name, outcome = self._named(event.name), "completed" if event.ok else "failed"
                for span in spans:
                    self._steps.labels(workflow, name, outcome).observe((span.end - span.start) / 1_000)
                if event.tokens:
                    self._tokens.labels(workflow, name).inc(event.tokens)
            case _:
                pass

    def _named(self, name: str) -> str:
        if name not in self._names and len(self._names) >= MOST_NAMES:
            return OTHERS
        self._names.add(name)
        return name

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        made: bytes = generate_latest(self._registry)
        return made
