"""What the example needs: the Pyodide distribution, workerd, Chromium. Without them nothing here is collected."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WASM = Path(__file__).resolve().parents[2] / "wasm"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
collect_ignore_glob: list[str] = []
parts = [WASM / "dist" / "pyodide-lock.json", WASM / "workers" / "build" / "bundle"]
if not all(part.exists() for part in parts) or not any(map(shutil.which, BROWSERS)):
    collect_ignore_glob.append("*")


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """The Worker gets a wheel of the present sources."""
    subprocess.run(["make", "-C", str(WASM / "workers"), "workers"], check=True, stdout=subprocess.DEVNULL)
