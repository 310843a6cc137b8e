"""The bytes of a file host's log, format version 1.

The file is a header and then records, nothing between them and nothing behind them. Integers are big-endian; a
``uvarint`` is LEB128: 7 bits a byte, the lowest first, the high bit set on every byte but the last.

Header, 24 bytes, the same in every version::

    8   magic     89 61 6c 6b 6c 6f 67 0a ("\\x89alklog\\n")
    2   version   1
    2   flags     1: records may hold several batches; a reader refuses a flag that it does not know
    8   salt      random, new for every file and every compaction
    4   seed      CRC-32 of the 20 bytes before

Record, one for each committed batch or group of batches, appended with one write and then synced, before the next::

    4   crc       CRC-32 of everything in the record behind this field, started at the header's seed
    4   length    bytes behind ``sequence``; at least 9, so never 0
    4   sequence  1 for the first record of the file, then one more for each, modulo 2**32
    8   batch id  the raw bytes of the 16 hexadecimal digits; the version of every key put here
    *   items     until the record's end

The seed ties a record to its file: bytes of another log, stored here as a value or left on the disk by a file that
was deleted, are never taken for records of this one.

Item: a uvarint ``number * 4 + operation``, then by operation::

    0  put, the last item   key, value = the rest of the record
    1  put                  key, uvarint length of the value, value
    2  delete               key
    3  prefix               (number 0) uvarint length, text: defines the next prefix number of the file
    3  next batch           (number 1) 8 bytes: the id of the batch to which the items from here on belong

Batches that are committed at the same time share a record, in their order: so all of them are torn, or none, and what
is torn was never acknowledged. A file without the flag, which alkaline_edge 0.1 made, holds one batch in each record.

A key is prefix ``number`` (numbers count from 0 in the order of their definitions, through the whole file) followed
by a suffix: uvarint length, text. All text is ASCII. A writer may cut keys where it likes. This one defines the key
up to and with its last "/" when it puts one like that for the second time, and cuts behind the first "/" until then:
many prefixes are used once, and a definition is kept in memory for as long as the file is open.

So a batch with one put costs, beside its value and once its prefix is defined: 20 bytes, 1 to 3 for the prefix
number (1 below 32, 2 below 4,096, 3 below 524,288), 1 for the length of the suffix, and the suffix.

A later put or delete of a key makes the earlier one garbage; compaction writes the live keys into a new file, a
record of one put for each, so that each keeps its version. Checks are not stored.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\x89alklog\n"
VERSION = 1
HEADER = struct.Struct(">8sHH8sI")
FRAME = struct.Struct(">III")
REST_OF_FRAME = struct.Struct(">II8s")
FRAME_SIZE = FRAME.size
ID_SIZE = 8
MIN_LENGTH = ID_SIZE + 1
SEQUENCES = 2**32
MET = 4096
"""Prefixes that were met once and are remembered, so that the second time defines them."""
LAST_PUT, PUT, DELETE, PREFIX = 0, 1, 2, 3
NEXT_BATCH = 1 << 2 | 3
GROUPS = 1
"""The flag of a file whose records may hold several batches."""


class Header(NamedTuple):
    """A file's first 24 bytes, taken apart. ``intact``: its CRC is right."""

    version: int
    flags: int
    seed: int
    intact: bool


Item = tuple[str, int, int]
"""A put: its key, and where its value begins and ends in the bytes decoded. A delete: its key, -1, -1.

Where the next batch of a group begins: its id, -2, -2."""
Member = tuple[bytes, Sequence[tuple[str, bytes]], Sequence[str]]
"""A batch of a group: the raw bytes of its id, its puts, and the keys that it deletes."""


class Malformed(ValueError):
    """A record whose CRC is right and whose items make no sense."""


def new_header(salt: bytes) -> bytes:
    """The header of a new file; ``salt`` is 8 random bytes."""
    head = HEADER.pack(MAGIC, VERSION, GROUPS, salt, 0)[:-4]
    return head + crc32(head).to_bytes(4, "big")


def read_header(raw: bytes) -> Header | None:
    """The header in the first bytes of a file, None when it is no file of ours."""
    if len(raw) < HEADER.size or not raw.startswith(MAGIC):
        return None
    _, version, flags, _, seed = HEADER.unpack_from(raw)
    return Header(version, flags, seed, crc32(raw[: HEADER.size - 4]) == seed)


def uvarint(n: int) -> bytes:
    """``n`` >= 0 as LEB128."""
    if n < 0x80:
        return n.to_bytes(1, "big")
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def read_uvarint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and the place behind it; IndexError past the end of ``raw``."""
    n = shift = 0
    while True:
        byte = raw[at]
        at += 1
        n |= (byte & 0x7F) << shift
        if byte < 0x80:
            return n, at
        shift += 7
        if shift > 35:
            raise Malformed("a number of more than 5 bytes")


class Encoder:
    """Builds the records that follow ``sequence`` in a file with that ``seed`` and those prefixes.

    A record that did not reach the file is taken back with ``undo``.
    """

    def __init__(self, seed: int, prefixes: Iterable[str] = (), sequence: int = 0) -> None:
        self.seed = seed
        self.sequence = sequence
        self.numbers = {prefix: n for n, prefix in enumerate(prefixes)}
        self._fresh: list[str] = []
        self._met: set[str] = set()

    def one_put(self, id: bytes, key: str, value: bytes) -> bytes:
        """The record of a batch with one put; the value is its last bytes."""
        cut = key.rfind("/") + 1
        number = self.numbers.get(key[:cut])
        suffix = key[cut:].encode("ascii")
        if self._fresh:
            self._fresh = []
        if number is None:
            items = self._item(key, LAST_PUT) + value
        elif number < 32 and len(suffix) < 0x80:
            items = b"%c%c%b%b" % (number << 2, len(suffix), suffix, value)
        else:
            items = self._key(number, LAST_PUT, suffix) + value
        return self._frame(id, items)

    def batch(self, id: bytes, puts: Sequence[tuple[str, bytes]], deletes: Iterable[str]) -> tuple[bytes, list[int]]:
        """The record of any batch, and where each put's value begins in it."""
        self._fresh = []
        parts: list[bytes] = []
        places, _ = self._items(parts, FRAME_SIZE + ID_SIZE, puts, deletes, True)
        return self._frame(id, b"".join(parts)), places

    def group(self, members: Sequence[Member]) -> tuple[bytes, list[list[int]]]:
        """The record of several batches, and where the values of each one's puts begin in it."""
        self._fresh = []
        parts: list[bytes] = []
        found: list[list[int]] = []
        at, last = FRAME_SIZE + ID_SIZE, len(members) - 1
        for n, (id, puts, deletes) in enumerate(members):
            if n:
                parts.append(b"%c%b" % (NEXT_BATCH, id))
                at += 1 + ID_SIZE
            places, at = self._items(parts, at, puts, deletes, n == last)
            found.append(places)
        return self._frame(members[0][0], b"".join(parts)), found

    def _items(
        self, parts: list[bytes], at: int, puts: Sequence[tuple[str, bytes]], deletes: Iterable[str], final: bool
    ) -> tuple[list[int], int]:
        """Add the items of a batch, the first at place ``at`` of its record: where each value begins, and the end."""
        places: list[int] = []
        for key in deletes:
            parts.append(self._item(key, DELETE))
            at += len(parts[-1])
        last = len(puts) - 1 if final else -1
        for n, (key, value) in enumerate(puts):
            head = self._item(key, LAST_PUT) if n == last else self._item(key, PUT) + uvarint(len(value))
            parts += (head, value)
            places.append(at + len(head))
            at += len(head) + len(value)
        return places, at

    def undo(self) -> None:
        """Forget the record built last."""
        self.sequence = (self.sequence - 1) % SEQUENCES
        for prefix in self._fresh:
            del self.numbers[prefix]
        self._fresh = []

    def _item(self, key: str, operation: int) -> bytes:
        cut = key.rfind("/") + 1
        prefix = key[:cut]
        number = self.numbers.get(prefix)
        definition = b""
        if number is None and (operation == DELETE or prefix not in self._met):
            if operation != DELETE:
                if len(self._met) >= MET:
                    self._met.clear()
                self._met.add(prefix)
            cut = key.find("/") + 1
            prefix = key[:cut]
            number = self.numbers.get(prefix)
        if number is None:
            definition = self._define(prefix)
            number = self.numbers[prefix]
        return definition + self._key(number, operation, key[cut:].encode("ascii"))

    def _key(self, number: int, operation: int, suffix: bytes) -> bytes:
        return uvarint(number << 2 | operation) + uvarint(len(suffix)) + suffix

    def _define(self, prefix: str) -> bytes:
        self._met.discard(prefix)
        self.numbers[prefix] = len(self.numbers)
        self._fresh.append(prefix)
        text = prefix.encode("ascii")
        return bytes((PREFIX,)) + uvarint(len(text)) + text

    def _frame(self, id: bytes, items: bytes) -> bytes:
        self.sequence = sequence = (self.sequence + 1) % SEQUENCES
        covered = REST_OF_FRAME.pack(ID_SIZE + len(items), sequence, id) + items
        return crc32(covered, self.seed).to_bytes(4, "big") + covered


def decode_items(raw: bytes, at: int, end: int, prefixes: list[str]) -> list[Item]:
    """The puts and deletes of the items in ``raw[at:end]``; definitions go to the end of ``prefixes``. Malformed."""
    items: list[Item] = []
    try:
        while at < end:
            # Numbers below 128 are nearly all there are, and a file may hold millions: no call for those.
            head = raw[at]
            head, at = (head, at + 1) if head < 0x80 else read_uvarint(raw, at)
            operation = head & 3
            if head == NEXT_BATCH:
                items.append((raw[at : at + ID_SIZE].hex(), -2, -2))
                at += ID_SIZE
                continue
            size = raw[at]
            size, at = (size, at + 1) if size < 0x80 else read_uvarint(raw, at)
            text = raw[at : at + size].decode("ascii")
            at += size
            if operation == PREFIX:
                if head != PREFIX:
                    raise Malformed("a definition of a prefix with a number")
                prefixes.append(text)
            elif operation == DELETE:
                items.append((prefixes[head >> 2] + text, -1, -1))
            elif operation == PUT:
                size, at = read_uvarint(raw, at)
                items.append((prefixes[head >> 2] + text, at, at + size))
                at += size
            else:
                items.append((prefixes[head >> 2] + text, at, end))
                at = end + 1 if at > end else end
    except (IndexError, UnicodeDecodeError) as error:
        raise Malformed("an item that does not fit into its record") from error
    if at != end:
        raise Malformed("an item that runs past the end of its record")
    return items


def read_at(fd: int, size: int, offset: int) -> bytes:
    """``size`` bytes at ``offset``; fewer at the end of the file."""
    raw = _read_once(fd, size, offset)
    while len(raw) < size:  # one call may give less than it was asked for
        more = _read_once(fd, size - len(raw), offset + len(raw))
        if not more:
            break
        raw += more
    return raw


def _read_once(fd: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows; the handle appends, so nothing else relies on its position
    return os.read(fd, size)
