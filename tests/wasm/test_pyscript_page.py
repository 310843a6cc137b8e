"""The page of PyScript in docs/browser.md, as a reader would put it on a server beside the distribution."""

from __future__ import annotations

import re
from pathlib import Path

from browser import Browser, serve, wait_until

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith(location.origin))"


def test_pyscript_runs_on_the_distribution(dist: Path, origin: str, tmp_path: Path) -> None:
    """The page shows what the workflow returned, and asks no other origin for anything."""
    (snippet,) = re.findall("^```html\n(.*?)^```", (ROOT / "docs/browser.md").read_text(), re.DOTALL | re.MULTILINE)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(f"<!doctype html><html><head></head><body>{snippet}</body></html>")
    (site / "dist").symlink_to(dist)
    (site / "pyscript").symlink_to(ROOT / "wasm/node_modules/@pyscript/core/dist")
    with serve(site) as (address, asked):
        browser = Browser(address, tmp_path / "profile").start()
        try:
            tab = browser.tab("/index.html")
            # What is shown: the program's own text is no part of it.
            text = "return document.body.innerText"
            wait_until(lambda: re.search(r"seen at \d\d:\d\d:\d\d", tab.js(text)), "the page says so", 60)
            assert tab.js(OUTSIDE) == []
            assert any(path.startswith("/dist/alkaline_edge-") for path in asked)
        finally:
            browser.quit()
