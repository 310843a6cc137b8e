"""The store: what a batch's proof is, and a store that moves to another host under all who hold it."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge.codec import Codec
from alkaline_edge.host import Committed, Conflict
from alkaline_edge.runtime.store import Store, Write
from alkaline_edge.testing import SimulatedHost, fault_at
from tests.support import drive


@pytest.mark.parametrize("proof", [None, "r/b"])
def test_a_batch_whose_answer_was_lost_is_known_by_its_proof(proof: str | None) -> None:
    """The key that it names, otherwise the first that it puts: read back, and believed once it is there."""
    asked: list[Any] = []

    class Asked(SimulatedHost):
        async def get(self, keys: Any) -> Any:
            asked.append(list(keys))
            return await super().get(keys)

    async def body() -> None:
        store = Store(Asked(fault=fault_at(1, "applied-then-error")), Codec())
        write = Write({"r/a": None}, {"r/a": b"1", "r/b": b"2"})
        write.proof = proof
        outcome = await store.commit(write)
        assert isinstance(outcome, Committed)
        assert asked == [[proof or "r/a"]]
        entry = (await store.host.get(["r/b"]))[0]
        assert entry is not None
        assert entry.version == outcome.version

    drive(body)


def test_a_conflict_of_our_own_making_is_a_commit() -> None:
    """The first try landed, its answer was lost, and the second meets it: nothing was lost, and nothing done twice."""

    async def body() -> None:
        store = Store(SimulatedHost(fault=fault_at(1, "applied-then-error")), Codec())
        assert isinstance(await store.commit(Write({"r/a": None}, {"r/a": b"1"})), Committed)
        assert isinstance(await store.commit(Write({"r/a": None}, {"r/a": b"2"})), Conflict)

    drive(body)


def test_who_holds_a_store_goes_on_upon_its_new_host() -> None:
    """``use`` changes the host and its limits, and no reference."""
    one, two = SimulatedHost(), SimulatedHost()
    store = Store(one, Codec())
    store.use(two)
    assert store.host is two
    assert store.limits is two.capabilities
