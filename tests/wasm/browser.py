"""Chromium for tests that pytest-pyodide can't do: a fixed origin, a profile that outlives the browser, SIGKILL, tabs.

Everything is on loopback, and every process that is started here is stopped here, by its own process group.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from leveldb import Left
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--js-flags=--expose-gc",
    "--enable-precise-memory-info",
    "--remote-debugging-port=0",
)
BLANK = b"<!doctype html><html lang=en><head><meta charset=utf-8><title>alkaline</title></head><body></body></html>"
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"
"""What a careful site allows: WebAssembly, and no eval."""
STRICT = BLANK.replace(b"</head>", b"<script src=alkaline-edge.js></script></head>")

LOAD = """
const { loadPyodide } = await import("/pyodide.mjs");
self.pyodide = await loadPyodide(options);
await pyodide.loadPackage(packages, { messageCallback: () => {} });
"""


class Forgotten(Exception):
    """Chromium took a torn log for corrupted and deleted all that the origin had stored: see docs/browser.md."""


def once_more_if_forgotten(test: Callable[..., None]) -> Callable[..., None]:
    """Begins ``test`` again, once, where Chromium has forgotten the whole origin: no promise of ours is about that."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        try:
            test(*arguments, **named)
        except Forgotten as error:
            print(f"Chromium forgot the origin when it was killed: {error}")
            test(*arguments, **named)

    return run


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first true answer of ``condition``; fails with ``what`` when there was none in ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.01)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory; ``/blank.html`` is an empty page, ``/strict.html`` one whose policy does not allow eval,
    ``/acknowledged?`` nothing. Keeps the paths asked for."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def __init__(self, *arguments: Any, asked: list[str], **named: Any) -> None:
        self.asked = asked
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/acknowledged?"):
            self.send_response(204)
            self.end_headers()
            return
        if self.path == "/strict.html":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Content-Length", str(len(STRICT)))
            self.end_headers()
            self.wfile.write(STRICT)
            return
        if self.path.split("?")[0] != "/blank.html":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(BLANK)))
        self.end_headers()
        self.wfile.write(BLANK)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test says what went wrong."""


class Server(http.server.ThreadingHTTPServer):
    """One thread for each connection; a browser that was killed in the middle of one is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what is not the client's going away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``directory`` on a free port of loopback; gives the origin and the list of paths asked for."""
    asked: list[str] = []
    handler = functools.partial(Handler, directory=str(directory), asked=asked)
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


class Browser:
    """One Chromium with the profile in ``profile``. ``tab`` opens a page in it; ``kill`` is SIGKILL of all of it."""

    def __init__(self, origin: str, profile: Path) -> None:
        self.origin = origin
        self.profile = profile
        self.process: subprocess.Popen[bytes] | None = None
        self.driver: Chrome | None = None

    def start(self) -> Browser:
        """Start Chromium and attach a driver; works again after ``kill`` and ``quit``."""
        port_file = self.profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert chromium, "Chromium is missing: run `make chromium` in wasm/"
        command = [chromium, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        lines = wait_until(lambda: port_file.exists() and port_file.read_text().splitlines(), "Chromium started")
        options = ChromeOptions()
        options.debugger_address = f"127.0.0.1:{lines[0]}"
        self.driver = Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))
        self.driver.set_script_timeout(120)
        return self

    def tab(self, name: str = "/blank.html") -> Tab:
        """A new tab that shows a page of the origin."""
        assert self.driver is not None
        self.driver.switch_to.new_window("tab")
        self.driver.get(self.origin + name)
        return Tab(self.driver, self.driver.current_window_handle)

    def again(self) -> Browser:
        """Start it after a ``kill``; Forgotten where Chromium has deleted what the origin had stored for its torn log.

        That nothing is left and the log was whole is an AssertionError: it would be a loss of another kind.
        """
        left = Left(self.profile)
        # The first question about databases that can't be read is an error now and then.
        if not self.start().tab().js("return await indexedDB.databases().then((all) => all.length, () => 0)"):
            corrupted = left.corrupted()
            assert corrupted, "nothing of the origin is left, and its logs were whole"
            raise Forgotten(corrupted)
        return self

    def kill(self) -> None:
        """SIGKILL to the browser and all of its children: nothing gets a chance to write anything."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._stop_driver()

    def quit(self) -> None:
        """Stop Chromium and the driver, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._stop_driver()

    def _stop_driver(self) -> None:
        if self.driver is not None:
            self.driver.service.stop()
            self.driver = None


class Tab:
    """One page. Code runs in it by name of the tab, so that tests can go back and forth."""

    def __init__(self, driver: Chrome, handle: str) -> None:
        self.driver = driver
        self.handle = handle

    def js(self, body: str) -> Any:
        """Run the body of an async JavaScript function; gives what it returns, raises what it throws."""
        self.driver.switch_to.window(self.handle)
        kind, value = self.driver.execute_async_script(
            "const answer = arguments[arguments.length - 1];"
            f"(async () => {{ {body} }})().then("
            " (value) => answer(['ok', value]), (error) => answer(['error', `${error?.stack ?? error}`]));"
        )
        assert kind == "ok", value
        return value

    def load(self, packages: tuple[str, ...] = ("alkaline-edge",), options: str = "{}") -> Tab:
        """Start Pyodide in the page and load packages of the distribution."""
        self.js(f"const packages = {json.dumps(packages)}; const options = {options}; {LOAD}")
        return self

    def python(self, source: str) -> Any:
        """Run async Python; its last expression must be a value that JSON can hold."""
        return json.loads(self.js(f"return await pyodide.runPythonAsync({json.dumps(wrapped(source))})"))

    def begin(self, source: str) -> None:
        """Start async Python and leave it running; ``self.finished`` is set when it ends."""
        self.js(
            f"self.finished = undefined; pyodide.runPythonAsync({json.dumps(wrapped(source))}).then("
            " (value) => (self.finished = value), (error) => (self.finished = JSON.stringify(`${error}`)));"
        )

    def end(self) -> Any:
        """The result of what ``begin`` started, once there is one."""
        return json.loads(wait_until(lambda: self.js("return self.finished"), "the code in the page ended", 120))

    def reload(self) -> Tab:
        """Reload the page: its Python is gone, its storage is not."""
        self.driver.switch_to.window(self.handle)
        self.driver.refresh()
        return self

    def cdp(self, command: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol, sent to this tab."""
        self.driver.switch_to.window(self.handle)
        return self.driver.execute_cdp_cmd(command, arguments)

    def close(self) -> None:
        """Close the tab; the browser stays."""
        self.driver.switch_to.window(self.handle)
        self.driver.close()


def wrapped(source: str) -> str:
    """``source`` with its last expression turned into JSON, in a namespace that stays from call to call."""
    return (
        "from pyodide.code import eval_code_async\nimport json\n"
        f"json.dumps(await eval_code_async({source!r}, globals()))"
    )
