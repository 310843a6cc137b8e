"""Two servers of which one is the primary: when that is killed, the other takes over, or it comes back itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from examples.handoff.postgres import find

from .postgres_server import PostgresServer
from .redis_server import RedisServer

PATIENCE = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """AssertionError where it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


Server = TypeVar("Server", PostgresServer, RedisServer)


class Pair(Generic[Server]):
    """``kill`` is SIGKILL of the primary; ``start`` brings one back, in turn the other one and the same.

    ``port`` and ``url`` are those of whichever is the primary.
    """

    def __init__(self) -> None:
        self.primary: Server
        self.other: Server
        self.fail_overs = self._starts = 0

    @property
    def port(self) -> int:
        """The primary's."""
        return self.primary.port

    @property
    def url(self) -> str:
        """The primary's."""
        return self.primary.url

    def kill(self) -> None:
        """The primary, at once."""
        self.primary.kill()

    def start(self) -> None:
        """Return once the store is there, with a replica that has all of it."""
        self._starts += 1
        if self._starts % 2:
            self.promote()
            self.primary, self.other = self.other, self.primary
            self.fail_overs += 1
            self.follow()
        else:
            self.primary.start()
        wait_until(self.is_followed, "the replica follows")

    def promote(self) -> None:
        """Make the other one a primary."""
        raise NotImplementedError

    def follow(self) -> None:
        """Make the other one, which is down, follow the primary."""
        raise NotImplementedError

    def is_followed(self) -> bool:
        """Whether the other one has what the primary has."""
        raise NotImplementedError


class PostgresPair(Pair[PostgresServer]):
    """Streaming replication, synchronous: ``synchronous_standby_names = '*'``, so that a commit is on both disks.

    A primary whose standby is gone commits nothing until there is one again.
    """

    def ask(self, sql: str, server: PostgresServer | None = None) -> str:
        """The first line of psql's answer."""
        port = str((server or self.primary).port)
        command = [find("psql"), "-qtAX", "-h", "127.0.0.1", "-p", port, "-U", "agent", "-d", "postgres", "-c", sql]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def promote(self) -> None:
        assert self.ask("SELECT pg_promote(true, 60)", self.other) == "t"

    def follow(self) -> None:
        shutil.rmtree(self.other.data, ignore_errors=True)
        command = [
            find("pg_basebackup"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "agent",
            "-D",
            str(self.other.data),
        ]
        subprocess.run([*command, "-R", "-X", "stream", "-c", "fast"], user=self.other.user, cwd="/", check=True)
        self.other.start()

    def is_followed(self) -> bool:
        return self.ask("SELECT sync_state FROM pg_stat_replication") == "sync"

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.primary = self._stack.enter_context(PostgresServer())
        directory = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="alkaline-standby-", ignore_cleanup_errors=True)
        )
        self.other = PostgresServer()
        self.other.data, self.other.user = Path(directory) / "data", self.primary.user
        if self.other.user is not None:
            shutil.chown(directory, self.other.user)
        self._stack.callback(self._stop)
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")  # in the standby's copy too
        self.ask("SELECT pg_reload_conf()")
        self.follow()
        wait_until(self.is_followed, "the standby is synchronous")
        return self

    def _stop(self) -> None:
        for server in (self.primary, self.other):
            if server.process is not None and server.process.poll() is None:
                server.process.send_signal(signal.SIGQUIT)
                server.process.wait(30)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


class RedisPair(Pair[RedisServer]):
    """Replication as Redis has it, asynchronous: that nothing is lost is for ``durability="replicated"`` to see to."""

    QUICK = ("--repl-diskless-sync-delay", "0")

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.primary, self.other = (RedisServer(directory / name, *self.QUICK) for name in ("a", "b"))

    @property
    def url(self) -> str:
        return f"{self.primary.url}?durability=replicated"

    def promote(self) -> None:
        self.other.ask("REPLICAOF", "NO", "ONE")

    def follow(self) -> None:
        self.primary.options = self.QUICK
        self.other.options = (*self.QUICK, "--replicaof", f"127.0.0.1 {self.port}")
        self.other.start()

    def is_followed(self) -> bool:
        told = self.primary.ask("INFO", "replication")
        return bool(told["connected_slaves"] and told["slave0"]["state"] == "online")

    def __enter__(self) -> Self:
        self.primary.start()
        self.follow()
        wait_until(self.is_followed, "the replica follows")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in (self.primary, self.other):
            if server.process is not None and server.process.poll() is None:
                server.kill()
