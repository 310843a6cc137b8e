"""Bytes from outside, looked at before any value of them is built: their bounds, and whether they are canonical.

One pass over the bytes that makes nothing but numbers. What passes, msgpack builds at once and no further copy of it is
made: an item of one byte can stand for eighty in memory, so each copy counts.
"""

from __future__ import annotations

from .errors import InvalidInput
from .limits import MAX_DEPTH_OF_VALUE, MAX_NODES_OF_VALUE

EXT_DATETIME, EXT_BIGINT, EXT_REGISTERED, EXT_BLOB = 1, 2, 3, 4
_FIRST = b"first"
"""In place of the key before, at the beginning of a map; it is told by what it is, not by what it says."""
_FIXED = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
_DIGEST = 32


class _Reader:
    """Where a pass stands: ``at`` a place in ``data``."""

    __slots__ = ("at", "data", "nodes")

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.nodes = data, 0, 0

    def number(self, size: int, least: int, most: int | None = None) -> int:
        """The unsigned number of ``size`` bytes behind the present one, which a shorter form could not hold."""
        data, at = self.data, self.at
        value = int.from_bytes(data[at + 1 : at + 1 + size], "big")
        self.at = at + 1 + size
        if self.at > len(data):
            raise _damaged()
        if value < least or (most is not None and value > most):
            raise _not_canonical()
        return value

    def leaf(self, byte: int) -> None:
        """Step over a number, a float, nil or a boolean."""
        if byte in (0xC0, 0xC2, 0xC3):
            self.at += 1
        elif byte == 0xCB:
            self.at += 9
        elif 0xCC <= byte <= 0xCF:
            self.number(1 << (byte - 0xCC), (128, 256, 1 << 16, 1 << 32)[byte - 0xCC])
        elif 0xD0 <= byte <= 0xD3:
            size = 1 << (byte - 0xD0)
            top = 1 << (8 * size)  # a number from here on up to the top is one below zero, and that a long one
            self.number(size, top >> 1, top - (32, 128, 1 << 15, 1 << 31)[byte - 0xD0] - 1)
        else:
            raise _damaged() if byte == 0xC1 else _not_canonical()

    def text(self, byte: int) -> int:
        """How many bytes the text that begins with ``byte`` has; the reader stands at the first of them."""
        if 0xA0 <= byte < 0xC0:
            self.at += 1
            return byte & 31
        if 0xD9 <= byte <= 0xDB:
            return self.number(1 << (byte - 0xD9), (32, 256, 1 << 16)[byte - 0xD9])
        raise InvalidInput("these bytes hold a map with a key that is no text: damaged or not ours")

    def extension(self, byte: int) -> tuple[int, int]:
        """The kind of an extension, and where it ends; the reader stands at its first byte."""
        if byte >= 0xD4:
            size = 1 << (byte - 0xD4)
            self.at += 1
        else:
            size = self.number(1 << (byte - 0xC7), (0, 256, 1 << 16)[byte - 0xC7])
            if size in _FIXED:
                raise _not_canonical()
        self.at += 1
        end = self.at + size
        if end > len(self.data):
            raise _damaged()
        return self.data[self.at - 1], end


def check(data: bytes, around: int = 0) -> None:
    """InvalidInput unless ``data`` is one value in canonical form, within the bounds of depth and count.

    ``around``: levels around the value that do not count. Texts are left to msgpack, which decodes them strictly.
    """
    reader = _Reader(data)
    try:
        _walk(reader, MAX_DEPTH_OF_VALUE + around)
    except IndexError:
        raise _damaged() from None
    if reader.at != len(data):
        raise _damaged()


def _walk(reader: _Reader, deepest: int) -> None:
    data = reader.data
    left, key, stop = 1, None, -1  # items to come of what is open, its last key if it is a map, where it has to end
    outer: list[tuple[int, bytes | None, int]] = []
    nodes = 0
    while True:
        if left == 0:
            if stop >= 0 and reader.at != stop:
                raise _not_canonical()
            if not outer:
                return
            left, key, stop = outer.pop()
            continue
        left -= 1
        if key is not None:
            size = reader.text(data[reader.at])
            found = data[reader.at : reader.at + size]
            if key is not _FIRST and not found > key:
                raise _not_canonical()
            key, reader.at = found, reader.at + size
        nodes += 1
        if nodes > MAX_NODES_OF_VALUE:
            raise _past("count", MAX_NODES_OF_VALUE)
        byte = data[reader.at]
        if byte < 0x80 or byte >= 0xE0:
            reader.at += 1
        elif 0xA0 <= byte < 0xC0:
            reader.at += 1 + (byte & 31)
        elif byte < 0xA0 or byte >= 0xDC:
            count, first = _container(reader, byte)
            outer.append((left, key, stop))
            left, key, stop = count, first, -1
            if count and len(outer) > deepest:
                raise _past("depth", MAX_DEPTH_OF_VALUE)
        elif byte >= 0xD9:
            size = reader.text(byte)
            reader.at += size
        elif 0xC4 <= byte <= 0xC6:
            size = reader.number(1 << (byte - 0xC4), (0, 256, 1 << 16)[byte - 0xC4])
            reader.at += size
        elif 0xC7 <= byte <= 0xC9 or byte >= 0xD4:
            kind, end = reader.extension(byte)
            if kind == EXT_REGISTERED:  # its items are looked at like those of a list
                outer.append((left, key, stop))
                left, key, stop = _registered(reader, end), None, end
                if len(outer) > deepest:
                    raise _past("depth", MAX_DEPTH_OF_VALUE)
            else:
                _check_extension(kind, data[reader.at : end])
                reader.at = end
        else:
            reader.leaf(byte)


def _container(reader: _Reader, byte: int) -> tuple[int, bytes | None]:
    """How many items a list or map has, and what its last key is: None for a list."""
    if byte < 0xA0:
        reader.at += 1
        return byte & 15, None if byte >= 0x90 else _FIRST
    size = 2 + 2 * (byte & 1)
    return reader.number(size, 16 if size == 2 else 1 << 16), None if byte < 0xDE else _FIRST


def _registered(reader: _Reader, end: int) -> int:
    """The items of a registered value, of which the first is its type's name."""
    pair, name = (*reader.data[reader.at : min(end, reader.at + 2)], 0, 0)[:2]
    if pair != 0x92 or not (0xA0 <= name < 0xC0 or 0xD9 <= name <= 0xDB):
        raise _not_canonical()
    reader.at += 1
    return 2


def _check_extension(kind: int, payload: bytes) -> None:
    """A date is a number, a large integer as short as it can be, and a blob's reference a digest and a size.

    Others are of a newer version: whoever decodes them says so.
    """
    if kind == EXT_BIGINT:
        value = int.from_bytes(payload, "big", signed=True)
        if -(2**63) <= value < 2**64 or len(payload) != (value.bit_length() + 8) // 8:
            raise _not_canonical()
    elif kind in (EXT_DATETIME, EXT_BLOB):
        start = 0 if kind == EXT_DATETIME else 3 + _DIGEST
        if kind == EXT_BLOB and payload[:3] != bytes((0x92, 0xC4, _DIGEST)):
            raise InvalidInput("these bytes refer to a large value by what is no digest: refused")
        inner = _Reader(payload)
        inner.at = start
        byte = payload[start]
        negative = byte >= 0xE0 or 0xD0 <= byte <= 0xD3
        if not (byte < 0x80 or negative or 0xCC <= byte <= 0xCF) or (kind == EXT_BLOB and negative):
            raise _not_canonical()
        if byte < 0x80 or byte >= 0xE0:
            inner.at += 1
        else:
            inner.leaf(byte)
        if inner.at != len(payload):
            raise _not_canonical()
    elif kind == 0xFF:
        raise _not_canonical()


def _damaged() -> InvalidInput:
    return InvalidInput("these bytes are not msgpack, or are cut short: damaged or not ours")


def _not_canonical() -> InvalidInput:
    return InvalidInput("these bytes are msgpack, but not in canonical form: re-export them with alkaline_edge")


def _past(what: str, limit: int) -> InvalidInput:
    return InvalidInput(f"the value is past the limit of {what}, {limit}: refused", limit=limit)
