"""What of the bytes that a client sends is a commit, and how it is delivered once more on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from alkaline_hosts._redis.scripts import COMMIT

_TLS, _VERSION_3 = 80877103, 196608


class Repeats(Protocol):
    """One connection's bytes, as they come."""

    def commits(self, piece: bytes) -> Iterator[Sequence[bytes]]:
        """The commits that ``piece`` completes, each as the parts of a connection of its own."""
        ...


class OfRedis:
    """A command of Redis is whole in itself. A piece that holds a part of one is delivered so, and does nothing."""

    def commits(self, piece: bytes) -> Iterator[Sequence[bytes]]:
        """The piece, where it has the commit's script."""
        if COMMIT.digest in piece and piece.startswith(b"*"):
            yield [piece]


class OfPostgres:
    """The extended protocol: the start, the Parse of the statement, then its Bind, Execute and Sync."""

    def __init__(self) -> None:
        self._rest = self._start = b""
        self._statements: dict[bytes, bytes] = {}
        self._bound: list[bytes] = []

    def commits(self, piece: bytes) -> Iterator[Sequence[bytes]]:
        """Those whose Sync has come."""
        self._rest += piece
        while message := self._message():
            kind = message[:1]
            if kind == b"P":
                self._statements[message[5:].split(b"\0", 1)[0]] = message
            elif kind == b"B":
                _, statement, _ = message[5:].split(b"\0", 2)
                parsed = self._statements.get(statement, b"")
                self._bound = [parsed, message] if b"_commit_1(" in parsed and b"CREATE" not in parsed else []
            elif self._bound:
                self._bound.append(message)
                if kind == b"S":
                    yield [self._start, b"".join(self._bound)]
                    self._bound = []

    def _message(self) -> bytes:
        """The next one that is whole; what comes before the start has no kind."""
        if not self._start:
            length, code = int.from_bytes(self._rest[:4]), int.from_bytes(self._rest[4:8])
            if len(self._rest) < 8 or len(self._rest) < length:
                return b""
            whole, self._rest = self._rest[:length], self._rest[length:]
            if code == _VERSION_3:
                self._start = whole
            return self._message() if self._rest else b""
        length = 1 + int.from_bytes(self._rest[1:5])
        if len(self._rest) < 5 or len(self._rest) < length:
            return b""
        whole, self._rest = self._rest[:length], self._rest[length:]
        return whole
