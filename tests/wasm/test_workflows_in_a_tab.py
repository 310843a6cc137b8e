"""A class written for Cloudflare's Workflows in a tab, over IndexedDB; it goes on after a reload."""

from __future__ import annotations

from pathlib import Path

from browser import Browser

from tests.hosts.test_cloudflare_workflows import EXPECTED

SHOP = Path(__file__).resolve().parents[1] / "hosts/shop/shop.py"
SETUP = f"""
import sys
from pathlib import Path

from alkaline_edge import Runtime
from alkaline_hosts.cloudflare_workflows import stand_in_for_workers, workflow_of
from alkaline_hosts.indexeddb import IndexedDBHost

stand_in_for_workers()
Path("shop.py").write_text({SHOP.read_text()!r})
sys.path.insert(0, ".")
import shop

order = workflow_of(shop.Order)
"""
BEGUN = """
async with Runtime(IndexedDBHost("shop"), workflows=[order]) as runtime:
    run = await runtime.start(order, {"amount": 21}, id="one")
    try:
        answer = await run.result(timeout=2)
    except TimeoutError:
        answer = "waits"
answer
"""
ENDED = """
async with Runtime(IndexedDBHost("shop"), workflows=[order]) as runtime:
    run = await runtime.resume("one")
    await run.signal("decision", {"by": "ann"})
    answer = await run.result(timeout=30)
answer
"""


def test_a_class_runs_unchanged_in_a_tab_and_goes_on_after_a_reload(own_chromium: Browser) -> None:
    """It waits for its event; the next page gives that, and comes to what memory, Postgres and workerd come to."""
    tab = own_chromium.tab().load()
    assert tab.python(SETUP + BEGUN) == "waits"
    assert tab.reload().load().python(SETUP + ENDED) == EXPECTED
