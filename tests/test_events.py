"""The kinds of events: one table, and everything else that speaks of them held against it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Codec, Recorded, StoreError
from alkaline_edge import events as ev
from alkaline_edge.history import Cursor
from alkaline_edge.shapes import EVENTS

ROOT = Path(__file__).parents[1]
KINDS = list(enumerate(ev.KINDS))
NAMES = [kind.cls.__name__ for kind in ev.KINDS]
ROLES = {"wakes", "synchronous", "told", "compared", "ends"}
SAMPLES: dict[str, Any] = {
    "kind": 0, "header": {}, "failure": {"type": "E", "message": "m"}, "totals": None, "args": None, "ok": True,
    "refused": False, "attempt": 1, "retry_at": 1, "tokens": 1, "micros": 1, "void": [], "ms": 1,
}  # fmt: skip


def sample(number: int, cls: Any) -> Any:
    return cls(number, *(SAMPLES.get(field, field) for field in cls._fields[1:]))


@pytest.mark.parametrize(("number", "kind"), KINDS, ids=NAMES)
def test_a_kind_has_a_number_a_role_and_words(number: int, kind: ev.Kind) -> None:
    """Its constant is its place in the table, and it can be read from a list and shown."""
    constant = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.cls.__name__).upper()
    assert getattr(ev, constant) == number
    assert set(kind.role.split(", ")) <= ROLES
    event = sample(number, kind.cls)
    assert type(ev.event_of(list(event))) is kind.cls
    assert ev.describe(event)
    assert all(0 < place < len(kind.cls._fields) for place in kind.differs)


PLAIN = {
    "args",
    "attempt",
    "retry_at",
    "tokens",
    "micros",
    "totals",
    "refused",
    "ok",
    "header",
    "entry",
    "child",
    "outcome",
    "void",
    "ms",
}
"""Items that lists of events show in words or not at all."""
NAMED = {"name", "what", "label", "workflow", "topic"}
SHOWN = {"value", "failure", "payload", "input", "data", "reason"}


@pytest.mark.parametrize(("number", "kind"), KINDS, ids=NAMES)
def test_every_item_of_a_kind_is_known_to_those_who_show_it(number: int, kind: ev.Kind) -> None:
    """The table says which item is the name and which the value, so that inspecting, comparing and the command line
    show both for every kind; a new item has to say which it is."""
    items = dict(enumerate(kind.cls._fields))
    assert items.keys() == {0} | {place for place, item in items.items() if item in PLAIN | NAMED | SHOWN | {"id"}}
    assert [place for place, item in items.items() if item in NAMED] == [kind.named] * bool(kind.named)
    assert [place for place, item in items.items() if item in SHOWN] == [kind.value] * bool(kind.value)
    event = sample(number, kind.cls)
    assert ev.given_name(event) == (event[kind.named] if kind.named else None)


def test_a_step_and_an_ending_stand_in_each_others_place() -> None:
    """Comparing takes a step that failed here and completed there for one change; the same for endings."""
    alike: dict[str, set[int]] = {}
    for number, kind in KINDS:
        if kind.alike:
            alike.setdefault(kind.alike, set()).add(number)
    assert alike == {"outcome of a step": {ev.STEP_COMPLETED, ev.STEP_FAILED}, "ending": set(ev.ENDINGS)}


def test_every_kind_is_inspected_compared_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """No reader has a list of its own: a history of every kind goes through each of them."""
    from alkaline_edge.replay import comparing
    from alkaline_hosts._cli import output

    every = [sample(number, kind.cls) for number, kind in KINDS]
    for event in every:
        assert comparing._shown(event).startswith(ev.describe(event))
        comparing._comparable(event)
    output.print_events([Recorded(0, 0, event) for event in every])
    printed = capsys.readouterr().out
    assert all(ev.describe(event) in printed for event in every)


def test_no_class_of_an_event_is_missing() -> None:
    """The union that annotations name, the shapes of what comes from outside, and the table have the same kinds."""
    assert list(ev.Event.__args__) == [kind.cls for kind in ev.KINDS]
    assert list(EVENTS) == [kind.cls for kind in ev.KINDS]
    for cls, shapes in EVENTS.items():
        assert len(shapes) == len(cls._fields) - 1, cls.__name__


def test_the_specification_has_the_same_table() -> None:
    """SPEC.md, "Events": number, name and as many items, in this order."""
    found = {
        int(number): (name, [item for item in re.sub(r"\([^)]*\)", "", items).split(",") if item.strip()])
        for number, name, items in re.findall(r"^\| (\d+) \| (\w+) \|(.*)\|$", (ROOT / "SPEC.md").read_text(), re.M)
    }
    assert {number: name for number, (name, _) in found.items()} == dict(enumerate(NAMES))
    for number, kind in KINDS:
        assert len(found[number][1]) == len(kind.cls._fields) - 1, kind.cls.__name__


def test_a_replay_knows_what_to_do_with_every_kind() -> None:
    """What wakes a handler is applied by name; what does not has a role that says where it goes instead."""
    source = (ROOT / "alkaline_edge" / "machine" / "execution.py").read_text()
    (apply,) = (node for node in ast.walk(ast.parse(source)) if getattr(node, "name", "") == "_apply")
    applied = set(re.findall(r"ev\.(\w+)\(\)", ast.unparse(apply)))
    assert applied == {kind.cls.__name__ for kind in ev.KINDS if kind.role == "wakes"} - {"Started"}


def test_the_roles_are_the_sets() -> None:
    """A history of before is read by the very same ones."""
    assert {ev.DRAWN, ev.SPENT, ev.RETRIED, ev.TOPPED_UP} == ev.SYNCHRONOUS
    assert {ev.PAUSED, ev.RESUMED, ev.EMITTED, ev.UPDATE_REPLIED} == ev.INFORMATIONAL
    assert {ev.COMPLETED, ev.FAILED, ev.CANCELLED, ev.CONTINUED_AS_NEW} == ev.ENDINGS
    assert {ev.STEP_INTENDED, ev.UPDATE_REPLIED} == ev.COMPARED
    assert {ev.PAUSED, ev.RESUMED, ev.EMITTED} | ev.ENDINGS == ev.SPECIAL


@pytest.mark.parametrize("number", range(len(ev.CLASSES)))
@pytest.mark.parametrize("items", [-1, 1])
def test_an_event_with_an_item_too_many_or_too_few_is_refused(number: int, items: int) -> None:
    """By the fast way of a replay as by the one that says what is wrong: no item is taken for another one's."""
    length = len(ev.CLASSES[number]._fields) + items
    if length < 1:
        return
    codec = Codec()
    commit = codec.encode([Cursor().head, 0, [number, *["x"] * (length - 1)]])
    for read in (lambda: Cursor().advance_all([commit], codec), lambda: Cursor().advance(commit, codec)):
        with pytest.raises(StoreError):
            read()
