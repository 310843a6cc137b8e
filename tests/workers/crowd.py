"""A board in a Durable Object that eight workers do, while workerd is killed and the object's clock jumps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from tests.workers.conftest import the_worker
from wasm.workers.harness import WorkerError, WorkerServer, until

WORKERS = 8
JUMPS = (0, 300, -300, 2_000, -2_000)
"""ms that the clock is ahead."""
FAR = (*JUMPS, 120_000, -120_000)
"""The same where there is time: the kernel takes a clock that was this far ahead for wrong, but what rests for a while
does so by the clock that said it."""
SECONDS = 300.0
GONE = ("lost", "gone", "not running")
"""Words of the errors of a server that was killed."""


class Crowd:
    """Half of the workers are calls of the object that work on its board for a while; the others claim from outside.

    What is killed is begun anew. A worker outside keeps its claim over a kill, and hands in its work as if nothing had
    been: whether that counts is for the board to say.
    """

    def __init__(self, server: WorkerServer, name: str, seed: int, jumps: tuple[int, ...] = JUMPS) -> None:
        self.server, self.name, self._random, self._jumps = server, name, Random(seed), jumps
        self.kills = self.jumps = self.late = 0
        """``late``: work that was handed in and did not count."""
        self.errors: list[str] = []
        self._over = threading.Event()
        self._workers = [
            threading.Thread(target=self._go_on, args=(n, Random(seed + n)), daemon=True) for n in range(WORKERS)
        ]

    def ask(self, method: str, *args: Any) -> Any:
        """A method of the object."""
        return ask(self.server, self.name, method, *args)

    def go(self, tasks: int, kills: int) -> dict[str, Any]:
        """Fill the board and do it all, with so many kills; what the object says of it in the end."""
        self.ask("fill", tasks, self._random.randrange(2**32))
        for worker in self._workers:
            worker.start()
        try:
            while self.kills < kills:
                self._over.wait(self._random.uniform(0.2, 0.6))
                if self._random.random() < 0.5:
                    self._kill()
                else:
                    self._jump(self._random.choice(self._jumps))
                self.ask("tend")
            self._jump(0)
            until(lambda: self.ask("tend") == [], SECONDS, "that every task has ended")
        finally:
            self._over.set()
            for worker in self._workers:
                worker.join(SECONDS)
        verdict: dict[str, Any] = self.ask("verdict")
        return verdict

    def _kill(self) -> None:
        self.server.kill()
        self.kills += 1
        self.server.start()

    def _jump(self, ms: int) -> None:
        self.ask("move_clock", ms)
        self.jumps += 1

    def _go_on(self, n: int, random: Random) -> None:
        held: list[str] | None = None
        while not self._over.is_set():
            try:
                if n % 2:
                    self.ask("work", f"w{n}", 0.2 + random.random() / 2, n == 1)
                    continue
                held = held or self.ask("take", f"w{n}")
                self._over.wait(random.choice((0.05, 0.1, 0.2, 0.7)))  # the last is longer than a claim holds
                if held is not None:
                    self.late += not self.ask("give", *held)
                    held = None
            except WorkerError as error:
                if not any(word in str(error) for word in GONE):
                    self.errors.append(str(error))
                self._over.wait(0.05)


def ask(server: WorkerServer, name: str, method: str, *args: Any) -> Any:
    """A method of the object ``name`` that has boards and schedules."""
    query = f"of=BOARDS&name={name}&method={method}&args={quote(json.dumps(args))}"
    found = server.fetch(f"/rpc?{query}", seconds=SECONDS).json()
    return json.loads(found) if isinstance(found, str) else found


def worked_boards(seconds: float, chance: Random, directory: Path) -> Iterator[tuple[Crowd, dict[str, Any]]]:
    """For so long, one board after the other: who worked on it, and what the object says of it."""
    with WorkerServer(the_worker(), storage=directory / "boards", snapshot=True) as server:
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            crowd, number = Crowd(server, f"board{number}", chance.randrange(2**32), FAR), number + 1
            yield crowd, crowd.go(tasks=40, kills=8)
