"""One log file and its index: opening, creating, loading, following, appending, compacting.

Plain OSErrors come out of here where the operating system refused, StoreErrors where the bytes are wrong;
``file.FileHost`` turns the former into the latter and decides what a failure means for the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Sequence
from typing import NamedTuple

from alkaline_edge.errors import StoreError
from alkaline_edge.host import Batch, Entry

from .format import (
    GROUPS,
    HEADER,
    ID_SIZE,
    SEQUENCES,
    VERSION,
    Encoder,
    Header,
    Malformed,
    Member,
    decode_items,
    new_header,
    read_at,
    read_header,
)
from .index import Extent, Index
from .scan import damage, records

COMPACTION_CHUNK = 1024 * 1024
"""Bytes collected for one write of a compaction."""
FIRST_SEQUENCE = 0
"""The number behind which a new file's records begin."""
_BINARY = getattr(os, "O_BINARY", 0)

if sys.platform == "darwin":
    import fcntl

    def sync(fd: int) -> None:
        """Through the disk's own cache: fsync on macOS stops in front of it."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
else:
    sync = getattr(os, "fdatasync", os.fsync)


def sync_directory(path: str) -> None:
    """Make the creation or the renaming of ``path`` durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, raw: bytes) -> None:
    """Every byte of ``raw``; OSError when the system refuses part of it."""
    written = os.write(fd, raw)
    while written < len(raw):
        written += os.write(fd, memoryview(raw)[written:])


def header_of(fd: int, name: str) -> Header:
    """The header of an open log; StoreError for one that this release can't use."""
    header = read_header(read_at(fd, HEADER.size, 0))
    if header is None:
        raise StoreError(f"{name} is not an alkaline file; it was left as it is. Give another path")
    if not header.intact:
        raise StoreError(
            f"{name} is damaged in its header, bytes 0 to {HEADER.size}; nothing was changed. Restore the "
            "file from a backup"
        )
    if header.version != VERSION or header.flags & ~GROUPS:
        raise StoreError(
            f"{name} has format version {header.version}, flags {header.flags:#x}, and this release reads "
            f"version {VERSION} with no flag but {GROUPS:#x}; nothing was changed. Install a release of alkaline-edge "
            f"that reads format version {header.version} with those flags",
            version=header.version,
        )
    return header


def check(path: str) -> None:
    """StoreError when ``path`` is no log that this release can use. Reads its header and changes nothing."""
    fd = os.open(path, os.O_RDONLY | _BINARY)
    try:
        header_of(fd, os.path.basename(path))
    finally:
        os.close(fd)


class Log:
    """An open log, loaded up to ``end``."""

    def __init__(self, path: str, *, writable: bool) -> None:
        """Open ``path`` and load it. FileNotFoundError, OSError, StoreError; a torn tail is left as it is."""
        self.path = path
        self.name = os.path.basename(path)
        self.index = Index()
        self.prefixes: list[str] = []
        self.last = 0
        self.end = HEADER.size
        self.sequence = FIRST_SEQUENCE
        self._torn_size = -1
        flags = (os.O_RDWR | os.O_APPEND) if writable else os.O_RDONLY
        self.fd = os.open(path, flags | _BINARY | getattr(os, "O_NONBLOCK", 0))  # a FIFO must not hang us
        try:
            status = os.fstat(self.fd)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{self.name} is not a regular file: give FileHost the path of a file")
            self.identity = (status.st_dev, status.st_ino)
            self._links = min(status.st_nlink, 1)  # a file system that counts no links says 0 from the start
            header = header_of(self.fd, self.name)
            self.seed, self.groups = header.seed, bool(header.flags & GROUPS)
            self.follow()
            self.index.keys()
        except BaseException:
            self.close()
            raise
        self.encoder = Encoder(self.seed, self.prefixes if writable else (), self.sequence)

    # --- reading -----------------------------------------------------------------------------------------------------
    def follow(self) -> int:
        """Load what was appended since. Returns the bytes of a torn tail, mostly 0. StoreError: damage."""
        size = os.fstat(self.fd).st_size
        while size > self.end:
            before = self.end
            self._load(size)
            if self.end == before and size == self._torn_size:
                return size - self.end  # the torn tail that is known, and its place was not written anew
            if self.end >= size:
                break
            wrong = damage(self.fd, self.end, size, self.sequence, self.seed)
            if wrong is None:
                self._torn_size = size
                return size - self.end
            # Beside a live writer a record may have been half written when it was read and be whole by now.
            before = self.end
            size = max(size, os.fstat(self.fd).st_size)
            self._load(size)
            if self.end == before:
                raise self._damaged(wrong)
        self._torn_size = -1
        return 0

    def _damaged(self, wrong: str) -> StoreError:
        number = self.sequence + 1
        return StoreError(
            f"{self.name} is damaged at record {number}, byte {self.end}: {wrong}. Nothing was cut. Restore the file "
            f"from a backup; or, to keep only what stands before the damage, cut a copy of it to {self.end} bytes: "
            "every commit from there on is lost then",
            record=number,
            offset=self.end,
        )

    def _load(self, size: int) -> None:
        put, delete = self.index.put, self.index.delete
        for found in records(self.fd, self.end, size, self.sequence, self.seed):
            raw, start = found.raw, found.start
            version = raw[start : start + ID_SIZE].hex()
            try:
                items = decode_items(raw, start + ID_SIZE, found.end, self.prefixes)
            except Malformed as error:
                raise self._damaged(str(error)) from error
            for key, begin, behind in items:
                if begin >= 0:
                    put(key, raw[begin:behind], version, found.base + begin)
                elif begin == -1:
                    delete(key)
                else:
                    version = key  # of the next batch of a group
            self.last = found.offset
            self.end = found.next
            self.sequence = (self.sequence + 1) % SEQUENCES

    def entry(self, key: str) -> Entry | None:
        """The entry of ``key``, a large value read from the file."""
        kept = self.index.entries.get(key)
        if kept is None or type(kept) is Entry:
            return kept
        assert isinstance(kept, Extent)
        value = read_at(self.fd, kept.length, kept.offset)
        if len(value) != kept.length:
            raise StoreError(
                f"{self.name} ends within a value of {kept.length} bytes at byte {kept.offset}: something else has "
                "cut the file. Restore it from a backup",
                offset=kept.offset,
            )
        return Entry(key, value, kept.version)

    # --- writing -----------------------------------------------------------------------------------------------------
    def append(self, batch: Batch, id: bytes, deletes: Sequence[str], durable: bool) -> None:
        """Write ``batch``, sync it, and take it into the index. ``deletes``: those that are there.

        OSError, Displaced: file and index are as they were before. CutFailed, SyncFailed: they may not be.
        """
        end, puts = self.end, batch.puts
        if len(puts) == 1 and not deletes:
            key, value = puts[0]
            record = self.encoder.one_put(id, key, value)
            self._write(record, durable)
            self.index.put(key, value, batch.id, self.end - len(value))
            return
        record, places = self.encoder.batch(id, puts, deletes)
        self._write(record, durable)
        for key in deletes:
            self.index.delete(key)
        for (key, value), place in zip(puts, places, strict=True):
            self.index.put(key, value, batch.id, end + place)

    def append_group(self, members: Sequence[Member], durable: bool) -> None:
        """The same for several batches, in one record: all of them are written, or none."""
        end = self.end
        record, found = self.encoder.group(members)
        self._write(record, durable)
        for (id, puts, deletes), places in zip(members, found, strict=True):
            version = id.hex()
            for key in deletes:
                self.index.delete(key)
            for (key, value), place in zip(puts, places, strict=True):
                self.index.put(key, value, version, end + place)

    def _write(self, record: bytes, durable: bool) -> None:
        status = os.fstat(self.fd)
        if status.st_size != self.end or status.st_nlink < self._links:
            # Deleted, replaced or cut by somebody else: what is appended now would be acknowledged and never found.
            self.encoder.undo()
            raise Displaced
        try:
            written = os.write(self.fd, record)
            if written < len(record):
                write_all(self.fd, record[written:])
        except OSError:
            self._take_back()
            raise
        if durable:
            try:
                sync(self.fd)
            except OSError as error:
                raise SyncFailed from error
        self.end += len(record)

    def _take_back(self) -> None:
        try:
            os.ftruncate(self.fd, self.end)
        except OSError as error:
            raise CutFailed from error
        self.encoder.undo()

    def cut_tail(self) -> None:
        """Remove a torn tail, durably."""
        os.ftruncate(self.fd, self.end)
        os.fsync(self.fd)
        self._torn_size = -1

    def secure(self) -> None:
        """Make everything that was loaded durable: nothing may be built on what a power loss could still take.

        The last record may never have been synced: its writer was killed before, or the sync failed. After a failed
        one the system may hold the record in memory, call it clean, and sync nothing: so it is written once more.
        """
        raw = read_at(self.fd, self.end - self.last, self.last)
        fd = os.open(self.path, os.O_WRONLY | _BINARY)  # self.fd appends, wherever it is told to write
        try:
            os.lseek(fd, self.last, os.SEEK_SET)
            write_all(fd, raw)
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the handle. Calling it twice is allowed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    # --- compaction --------------------------------------------------------------------------------------------------
    def compacted(self, salt: bytes) -> Compacted:
        """Write the live keys to a new file beside this one and sync it. OSError leaves no file behind."""
        path = temporary(self.path)
        remove(path)
        mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, mode)  # what the umask took away from it
            fresh = self._write_live(fd, path, new_header(salt))
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                remove(path)
            raise
        os.close(fd)
        return fresh

    def _write_live(self, fd: int, path: str, header: bytes) -> Compacted:
        encoder, moved = Encoder(int.from_bytes(header[-4:], "big"), (), FIRST_SEQUENCE), list[Extent]()
        parts, size, end = [header], len(header), len(header)
        for key in self.index.keys().under("", "", len(self.index.entries)):
            entry = self.entry(key)
            assert entry is not None
            record = encoder.one_put(bytes.fromhex(entry.version), key, entry.value)
            parts.append(record)
            size += len(record)
            end += len(record)
            if type(self.index.entries[key]) is Extent:
                length = len(entry.value)
                moved.append(Extent(key, end - length, length, entry.version))
            if size >= COMPACTION_CHUNK:
                write_all(fd, b"".join(parts))
                parts, size = [], 0
        write_all(fd, b"".join(parts))
        return Compacted(path, encoder, end, moved)

    def adopt(self, fresh: Compacted) -> None:
        """Go on in the compacted file, which has this log's path by now. The index stays, large values have moved."""
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | _BINARY)
        os.close(self.fd)
        self.fd, self.encoder, self.end, self.groups = fd, fresh.encoder, fresh.end, True
        self.index.entries.update((extent.key, extent) for extent in fresh.moved)


class Compacted(NamedTuple):
    """A compacted file that waits to be renamed: its path, what encodes its next record, its size, its large values."""

    path: str
    encoder: Encoder
    end: int
    moved: list[Extent]


class SyncFailed(Exception):
    """The record was written and its sync failed: nobody knows whether it is on the disk."""


class Displaced(Exception):
    """The file has lost its name, or has another size than its only writer left it with. Nothing was written."""


class CutFailed(Exception):
    """A write failed and what it left could not be cut: the handle must not append again."""


def temporary(path: str) -> str:
    """Where a new file is made before it is renamed to ``path``; only the holder of the lock touches it."""
    return path + ".new"


def remove(path: str) -> None:
    """Delete ``path`` if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def create(path: str, salt: bytes) -> None:
    """A new, empty log at ``path``, durably and at once: nobody ever sees half a header."""
    fresh = temporary(path)
    remove(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        try:
            write_all(fd, new_header(salt))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(fresh)
        raise
    sync_directory(path)
