"""docs/house.md: what it names is there, its layers are those of the imports; and where each module is held."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_layering import ROOMS

ROOT = Path(__file__).parents[1]
HELD_AS_ROOMS = {
    "alkaline_edge/board": "tests/board/test_board.py",
    "alkaline_edge/machine/loop": "tests/machine/test_loop.py",  # one event loop, whatever part answers
    "alkaline_edge/mcp": "tests/mcp",
    "alkaline_edge/replay": "tests/test_replay.py",
    "alkaline_edge/sealing": "tests/sealing",
    "alkaline_edge/testing": "tests/testing/test_conformance_suite.py",  # hosts with each fault that a case is to find
    "hosts/alkaline_hosts/_browser": "tests/wasm",
    "hosts/alkaline_hosts/_cli": "tests/hosts/test_cli.py",
    "hosts/alkaline_hosts/_cloudflare": "tests/hosts/test_worker_modules.py",
    "hosts/alkaline_hosts/_control": "tests/http/test_control.py",
    "hosts/alkaline_hosts/_file": "tests/hosts/test_file.py",
    "hosts/alkaline_hosts/_http": "tests/http",
    "hosts/alkaline_hosts/_lint": "tests/lint",
    "hosts/alkaline_hosts/_mcp": "tests/mcp",
    "hosts/alkaline_hosts/_agui": "tests/http",
    "hosts/alkaline_hosts/_kv": "tests/hosts/test_cloudflare_kv.py",
    "hosts/alkaline_hosts/_postgres": "tests/servers/test_postgres.py",
    "hosts/alkaline_hosts/_pydantic_ai": "tests/agents",
    "hosts/alkaline_hosts/_redis": "tests/servers/test_redis_store.py",
    "hosts/alkaline_hosts/_telemetry": "tests/telemetry",
    "hosts/alkaline_hosts/_servers": "tests/servers/test_redis_watch.py",
}
"""Rooms whose modules are held together, by what is seen at their door."""
HELD_ELSEWHERE = {
    "alkaline_edge/context.py": "tests/primitives",  # a file for each thing that a handler may ask for
    "alkaline_edge/host.py": "tests/conformance/test_conformance.py",
    "alkaline_edge/interrupts.py": "tests/primitives/test_base_errors.py",
    "alkaline_edge/reopening.py": "tests/primitives/test_retrying.py",
    "alkaline_edge/runtime/arriving.py": "tests/test_syncing.py",
    "alkaline_edge/runtime/copying.py": "tests/test_moving.py",
    "alkaline_edge/runtime/creation.py": "tests/primitives/test_scheduled.py",
    "alkaline_edge/runtime/topping.py": "tests/primitives/test_retrying.py",
    "alkaline_edge/runtime/write.py": "tests/runtime/test_store.py",
    "alkaline_edge/runtime/moved.py": "tests/test_syncing.py",
    "alkaline_edge/runtime/runtime.py": "tests/primitives/test_runs.py",
    "hosts/alkaline_hosts/_ranges.py": "tests/conformance/test_conformance.py",  # by each host that asks for ranges
    "hosts/alkaline_hosts/_system.py": "tests/conformance/test_conformance.py",
    "hosts/alkaline_hosts/asgi.py": "tests/http/test_requests.py",
    "hosts/alkaline_hosts/d1.py": "tests/workers/test_hosts_in_workerd.py",  # in the platform that it is for
    "hosts/alkaline_hosts/durable_object.py": "tests/workers/test_hosts_in_workerd.py",
    "hosts/alkaline_hosts/mcp.py": "tests/mcp",  # by real servers
    "hosts/alkaline_hosts/webcrypto.py": "tests/wasm/test_sealing.py",
    "hosts/alkaline_hosts/worker.py": "tests/workers/test_runs_in_workerd.py",
}
"""Modules that no file of tests is named after, since what they do is seen at another door: where it is held."""
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


def test_each_room_and_each_change_has_one_row() -> None:
    """Whoever adds to a table beside somebody else leaves no second row of one thing behind."""
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    assert sorted({row for row in rows if rows.count(row) > 1}) == []


def test_each_module_is_held_by_tests_of_its_name_or_says_by_which() -> None:
    """A new module comes with a file of tests, or with a line above; a line whose file of tests came is taken away."""
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("alkaline_edge", "hosts/alkaline_hosts")
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    }
    unnamed = {module for module in modules if Path(module).stem not in names}
    alone = {module for module in unnamed if not any(module.startswith(f"{room}/") for room in HELD_AS_ROOMS)}
    assert alone == HELD_ELSEWHERE.keys()
    assert len(HELD_ELSEWHERE) <= 20, "write a file of tests of the new module's name"
    places = [*HELD_AS_ROOMS, *HELD_AS_ROOMS.values(), *HELD_ELSEWHERE.values()]
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_room_is_on_the_page() -> None:
    """A package of the kernel that is new says what it is."""
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "alkaline_edge").rglob("__init__.py")}
    assert [room for room in sorted(rooms - {"alkaline_edge"}) if f"`{room}/`" not in PAGE] == []
