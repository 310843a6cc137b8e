"""A Postgres of one's own for the length of a program: a fresh cluster, on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def find(name: str) -> str:
    """A program of Postgres: on the PATH, or where Debian keeps it."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[-3])
    found = shutil.which(name) or (str(versions[-1]) if versions else None)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: install Postgres, or name a store with --store")
    return found


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Path, str | None]]:
    """The directory of a new cluster, which is deleted at the end, and the user to start it as, None for oneself.

    Postgres refuses to be root, so root leaves it to the user ``postgres``. That user must reach the directory by its
    path whenever the configuration is read, so it lies in no directory that somebody may close, as pytest does its own.
    """
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="alkaline-postgres-", ignore_cleanup_errors=True) as directory:
        if user is not None:
            shutil.chown(directory, user)
        data = Path(directory) / "data"
        made = [find("initdb"), "--pgdata", str(data), "--username", "agent", "--auth", "trust", "--no-sync"]
        subprocess.run(made, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)  # noqa: S603  # fixed arguments
        yield data, user


@contextlib.contextmanager
def started() -> Iterator[str]:
    """The URL of a new Postgres; at the end it is stopped, and its files are deleted."""
    with cluster() as (data, user):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ["-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"]
        with (data.parent / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # fixed arguments
                [find("postgres"), "-D", str(data), *options], user=user, cwd="/", stderr=log
            )
        try:
            deadline = time.monotonic() + 30
            ready = [find("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
            while subprocess.run(ready).returncode:  # noqa: S603  # fixed arguments
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError(f"Postgres did not start: {(data.parent / 'log').read_text()[-300:]}")
                time.sleep(0.05)
            yield f"postgresql://agent@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing is written out that is deleted next
            process.wait(30)
