"""Bytecode for every Python file of a distribution, compiled by the Pyodide that will run it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sysconfig
from pathlib import Path

from .layout import EPOCH, NPM, BuildError

HERE = Path(__file__).resolve().parent
AS_SOURCE = ("anyio-",)
"""Wheels that stay as they are: anyio reads its own source to import its parts late, and without it imports all of
them at once, subinterpreters too, which Pyodide has not."""


def compile_directory(directory: Path, cache: Path) -> None:
    """Compile all wheels and zip archives in ``directory`` in place, but for those of ``AS_SOURCE``.

    A pure wheel gets a new name, ``...-cp314-none-any.whl``, since its bytecode is for that Python alone; lock files
    are to be written afterwards. Sources are left out: a traceback names file and line but does not show the line.
    ``cache`` keeps what was compiled before, by the digests of the archive and of the compiler.
    """
    compiler = _digest(NPM / "pyodide.asm.wasm", HERE / "inside.py", HERE / "inside.mjs")
    found = sorted([*directory.glob("*.zip"), *directory.glob("*.whl")])
    archives = [path for path in found if not path.name.startswith(AS_SOURCE)]
    places = {path: cache / f"{_digest(path)}-{compiler}" for path in archives}
    missing = {path: place for path, place in places.items() if not place.is_dir()}
    if missing:
        _compile(missing, cache)
    for path, place in places.items():
        (compiled,) = place.iterdir()
        path.unlink()
        shutil.copyfile(compiled, directory / compiled.name)


def _compile(missing: dict[Path, Path], cache: Path) -> None:
    """Compile the archives, each in a numbered directory, and move each directory to its place in the cache."""
    node = shutil.which("node")
    if node is None:
        raise BuildError("node is missing: install Node 20 or newer")
    stage = cache / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    for number, path in enumerate(missing):
        (stage / str(number)).mkdir(parents=True)
        shutil.copyfile(path, stage / str(number) / path.name)
    program = [str(HERE / "inside.mjs"), str(stage), sysconfig.get_path("purelib"), str(HERE / "inside.py")]
    done = subprocess.run([node, *program, str(EPOCH)], capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise BuildError(f"compiling inside Pyodide failed:\n{done.stdout}{done.stderr}")
    for number, place in enumerate(missing.values()):
        (stage / str(number)).rename(place)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
