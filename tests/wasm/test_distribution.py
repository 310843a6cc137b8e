"""The built distribution: whole, loadable, the same bytes each time, and enough for micropip without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WASM = Path(__file__).resolve().parents[2] / "wasm"


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_two_builds_from_nothing_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """A second build, in other directories and with nothing compiled before, equals the first byte for byte."""
    shutil.copytree(WASM / "build" / "downloads", tmp_path / "work" / "downloads")
    sources = WASM / "build" / "source"  # what the first build was made of; the repository may have moved on
    command = [sys.executable, "-m", "distribution", "--repository", str(sources)]
    command += ["--work", str(tmp_path / "work"), "--dist", str(tmp_path / "dist")]
    subprocess.run(command, cwd=WASM, check=True)
    assert digests(tmp_path / "dist") == digests(dist)


def test_the_lock_names_files_that_are_there(dist: Path) -> None:
    """Every package of both lock files is a wheel of the distribution, with its digest; no address, no other path."""
    for name in ("pyodide-lock.json", "pyodide-lock-pure.json"):
        packages = json.loads((dist / name).read_text())["packages"]
        assert {"alkaline-edge", "msgpack", "micropip", "packaging"} <= set(packages)
        for package in packages.values():
            wheel = dist / package["file_name"]
            assert wheel.parent == dist
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() == package["sha256"]


def test_the_lock_files_differ_in_msgpack_alone(dist: Path) -> None:
    """One takes the C extension, the other the pure wheel."""
    compiled, pure = (
        json.loads((dist / name).read_text())["packages"] for name in ("pyodide-lock.json", "pyodide-lock-pure.json")
    )
    assert compiled.pop("msgpack")["file_name"].endswith("wasm32.whl")
    assert pure.pop("msgpack")["file_name"].endswith("-none-any.whl")
    assert compiled == pure


def test_everything_is_compiled(dist: Path) -> None:
    """No archive holds a source file beside or in place of its bytecode, but for anyio, which reads its own."""
    for archive in [*dist.glob("*.whl"), dist / "python_stdlib.zip"]:
        if archive.name.startswith("anyio-"):
            continue
        with zipfile.ZipFile(archive) as opened:
            assert not [name for name in opened.namelist() if name.endswith(".py")], archive.name


def test_every_package_can_be_imported(selenium_standalone, dist: Path) -> None:
    """Loading a package by the lock makes all of its modules importable."""
    packages = json.loads((dist / "pyodide-lock.json").read_text())["packages"]
    names = sorted(name for package in packages.values() for name in package["imports"])
    selenium_standalone.load_package(sorted(packages))
    for name in names:
        assert selenium_standalone.run(f"import importlib; importlib.import_module({name!r}).__name__") == name


@pytest.mark.parametrize(("lock", "pure"), [("pyodide-lock.json", False), ("pyodide-lock-pure.json", True)])
def test_the_lock_file_chooses_msgpack(selenium_standalone_noload, lock: str, pure: bool) -> None:
    """``lockFileURL`` decides between the C extension and pure Python, and both pack."""
    packed = "import msgpack; ' '.join((msgpack.Packer.__module__, msgpack.packb(1).hex()))"
    found = selenium_standalone_noload.run_js(
        f"const lockFileURL = typeof location === 'object' ? new URL({lock!r}, location.href).href : './{lock}';"
        "const pyodide = await loadPyodide({ lockFileURL }); await pyodide.loadPackage('msgpack');"
        f"return pyodide.runPython({packed!r});"
    )
    assert found == f"msgpack.{'fallback' if pure else '_cmsgpack'} 01"


WATCH_FETCH = """
self.asked = [];
const real = self.fetch;
self.fetch = (target, ...more) => { self.asked.push(String(target?.url ?? target)); return real(target, ...more); };
"""


@pytest.mark.parametrize("way", ["lock", "index"])
def test_micropip_installs_without_a_network(selenium_standalone, web_server_main, way: str) -> None:
    """``micropip.install("alkaline-edge")`` finds wheel and dependency in the distribution, asking no other place."""
    host, port, _ = web_server_main
    selenium_standalone.run_js(WATCH_FETCH)
    selenium_standalone.load_package("micropip")
    index = f", index_urls='http://{host}:{port}/package_index'" if way == "index" else ""
    selenium_standalone.run_async(f"import micropip; await micropip.install('alkaline-edge'{index})")
    assert selenium_standalone.run("import alkaline_edge; alkaline_edge.__name__") == "alkaline_edge"
    asked = selenium_standalone.run_js("return self.asked;")
    assert all(address.startswith(("./", f"http://{host}:{port}/")) for address in asked), asked
    assert way == "lock" or any("/package_index/alkaline-edge/" in address for address in asked)
