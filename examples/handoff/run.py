"""One run, four places: begun in Chromium, continued in a Worker, finished on a server, replayed from a file.

    python -m examples.handoff.run

In Chromium it is kept in IndexedDB, in the Worker (the real workerd, on this machine) by a Durable Object, on the
server by a Postgres that is started for it, or by the store that --store names. Each move goes over HTTP. At each stage
the number of commits and the digest of the last one are printed: what arrives is what left, and the finished history
begins with each of them, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import http.server
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from alkaline_edge import AlkalineError, Runtime, hand_over, replay, sync
from alkaline_edge.history import digest_of
from alkaline_edge.runtime.handing import Local
from alkaline_hosts.memory import MemoryHost
from alkaline_hosts.opening import open_host
from alkaline_hosts.remote import Remote
from examples.handoff import postgres
from examples.handoff.agent import journey
from wasm.workers.harness import Worker, WorkerServer

HERE = Path(__file__).resolve().parent
DIST = HERE.parents[1] / "wasm" / "dist"
STOPS = ["tab", "edge", "server"]
SECONDS = 120.0
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


class Failed(Exception):
    """A stage did not do what it should."""


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the page, its Python, its configuration and the Pyodide distribution; takes the page's report."""

    def __init__(self, *arguments: Any, config: dict[str, Any], reports: queue.Queue[Any], **named: Any) -> None:
        self.config, self.reports = config, reports
        super().__init__(*arguments, directory=str(DIST), **named)

    def do_GET(self) -> None:
        """A file; nothing else of this directory is served."""
        name = self.path.split("?")[0]
        if name.startswith("/dist/"):
            self.path = self.path.removeprefix("/dist")
            super().do_GET()
        elif name == "/config.json":
            self._answer("application/json", json.dumps(self.config).encode())
        elif name in ("/", "/page.html"):
            self._answer("text/html", (HERE / "page.html").read_bytes())
        elif name in ("/agent.py", "/tab.py"):
            self._answer("text/plain", (HERE / name[1:]).read_bytes())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """The report."""
        self.reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer("text/plain", b"thanks")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def pages(config: dict[str, Any]) -> Iterator[tuple[str, queue.Queue[Any]]]:
    """The origin of the page, and its reports."""
    reports: queue.Queue[Any] = queue.Queue()
    handler = functools.partial(Pages, config=config, reports=reports)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", reports
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium(url: str, profile: Path) -> Iterator[None]:
    """A headless Chromium that shows ``url``; ended with all of its processes."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise Failed("Chromium is missing: run `make -C wasm chromium`")
    # A headless browser without a debugging port leaves when it has drawn the page: the port keeps it.
    command = [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", url]
    process = subprocess.Popen(  # noqa: S603  # a program of this machine, with arguments of ours
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def say(stage: str, place: tuple[int, str], more: str = "") -> None:
    """One line of the journey."""
    print(f"{stage:<48}{place[0]:>4} commits  {place[1]}  {more}".rstrip(), flush=True)


def same(stage: str, left: tuple[int, str], arrived: tuple[int, str]) -> None:
    """What arrived is what left."""
    if left != arrived:
        raise Failed(f"{stage}: {left} left, and {arrived} arrived")


async def at(peer: Any, run: str) -> tuple[int, str]:
    """Where the run stands there."""
    place = await (Local(peer) if isinstance(peer, Runtime) else peer).place(run)
    if place is None:
        raise Failed(f"run {run} is not there")
    return place.length, place.head.hex()


async def waiting(edge: Remote, run: str, what: str) -> None:
    """Until the run waits for that."""
    deadline = time.monotonic() + SECONDS
    while what not in " ".join((await edge.status(run))["waiting"]):
        if time.monotonic() > deadline:
            raise Failed(f"the run does not come to {what}")
        await asyncio.sleep(0.1)


async def go_on(edge: Remote, run: str, store: str, report: dict[str, Any]) -> bytes:
    """The second and the third stop; the finished run as a bundle."""
    left = tuple(report["copy"])
    stages = [left]
    say("left the tab (Chromium, IndexedDB)", left)  # type: ignore[arg-type]  # JSON made a list of the pair
    same("tab to edge", left, tuple(report["there"]))  # type: ignore[arg-type]  # as above
    say("arrived at the edge (workerd, Durable Object)", tuple(report["there"]), "the same")  # type: ignore[arg-type]
    await edge.signal(run, "arrive-edge", "on", dedupe="arrive-edge")
    await waiting(edge, run, "arrive-server")
    copy = Runtime(MemoryHost())
    await sync(edge, copy, run)
    stages.append(await at(copy, run))
    say("left the edge", stages[-1])
    host = open_host(store)
    try:
        async with Runtime(host, workflows=[journey]) as server:
            arrived = await hand_over(edge, run, server)
            same("edge to server", stages[-1], (arrived.length, arrived.head.hex()))
            say(f"arrived at the server ({host.capabilities.name})", stages[-1], "the same")
            await server.signal(run, "arrive-server", "home", dedupe="arrive-server")
            result = await server.result(run, SECONDS)
            data = await server.export(run)
            stages.append(await at(server, run))
            say("finished there", stages[-1])
            print("its steps ran on: " + ", ".join(f"{stop[0]} {stop[2]}" for stop in result["seen"]))
            commits = msgpack.unpackb(data)[3]  # a bundle holds the history's bytes as they are (SPEC.md)
            for length, head in stages:
                same("the finished history", (length, head), (length, digest_of(commits[length - 1]).hex()))
    finally:
        await host.close()
    return data


def journey_from(store: str, directory: Path) -> Path:
    """The whole journey; the finished run's file."""
    run, token = "journey-1", secrets.token_urlsafe(24)
    config: dict[str, Any] = {"run": run, "token": token, "stops": STOPS}
    with pages(config) as (origin, reports):
        worker = Worker(
            "handoff", HERE / "worker.py", [HERE], objects={"RUNS": "Runs"},
            variables={"TOKEN": token, "ORIGIN": origin},
        )  # fmt: skip
        with WorkerServer(worker, storage=directory / "edge") as edge_server:
            config["edge"] = edge_server.url.rstrip("/")
            with chromium(f"{origin}/page.html", directory / "profile"):
                try:
                    report = reports.get(timeout=SECONDS)
                except queue.Empty:
                    raise Failed("the page did not report") from None
            if "error" in report:
                raise Failed(f"in the tab: {report['error']}")

            async def rest() -> bytes:
                async with Remote(edge_server.url, token=token) as edge:
                    return await go_on(edge, run, store, report)

            data = asyncio.run(rest())
    file = directory / "journey.alk"
    file.write_bytes(data)
    (check,) = replay.check({file.name: file.read_bytes()}, [journey])
    if not check.ok:
        raise Failed(f"the file does not replay: {check.message}")
    print(f"replayed from {file.name} ({len(data):,} bytes): {check.verdict}, {check.events} events")
    return file


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", help="where the server keeps the run: a URL or a path; otherwise a new Postgres")
    parser.add_argument("--directory", type=Path, help="where to keep the browser's profile, the edge's data, the file")
    chosen = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            directory = chosen.directory
            if directory is None:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handoff-")))
            directory.mkdir(parents=True, exist_ok=True)
            store = chosen.store or stack.enter_context(postgres.started())
            journey_from(store, directory)
    except (Failed, OSError, AlkalineError) as failed:
        print(f"failed: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
