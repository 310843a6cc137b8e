"""What can be taken from a page: its quota, its connection, its database, IndexedDB itself. Each has a name."""

from __future__ import annotations

from browser import Browser, Tab
from pages import page

OPEN = "host = IndexedDBHost({name!r})\n"
DELETE = """
await new Promise((done, failed) => {
  const request = indexedDB.deleteDatabase(NAME);
  request.onsuccess = done; request.onerror = () => failed(request.error);
});
"""


def delete_database(tab: Tab, name: str) -> None:
    tab.js(DELETE.replace("NAME", repr(name)))


def test_a_full_store_refuses_the_batch_whole(own_chromium: Browser) -> None:
    """Over the quota a commit is StoreError ``full`` and none of its keys is there; reads and deletes still work."""
    tab = own_chromium.tab()
    # First of all: Chromium notes for a while how much room there is.
    tab.cdp("Storage.overrideQuotaForOrigin", origin=own_chromium.origin, quotaSize=3_000_000)
    fill = """
said = "Committed"
number = 0
while said == "Committed" and number < 20:
    number += 1
    said = await outcome(host.commit(batch((f"a{number}", os.urandom(500_000)), (f"b{number}", b"x"))))
there = await host.get([f"a{number}", f"b{number}", f"a{number - 1}", f"b{number - 1}"])
[said, [entry is not None for entry in there]]
"""
    assert page(tab, OPEN.format(name="full") + fill) == ["StoreError full", [False, False, True, True]]
    assert tab.python("await outcome(host.commit(batch(deletes=[e.key for e in await host.list('')])))") == "Committed"
    assert tab.python("await outcome(host.commit(batch(('after', os.urandom(500_000)))))") == "Committed"


def test_another_client_may_delete_the_database(chromium: Browser) -> None:
    """The host lets go at once, so the deletion is not blocked; what comes next says that the store is gone."""
    here, there = chromium.tab(), chromium.tab()
    page(here, OPEN.format(name="deleted") + "await host.commit(batch(('a', b'1')))\nNone")
    delete_database(there, "deleted")
    assert here.python("await outcome(host.get(['a']))") == "StoreError gone"
    assert here.python("await outcome(host.commit(batch(('a', b'2'))))") == "StoreError gone"


def test_a_deleted_store_is_not_mistaken_for_a_new_one(chromium: Browser) -> None:
    """After a deletion and a reload a host says ``gone``; told to replace what was lost, it begins anew and stays."""
    tab = chromium.tab()
    page(tab, OPEN.format(name="lost") + "await host.commit(batch(('a', b'1')))\nawait host.close()\nNone")
    delete_database(tab, "lost")
    tab.reload()
    assert page(tab, OPEN.format(name="lost") + "await outcome(host.commit(batch(('a', b'2'))))") == "StoreError gone"
    anew = "host = IndexedDBHost('lost', replace_lost=True)\nawait outcome(host.commit(batch(('b', b'1'))))"
    assert tab.python(anew) == "Committed"
    tab.reload()
    assert page(tab, OPEN.format(name="lost") + "[e.key for e in await host.list('')]") == ["b"]


def test_an_application_can_ask_for_the_store_it_knows(chromium: Browser) -> None:
    """``expected_store``, kept elsewhere, tells a store from its successor even when the browser forgot everything."""
    tab = chromium.tab()
    known = page(tab, OPEN.format(name="known") + "await host.get(['a'])\nhost.store_id")
    same = f"await outcome(IndexedDBHost('known', expected_store={known!r}).get(['a']))"
    assert tab.python(same) == "list"
    tab.python("await host.close()\nawait delete_store('known')\nNone")
    assert tab.python(same) == "StoreError gone"
    assert tab.python("await outcome(IndexedDBHost('known').get(['a']))") == "list"


def test_cleared_site_data_is_a_lost_store(own_chromium: Browser) -> None:
    """When the user clears the site's data under an open page, the next use says ``gone``, not an empty store."""
    tab = own_chromium.tab()
    page(tab, OPEN.format(name="cleared") + "await host.commit(batch(('a', b'1')))\nNone")
    tab.cdp("Storage.clearDataForOrigin", origin=own_chromium.origin, storageTypes="indexeddb")
    assert tab.python("await outcome(host.list(''))") == "StoreError gone"


def test_a_newer_version_of_the_database_is_named(chromium: Browser) -> None:
    """A page of an older program can't read what a newer one upgraded, and says so; its commits write nothing."""
    here, there = chromium.tab(), chromium.tab()
    page(here, OPEN.format(name="newer") + "await host.commit(batch(('a', b'1')))\nNone")
    there.js(
        "const db = await new Promise((done, failed) => { const request = indexedDB.open('newer', 2);"
        " request.onsuccess = () => done(request.result); request.onerror = () => failed(request.error); });"
        "db.close();"
    )
    assert here.python("await outcome(host.commit(batch(('a', b'2'))))") == "StoreError newer"


def test_an_open_that_is_held_up_says_so(chromium: Browser) -> None:
    """A foreign connection that does not let go blocks a deletion, and with it the open; after the time it is named."""
    here, there = chromium.tab(), chromium.tab()
    there.js(
        "self.stubborn = await new Promise((done) => { const request = indexedDB.open('held', 1);"
        " request.onsuccess = () => done(request.result); }); indexedDB.deleteDatabase('held');"
    )
    held = "await outcome(IndexedDBHost('held', open_timeout=0.3).get(['a']))"
    assert page(here, held) == "StoreError blocked"
    there.js("stubborn.close();")
    assert here.python(held) == "list"


LOSE = """
async def lose(number):
    before = host._store.db
    made = batch((f"k{number}", b"x"), checks=[(f"k{number}", None)])
    task = asyncio.ensure_future(outcome(host.commit(made)))
    while not host._store.inFlight.size:
        await asyncio.sleep(0)
    before.dispatchEvent(js.Event.new("close"))
    said = await task
    (entry,) = await host.get([made.puts[0].key])
    return said, entry is None or entry.version == made.id
[await lose(number) for number in range(20)]
"""


def test_a_commit_whose_connection_breaks_is_unknown(chromium: Browser) -> None:
    """Its answer is lost, so the host says neither yes nor no; it opens again, and a read tells which it was."""
    tab = chromium.tab()
    found = page(tab, OPEN.format(name="broken") + "await host.get(['a'])\n" + LOSE)
    assert [said for said, _ in found] == ["UnknownOutcome lost"] * 20
    assert all(right for _, right in found)


def test_a_read_whose_connection_breaks_is_read_again(chromium: Browser) -> None:
    """Reading twice does no harm, so the caller does not notice."""
    tab = chromium.tab()
    read = """
await host.commit(batch(("a", b"1")))
before = host._store.db
task = asyncio.ensure_future(outcome(host.list("")))
while not host._store.inFlight.size:
    await asyncio.sleep(0)
before.dispatchEvent(js.Event.new("close"))
said = await task
[said, host._store.db.js_id == before.js_id]
"""
    assert page(tab, OPEN.format(name="reread") + read) == ["list", False]


def test_without_indexeddb_the_reason_is_given(chromium: Browser) -> None:
    """No IndexedDB at all, or one that refuses to open (private browsing, blocked data): StoreError ``unavailable``."""
    tab = chromium.tab()
    refusing = """
run_js("indexedDB.open = () => { throw new DOMException('denied', 'SecurityError'); }; 0")
await outcome(IndexedDBHost("private").get(["a"]))
"""
    assert page(tab, refusing) == "StoreError unavailable"
    absent = """
run_js("Object.defineProperty(self, 'indexedDB', { value: undefined }); 0")
try:
    IndexedDBHost("private")
    said = "made"
except StoreError as error:
    said = error.detail["reason"]
said
"""
    assert tab.python(absent) == "unavailable"
