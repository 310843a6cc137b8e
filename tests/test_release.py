"""What a release uploads: the same bytes each time, wherever it is built, and no more than it should hold."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = """
import os, sys
os.umask(int(sys.argv[2], 8))
from hatchling.build import build_sdist, build_wheel
build_sdist(sys.argv[1]); build_wheel(sys.argv[1])
"""
NAMES = (
    "alkaline_edge", "hosts", "pyproject.toml", "README.md", "SPEC.md", "CHANGELOG.md", "SECURITY.md",
    "CONTRIBUTING.md", "LICENSE",
)  # fmt: skip


def built(folder: Path, umask: str, age: int) -> Path:
    """Wheel and sdist, built in a copy of the tree whose files are of another time and of other permissions."""
    tree = folder / "some" / "where"
    tree.mkdir(parents=True)
    for name in NAMES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    for path in tree.rglob("*"):
        os.utime(path, (age, age))
        if path.is_file():
            path.chmod(0o600 if umask == "077" else 0o644)
    out = folder / "dist"
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONHASHSEED": str(age % 1000)}
    command = [sys.executable, "-c", BUILD, str(out), umask]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds on what could be two machines."""
    return [
        built(tmp_path_factory.mktemp("one"), "022", 1_600_000_000),
        built(tmp_path_factory.mktemp("other"), "077", 1_750_000_123),
    ]


def test_two_builds_have_one_hash(builds: list[Path]) -> None:
    """Wheel and sdist, built in other folders, at other times, with another umask and hash seed."""
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} for folder in builds
    ]
    assert len(digests[0]) == 2
    assert digests[0] == digests[1]


def test_the_sdist_holds_what_is_declared(builds: list[Path]) -> None:
    """The two packages, the pages of the law and of the licence, and nothing of this machine."""
    (sdist,) = builds[0].glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    tops = {member.name.split("/")[1] for member in members}
    assert tops == {*NAMES, "PKG-INFO", ".gitignore"} - {".gitignore"}
    assert {(member.uid, member.uname) for member in members} == {(0, "")}
    assert not [member.name for member in members if "__pycache__" in member.name]


def test_the_version_is_said_once() -> None:
    """pyproject.toml, the package and the newest release of the changelog name one version."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    from alkaline_edge import __version__

    assert declared == __version__
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert released[0] == declared


def test_the_release_is_published_by_trust_and_not_by_a_secret() -> None:
    """The workflow file asks for an identity, attests what it built, and names no token."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    assert "id-token: write" in text
    assert "pypa/gh-action-pypi-publish" in text
    # Provenance of all that is uploaded, which is what it attests when given no other statement; and the SBOM.
    attested = re.findall(r"uses: actions/attest@.*\n +with: \{ (.*) \}", text)
    assert attested == ['subject-path: "dist/*"', 'subject-path: "dist/*.whl", sbom-path: build/release/sbom.cdx.json']
    assert "secrets." not in text
    assert "password" not in text
    for target in re.findall(r"run: make ([\w-]+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), target


def test_each_action_of_a_workflow_is_pinned_by_its_commit() -> None:
    """A tag can be moved to other code: every `uses` names a commit, and the version that it was behind it."""
    used = [
        line.strip()
        for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
        for line in path.read_text("utf-8").splitlines()
        if "uses:" in line
    ]
    assert used
    assert [line for line in used if not re.fullmatch(r"- uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
