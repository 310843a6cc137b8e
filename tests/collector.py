"""A collector of OTLP on loopback, in a thread: what pages and Workers post to it. It lets every page in."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collected:
    """The spans that came in, and the ``url`` to post them to."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[dict[str, Any]] = []

    def named(self, *names: str) -> list[dict[str, Any]]:
        """Those of these names, in the order in which they came."""
        return [span for span in list(self.spans) if span["name"] in names]


@contextlib.contextmanager
def collecting() -> Iterator[Collected]:
    """Collect on a free port."""
    found = Collected()

    class Handler(BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found.spans += [
                span for each in body["resourceSpans"] for scope in each["scopeSpans"] for span in scope["spans"]
            ]
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("access-control-allow-origin", "*")
            self.send_header("access-control-allow-headers", "*")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test says what went wrong."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def one_trace(spans: list[dict[str, Any]], root: str) -> str:
    """The id of the one trace that ``spans`` are of, each of them once, under the span of that name."""
    (trace,) = {span["traceId"] for span in spans}
    assert len({span["spanId"] for span in spans}) == len(spans), "no span came twice"
    (top,) = [span for span in spans if "parentSpanId" not in span]
    assert top["name"] == root
    assert {span["parentSpanId"] for span in spans if span is not top} == {top["spanId"]}
    return str(trace)
