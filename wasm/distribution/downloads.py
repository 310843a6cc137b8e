"""What comes from the registry: the wheels of ``wheels.txt``, by hash."""

from __future__ import annotations

import re
import subprocess
import sys

from .layout import WASM, BuildError, Target, Work

WHEELS = WASM / "wheels.txt"


def requirements() -> dict[str, str]:
    """The pinned requirements of ``wheels.txt`` by name, such as ``{"msgpack": "msgpack==1.2.4"}``."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", WHEELS.read_text("utf-8"), re.MULTILINE)
    return {name: f"{name}=={version}" for name, version in found}


def fetch(work: Work, target: Target) -> None:
    """Download every wheel for the target platform, and msgpack's sdist, into ``work.downloads``.

    A file that is there already and has the right hash is not fetched again.
    """
    work.downloads.mkdir(parents=True, exist_ok=True)
    _download(
        work,
        "--only-binary=:all:",
        *("--platform", target.wheel_platform, "--platform", "any", "--python-version", target.python_tag),
        *("--implementation", "cp", "--abi", f"cp{target.python_tag}", "--abi", "none"),
        *("--requirement", str(WHEELS)),
    )
    only_msgpack = work.root / "msgpack.txt"
    only_msgpack.write_text(_block("msgpack"))
    _download(work, "--no-binary", "msgpack", "--no-build-isolation", "--requirement", str(only_msgpack))


def _download(work: Work, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--dest", str(work.downloads), "--find-links", str(work.downloads), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise BuildError(f"the wheels of {WHEELS.name} were not downloaded:\n{done.stdout}{done.stderr}")


def _block(name: str) -> str:
    """The lines of ``wheels.txt`` that pin ``name``, its hashes included."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", WHEELS.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{WHEELS.name} does not pin {name}")
    return found.group(0)
