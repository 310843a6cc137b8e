"""Reading a file host's log: its records in order, and what it means when they stop before the end of the file.

The last record may be torn: the process was killed within its write, or the power went before its sync. Only then
may the log be cut. A record is torn when nothing valid stands behind it and it is not all there: it runs past the
end of the file, or a whole sector of it is zeros, which is how a file system shows a part that was never written.
Everything else is damage: an acknowledged commit may be lost, so it is reported and nothing is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from .crc import Stretches
from .format import FRAME, FRAME_SIZE, MIN_LENGTH, SEQUENCES, read_at

BLOCK = 1024 * 1024
"""Bytes read at once."""
SECTOR = 512
"""Bytes that a disk writes whole."""
_FEW = 8
LONGEST = 80 * 1024 * 1024
"""Bytes of a record that is longer than any this host writes: 64 MiB of values, 10,000 keys of 512 bytes, and room."""


class Found(NamedTuple):
    """One record: ``raw[start:end]`` is its batch id and items; ``raw[0]`` is byte ``base`` of the file."""

    offset: int
    next: int
    raw: bytes
    base: int
    start: int
    end: int


def records(fd: int, offset: int, size: int, sequence: int, seed: int) -> Iterator[Found]:
    """The whole records from ``offset`` on, the first of which has the number behind ``sequence``.

    Stops at the first place that is not the expected record, or within FRAME_SIZE bytes of ``size``.
    """
    raw, base = b"", offset
    view = memoryview(raw)
    while size - offset >= FRAME_SIZE:
        at = offset - base
        if at + FRAME_SIZE > len(raw):
            raw, base, at = read_at(fd, min(BLOCK, size - offset), offset), offset, 0
            view = memoryview(raw)
            if len(raw) < FRAME_SIZE:
                return
        crc, length, number = FRAME.unpack_from(raw, at)
        sequence = (sequence + 1) % SEQUENCES
        following = offset + FRAME_SIZE + length
        if number != sequence or length < MIN_LENGTH or following > size:
            return
        if following - base > len(raw):
            raw, base, at = read_at(fd, max(following - offset, min(BLOCK, size - offset)), offset), offset, 0
            view = memoryview(raw)
            if len(raw) < following - base:
                return
        if crc32(view[at + 4 : following - base], seed) != crc:
            return
        yield Found(offset, following, raw, base, at + FRAME_SIZE, following - base)
        offset = following


def damage(fd: int, offset: int, size: int, sequence: int, seed: int) -> str | None:
    """What is wrong where the records stop, at ``offset`` behind record ``sequence``; None for a torn tail."""
    if size - offset < FRAME_SIZE:
        return None
    crc, length, number = FRAME.unpack(read_at(fd, FRAME_SIZE, offset))
    following = offset + FRAME_SIZE + length
    if length >= MIN_LENGTH and _checks(fd, offset, length, size, seed, crc):
        return f"a record numbered {number} stands in its place"
    found = _valid_behind(fd, offset, size, sequence, seed)
    if found is not None:
        return f"its bytes are wrong, and a whole record follows at byte {found}"
    if size - offset > LONGEST:
        return f"{size - offset} bytes follow that are no record, more than one write leaves behind"
    raw = read_at(fd, size - offset, offset)
    if following > size:
        # A record that is all there but for its length is damage: an acknowledged one of which a bit has turned.
        mended = (len(raw) - FRAME_SIZE).to_bytes(4, "big") + raw[8:]
        return "its length is wrong" if crc32(mended, seed) == crc else None
    edge = -offset % SECTOR
    sectors = [raw[:edge], *(raw[n : n + SECTOR] for n in range(edge, len(raw), SECTOR))]
    if any(sector and not sector.strip(b"\0") for sector in sectors):
        return None
    return "all of it is there and its bytes are wrong"


def _checks(fd: int, offset: int, length: int, size: int, seed: int, crc: int) -> bool:
    if length > LONGEST or offset + FRAME_SIZE + length > size:
        return False
    raw = read_at(fd, FRAME_SIZE - 4 + length, offset + 4)
    return len(raw) == FRAME_SIZE - 4 + length and crc32(raw, seed) == crc


def _first_whole(fd: int, likely: list[tuple[int, int, int]], size: int, seed: int) -> int | None:
    """The first of what looks like records, (offset, length, crc), whose bytes are right.

    A torn value may be made of what looks like records, each as long as the rest of the file: they go together.
    """
    if len(likely) <= _FEW:
        return next((at for at, length, crc in likely if _checks(fd, at, length, size, seed, crc)), None)
    first = likely[0][0]
    raw = read_at(fd, max(at + FRAME_SIZE + length for at, length, _ in likely) - first, first)
    stretches = [(at + 4 - first, at + FRAME_SIZE + length - first) for at, length, _ in likely]
    crcs = Stretches(raw, seed).crcs(stretches)
    return next((at for (at, _, crc), there in zip(likely, crcs, strict=True) if crc == there), None)


def _valid_behind(fd: int, offset: int, size: int, sequence: int, seed: int) -> int | None:
    """Where the first whole record behind ``offset`` begins. Its number says how many were lost at most."""
    shortest = FRAME_SIZE + MIN_LENGTH
    most = (size - offset) // shortest + 1
    highs = {(sequence + n) % SEQUENCES >> 16 for n in range(1, most + 2, 0x8000)}
    highs.add((sequence + most + 1) % SEQUENCES >> 16)
    either = b"|".join(re.escape(high.to_bytes(2, "big")) for high in sorted(highs))
    # length and sequence: not 0, not above LONGEST, and a number that can be next. Zero-width, so matches overlap.
    frames = re.compile(b"(?s)(?=(?!\0{4})[\0-\5].{3}(?:" + either + b"))")
    block, unpack = offset + 1, FRAME.unpack_from
    while size - block >= shortest:
        raw = read_at(fd, min(BLOCK, size - block), block)
        likely: list[tuple[int, int, int]] = []
        for match in frames.finditer(raw, 4, max(4, len(raw))):
            at = match.start() - 4
            if at + FRAME_SIZE > len(raw):
                break
            crc, length, number = unpack(raw, at)
            if not 0 < (number - sequence) % SEQUENCES <= most + 1 or not MIN_LENGTH <= length <= LONGEST:
                continue
            if block + at + FRAME_SIZE + length <= size:
                likely.append((block + at, length, crc))
        found = _first_whole(fd, likely, size, seed)
        if found is not None:
            return found
        block += max(1, len(raw) - FRAME_SIZE)
    return None
