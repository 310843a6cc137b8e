"""The distribution's own ``pyodide-lock.json``, in which every package is a file beside it.

There are two: ``pyodide-lock.json`` takes msgpack's C extension, ``pyodide-lock-pure.json`` its pure wheel. A page
chooses with ``loadPyodide({lockFileURL})``.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from pyodide_build.create_package_index import create_package_index
from pyodide_lock import PyodideLockSpec
from pyodide_lock.spec import InfoSpec, PackageSpec

from .layout import BuildError, Target

LOCK = "pyodide-lock.json"
PURE_LOCK = "pyodide-lock-pure.json"
INDEX = "package_index"


def write(directory: Path, target: Target) -> None:
    """Write both lock files and the package index for the wheels that are in ``directory``."""
    specs = [_package(wheel, target) for wheel in sorted(directory.glob("*.whl"))]
    for name, pure in ((LOCK, False), (PURE_LOCK, True)):
        chosen = {canonicalize_name(spec.name): spec for spec in specs if _wanted(spec, pure)}
        _check(chosen)
        info = InfoSpec(platform=target.platform, python=target.python, arch="wasm32", abi_version=target.abi)
        lock = PyodideLockSpec(info=info, packages=chosen)
        lock.check_wheel_filenames()
        lock.to_json(directory / name, indent=1)
    shutil.rmtree(directory / INDEX, ignore_errors=True)
    # Relative, so that the distribution can be served from any place.
    create_package_index({canonicalize_name(spec.name): spec for spec in specs}, directory, "../../")


def _wanted(spec: PackageSpec, pure: bool) -> bool:
    return spec.name != "msgpack" or _is_pure(spec.file_name) == pure


def _is_pure(file_name: str) -> bool:
    return all(tag.platform == "any" for tag in parse_wheel_filename(file_name)[3])


def _package(wheel: Path, target: Target) -> PackageSpec:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata_name = next((n for n in names if n.endswith(".dist-info/METADATA") and n.count("/") == 1), None)
        if metadata_name is None:
            raise BuildError(f"{wheel.name} has no METADATA")
        metadata = HeaderParser().parsestr(archive.read(metadata_name).decode("utf-8"))
    return PackageSpec(
        name=metadata["Name"],
        version=metadata["Version"],
        file_name=wheel.name,
        install_dir="site",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        imports=_imports(names),
        depends=_depends(metadata.get_all("Requires-Dist", []), target),
    )


def _imports(names: list[str]) -> list[str]:
    """The names that can be imported: top-level modules, and top-level directories that hold a module."""
    found = set()
    for name in names:
        top, _, rest = name.partition("/")
        stem, dot, suffix = top.partition(".")
        if not rest and dot and suffix in {"py", "pyc"}:
            found.add(stem)
        elif rest and top.isidentifier() and rest.endswith((".py", ".pyc")):
            found.add(top)
    return sorted(found)


def _depends(requirements: list[str], target: Target) -> list[str]:
    environment = {
        **default_environment(),
        "sys_platform": "emscripten",
        "platform_system": "Emscripten",
        "platform_machine": target.arch,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": ".".join(target.python.split(".")[:2]),
        "python_full_version": target.python,
        "implementation_version": target.python,
        "extra": "",
    }
    parsed = [Requirement(text) for text in requirements]
    return sorted(
        canonicalize_name(requirement.name)
        for requirement in parsed
        if requirement.marker is None or requirement.marker.evaluate(environment)
    )


def _check(packages: dict[str, PackageSpec]) -> None:
    for spec in packages.values():
        missing = [name for name in spec.depends if name not in packages]
        if missing:
            raise BuildError(f"{spec.name} depends on {', '.join(missing)}: add it to wheels.txt")
