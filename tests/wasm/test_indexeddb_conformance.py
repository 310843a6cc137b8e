"""The conformance suite on IndexedDB, in a page and in a Web Worker."""

from __future__ import annotations

import pytest
from browser import Browser
from pages import CONFORMANCE, in_worker, page

NOT_FOR_A_BROWSER = {
    "threads_run_functions",  # WASM has no threads
    "checks_are_refused_where_they_cannot_hold",  # they hold
    "a_commit_without_a_wait",  # each waits
}


@pytest.mark.parametrize("place", ["page", "worker"])
def test_indexeddb_keeps_the_host_contract(chromium: Browser, place: str) -> None:
    """Every case of the suite passes, but for three that ask for what a browser or this host is not."""
    tab = chromium.tab()
    found = in_worker(tab, CONFORMANCE) if place == "worker" else page(tab, CONFORMANCE)
    left = {case for case, outcome in found["outcomes"].items() if outcome != "passed"}
    assert left == NOT_FOR_A_BROWSER, found["text"]
