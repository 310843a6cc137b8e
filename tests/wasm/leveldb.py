"""Logs of LevelDB, in which Chromium keeps IndexedDB, as a killed browser leaves them.

A record is a header (checksum, length, kind) and its content, which a process writes one after the other; none crosses
a border between blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = struct.Struct("<IHB")
BLOCK = 32768


def _table() -> Iterator[int]:
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_TABLE = tuple(_table())


def checksum(content: bytes) -> int:
    """CRC-32C, masked as LevelDB stores it."""
    found = 0xFFFFFFFF
    for byte in content:
        found = _TABLE[(found ^ byte) & 0xFF] ^ found >> 8
    found ^= 0xFFFFFFFF
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(content: bytes, at: int = 0) -> Iterator[tuple[int, int]]:
    """Where each record begins and ends; the end of one that is incomplete lies behind the content's."""
    while at < len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:
            at += left
            continue
        end = at + HEADER.size
        if end <= len(content):
            end += HEADER.unpack_from(content, at)[1]
        yield at, end
        at = end


def unreadable(content: bytes) -> int | None:
    """Where the first record is that was written whole and can't be read, so that LevelDB takes the log for corrupted.

    An incomplete one at the end is none: LevelDB lets it be.
    """
    for at, end in records(content):
        if end > len(content):
            return None
        expected, length, kind = HEADER.unpack_from(content, at)
        if kind == length == 0:
            return None
        if end > at + BLOCK - at % BLOCK or checksum(bytes([kind]) + content[at + HEADER.size : end]) != expected:
            return at
    return None


class Log:
    """A log that somebody writes."""

    def __init__(self, path: Path) -> None:
        self.path, self.whole = path, 0

    def is_torn(self) -> bool:
        """Whether it ends in the middle of a record; reads what is new."""
        with self.path.open("rb") as file:
            file.seek(self.whole - self.whole % BLOCK)
            content = file.read()
        start = self.whole - self.whole % BLOCK
        for _, end in records(content, self.whole - start):
            if end > len(content):
                return True
            self.whole = start + end
        return False


def log_of(profile: Path) -> Path:
    """The newest log of the one origin that has databases in Chromium's profile."""
    return max((profile / "Default" / "IndexedDB").glob("*.leveldb/*.log"))


class Left:
    """What a killed browser left of its logs, read before the next one begins."""

    def __init__(self, profile: Path) -> None:
        found = (profile / "Default" / "IndexedDB").glob("*.leveldb/*")
        self.logs = {
            path.name: path.read_bytes() for path in found if path.name.startswith("MANIFEST") or path.suffix == ".log"
        }

    def corrupted(self) -> str:
        """Which of them LevelDB takes for corrupted, and where; nothing where none is."""
        for name, content in self.logs.items():
            if (at := unreadable(content)) is not None:
                return f"{name} of {len(content)} bytes can't be read at {at}"
        return ""
