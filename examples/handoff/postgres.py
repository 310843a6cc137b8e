"""A Postgres of one's own for the length of a program: a fresh cluster in a directory, on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
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
def started(directory: Path) -> Iterator[str]:
    """The URL of a new Postgres whose files are in ``directory``; it is stopped at the end.

    Postgres refuses to be root, so root starts it as the user ``postgres``.
    """
    data = directory / "data"
    data.mkdir(parents=True)
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(data, user)
        for parent in data.parents:  # made by mkdtemp: nobody else may enter
            if parent.stat().st_mode & 0o077 == 0:
                parent.chmod(0o711)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = [find("initdb"), "--pgdata", str(data), "--username", "agent", "--auth", "trust", "--no-sync"]
    subprocess.run(made, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)  # noqa: S603  # fixed arguments
    options = ["-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"]
    process = subprocess.Popen(  # noqa: S603  # fixed arguments
        [find("postgres"), "-D", str(data), *options], user=user, cwd="/", stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        ready = [find("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
        while subprocess.run(ready).returncode:  # noqa: S603  # fixed arguments
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("Postgres did not start")
            time.sleep(0.05)
        yield f"postgresql://agent@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)
