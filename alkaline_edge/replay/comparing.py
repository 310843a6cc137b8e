"""Comparing two histories: which events both have, and what differs."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal

from .. import events as ev
from ..arguments import expect
from ..codec import Codec
from ..events import Event
from ..structs import dataclass
from .reading import Source, id_of, read

ChangeKind = Literal["added", "removed", "changed", "moved"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: ``a`` and ``b`` are positions, None where the side has no such event.

    ``text_a`` and ``text_b`` are the events in words. ``kind``: ``added``; ``removed``; ``changed``, the same event
    with another value, and then ``where`` says at which place, with both sides; ``moved``, the same event earlier or
    later among the others.
    """

    kind: ChangeKind
    a: int | None
    b: int | None
    text_a: str | None
    text_b: str | None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """Two histories compared. ``common`` is the number of events that both begin with; times are not compared.

    ``changes``: what differs, in the order of the histories.
    ``renumbered`` counts events that are the same but for the id of their command: a command more or less before them
    moves the numbers of those behind it.
    """

    common: int
    changes: list[Change]
    renumbered: int = 0

    @property
    def same(self) -> bool:
        """No event differs."""
        return not self.changes and not self.renumbered

    @property
    def first(self) -> Change | None:
        """The first difference; None where only command numbers differ, or nothing does."""
        return self.changes[0] if self.changes else None


def diff(a: Source, b: Source, codec: Codec | None = None) -> Diff:
    """What differs between two histories: events are aligned by command, then by what they say.

    Times, random ids and drawn values differ between any two runs and do not count, and neither do totals of budgets
    that other runs spend from. ``codec``: that of the runtime which wrote them, where types are registered on it.
    """
    codec = codec or Codec()
    left, right = _side(a, codec), _side(b, codec)
    common = 0
    while common < min(len(left), len(right)) and left[common].whole == right[common].whole:
        common += 1
    pairs = _pairs(left, right, common)
    kept = _in_order(pairs)
    changes: list[tuple[tuple[int, int, int], Change]] = []
    renumbered = 0
    for i, j in pairs.items():
        one, other = left[i], right[j]
        if one.content != other.content:
            where = difference(one.fields(), other.fields()) if type(one.event) is type(other.event) else None
            changes.append(((i, 0, j), Change("changed", i, j, _shown(one.event), _shown(other.event), where)))
        elif i not in kept:
            changes.append(((i, 0, j), Change("moved", i, j, _shown(one.event), _shown(other.event))))
        renumbered += one.id != other.id and one.content == other.content
    changes += [
        ((i, 0, 0), Change("removed", i, None, _shown(left[i].event), None))
        for i in range(common, len(left))
        if i not in pairs
    ]
    taken = set(pairs.values())
    before = {j: i for i, j in pairs.items() if i in kept}
    last = common - 1
    for j in range(common, len(right)):
        last = before.get(j, last)
        if j not in taken:
            changes.append(((last, 1, j), Change("added", None, j, None, _shown(right[j].event))))
    return Diff(common, [change for _, change in sorted(changes, key=lambda pair: pair[0])], renumbered)


# --- aligning -------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Item:
    """One event, with what it is compared by. ``anchor`` is the position of the last event that answers a command.

    ``kind``: a step that failed on one side and completed on the other is one change, not two.
    """

    event: Event
    items: list[Any]
    kind: str
    id: str | None
    name: str | None
    args: Any
    anchor: int
    content: bytes
    whole: tuple[str | None, bytes]

    def fields(self) -> dict[str, Any]:
        """What counts of the event, by name."""
        return dict(zip(self.event._fields, self.items, strict=True))


def _side(source: Source, codec: Codec) -> list[_Item]:
    found: list[_Item] = []
    anchor = 0
    for position, (_, event) in enumerate(read(source, codec).events()):
        id = id_of(event)
        anchor = position if id is not None else anchor
        items = _comparable(event)
        content = codec.encode_whole([items, ev.given_name(event)])
        found.append(
            _Item(
                event, items, ev.KINDS[event[0]].alike or ev.name_of(event), id, ev.given_name(event),
                getattr(event, "args", None), anchor, content, (id, content),
            )
        )  # fmt: skip
    return found


def _pairs(left: list[_Item], right: list[_Item], common: int) -> dict[int, int]:
    """Positions of the same event on both sides: answers to commands first, then what stands between them."""
    pairs = {n: n for n in range(common)}
    answers: list[Callable[[_Item], Hashable]] = [
        lambda one: (one.id, one.content),
        lambda one: one.content,
        lambda one: (one.kind, one.id, one.name),
        lambda one: (one.kind, one.name, one.args),
        lambda one: (one.kind, one.name),
    ]
    for key in answers:
        _pair(pairs, left, right, lambda one: one.id is not None, key, key)
    theirs = {j: i for i, j in pairs.items()}
    between: list[Callable[[_Item], Hashable]] = [lambda one: one.content, lambda one: (one.kind, one.name)]
    for what in between:  # first behind the same answer, then anywhere
        here, there = _behind(what, lambda n: n), _behind(what, theirs.get)
        _pair(pairs, left, right, lambda one: one.id is None, here, there)
    for what in between:
        _pair(pairs, left, right, lambda one: one.id is None, what, what)
    return {i: pairs[i] for i in sorted(pairs) if i >= common}


def _behind(what: Callable[[_Item], Hashable], place: Callable[[int], int | None]) -> Callable[[_Item], Hashable]:
    return lambda one: (place(one.anchor), what(one))


def _pair(
    pairs: dict[int, int],
    left: list[_Item],
    right: list[_Item],
    wanted: Callable[[_Item], bool],
    key_left: Callable[[_Item], Hashable],
    key_right: Callable[[_Item], Hashable],
) -> None:
    """Add pairs of events with the same key, in order, among those that have no partner yet."""
    taken = set(pairs.values())
    waiting: dict[Hashable, deque[int]] = {}
    for j, one in enumerate(right):
        if j not in taken and wanted(one):
            waiting.setdefault(key_right(one), deque()).append(j)
    for i, one in enumerate(left):
        if i not in pairs and wanted(one):
            same = waiting.get(key_left(one))
            if same:
                pairs[i] = same.popleft()


def _in_order(pairs: dict[int, int]) -> set[int]:
    """The most pairs that stand in one order on both sides (a longest increasing subsequence); the others moved."""
    tails: list[int] = []
    at: list[int] = []
    previous: dict[int, int | None] = {}
    for i, j in pairs.items():
        place = bisect_left(tails, j)
        previous[i] = at[place - 1] if place else None
        tails[place : place + 1] = [j]
        at[place : place + 1] = [i]
    kept: set[int] = set()
    last = at[-1] if at else None
    while last is not None:
        kept.add(last)
        last = previous[last]
    return kept


def _comparable(event: Event) -> list[Any]:
    """What counts of an event: its items without its command's id and without what differs between any two runs."""
    items: list[Any] = list(event)
    if id_of(event) is not None:
        items[1] = None
    if isinstance(event, ev.Started):
        header = {key: event.header.get(key) for key in ("workflow", "version", "chain", "generation")}
        return [items[0], header, event.input]
    if isinstance(event, ev.Drawn) and event.what != "patched":
        items[2] = None
    for place in ev.KINDS[event[0]].differs:
        items[place] = None
    return items


# --- showing --------------------------------------------------------------------------------------------------------
def difference(a: Any, b: Any, path: str = "") -> str:
    """The first place where two values differ, and both sides there: ``.items[3].price: 1 -> 2``."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in a or key not in b:
                return f"{path}.{key}: {'absent' if key not in a else _cut(a[key])} -> " + (
                    "absent" if key not in b else _cut(b[key])
                )
            if not _equal(a[key], b[key]):
                return difference(a[key], b[key], f"{path}.{key}" if path else key)
    if isinstance(a, list) and isinstance(b, list):
        for n, (one, other) in enumerate(zip(a, b, strict=False)):
            if not _equal(one, other):
                return difference(one, other, f"{path}[{n}]")
        return f"{path}: {len(a)} items -> {len(b)} items"
    if isinstance(a, str) and isinstance(b, str) and min(len(a), len(b)) > 40:
        n = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        start = max(0, n - 15)
        return f"{path} from character {n}: {_cut(a[start:])} -> {_cut(b[start:])}"
    return f"{path}: {_cut(a)} -> {_cut(b)}"


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _cut(value: Any, limit: int = 60) -> str:
    try:
        text = repr(value[: limit + 1] if isinstance(value, (str, bytes)) else value)
    except ValueError:  # Python writes no integer of more than 4,300 digits in decimal
        text = repr(_short(value))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _short(value: Any) -> Any:
    """``value`` with its long integers as the text of their hexadecimal digits."""
    if isinstance(value, dict):
        return {_short(key): _short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return hex(value) if isinstance(value, int) and value.bit_length() > 2_000 else value


def _shown(event: Event) -> str:
    text = ev.describe(event)
    args = getattr(event, "args", None)
    if isinstance(args, int):
        text += f", arguments {args:08x}"
    place = ev.KINDS[event[0]].value
    if not place:
        return text
    value = event[place]
    if isinstance(value, dict) and "message" in value and "type" in value:
        return f"{text}: {value['type']}: {_cut(value['message'], 80)}"
    return f"{text}: {_cut(value, 80)}"


_SIGNS = {"changed": "~", "moved": ">", "removed": "-", "added": "+"}


def format_diff(found: Diff) -> str:
    """The diff as text: ``-`` only in the first, ``+`` only in the second, ``~`` another value, ``>`` another place."""
    expect(found, Diff, "format_diff(found=)", "what diff returned")
    if found.same:
        return f"the same: {found.common} events"
    return "\n".join([f"the first {found.common} events are the same", *(text for _, text in diff_lines(found))])


def diff_lines(found: Diff) -> Iterable[tuple[str, str]]:
    """The lines of ``format_diff`` behind its heading, each with its sign."""
    for change in found.changes:
        sign = _SIGNS[change.kind]
        if change.kind == "moved":
            yield sign, f"{sign} {change.a:>5}  moved to {change.b}: {change.text_a}"
            continue
        if change.text_a is not None:
            yield ("-" if change.kind == "changed" else sign), f"{sign} {change.a:>5}  {change.text_a}"
        if change.text_b is not None:
            yield ("+" if change.kind == "changed" else sign), f"{sign} {change.b:>5}  {change.text_b}"
        if change.where is not None:
            yield "=", f"         {change.where}"
    if found.renumbered:
        many = "event differs" if found.renumbered == 1 else "events differ"
        yield "=", f"{found.renumbered} {many} only in the number of the command"
