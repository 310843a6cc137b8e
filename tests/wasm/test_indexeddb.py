"""IndexedDBHost among tabs: what outlives a page, who wins, who is told, and that nothing leaks."""

from __future__ import annotations

import pytest
from browser import Browser, wait_until
from pages import page

OPEN = "host = IndexedDBHost({name!r})\n"
COUNT_UP = """
async def count_up(times):
    conflicts = 0
    for _ in range(times):
        while True:
            (entry,) = await host.get(["counter"])
            version, value = (entry.version, int(entry.value)) if entry else (None, 0)
            made = batch(("counter", str(value + 1).encode()), checks=[("counter", version)])
            if isinstance(await host.commit(made), Committed):
                break
            conflicts += 1
    return conflicts
"""


def test_a_reload_keeps_what_was_committed(chromium: Browser) -> None:
    """A page's Python is gone after a reload; the entries and their versions are not, and the store is the same."""
    tab = chromium.tab()
    write = "one = batch(('a', b'1'), ('b', b''))\nawait host.commit(one)\n[one.id, host.store_id]"
    version, store = page(tab, OPEN.format(name="reload") + write)
    tab.reload()
    read = "[[e.key, e.value.decode(), e.version] for e in await host.list('')] + [host.store_id]"
    assert page(tab, OPEN.format(name="reload") + read) == [["a", "1", version], ["b", "", version], store]


def test_two_tabs_racing_lose_no_update(chromium: Browser) -> None:
    """Both tabs count one number up by compare-and-set, at once: every update of either is in the result."""
    tabs = [chromium.tab(), chromium.tab()]
    for tab in tabs:
        page(tab, OPEN.format(name="race") + COUNT_UP + "await host.get(['counter'])\nNone")
    for tab in tabs:
        tab.begin("await count_up(150)")
    conflicts = [tab.end() for tab in tabs]
    assert tabs[0].python("int((await host.get(['counter']))[0].value)") == 300
    assert sum(conflicts) > 0, "the tabs did not race"


def test_a_commit_in_one_tab_wakes_the_other(chromium: Browser) -> None:
    """A watcher hears of another tab's commit, with no read in between; not of one that wrote nothing."""
    here, there = chromium.tab(), chromium.tab()
    page(here, OPEN.format(name="watch") + "heard = []\nhost.watch(lambda: heard.append(1))\nNone")
    here.js("self.said = []; new BroadcastChannel('alkaline-edge watch').onmessage = (event) => said.push(event.data);")
    page(there, OPEN.format(name="watch") + "await host.get(['a'])\nNone")
    wait_until(lambda: here.js("return said.length"), "the new tab has said that it is there")
    assert there.python("await outcome(host.commit(batch(checks=[('a', 'x')])))") == "Conflict"
    before = here.python("len(heard)")
    assert there.python("await outcome(host.commit(batch(('a', b'1'))))") == "Committed"
    wait_until(lambda: here.python("len(heard)") > before, "the commit was heard of")
    assert here.js("return said.filter((what) => what === 0).length") == 1


def test_a_watcher_that_was_taken_back_is_not_called(chromium: Browser) -> None:
    """Unsubscribing twice is allowed; the other watchers of the host go on hearing."""
    here = chromium.tab()
    page(here, OPEN.format(name="unwatch") + "other = IndexedDBHost('unwatch')\nheard = []\n")
    here.python("stop = host.watch(lambda: heard.append('first'))\nhost.watch(lambda: heard.append('second'))\nNone")
    here.python("stop()\nstop()\nheard.clear()\nawait other.commit(batch(('a', b'1')))\nNone")
    wait_until(lambda: here.python("heard"), "the second watcher was called")
    assert here.python("sorted(set(heard))") == ["second"]


def test_a_value_is_stored_without_the_memory_around_it(chromium: Browser) -> None:
    """What is stored has its own buffer, of the value's size: no view on WebAssembly's memory, none on the batch."""
    tab = chromium.tab()
    page(tab, OPEN.format(name="buffers") + "await host.commit(batch(('a', b'1234')))")
    tab.python("await host.commit(batch(('b', b'12'), ('c', b'345')))\nNone")
    sizes = tab.js(
        "const db = await new Promise((done) => { const q = indexedDB.open('buffers');"
        " q.onsuccess = () => done(q.result); });"
        "const all = await new Promise((done) => { const q = db.transaction('entries').objectStore('entries').getAll();"
        " q.onsuccess = () => done(q.result); }); db.close();"
        "return all.map((entry) => [entry.v.length, entry.v.buffer.byteLength]);"
    )
    assert sizes == [[4, 4], [2, 2], [3, 3]]


@pytest.mark.parametrize("granted", [True, False])
def test_the_browsers_answer_about_persistence_is_reported(own_chromium: Browser, granted: bool) -> None:
    """``persisted`` is what navigator.storage.persist() said, and None before it was asked."""
    tab = own_chromium.tab()
    if granted:
        tab.cdp("Browser.grantPermissions", origin=own_chromium.origin, permissions=["durableStorage"])
    assert page(tab, OPEN.format(name="persist") + "host.persisted") is None
    tab.python("await host.get(['a'])\nNone")
    assert wait_until(lambda: [tab.python("host.persisted")] != [None], "the browser answered")
    assert tab.python("host.persisted") is granted


def test_a_cancelled_commit_is_let_be(chromium: Browser) -> None:
    """Cancelling a commit leaves it to the browser; the host goes on, and the entry is there whole or not at all."""
    tab = chromium.tab()
    cancel = """
task = asyncio.ensure_future(host.commit(batch(("a", b"1"), ("b", b"2"))))
await asyncio.sleep(0)
task.cancel()
try:
    await task
    ended = "finished"
except asyncio.CancelledError:
    ended = "cancelled"
[ended, await outcome(host.commit(batch(("c", b"3")))), len([e for e in await host.get(["a", "b"]) if e]) != 1]
"""
    assert page(tab, OPEN.format(name="cancel") + cancel) == ["cancelled", "Committed", True]


def test_python_that_continues_after_a_commit_may_block_on_a_promise(chromium: Browser) -> None:
    """Where the browser has stack switching, ``run_sync`` works behind an await of the host as behind any other."""
    tab = chromium.tab()
    block = """
from pyodide.ffi import can_run_sync, run_sync
await host.commit(batch(("a", b"1")))
[can_run_sync(), run_sync(js.Promise.resolve(7)), asyncio.current_task() is not None]
"""
    assert page(tab, OPEN.format(name="blocking") + block) == [True, 7, True]


def test_a_nap_that_was_held_back_ends_when_the_page_is_seen(chromium: Browser) -> None:
    """A hidden page's timers may be late: on visibilitychange a nap that is due returns, one that is not goes on."""
    tab = chromium.tab()
    nap = """
due, later = (asyncio.ensure_future(host.sleep(seconds)) for seconds in (1800, 7200))
await asyncio.sleep(0.05)
run_js("const real = Date.now; Date.now = () => real() + 3600_000")
js.document.dispatchEvent(js.Event.new("visibilitychange"))
await asyncio.sleep(0.05)
ended = [due.done(), later.done()]
later.cancel()
ended
"""
    assert page(tab, OPEN.format(name="nap") + nap) == [True, False]


def test_thousands_of_commits_leak_nothing(chromium: Browser) -> None:
    """After 3,000 commits and reads there are as many references across the border as after the first ones."""
    tab = chromium.tab()
    count = """
def across():
    import gc
    gc.collect()
    module = js.pyodide._module
    return [module.hiwire.num_keys(), module.pyproxy_alloc_map.size]
async def work(times):
    for number in range(times):
        await host.commit(batch((f"k{number % 50}", b"x" * 140), ("head", b"y"), checks=[]))
        if not number % 10:
            await host.get(["head", "none"])
            await host.list("k", limit=5)
"""
    page(tab, OPEN.format(name="leak") + count + "js.pyodide._module.enable_pyproxy_allocation_tracing()")
    tab.python("await work(200)\nNone")
    before = tab.python("across()")
    tab.begin("await work(3_000)")
    tab.end()
    assert tab.python("across()") == before
