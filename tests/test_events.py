"""The kinds of events: one table, and everything else that speaks of them held against it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import events as ev
from alkaline_edge.shapes import EVENTS

ROOT = Path(__file__).parents[1]
KINDS = list(enumerate(ev.KINDS))
NAMES = [kind.cls.__name__ for kind in ev.KINDS]
ROLES = {"wakes", "synchronous", "told", "compared", "ends"}
SAMPLES: dict[str, Any] = {
    "kind": 0, "header": {}, "failure": {"type": "E", "message": "m"}, "totals": None, "args": None, "ok": True,
    "refused": False, "attempt": 1, "retry_at": 1, "tokens": 1, "micros": 1,
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
    assert {ev.DRAWN, ev.SPENT} == ev.SYNCHRONOUS
    assert {ev.PAUSED, ev.RESUMED, ev.EMITTED, ev.UPDATE_REPLIED} == ev.INFORMATIONAL
    assert {ev.COMPLETED, ev.FAILED, ev.CANCELLED, ev.CONTINUED_AS_NEW} == ev.ENDINGS
    assert {ev.STEP_INTENDED, ev.UPDATE_REPLIED} == ev.COMPARED
    assert {ev.PAUSED, ev.RESUMED, ev.EMITTED} | ev.ENDINGS == ev.SPECIAL
