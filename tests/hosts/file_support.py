"""What the tests of the file host share: batches, whole-store reads, and a log of known records."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from alkaline_edge.host import Batch, Check, Committed, Put
from alkaline_hosts._file.format import FRAME, FRAME_SIZE, HEADER
from alkaline_hosts.file import FileHost

T = TypeVar("T")
Contents = dict[str, tuple[bytes, str]]


def drive(test: Callable[[], Awaitable[T]]) -> T:
    """Run one async test body."""

    async def body() -> T:
        return await test()

    return asyncio.run(body())


def puts(*deletes: str, checks: tuple[Check, ...] = (), **values: bytes) -> Batch:
    """A batch that puts the keyword arguments (``__`` in a name stands for "/") and deletes the others."""
    named = tuple(Put(name.replace("__", "/"), value) for name, value in values.items())
    return Batch(os.urandom(8).hex(), checks, named, deletes)


def put(key: str, value: bytes) -> Batch:
    """A batch with one put."""
    return Batch(os.urandom(8).hex(), (), (Put(key, value),))


async def contents(host: FileHost) -> Contents:
    """Every key, its value and version."""
    return {entry.key: (entry.value, entry.version) for entry in await host.list("", "", 10**9)}


def reopened(path: Path, **options: bool) -> Contents:
    """What a new host finds in the file."""

    async def read() -> Contents:
        host = FileHost(path, **options)
        try:
            return await contents(host)
        finally:
            await host.close()

    return drive(read)


def written(path: Path, count: int, size: int = 20) -> list[int]:
    """Commit ``h/run/a0``, ``h/run/a1``... of ``size`` bytes. Returns where each record ends in the file."""

    async def write() -> None:
        host = FileHost(path)
        for n in range(count):
            assert isinstance(await host.commit(put(f"h/run/a{n}", bytes([n + 1]) * size)), Committed)
        await host.close()

    drive(write)
    return ends(path.read_bytes())


def ends(raw: bytes) -> list[int]:
    """Where each record of a log ends."""
    found, at = [], HEADER.size
    while at < len(raw):
        at += FRAME_SIZE + FRAME.unpack_from(raw, at)[1]
        found.append(at)
    return found
