"""The state of what processes share is stored without its version, and read by older and newer code alike."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import StoreError, stored
from alkaline_edge.structs import dataclass, field


@dataclass(slots=True)
class State:
    """One that is shared."""

    name: str
    held: list[int] = field(default_factory=list)
    version_tag: str | None = None


def test_what_is_stored_comes_back_with_the_version_that_it_was_read_with() -> None:
    """The version is the store's, and no part of what is written."""
    assert stored.to_map(State("a", [1], "old")) == {"name": "a", "held": [1]}
    assert stored.from_map(State, {"name": "a", "held": [1]}, "new", "damaged") == State("a", [1], "new")


def test_what_is_new_is_left_out_and_what_is_missing_is_as_it_begins() -> None:
    """So a store may be shared by two releases."""
    assert stored.from_map(State, {"name": "a", "later": 1}, "v", "damaged") == State("a", [], "v")


@pytest.mark.parametrize("values", [{}, {"held": []}, None, 1])
def test_what_is_no_such_map_is_named_by_its_reader(values: Any) -> None:
    """ERR_STORE, in words that say what to do."""
    with pytest.raises(StoreError, match=r"^it is damaged: restore it$"):
        stored.from_map(State, values, "v", "it is damaged: restore it")
