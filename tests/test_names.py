"""What names may look like: whatever passes is whole in a key, and whatever does not is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alkaline_edge import InvalidInput, keys, names
from alkaline_edge.limits import MAX_ATTRIBUTES, MAX_ID, MAX_NAME

SIGNS = "ABCXYZabcxyz0189_.:@~+=-"
IDS = st.text(SIGNS, min_size=1, max_size=MAX_ID)
LONE = "\ud800"


@given(IDS)
def test_an_id_stands_in_a_key_as_it_is(id: str) -> None:
    """It is found again behind the prefix, and no other id's keys begin as its own do."""
    assert names.check_id(id) == id
    assert keys.record(id).removeprefix(keys.RECORDS) == id
    assert keys.requests(id).split("/")[1] == id


@given(st.text(max_size=MAX_ID + 2))
def test_of_any_text_it_is_known_whether_it_is_an_id(text: str) -> None:
    """One that is refused is shown as far as it is short, and in ASCII alone: it goes into terminals and logs."""
    fits = 0 < len(text) <= MAX_ID and all(sign.isascii() and (sign.isalnum() or sign in "_.:@~+=-") for sign in text)
    if fits:
        assert names.check_id(text) == text
        return
    with pytest.raises(InvalidInput) as refused:
        names.check_id(text, "a dedupe key")
    said = str(refused.value)
    assert said.startswith("a dedupe key is 1 to ")
    assert said.isascii()
    assert said.isprintable()


@pytest.mark.parametrize("wrong", [None, 1, b"a", [], "", "a" * (MAX_NAME + 1), f"a{LONE}"])
def test_a_name_is_a_text_that_can_be_written_down(wrong: Any) -> None:
    """Of any characters, up to a length; a lone surrogate is none."""
    for right in ("a", "ä b/c\n", "n" * MAX_NAME):
        assert names.check_name(right, "a topic") == right
    with pytest.raises(InvalidInput, match="a topic"):
        names.check_name(wrong, "a topic")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_text_is_one_exactly_if_it_can_be_encoded(text: str) -> None:
    """What UTF-8 refuses is told before it is stored."""
    assert names.is_text(text)
    assert not names.is_text(text + LONE)


class Whole(int):
    """A class of the user's."""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"a b": 1}, "an attribute's name"),
        ({1: 1}, "an attribute's name"),
        ({"a": None}, "use str, int, float or bool"),
        ({"a": [1]}, "use str, int, float or bool"),
        ({"a": Whole(1)}, "convert it to a plain"),
        ({"a": LONE}, "attribute 'a'"),
        ({"a": 1 << names.MAX_BITS}, "bits"),
        ({f"a{n}": n for n in range(MAX_ATTRIBUTES + 1)}, "at most"),
        ([("a", 1)], "a dict of names and values"),
    ],
)
def test_attributes_that_can_not_be_indexed_are_refused(wrong: Any, said: str) -> None:
    """Each for its own reason; as many as there may be, and the largest integer, are taken."""
    names.check_attributes({f"a{n}": n for n in range(MAX_ATTRIBUTES)})
    names.check_attributes({"a": (1 << names.MAX_BITS) - 1, "b": True, "c": 1.5, "d": ""})
    with pytest.raises(InvalidInput, match=said):
        names.check_attributes(wrong)
