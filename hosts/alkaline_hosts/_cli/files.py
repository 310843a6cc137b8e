"""Bundles in files: read up to what one may have, and written so that neither a store nor a device is lost."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from alkaline_edge.errors import InvalidInput
from alkaline_edge.limits import MAX_BUNDLE_BYTES

from .._file.format import MAGIC


def read(file: str) -> bytes:
    """The bytes of a file, one more than a bundle may have at most: whoever decodes them says that it is too many."""
    with Path(file).open("rb") as source:
        return source.read(MAX_BUNDLE_BYTES + 1)


@contextlib.contextmanager
def written(file: str) -> Iterator[Callable[[bytes], bool]]:
    """What writes ``file`` whole, or leaves it as it was; it returns whether that is a file, and no pipe or device.

    ERR_INVALID_INPUT at once where nothing can be written there, or what is there is a store.
    """
    given = Path(file)
    if given.exists() and not given.is_file() and not given.is_dir():
        yield lambda data: _passed_on(given, data)
        return
    target = Path(os.path.realpath(file))  # behind a link: it is not the link that is replaced
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInput(
            f"{file} can't be written: {'it' if target.is_dir() else target.parent} is "
            f"{'a' if target.is_dir() else 'no'} directory; name a file"
        )
    if target.exists() and _is_store(target):
        raise InvalidInput(f"{file} is a store, and its runs would be lost: name another file for the bundle")
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    temporary.touch(exist_ok=False)  # before a hand-over freezes the run: what can't be written must not cost anything

    def write(data: bytes) -> bool:
        temporary.write_bytes(data)
        temporary.replace(target)
        return True

    try:
        yield write
    finally:
        temporary.unlink(missing_ok=True)


def _is_store(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _passed_on(target: Path, data: bytes) -> bool:
    with target.open("wb") as pipe:
        pipe.write(data)
    return False
