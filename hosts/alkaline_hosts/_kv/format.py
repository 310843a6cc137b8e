"""What the KV log keeps: its commits, its checkpoints, and the resume token. Bytes in, bytes out, no KV."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

import msgpack

from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch

FORMAT = 1


class Held(NamedTuple):
    """An entry in memory. ``place`` names the key of a large value, which ``value`` then lacks."""

    version: str
    value: bytes
    place: str


@dataclass(slots=True)
class Commit:
    """One key of the log."""

    position: int
    id: str
    before: bytes
    puts: list[list[Any]]
    deletes: list[str]
    raw: bytes = b""
    digest: bytes = b""

    def encode(self) -> Commit:
        """With its bytes and its digest."""
        packed: Any = msgpack.packb([FORMAT, self.before, self.id, self.puts, self.deletes])
        self.raw = packed
        self.digest = sha256(self.raw).digest()[:16]
        return self


def decode_commit(position: int, raw: bytes) -> Commit:
    """The commit in ``raw``; StoreError for what is not one."""
    version, before, id, puts, deletes = _unpack(raw, 5)
    if version != FORMAT:
        raise StoreError(f"a commit in KV has format {version}, and this version reads {FORMAT}; deploy the newer one")
    if not (_are([before], bytes) and _are([id], str) and _rows(puts, str, bytes, str) and _are(deletes, str)):
        raise _damaged()
    return Commit(position, id, before, puts, deletes, raw, sha256(raw).digest()[:16])


def _unpack(raw: bytes, items: int) -> list[Any]:
    try:
        found = msgpack.unpackb(raw)
    except Exception:
        found = None
    if not isinstance(found, list) or len(found) != items:
        raise _damaged()
    return found


def _damaged() -> StoreError:
    return StoreError("a key of the log in KV is damaged: it was not written by this library; restore it")


def _are(items: Any, kind: type) -> bool:
    return isinstance(items, list) and all(type(item) is kind for item in items)


def _rows(rows: Any, *kinds: type) -> bool:
    return _are(rows, list) and all([type(item) for item in row] == list(kinds) for row in rows)


@dataclass(slots=True)
class State:
    """All entries after a position.

    ``base`` is the name of the checkpoint that it began with, ``log`` those of the commits since then. ``covered``
    names what that checkpoint made superfluous, the commits behind position ``since`` among it, and ``unused`` the
    large values that nothing refers to since then. ``base_bytes`` and ``log_bytes`` are their sizes.
    """

    position: int = 0
    digest: bytes = bytes(16)
    base: str = ""
    since: int = 0
    entries: dict[str, Held] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    base_bytes: int = 0
    log_bytes: int = 0

    def encode(self) -> bytes:
        """As a checkpoint."""
        covered = [*self.log, *self.unused, *([self.base] if self.base else [])]
        entries = [[key, *self.entries[key]] for key in self.keys]
        since = self.position - len(self.log)
        packed: Any = msgpack.packb([FORMAT, self.position, self.digest, since, covered, entries])
        checkpoint: bytes = packed
        return checkpoint

    def apply(self, commit: Commit, name: str) -> None:
        """One more commit, which must follow."""
        for key, value, place in commit.puts:
            if key in self.entries:
                self._drop(key)
            elif not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                insort(self.keys, key)
            self.entries[key] = Held(commit.id, value, place)
        for key in commit.deletes:
            if key in self.entries:
                self._drop(key)
                del self.entries[key]
                del self.keys[bisect_left(self.keys, key)]
        self.position, self.digest = commit.position, commit.digest
        self.log.append(name)
        self.log_bytes += len(commit.raw)

    def _drop(self, key: str) -> None:
        if self.entries[key].place:
            self.unused.append(self.entries[key].place)


def decode_state(name: str, raw: bytes) -> State:
    """The checkpoint in ``raw``; StoreError for what is not one."""
    version, position, digest, since, covered, entries = _unpack(raw, 6)
    if version != FORMAT:
        raise StoreError(f"a checkpoint in KV has format {version}, and this version reads {FORMAT}; deploy the newer")
    if not name.endswith(sha256(raw).hexdigest()[:16]):
        raise StoreError("a checkpoint in KV is damaged: its bytes are not those of its name; restore it")
    sound = _are([position, since], int) and _are([digest], bytes) and _are(covered, str)
    if not sound or not _rows(entries, str, str, bytes, str):
        raise _damaged()
    held = {key: Held(version, value, place) for key, version, value, place in entries}
    return State(position, digest, name, since, held, [entry[0] for entry in entries], [], [], covered, len(raw))


def parse_token(token: str) -> tuple[int, str]:
    """Position and digest of a resume token; InvalidInput for another text."""
    mark, _, rest = token.partition(".")
    position, _, digest = rest.partition(".")
    if mark != "kv1" or not (position.isascii() and position.isdigit() and len(position) <= 15) or len(digest) != 32:
        raise InvalidInput("this is not a resume token; pass on KVHost.resume_token as it is")
    return int(position), digest


def position_in(name: str) -> int:
    """The position in the name of a commit or a checkpoint."""
    return int(name.rsplit("/", 1)[1].split("-", 1)[0])


def slim(batch: Batch, places: list[str]) -> list[list[Any]]:
    """The puts as the log holds them: key, value, and where a large value is instead."""
    pairs = zip(batch.puts, places, strict=True)
    return [[put.key, b"" if place else bytes(put.value), place] for put, place in pairs]
