"""What must hold of each commit that touches boards, limits and named budgets, read as it lands, in whatever store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alkaline_edge import Codec
from alkaline_edge.board import Task
from alkaline_edge.board.states import WAYS
from alkaline_edge.board.tasks import place_of
from alkaline_edge.host import Batch

STEPS = {(way.start, way.end) for way in WAYS}
CODEC = Codec()


class Audit:
    """Reads commits of all boards, limits and budgets. ``read``: a key's value, None for an absent one.

    ``before`` is called with a batch, and ``landed`` with the same once it is committed. ``wrong`` says what did not
    hold; ``claims`` are the tokens of all claims by task and epoch, ``numbers`` by board those of the events.
    """

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._old: dict[str, Task | None] = {}
        self.wrong: list[str] = []
        self.claims: dict[tuple[str, int], str] = {}
        self.numbers: dict[str, list[int]] = {}

    def before(self, batch: Batch) -> None:
        """Note what the batch is about to replace."""
        self._old = {key: self._task(key) for key, _ in batch.puts if _kind(key) == "t"}

    def landed(self, batch: Batch) -> None:
        """Look at what was committed."""
        for key, value in batch.puts:
            if key in self._old:
                self._look(key.split("/")[1], self._old[key], Task.from_map(CODEC.decode(value)))
            elif _kind(key) == "e":
                self.numbers.setdefault(key.split("/")[1], []).append(CODEC.decode(value)["n"])
            elif _kind(key) == "h":
                self._count(CODEC.decode(value))
            elif key.startswith("l/"):
                self._limit(CODEC.decode(value))
            elif key.startswith("a/"):
                self._budget(CODEC.decode(value))

    def _task(self, key: str) -> Task | None:
        value = self._read(key)
        return None if value is None else Task.from_map(CODEC.decode(value))

    def _look(self, board: str, old: Task | None, new: Task) -> None:
        start = None if old is None else old.state
        if start != new.state and (start, new.state) not in STEPS:
            self.wrong.append(f"{new.id}: no way leads from {start} to {new.state}")
        held, holds = old and old.claim, new.claim
        if (new.state == "running") != (holds is not None):
            self.wrong.append(f"{new.id} is {new.state}, and its claim is {holds}")
        if old is not None and new.epoch < old.epoch:
            self.wrong.append(f"{new.id}: its epoch went back")
        if holds is not None and (held is None or held["token"] != holds["token"]):
            if held is not None:
                self.wrong.append(f"{new.id} went from one holder to another")
            if (new.id, new.epoch) in self.claims:
                self.wrong.append(f"{new.id}: two claims have the epoch {new.epoch}")
            self.claims[new.id, new.epoch] = holds["token"]
        if new.state in ("ready", "running"):
            for parent, gate in new.parents:
                home, id = place_of(board, parent)
                other = self._task(f"k/{home}/t/{id}")
                if other is None or not other.ended or (gate == "done" and other.outcome != "done"):
                    self.wrong.append(f"{new.id} was released, and {parent} is {other and other.state}")
        if new.budget is not None and new.budget[0] is not None and new.spent[0] > new.budget[0]:
            self.wrong.append(f"{new.id} has spent {new.spent[0]} of its {new.budget[0]}")

    def _count(self, head: dict[str, Any]) -> None:
        running, most, budget = sum(head["running"].values()), head["most"], head["budget"]
        if most is not None and running > most:
            self.wrong.append(f"{running} tasks are claimed, and {most} may be")
        for pool, number in head["pooled"].items():
            if number > head["pools"].get(pool, number):
                self.wrong.append(f"pool {pool} has {number} tasks and {head['pools'][pool]} places")
        used = head["spent"][0] + head["reserved"][0]
        if budget is not None and budget[0] is not None and used > budget[0]:
            self.wrong.append(f"the board has spent or reserved {used} of its {budget[0]}")

    def _limit(self, limit: dict[str, Any]) -> None:
        if limit["concurrency"] is not None and len(limit["holders"]) > limit["concurrency"]:
            self.wrong.append(f"limit {limit['name']} has {len(limit['holders'])} holders")

    def _budget(self, budget: dict[str, Any]) -> None:
        used, most = budget["spent"][0] + sum(each[0] for each in budget["reserved"].values()), budget["limits"][0]
        if most is not None and used > most:
            self.wrong.append(f"budget {budget['name']} has {used} of its {most} spent or reserved")


def _kind(key: str) -> str:
    """What a board keeps there: a task, an event, its head; "" for what is none of a board's."""
    return key.split("/")[2] if key.startswith("k/") else ""
