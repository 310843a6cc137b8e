"""SPEC.md's vectors, read by an independent reader, and by the kernel with both of msgpack's implementations."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgpack.fallback
import pytest

from alkaline_edge import bundle, limits
from alkaline_edge import codec as codec_module
from alkaline_edge.codec import Codec, Plain
from alkaline_edge.errors import AlkalineError
from alkaline_edge.events import CLASSES, StepCompleted
from alkaline_edge.history import Cursor, decode_all
from alkaline_edge.runs import ExecutionRecord, Header

TESTS = Path(__file__).parent
SPEC = (TESTS.parent / "SPEC.md").read_text()
VALUES = re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", SPEC.split("\nCommits of one")[0], re.M)
COMMITS = re.findall(r"^\| (\d+) \| `([0-9a-f]+)` \| `([0-9a-f]{32})` \|$", SPEC, re.M)
((_, BUNDLE),) = re.findall(r"^\| `(exe_1)` \| `([0-9a-f]+)` \|$", SPEC, re.M)
GOLDEN = sorted((TESTS / "histories").glob("*.alk"))
Unpack = Callable[[bytes], Any]


# --- the independent reader: SPEC.md by the letter; msgpack, hashlib and nothing of alkaline_edge ---------------------
def unpack_c(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=lambda code, inner: read_ext(unpack_c, code, inner))


def unpack_pure(data: bytes) -> Any:
    unpacker = msgpack.fallback.Unpacker(
        ext_hook=lambda code, inner: read_ext(unpack_pure, code, inner), max_buffer_size=max(1, len(data))
    )
    unpacker.feed(data)
    value = unpacker.unpack()
    assert unpacker.tell() == len(data)
    return value


def read_ext(unpack: Unpack, code: int, data: bytes) -> Any:
    """Section 1's extensions."""
    if code == 2:
        return int.from_bytes(data, "big", signed=True)
    return ({1: "time", 3: "registered", 4: "blob"}[code], unpack(data))


def read_history(commits: list[bytes], unpack: Unpack) -> tuple[str, list[tuple[int, list[Any]]]]:
    """Section 2: the head of a history, and its events with their times; AssertionError where the chain breaks."""
    previous, time_ms, events = b"alkaline_edge\x00\x00\x01", 0, []
    for number, raw in enumerate(commits):
        found, delta, *inner = unpack(raw)
        assert found == previous
        assert inner
        assert number == 0 or delta >= 0
        assert all(0 <= event[0] <= 23 for event in inner)
        time_ms += delta
        events += [(time_ms, event) for event in inner]
        previous = hashlib.sha256(raw).digest()[:16]
    assert events[0][1][0] == 0
    return previous.hex(), events


def read_bundle(data: bytes, unpack: Unpack) -> tuple[dict[str, Any], list[tuple[int, list[Any]]]]:
    """Section 6: the header and the events of a bundle, large values in their places."""
    name, format, header, commits, blobs, digest = unpack(data)
    assert (name, format) == ("alkaline_edge bundle", 1)
    # The array of the first five items: its first byte is 0x95, and then their bytes as they stand, 34 before the end.
    assert hashlib.sha256(b"\x95" + data[1:-34]).digest() == digest
    _, events = read_history(commits, unpack)
    assert [events[0][1][1][key] for key in ("id", "run")] == [header["id"], header["run"]]
    stored = {hashlib.sha256(blob).digest(): blob for blob in blobs}

    def filled(item: Any) -> Any:
        if not (isinstance(item, tuple) and item[0] == "blob"):
            return item
        blob = stored[item[1][0]]
        assert len(blob) == item[1][1]
        return unpack(blob)

    return header, [(at, [filled(item) for item in event]) for at, event in events]


# ----------------------------------------------------------------------------------------------------------------------
both_readers = pytest.mark.parametrize("unpack", [unpack_c, unpack_pure], ids=["c", "pure"])


def test_there_are_vectors() -> None:
    """The page and the patterns of this test fit."""
    assert len(VALUES) == 23
    assert [int(number) for number, _, _ in COMMITS] == [0, 1, 2, 3]


@both_readers
def test_an_independent_reader_reads_the_values(unpack: Unpack) -> None:
    """msgpack and section 1 alone give the values that the page names."""
    read = {name: unpack(bytes.fromhex(data)) for name, data in VALUES}
    assert [read[name] for name in ("nil", "true", "1.5", '"é"', "[]")] == [None, True, 1.5, "é", []]
    numbers = {"-1": -1, "-33": -33, "127": 127, "128": 128, "65536": 65536, "2^64-1": 2**64 - 1, "2^64": 2**64}
    assert {name: read[name] for name in numbers} == numbers
    assert read["-2^63-1"] == -(2**63) - 1
    assert struct.pack(">d", read["-0.0"]) == struct.pack(">d", -0.0)
    assert read["NaN"] != read["NaN"]
    assert list(read['{"b": 1, "a": [2]}']) == ["a", "b"]
    assert read["2026-11-23T00:00:00.000001Z"] == ("time", 1_795_392_000_000_001)
    assert read["1970-01-01T00:00:00.000005Z"] == ("time", 5)
    assert read["1969-12-31T23:59:59.999999Z"] == ("time", -1)
    assert read["bytes 00 ff"] == b"\x00\xff"
    assert read['32 times "x"'] == "x" * 32
    assert read['[1, 2] registered as "point"'] == ("registered", ["point", [1, 2]])
    content = b"\xd9\x64" + b"x" * 100
    assert read['a blob: 100 times "x"'] == ("blob", [hashlib.sha256(content).digest(), len(content)])


@both_readers
def test_an_independent_reader_verifies_the_history(unpack: Unpack) -> None:
    """hashlib, msgpack and section 2 alone follow the chain, the times and the argument digests."""
    commits = [bytes.fromhex(data) for _, data, _ in COMMITS]
    for length, (_, _, digest) in enumerate(COMMITS, 1):
        head, events = read_history(commits[:length], unpack)
        assert head == digest
    assert [event[0] for _, event in events] == [0, 1, 8, 1, 18]
    assert [at for at, _ in events] == [1700000000000, 1700000000125, 1700000000500, 1700000000500, 1700000001000]
    assert events[0][1][1]["id"] == "exe_1"
    assert events[1][1][3] == zlib.crc32(msgpack.packb(["durable execution"]))
    assert events[3][1][3] == zlib.crc32(msgpack.packb([1, "a", {"deep": True}]))
    for damaged in (commits[1:], [commits[0], *commits[2:]], [commits[0], commits[2], commits[1], commits[3]]):
        with pytest.raises(AssertionError):
            read_history(damaged, unpack)


@both_readers
def test_an_independent_reader_reads_the_bundle(unpack: Unpack) -> None:
    """Section 6 alone is enough for the page's bundle, and it holds the page's history."""
    header, events = read_bundle(bytes.fromhex(BUNDLE), unpack)
    assert (header["id"], header["run"], header["status"]) == ("exe_1", "0123456789ab", "completed")
    assert events == read_history([bytes.fromhex(data) for _, data, _ in COMMITS], unpack)[1]


@both_readers
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_an_independent_reader_reads_what_a_run_leaves(path: Path, unpack: Unpack) -> None:
    """The golden bundles are read and verified without the kernel, and every event is the one that the kernel reads."""
    header, events = read_bundle(path.read_bytes(), unpack)
    found, _ = bundle.decode(path.read_bytes(), Codec())
    commits = decode_all(found.commits, Codec())[1]
    assert header["workflow"] == found.workflow
    ours = [(at, event) for commit in commits for at, event in commit]
    assert [(at, event[0], len(event)) for at, event in events] == [(at, event[0], len(event)) for at, event in ours]


@pytest.mark.parametrize("packer", [msgpack.Packer, msgpack.fallback.Packer], ids=["c", "pure"])
def test_the_kernel_writes_these_bytes_with_both_msgpacks(packer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded and encoded again, each vector is the same, with the C extension and with the pure fallback."""
    pack = packer(use_bin_type=True, strict_types=True, use_single_float=False).pack
    monkeypatch.setattr(codec_module, "_PACK", pack)
    codec = Codec()
    codec.register(complex, "point", lambda point: [int(point.real), int(point.imag)], lambda pair: complex(*pair))
    for name, data in VALUES:
        assert codec.encode(codec.decode(bytes.fromhex(data))).hex() == data, name
    cursor = Cursor()
    for _, data, digest in COMMITS:
        before = Cursor(cursor.length, cursor.head, cursor.time_ms)
        timed = cursor.advance(bytes.fromhex(data), codec)
        again = before.encode(timed[0][0], [event for _, event in timed], codec)
        assert again.hex() == data
        assert cursor.head.hex() == digest
    found, _ = bundle.decode(bytes.fromhex(BUNDLE), codec)
    assert bundle.encode(found, codec).hex() == BUNDLE


LONG_FORMS = {
    "a key twice": b"\x82\xa1a\x02\xa1a\x03",
    "keys out of order": b"\x82\xa1b\x02\xa1a\x03",
    "a long integer": b"\xcd\x00\x03",
    "a long length": b"\xd9\x01x",
    "float 32": b"\xca\x3f\x80\x00\x00",
    "a long extension": b"\xc7\x01\x01\x05",
}


@pytest.mark.parametrize("inner", LONG_FORMS.values(), ids=LONG_FORMS)
def test_the_kernel_refuses_a_value_from_outside_that_is_not_canonical(inner: bytes) -> None:
    """Section 1: only one spelling of each value is taken."""
    with pytest.raises(AlkalineError):
        Codec().decode_untrusted(b"\x91" + inner, 1_000)


@pytest.mark.parametrize(
    "inner", [b"\x82\xa1a\x02\xa1a\x03", b"\xcd\x00\x03", b"\x91" * 100 + b"\x03"], ids=["twice", "long", "deep"]
)
def test_the_kernel_refuses_a_bundle_with_a_commit_that_is_not_canonical(inner: bytes) -> None:
    """Sections 1 and 6: also inside of a commit, behind digests that are right."""
    found, _ = bundle.decode(bytes.fromhex(BUNDLE), Codec())
    found.commits = [found.commits[0], found.commits[1][:-1] + inner]
    with pytest.raises(AlkalineError):
        bundle.decode(bundle.encode(found, Codec()), Codec())


def test_the_deepest_value_that_may_be_written_may_be_imported() -> None:
    """A value at the limit of depth is as good inside of a commit as alone; the commit's own lists do not count."""
    deep: list[object] = []
    for _ in range(63):
        deep = [deep]
    found, _commits = bundle.decode(bytes.fromhex(BUNDLE), Codec())
    cursor = Cursor()
    cursor.advance(found.commits[0], Codec())
    event = StepCompleted(1, "1", "deep", None, deep)
    found.commits = [
        found.commits[0],
        cursor.encode(cursor.time_ms, [event._replace(value=Plain(Codec().plain(deep)))], Codec()),
    ]
    assert bundle.decode(bundle.encode(found, Codec()), Codec())[1].last == event


def test_the_table_of_events_is_the_kernels() -> None:
    """Every kind, its number, its name and its items stand in section 3 as the kernel has them."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \| ?(.*?) ?\|$", SPEC.split("## 3.")[1].split("## 4.")[0], re.M)
    assert [(int(number), name) for number, name, _ in rows] == [(n, cls.__name__) for n, cls in enumerate(CLASSES)]
    for (_, name, items), cls in zip(rows, CLASSES, strict=True):
        count = 0 if not items else len(re.sub(r"\(.*?\)", "", items).split(","))
        assert count == len(cls._fields) - 1, name


def test_the_header_and_the_record_have_the_fields_that_the_page_names() -> None:
    """Section 3 names each key of the header, section 5 each of the record, section 6 each of a bundle's header."""
    text = SPEC.split("The header is a map with the keys")[1].split(":")[0]
    assert re.findall(r"`(\w+)`", text) == sorted(Header("a", "b", "c", 1).to_map())
    rows = re.findall(r"^\| (`.*?`) \|", SPEC.split("### The record")[1].split("### Requests")[0], re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(ExecutionRecord("a", "b", "c", 1, "running", 0, 0, copy=True).to_map())
    text = SPEC.split("- `header` is a map:")[1].split(". ")[0].split(".\n")[0]
    names = re.findall(r"`(\w+)`", text)
    assert sorted(names) == sorted(bundle.Bundle("a", "b", "c", 1, 0, 1, "running", []).header())


def test_the_limits_are_the_kernels() -> None:
    """Section 7's numbers are those that the kernel enforces."""
    rows = re.findall(r"\| ([\d,]+) \|$", SPEC.split("## 7.")[1].split("## 8.")[0], re.M)
    assert [int(number.replace(",", "")) for number in rows] == [
        limits.MAX_DEPTH_OF_VALUE, limits.MAX_NODES_OF_VALUE, limits.MAX_BUNDLE_BYTES, limits.MAX_ID, limits.MAX_NAME,
        limits.MAX_MESSAGE,
    ]  # fmt: skip
