"""Who may import whom, read from the source: the kernel does no I/O, and imports point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL = ROOT / "alkaline_edge"
HOSTS = ROOT / "hosts" / "alkaline_hosts"
FORBIDDEN = {
    "os", "io", "pathlib", "socket", "threading", "time", "random", "secrets", "uuid", "js", "pyodide", "workers",
    "alkaline_hosts",
}  # fmt: skip
AN_EVENT_LOOP = {"loop.py", "tasks.py", "primitives.py", "refusals.py", "anyio_inside.py"}
"""What makes up the handler's event loop, and so may use asyncio."""
LAYERS = [
    {"records", "errors", "host", "limits", "retry", "lifecycle", "reach", "setaside"},
    {"names", "budget", "codec", "events", "commands", "keys", "redaction"},
    {"answers", "anyio_inside", "primitives", "refusals", "tasks"},
    {"failures", "divergence", "runs", "workflows", "history", "loop", "shapes"},
    {"calling", "bundle", "branches", "execution", "mailbox", "script"},
    {"context"},
    {"runtime"},
    {"replay", "testing", "sealing"},
]
"""The layers of the kernel, lowest first: a module imports only from its own layer or below."""


def imports(path: Path) -> set[str]:
    """Absolute names of what a module imports, whether at its top or inside a function."""
    package = path.relative_to(path.parents[len(path.relative_to(ROOT).parts) - 1]).parts[:-1]
    if package[0] == "hosts":
        package = package[1:]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            found.add(".".join(base))
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def kernel_modules() -> list[Path]:
    return sorted(KERNEL.rglob("*.py"))


def layer_of(name: str) -> int | None:
    return next((n for n, layer in enumerate(LAYERS) if name in layer), None)


def test_every_kernel_module_has_a_layer() -> None:
    """A new module must say where it belongs."""
    names = {path.relative_to(KERNEL).parts[0].removesuffix(".py") for path in kernel_modules()} - {"__init__"}
    assert names == set().union(*LAYERS)


@pytest.mark.parametrize("path", kernel_modules(), ids=lambda path: str(path.relative_to(KERNEL)))
def test_the_kernel_does_no_io(path: Path) -> None:
    """No clock, no entropy, no files, no network, no host; asyncio in the loop, the runtime and the virtual clock."""
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & FORBIDDEN
    virtual_clock = path == KERNEL / "testing" / "clock.py"  # its sleepers rest in futures
    if path.name not in AN_EVENT_LOOP and path.parent.name != "runtime" and not virtual_clock:
        assert "asyncio" not in tops
    if "testing" in path.parts:
        assert "pytest" not in tops


@pytest.mark.parametrize("path", kernel_modules(), ids=lambda path: str(path.relative_to(KERNEL)))
def test_imports_point_one_way(path: Path) -> None:
    """A lower layer never imports a higher one, not even inside a function."""
    own = path.relative_to(KERNEL).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "alkaline_edge" and len(parts) > 1:
            other = layer_of(parts[1])
            assert other is None or other <= layer_of(own), f"{own} imports {name}"  # type: ignore[operator]  # it has one


def test_a_host_never_imports_another_host() -> None:
    """Hosts share only helpers whose names begin with an underscore; opening and the commands pick among hosts."""
    hosts = {path.stem for path in HOSTS.glob("*.py") if not path.stem.startswith("_")}
    families = {"file": {"file_crc", "file_format", "file_index", "file_lock", "file_log", "file_scan"}}
    helpers = {"javascript", *families["file"]}
    for path in HOSTS.glob("*.py"):
        if path.stem in ("opening", "cli", "__init__", "_commands", "_moving_commands", "_shell"):
            continue
        used = {name.split(".")[1] for name in imports(path) if name.startswith("alkaline_hosts.")}
        foreign = {name for name in used if name in hosts and name != path.stem} - helpers
        if path.stem == "worker":  # the ready-made Durable Object wires its host to a runtime
            foreign -= {"durable_object", "d1", "cloudflare_kv"}
        assert not foreign, f"{path.stem} imports {sorted(foreign)}"
