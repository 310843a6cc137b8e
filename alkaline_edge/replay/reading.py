"""Reading a history without a host, and showing it as lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from .. import bundle as bundles
from .. import events as ev
from ..arguments import expect, refused, whole
from ..codec import BlobRef, Codec
from ..errors import AlkalineError, InvalidInput, StoreError
from ..events import Event
from ..history import CARRIED, Timed, blobs_of, decode_all
from ..runs import Header
from ..shapes import check_history
from ..structs import dataclass


class RecordedEvent(Protocol):
    """What ``Runtime.history`` returns a list of: an event, its commit's number and its time (ms since 1970)."""

    @property
    def commit(self) -> int:
        """The number of its commit."""
        ...

    @property
    def at(self) -> int:
        """Its time."""
        ...

    @property
    def event(self) -> Event:
        """The event."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One event as people read it. ``at`` is ms since 1970, ``since`` ms since the event before, ``size`` bytes.

    ``position`` counts events and ``commit`` commits, both from 0. ``kind`` is the name of the event's kind, ``id``
    that of its command and ``name`` what the handler or the sender called it, None where there is none; ``text`` says
    it all.
    """

    position: int
    commit: int
    at: int
    since: int
    kind: str
    id: str | None
    name: str | None
    text: str
    size: int


@dataclass(frozen=True, slots=True)
class History:
    """A whole history: the run's header, and ``commits``, the events of each with their times, ms since 1970."""

    header: Header
    commits: list[list[Timed]]

    def events(self) -> list[Timed]:
        """Every event in order, the Started event first."""
        return [timed for commit in self.commits for timed in commit]


Source = bytes | History | Sequence[bytes] | Sequence[RecordedEvent]
"""A bundle's bytes, a History, the raw commits of a history, or what ``Runtime.history`` returned."""


def read(source: Source, codec: Codec | None = None) -> History:
    """The history of ``source``. ERR_INVALID_INPUT or ERR_STORE for what is not a sound one, whatever it is.

    ``codec``: that of the runtime which wrote it, where types are registered on it.
    """
    if isinstance(source, History):
        return source
    expect(codec, (Codec, type(None)), "codec", "a Codec")
    codec = codec or Codec()
    try:
        return _read(source, codec)
    except AlkalineError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # Bytes from outside may be well-formed and still not what a kernel writes: no event has this shape.
        raise StoreError(
            f"the history holds something of a shape that no alkaline_edge writes ({type(error).__name__}): it was "
            "edited; export it again"
        ) from None


def _read(source: Any, codec: Codec) -> History:
    if isinstance(source, (bytes, bytearray, memoryview)):
        bundle, _ = bundles.decode(bytes(source), codec)
        commits = decode_all(bundle.commits, codec)[1]
        values = {sha256(blob).digest(): codec.decode(blob) for blob in bundle.blobs}
        return of_events([[(at, _fill(event, values)) for at, event in commit] for commit in commits])
    if isinstance(source, str) or not isinstance(source, Iterable):
        raise InvalidInput(f"a history is a bundle's bytes or a list, not {type(source).__name__}; read the file first")
    items = list(source)
    if all(isinstance(item, bytes) for item in items):
        return of_events(decode_all(items, codec)[1])
    grouped: dict[int, list[Timed]] = {}
    for item in items:
        if not hasattr(item, "event"):
            raise InvalidInput(f"a history is a list of commits or of recorded events, not of {type(item).__name__}")
        grouped.setdefault(item.commit, []).append((item.at, item.event))
    return of_events(list(grouped.values()))


def of_events(commits: list[list[Timed]]) -> History:
    """A history of decoded commits. ERR_STORE if it does not begin with a Started event."""
    wanted = "a list of lists of events, each in a pair with its time"
    expect(commits, list, "commits", wanted)
    for commit in commits:
        expect(commit, list, "an item of commits", wanted)
        for timed in commit:
            if not isinstance(timed, tuple) or len(timed) != 2 or not isinstance(timed[1], ev.CLASSES):
                raise refused("an item of commits", wanted, timed)
    first = commits[0][0][1] if commits and commits[0] else None
    if not isinstance(first, ev.Started):
        raise StoreError("the history does not begin with a Started event: it is damaged, export it again")
    try:
        check_history(commits)
    except InvalidInput as error:
        raise StoreError(f"{error}: no alkaline_edge writes this, it was edited; export it again") from None
    return History(Header.from_map(first.header), commits)


def _fill(event: Event, values: dict[bytes, Any]) -> Event:
    if not blobs_of([event]):
        return event
    items: list[Any] = [values[item.digest] if type(item) is BlobRef else item for item in event]
    if event[0] == ev.STARTED and type(items[1][CARRIED]) is BlobRef:
        items[1] = {**items[1], CARRIED: values[items[1][CARRIED].digest]}
    return ev.event_of(items)


def inspect(source: Source, codec: Codec | None = None) -> list[Line]:
    """Every event as a line: what it was, when, how long after the one before, and how many bytes it takes.

    The run's header is ``read(source).header``. ``codec``: as ``read`` takes it.
    """
    codec = codec or Codec()
    lines: list[Line] = []
    before = 0
    for number, commit in enumerate(read(source, codec).commits):
        for at, event in commit:
            since = at - before if lines else 0
            lines.append(
                Line(
                    len(lines), number, at, since, ev.name_of(event), id_of(event), ev.given_name(event),
                    ev.describe(event), len(codec.encode_whole(list(event))),
                )
            )  # fmt: skip
            before = at
    return lines


def id_of(event: Event) -> str | None:
    """The id of the command that ``event`` answers."""
    value = getattr(event, "id", None)
    return value if isinstance(value, str) else None


def format(source: Source, codec: Codec | None = None) -> str:
    """The history as text: a heading, then a line an event.

    Its columns are position, commit, time since the start, time since the event before, bytes, and what happened.
    ``codec``: as ``read`` takes it.
    """
    history = read(source, codec)
    lines = inspect(history, codec)
    header, start = history.header, lines[0].at
    head = (
        f"run {header.id}: workflow {header.workflow} version {header.version}, {len(lines)} events in "
        f"{duration(lines[-1].at - start)} from {_iso(start)}"
    )
    cells = [
        (str(line.position), str(line.commit), duration(line.at - start), f"+{duration(line.since)}", f"{line.size} B")
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), line.text])
        for row, line in zip(cells, lines, strict=True)
    ]
    return "\n".join([head, *rows])


def duration(ms: int) -> str:
    """``ms`` in the two largest units that say something: 12 ms, 3.500 s, 4 min 05 s, 2 h 00 min, 30 d 04 h."""
    whole(ms, "duration(ms=)", -(2**63), 2**63)
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.3f} s"
    seconds = ms // 1_000
    if seconds < 3_600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 86_400:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60:02d} min"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3_600:02d} h"


def _iso(ms: int) -> str:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
