"""A run's events as a stream out of real workerd: as they happen, resumed where they were cut, and ended."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from alkaline_hosts._http.streaming import Frames
from wasm.workers.harness import WorkerServer, until


def stream(server: WorkerServer, path: str, after: str = "") -> tuple[int, Iterator[tuple[str, Any]]]:
    """The status of a stream, and its frames as they come in; closing them hangs up."""
    url = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=60)
    connection.request("GET", path, headers={"last-event-id": after} if after else {})
    response = connection.getresponse()

    def frames() -> Iterator[tuple[str, Any]]:
        read = Frames()
        try:
            while data := response.read1(64 * 1024):
                yield from read.feed(data)
        finally:
            connection.close()

    return response.status, frames()


@pytest.mark.parametrize("base", ["/runs-of/streamed", ""], ids=["object", "d1"])
def test_a_stream_out_of_a_worker_is_cut_and_goes_on(current: WorkerServer, base: str) -> None:
    """What happens comes as it happens, each event once over two connections; behind the end there is nothing."""
    body = json.dumps({"workflow": "speaking", "input": ["to", "be"], "id": "s"})
    assert current.fetch(f"{base}/runs?settle=1", body).status == 201
    status, frames = stream(current, f"{base}/runs/s/stream")
    assert status == 200
    first = next(frames)
    assert (first[0], first[1]["kind"]) == ("", "Started")
    frames.close()  # type: ignore[attr-defined]  # a generator
    status, frames = stream(current, f"{base}/runs/s/stream", first[1]["place"])
    assert current.fetch(f"{base}/runs/s/signals/begin", "").status == 202
    found = list(frames)
    if base:  # the object that is asked is the one that runs it
        assert [value["data"] for kind, value in found if kind == "published"] == ["to", "be"]
        assert [kind for kind, _ in found] == ["", "published", "published", "", "", "end"]
    heard = [first[1], *[value for kind, value in found if not kind]]
    assert [each["kind"] for each in heard] == ["Started", "SignalReceived", "StepCompleted", "Completed"]
    events = current.fetch(f"{base}/runs/s/events").json()
    assert heard == [{"place": f"0.{each['n']}", **each} for each in events]
    assert stream(current, f"{base}/runs/s/stream", heard[-1]["place"])[0] == 204
    assert stream(current, f"{base}/runs/none/stream")[0] == 404


def test_an_object_goes_on_though_its_watchers_hang_up(current: WorkerServer) -> None:
    """Streams that are opened and dropped while the run goes on cost it nothing."""
    body = json.dumps({"workflow": "marching", "input": [6, 0.1], "id": "watched"})
    assert current.fetch("/runs-of/watched/runs", body).status == 201
    for _ in range(5):
        status, frames = stream(current, "/runs-of/watched/runs/watched/stream")
        assert status == 200
        next(frames)
        frames.close()  # type: ignore[attr-defined]  # a generator
    until(lambda: current.fetch("/runs-of/watched/runs/watched").json()["status"] == "completed")
    kinds = [value["kind"] for kind, value in stream(current, "/runs-of/watched/runs/watched/stream")[1] if not kind]
    assert (kinds[0], kinds[-1]) == ("Started", "Completed")
