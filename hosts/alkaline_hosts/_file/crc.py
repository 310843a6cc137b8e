"""crc32 of many overlapping stretches of one piece of bytes, at a cost that does not grow with their lengths.

The crc of a stretch follows from those of all that stands before its end and before its begin: crc32 is linear over
GF(2), and to put n bytes behind something multiplies its crc by x**(8n), modulo the polynomial.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""The polynomial 1: the highest bit is the lowest power."""


def _times(a: int, b: int) -> int:
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


class Stretches:
    """The crcs of stretches of ``raw``, each begun with ``seed``."""

    def __init__(self, raw: bytes, seed: int) -> None:
        self._raw, self._seed = raw, seed
        self._powers = [_ONE >> 8]
        """x**(8 * 2**k)."""
        self._shifts: dict[int, int] = {}

    def _shift(self, length: int) -> int:
        """x**(8 * length)."""
        found = self._shifts.get(length)
        if found is None:
            found, k, rest = _ONE, 0, length
            while rest:
                if k == len(self._powers):
                    self._powers.append(_times(self._powers[-1], self._powers[-1]))
                if rest & 1:
                    found = _times(found, self._powers[k])
                rest, k = rest >> 1, k + 1
            self._shifts[length] = found
        return found

    def crcs(self, stretches: Iterable[tuple[int, int]]) -> list[int]:
        """The crc of each (begin, end), for one pass over the bytes."""
        wanted = list(stretches)
        before: dict[int, int] = {}
        crc = at = 0
        view = memoryview(self._raw)
        for place in sorted({place for pair in wanted for place in pair}):
            crc = crc32(view[at:place], crc)
            before[place], at = crc, place
        return [before[end] ^ _times(self._shift(end - begin), before[begin] ^ self._seed) for begin, end in wanted]
