"""Traces of histories: the same ids as live, as OTLP and as trace events."""

from __future__ import annotations

import asyncio
import itertools
import json

from alkaline_edge import replay
from alkaline_hosts._telemetry.live import Live
from alkaline_hosts._telemetry.recorded import of_history
from alkaline_hosts._telemetry.spans import Span
from alkaline_hosts._telemetry.writing import otlp, trace_events
from tests.telemetry.flows import killed_moved_and_resumed


def recorded_and_live() -> tuple[list[Span], list[Span]]:
    live: list[Span] = []

    def listener() -> object:
        one = Live()
        return lambda event: live.extend(one.told(event))

    run, history = asyncio.run(killed_moved_and_resumed(listener))
    spans = of_history(replay.read(history))
    return spans, [span for span in live if span.trace == spans[0].trace and run]


def test_a_history_gives_the_spans_that_were_told_live() -> None:
    """By their ids, names, ends and errors; and the child's beside them, which is not told live."""
    recorded, live = recorded_and_live()
    by_id = {span.id: span for span in recorded}
    assert len(by_id) == len(recorded)
    for span in live:
        other = by_id.pop(span.id)
        assert (span.parent, span.error, span.links) == (other.parent, other.error, other.links)
        assert abs(span.end - other.end) <= 1_000
        assert span.name == other.name or span.name == "chat small-1"  # what was published is recorded nowhere
    assert [span.name for span in by_id.values()] == ["alkaline.child part"]


def test_spans_of_a_history_lie_within_the_run() -> None:
    """And signals are marks on the run's own."""
    recorded, _ = recorded_and_live()
    root, *others = recorded
    for span in others:
        assert root.start <= span.start <= span.end <= root.end
    assert [name for _, name in root.events if name.startswith("signal")] == ["signal first", "signal second"]


def test_trace_events_are_such_as_perfetto_opens() -> None:
    """Complete events with times in us, what ran at once in lanes of their own, each lane with a name."""
    recorded, _ = recorded_and_live()
    made = json.loads(json.dumps(trace_events(recorded)))
    complete = [event for event in made["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == len(recorded)
    lanes: dict[int, list[tuple[int, int]]] = {}
    for event in complete:
        assert isinstance(event["ts"], int)
        assert event["dur"] >= 0
        lanes.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in lanes.values():
        spans.sort()
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    names = {event["tid"] for event in made["traceEvents"] if event["ph"] == "M"}
    assert names == lanes.keys()


def test_otlp_of_any_value_is_json() -> None:
    """Integers as texts, as protobuf's JSON wants; floats, bools and texts as they are."""
    span = Span("0" * 32, "1" * 16, "", "n", "client", 1, 2, {"a": True, "b": 5, "c": 0.5, "d": "\u2028\x00"}, "E")
    made = json.loads(json.dumps(otlp([span], "s")))
    (one,) = made["resourceSpans"][0]["scopeSpans"][0]["spans"]
    values = [each["value"] for each in one["attributes"]]
    assert values == [{"boolValue": True}, {"intValue": "5"}, {"doubleValue": 0.5}, {"stringValue": "\u2028\x00"}]
    assert one["startTimeUnixNano"] == "1000000"
