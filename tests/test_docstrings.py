"""What a user reads of a public name: what it does, its options, the units of its times, and the errors by code.

Whatever is optional is named, since a default says nothing of what another value does; what must be given is said by
its name, its type and the sentence around it. Read from the source, so that hosts of other platforms are held too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from alkaline_edge import errors
from tests.test_surface import DOORS, HOST_DOORS, place_of, public

ROOT = Path(__file__).parents[1]
ERRORS = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and hasattr(cls, "code")}
HOST = next(
    node
    for node in ast.parse((ROOT / "alkaline_edge" / "host.py").read_text()).body
    if isinstance(node, ast.ClassDef) and node.name == "Host"
)
UNITS = re.compile(r"\b(?:seconds?|ms|milliseconds|minutes?|hours?|days?|datetimes?)\b")
TIMES = re.compile(r"(?:^|_)(?:timeout|seconds|delay|lease|poll|backoff|start_at|wake_at|until|within|window|every)$")
"""Parameters and fields of these names are times, but for those whose annotation says otherwise."""


class Said(NamedTuple):
    """One public class, function or method: where it stands, its source, and the class around it."""

    label: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    around: ast.ClassDef | None

    @property
    def text(self) -> str:
        """Its own docstring, that of its class, and for a class the docstring of its ``__init__``."""
        nodes = [self.node, self.around]
        if isinstance(self.node, ast.ClassDef):
            nodes += [one for one in self.node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        return "\n".join(filter(None, (ast.get_docstring(node) for node in nodes if node is not None)))


def members(label: str, cls: ast.ClassDef) -> Iterator[Said]:
    """A class and its methods; what sets a property is said by the property."""
    yield Said(label, cls, None)
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            sets = any(ast.unparse(one).endswith(".setter") for one in node.decorator_list)
            if node.name == "__init__" or not (sets or node.name.startswith("_")):
                yield Said(f"{label}.{node.name}", node, cls)


def defined(source: str, name: str) -> ast.stmt | None:
    """Where a module makes ``name``; of a function that is overloaded, the one with the body."""
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    made = [node for node in ast.parse(source).body if isinstance(node, named) and node.name == name]
    return made[-1] if made else None


def found(door: str, name: str) -> ast.stmt | None:
    """The source of a public name; None for what is a plain value, or made elsewhere."""
    if door.startswith("alkaline_edge"):
        value = getattr(importlib.import_module(door), name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            return None
        module = importlib.import_module(value.__module__)
        return defined(inspect.getsource(module), value.__name__)
    place = place_of(door, name)
    return place[1] if place is not None else None


def all_said() -> Iterator[Said]:
    names: list[tuple[str, str]] = []
    for door in DOORS:
        names += [(door, name) for name in importlib.import_module(door).__all__]
    for door in ["__init__", *HOST_DOORS]:
        names += [(door, name) for name in public(door)]
    for door, name in names:
        node = found(door, name)
        label = f"{door}.{name}"
        if isinstance(node, ast.ClassDef):
            yield from members(label, node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Said(label, node, None)


SAID = {one.label: one for one in all_said()}
CONTRACT = {one.label: one for one in members("Host", HOST)}
"""What every host's methods may refer to."""


def is_named(name: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def options(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """Parameters that can be given by name and have a default."""
    given = node.args
    last = given.args[max(0, len(given.args) - len(given.defaults)) :]
    return [*last, *(arg for arg, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value is not None)]


def fields(cls: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """What a class of values holds: a name, its annotation, and the text below it."""
    made = any("dataclass" in ast.unparse(one) for one in cls.decorator_list)
    if not made and not any(ast.unparse(base).split(".")[-1] == "NamedTuple" for base in cls.bases):
        return
    for node, then in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            below = then.value if isinstance(then, ast.Expr) else None
            text = below.value if isinstance(below, ast.Constant) and isinstance(below.value, str) else ""
            yield node.target.id, ast.unparse(node.annotation), text


def referred(one: Said) -> str:
    """What it says, and what those say that it refers to: "As ``Runtime.signal``", "As Host.list"."""
    text = one.text
    own = "" if one.around is None else f"{one.around.name}."
    names = re.findall(r"\b[Aa]s (?:for )?(?:``)?([A-Z]\w+\.\w+)", text)
    names += [own + name for name in re.findall(r"\b[Aa]s (?:for )?``([a-z]\w+)``", text)]
    for name in names:
        for label, other in [*SAID.items(), *CONTRACT.items()]:
            if label == name or label.endswith(f".{name}"):
                text += "\n" + other.text
    return text


def test_every_public_name_says_what_it_does() -> None:
    """Classes, functions and methods, those of the hosts that run elsewhere among them."""
    assert len(SAID) > 250
    silent = [label for label, one in SAID.items() if not ast.get_docstring(one.node) and "__init__" not in label]
    assert silent == []


def test_every_option_is_named_where_it_can_be_given() -> None:
    """In the docstring of the function, or in that of its class, or in the one that it refers to."""
    missing = [
        f"{one.label}({arg.arg}=)"
        for one in SAID.values()
        if not isinstance(one.node, ast.ClassDef)
        for arg in options(one.node)
        if not arg.arg.startswith("_") and not is_named(arg.arg, referred(one))
    ]
    assert missing == []


def test_every_field_of_a_value_says_what_it_holds() -> None:
    """Below it, or in the docstring of its class; a name of its own class that says it all is enough with that."""
    missing = [
        f"{one.label}.{name}"
        for one in SAID.values()
        if isinstance(one.node, ast.ClassDef)
        for name, _, below in fields(one.node)
        if not below and not is_named(name, one.text)
    ]
    assert missing == []


def test_every_time_has_its_unit() -> None:
    """Seconds, ms or a datetime: said where the parameter or the field is."""
    missing: list[str] = []
    for one in SAID.values():
        if isinstance(one.node, ast.ClassDef):
            for name, kind, below in fields(one.node):
                if TIMES.search(name) and not UNITS.search(below + one.text + kind):
                    missing.append(f"{one.label}.{name}")
            continue
        for arg in [*one.node.args.args, *one.node.args.kwonlyargs]:
            kind = "" if arg.annotation is None else ast.unparse(arg.annotation)
            if TIMES.search(arg.arg) and not UNITS.search(referred(one) + kind):
                missing.append(f"{one.label}({arg.arg}=)")
    assert missing == []


def test_every_error_that_a_public_function_raises_is_said() -> None:
    """By its code, or by the name of its class: those that stand in its own body, behind the door that it is."""
    missing: set[str] = set()
    for one in SAID.values():
        for node in [] if isinstance(one.node, ast.ClassDef) else ast.walk(one.node):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                cls = ERRORS.get(ast.unparse(node.exc.func).split(".")[-1])
                if cls is not None and not any(is_named(name, referred(one)) for name in (cls.code, cls.__name__)):
                    missing.add(f"{one.label}: {cls.code}")
    assert sorted(missing) == []


@pytest.mark.parametrize("package", ["alkaline_edge", "hosts/alkaline_hosts"])
def test_every_code_that_is_spoken_of_is_one_of_the_nine(package: str) -> None:
    """In docstrings and messages alike."""
    spoken = {code for path in (ROOT / package).rglob("*.py") for code in re.findall(r"\bERR_\w+", path.read_text())}
    assert spoken - errors.BY_CODE.keys() == set()
