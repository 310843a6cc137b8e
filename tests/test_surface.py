"""What a user may import, by name and signature; `python -m tests.test_surface` writes the list anew."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIST = Path(__file__).parent / "surface.txt"
DOORS = ("alkaline_edge", "alkaline_edge.testing", "alkaline_edge.replay", "alkaline_edge.sealing")
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
    return lines


def test_the_public_names_and_their_signatures_are_those_of_the_list() -> None:
    """A change of what users write is seen as such: the list is part of the commit that makes it."""
    assert surface() == LIST.read_text().splitlines()


if __name__ == "__main__":
    LIST.write_text("\n".join(surface()) + "\n")
