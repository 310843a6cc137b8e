"""examples/browser_agent in a real Chromium: it survives kills, two tabs, and is usable by keyboard and on a phone."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Tab, once_more_if_forgotten, serve, wait_until
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from alkaline_edge import replay

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "browser_agent"
PAGE = "/examples/browser_agent/index.html"
SHOTS = os.environ.get("SCREENSHOTS")  # a folder to keep pictures in, for a person to look at

GONE = """
return await new Promise((done) => {
  indexedDB.deleteDatabase("alkaline-edge browser agent").onsuccess = () => done(true);
});
"""
UNNAMED = """
const controls = [...document.querySelectorAll("button, input, meter")];
return controls.filter((one) => !one.textContent.trim() && !one.labels?.length).map((one) => one.id);
"""
AXE = REPOSITORY / "wasm" / "node_modules" / "axe-core" / "axe.min.js"
REFUSED = """
const { violations } = await axe.run();
const shown = (node) => `${node.failureSummary} ${node.html}`;
return violations.map((one) => `${one.id}: ${one.nodes.map(shown).join("; ")}`);
"""
FILL = """
const db = await new Promise((done) => {
  const request = indexedDB.open("filler", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("bytes");
  request.onsuccess = () => done(request.result);
});
const put = (content, key) => new Promise((done) => {
  const writing = db.transaction("bytes", "readwrite");
  writing.oncomplete = () => done(true);
  writing.onabort = () => done(false);
  writing.objectStore("bytes").put(content, key);
});
let key = 0;
for (let size = 500_000; size > 100; size = Math.floor(size / 3)) {
  const content = new Uint8Array(size);
  do { // random, so that nothing can compress it
    for (let from = 0; from < size; from += 60_000) crypto.getRandomValues(content.subarray(from, from + 60_000));
  } while (await put(content, key++));
}
db.close();
return key;
"""
EMPTIED = "return await new Promise((done) => { indexedDB.deleteDatabase('filler').onsuccess = () => done(true); })"
TROUBLE = "const t = document.getElementById('trouble'); return t.hidden ? '' : t.textContent"
COUNTS = """
const ran = document.querySelectorAll("#timeline .done").length;
return [ran, ...["steps", "steps-ran", "steps-kept"].map((id) => Number(document.getElementById(id).textContent))];
"""
LINES = "return [...document.querySelectorAll('#timeline li:not(.resumed) .what')].map((line) => line.textContent)"
RESUMED = "return [...document.querySelectorAll('#timeline .resumed .what')].map((line) => line.textContent)"
NOW = "const now = document.getElementById('now'); return now.hidden ? '' : now.textContent"
STATUS = "return document.getElementById('status').textContent"


@pytest.fixture
def site(dist: Path, origin: str) -> Iterator[tuple[str, list[str]]]:
    """The repository's files on an origin of their own, and the paths that were asked for."""
    with serve(REPOSITORY) as (address, asked):
        yield address, asked


@pytest.fixture
def visit(site: tuple[str, list[str]], tmp_path: Path) -> Iterator[Browser]:
    """A Chromium with a profile that outlives it."""
    browser = Browser(site[0], tmp_path / "profile").start()
    try:
        yield browser
    finally:
        browser.quit()


def opened(browser: Browser, query: str = "") -> Tab:
    """The page, with its agent awake."""
    tab = browser.tab(PAGE + query)
    ready = "return !document.getElementById('ask').hidden || !document.getElementById('run').hidden"
    wait_until(lambda: tab.js(ready), "the agent is awake", 60)
    return tab


def press(tab: Tab, selector: str) -> None:
    """Click what a person would click; where the page draws it anew in that moment, what stands there then."""
    tab.driver.switch_to.window(tab.handle)

    def clicked() -> bool:
        try:
            tab.driver.find_element(By.CSS_SELECTOR, selector).click()
        except StaleElementReferenceException:
            return False
        return True

    wait_until(clicked, f"{selector} can be pressed")


def until(tab: Tab, script: str, wanted: Any, what: str) -> Any:
    """Wait until ``wanted(answer)``; what the page says of trouble ends the wait."""

    def looked() -> Any:
        trouble = "const t = document.getElementById('trouble'); return t.hidden ? '' : t.textContent"
        assert not (said := tab.js(trouble)), said
        answer = tab.js(script)
        return answer if wanted(answer) else None

    return wait_until(looked, what, 90)


def picture(tab: Tab, name: str, width: int = 780) -> None:
    """Keep a picture of the whole page, where somebody asked for pictures."""
    if SHOTS:
        tab.driver.switch_to.window(tab.handle)
        size = {"width": width, "deviceScaleFactor": 1, "mobile": width < 500}
        tab.cdp("Emulation.setDeviceMetricsOverride", height=740, **size)
        height = tab.js("return document.documentElement.scrollHeight")
        tab.cdp("Emulation.setDeviceMetricsOverride", height=height, **size)
        tab.driver.save_screenshot(f"{SHOTS}/{name}.png")
        tab.cdp("Emulation.clearDeviceMetricsOverride")


def inaccessible(tab: Tab) -> list[str]:
    """What axe-core finds wrong with the page as it stands, in light and in dark: contrast, names, roles, order."""
    tab.js(AXE.read_text("utf-8"))
    found: list[str] = []
    for scheme in ("light", "dark"):
        tab.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        found += [f"{scheme}: {each}" for each in tab.js(REFUSED)]
    return found


def without_network(tab: Tab, offline: bool) -> None:
    """Take the page's network away, or give it back."""
    tab.cdp("Network.enable")
    limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    tab.cdp("Network.emulateNetworkConditions", offline=offline, **limits)


def downloaded(tab: Tab, folder: Path) -> bytes:
    """The history that the page's button gives."""
    folder.mkdir()
    tab.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    press(tab, "#download")
    return wait_until(lambda: list(folder.glob("*.alk")), "the history was downloaded")[0].read_bytes()


def workflow_of_the_page() -> Any:
    """`research` of the example, as CPython imports it."""
    spec = importlib.util.spec_from_file_location("browser_agent_research", EXAMPLE / "research.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.research


def articles_read(asked: list[str]) -> list[str]:
    """The library's pages that were fetched, in order."""
    return [
        Path(path).stem
        for path in list(asked)
        if path.startswith("/examples/browser_agent/library/") and ".html" in path
    ]


@once_more_if_forgotten
def test_the_agent_survives_the_browsers_death(visit: Browser, site: tuple[str, list[str]], tmp_path: Path) -> None:
    """SIGKILL of the browser at three moments: no recorded page is fetched again, and the report gets done."""
    asked = site[1]
    asked.clear()
    titles = {re.search("<title>(.*?)<", page.read_text())[1]: page.stem for page in EXAMPLE.glob("library/*.html")}  # type: ignore[index]
    tab = opened(visit)
    press(tab, "#ask button")
    fetched = 0
    for kill, enough in enumerate((2, 9, 21)):
        lines = until(tab, LINES, lambda found: len(found) >= enough, "the timeline grows")  # noqa: B023
        picture(tab, f"kill-{kill}-before")
        visit.kill()
        fetched += len(articles_read(asked))
        asked.clear()
        tab = opened(visit.again())
        again = until(tab, LINES, lambda found: len(found) > len(lines), "the agent goes on")  # noqa: B023
        assert again[: len(lines)] == lines
        recorded = {titles[line.partition(": ")[2]] for line in lines if line.startswith("read: ")}
        assert not recorded & set(articles_read(asked)), "a recorded step was run again"
        picture(tab, f"kill-{kill}-after")
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    fetched += len(articles_read(asked))
    assert len(titles) <= fetched <= len(titles) + 4, "at most the step that a kill caught is run again"
    picture(tab, "asks")

    press(tab, "[data-want=shorter]")
    drafts = "return document.querySelectorAll('#timeline .done').length"
    before = tab.js(drafts)
    until(tab, drafts, lambda count: count > before, "a shorter draft is made")
    until(tab, STATUS, lambda status: status == "Waits for you", "the shorter draft is ready")
    visit.kill()
    tab = opened(visit.again())
    until(tab, STATUS, lambda status: status == "Waits for you", "it waits after a kill too")
    tab.driver.find_element(By.CSS_SELECTOR, "[data-want=approve]").send_keys(Keys.ENTER)
    until(tab, STATUS, lambda status: status == "Finished", "the report is done")
    picture(tab, "finished")
    bundle = downloaded(tab, tmp_path / "downloads")
    checked = replay.check([bundle], [workflow_of_the_page()])[0]
    assert checked.ok, checked.reason


def test_two_tabs_show_one_run_and_either_may_decide(visit: Browser) -> None:
    """The tab that does not own the run shows it too; its approval wakes the other; the owner's end moves the run."""
    first = opened(visit)
    press(first, "#ask button")
    until(first, LINES, len, "the first tab works")
    second = opened(visit)
    until(second, LINES, lambda lines: len(lines) > 3, "the second tab shows it")
    first.close()
    until(second, STATUS, lambda status: status == "Waits for you", "the second tab goes on when the first is closed")
    third = opened(visit)
    until(third, STATUS, lambda status: status == "Waits for you", "a third tab shows the same")
    press(third, "[data-want=approve]")
    until(second, STATUS, lambda status: status == "Finished", "the second tab sees the end")
    until(third, STATUS, lambda status: status == "Finished", "the third tab sees the end")
    assert second.js(LINES) == third.js(LINES)


def test_a_crashed_worker_is_replaced(visit: Browser) -> None:
    """The button ends the Web Worker in the middle of its work; another one goes on, and a reload too."""
    tab = opened(visit)
    press(tab, "#ask button")
    lines = until(tab, LINES, lambda found: len(found) >= 4, "the agent works")
    press(tab, "#crash")
    more = until(tab, LINES, lambda found: len(found) > len(lines), "a new worker goes on")
    assert more[: len(lines)] == lines
    kept = "return Number(document.getElementById('steps-kept').textContent)"
    assert until(tab, kept, lambda steps: steps >= 2, "the page says how many steps were not run again")
    tab.reload()
    until(tab, LINES, lambda found: len(found) > len(more), "it goes on after a reload")


def test_the_agent_runs_in_the_page_itself(visit: Browser) -> None:
    """With ?in=page there is no worker, and the same agent comes to its draft."""
    tab = opened(visit, "?in=page")
    press(tab, "#ask button")
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    assert "in this page" in tab.js("return document.getElementById('engine').textContent")


@pytest.mark.parametrize("query", ["", "?in=page"])
def test_a_tab_without_a_network_waits_for_it(visit: Browser, query: str) -> None:
    """Offline the step in flight waits, costs no attempt and is named; the run goes on when the network is back."""
    tab = opened(visit, query)
    press(tab, "#ask button")
    until(tab, LINES, lambda lines: len(lines) >= 4, "the agent works")
    without_network(tab, True)
    try:
        until(tab, STATUS, lambda status: status == "Waits for the network", "the page says what it waits for")
        assert tab.js(NOW).startswith("read: ")
        lines = tab.js(LINES)
        time.sleep(2)  # two attempts would have failed by now
        assert tab.js(LINES) == lines
        picture(tab, "offline", 360)
    finally:
        without_network(tab, False)
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    assert tab.js("return document.querySelectorAll('#timeline .again').length") == 0
    assert tab.js(NOW) == ""


def test_the_page_says_where_it_resumed_and_shows_earlier_reports(visit: Browser) -> None:
    """After a reload a line stands where the run was taken up; a finished report is one press away from a new run."""
    tab = opened(visit)
    press(tab, "#ask button")
    until(tab, LINES, lambda lines: len(lines) >= 7, "the agent works")
    tab.reload()
    resumed = until(tab, RESUMED, len, "the page says where it was taken up")
    assert re.fullmatch(r"resumed here: \d+ steps not run again", resumed[0])
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    press(tab, "[data-want=approve]")
    until(tab, STATUS, lambda status: status == "Finished", "the report is done")
    topic = tab.driver.find_element(By.ID, "topic")
    topic.clear()
    topic.send_keys("Who owns a run?", Keys.ENTER)
    shown = "return document.getElementById('topic-shown').textContent"
    until(tab, shown, lambda text: text == "Who owns a run?", "the new run is shown")
    others = "return [...document.querySelectorAll('#others-list button')].map((one) => one.textContent)"
    assert "Finished" in until(tab, others, len, "the earlier one is listed")[0]
    until(tab, f"return (() => {{{NOW}}})() || (() => {{{STATUS}}})() === 'Waits for you'", bool, "it is under way")
    picture(tab, "earlier")
    assert inaccessible(tab) == []
    press(tab, "#others-list button")
    until(tab, shown, lambda text: text.startswith("What must an agent"), "the earlier report is shown")
    assert tab.js(STATUS) == "Finished"
    assert tab.js("return document.getElementById('sentences').textContent")
    picture(tab, "earlier-shown", 360)
    press(tab, "#others-list button")
    until(tab, shown, lambda text: text == "Who owns a run?", "and back")


def test_a_phone_and_a_keyboard_are_enough(visit: Browser) -> None:
    """At 360 pixels nothing is cut off or scrolls sideways; Tab and Enter reach everything; every control is named.

    axe-core finds nothing to say of any state, in light or in dark.
    """
    tab = opened(visit)
    tab.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    assert inaccessible(tab) == []
    topic = tab.driver.find_element(By.ID, "topic")
    topic.clear()
    topic.send_keys("Who may own a run when two tabs are open?", Keys.ENTER)
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    assert tab.js("return document.documentElement.scrollWidth") <= 360
    wide = "return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 360).length"
    assert tab.js(wide) == 0
    assert tab.js(UNNAMED) == []
    assert inaccessible(tab) == []
    if SHOTS:
        picture(tab, "phone", 360)
        tab.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        picture(tab, "phone-dark", 360)
    tab.js("document.getElementById('topic-shown').scrollIntoView(); document.activeElement.blur()")
    active = tab.driver.switch_to.active_element
    for _ in range(12):
        if active.get_attribute("data-want") == "approve":
            break
        active.send_keys(Keys.TAB)
        active = tab.driver.switch_to.active_element
    assert active.get_attribute("data-want") == "approve"
    active.send_keys(Keys.ENTER)
    until(tab, STATUS, lambda status: status == "Finished", "the report is done")
    assert inaccessible(tab) == []


def test_a_store_that_is_gone_is_said_and_begun_anew_only_when_asked(visit: Browser) -> None:
    """Somebody clears the agent's database: the page says so, and begins with an empty one at a press."""
    tab = opened(visit)
    press(tab, "#ask button")
    until(tab, LINES, len, "the agent works")
    blank = visit.tab("/README.md")
    tab.close()
    assert blank.js(GONE)
    tab = visit.tab(PAGE)
    said = "const t = document.getElementById('trouble'); return t.hidden ? '' : t.textContent"
    text = wait_until(lambda: tab.js(said), "the page says that the store is gone", 60)
    assert "is gone" in text
    press(tab, "#begin-anew")
    wait_until(lambda: not tab.js("return document.getElementById('ask').hidden"), "a new start", 60)


def test_a_store_that_is_cleared_under_the_working_agent_is_said(visit: Browser) -> None:
    """The page does not go on saying that it works, and what is begun anew shows no line of what was lost."""
    tab = opened(visit)
    press(tab, "#ask button")
    lost = until(tab, LINES, lambda found: len(found) > 9, "the agent works")
    tab.cdp("Storage.clearDataForOrigin", origin=visit.origin, storageTypes="indexeddb")
    assert "is gone" in wait_until(lambda: tab.js(TROUBLE), "the page says that the store is gone")
    assert tab.js(STATUS) == "Held up"
    press(tab, "#begin-anew")
    wait_until(lambda: not tab.js("return document.getElementById('ask').hidden"), "a new start", 60)
    press(tab, "#ask button")
    until(tab, LINES, lambda found: 0 < len(found) < len(lost), "the timeline is that of the new run")


def test_a_full_store_holds_the_agent_up_until_there_is_room(visit: Browser) -> None:
    """Over the quota the page says so and keeps what it has; with room again the run goes on by itself to its draft."""
    tab = visit.tab("/examples/browser_agent/style.css")
    tab.cdp("Storage.overrideQuotaForOrigin", origin=visit.origin, quotaSize=3_000_000)
    tab.driver.get(visit.origin + PAGE)
    wait_until(lambda: not tab.js("return document.getElementById('ask').hidden"), "the agent is awake", 60)
    press(tab, "#ask button")
    until(tab, LINES, len, "the agent works")
    assert tab.js(FILL)
    assert "quota" in wait_until(lambda: tab.js(TROUBLE), "the page says that the store is full")
    assert tab.js(STATUS) == "Held up"
    assert tab.js(EMPTIED)
    wait_until(lambda: tab.js(STATUS) == "Waits for you", "the agent goes on", 60)
    assert tab.js(TROUBLE) == ""


def test_a_run_that_is_started_anew_has_a_timeline_of_its_own(visit: Browser) -> None:
    """After "Start anew" no line of the deleted run is left, and the figures are those of the new one."""
    tab = opened(visit)
    press(tab, "#ask button")
    old = until(tab, LINES, lambda found: len(found) > 9, "the agent works")
    tab.js("self.confirm = () => true")
    press(tab, "#clear")
    wait_until(lambda: not tab.js("return document.getElementById('ask').hidden"), "a new start", 60)
    press(tab, "#ask button")
    until(tab, LINES, lambda found: 0 < len(found) < len(old), "the timeline is that of the new run")
    done, steps, ran, _ = until(tab, COUNTS, lambda counts: counts[0] == counts[1] == counts[2], "the figures are new")
    assert done == steps == ran


def test_the_page_counts_what_was_run_and_what_was_not_run_again(visit: Browser) -> None:
    """After reloads both figures add up to the steps of the record; a tab that only looks on claims neither."""
    tab = opened(visit)
    press(tab, "#ask button")
    for enough in (5, 13, 20):
        until(tab, LINES, lambda found: len(found) >= enough, "the agent works")  # noqa: B023
        tab.reload()
    until(tab, STATUS, lambda status: status == "Waits for you", "the draft is ready")
    _, steps, ran, kept = until(tab, COUNTS, lambda counts: counts[2] + counts[3] == counts[1], "the figures add up")
    assert steps == 18
    assert ran < steps
    assert kept > 0
    other = opened(visit)
    until(other, STATUS, lambda status: status == "Waits for you", "the other tab shows it")
    assert other.js(COUNTS)[1:] == [18, 0, 0]


def test_a_worker_that_can_not_be_started_is_said(visit: Browser) -> None:
    """Without worker.js at its place (here: a page that the server has at another address) the page says so."""
    tab = visit.tab("/examples/browser_agent/library/")
    tab.js(
        "const text = await (await fetch('../index.html')).text();"
        "document.body.innerHTML = new DOMParser().parseFromString(text, 'text/html').body.innerHTML;"
        "await import('/examples/browser_agent/page.js');"
    )
    assert "could not be started" in wait_until(lambda: tab.js(TROUBLE), "the page says that there is no worker")


def test_the_server_serves_the_example_and_nothing_else(dist: Path) -> None:
    """`serve.py` prints where the page is, sends each kind of file as what it is, and no other file."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "serve.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]  # type: ignore[index]
        with urllib.request.urlopen(f"{address}/") as answer:
            assert "A research agent" in answer.read().decode()
        with urllib.request.urlopen(f"{address}/wasm/dist/pyodide.mjs") as answer:
            assert answer.headers["Content-Type"] == "text/javascript"
        with urllib.request.urlopen(f"{address}/wasm/dist/pyodide.asm.wasm") as answer:
            assert answer.headers["Content-Type"] == "application/wasm"
        for other in ("/pyproject.toml", "/.git/config", "/examples/browser_agent/../../README.md", "/wasm/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + other)
    finally:
        process.terminate()
        process.wait()
