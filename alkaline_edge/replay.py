"""Offline tools for histories: inspect, format, diff, and check against new code. No host, no clock, no effects.

They take bundles (what ``export`` returns) or ``History`` objects, and never change anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from . import bundle as bundles
from . import divergence
from . import events as ev
from .codec import BlobRef, Codec
from .context import Context
from .errors import AlkalineError, DeterminismError, NotFound, StoreError
from .events import Event
from .execution import Execution, Sources
from .history import Timed
from .runs import Header
from .workflows import Registry, Workflow


@dataclass(frozen=True, slots=True)
class Line:
    """One event as people read it. ``at`` is ms since 1970, ``since`` ms since the event before, ``size`` bytes."""

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
    """A whole history: the run's header, and the events of each commit."""

    header: Header
    commits: list[list[Timed]]

    def events(self) -> list[Timed]:
        """Every event in order, the Started event first."""
        return [timed for commit in self.commits for timed in commit]


def read(source: bytes | History, codec: Codec | None = None) -> History:
    """The history of a bundle. ERR_INVALID_INPUT or ERR_STORE for bytes that are not a sound one."""
    if isinstance(source, History):
        return source
    codec = codec or Codec()
    bundle, commits = bundles.decode(source, codec)
    values = {_digest(blob): codec.decode(blob) for blob in bundle.blobs}
    filled = [[(at, _fill(event, values)) for at, event in commit] for commit in commits]
    return of_events(filled)


def of_events(commits: list[list[Timed]]) -> History:
    """A history of decoded commits, such as ``Store.events`` gives."""
    first = commits[0][0][1] if commits else None
    if not isinstance(first, ev.Started):
        raise StoreError("the history does not begin with a Started event: it is damaged, export it again")
    return History(Header.from_map(first.header), commits)


def _digest(blob: bytes) -> bytes:
    from hashlib import sha256

    return sha256(blob).digest()


def _fill(event: Event, values: dict[bytes, Any]) -> Event:
    if not any(type(item) is BlobRef for item in event):
        return event
    items = [values[item.digest] if type(item) is BlobRef else item for item in event]
    return ev.event_of(items)


def inspect(source: bytes | History, codec: Codec | None = None) -> list[Line]:
    """Every event as a line: what it was, when, how long after the one before, and how many bytes it takes."""
    codec = codec or Codec()
    lines: list[Line] = []
    before = 0
    for number, commit in enumerate(read(source, codec).commits):
        for at, event in commit:
            since = at - before if lines else 0
            lines.append(
                Line(
                    len(lines), number, at, since, ev.name_of(event), _id_of(event), _name_of(event),
                    divergence.describe(event), len(codec.encode(list(event))),
                )
            )  # fmt: skip
            before = at
    return lines


def _id_of(event: Event) -> str | None:
    value = getattr(event, "id", None)
    return value if isinstance(value, str) else None


def _name_of(event: Event) -> str | None:
    for field in ("name", "workflow", "what", "label", "topic"):
        value = getattr(event, field, None)
        if isinstance(value, str):
            return value
    return None


def format(source: bytes | History, codec: Codec | None = None) -> str:
    """The history as text, a line an event: position, commit, time since the start, what happened."""
    history = read(source, codec)
    lines = inspect(history, codec)
    header = history.header
    head = f"run {header.id}: workflow {header.workflow} version {header.version}, {len(lines)} events"
    start = lines[0].at if lines else 0
    rows = [f"{line.position:>6}  {line.commit:>6}  {(line.at - start) / 1000:>12.3f} s  {line.text}" for line in lines]
    return "\n".join([head, *rows])


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: ``a`` and ``b`` are positions, None where the side has no such event."""

    kind: Literal["added", "removed", "changed"]
    a: int | None
    b: int | None
    text_a: str | None
    text_b: str | None


@dataclass(frozen=True, slots=True)
class Diff:
    """Two histories compared. ``common`` is the number of events that both begin with; times are not compared."""

    common: int
    changes: list[Change]

    @property
    def same(self) -> bool:
        """No event differs."""
        return not self.changes


def diff(a: bytes | History, b: bytes | History, codec: Codec | None = None) -> Diff:
    """What differs between two histories: events are aligned by kind, command and name, then compared by value.

    Random run ids, inbox entry ids and times differ between any two runs and do not count.
    """
    codec = codec or Codec()
    left = [event for _, event in read(a, codec).events()]
    right = [event for _, event in read(b, codec).events()]
    values = [[codec.encode(_comparable(event)) for event in side] for side in (left, right)]
    common = 0
    while common < min(len(left), len(right)) and values[0][common] == values[1][common]:
        common += 1
    changes: list[Change] = []
    keys = [[_key(event) for event in side[common:]] for side in (left, right)]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        if tag == "equal":
            for offset in range(i2 - i1):
                i, j = common + i1 + offset, common + j1 + offset
                if values[0][i] != values[1][j]:
                    changes.append(Change("changed", i, j, _shown(left[i]), _shown(right[j])))
            continue
        changes += [Change("removed", common + i, None, _shown(left[common + i]), None) for i in range(i1, i2)]
        changes += [Change("added", None, common + j, None, _shown(right[common + j])) for j in range(j1, j2)]
    return Diff(common, changes)


def _key(event: Event) -> tuple[str, str | None, str | None]:
    return ev.name_of(event), _id_of(event), _name_of(event)


def _comparable(event: Event) -> list[Any]:
    items: list[Any] = list(event)
    if isinstance(event, ev.Started):
        header = {key: event.header[key] for key in ("workflow", "version", "chain", "generation")}
        return [items[0], header, event.input]
    if isinstance(event, (ev.SignalReceived, ev.UpdateReceived, ev.UpdateReplied)):
        items[1] = None
    if isinstance(event, ev.ChildStarted):
        items[4] = None
    if isinstance(event, ev.Drawn) and event.what != "patched":
        items[2] = None
    if isinstance(event, ev.AttemptFailed):
        items[6] = None
    return items


def _shown(event: Event) -> str:
    value = next(
        (getattr(event, n) for n in ("value", "failure", "payload", "input", "data") if hasattr(event, n)), None
    )
    text = repr(value)
    if isinstance(value, dict) and "message" in value and "type" in value:
        text = f"{value['type']}: {value['message']}"
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    args = getattr(event, "args", None)
    return divergence.describe(event) + (f", arguments {args:08x}" if isinstance(args, int) else "") + f": {shown}"


def format_diff(found: Diff) -> str:
    """The diff as text: ``-`` only in the first, ``+`` only in the second, ``~`` in both with another value."""
    if found.same:
        return f"the same: {found.common} events"
    lines = [f"the first {found.common} events are the same"]
    for change in found.changes:
        if change.text_a is not None:
            lines.append(f"{'~' if change.kind == 'changed' else '-'} {change.a:>5}  {change.text_a}")
        if change.text_b is not None:
            lines.append(f"{'~' if change.kind == 'changed' else '+'} {change.b:>5}  {change.text_b}")
    return "\n".join(lines)


Verdict = Literal["ok", "diverged", "unreadable", "unknown"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a replay of one history found. ``message`` says why it is not ok; ``events`` were replayed."""

    name: str
    verdict: Verdict
    message: str
    events: int

    @property
    def ok(self) -> bool:
        """The code can go on with this history."""
        return self.verdict == "ok"


def check(
    histories: Iterable[bytes | History] | dict[str, bytes | History],
    workflows: Sequence[Workflow],
    codec: Codec | None = None,
) -> list[Checked]:
    """Replay each history against ``workflows``, and say of each whether that code can go on with it.

    ``ok``: every event fits, and a history that has ended ends the same. ``diverged``: code and history disagree.
    ``unknown``: its workflow and version is not among those given. ``unreadable``: not a sound bundle. Nothing runs:
    what a handler would do beyond the end of its history is dropped.
    """
    registry = Registry(workflows)
    codec = codec or Codec()
    named = histories if isinstance(histories, dict) else {f"history {n}": each for n, each in enumerate(histories)}
    return [_check(name, source, registry, codec) for name, source in named.items()]


def _check(name: str, source: bytes | History, registry: Registry, codec: Codec) -> Checked:
    try:
        history = read(source, codec)
    except AlkalineError as error:
        return Checked(name, "unreadable", str(error), 0)
    timed = history.events()
    try:
        definition = registry.exact(history.header.workflow, history.header.version)
    except NotFound as error:
        return Checked(name, "unknown", str(error), 0)
    (start, started), rest = timed[0], timed[1:]
    assert isinstance(started, ev.Started)
    sources = Sources(lambda: timed[-1][0], bytes)
    machine = Execution(definition, history.header, started.input, codec, sources, Context, 1, registry.newest)
    try:
        machine.start(start)
        machine.feed(rest)
    except DeterminismError as error:
        return Checked(name, "diverged", str(error), machine.position)
    except AlkalineError as error:
        return Checked(name, "unreadable", str(error), machine.position)
    finally:
        machine.set_aside()
    return Checked(name, "ok", "", len(timed))
