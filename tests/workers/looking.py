"""The inspector in Chromium, without a driver: a page of the same origin presses in it, reads, and posts it here.

It is one request to Chromium, and its answer; who wants more of a browser finds it in ``tests/wasm``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alkaline_hosts._inspector.page import page

TOKEN = "a-token-of-32-characters-for-tests"
SECONDS = 60
_LOOKER = """<!doctype html><title>looker</title><iframe src="inspector.html" width=1200 height=900></iframe>
<script type="module">
const given = GIVEN;
const frame = document.querySelector("iframe");
await new Promise((done) => frame.addEventListener("load", done));
const seen = frame.contentDocument;
const until = async (find) => {
  for (let n = 0; n < 1200; n++) {
    const found = find();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 25));
  }
  throw new Error(`not seen: ${find}; ${seen.body.innerText.slice(0, 600)}`);
};
const text = (selector) => seen.querySelector(selector)?.innerText ?? "";
const press = async (selector, words) =>
  (await until(() => [...seen.querySelectorAll(selector)].find((each) => each.textContent.includes(words)))).click();
let said;
try {
  (await until(() => seen.querySelector("form input[type=url], form input"))).value = given.url;
  seen.querySelector("[name=token]").value = given.token;
  await press("form button", "Ask it");
  await press(".runs .id", given.run);
  said = { verified: await until(() => text(".verified")), waits: await until(() => text(".waits")) };
  await press(".verbs button", "Signal");
  (await until(() => seen.querySelector("dialog [name=name]"))).value = given.signal;
  seen.querySelector("dialog button[type=submit]").click();
  await until(() => text(".run-head .facts").includes("completed"));
  seen.querySelector("#tab-about").click();
  said.about = await until(() => text(".about"));
} catch (error) {
  said = { error: String(error) };
}
await fetch("/said", { method: "POST", body: JSON.stringify(said) });
</script>"""


class Pages:
    """An origin with the inspector on it."""

    def __init__(self) -> None:
        self.origin = ""
        self.given: dict[str, str] = {}
        self.said: Any = None
        self.answered = threading.Event()

    def look(self, **given: str) -> dict[str, str]:
        """Open ``url`` with ``token``, choose ``run``, send it ``signal``; what the page said of it meanwhile."""
        self.given, self.said = given, None
        self.answered.clear()
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert chromium, "Chromium is missing: run `make chromium` in wasm/"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--remote-debugging-port=0"]  # fmt: skip
            command = [chromium, *flags, f"--user-data-dir={profile}", f"{self.origin}/looker.html"]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            ) as process:
                try:
                    assert self.answered.wait(SECONDS), "the page said nothing"
                finally:
                    os.killpg(process.pid, signal.SIGKILL)
        assert "error" not in self.said, self.said["error"]
        found: dict[str, str] = self.said
        return found


@contextlib.contextmanager
def showing_pages() -> Iterator[Pages]:
    """Serve them on a free port."""
    pages = Pages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/inspector.html":
                self._answer(page().html)
            elif self.path == "/looker.html":
                self._answer(_LOOKER.replace("GIVEN", json.dumps(pages.given)).encode())
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            pages.said = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(b"")
            pages.answered.set()

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test says what went wrong."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        pages.origin = f"http://127.0.0.1:{server.server_port}"
        try:
            yield pages
        finally:
            server.shutdown()
            thread.join()
