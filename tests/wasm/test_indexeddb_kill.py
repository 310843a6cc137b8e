"""The browser dies between any two commits."""

from __future__ import annotations

from pathlib import Path

from browser import Browser, once_more_if_forgotten
from kills import kill_while_committing
from pages import page


def test_no_acknowledged_commit_is_lost_when_the_browser_is_killed(dist: Path, tmp_path: Path, origin: str) -> None:
    """SIGKILL at random moments: all that was acknowledged is there, whole, in order, with nothing half done."""
    acknowledged, lost, forgotten = kill_while_committing(dist, tmp_path, kills=5, seed=20)
    assert lost == 0
    assert forgotten < 2
    assert acknowledged > 20


@once_more_if_forgotten
def test_a_store_survives_the_browser(own_chromium: Browser) -> None:
    """What a killed browser leaves is the same store to the next one: same id, not gone, what was committed in it."""
    write = "host = IndexedDBHost('survivor')\nawait host.commit(batch(('a', b'1')))\nhost.store_id"
    store = page(own_chromium.tab(), write)
    own_chromium.kill()
    tab = own_chromium.again().tab()
    read = "host = IndexedDBHost('survivor')\n[[e.value.decode() for e in await host.list('')], host.store_id]"
    assert page(tab, read) == [["1"], store]
