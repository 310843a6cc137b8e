"""``alkaline trace``: a run as a trace, for a collector and for Perfetto."""

from __future__ import annotations

import json
from typing import Any

import click

from alkaline_edge import replay

from .._telemetry.recorded import of_history
from .._telemetry.writing import otlp, trace_events
from . import files, output
from .addresses import Address
from .looking import bundle_of
from .shell import AS_JSON, on_store, reported, showing


@click.command("trace")
@click.option("--otlp", "otlp_file", metavar="FILE", help="Write OTLP's JSON, which a collector takes at /v1/traces.")
@click.option("--perfetto", "perfetto_file", metavar="FILE", help="Write trace events, which ui.perfetto.dev opens.")
@click.option("--service", default="alkaline_edge", show_default=True, help="The name of the service in OTLP's JSON.")
@AS_JSON
@reported
@on_store("RUN")
def trace(
    store: Address, id: str, otlp_file: str | None, perfetto_file: str | None, service: str, as_json: bool
) -> None:
    """Write what a run did as a trace: OTLP's JSON or trace events; without a FILE, OTLP's JSON to stdout.

    Its ids are those that are told live, so a collector that has the run already shows it once. A history has no time
    at which a step began: what was recorded before it stands for that.
    """
    spans = of_history(replay.read(bundle_of(store, id), showing()))
    made: list[tuple[str, Any]] = []
    if otlp_file is not None:
        made.append((otlp_file, otlp(spans, service)))
    if perfetto_file is not None:
        made.append((perfetto_file, trace_events(spans)))
    for file, value in made:
        with files.written(file) as write:
            write(json.dumps(value).encode() + b"\n")
    if not made:
        print(json.dumps(otlp(spans, service)))
    elif as_json:
        output.print_json(
            {"run": id, "trace": spans[0].trace, "spans": len(spans), "files": [name for name, _ in made]}
        )
    else:
        output.say(f"{id}: {len(spans)} spans of trace {spans[0].trace} written to {', '.join(n for n, _ in made)}")
