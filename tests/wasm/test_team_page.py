"""examples/team in Chromium: the same program on a board in IndexedDB, and a reload."""

from __future__ import annotations

from pathlib import Path

from browser import Browser, serve, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = "/examples/team/index.html"
STATUS = "return document.getElementById('status').textContent"
SAID = "return document.getElementById('said').textContent"


def test_a_team_works_in_a_tab_and_its_answer_is_there_behind_a_reload(origin: str, tmp_path: Path) -> None:
    """The answer is what it is on a server; the next visit finds it, and nobody has anything left to do."""
    done = "12 knots from the west; none before noon; high at 14:20"
    with serve(REPOSITORY) as (site, _):
        browser = Browser(site, tmp_path / "profile").start()
        try:
            tab = browser.tab(PAGE)
            wait_until(lambda: tab.js(STATUS) == done, "the answer", 60)
            assert "request_changes: say who it is for" in tab.js(SAID)
            tab.reload()
            wait_until(lambda: tab.js(STATUS) == done, "the answer, behind a reload", 60)
            assert "done (5)" in tab.js(SAID)
            assert "request_changes" not in tab.js(SAID)
        finally:
            browser.quit()
