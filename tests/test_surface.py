"""What a user may import, by name and signature; `python -m tests.test_surface` writes the list anew."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).parent / "surface.txt"
DOORS = (
    "alkaline_edge", "alkaline_edge.testing", "alkaline_edge.replay", "alkaline_edge.sealing", "alkaline_edge.triggers",
    "alkaline_edge.mcp", "alkaline_edge.board", "alkaline_edge.capacity", "alkaline_edge.retention",
)  # fmt: skip
"""All that is public of the kernel; any other module of it is internal, whatever its names look like."""


def signature(thing: Any) -> str:
    """Parameters and result as they are written, without quotes: no Python shows them in another way."""
    found = inspect.signature(thing)
    shown = []
    star = False
    for one in found.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not star:
            shown.append("*")
        star = star or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        name = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "") + one.name
        kind = "" if one.annotation is one.empty else f": {one.annotation}"
        shown.append(name + kind + ("" if one.default is one.empty else f" = {default(one.default)}"))
    back = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    return f"({', '.join(shown)}){back}"


def default(value: Any) -> str:
    return repr(value) if isinstance(value, (str, int, float, bool, tuple, type(None))) else f"<{type(value).__name__}>"


def members(cls: type) -> Iterator[str]:
    """Fields, in their order, and then what can be called."""
    for name, kind in inspect.get_annotations(cls).items():
        if not name.startswith("_"):
            yield f"    {name}: {kind}"
    for name, value in sorted(vars(cls).items()):
        if name == "__init__" and "__dataclass_fields__" not in vars(cls) and inspect.isfunction(value):
            yield f"    {name}{signature(value)}"
        elif not name.startswith("_"):
            inner = getattr(value, "__func__", value)
            if inspect.isfunction(inner):
                yield f"    {'async ' if inspect.iscoroutinefunction(inner) else ''}{name}{signature(inner)}"
            elif isinstance(value, property):
                yield f"    {name}: property"


HOSTS = Path(__file__).parents[1] / "hosts" / "alkaline_hosts"
HOST_DOORS = sorted(path.stem for path in HOSTS.glob("[a-z]*.py"))
"""Read from the source: what one needs, such as a browser or a client of a database, another one is not tested with."""
WITHIN = {
    "opening": {"path_of"},  # of the command line
    "postgres": {"open_postgres"},  # of open_host
    "redis": {"open_redis"},  # of open_host
}
"""Names without an underscore that are no user's: another module of the package has them, and nobody else."""


@cache
def tree(module: str) -> ast.Module:
    """The source of a module of the hosts, by its dotted name within them."""
    path = HOSTS.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def public(module: str) -> list[str]:
    """``__all__`` of a module."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    return []


def place_of(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """Where ``name``, as a module knows it, is made: in a module of the hosts, or None for what is not theirs."""
    package = module.split(".")[:-1]
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.level and name in {a.asname or a.name for a in node.names}:
            base = package[: len(package) - node.level + 1]
            return place_of(".".join([*base, *(node.module or "").split(".")]), name)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and module == "__init__":
            return place_of("opening", name)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return module, node
    return None


def written(module: str, node: ast.expr) -> str:
    """An annotation as it is written, private short names of the module at length."""
    text = ast.unparse(node)
    for short in set(re.findall(r"\b_[A-Z]\w*", text)):
        found = place_of(module, short)
        if (
            found is not None
            and isinstance(found[1], ast.Assign)
            and not ast.unparse(found[1].value).startswith("Type")
        ):
            text = re.sub(rf"\b{short}\b", written(module, found[1].value), text)
    return text


def signature_of(module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """As ``signature``, from the source."""
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    rows: list[tuple[str, ast.arg, ast.expr | None]] = [("", arg, None) for arg in plain]
    for n, value in enumerate(reversed(given.defaults), 1):
        rows[-n] = ("", plain[-n], value)
    if given.vararg is not None:
        rows.append(("*", given.vararg, None))
    for n, (arg, given_default) in enumerate(zip(given.kwonlyargs, given.kw_defaults, strict=True)):
        rows.append(("" if n or given.vararg is not None else "*, ", arg, given_default))
    if given.kwarg is not None:
        rows.append(("**", given.kwarg, None))
    shown: list[str] = []
    for before, arg, otherwise in rows:
        kind = "" if arg.annotation is None else f": {written(module, arg.annotation)}"
        shown.append(before + arg.arg + kind + ("" if otherwise is None else f" = {ast.unparse(otherwise)}"))
    back = "" if function.returns is None else f" -> {written(module, function.returns)}"
    return f"({', '.join(shown)}){back}"


def attributes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """What a method sets on its object."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return found


def members_of(module: str, cls: ast.ClassDef, lowest: bool = True) -> dict[str, str]:
    """A line each for what can be called and read of a class, what it has of its bases among them."""
    lines: dict[str, str] = {}
    for base in cls.bases:
        found = place_of(module, ast.unparse(base))
        if found is not None and isinstance(found[1], ast.ClassDef):
            lines.update(members_of(found[0], found[1], lowest=False))
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines[node.target.id] = f"{node.target.id}: {written(module, node.annotation)}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            lines[node.targets[0].id] = f"{node.targets[0].id} = {ast.unparse(node.value)}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(ast.unparse(one) == "property" for one in node.decorator_list):
                lines[node.name] = f"{node.name}: property"
                continue
            word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            lines[node.name] = f"{word}{node.name}{signature_of(module, node)}"
            if node.name == "__init__":
                lines.update({name: f"{name}: attribute" for name in attributes(node)})
    return {
        name: line
        for name, line in lines.items()
        if not name.startswith("_") or (lowest and name in ("__init__", "__call__"))
    }


def surface_of_hosts() -> Iterator[str]:
    """As ``surface``, of the doors of the hosts."""
    for door in ["__init__", *HOST_DOORS]:
        for name in public(door):
            found = place_of(door, name)
            assert found is not None, f"{door}.{name}"
            module, node = found
            shown = "alkaline_hosts." + (name if door == "__init__" else f"{door}.{name}")
            if isinstance(node, ast.ClassDef):
                yield shown
                yield from (f"    {line}" for _, line in sorted(members_of(module, node).items()))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}{shown}{signature_of(module, node)}"
            elif isinstance(node, ast.Assign):
                yield f"{shown} = {written(module, node.value)}"


def surface() -> list[str]:
    """One line a name, and one a member of a class."""
    lines: list[str] = []
    for door in DOORS:
        module = importlib.import_module(door)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if inspect.isclass(value):
                lines += [f"{door}.{name}", *members(value)]
            elif inspect.isfunction(value):
                lines.append(f"{door}.{name}{signature(value)}")
            else:
                lines.append(f"{door}.{name} = {default(value) if isinstance(value, (str, int)) else '...'}")
    return [*lines, *surface_of_hosts()]


def test_the_public_names_and_their_signatures_are_those_of_the_list() -> None:
    """A change of what users write is seen as such: the list is part of the commit that makes it."""
    assert surface() == LIST.read_text().splitlines()


@pytest.mark.parametrize("door", HOST_DOORS)
def test_what_a_door_of_the_hosts_does_not_name_is_visibly_private(door: str) -> None:
    """Each has ``__all__``, and every other name that it makes begins with an underscore."""
    assert public(door)
    made: set[str] = set()
    for node in tree(door).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            made.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    made -= {"__all__"}
    assert {name for name in made if not name.startswith("_")} - set(public(door)) == WITHIN.get(door, set())


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n")
