"""docs/house.md: what it names is there, and the layers that it shows are those that the imports are held to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_layering import ROOMS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "house.md").read_text()
SHOWN = ("alkaline_edge", "alkaline_edge.machine")


def layers(room: str) -> str:
    """The layers of a package, as the page has them."""
    return "\n".join(
        f"{n}. {', '.join(f'`{name}`' for name in sorted(layer))}" for n, layer in enumerate(ROOMS[room], 1)
    )


@pytest.mark.parametrize("room", SHOWN)
def test_the_layers_are_those_of_the_test(room: str) -> None:
    """In the same order, with the same modules."""
    assert f"<!-- layers: {room} -->\n{layers(room)}\n\n" in PAGE


def test_every_path_is_there() -> None:
    """A file or folder that the page names has not moved away."""
    paths = set(re.findall(r"`((?:alkaline_edge|hosts|tests)/[\w./]*)`", PAGE))
    assert len(paths) > 30
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_every_room_is_on_the_page() -> None:
    """A package of the kernel that is new says what it is."""
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "alkaline_edge").rglob("__init__.py")}
    assert [room for room in sorted(rooms - {"alkaline_edge"}) if f"`{room}/`" not in PAGE] == []
