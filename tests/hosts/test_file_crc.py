"""The crcs of many overlapping stretches, and a torn value that looks like records."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput
from alkaline_edge.host import Batch, Put
from alkaline_hosts._file import scan as file_scan
from alkaline_hosts._file.crc import Stretches
from alkaline_hosts.file import FileHost


@given(
    st.binary(max_size=300), st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)))
)
def test_each_crc_is_that_of_its_stretch(raw: bytes, seed: int, ends: list[tuple[int, int]]) -> None:
    """As zlib's own, for empty and whole stretches, too."""
    stretches = [(min(a, b, len(raw)), min(max(a, b), len(raw))) for a, b in ends]
    assert Stretches(raw, seed).crcs(stretches) == [crc32(raw[a:b], seed) for a, b in stretches]


def test_a_torn_value_of_fake_records_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes read at open are a few times those of the file, however many places look like a record."""
    path, size = tmp_path / "s", 256 * 1024
    frames = b"".join(struct.pack(">III", 0, max(9, size - 12 * n - 60), 3 + n % 2_000) for n in range(size // 12))
    host = FileHost(str(path), fsync=False)
    asyncio.run(host.commit(Batch("00" * 8, (), (Put("r/a", b"x"),))))
    asyncio.run(host.commit(Batch("01" * 8, (), (Put("i/r/a1", frames),))))
    asyncio.run(host.close())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    read = 0
    real = file_scan.read_at

    def counted(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        read += count
        return real(fd, count, offset)

    monkeypatch.setattr(file_scan, "read_at", counted)
    host = FileHost(str(path), fsync=False)
    assert [entry.key for entry in asyncio.run(host.list("", "", 10))] == ["r/a"]
    asyncio.run(host.close())
    assert read < 8 * size


def test_more_items_than_are_taken_are_refused_before_they_are_built() -> None:
    """A list says how long it is before its first item."""
    data = b"\xdd" + (16 * 1024 * 1024).to_bytes(4, "big") + b"\x80" * 1024
    with pytest.raises(InvalidInput):
        Codec().decode_untrusted(data, 64 * 1024 * 1024)
