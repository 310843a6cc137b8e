"""Who may import whom, read from the source: the kernel does no I/O, and imports point one way."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL = ROOT / "alkaline_edge"
HOSTS = ROOT / "hosts" / "alkaline_hosts"
FORBIDDEN = {
    "os", "io", "pathlib", "socket", "threading", "time", "random", "secrets", "uuid", "js", "pyodide", "workers",
    "alkaline_hosts",
}  # fmt: skip
ROOMS: dict[str, list[set[str]]] = {
    "alkaline_edge": [
        {"errors", "arguments", "host", "interrupts", "limits", "retry", "structs", "lifecycle"},
        {"names", "activations", "budget", "canonical", "codec", "events", "keys", "redaction", "stored"},
        {"failures", "runs", "workflows", "history", "shapes"},
        {"calling", "envelope", "retried"},
        {"bundle", "parts", "reopening"},
        {"machine"},
        {"context"},
        {"runtime"},
        {"replay", "testing", "sealing", "triggers", "mcp", "board", "capacity", "retention"},
    ],
    "alkaline_edge.machine": [
        {"commands", "loop"},
        {"agenda", "divergence", "branches", "mailbox", "undoing"},
        {"pending", "handler", "script"},
        {"passing"},
        {"calls"},
        {"execution"},
    ],
    "alkaline_edge.runtime": [
        {"pages", "write"},
        {"store", "moved", "pace", "reporting", "unreadable", "clock", "crew", "limit"},
        {"segments", "lease", "telling", "listing", "creation", "accounts", "effects", "payloads", "publishing",
         "requests", "remembering"},
        {"loading", "copying", "bell", "sending", "topping"},
        {"fleet", "journal", "migrating", "places", "learning"},
        {"inbox", "attempts", "outcomes", "offline", "children", "moving"},
        {"scheduled", "forgetting", "arriving", "chores", "gates"},
        {"endings", "waking"},
        {"driver", "asking", "serving"},
        {"owning", "frozen", "following"},
        {"bundling", "retrying", "forking"},
        {"purging"},
        {"runtime"},
        {"handing"},
        {"syncing"},
    ],
    "alkaline_edge.machine.loop": [
        {"completing"},
        {"refusals", "tasks", "primitives", "anyio_inside", "reach"},
        {"answers", "discarding"},
        {"loop"},
    ],
    "alkaline_edge.mcp": [{"failing", "results", "reaching"}, {"asking", "listing"}, {"tools"}],
    "alkaline_edge.board": [
        {"states"},
        {"tasks", "listing"},
        {"moment", "showing"},
        {"graph", "log"},
        {"holding"},
        {"runs"},
        {"engine"},
        {"claims"},
        {"claiming"},
        {"working"},
        {"board"},
        {"tools"},
    ],
    "alkaline_edge.capacity": [{"budgets", "limits"}],
    "alkaline_edge.triggers": [{"timing"}, {"schedule"}, {"triggers"}],
    "alkaline_edge.replay": [{"mending", "reading"}, {"checking", "comparing"}],
    "alkaline_edge.sealing": [{"ciphers", "layout"}, {"keyring"}, {"sealer"}, {"bundles", "host"}, {"sweeping"}],
    "alkaline_edge.testing": [
        {"clock", "stage"},
        {"simulated", "cases_platform", "cases_reading", "cases_writing"},
        {"conformance", "stubbing"},
        {"trial"},
        {"proving"},
    ],
    "alkaline_hosts": [
        {"_system", "_ranges"},
        {"_servers", "_file", "_postgres", "_redis", "_cloudflare", "_kv", "_browser", "_http", "_pydantic_ai",
         "_lint", "_telemetry", "_inspector"},
        {"_mcp"},
        {"_agui"},
        {"memory", "file", "callbacks", "indexeddb", "javascript", "webcrypto", "durable_object", "d1", "cloudflare_kv",
         "cloudflare_workflows", "postgres", "redis", "remote", "asgi", "mcp", "openai_agents", "langgraph",
         "pydantic_ai", "golden",
         "otel", "otlp"},
        {"opening", "worker", "mcp_server", "ag_ui", "pytest_plugin"},
        {"_control"},
        {"control"},
        {"_cli"},
        {"cli"},
    ],
    "alkaline_hosts._control": [{"config", "page", "plane"}, {"app"}],
    "alkaline_hosts._file": [{"format", "index", "lock", "crc"}, {"group", "scan"}, {"log"}],
    "alkaline_hosts._postgres": [{"view", "clients"}, {"sql"}],
    "alkaline_hosts._redis": [{"scripts"}, {"clients"}, {"settings", "subscription"}],
    "alkaline_hosts._pydantic_ai": [{"errors", "surroundings", "deciding"}, {"units", "waiting"}, {"mcp_tools"}],
    "alkaline_hosts._agui": [{"agent"}],
    "alkaline_hosts._mcp": [{"rpc", "tools", "tasks"}, {"boards"}, {"server"}],
    "alkaline_hosts._telemetry": [{"spans"}, {"live", "writing"}, {"recorded", "prometheus"}],
    "alkaline_hosts._lint": [{"rules"}, {"names"}, {"handlers"}, {"judging", "project"}, {"linting"}],
    "alkaline_hosts._kv": [{"namespace", "format"}, {"log", "values", "archive"}],
    "alkaline_hosts._http": [
        {"messages", "json", "patience", "probes"},
        {"doors", "forms", "fetching", "signing", "beside", "around"},
        {"parameters", "verbs", "streaming"},
        {"routes"},
        {"runs", "moves"},
        {"openapi"},
        {"api"},
        {"application"},
    ],
    "alkaline_hosts._cli": [
        {"output", "addresses", "files", "junit"},
        {"shell", "serving_log"},
        {"code", "moving", "rooms", "watching"},
        {"looking", "serving", "schedules", "boards", "budgets", "learned", "retention"},
        {"listing", "operating", "controlling", "checking", "linting", "inspecting", "tracing"},
        {"commands"},
    ],
    "alkaline_hosts._inspector": [{"page"}, {"door"}],
}  # fmt: skip
"""The layers of each package, lowest first: a module imports only from its own layer or below."""
CIRCLES: dict[str, str] = {}
"""Packages in which modules may still import each other in a circle, each with why."""


def name_of(path: Path) -> str:
    """The dotted name of a module; of its package, for an ``__init__``."""
    parts = path.relative_to(HOSTS.parent if path.is_relative_to(HOSTS) else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in (KERNEL, HOSTS) for path in sorted(package.rglob("*.py"))}


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of what a module imports: at its top, inside a function, or for type checkers alone."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        del package[-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            whole = ".".join(base)
            found |= {name if (name := f"{whole}.{alias.name}") in MODULES else whole for alias in node.names}
    return frozenset(found)


def within(room: str) -> list[str]:
    """The modules of a package, at any depth, but for its door."""
    return [name for name in MODULES if name.startswith(f"{room}.")]


def layer_of(room: str, module: str) -> int | None:
    """The layer of what stands directly in ``room`` and holds ``module``; None for what is not of the room."""
    if not module.startswith(f"{room}."):
        return None
    child = module.removeprefix(f"{room}.").split(".")[0]
    return next((n for n, layer in enumerate(ROOMS[room]) if child in layer), None)


def kernel_modules() -> list[Path]:
    return sorted(KERNEL.rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_a_layer(room: str) -> None:
    """A new module must say where it belongs."""
    assert {name.removeprefix(f"{room}.").split(".")[0] for name in within(room)} == set().union(*ROOMS[room])


@pytest.mark.parametrize("path", kernel_modules(), ids=lambda path: str(path.relative_to(KERNEL)))
def test_the_kernel_does_no_io(path: Path) -> None:
    """No clock, no entropy, no files, no network, no host; asyncio in the loop, the runtime and the virtual clock."""
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & FORBIDDEN
    # Sleepers rest in futures; a process that is killed is a task.
    virtual_clock = path in (KERNEL / "testing" / "clock.py", KERNEL / "testing" / "proving.py")
    an_event_loop = path.parent == KERNEL / "machine" / "loop"
    if not an_event_loop and "runtime" not in path.parts and not virtual_clock:
        assert "asyncio" not in tops
    if "testing" in path.parts:
        assert "pytest" not in tops


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    """A lower layer never imports a higher one: not inside a function, and not for type checkers alone."""
    up = [
        f"{name} imports {other}"
        for name in within(room)
        for other in imports(MODULES[name])
        if (theirs := layer_of(room, other)) is not None and theirs > (layer_of(room, name) or 0)
    ]
    assert up == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_two_modules_import_each_other(room: str) -> None:
    """No circle, however long, and however late or for whose eyes the import that closes it."""
    found = [circle for circle in circles(within(room)) if not any(inside(circle, allowed) for allowed in CIRCLES)]
    assert found == []


def test_no_circle_is_allowed_that_is_gone() -> None:
    """Once a package has none, none comes back."""
    for allowed in CIRCLES:
        assert any(inside(circle, allowed) for circle in circles(list(MODULES))), f"{allowed} has no circle any more"


def inside(circle: list[str], package: str) -> bool:
    return all(name == package or name.startswith(f"{package}.") for name in circle)


def circles(names: list[str]) -> list[list[str]]:
    """The sets of ``names`` that import each other, directly or by way of others, as lists in order."""
    wanted = set(names)
    reached: dict[str, set[str]] = {}
    for name in names:
        found, ahead = set[str](), [name]
        while ahead:
            nearer = imports(MODULES[ahead.pop()]) & wanted - found
            found |= nearer
            ahead += nearer
        reached[name] = found
    each = [sorted(other for other in reached[name] if name in reached[other]) for name in names]
    return [list(one) for one in sorted({tuple(one) for one in each if len(one) > 1})]


def test_a_circle_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: a circle of three, and what only leads to it."""
    ways = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set(), "e": {"a"}}
    monkeypatch.setitem(globals(), "MODULES", {name: name for name in ways})
    monkeypatch.setitem(globals(), "imports", lambda name: frozenset(ways[name]))
    assert circles(list(ways)) == [["a", "b", "c"]]


ACROSS = {
    "_control": {"_http"},
    "_cloudflare": {"_http"},  # a Worker's requests are turned into those of the API
    "_agui": {"_http", "_mcp"},  # what a run waits for is asked for in one way
    "_mcp": {"_http"},  # who may ask, and how large, is the same there
    "_kv": {"_cloudflare"},  # the binding of a Worker
}
"""What the rooms of the hosts may import of each other; every other room stands by itself."""
SHARED = {path.stem for path in HOSTS.glob("_*.py")} - {"__init__"}
"""What hosts and rooms are made with: single modules, which import neither."""


def test_rooms_of_hosts_stand_by_themselves() -> None:
    """A room imports no door of a host and no other room but those named, and a room's door loads nothing."""
    rooms = {path.parent.name for path in HOSTS.glob("_*/__init__.py")}
    for room in sorted(rooms - {"_cli"}):
        assert not imports(HOSTS / room / "__init__.py"), room
        used = {name.split(".")[1] for each in (HOSTS / room).glob("*.py") for name in imports(each)
                if name.startswith("alkaline_hosts.")}  # fmt: skip
        assert used <= ACROSS.get(room, set()) | SHARED | {room}, room
    assert ACROSS.keys() <= rooms


def test_a_host_never_imports_another_host() -> None:
    """Hosts share only what is in rooms, whose names begin with an underscore; opening and the commands pick hosts."""
    doors = {path.stem for path in HOSTS.glob("*.py") if not path.stem.startswith("_")}
    for path in HOSTS.rglob("*.py"):
        if path.stem in ("opening", "cli", "pytest_plugin", "__init__") or path.parent.name == "_cli":
            continue
        used = {name.split(".")[1] for name in imports(path) if name.startswith("alkaline_hosts.")}
        foreign = {name for name in used if name in doors and name != path.stem} - {"javascript"}
        if path.stem == "worker":  # the ready-made Durable Object wires its host to a runtime
            foreign -= {"durable_object", "d1", "cloudflare_kv"}
        if path.stem == "control":  # it is a client of servers
            foreign -= {"remote"}
        assert not foreign, f"{path.stem} imports {sorted(foreign)}"
