"""The codec: one value has one form in bytes, and what has none is refused by its path."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import pytest

from alkaline_edge import Codec, InvalidInput, StoreError
from alkaline_edge.codec import BlobRef
from alkaline_edge.limits import MAX_DEPTH_OF_VALUE


class Box:
    def __init__(self, items: list[Any]) -> None:
        self.items = items


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 127, 128, -(2**63), 2**64 - 1, 2**64, -(2**200), 1.5, -0.0, float("inf"), "", "é\0", b"\xff",
        [], {}, {"a": [1, {"c": None}], "b": 1}, datetime(1969, 7, 20, 20, 17, tzinfo=UTC), BlobRef(b"x" * 32, 5),
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    """The same value and the same type; encoded again, the same bytes."""
    codec = Codec()
    data = codec.encode(value)
    back = codec.decode(data)
    assert (back, type(back)) == (value, type(value))
    assert codec.encode(back) == data
    assert repr(back) == repr(value)


def test_equal_values_have_equal_bytes() -> None:
    """Whatever order a map was made in, whatever zone a time was given in, tuple or list; and of both packers."""
    codec = Codec()
    assert codec.encode({"a": 1, "b": 2}) == codec.encode({"b": 2, "a": 1})
    assert codec.encode((1, (2,))) == codec.encode([1, [2]])
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert codec.encode(noon) == codec.encode(noon.astimezone(timezone(timedelta(hours=9))))
    assert codec.encode([1.0, 1, "1"]) == msgpack.packb([1.0, 1, "1"])
    from msgpack import fallback

    plain = codec.plain({"z": [2**70, noon], "a": b"x"})
    assert fallback.Packer(use_bin_type=True, strict_types=True).pack(plain) == codec.encode(
        {"a": b"x", "z": [2**70, noon]}
    )


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, {1}]}, "value.a[1]"),
        ({"a": {1: 2}}, "value.a"),
        ([object()], "value[0]"),
        (["\ud800"], "value[0]"),
        ([datetime(2026, 1, 1)], "value[0]"),  # the point
    ],
)
def test_what_has_no_form_is_refused_by_its_path(value: Any, place: str) -> None:
    """The message names where it stands, and holds nothing of what else is there."""
    with pytest.raises(InvalidInput) as refused:
        Codec().encode(value)
    assert place in str(refused.value)


def test_a_cycle_ends() -> None:
    """It is nested deeper than a value may be."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidInput, match="break the cycle"):
        Codec().encode(circle)


def test_a_registered_type_has_one_name() -> None:
    """Its instances come back; a second registration is refused; without it the value is refused by name."""
    codec = Codec()
    codec.register(Box, "box", lambda box: box.items, Box)
    back = codec.through({"x": Box([1, 2])})
    assert back["x"].items == [1, 2]
    for cls, name in ((Box, "other"), (dict, "box")):
        with pytest.raises(InvalidInput, match="registered already"):
            codec.register(cls, name, lambda value: value, lambda value: value)
    with pytest.raises(InvalidInput, match="'box'; register it"):
        Codec().decode(codec.encode(Box([1])))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\x81\x01\x02", b"\x01\x02"])
def test_bytes_that_no_codec_wrote_are_an_error_of_ours(data: bytes) -> None:
    """Cut short, of a forged length, with something behind them, or a map with other keys than texts."""
    codec = Codec()
    for read in (codec.decode, lambda given: codec.decode_untrusted(given, 1_000)):
        try:
            value = read(data)
        except (StoreError, InvalidInput):
            continue
        assert codec.decode(codec.encode(value)) == value


def test_the_digest_of_a_call_is_that_of_its_values() -> None:
    """Keyword arguments count by name and not by order, what can't be written by its type; none given, no digest."""
    codec = Codec()
    assert codec.digest_of_call((1,), {"a": 1, "b": 2}) == codec.digest_of_call((1,), {"b": 2, "a": 1})
    assert codec.digest_of_call((1,), {}) != codec.digest_of_call((2,), {})
    assert codec.digest_of_call((object(),), {}) == codec.digest_of_call((object(),), {})
    assert codec.digest_of_call((), {}) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_is_equal_and_shares_nothing_that_changes(seed: int) -> None:
    """Values of any shape; what can't be stored is handed on as it is, and costs nothing."""
    draw = random.Random(seed)
    codec = Codec()
    codec.register(Box, "box", lambda box: box.items, Box)
    client = object()
    changeable: list[Any] = []

    def make(depth: int) -> Any:
        kind = draw.choice(
            ["int", "str", "client", "list", "dict", "tuple", "set", "bytearray", "box"][: 9 if depth else 3]
        )
        match kind:
            case "list":
                made: Any = [make(depth - 1) for _ in range(draw.randint(0, 3))]
            case "dict":
                made = {f"k{n}": make(depth - 1) for n in range(draw.randint(0, 3))}
            case "tuple":
                return tuple(make(depth - 1) for _ in range(draw.randint(0, 3)))
            case "set":
                made = {1, 2}
            case "bytearray":
                made = bytearray(b"x")
            case "box":
                made = Box([1])
            case _:
                return {"int": 10**30, "str": "é", "client": client}[kind]
        changeable.append(made)
        return made

    def walk(value: Any) -> Any:
        yield value
        inner = value.values() if isinstance(value, dict) else value.items if isinstance(value, Box) else value
        if isinstance(value, (list, tuple, dict, Box)):
            for item in inner:
                yield from walk(item)

    value = make(4)
    copy = codec.apart(value)
    assert not {id(each) for each in walk(copy)} & {id(each) for each in changeable}
    assert [type(each) for each in walk(copy)] == [type(each) for each in walk(value)]
    for plain in (5, "text", 1.5, b"bytes", (1, "two"), client):
        assert codec.apart(plain) is plain


def test_a_key_that_is_no_text_is_refused_as_a_value_is() -> None:
    """By the place of its map."""
    for value in ({"\ud800": 1}, [{"k": {"a\udfff": 1}}]):
        with pytest.raises(InvalidInput, match=r"a key of value.* lone surrogate"):
            Codec().encode(value)


class Around:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


def test_a_registered_value_is_a_level_and_so_is_what_a_converter_gives() -> None:
    """One that holds another of its kind is bounded as a list is; a converter that gets nowhere is an error."""
    codec = Codec()
    codec.register(Around, "around", lambda around: around.inner, Around)

    def around(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = Around(value)
        return value

    codec.encode(around(MAX_DEPTH_OF_VALUE))
    with pytest.raises(InvalidInput, match="nested deeper"):
        codec.encode(around(MAX_DEPTH_OF_VALUE + 1))
    with pytest.raises(InvalidInput, match="nested deeper"):
        Codec(lambda value, path: value).encode(object())


def test_each_part_of_a_call_counts_for_its_digest() -> None:
    """What stands by its place and what has a name, together and alone."""
    codec = Codec()
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), ((1,), {}), ((2,), {}), ((1, 2), {}), ((1,), {"a": 1}), ((1,), {"a": 2}), ((1,), {"b": 1}),
        ((), {"a": 1}), ((), {"a": 2}),
    ]  # fmt: skip
    digests = [codec.digest_of_call(args, named) for args, named in calls]
    assert digests[0] is None
    assert len(set(digests)) == len(calls)
