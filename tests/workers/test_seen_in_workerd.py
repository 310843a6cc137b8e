"""A Worker that is looked at: by the inspector in Chromium, through its API, and by a collector of traces."""

from __future__ import annotations

import json

from tests.collector import Collected, one_trace
from tests.workers.looking import TOKEN, Pages
from wasm.workers.harness import WorkerServer, until


def test_the_inspector_shows_and_answers_a_run_of_a_worker_and_its_trace_is_one(
    current: WorkerServer, pages: Pages, collected: Collected
) -> None:
    """A page of an origin that the Worker lets in, with its token, verifies the run there and sends the signal; what
    the object posts by fetch before the wait and behind it is one trace."""
    base = "/seen-runs-of/looked-at"
    body = json.dumps({"workflow": "speaking", "input": ["to", "be"], "id": "seen"})
    assert current.fetch(f"{base}/runs", body).status == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert current.fetch(f"{base}/runs?settle=1", body, headers=headers).status == 201
    said = pages.look(url=f"{current.url}{base}", token=TOKEN, run="seen", signal="begin")
    assert "verified here" in said["verified"]
    assert "signal begin" in said["waits"]
    assert "to be" in said["about"]
    wanted = ["alkaline.step speak", "invoke_workflow speaking"]
    until(lambda: len(collected.named(*wanted)) >= len(wanted))
    spans = collected.named(*wanted)
    assert sorted(span["name"] for span in spans) == wanted
    one_trace(spans, "invoke_workflow speaking")
