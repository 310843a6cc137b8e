"""The README's page, as a reader would put it on a server beside the distribution."""

from __future__ import annotations

import re
from pathlib import Path

from browser import Browser, serve, wait_until

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readmes_page_runs_its_step_once(dist: Path, origin: str, tmp_path: Path) -> None:
    """It shows what the workflow returned, and after a reload and a kill the same time, from this origin alone."""
    (snippet,) = re.findall("```html\n(.*?)```", README.read_text(), re.DOTALL)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(f"<!doctype html><html><head></head><body></body>{snippet}</html>")
    (site / "dist").symlink_to(dist)
    with serve(site) as (address, asked):
        browser = Browser(address, tmp_path / "profile").start()
        try:
            tab = browser.tab("/index.html")
            text = "return document.body.textContent"
            said = wait_until(lambda: re.match(r"seen at \d\d:\d\d:\d\d", tab.js(text)), "the page says so", 60)
            browser.kill()
            tab = browser.start().tab("/index.html")
            again = wait_until(lambda: re.match("seen at .*", tab.js(text)), "it says so again", 60)
            assert again[0].strip() == said[0]
            assert any("alkaline_edge" in path for path in asked)
            outside = (
                "return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith(location.origin))"
            )
            assert tab.js(outside) == []
        finally:
            browser.quit()
