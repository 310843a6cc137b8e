"""The inspector in Chromium: from a disk, of a file, a bundle, a browser's database and a server, in every state."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="wasm/.venv has it: make test-browser")

from browser import BLANK, Browser, Tab, serve, wait_until
from inspected import MARKUP, beside, bundles, entries, many_events, many_runs, store, with_beside
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from alkaline_hosts._inspector.page import page
from tests.collector import collecting, one_trace

REPOSITORY = Path(__file__).resolve().parents[2]
AXE = (REPOSITORY / "wasm" / "node_modules" / "axe-core" / "axe.min.js").resolve()
ALKALINE = REPOSITORY / ".venv" / "bin" / "alkaline"
GLUE = REPOSITORY / "hosts" / "alkaline_hosts" / "_browser"
SHOTS = os.environ.get("ALKALINE_SHOTS", "")
"""A folder for pictures of each state, for who wants to look at them."""
TOKEN = "a-token-of-32-characters-for-tests"
TABS = ("timeline", "events", "budget", "about", "compare")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, and the files that it is shown."""
    folder = tmp_path_factory.mktemp("inspected")
    (folder / "inspector.html").write_bytes(page().html)
    (folder / "blank.html").write_bytes(BLANK)
    for name, data in bundles().items():
        (folder / f"{name}.alk").write_bytes(data)
    store(folder / "agent.alkaline")
    return folder


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[str]:
    """The page on a web server, as on Pages: in place of the distribution, which it does not need."""
    with serve(folder) as (address, _):
        yield address


class Seen:
    """One tab with the inspector in it."""

    def __init__(self, chromium: Browser) -> None:
        assert chromium.driver is not None
        chromium.driver.switch_to.new_window("tab")
        self.driver = chromium.driver
        self.tab = Tab(self.driver, self.driver.current_window_handle)
        self.tab.cdp("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)

    def go(self, url: str) -> Seen:
        self.driver.switch_to.window(self.tab.handle)
        self.driver.get(url)
        return self

    def open(self, path: Path) -> Seen:
        """Choose a file, as people do."""
        self.driver.find_element(By.ID, "file").send_keys(str(path))
        return self

    def text(self, selector: str = "body") -> str:
        found = f"const e = document.querySelector({json.dumps(selector)});"
        return str(self.tab.js(f"{found} return e && e.getClientRects().length ? e.innerText : ''"))

    def until(self, words: str, selector: str = "body") -> str:
        """Wait until a part of the page says so."""
        try:
            return str(wait_until(lambda: (t := self.text(selector)) and words.lower() in t.lower() and t, words, 15))
        except AssertionError as error:
            raise AssertionError(f"{error}; {selector} says {self.text(selector)[:800]!r}") from None

    def press(self, selector: str, words: str = "", exact: bool = False) -> None:
        """Click the first that holds these words, or is these words."""
        holds = "e.textContent === words" if exact else "e.textContent.includes(words)"
        find = f"""const words = {json.dumps(words)}; return [...document.querySelectorAll({json.dumps(selector)})]
            .find((e) => {holds} && e.getClientRects().length)"""

        def pressed() -> bool:
            try:
                found = self.driver.execute_script(find)
                return bool(found) and (found.click() or True)
            except (StaleElementReferenceException, ElementClickInterceptedException):
                return False  # it was drawn anew meanwhile

        wait_until(pressed, f"{selector} {words}", 15)

    def run(self, id: str) -> Seen:
        """Open a run by its row, wherever that is by then: rows move while the list is alive."""
        click = f"""const id = {json.dumps(id)}, rows = [...document.querySelectorAll(".runs .id")];
            const row = rows.find((each) => each.textContent === id); row?.click(); return Boolean(row);"""
        wait_until(lambda: self.driver.execute_script(click), f"a row of {id}", 15)
        self.until(id, ".run-head h2")
        return self

    def fields(self, **values: str) -> None:
        """Fill in the dialog that is open, and send it."""
        for name, value in values.items():
            field = self.driver.find_element(By.CSS_SELECTOR, f"dialog [name={name}]")
            field.clear()
            field.send_keys(value)
        self.press("dialog button[type=submit]")

    def accessible(self, name: str) -> None:
        """axe finds nothing, in dark no colours; and a picture of each, where somebody wants some."""
        if not self.tab.js("return 'axe' in window"):
            self.tab.js(AXE.read_text("utf-8"))
        for scheme, rules in (("light", "{}"), ("dark", "{ runOnly: ['color-contrast'] }")):
            self.tab.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            found = self.tab.js(
                f"const {{ violations }} = await axe.run({rules});"
                "return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 200)).slice(0, 3)}`)"
            )
            assert found == [], (name, scheme)
            if SHOTS:
                self.driver.save_screenshot(f"{SHOTS}/{name}-{scheme}.png")

    def narrow(self, name: str) -> None:
        """At 360 px nothing runs out of the page."""
        self.tab.cdp("Emulation.setDeviceMetricsOverride", width=360, height=720, deviceScaleFactor=1, mobile=False)
        wide = self.tab.js("await new Promise(requestAnimationFrame); return document.documentElement.scrollWidth")
        if SHOTS:
            self.driver.save_screenshot(f"{SHOTS}/{name}-narrow.png")
        self.tab.cdp("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
        assert wide <= 360, name

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)


@pytest.fixture(scope="module")
def seen(chromium: Browser) -> Seen:
    """A tab that the tests share: each goes somewhere first."""
    return Seen(chromium)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``alkaline serve --inspect`` on a store of its own."""
    assert ALKALINE.exists(), "make .venv/.ready in the repository first: its alkaline serves what this looks at"
    path = with_beside(store(tmp_path_factory.mktemp("served") / "agent.alkaline"))
    command = [str(ALKALINE), "serve", str(path), "--workflows", "inspected", "--bind", "127.0.0.1:0", "--inspect"]
    env = {**os.environ, "ALKALINE_TOKEN": TOKEN}
    with subprocess.Popen(command, cwd=Path(__file__).parent, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening on" in line, line
        try:
            yield line.split("listening on ")[1].split(" ")[0], process
        finally:
            process.send_signal(signal.SIGTERM)


# ----------------------------------------------------------------------------------------------------------------------
def test_a_bundle_is_opened_from_a_disk_verified_and_shown(seen: Seen, folder: Path) -> None:
    """file:// has no origin to load modules from: the page is one file. Every tab of a run that waits; axe; 360 px."""
    seen.go((folder / "inspector.html").as_uri()).until("Look at durable runs")
    seen.accessible("doors")
    seen.narrow("doors")
    seen.open(folder / "first.alk")
    assert "verified here, head" in seen.until("Chain of", ".verified")
    seen.until("waits for signal approve", ".actions")
    rows = seen.text(".chart")
    assert all(word in rows for word in ("search", "2 attempts", "read", "child", "timer", "approve"))
    seen.press(".chart .row", "search")
    seen.until("ConnectionError: the model is overloaded", ".detail")
    for name in TABS:
        seen.press(f"#tab-{name}")
        seen.accessible(f"run-{name}")
        seen.narrow(f"run-{name}")
    seen.press("#tab-budget")
    assert "200\nof 1,000 tokens" in seen.until("of 1,000 tokens", ".budget")
    assert "$0.02" in seen.text(".budget")


def test_what_a_history_holds_is_never_markup(seen: Seen, folder: Path) -> None:
    """Names, values and failures with tags and control characters are texts, and what turns a line around is shown."""
    for name in ("second", "fails"):
        seen.go((folder / "inspector.html").as_uri()).open(folder / f"{name}.alk").until("Chain of", ".verified")
        seen.press("#tab-events")
        shown = "".join(
            seen.tab.js(f"document.querySelector('.events [data-n=\"{n}\"]')?.click(); return document.body.innerText")
            for n in range(20)
        )
        assert "<img src=x onerror=" in shown
        assert "\\u202e" in shown
        assert not {"\x1b", "\u202e"} & set(shown)
        assert seen.tab.js("return document.querySelectorAll('img, main script, b').length") == 0
        assert "alkaline inspector" in seen.driver.title
    assert "\\u001b[31m\\u202eend" in seen.until("Failed.", ".banner")
    assert MARKUP[:20] in seen.text(".banner")
    seen.accessible("failed")


def test_events_are_found_by_what_is_in_them_and_values_are_trees(seen: Seen, folder: Path) -> None:
    """A search looks into values, and the tree of a value opens where it finds the text."""
    seen.go((folder / "inspector.html").as_uri()).open(folder / "first.alk").until("Chain of", ".verified")
    seen.press("#tab-events")
    seen.driver.find_element(By.CSS_SELECTOR, ".event-view input").send_keys("first 2")
    seen.until("1 of ", ".event-view .tools")
    seen.press(".events .row", "search")
    seen.driver.find_element(By.CSS_SELECTOR, ".detail .value input").send_keys("first 2")
    seen.until('"first 2"', ".detail")
    assert len(seen.driver.find_elements(By.CSS_SELECTOR, ".detail .found")) == 1
    seen.accessible("tree")


def test_two_runs_are_shown_side_by_side(seen: Seen, folder: Path) -> None:
    """A run and a bundle of another one: what differs, and in what."""
    seen.go((folder / "inspector.html").as_uri()).open(folder / "first.alk").until("Chain of", ".verified")
    seen.press("#tab-compare")
    seen.driver.find_element(By.CSS_SELECTOR, ".compare input[type=file]").send_keys(str(folder / "second.alk"))
    seen.until("differences to second", ".compare .said")
    assert "first" in seen.text(".compared .row")
    seen.press(".compared .row", "search")
    seen.until('"second', ".sides")
    seen.accessible("compared")
    seen.narrow("compared")
    seen.driver.find_element(By.CSS_SELECTOR, ".compare input[type=file]").send_keys(str(folder / "first.alk"))
    seen.until("the same as first", ".compare .said")


BAD = {
    "sealed": (b"\xc1alkaline_edge sealed bundle" + bytes(80), "This is sealed"),
    "not-ours": (b"SQLite format 3\0" + bytes(100), "This is not ours"),
    "empty": (b"", "This is not ours"),
    "header-cut": (b"\x89alklog\n\0\1", "This is damaged"),
}


def test_files_that_cannot_be_read_say_why(seen: Seen, folder: Path) -> None:
    """Sealed, foreign, cut, newer, edited: each says what it is and what to do, and nothing of it is shown."""
    whole = (folder / "agent.alkaline").read_bytes()
    first = (folder / "first.alk").read_bytes()
    bad = {
        **BAD,
        "flipped": (first[:-40] + bytes([first[-40] ^ 1]) + first[-39:], "This is damaged"),
        "torn": (whole[:-3], ""),
        "damaged-store": (whole[:300] + b"\xff" + whole[301:], "This is damaged"),
        "sealed-store": (sealed(whole), "This is sealed"),
    }
    for name, (data, title) in bad.items():
        path = folder / f"{name}.bin"
        path.write_bytes(data)
        seen.go((folder / "inspector.html").as_uri()).open(path)
        if title:
            seen.until(title, "#state")
            assert not seen.text(".run-head")
            if name in ("sealed", "damaged-store"):
                seen.accessible(name)
                seen.narrow(name)
        else:
            seen.until("were being written when it was copied", ".where")
            seen.until("approval-0", ".runs")


def sealed(log: bytes) -> bytes:
    """A store with one record in it that is sealed."""
    from alkaline_hosts._file.format import Encoder

    encoder = Encoder(int.from_bytes(log[20:24], "big"))
    return log[:24] + encoder.one_put(bytes(8), "r/a", b"\xc1\x61\x65\1\1k" + bytes(40))


def test_a_store_is_listed_searched_and_walked_by_keyboard(seen: Seen, folder: Path) -> None:
    """Slash to the search, Tab to the list, arrows, Enter; arrows through the tabs; Escape closes the details."""
    seen.go((folder / "inspector.html").as_uri()).open(folder / "agent.alkaline").until("4 runs", ".found")
    seen.accessible("list")
    seen.narrow("list")
    seen.keys("/", "team=x")
    seen.until("3 of 4 runs", ".found")
    seen.press(".toggle", "failed")
    seen.until("No run is like that", ".runs-pane")
    seen.press(".toggle", "failed")
    seen.driver.find_element(By.CSS_SELECTOR, ".runs").send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    seen.until("approval-1", ".run-head")
    assert "alkaline signal agent.alkaline approval-1 answer true" in seen.text(".actions")
    seen.driver.find_element(By.ID, "tab-timeline").send_keys(Keys.ARROW_RIGHT)
    assert seen.driver.switch_to.active_element.get_attribute("id") == "tab-events"
    seen.driver.find_element(By.CSS_SELECTOR, ".events").send_keys(Keys.ARROW_DOWN)
    seen.until("a Started in commit 0", ".detail")
    seen.keys(Keys.ESCAPE)
    assert not seen.text(".detail")
    seen.driver.back()
    seen.until("Choose a run")


def test_what_stands_beside_the_runs_is_shown(seen: Seen, folder: Path) -> None:
    """Schedules, boards, limits and budgets of a store, each a row that opens; what people wrote there is text too."""
    path = folder / "beside.alkaline"
    seen.go((folder / "inspector.html").as_uri()).open(path if path.exists() else beside(path)).until("1 run", ".found")
    seen.press(".filters button", "4 schedules, boards and budgets")
    shown = seen.until("Beside the runs", ".others")
    assert all(
        words in shown
        for words in ("half-hourly", "every 30 min", "Board launches: 3 tasks", "2,000 tokens", "model", "<img src=x")
    )
    seen.press(".others button", "half-hourly")
    seen.until("catch_up", ".others")
    seen.accessible("beside")
    seen.narrow("beside")
    seen.run("approval").until("Chain of", ".verified")


def test_a_store_without_schedules_and_boards_says_so(seen: Seen, folder: Path) -> None:
    """Each part that is empty says what puts something there."""
    seen.go((folder / "inspector.html").as_uri()).open(folder / "agent.alkaline").until("4 runs", ".found")
    seen.press(".filters button", "Schedules and boards")
    assert "alkaline schedules create" in seen.until("None is here", ".others")
    seen.accessible("beside-empty")
    seen.narrow("beside-empty")


def test_ten_thousand_events_and_runs_are_a_few_rows_at_a_time(seen: Seen, folder: Path) -> None:
    """Whatever is scrolled to, the page holds what can be seen and a few rows more."""
    (folder / "long.alk").write_bytes(many_events(10_000))
    many_runs(folder / "many.alkaline", folder / "agent.alkaline", 10_000)
    look = """
        const box = document.querySelector(SELECTOR); const most = [];
        for (const part of [0, 0.2, 0.5, 0.8, 1]) {
          box.scrollTop = part * box.scrollHeight;
          await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
          most.push(box.querySelectorAll(".row").length);
        }
        return [Math.max(...most), Math.min(...most), box.innerText];"""
    seen.go((folder / "inspector.html").as_uri()).open(folder / "long.alk").until(
        "Chain of 10,001 commits", ".verified"
    )
    for tab, last in (("timeline", "step"), ("events", "Completed")):
        seen.press(f"#tab-{tab}")
        most, least, text = seen.tab.js(look.replace("SELECTOR", '".panel .virtual"'))
        assert 5 < least <= most < 60
        assert last in text
    seen.go((folder / "inspector.html").as_uri()).open(folder / "many.alkaline").until("10,000 runs", ".found")
    most, least, text = seen.tab.js(look.replace("SELECTOR", '".runs"'))
    assert 5 < least <= most < 60
    assert "run-00000" in text
    seen.driver.find_element(By.CSS_SELECTOR, ".filters input").send_keys("run-0999")
    seen.until("10 of 10,000 runs", ".found")


def test_the_databases_of_this_browser_are_offered_and_followed(seen: Seen, folder: Path, origin: str) -> None:
    """What the IndexedDB host's own code wrote is found by its name, read, and read again when it changes."""
    seen.go(f"{origin}/blank.html")
    glue = [(GLUE / f"{name}.js").read_text() for name in ("indexeddb_databases", "indexeddb")]
    values = entries(folder / "agent.alkaline")
    later = {key: value for key, value in values.items() if key.endswith("approval-2")}
    for number, some in enumerate(({k: v for k, v in values.items() if k not in later}, later)):
        text = " ".join([f"0 {len(some)} 0", *(f"{key} {len(value)}" for key, value in some.items())])
        put = f"""
            const answered = Promise.withResolvers();
            const glue = eval({json.dumps(glue[1])})(eval({json.dumps(glue[0])}));
            const store = glue.makeStore("my runs", (_, answer) => answered.resolve(answer), "", false, 5000, false);
            const bytes = new Uint8Array({json.dumps(list(b"".join(some.values())))});
            store.commit(1, "{number:016}", {json.dumps(text)}, bytes);
            const answer = await answered.promise;
            store.close();
            return answer;"""
        assert seen.tab.js(put) == ""
        if number == 0:
            first = Seen.__new__(Seen)
            seen.driver.switch_to.new_window("tab")
            first.driver, first.tab = seen.driver, Tab(seen.driver, seen.driver.current_window_handle)
            first.go(f"{origin}/inspector.html").press(".databases button", "my runs")
            first.until("3 runs", ".found")
    first.until("4 runs", ".found")
    first.run("failed").until("Failed.", ".banner")
    first.go("about:blank").go(f"{origin}/inspector.html#db=nothing").until("It is not there", "#state")
    first.tab.close()


def test_a_servers_schedules_and_boards_are_shown(seen: Seen, served: tuple[str, Any]) -> None:
    """By its API: the next tick of each schedule, each board in columns, a task that opens; and why, where it can't."""
    address, _ = served
    seen.go("about:blank").go(f"{address}/#token={TOKEN}").until("4 runs", ".found")
    seen.press(".filters button", "3 schedules, boards and budgets")
    shown = seen.until("Board launches: 3 tasks", ".others")
    assert all(words in shown for words in ("every 365 d", "paused", "claimed by forecast", "<img src=x"))
    assert re.search(r"\d\d:\d\d:00, in \d+ (d|h|min)", shown), "when it ticks next"
    lanes = seen.tab.js("return [...document.querySelectorAll('.lane h4')].map((each) => each.innerText)")
    assert lanes == ["todo 1", "ready 1", "running 1"]
    seen.press(".task button", "Fly")
    seen.until("parents", ".task .whole")
    seen.accessible("server-beside")
    seen.narrow("server-beside")
    seen.tab.js("""const asked = window.fetch;
        window.fetch = (url, more) =>
            `${url}`.includes("/boards") ? Promise.reject(new TypeError("down")) : asked(url, more);
        window.heal = () => (window.fetch = asked);""")
    seen.press("#again", "")
    seen.until("It can't be shown: nothing answers", ".others")
    seen.accessible("server-beside-down")
    seen.narrow("server-beside-down")
    seen.tab.js("window.heal()")
    seen.press(".others button", "Look again")
    seen.until("Board launches: 3 tasks", ".others")
    seen.tab.js("sessionStorage.clear()")


WRITTEN = """
from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts.indexeddb import IndexedDBHost
from alkaline_hosts.otlp import OtlpExporter

def note(text: str) -> list:
    return [text, {"kept": True}]

@workflow
async def noting(ctx: Context, text: str) -> str:
    found = await ctx.step("note", note, text)
    answer = await ctx.wait_for_signal("answer")
    return f"{found[0]}: {await ctx.step('say', str.upper, answer)}"

async def opened():
    host = IndexedDBHost("written here")
    return host, Runtime(host, workflows=[noting], on_event=OtlpExporter(COLLECTOR))

host, runtime = await opened()
await (await runtime.start(noting, "in a tab", id="here")).settle()
"""
GOES_ON = """
await runtime.close()
await host.close()
host, runtime = await opened()
await runtime.signal("here", "answer", "yes")
await (await runtime.resume("here")).result()
"""


def test_a_run_that_a_page_wrote_is_shown_beside_it_and_its_trace_is_one(
    seen: Seen, dist: Path, tmp_path: Path
) -> None:
    """Pyodide writes into IndexedDB, and the inspector of the same origin follows it; the tab posts its spans by fetch,
    and what goes on after the wait, by another runtime, is of the same trace."""
    for path in [*dist.iterdir()]:
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "inspector.html").write_bytes(page().html)
    with serve(tmp_path) as (address, _), collecting() as collected:
        seen.go(f"{address}/blank.html")
        seen.tab.load()
        seen.tab.python(f"COLLECTOR = {collected.url!r}\n{WRITTEN}\nNone")
        seen.driver.switch_to.new_window("tab")
        beside = Seen.__new__(Seen)
        beside.driver, beside.tab = seen.driver, Tab(seen.driver, seen.driver.current_window_handle)
        beside.go(f"{address}/inspector.html").press(".databases button", "written here")
        beside.run("here").until("waits for signal answer", ".actions")
        assert "verified here" in beside.until("Chain of", ".verified")
        seen.tab.python(f"{GOES_ON}\nNone")
        beside.until("completed", ".run-head .facts")
        beside.press("#tab-about")
        beside.until("in a tab: YES", ".about")
        beside.tab.close()
        wanted = ["alkaline.step note", "alkaline.step say", "invoke_workflow noting"]
        wait_until(lambda: len(collected.spans) >= len(wanted), "the spans came", 15)
        assert sorted(span["name"] for span in collected.spans) == wanted
        one_trace(collected.spans, "invoke_workflow noting")
        seen.tab.python("await runtime.close()\nawait host.close()\nNone")


def test_a_server_is_watched_and_operated_with_its_token(seen: Seen, served: tuple[str, Any]) -> None:
    """Without the token nothing; with it a run is answered, and the page hears of what comes of it by the stream."""
    address, process = served
    seen.go(f"{address}/").until("A server or Worker")
    seen.driver.find_element(By.NAME, "token").send_keys("not the token")
    seen.press("form button", "Ask it")
    seen.until("It does not let you in", "#state")
    seen.accessible("forbidden")
    seen.go("about:blank").go(f"{address}/#token={TOKEN}").until("4 runs", ".found")
    assert TOKEN not in seen.driver.current_url
    seen.run("approval-0").accessible("server")
    seen.press(".waits button", "Send answer")
    seen.accessible("signal")
    seen.fields(payload="yes")
    seen.until("is not JSON", "dialog")
    seen.fields(payload='"yes"')
    seen.until("completed", ".run-head .facts")
    seen.press("#tab-about")
    seen.until('"launch 0: yes"', ".about")
    seen.run("approval-1").press(".verbs button", "Pause")
    seen.until("paused", ".run-head .facts")
    seen.press(".verbs button", "Resume")
    seen.until("suspended", ".run-head .facts")
    seen.press(".verbs button", "Fork")
    seen.fields(at="1")
    wait_until(lambda: seen.text(".run-head h2") not in ("", "approval-1"), "the fork is shown", 15)
    seen.run("approval-1").press(".verbs button", "Cancel")
    seen.fields(reason="no longer wanted")
    seen.until("cancelled", ".run-head .facts")
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    seen.until("What is shown may be old", "#offline")
    seen.accessible("offline")
    seen.go((REPOSITORY / "nothing").as_uri())
