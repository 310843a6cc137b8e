"""Tests inside Pyodide. Without pytest-pyodide (the repository's normal run) nothing here is collected."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

WASM = Path(__file__).resolve().parents[2] / "wasm"
# Its site takes half a minute to build, from PyPI: `make -C wasm test-notebooks` does, and asks for it.
collect_ignore_glob = [] if os.environ.get("ALKALINE_NOTEBOOKS") == "1" else ["test_jupyterlite.py"]

if importlib.util.find_spec("pytest_pyodide") is None:
    collect_ignore_glob.append("*")
else:
    os.environ["SE_OFFLINE"] = "true"  # Selenium would look for a browser to download
    from browser import Browser, serve
    from pytest_pyodide.config import get_global_config

    get_global_config().add_node_extra_globals(["Response", "URL"])

    def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what the asked runtimes can't run: Chromium's tests without chrome, the build's tests with it."""
        runtimes = {name.strip() for name in config.getoption("runtime").split(",")}
        everywhere = os.environ.get("ALKALINE_EVERYWHERE") == "1"
        chosen, left_out = [], []
        for item in items:
            names = getattr(item, "fixturenames", ())
            wanted = "chrome" in runtimes if "origin" in names else "runtime" in names or "node" in runtimes
            if item.get_closest_marker("everywhere") and not everywhere:
                wanted = wanted and item.name.endswith(("[node-c]", "[chrome-pure]"))
            (chosen if wanted else left_out).append(item)
        items[:] = chosen
        config.hook.pytest_deselected(items=left_out)

    @pytest.fixture(scope="session")
    def dist() -> Path:
        """The built distribution."""
        assert (WASM / "dist" / "pyodide-lock.json").is_file(), "build it first: `make wasm`"
        return WASM / "dist"

    @pytest.fixture(scope="session")
    def origin(dist: Path) -> Iterator[str]:
        """One origin for the whole session, which serves the distribution: IndexedDB keeps its data by origin."""
        with serve(dist) as (address, _):
            yield address

    @pytest.fixture(scope="module")
    def chromium(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
        """A running Chromium that the tests of a module share."""
        browser = Browser(origin, tmp_path_factory.mktemp("profile")).start()
        try:
            yield browser
        finally:
            browser.quit()

    @pytest.fixture
    def own_chromium(origin: str, tmp_path: Path) -> Iterator[Browser]:
        """A Chromium of the test's own, to kill or to fill up."""
        browser = Browser(origin, tmp_path / "profile").start()
        try:
            yield browser
        finally:
            browser.quit()
