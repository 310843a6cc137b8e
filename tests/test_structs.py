"""The quick NamedTuple and dataclass do what Python's own do, for all that the kernel asks of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from alkaline_edge import structs

Made = Callable[..., Any]


class _Twice:
    """The same source, made by Python's own and by ours."""

    def __init__(self, tuples: Any, dataclass: Any, field: Any) -> None:
        class Point(tuples):  # type: ignore[misc]  # which of the two is the point
            """A place."""

            x: int
            y: int = 2

            def sum(self) -> int:
                """A method."""
                return int(self[0] + self[1])

        @dataclass(frozen=True, slots=True)
        class Frozen:
            """A frozen one."""

            kind: ClassVar[str] = "kind"
            x: int
            y: int = 2

            def __post_init__(self) -> None:
                if self.x < 0:
                    raise ValueError("x")

        @dataclass(slots=True)
        class Open:
            """One that changes."""

            x: int
            items: list[int] = field(default_factory=list)
            last: int = 7

        @dataclass(slots=True, eq=False)
        class Own:
            """One that is only itself."""

            x: int

        for cls in (Point, Frozen, Open, Own):
            cls.__qualname__ = cls.__name__
        self.Point, self.Frozen, self.Open, self.Own = Point, Frozen, Open, Own


OURS = _Twice(structs.NamedTuple, structs.dataclass, structs.field)
PYTHONS = _Twice(typing.NamedTuple, dataclasses.dataclass, dataclasses.field)


def outcome(do: Callable[[_Twice], Any], made: _Twice) -> Any:
    try:
        return do(made)
    except Exception as error:
        return type(error)


DOES: dict[str, Callable[[_Twice], Any]] = {
    "tuple's text": lambda m: repr(m.Point(1)),
    "tuple by name": lambda m: m.Point(y=4, x=3),
    "tuple too short": lambda m: m.Point(),
    "tuple too long": lambda m: m.Point(1, 2, 3),
    "tuple twice": lambda m: m.Point(1, x=2),
    "tuple unknown": lambda m: m.Point(1, z=2),
    "tuple fields": lambda m: (m.Point._fields, m.Point._field_defaults, m.Point.__match_args__),
    "tuple replaced": lambda m: m.Point(1)._replace(y=5)._asdict(),
    "tuple made": lambda m: m.Point._make([8, 9]).sum(),
    "tuple made short": lambda m: m.Point._make([8]),
    "tuple is light": lambda m: hasattr(m.Point(1), "__dict__"),
    "tuple fixed": lambda m: setattr(m.Point(1), "x", 2),
    "tuple copied": lambda m: copy.deepcopy(m.Point(1)) == m.Point(1),
    "frozen's text": lambda m: repr(m.Frozen(1)),
    "frozen equal": lambda m: (m.Frozen(1) == m.Frozen(1), m.Frozen(1) == m.Frozen(2), m.Frozen(1) == (1, 2)),
    "frozen hashed": lambda m: len({m.Frozen(1), m.Frozen(1), m.Frozen(2)}),
    "frozen fixed": lambda m: setattr(m.Frozen(1), "x", 2),
    "frozen not deleted": lambda m: delattr(m.Frozen(1), "x"),
    "frozen checked": lambda m: m.Frozen(-1),
    "frozen short": lambda m: m.Frozen(),
    "frozen long": lambda m: m.Frozen(1, 2, 3),
    "frozen by name": lambda m: repr(m.Frozen(y=1, x=3)),
    "frozen class value": lambda m: (m.Frozen.kind, m.Frozen(1).kind, m.Frozen.__match_args__),
    "frozen replaced": lambda m: repr(dataclasses.replace(m.Frozen(1), y=9)),
    "frozen copied": lambda m: copy.copy(m.Frozen(1)) == m.Frozen(1),
    "frozen as map": lambda m: dataclasses.asdict(m.Frozen(1)),
    "frozen's fields": lambda m: [(f.name, f.default, f.type) for f in dataclasses.fields(m.Frozen)],
    "is a dataclass": lambda m: (dataclasses.is_dataclass(m.Open), dataclasses.is_dataclass(m.Point)),
    "open's text": lambda m: repr(m.Open(1)),
    "open's own list": lambda m: m.Open(1).items is m.Open(1).items,
    "open given some": lambda m: repr(m.Open(1, [2])),
    "open given the last": lambda m: repr(m.Open(1, last=3)),
    "open as map": lambda m: dataclasses.asdict(m.Open(1, [2])),
    "open not hashed": lambda m: hash(m.Open(1)),
    "open is light": lambda m: setattr(m.Open(1), "other", 2),
    "own is itself": lambda m: (m.Own(1) == m.Own(1), len({m.Own(1), m.Own(1)})),
}


@pytest.mark.parametrize("what", DOES)
def test_ours_does_what_pythons_does(what: str) -> None:
    """The same source gives the same values, or an error of the same class."""
    assert outcome(DOES[what], OURS) == outcome(DOES[what], PYTHONS)


def test_instances_can_be_pickled() -> None:
    """Also frozen ones, which nothing can be set on."""
    from alkaline_edge import Budget
    from alkaline_edge.host import Entry

    for value in (Budget(tokens=3), Entry("a", b"b", "c")):
        assert pickle.loads(pickle.dumps(value)) == value


def test_no_class_of_the_kernel_compiles_source() -> None:
    """Neither of Python's own is imported where an import must be quick; asyncio of 3.14 itself imports one."""
    program = (
        "import asyncio, sys, msgpack; had = set(sys.modules)\n"
        "from alkaline_edge import Context, Runtime, workflow\n"
        "print(*set(sys.modules) - had)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "dataclasses" not in found
    assert not [name for name in found if name.endswith((".moving", ".syncing", ".handing", ".bundle"))]
    assert "alkaline_edge.runtime.driver" in found


def test_a_protocol_is_what_has_all_that_it_names() -> None:
    """As with Python's own that can be checked at runtime: by its parts, and a class that derives from it by name."""

    def made(protocol: Any, checked: Any) -> list[bool]:
        @checked
        class Host(protocol):  # type: ignore[misc]  # which of the two is the point
            """One that has a property and a method."""

            @property
            def name(self) -> str:
                """A name."""
                return ""

            def get(self) -> int:
                """A number."""
                return 0

        class Derived(Host):
            """One that is made to be one."""

        class Other:
            """One that nobody told."""

            name = "n"

            def get(self) -> int:
                return 1

        class Less:
            """One that lacks a method."""

            name = "n"

        host: Any = Host
        return [isinstance(one, kind) for one in (Derived(), Other(), Less(), 1) for kind in (host, Derived)]

    theirs = made(typing.Protocol, typing.runtime_checkable)
    assert made(structs.Protocol, structs.runtime_checkable) == theirs == [True, True, True, *[False] * 5]
