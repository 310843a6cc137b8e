"""A real HTTP server on loopback that speaks the chat-completions protocol, and fails when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = 1_000
"""What the endpoint says each answer cost."""


@dataclass
class Endpoint:
    """``asked``: (idempotency key, request) of every call. The first ``failures`` of them are answered with 503."""

    failures: int = 0
    url: str = ""
    asked: list[tuple[str | None, dict[str, Any]]] = field(default_factory=list)

    def answer(self, key: str | None, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the body of one answer."""
        self.asked.append((key, request))
        if len(self.asked) <= self.failures:
            return 503, {"error": {"message": "busy", "type": "server_error"}}
        said = {"role": "assistant", "content": f"The model's words, number {len(self.asked)}."}
        return 200, {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": request["model"],
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": TOKENS - 1, "completion_tokens": 1, "total_tokens": TOKENS},
        }  # fmt: skip


@contextmanager
def serving(failures: int = 0) -> Iterator[Endpoint]:
    """The endpoint, for as long as the block lasts."""
    endpoint = Endpoint(failures)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.path == "/v1/chat/completions"
            status, body = endpoint.answer(self.headers["Idempotency-Key"], request) if known else (404, {})
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
