"""Histories: commits in order, each holding the digest of the one before it. Pure: bytes in, bytes out.

A commit is ``[previous, time, event, ...]`` in canonical msgpack. ``previous`` is the first 16 bytes of the sha256 of
the commit before; in the first commit it is MAGIC, which carries the format version. ``time`` is milliseconds since
1970 in the first commit, and since the commit before in every other. A segment is commits one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgpack

from .activations import TOGETHER, page_of, together
from .codec import BlobRef, Codec, Plain, pack
from .errors import StoreError
from .events import CLASSES, FORMAT_VERSION, LENGTHS, STARTED, STEP_COMPLETED, Event, event_of
from .structs import dataclass

MAGIC = b"alkaline_edge\x00\x00" + bytes([FORMAT_VERSION])
"""What stands for the digest before the first commit."""
_NAME = MAGIC[:13]
CARRIED = "carried"
"""The one value of the header that may be a blob reference: the signals that an earlier generation left."""
DIGEST = 16
"""Bytes of a digest in a commit."""

Timed = tuple[int, Event]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of a history, with the number of its commit and ``at``, its time in ms since 1970."""

    commit: int
    at: int
    event: Event


@dataclass(slots=True)
class Cursor:
    """A place in a history: how many commits, the digest of the last one, and its time (ms since 1970)."""

    length: int = 0
    head: bytes = MAGIC
    time_ms: int = 0
    bare: bool = False
    """All that was stepped over last, at a stretch, are steps that completed, each a commit."""

    def encode(self, now_ms: int, events: Sequence[Event], codec: Codec) -> bytes:
        """The commit of ``events`` at this place. The cursor stays: call ``advance`` once it is durable."""
        time = max(0, now_ms - self.time_ms)
        return pack([self.head, time, *[plain_event(event, codec) for event in events]])

    def advance(self, raw: bytes, codec: Codec) -> list[Timed]:
        """Verify that ``raw`` is the next commit, step over it, and return its events with their time.

        ERR_STORE where it is not: a gap, a swap, an edit, or bytes of a newer version.
        """
        commit = codec.decode(raw)
        if type(commit) is not list or len(commit) < 2 or commit[0] != self.head or type(commit[1]) is not int:
            raise self._broken(commit)
        time_ms = self.time_ms + commit[1]
        self.time_ms = time_ms
        self.head = digest_of(raw)
        self.length += 1
        if len(commit) == 3:
            return [(time_ms, event_of(commit[2]))]
        return [(time_ms, event_of(raw_event)) for raw_event in commit[2:]]

    def advance_all(self, raws: Sequence[bytes], codec: Codec) -> list[Any]:
        """As ``advance`` for each of ``raws``, at a third of its cost: most of a replay is spent here.

        The events are as the machine takes them: see ``activations.page_of``.
        """
        page = self._advance_through(raws[0] if len(raws) == 1 else b"".join(raws), codec, len(raws))
        return page if page is not None else self._one_by_one(raws, codec)

    def _one_by_one(self, raws: Sequence[bytes], codec: Codec) -> list[Any]:
        self.bare = False
        return page_of(each for raw in raws for each in together(self.advance(raw, codec)))

    def advance_segment(self, segment: bytes, codec: Codec) -> list[Any]:
        """As ``advance_all`` for the commits of a segment, which is not cut into them first."""
        page = self._advance_through(segment, codec)
        return self.advance_all(split(segment), codec) if page is None else page

    def _advance_through(self, whole: bytes, codec: Codec, count: int | None = None) -> list[Any] | None:
        """Commits one after the other, as many as ``count`` says, decoded in one go.

        None, and the cursor as it was, where one of them is not the next.
        """
        unpacker = msgpack.Unpacker(None, ext_hook=codec.ext_hook, max_buffer_size=len(whole) + 1)
        unpacker.feed(whole)
        head, time_ms, start, more = self.head, self.time_ms, 0, 0
        page: list[Any] = []
        bare = True
        append, new, tell, digest = page.append, tuple.__new__, unpacker.tell, sha256
        try:
            for commit in unpacker:
                if commit[0] != head:
                    return None
                end = tell()
                head = digest(whole[start:end]).digest()[:DIGEST]
                start = end
                time_ms += commit[1]
                if len(commit) == 3:
                    event = commit[2]
                    kind = event[0]
                    if kind == STEP_COMPLETED and len(event) == 5:  # most of them
                        event[0] = time_ms
                        append(event)
                        continue
                    if kind < 0 or len(event) != LENGTHS[kind]:
                        return None
                    append((time_ms, new(CLASSES[kind], event)))
                else:
                    several = page_of(together([(time_ms, event_of(event)) for event in commit[2:]]))
                    page += several
                    more += len(several) - 1
                bare = False
        except (msgpack.UnpackException, StoreError, ValueError, TypeError, IndexError, KeyError):
            return None  # it is read once more, one commit at a time, for the error that says what is wrong
        passed = len(page) - more
        if start != len(whole) or (count is not None and passed != count):
            return None
        self.head, self.time_ms, self.length, self.bare = head, time_ms, self.length + passed, bare
        return page

    def _broken(self, commit: Any) -> StoreError:
        if self.length == 0 and isinstance(commit, list) and commit and isinstance(commit[0], bytes):
            first = commit[0]
            if first[:13] == _NAME and len(first) == DIGEST:
                needed = int.from_bytes(first[13:], "big")
                return StoreError(
                    f"the history is of format {needed}, and this alkaline_edge reads format {FORMAT_VERSION}; upgrade "
                    f"to a version that reads format {needed}. Nothing was changed",
                    format=needed,
                )
        return StoreError(
            f"commit {self.length} does not follow from the one before it: the history has a gap, or was edited. "
            "Restore it from a backup or an export; nothing was changed",
            position=self.length,
        )


def digest_of(raw: bytes) -> bytes:
    """What the next commit holds of this one."""
    return sha256(raw).digest()[:DIGEST]


def check_end(commits: Sequence[bytes], length: int, head: bytes, id: str) -> None:
    """ERR_STORE where a history is not the one that a run's record knows, as of ``length`` commits.

    Each commit vouches for the one before it, and the record for the last that it has seen.
    """
    if length > len(commits) or (length and head and digest_of(commits[length - 1]) != head):
        raise StoreError(
            f"the history of run {id!r} does not end as its record says, at commit {length - 1}: the store lost its "
            "end, or it was edited; restore it",
            id=id,
        )


def plain_event(event: Event, codec: Codec) -> list[Any]:
    """An event as the list that is packed."""
    if event[0] == STEP_COMPLETED and type(event[4]) is Plain:  # type: ignore[misc]  # StepCompleted has five items
        return [*event[:4], event[4].value]  # type: ignore[misc]  # the only part that needs a walk, walked
    return codec.plain_whole(list(event), "event")  # type: ignore[no-any-return]  # a list stays a list


def split(segment: bytes) -> list[bytes]:
    """The commits of a segment, as bytes."""
    unpacker = msgpack.Unpacker(ext_hook=msgpack.ExtType, strict_map_key=False, max_buffer_size=len(segment) + 1)
    unpacker.feed(segment)
    commits: list[bytes] = []
    start = 0
    try:
        while start < len(segment):
            unpacker.skip()
            end = unpacker.tell()
            commits.append(segment[start:end])
            start = end
    except Exception as error:
        raise StoreError(
            f"a segment of the history ends in the middle of commit {len(commits)} ({type(error).__name__}): restore it"
        ) from None
    return commits


def decode_all(commits: Iterable[bytes], codec: Codec) -> tuple[Cursor, list[list[Timed]]]:
    """Verify a whole history and decode it: the cursor at its end, and the events of each commit."""
    cursor = Cursor()
    return cursor, [cursor.advance(raw, codec) for raw in commits]


def blobs_of(events: Iterable[Any]) -> list[BlobRef]:
    """The blobs that ``events`` refer to: values above the inline limit stand outside of the commit."""
    found: list[BlobRef] = []
    for event in events:
        if event[0] == TOGETHER:
            found += blobs_of(event.events)
            continue
        header: Any = event[1] if event[0] == STARTED else None
        if isinstance(header, dict) and type(header.get(CARRIED)) is BlobRef:
            found.append(header[CARRIED])
        if BlobRef in map(type, event):
            found += [item for item in event if type(item) is BlobRef]
    return found
