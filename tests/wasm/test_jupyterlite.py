"""A notebook of JupyterLite on the distribution, in Chromium; `make -C wasm test-notebooks` builds its site."""

from __future__ import annotations

import re
from pathlib import Path

from browser import Browser, Tab, serve, wait_until

SITE = Path(__file__).resolve().parents[2] / "wasm/build/notebooks/site"
NOTEBOOK = "/notebooks/index.html?path=greeting.ipynb"
# The page's own sign of the kernel says idle before there is one.
IDLE = """
const kernel = window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel;
return kernel?.connectionStatus === "connected" && kernel.status === "idle"
"""
RUN = "jupyterapp.commands.execute('notebook:run-all-cells')"
SHOWN = "return [...document.querySelectorAll('.jp-OutputArea-output')].map((one) => one.innerText).join(' ')"
OUTSIDE = "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith(location.origin))"


def run_all(tab: Tab) -> None:
    """Run each cell, once the kernel is there."""
    wait_until(lambda: tab.js(IDLE), "the kernel is there", 90)
    tab.js(RUN)


def test_a_notebook_goes_on_after_a_reload(origin: str, tmp_path: Path) -> None:
    """The step's result is in IndexedDB, and the reloaded page takes it from there; nothing is asked elsewhere."""
    with serve(SITE) as (address, asked):
        browser = Browser(address, tmp_path / "profile").start()
        try:
            tab = browser.tab(NOTEBOOK)
            run_all(tab)
            wait_until(lambda: "looking" in tab.js(SHOWN), "the step runs", 60)
            run_all(tab.reload())
            shown = wait_until(lambda: re.search(r".*seen at \d\d:\d\d:\d\d", tab.js(SHOWN)), "the run ends", 60)
            assert "looking" not in shown[0]
            assert tab.js(OUTSIDE) == []
            assert any(path.startswith("/static/pyodide/alkaline_edge-") for path in asked)
        finally:
            browser.quit()
