"""Spans as OTLP's JSON, which collectors take, and as trace events, which Perfetto and Chromium's tracing open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alkaline_edge import __version__

from .spans import CLIENT, Span, Value

_KIND_INTERNAL, _KIND_CLIENT, _STATUS_ERROR = 1, 3, 2


def otlp(spans: Iterable[Span], service: str) -> dict[str, Any]:
    """The body of a request to ``/v1/traces`` (OTLP 1, JSON): times in ns as texts, ids in hexadecimal digits."""
    resource = {"attributes": _attributes({"service.name": service})}
    scope = {"name": "alkaline_edge", "version": __version__}
    return {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [{"scope": scope, "spans": [_otlp_span(span) for span in spans]}]}
        ]
    }


def _otlp_span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": _KIND_CLIENT if span.kind == CLIENT else _KIND_INTERNAL,
        "startTimeUnixNano": str(span.start * 1_000_000),
        "endTimeUnixNano": str(span.end * 1_000_000),
        "attributes": _attributes(span.attributes),
    }
    if span.parent:
        made["parentSpanId"] = span.parent
    if span.links:
        made["links"] = [{"traceId": trace, "spanId": id} for trace, id in span.links]
    if span.events:
        made["events"] = [{"timeUnixNano": str(at * 1_000_000), "name": name} for at, name in span.events]
    if span.error is not None:
        made["status"] = {"code": _STATUS_ERROR, "message": span.error}
    return made


def _attributes(values: dict[str, Value]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}


def trace_events(spans: Sequence[Span]) -> dict[str, Any]:
    """Trace events: the run in the first lane, and what ran at once in lanes beside each other; times in us."""
    events: list[dict[str, Any]] = []
    lanes: list[int] = []
    for span in sorted(spans, key=lambda span: (bool(span.parent), span.start, -span.end)):
        lane = 0
        if span.parent:
            free = (n for n, until in enumerate(lanes) if until <= span.start)
            lane = next(free, len(lanes))
            lanes[lane:] = [span.end, *lanes[lane + 1 :]]
            lane += 1
        arguments = {**span.attributes, "trace": span.trace, "span": span.id}
        events.append({
            "name": span.name, "cat": "error" if span.error else "run" if not span.parent else "step", "ph": "X",
            "ts": span.start * 1_000, "dur": (span.end - span.start) * 1_000, "pid": 1, "tid": lane, "args": arguments,
        })  # fmt: skip
        events += [
            {"name": name, "cat": "mark", "ph": "i", "s": "p", "ts": at * 1_000, "pid": 1, "tid": 0}
            for at, name in span.events
        ]
    names = ["run", *(f"steps {n}" for n in range(1, len(lanes) + 1))]
    events += [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": n, "args": {"name": name}} for n, name in enumerate(names)
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}
