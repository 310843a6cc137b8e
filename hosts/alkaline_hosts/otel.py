"""``Telemetry``: spans and metrics of runs by OpenTelemetry's API. Needs ``pip install 'alkaline-edge[otel]'``.

    telemetry = Telemetry()
    async with Runtime(host, workflows=[research], on_event=telemetry) as runtime:
        ...

What is exported, and where to, is set up with the SDK of your choice, as for any other library. The ids of spans are
derived from the run: whichever process goes on with it, after a crash, a suspension or a move, adds to one trace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from alkaline_edge import Runtime, StepInfo, __version__, lifecycle
from alkaline_edge.errors import InvalidInput

from ._http.around import take
from ._telemetry.live import Live, signal_span
from ._telemetry.spans import CLIENT, Of, Span

__all__ = ["Telemetry"]

_NAME = "alkaline_edge"
_NS = 1_000_000
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Telemetry:
    """A listener for ``Runtime(on_event=)`` that makes spans and metrics of what it is told.

    ``tracer_provider`` and ``meter_provider``: where to, if None the global ones of the moment. A replay tells nothing,
    so it makes none. A span is made once it has ended, with the times that were recorded. What a step publishes on the
    topic "telemetry", a map of texts and numbers such as ``{"gen_ai.request.model": "..."}``, are attributes of its
    span; contents of messages are never recorded by this. A tracer of the SDK is given the derived ids; another one
    that makes ids of its own still gets the derived trace. What is no provider is ERR_INVALID_INPUT.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        for given, method, name in ((tracer_provider, "get_tracer", "tracer_provider"),
                                    (meter_provider, "get_meter", "meter_provider")):  # fmt: skip
            if given is not None and not callable(getattr(given, method, None)):
                raise InvalidInput(f"Telemetry({name}=) is a provider of OpenTelemetry's, not a {type(given).__name__}")
        self._provider = tracer_provider
        self._live = Live()
        meter = (meter_provider or metrics).get_meter(_NAME, __version__)
        self._runs = meter.create_counter("alkaline.runs", "{run}", "runs that ended, by how")
        self._started = meter.create_counter("alkaline.runs.started", "{run}", "runs that were started")
        self._steps = meter.create_histogram("alkaline.step.duration", "s", "how long the last attempt of a step took")
        self._retries = meter.create_counter(
            "alkaline.step.retries", "{attempt}", "attempts that failed and were tried again"
        )
        self._tokens = meter.create_counter("alkaline.tokens", "{token}", "tokens that steps cost")
        self._models = meter.create_histogram("gen_ai.client.operation.duration", "s", "how long a model took")
        self._usage = meter.create_histogram("gen_ai.client.token.usage", "{token}", "tokens of a model's request")

    def __call__(self, event: lifecycle.LifecycleEvent) -> None:
        """Take one event."""
        of = self._live.of(event.id)
        here = trace.get_current_span().get_span_context() if isinstance(event, lifecycle.RunStarted) else None
        around = (f"{here.trace_id:032x}", f"{here.span_id:016x}") if here is not None and here.is_valid else None
        if isinstance(event, lifecycle.RunStarted):
            said = take()  # by a request over HTTP, where nothing else has made a span of that
            around = around or said
        spans = self._live.told(event, around)
        for span in spans:
            self._emit(span)
        self._measure(event, of or self._live.of(event.id), spans)

    async def signal(
        self, runtime: Runtime, id: str, name: str, payload: Any = None, dedupe: str | None = None
    ) -> None:
        """As ``Runtime.signal``, with ``payload`` and ``dedupe``; the run's trace gets a link to the current span."""
        await runtime.signal(id, name, payload, dedupe)
        here = trace.get_current_span().get_span_context()
        if here.is_valid:
            record = await runtime.get_execution(id)
            of = Of(record.id, record.run, record.workflow, record.generation)
            around = (f"{here.trace_id:032x}", f"{here.span_id:016x}")
            self._emit(signal_span(of, name, runtime.host.now_ms(), dedupe or f"{name} {around[1]}", around))

    def traceparent(self, info: StepInfo) -> str | None:
        """What names the span of a step, for a request that the step makes; None of a run that it was not told of.

        ``info``: what the step was given. ``durable_tool(..., meta=telemetry.meta)`` sends it to an MCP server.
        """
        return self._live.traceparent(info.run_id, info.command_id)

    def meta(self, info: StepInfo) -> dict[str, str]:
        """``{"traceparent": ...}`` of the step, or nothing: for ``durable_tool(..., meta=)``. ``info`` as above."""
        found = self.traceparent(info)
        return {} if found is None else {"traceparent": found}

    # --- spans -----------------------------------------------------------------------------------------------------
    def _emit(self, span: Span) -> None:
        tracer = (self._provider or trace.get_tracer_provider()).get_tracer(_NAME, __version__)
        context = Context()
        if span.parent:
            sampled = _is_sampled(tracer, span)
            flags = _SAMPLED if sampled else TraceFlags(TraceFlags.DEFAULT)
            parent = SpanContext(int(span.trace, 16), int(span.parent, 16), is_remote=True, trace_flags=flags)
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        links = [Link(SpanContext(int(one, 16), int(other, 16), is_remote=True, trace_flags=_SAMPLED))
                 for one, other in span.links]  # fmt: skip
        kind = SpanKind.CLIENT if span.kind == CLIENT else SpanKind.INTERNAL
        with _ids(tracer, span):
            made = tracer.start_span(
                span.name, context, kind=kind, attributes=span.attributes, links=links, start_time=span.start * _NS
            )
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.end * _NS)

    # --- metrics ---------------------------------------------------------------------------------------------------
    def _measure(self, event: lifecycle.LifecycleEvent, of: Of | None, spans: list[Span]) -> None:
        workflow = {"gen_ai.workflow.name": of.workflow} if of is not None else {}
        match event:
            case lifecycle.RunStarted():
                self._started.add(1, workflow)
            case lifecycle.RunCompleted():
                self._runs.add(1, {**workflow, "alkaline.status": "completed"})
            case lifecycle.RunFailed():
                self._runs.add(1, {**workflow, "alkaline.status": "failed"})
            case lifecycle.RunWasCancelled():
                self._runs.add(1, {**workflow, "alkaline.status": "cancelled"})
            case lifecycle.StepRetrying():
                self._retries.add(1, {**workflow, "alkaline.step.name": event.name})
            case lifecycle.StepFinished():
                for span in spans:
                    self._measure_step(event, span, workflow)

    def _measure_step(self, event: lifecycle.StepFinished, span: Span, workflow: dict[str, str]) -> None:
        seconds = (span.end - span.start) / 1_000
        failed = {"error.type": span.error} if span.error is not None else {}
        self._steps.record(seconds, {**workflow, "alkaline.step.name": event.name, **failed})
        if event.tokens:
            self._tokens.add(event.tokens, {**workflow, "alkaline.step.name": event.name})
        if span.kind != CLIENT:
            return
        named = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
        model = {name: span.attributes[name] for name in named if name in span.attributes}
        self._models.record(seconds, {**model, **failed})
        for kind in ("input", "output"):
            count = span.attributes.get(f"gen_ai.usage.{kind}_tokens")
            if isinstance(count, int):
                self._usage.record(count, {**model, "gen_ai.token.type": kind})


class _Ids:
    """Gives a tracer of the SDK the ids of one span, in place of random ones."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def generate_trace_id(self) -> int:
        """That of the span's trace."""
        return int(self._span.trace, 16)

    def generate_span_id(self) -> int:
        """That of the span."""
        return int(self._span.id, 16)

    def is_trace_id_random(self) -> bool:
        """It is a digest."""
        return False


@contextlib.contextmanager
def _ids(tracer: Any, span: Span) -> Iterator[None]:
    """Inside, the tracer makes ``span`` with its own ids, where it says who makes them."""
    before = getattr(tracer, "id_generator", None)
    if before is None:
        yield
        return
    tracer.id_generator = _Ids(span)
    try:
        yield
    finally:
        tracer.id_generator = before


def _is_sampled(tracer: Any, span: Span) -> bool:
    """Whether the tracer takes the run's own span, and so those of its steps; True where it does not say."""
    sampler = getattr(tracer, "sampler", None)
    if sampler is None:
        return True
    return bool(sampler.should_sample(None, int(span.trace, 16), span.name).decision.is_sampled())
