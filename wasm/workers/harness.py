"""Starts Workers in real workerd, talks to them, kills them with SIGKILL and starts them again on the same storage.

    with WorkerServer(Worker("app", Path("entry.py"), d1=["DB"]), storage=directory) as server:
        reply = server.fetch("/path")
        server.kill()
        server.start()

Everything is on loopback and in one process group, which ``kill`` and ``stop`` end. ``make workers`` builds what is
needed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SOURCES = (REPOSITORY / "alkaline_edge", REPOSITORY / "hosts" / "alkaline_hosts")
PACKAGE = HERE / "build" / "package"
"""Our own wheel, installed: what pywrangler puts into a project's python_modules/."""
START_SECONDS = 120.0
KEPT_SNAPSHOTS = 8


class WorkerError(Exception):
    """workerd did not start, was killed, or gave an error in place of an answer."""


class Reply(NamedTuple):
    """A Worker's response."""

    status: int
    body: str | bytes

    def json(self) -> Any:
        """The body as JSON; WorkerError where the Worker did not answer 200."""
        if self.status != 200:
            raise WorkerError(f"the Worker answered {self.status}: {self.body!r}")
        return json.loads(self.body)


@dataclass
class Worker:
    """One Worker: its entry file, the directories of more modules beside it, and its bindings by their names."""

    name: str
    entry: Path
    sources: list[Path] = field(default_factory=list)
    d1: list[str] = field(default_factory=list)
    kv: list[str] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)
    workflows: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    modules: list[Path] = field(default_factory=list)
    """Directories of more packages for ``python_modules/``; those of the first Worker of a server count."""

    def to_map(self) -> dict[str, Any]:
        """As serve.mjs takes it."""
        return {
            "name": self.name,
            "entry": str(self.entry),
            "sources": [str(path) for path in self.sources],
            "bindings": {"d1": self.d1, "kv": self.kv, "objects": self.objects, "workflows": self.workflows},
            "vars": self.variables,
        }


class Waiting(dict[int, "Future[dict[str, Any]]"]):
    """Who waits for an answer of one process, by the number of the question."""

    over = False
    """Whether that process is gone, and everybody was told."""


class WorkerServer:
    """One workerd process with some Workers in it.

    ``runtime``: "current" or "oldest". Each Worker gets the installed wheel of this project, made of the present
    sources. ``snapshot``: start from a memory snapshot of the first Worker, which is taken once for the same files
    and kept in build/; all Workers must then have the same files.
    """

    def __init__(
        self,
        *workers: Worker,
        storage: Path,
        runtime: str = "current",
        snapshot: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        if not (HERE / "build" / "bundle").is_dir() or contents(PACKAGE) != contents(*SOURCES):
            raise WorkerError("not built, or built from other sources: run `make -C wasm/workers workers` first")
        self.workers, self.storage, self.runtime = workers, storage, runtime
        self.environment = environment or {}
        self.url = ""
        self.start_seconds = 0.0
        self._snapshot = snapshot and runtime == "current"
        self._process: subprocess.Popen[str] | None = None
        self._waiting = Waiting()
        self._lock = threading.Lock()
        self._next = 0
        self._log = storage / "log.txt"

    def __enter__(self) -> WorkerServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- the process -----------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start workerd and return once it serves."""
        options: list[str] = []
        if self._snapshot:
            directory = self._take_snapshot()
            options = ["--python-load-snapshot=snapshot.bin", f"--python-snapshot-dir={directory}"]
        self._start(self.storage, options)

    def _start(self, storage: Path, options: list[str]) -> None:
        storage.mkdir(parents=True, exist_ok=True)
        config = storage / "config.json"
        config.write_text(json.dumps(self._config(storage, options)))
        began = time.monotonic()
        self._log = storage / "log.txt"
        # A session of its own: kill() ends Node and workerd at once, and a Ctrl-C here does not reach them first.
        with self._log.open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own script, with a file that was just written
                ["node", str(HERE / "serve.mjs"), str(config)],  # noqa: S607 - the Node that the user has chosen
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=os.environ | self.environment,
            )
        ready: Future[dict[str, Any]] = Future()
        self._waiting = Waiting({0: ready})
        threading.Thread(target=self._listen, args=(self._process, self._waiting), daemon=True).start()
        self.url = self._result(ready, START_SECONDS)["url"]
        self.start_seconds = time.monotonic() - began

    def _config(self, storage: Path, options: list[str]) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "storage": str(storage),
            "python_modules": [str(path) for path in self._modules()],
            "workerd_options": options,
            "workers": [worker.to_map() for worker in self.workers],
        }

    def _modules(self) -> list[Path]:
        return [HERE / "build" / "modules" / self.runtime, *self.workers[0].modules, PACKAGE]

    def _take_snapshot(self) -> Path:
        directory = HERE / "build" / "snapshots" / self._digest()
        if not (directory / "snapshot.bin").exists():
            _forget_snapshots(directory.parent)
            directory.mkdir(parents=True, exist_ok=True)
            options = ["--python-save-snapshot", f"--python-snapshot-dir={directory}"]
            with tempfile.TemporaryDirectory() as storage:
                workers, self.workers = self.workers, self.workers[:1]
                try:
                    self._start(Path(storage), options)
                    self.stop()
                finally:
                    self.workers = workers
        return directory

    def _digest(self) -> str:
        """A name for the files that a snapshot holds."""
        worker = self.workers[0]
        roots = [*worker.sources, *self._modules()]
        files = [worker.entry, HERE / "bundle.py", *(path for root in roots for path in sorted(root.rglob("*.py")))]
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    def kill(self) -> None:
        """SIGKILL, to workerd and to the Node process beside it; nothing gets to say goodbye."""
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Let workerd end by itself."""
        process = self._process
        if process is not None and process.stdin is not None and process.poll() is None:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(20)
            self._process = None

    def cpu_seconds(self) -> float:
        """What workerd has had of the processors, with all of its threads; what else the machine does is not in it."""
        if self._process is None:
            raise WorkerError("the server is not running")
        node = self._process.pid
        workerd = Path(f"/proc/{node}/task/{node}/children").read_text().split()[0]
        spent = [int(path.read_text().split()[0]) for path in Path(f"/proc/{workerd}/task").glob("*/schedstat")]
        return sum(spent) / 1e9

    def log(self) -> str:
        """What workerd and the Workers printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    # --- requests --------------------------------------------------------------------------------------------------
    def fetch(
        self,
        path: str,
        body: str | bytes | None = None,
        *,
        worker: str | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 120.0,
    ) -> Reply:
        """Send a request, POST where it has a body, and wait for the answer."""
        return self.begin(path, body, worker=worker, headers=headers)(seconds)

    def begin(
        self,
        path: str,
        body: str | bytes | None = None,
        *,
        worker: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Callable[..., Reply]:
        """Send a request without waiting; call what is returned for the answer, with a number of seconds."""
        sent: Any = {"base64": base64.b64encode(body).decode()} if isinstance(body, bytes) else body
        future = self._send(
            {
                "do": "fetch",
                "worker": worker or self.workers[0].name,
                "path": path,
                "method": "GET" if body is None else "POST",
                "headers": headers or {},
                "body": sent,
            }
        )

        def answer(seconds: float = 120.0) -> Reply:
            reply = self._result(future, seconds)
            got = reply["body"]
            return Reply(reply["status"], base64.b64decode(got["base64"]) if isinstance(got, dict) else got)

        return answer

    def scheduled(self, cron: str = "* * * * *", *, worker: str | None = None, seconds: float = 120.0) -> str:
        """Fire the cron trigger and return its outcome, "ok" where all went well."""
        return self.begin_scheduled(cron, worker=worker)(seconds)

    def begin_scheduled(self, cron: str = "* * * * *", *, worker: str | None = None) -> Callable[..., str]:
        """Fire the cron trigger without waiting; call what is returned for its outcome, with a number of seconds."""
        future = self._send({"do": "scheduled", "worker": worker or self.workers[0].name, "cron": cron})
        return lambda seconds=120.0: str(self._result(future, seconds)["outcome"])

    def _send(self, command: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            process, waiting = self._process, self._waiting
            if process is None or process.stdin is None:
                raise WorkerError("the server is not running")
            if waiting.over:
                raise WorkerError("the server is gone")
            self._next += 1
            waiting[self._next] = future
            try:
                process.stdin.write(json.dumps({"id": self._next, **command}) + "\n")
                process.stdin.flush()
            except OSError:
                raise WorkerError("the server is gone") from None
        return future

    def _result(self, future: Future[dict[str, Any]], seconds: float) -> dict[str, Any]:
        try:
            reply = future.result(seconds)
        except FutureTimeoutError:
            raise WorkerError(f"no answer in {seconds} s; the log ends:\n{self.log()[-3000:]}") from None
        if "error" in reply:
            raise WorkerError(f"{reply['error']}\n{self.log()[-3000:]}")
        return reply

    def _listen(self, process: subprocess.Popen[str], waiting: Waiting) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            future = waiting.pop(message.get("id", 0), None)
            if future is not None:
                future.set_result(message)
        with self._lock:  # whoever asks later is told at once: nobody would answer
            waiting.over = True
        for future in list(waiting.values()):
            future.set_result({"error": "the connection to workerd was lost"})


def contents(*roots: Path) -> dict[str, bytes]:
    """The files of the two packages below ``roots``, which are the packages or hold them."""
    found: dict[str, bytes] = {}
    for root in roots:
        parent = root if root == PACKAGE else root.parent
        for path in root.rglob("*"):
            name = path.relative_to(parent)
            if path.is_file() and "__pycache__" not in name.parts and name.parts[0] in {one.name for one in SOURCES}:
                found[str(name)] = path.read_bytes()
    return found


def _forget_snapshots(directory: Path) -> None:
    """Delete all snapshots but the newest: each is 30 MB, and every change of a file makes another one."""
    if directory.is_dir():
        newest_last = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in newest_last[:-KEPT_SNAPSHOTS]:
            shutil.rmtree(old, ignore_errors=True)


def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "the condition") -> Any:
    """Poll until ``condition`` is true and return what it gave; an AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        threading.Event().wait(0.05)
