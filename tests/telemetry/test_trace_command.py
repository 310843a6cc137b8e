"""`alkaline trace`: a run's trace as files and on stdout."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alkaline_edge import Runtime
from alkaline_hosts._cli.commands import alkaline
from alkaline_hosts._telemetry.spans import trace_id
from alkaline_hosts.file import FileHost
from tests.telemetry.flows import killed_moved_and_resumed


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def history() -> tuple[str, bytes]:
    return asyncio.run(killed_moved_and_resumed(lambda: None))


@pytest.fixture
def store(tmp_path: Path, history: tuple[str, bytes]) -> Path:
    """A file with the run that was killed, moved and resumed."""
    path = tmp_path / "agent.alkaline"

    async def fill() -> None:
        host = FileHost(path)
        async with Runtime(host) as runtime:
            await runtime.import_(history[1], "take_over")
        await host.close()

    asyncio.run(fill())
    return path


def test_a_trace_is_written_for_collectors_and_for_perfetto(store: Path, history: tuple[str, bytes]) -> None:
    """To stdout as a collector takes it, or to files; the ids are those of the run, whichever store it is in."""
    shown = json.loads(run("trace", store, "exe_1").stdout)
    spans = shown["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert {span["traceId"] for span in spans} == {trace_id(history[0], 0)}
    assert len([span for span in spans if "parentSpanId" not in span]) == 1
    one, two = store.with_name("trace.json"), store.with_name("perfetto.json")
    said = run("trace", store, "exe_1", "--otlp", one, "--perfetto", two, "--service", "mine").stdout
    assert f"exe_1: {len(spans)} spans of trace {trace_id(history[0], 0)} written to" in said
    assert json.loads(one.read_text())["resourceSpans"][0]["resource"]["attributes"][0]["value"] == {
        "stringValue": "mine"
    }
    complete = [event for event in json.loads(two.read_text())["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == len(spans)
    told = json.loads(run("trace", store, "exe_1", "--perfetto", two, "--json").stdout)
    assert told["files"] == [str(two)]


def test_show_tells_the_trace(store: Path, history: tuple[str, bytes]) -> None:
    """By which a collector finds the run."""
    assert trace_id(history[0], 0) in run("show", store, "exe_1").stdout
    assert json.loads(run("show", store, "exe_1", "--json").stdout)["trace"] == trace_id(history[0], 0)


def test_what_can_not_be_traced_is_told(store: Path) -> None:
    """A run that is not there, a file that can't be written; the store is no file to write over."""
    run("trace", store, "exe_9", code=4)
    assert "no directory" in run("trace", store, "exe_1", "--otlp", store.parent / "no" / "x", code=2).stderr
    assert "is a store" in run("trace", store, "exe_1", "--perfetto", store, code=2).stderr
