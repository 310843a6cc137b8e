"""Logs in workerd that are appended to without a pause, and SIGKILL in between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.workers.conftest import the_worker
from wasm.workers.harness import WorkerError, WorkerServer, until

HOSTS = ("object/killed", "d1", "kv")


class NotBuilt(Exception):
    """What workerd needs is not there."""


class Appender(threading.Thread):
    """Appends to a log without a pause and counts what was acknowledged, until the server is gone."""

    def __init__(self, server: WorkerServer, path: str) -> None:
        super().__init__(daemon=True)
        self.server, self.path, self.acknowledged, self.error = server, path, 0, ""

    def reached(self, least: int) -> bool:
        return self.acknowledged >= least or bool(self.error)

    def run(self) -> None:
        try:
            while True:
                self.acknowledged = self.server.fetch(self.path).json()
        except WorkerError as error:
            self.error = str(error)


def killed_while_appending(
    seconds: float, chance: random.Random, directory: Path
) -> Iterator[tuple[int, int, list[str]]]:
    """For so long, of each kill: how many commits were acknowledged, how many of all were lost, what is wrong."""
    try:
        server = WorkerServer(the_worker(), storage=directory / "workerd", snapshot=True)
    except WorkerError as error:
        raise NotBuilt(str(error)) from None
    there = dict.fromkeys(HOSTS, 0)
    server.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            host = chance.choice(HOSTS)
            appender = Appender(server, f"/{host}/append?log=a&times=1")
            appender.start()
            until(partial(appender.reached, there[host] + chance.randint(1, 40)), 60)
            server.kill()
            appender.join(60)
            server.start()
            found = server.fetch(f"/{host}/audit?log=a").json()
            whole = found["head"] == found["entries"] == found["last"]
            wrong = [] if whole else [f"a commit of {host} is there in part: {found}"]
            told = max(appender.acknowledged, there[host])
            yield told - there[host], max(0, told - found["head"]), wrong
            there[host] = found["head"]
    finally:
        server.kill()
