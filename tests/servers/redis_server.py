"""A Redis of one's own for the length of a test: files in a directory, a free port on loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from .ports import free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """Started when it is entered, stopped when it is left; ``kill`` and ``start`` in between keep port and files.

    ``options`` go behind ours, such as ``--appendonly no``; ours sync the append-only file at each commit.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.options, self.port = directory, options, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: str | bytes | int) -> Any:
        """The server's answer to one command, texts as text where they are."""
        with redis.Redis(port=self.port, decode_responses=True, encoding_errors="replace") as client:
            return client.execute_command(*command)

    def start(self) -> None:
        """Start it, and wait until it answers and has read its files."""
        assert PROGRAM is not None
        self.process = subprocess.Popen([PROGRAM, *self.arguments()], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self.process.poll() is None, "Redis did not start"
            assert time.monotonic() < deadline, "Redis did not answer"
            time.sleep(0.02)

    def arguments(self) -> list[str]:
        """What follows the program's name."""
        ours = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""]
        return [*ours, "--appendonly", "yes", "--appendfsync", "always", *self.options]

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False


class SentinelServer(RedisServer):
    """A Sentinel that watches the primary at ``port`` under the name ``ours``."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory)
        self.config = directory / "sentinel.conf"
        self.config.write_text(f"sentinel monitor ours 127.0.0.1 {port} 1\n")

    def arguments(self) -> list[str]:
        return [str(self.config), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]
