"""SPEC.md's vectors, read by an independent reader, and by the kernel with both of msgpack's implementations."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import msgpack
import msgpack.fallback
import pytest

from alkaline_edge import codec as codec_module
from alkaline_edge.codec import Codec
from alkaline_edge.events import CLASSES
from alkaline_edge.history import Cursor
from alkaline_edge.runs import Header

SPEC = (Path(__file__).parents[1] / "SPEC.md").read_text()
VALUES = re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", SPEC, re.M)
COMMITS = re.findall(r"^\| (\d+) \| `([0-9a-f]+)` \| `([0-9a-f]{32})` \|$", SPEC, re.M)


def read_ext(code: int, data: bytes) -> Any:
    """Sections 1's extensions, by the letter."""
    if code == 1:
        return ("time", msgpack.unpackb(data))
    if code == 2:
        return int.from_bytes(data, "big", signed=True)
    raise AssertionError(f"extension {code} is not in the vectors")


def test_there_are_vectors() -> None:
    """The page and the patterns of this test fit."""
    assert len(VALUES) == 16
    assert [int(number) for number, _, _ in COMMITS] == [0, 1, 2, 3]


def test_an_independent_reader_reads_the_values() -> None:
    """msgpack and section 1 alone give the values that the page names."""
    read = {name: msgpack.unpackb(bytes.fromhex(data), ext_hook=read_ext) for name, data in VALUES}
    assert read["nil"] is None
    assert (read["-1"], read["128"], read["2^64-1"], read["2^64"], read["-2^63-1"]) == (
        -1, 128, 2**64 - 1, 2**64, -(2**63) - 1,
    )  # fmt: skip
    assert struct.pack(">d", read["-0.0"]) == struct.pack(">d", -0.0)
    assert read["NaN"] != read["NaN"]
    assert list(read['{"b": 1, "a": [2]}']) == ["a", "b"]
    assert read["2026-11-23T00:00:00.000001Z"] == ("time", 1_795_392_000_000_001)
    assert read["bytes 00 ff"] == b"\x00\xff"


def test_an_independent_reader_verifies_the_history() -> None:
    """hashlib, msgpack and section 2 alone follow the chain, the times and the argument digests."""
    previous = b"alkaline_edge\x00\x00\x01"
    time_ms, events = 0, []
    for _, data, digest in COMMITS:
        raw = bytes.fromhex(data)
        commit = msgpack.unpackb(raw, ext_hook=read_ext)
        assert commit[0] == previous
        time_ms += commit[1]
        events += [(time_ms, event) for event in commit[2:]]
        previous = hashlib.sha256(raw).digest()[:16]
        assert previous.hex() == digest
    assert [event[0] for _, event in events] == [0, 1, 8, 1, 18]
    assert [at for at, _ in events] == [1700000000000, 1700000000125, 1700000000500, 1700000000500, 1700000001000]
    assert events[0][1][1]["id"] == "exe_1"
    assert events[1][1][3] == zlib.crc32(msgpack.packb(["durable execution"]))
    assert events[3][1][3] == zlib.crc32(msgpack.packb([1, "a", {"deep": True}]))


@pytest.mark.parametrize("packer", [msgpack.Packer, msgpack.fallback.Packer])
def test_the_kernel_writes_these_bytes_with_both_msgpacks(packer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded and encoded again, each vector is the same, with the C extension and with the pure fallback."""
    pack = packer(use_bin_type=True, strict_types=True, use_single_float=False).pack
    monkeypatch.setattr(codec_module, "_PACK", pack)
    codec = Codec()
    for name, data in VALUES:
        assert codec.encode(codec.decode(bytes.fromhex(data))).hex() == data, name
    cursor = Cursor()
    for _, data, digest in COMMITS:
        before = Cursor(cursor.length, cursor.head, cursor.time_ms)
        timed = cursor.advance(bytes.fromhex(data), codec)
        again = before.encode(timed[0][0], [event for _, event in timed], codec)
        assert again.hex() == data
        assert cursor.head.hex() == digest


def test_the_table_of_events_is_the_kernels() -> None:
    """Every kind, its number, its name and its items stand in section 3 as the kernel has them."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| ?(.*?) ?\|$", SPEC.split("## 3.")[1].split("## 4.")[0], re.M)
    assert [(int(number), name) for number, name, _ in rows] == [(n, cls.__name__) for n, cls in enumerate(CLASSES)]
    for (_, name, items), cls in zip(rows, CLASSES, strict=True):
        count = 0 if not items else len(re.sub(r"\(.*?\)", "", items).split(","))
        assert count == len(cls._fields) - 1, name


def test_the_header_has_the_fields_that_the_page_names() -> None:
    """Section 3 names each key of the header."""
    keys = sorted(Header("a", "b", "c", 1).to_map())
    text = SPEC.split("The header is a map with the keys")[1].split(":")[0]
    assert re.findall(r"`(\w+)`", text) == keys
