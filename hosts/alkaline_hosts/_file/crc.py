"""crc32 of many overlapping stretches of one piece of bytes, at a cost that does not grow with their lengths.

The crc of a stretch follows from those of all that stands before its end and before its begin: crc32 is linear over
GF(2), and to put n bytes behind something multiplies its crc by x**(8n), modulo the polynomial.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""The polynomial 1: the highest bit is the lowest power."""
_LANES = 4096
"""Numbers that are multiplied at once: 16 KiB of each integer, which a processor keeps at hand."""


def _times(a: int, b: int) -> int:
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _products(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """``_times`` of each pair, of many pairs at once: each number is a lane of 32 bits in one large integer."""
    count = len(a)
    ones = int.from_bytes(b"\1\0\0\0" * count, "little")
    left, right = (int.from_bytes(struct.pack(f"<{count}I", *each), "little") for each in (a, b))
    product = 0
    for bit in range(31, -1, -1):
        product ^= ((left >> bit) & ones) * 0xFFFFFFFF & right
        low = right & ones
        right = (right ^ low) >> 1 ^ low * _POLYNOMIAL  # a lane's lowest bit is gone before it could reach the next
    return list(struct.unpack(f"<{count}I", product.to_bytes(4 * count, "little")))


class Stretches:
    """The crcs of stretches of ``raw``, each begun with ``seed``."""

    def __init__(self, raw: bytes, seed: int) -> None:
        self._raw, self._seed = raw, seed
        self._powers: list[list[int]] = []
        """At [k][digit]: x**(8 * digit * 256**k)."""

    def _shifts(self, lengths: Sequence[int]) -> list[int]:
        """x**(8 * length) of each: a multiplication for each byte of a length, and not for each of its bits."""
        found = [_ONE] * len(lengths)
        for k in range((max(lengths).bit_length() + 7) // 8):
            if k == len(self._powers):
                self._powers.append(self._row())
            row = self._powers[k]
            powers = [row[length >> 8 * k & 255] for length in lengths]
            found = _products(found, powers) if k else powers
        return found

    def _row(self) -> list[int]:
        base = _times(self._powers[-1][-1], self._powers[-1][1]) if self._powers else _ONE >> 8
        row = [_ONE]
        for _ in range(255):
            row.append(_times(row[-1], base))
        return row

    def crcs(self, stretches: Iterable[tuple[int, int]]) -> list[int]:
        """The crc of each (begin, end), for one pass over the bytes."""
        wanted = list(stretches)
        before: dict[int, int] = {}
        crc = at = 0
        view = memoryview(self._raw)
        for place in sorted({place for pair in wanted for place in pair}):
            crc = crc32(view[at:place], crc)
            before[place], at = crc, place
        found: list[int] = []
        for first in range(0, len(wanted), _LANES):
            some = wanted[first : first + _LANES]
            shifts = self._shifts([end - begin for begin, end in some])
            moved = _products(shifts, [before[begin] ^ self._seed for begin, _ in some])
            found += [before[end] ^ each for (_, end), each in zip(some, moved, strict=True)]
        return found
