"""The wheel: one, pure, with both packages and their type marker, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CARRIED = {".py", ".js", ".json", ".md", ".css", ".html", ".typed"}
"""What a package may carry: code, the JavaScript that hosts load, the inspector and its reader, and the type marker."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release builds it, by the build backend itself, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    program = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_is_pure(wheel: Path) -> None:
    """One wheel for every platform: micropip takes no other, and a Worker bundles no other."""
    assert wheel.name.startswith("alkaline_edge-")
    assert wheel.name.endswith("-py3-none-any.whl")
    (metadata,) = [name for name in names(wheel) if name.endswith(".dist-info/WHEEL")]
    with zipfile.ZipFile(wheel) as archive:
        assert b"Root-Is-Purelib: true" in archive.read(metadata)


def test_the_wheel_holds_every_module_and_the_type_marker_of_both_packages(wheel: Path) -> None:
    """What stands in the tree stands in the wheel."""
    tree = {
        str(path.relative_to(parent))
        for parent, package in ((ROOT, "alkaline_edge"), (ROOT / "hosts", "alkaline_hosts"))
        for path in (parent / package).rglob("*")
        if path.suffix in CARRIED or path.name == "py.typed"
    }
    assert {"alkaline_edge/py.typed", "alkaline_hosts/py.typed"} <= tree
    assert {name for name in names(wheel) if ".dist-info/" not in name} == tree


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    """No tests, examples, harnesses or caches: two packages and the metadata."""
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"alkaline_edge", "alkaline_hosts"}
    assert not [name for name in names(wheel) if "/test_" in name or "__pycache__" in name or name.endswith(".so")]


def test_the_kernel_needs_msgpack_alone(wheel: Path) -> None:
    """Everything else is an extra."""
    (metadata,) = [name for name in names(wheel) if name.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(metadata).decode().splitlines()
    needed = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert needed == ["Requires-Dist: msgpack>=1.0.8"]
    assert "Requires-Python: >=3.11" in lines


def test_the_declared_packages_and_dependency_are_all() -> None:
    """Also where no wheel can be built: what pyproject.toml says is what the tests above find in the wheel."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert declared["project"]["dependencies"] == ["msgpack>=1.0.8"]
    assert declared["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "alkaline_edge",
        "hosts/alkaline_hosts",
    ]
    assert (ROOT / "alkaline_edge" / "py.typed").exists()
    assert (ROOT / "hosts" / "alkaline_hosts" / "py.typed").exists()
