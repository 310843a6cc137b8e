"""The cross-build environment for pyodide-build, made of npm's files.

pyodide-build downloads this environment from a place that only releases are published to. What a pure wheel needs
of it is small: the versions (``Makefile.envs``), the target's sysconfig data and an empty list of packages to
cross-build against. All of it is in npm's ``pyodide`` package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .layout import EPOCH, NPM, BuildError, Target, Work

SYSCONFIG = "_sysconfigdata__emscripten_wasm32-emscripten"

MAKEFILE_ENVS = """\
export PYODIDE_VERSION ?= {version}
export PYODIDE_ABI_VERSION ?= {abi}
export PYODIDE_EMSCRIPTEN_VERSION ?= {emscripten}
export PLATFORM_TRIPLET = wasm32-emscripten
export PYVERSION ?= {python}
export PYMAJOR = {major}
export PYMINOR = {minor}
export PYMICRO = {micro}
export SYSCONFIG_NAME = {sysconfig}
export CPYTHONINSTALL = $(PYODIDE_ROOT)/cpython
export TARGETINSTALLDIR = $(PYODIDE_ROOT)/cpython
export SYSCONFIGDATA_DIR = $(PYODIDE_ROOT)/cpython/sysconfigdata
export PYTHONINCLUDE = $(PYODIDE_ROOT)/cpython/include
export CFLAGS_BASE =
export CXXFLAGS_BASE =
export LDFLAGS_BASE =

.output_vars:
\t@set
"""


def environment(work: Work) -> dict[str, str]:
    """The environment variables under which pyodide-build uses this environment and asks nobody else.

    Emscripten itself is for C sources, which this build has none of, so its version check is off.
    """
    return {
        **os.environ,
        "PYODIDE_CROSS_BUILD_ENV_METADATA_URL": str(work.crossenv / "releases.json"),
        "PYODIDE_XBUILDENV_PATH": str(work.crossenv / "installed"),
        "SKIP_EMSCRIPTEN_VERSION_CHECK": "1",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
    }


def make(work: Work, target: Target) -> None:
    """Pack the environment and let ``pyodide xbuildenv install`` install it from there."""
    shutil.rmtree(work.crossenv, ignore_errors=True)
    root = work.crossenv / "packed" / "xbuildenv"
    _write_root(root, target)
    archive = shutil.make_archive(str(work.crossenv / "xbuildenv"), "gztar", root.parent)
    release = {
        "version": target.version,
        "url": Path(archive).as_uri(),
        "python_version": target.python,
        "emscripten_version": target.emscripten,
    }
    (work.crossenv / "releases.json").write_text(json.dumps({"releases": {target.version: release}}))
    run_pyodide(work, "xbuildenv", "install", target.version, "--force")


def run_pyodide(work: Work, *arguments: str, cwd: Path | None = None) -> None:
    """Run pyodide-build's command line; its output is shown only when it fails."""
    command = [str(Path(sys.executable).with_name("pyodide")), *arguments]
    done = subprocess.run(command, env=environment(work), cwd=cwd or work.root, capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise BuildError(f"`pyodide {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")


def _write_root(root: Path, target: Target) -> None:
    pyodide_root = root / "pyodide-root"
    sysconfig = pyodide_root / "cpython" / "sysconfigdata"
    sysconfig.mkdir(parents=True)
    (pyodide_root / "cpython" / "include").mkdir()
    with zipfile.ZipFile(NPM / "python_stdlib.zip") as stdlib:
        (sysconfig / f"{SYSCONFIG}.py").write_bytes(stdlib.read(f"{SYSCONFIG}.py"))
    major, minor, micro = target.python.split(".")
    text = MAKEFILE_ENVS.format(
        version=target.version,
        abi=target.abi,
        emscripten=target.emscripten,
        python=target.python,
        major=major,
        minor=minor,
        micro=micro,
        sysconfig=SYSCONFIG,
    )
    (pyodide_root / "Makefile.envs").write_text(text)
    (root / "requirements.txt").write_text("# No package is cross-built against.\n")
