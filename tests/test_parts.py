"""Parts, letters and places from outside: whole, or refused before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from alkaline_edge import (
    ConflictError,
    InvalidInput,
    StoreError,
    parts,
)
from alkaline_edge.codec import Codec
from alkaline_edge.parts import Place
from alkaline_edge.runtime.handing import Local
from tests.exchanged import closed, other, suspended
from tests.support import drive


def test_every_damaged_byte_of_a_part_or_a_letter_is_refused() -> None:
    """One bit flipped anywhere, or an end cut off: a typed error, and nothing is written."""

    async def test() -> None:
        a, b = await suspended(), other()
        identity = await Local(b.runtime).identity()
        part = await Local(a.runtime).part("a", None)
        await a.runtime.signal("a", "other", 1)
        letter = await Local(a.runtime).freeze("a", "b", identity)
        before = dict(b.host.store.entries)
        for data, verb in ((part, Local(b.runtime).accept), (letter, Local(b.runtime).take_over)):
            cuts = [data[:n] for n in (0, 1, len(data) // 2, len(data) - 1)]
            for damaged in (*cuts, *(data[:n] + bytes([data[n] ^ 4]) + data[n + 1 :] for n in range(len(data)))):
                with pytest.raises((InvalidInput, StoreError)):
                    await verb(damaged)
        assert b.host.store.entries == before
        await closed(a, b)

    drive(test)


@pytest.mark.parametrize("field", ["before", "record", "commits", "blobs", "first", "version", "run"])
def test_a_part_of_wrong_shapes_with_a_right_digest_is_refused(field: str) -> None:
    """An edit that computes the digest anew is still a typed error, and nothing is written."""
    wrong: dict[str, Any] = {
        "before": b"x" * 16, "record": {"attributes": {"a": [1]}}, "commits": [b"\x90"], "blobs": [b"\xc0"], "first": 1,
        "version": 9, "run": "another",
    }  # fmt: skip

    async def test() -> None:
        a, b, codec = await suspended(), other(), Codec()
        part, _ = parts.decode_part(await Local(a.runtime).part("a", None), codec)
        setattr(part, field, wrong[field])
        with pytest.raises((InvalidInput, StoreError, ConflictError)):
            await Local(b.runtime).accept(parts.encode(part, codec))
        assert b.host.store.entries == {}
        await closed(a, b)

    drive(test)


def test_a_place_from_outside_is_checked() -> None:
    """What the other side says is not believed in its shape."""
    for raw in (None, [], ["a"] * 9, {}):
        with pytest.raises(InvalidInput, match="does not say where"):
            Place.of(raw)
