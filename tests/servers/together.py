"""Random commits that are made at once, on a real store, held against the same ones made one after another."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from alkaline_edge.errors import InvalidInput
from alkaline_edge.host import Batch, Check, Committed, Conflict, Host, Put

NAMES = [f"h/{name}" for name in "abcdef"]
Model = dict[str, tuple[bytes, str]]


class Drawn:
    """Batches over few keys. Those of one ``plan`` touch no key of each other, so their order is nobody's."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.model: Model = {}

    def plan(self, lanes: int) -> list[tuple[Batch, Any]]:
        """A batch for each lane, and what must become of it."""
        return [self._batch(f"{lane:02}/", self.random.choice("ppppcdx")) for lane in range(lanes)]

    def _batch(self, lane: str, kind: str) -> tuple[Batch, Any]:
        id, model = self.random.randbytes(8).hex(), self.model
        names = [lane + name for name in self.random.sample(NAMES, 4)]
        checks = [Check(key, model[key][1] if key in model else None) for key in names[1:3]]
        puts = [Put(key, self.random.randbytes(self.random.choice((0, 1, 300)))) for key in names[:2]]
        if kind == "x":
            return Batch(id, (), (Put("no key", b""),)), InvalidInput
        if kind == "c":
            checks[0] = Check(checks[0].key, "f" * 16)
            return Batch(id, tuple(checks), tuple(puts)), Conflict((checks[0].key,))
        gone = tuple(names[2:]) if kind == "p" else tuple(names)
        kept = puts if kind == "p" else []
        model.update({key: (value, id) for key, value in kept})
        for key in gone:
            model.pop(key, None)
        return Batch(id, tuple(checks), tuple(kept), gone), Committed(id)


async def held_against_a_model(host: Host, seed: int, rounds: int = 5, lanes: int = 40) -> None:
    """Each commit has the outcome that is its own, and the store holds what they say."""
    drawn = Drawn(seed)
    for _ in range(rounds):
        plan = drawn.plan(lanes)
        outcomes = await asyncio.gather(*(host.commit(batch) for batch, _ in plan), return_exceptions=True)
        for (_, expected), outcome in zip(plan, outcomes, strict=True):
            assert isinstance(outcome, expected) if isinstance(expected, type) else outcome == expected
    entries = await host.list("", "", 10_000)
    assert {entry.key: (entry.value, entry.version) for entry in entries} == drawn.model


async def racing(hosts: list[Host], rounds: int = 15) -> int:
    """Hosts race for places in one list, many at once: each place has one winner. How many conflicts there were."""
    conflicts = 0

    async def take(host: Host, name: str, n: int) -> str | None:
        nonlocal conflicts
        batch = Batch(f"{name}{n:015x}", (Check(f"p/{n:03}", None),), (Put(f"p/{n:03}", name.encode()),))
        outcome = await host.commit(batch)
        conflicts += isinstance(outcome, Conflict)
        return name if isinstance(outcome, Committed) else None

    places = [(host, f"{number:x}", n) for n in range(rounds * 10) for number, host in enumerate(hosts)]
    winners = await asyncio.gather(*(take(*place) for place in places))
    for n in range(rounds * 10):
        won = [name for name, (_, _, place) in zip(winners, places, strict=True) if name and place == n]
        assert len(won) == 1
        (entry,) = await hosts[0].get([f"p/{n:03}"])
        assert entry is not None
        assert entry.value == won[0].encode()
    return conflicts
