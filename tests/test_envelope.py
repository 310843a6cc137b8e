"""Envelopes: what leaves a store as bytes is refused in words unless it is whole, of its form, and of this format."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from alkaline_edge import InvalidInput
from alkaline_edge.codec import Codec
from alkaline_edge.envelope import Form, check_bytes, check_fields, check_pairs, pack, unpack

C = Codec()
FORM = Form("a form", 2, "the form", "these bytes are of another form", "the form is damaged")


def test_what_is_packed_comes_out_as_it_was() -> None:
    """Its items, without the name, the format and the digest."""
    assert unpack(FORM, pack(FORM, [{"a": 1}, [b"x"]], C), C) == [{"a": 1}, [b"x"]]


def sealed(*body: Any) -> bytes:
    return C.encode([*body, sha256(C.encode(list(body))).digest()])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sealed("another form", 1, {}, []), "of another form"),
        (sealed("a form", 1, {}), "of another form"),
        (C.encode("a form"), "of another form"),
        (sealed("a form", 2, {}, []), "the form is of format 2, and this alkaline_edge reads 1; upgrade"),
        (C.encode(["a form", 1, {}, [], b"\0" * 32]), "is damaged"),
        (b"\xc1", "."),
        (b"", "."),
    ],
)
def test_what_is_not_sound_is_refused(data: bytes, why: str) -> None:
    """By what it is instead."""
    with pytest.raises(InvalidInput, match=why):
        unpack(FORM, data, C)


@pytest.mark.parametrize("place", range(60))
def test_no_byte_of_it_can_be_another(place: int) -> None:
    """Each is covered by the digest, or by the form."""
    data = bytearray(pack(FORM, [{"a": 1}, [b"x"]], C))
    data[place % len(data)] ^= 1
    with pytest.raises(InvalidInput):
        unpack(FORM, bytes(data), C)


FIELDS: dict[str, type] = {"id": str, "run": str, "workflow": str, "n": int}
SOUND: dict[str, Any] = {"id": "a", "run": "b", "workflow": "w", "n": 0}


def test_fields_are_all_there_and_of_their_types() -> None:
    """No more and no fewer of them; a flag is no number."""
    check_fields(FORM, SOUND, FIELDS)
    wrong: list[Any] = [
        None, [], {}, {**SOUND, "more": 1}, {"id": "a"}, {**SOUND, "id": 1}, {**SOUND, "n": True}, {**SOUND, "n": -1},
        {**SOUND, "n": 2**63}, {**SOUND, "id": "a/b"}, {**SOUND, "run": ""}, {**SOUND, "workflow": "a/b"},
    ]  # fmt: skip
    for values in wrong:
        with pytest.raises(InvalidInput):
            check_fields(FORM, values, FIELDS)


def test_lists_hold_bytes_and_pairs_hold_keys() -> None:
    """Whatever stands in their place is refused."""
    check_bytes(FORM, [b"x"], [])
    check_pairs(FORM, [["a1", b"x"]], [])
    for odd in (None, 1, {}, "x", [None], ["x"]):
        with pytest.raises(InvalidInput):
            check_bytes(FORM, odd)
    for pair in (None, [], ["a"], ["a", "x"], [1, b"x"], ["a/b", b"x"], ("a", b"x")):
        with pytest.raises(InvalidInput):
            check_pairs(FORM, [pair])
