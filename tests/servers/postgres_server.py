"""A Postgres of one's own that can be killed and started again; ``conftest`` has the one that most tests share."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from types import TracebackType

from examples.handoff.postgres import cluster, find

from .ports import free_port


class PostgresServer:
    """Started when it is entered, stopped when it is left; ``kill`` and ``start`` in between keep port and files."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The URL by way of a proxy's port."""
        return f"postgresql://agent@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers. What a killed one left in shared memory may take a moment to go."""
        deadline = time.monotonic() + 60
        options = ["-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"]
        ready = [find("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        while True:
            if self.process is None or self.process.poll() is not None:
                command = [find("postgres"), "-D", str(self.data), *options]
                self.process = subprocess.Popen(command, user=self.user, cwd="/", stderr=subprocess.DEVNULL)
            if subprocess.run(ready).returncode == 0 and self.process.poll() is None:
                return
            assert time.monotonic() < deadline, "Postgres did not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def __enter__(self) -> PostgresServer:
        self.data, self.user = self._stack.enter_context(cluster())
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once, and its children with it
            self.process.wait(30)
        self._stack.close()
