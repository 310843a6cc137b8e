"""OpenTelemetry by its API, with the SDK behind it: one unbroken trace of a run that was killed, moved and resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from alkaline_edge import InvalidInput, Runtime, workflow
from alkaline_edge.testing import SimulatedHost
from alkaline_hosts._telemetry.spans import span_id, trace_id
from alkaline_hosts.otel import Telemetry
from tests.telemetry.flows import journey, killed_moved_and_resumed, part


class Collected:
    """What the SDK has exported, in memory."""

    def __init__(self, **options: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    def listener(self) -> Telemetry:
        return Telemetry(self.provider, self.meters)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def ids(span: ReadableSpan) -> tuple[str, str]:
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def test_a_run_that_was_killed_moved_and_resumed_is_one_unbroken_trace() -> None:
    """Each step once, under the run's own span, whose ids are those of the run; the child's trace links to its step."""
    collected = Collected()
    run, _ = asyncio.run(killed_moved_and_resumed(collected.listener))
    mine = [span for span in collected.spans if ids(span)[0] == trace_id(run, 0)]
    assert Counter(span.name for span in mine) == {
        "invoke_workflow journey": 1, "alkaline.step look": 1, "alkaline.step flaky": 2, "chat small-1": 1,
        "alkaline.step each": 3,
    }  # fmt: skip
    assert len({ids(span)[1] for span in mine}) == len(mine)
    (root,) = [span for span in mine if span.parent is None]
    assert ids(root) == (trace_id(run, 0), span_id(run, 0, ""))
    for span in mine:
        if span is not root:
            assert f"{span.parent.span_id:016x}" == ids(root)[1]
            assert root.start_time <= span.start_time <= span.end_time <= root.end_time
    (double,) = [span for span in collected.spans if span.name == "alkaline.step double"]
    (child,) = [span for span in collected.spans if span.name == "invoke_workflow part"]
    assert ids(double)[0] == ids(child)[0] != ids(root)[0]
    linked = [(link.context.trace_id, link.context.span_id) for link in child.links]
    assert linked == [(root.context.trace_id, root.context.span_id)]
    assert root.end_time - root.start_time >= 60 * 10**9  # with the time in which nobody drove it


def test_spans_say_what_the_conventions_want_and_no_content() -> None:
    """Kinds, names and attributes; the message of an error is in none."""
    collected = Collected()
    asyncio.run(killed_moved_and_resumed(collected.listener))
    by_name = {span.name: span for span in collected.spans}
    chat = by_name["chat small-1"]
    assert chat.kind is SpanKind.CLIENT
    assert dict(chat.attributes) == {
        "alkaline.step.name": "ask", "alkaline.run.id": "exe_1", "alkaline.command.id": "4",
        "alkaline.attempt": 1, "alkaline.cost.tokens": 15, "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "small-1", "gen_ai.provider.name": "example", "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 4,
    }  # fmt: skip
    root = by_name["invoke_workflow journey"]
    assert root.kind is SpanKind.INTERNAL
    assert root.attributes["gen_ai.workflow.name"] == "journey"
    failed = [span for span in collected.spans if span.status.status_code is StatusCode.ERROR]
    assert [(span.name, span.attributes["error.type"], span.attributes["alkaline.attempt"]) for span in failed] == [
        ("alkaline.step flaky", "ConnectionError", 1)
    ]
    assert "hunter2" not in "".join(span.to_json() for span in collected.spans)


def test_metrics_count_each_thing_once() -> None:
    """Over all processes: runs, steps, retries, tokens; and the model's, by its attributes."""
    collected = Collected()
    asyncio.run(killed_moved_and_resumed(collected.listener))
    assert {p.attributes["gen_ai.workflow.name"]: p.value for p in collected.points("alkaline.runs")} == {
        "journey": 1, "part": 1,
    }  # fmt: skip
    steps = {p.attributes["alkaline.step.name"]: p.count for p in collected.points("alkaline.step.duration")}
    assert steps == {"look": 1, "flaky": 1, "ask": 1, "double": 1, "each": 3}
    assert [p.value for p in collected.points("alkaline.step.retries")] == [1]
    assert [p.value for p in collected.points("alkaline.tokens")] == [15]
    usage = {p.attributes["gen_ai.token.type"]: p.sum for p in collected.points("gen_ai.client.token.usage")}
    assert usage == {"input": 11, "output": 4}
    (model,) = collected.points("gen_ai.client.operation.duration")
    assert model.attributes["gen_ai.request.model"] == "small-1"


def test_who_starts_or_signals_a_run_is_linked_from_its_trace() -> None:
    """By the span in which they did it."""
    collected = Collected()

    async def test() -> None:
        telemetry = collected.listener()
        async with Runtime(SimulatedHost(), workflows=[journey, part], on_event=telemetry) as runtime:
            tracer = collected.provider.get_tracer("mine")
            with tracer.start_as_current_span("request"):
                run = await runtime.start(journey, "x", id="a")
            await run.settle()
            with tracer.start_as_current_span("click"):
                await telemetry.signal(runtime, "a", "first", dedupe="k")
            await telemetry.signal(runtime, "a", "second")  # in no span: there is nothing to link
            await run.result()

    asyncio.run(test())
    by_name = {span.name: span for span in collected.spans}
    for marked, theirs in (("alkaline.start journey", "request"), ("alkaline.signal first", "click")):
        assert [link.context.span_id for link in by_name[marked].links] == [by_name[theirs].context.span_id]
        assert by_name[marked].context.trace_id == by_name["invoke_workflow journey"].context.trace_id
    assert "alkaline.signal second" not in by_name
    assert by_name["invoke_workflow journey"].parent is None


@workflow
async def counting(ctx: Any, n: int) -> int:
    await ctx.step("a", str, n)
    if n < 2:
        ctx.continue_as_new(n + 1)
    if n == 7:
        raise ValueError("no")
    return n


def test_each_generation_is_a_trace_of_its_own_linked_to_the_one_before() -> None:
    """And a run that fails says with what."""
    collected = Collected()

    async def test() -> None:
        async with Runtime(SimulatedHost(), workflows=[counting], on_event=collected.listener()) as runtime:
            await (await runtime.start(counting, 0, id="a")).result()
            with pytest.raises(ValueError, match="no"):
                await (await runtime.start(counting, 7, id="b")).result()

    asyncio.run(test())
    *roots, failed = [span for span in collected.spans if span.parent is None]
    assert len(roots) == 3
    for before, after in pairwise(roots):
        assert [link.context.span_id for link in after.links] == [before.context.span_id]
        assert before.context.trace_id != after.context.trace_id
    assert failed.status.description == "ValueError"


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_a_trace_is_taken_whole_or_not_at_all(ratio: float) -> None:
    """Whichever process makes a span, the sampler decides by the run's trace."""
    collected = Collected(sampler=ParentBased(TraceIdRatioBased(ratio)))

    async def test() -> None:
        async with Runtime(SimulatedHost(seed=5), workflows=[counting], on_event=collected.listener()) as runtime:
            for n in range(20):
                await (await runtime.start(counting, 2, id=f"run_{n}")).result()

    asyncio.run(test())
    sizes = Counter(span.context.trace_id for span in collected.spans)
    assert set(sizes.values()) <= {2}
    assert len(sizes) == {0.0: 0, 1.0: 20}.get(ratio, len(sizes))
    assert ratio != 0.5 or 0 < len(sizes) < 20


def test_without_an_sdk_nothing_happens() -> None:
    """The API's own tracer makes nothing of it, and the run goes on; so it does with a sampler that takes nothing."""

    async def test(telemetry: Telemetry) -> None:
        async with Runtime(SimulatedHost(), workflows=[counting], on_event=telemetry) as runtime:
            assert await (await runtime.start(counting, 2, id="a")).result() == 2

    asyncio.run(test(Telemetry(trace.NoOpTracerProvider())))
    asyncio.run(test(Telemetry()))
    collected = Collected(sampler=ALWAYS_OFF)
    asyncio.run(test(collected.listener()))
    assert collected.spans == ()


def test_what_is_no_provider_is_bad_input() -> None:
    """At once."""
    with pytest.raises(InvalidInput, match="tracer_provider"):
        Telemetry("http://localhost:4318")
    with pytest.raises(InvalidInput, match="meter_provider"):
        Telemetry(meter_provider=5)
