"""Where things are, and the versions that everything else follows from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

WASM = Path(__file__).resolve().parent.parent
REPOSITORY = WASM.parent
NPM = WASM / "node_modules" / "pyodide"
"""Pyodide's core as npm gives it: interpreter, standard library, loader, lock file."""

CORE_FILES = (
    "package.json",
    "pyodide.mjs",
    "pyodide.js",
    "pyodide.asm.mjs",
    "pyodide.asm.wasm",
    "pyodide.d.ts",
    "ffi.d.ts",
    "python_stdlib.zip",
)
"""What of npm's files goes into the distribution. Its lock file does not: it names wheels that are not there."""

EPOCH = 315_532_800
"""1 January 1980 in seconds since 1970: the earliest time that a zip archive can hold, and the one they all get."""


class BuildError(Exception):
    """The build can't go on; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Work:
    """The directories of one build. ``dist`` is the result, all the others can be deleted at any time."""

    root: Path
    dist: Path

    @property
    def downloads(self) -> Path:
        """Wheels and sdists as the registry gives them, checked against the hashes of ``wheels.txt``."""
        return self.root / "downloads"

    @property
    def source(self) -> Path:
        """A copy of the project's packages; the build writes beside them."""
        return self.root / "source"

    @property
    def crossenv(self) -> Path:
        """The cross-build environment that pyodide-build asks for."""
        return self.root / "crossenv"

    @property
    def plain(self) -> Path:
        """The distribution before its bytecode is compiled. Complete too: the benchmark starts it to compare."""
        return self.root / "plain"


@dataclass(frozen=True, slots=True)
class Target:
    """The platform that npm's lock file describes."""

    version: str
    python: str
    abi: str
    platform: str
    arch: str

    @property
    def python_tag(self) -> str:
        """Such as ``314``."""
        major, minor = self.python.split(".")[:2]
        return major + minor

    @property
    def wheel_platform(self) -> str:
        """The platform tag of C extensions, such as ``pyemscripten_2026_0_wasm32``."""
        return f"pyemscripten_{self.abi}_{self.arch}"

    @property
    def emscripten(self) -> str:
        """Such as ``5.0.3``."""
        return self.platform.removeprefix("emscripten_").replace("_", ".")


def read_target() -> Target:
    """The target platform, from npm's own files: nothing here repeats a version number."""
    try:
        info = json.loads((NPM / "pyodide-lock.json").read_text("utf-8"))["info"]
        version = json.loads((NPM / "package.json").read_text("utf-8"))["version"]
    except FileNotFoundError as error:
        raise BuildError(f"{error.filename} is missing: run `npm ci` in wasm/ first") from None
    return Target(version, info["python"], info["abi_version"], info["platform"], info["arch"])
