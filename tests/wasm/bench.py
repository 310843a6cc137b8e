"""`make bench-wasm`: figures of Pyodide and IndexedDB, each held against a floor that is measured in the same run.

What is compared takes turns, so that a machine that slows down slows both. Nothing here is asserted by a test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser import Browser, Tab, serve
from kills import kill_while_committing
from pages import page

REPOSITORY = Path(__file__).resolve().parents[2]
WASM = REPOSITORY / "wasm"
BUILDS = {"sources": WASM / "build" / "plain", "bytecode": WASM / "dist"}

IMPORT = """
import time, sys, asyncio
a = time.perf_counter()
import msgpack
b = time.perf_counter()
import alkaline_edge
c = time.perf_counter()
from alkaline_edge import Context, Runtime, workflow
d = time.perf_counter()
f"{(b - a) * 1000} {(c - b) * 1000} {(d - b) * 1000}"
"""
MEASURE = """
const started = performance.now();
const pyodide = await loadPyodide(options);
const loaded = performance.now();
await pyodide.loadPackage("alkaline-edge", { messageCallback: () => {} });
const packages = performance.now();
const imports = pyodide.runPython(IMPORT).split(" ").map(Number);
return [loaded - started, packages - loaded, ...imports];
"""
FIRST = "from alkaline_edge import Context, Runtime, workflow"
WHAT = ("loadPyodide", "load alkaline-edge and msgpack", "import msgpack", "import alkaline_edge", FIRST)

COMMITS = """
host = IndexedDBHost("bench")
await host.get(["a"])
raw = await js.Promise.new(run_js(
    "(done, failed) => { const q = indexedDB.open('raw', 1); q.onupgradeneeded = () => q.result.createObjectStore('s');"
    " q.onsuccess = () => done(q.result); q.onerror = () => failed(q.error); }"
))
# A put; one behind a read of another key; and two of them. Each as a page would do it that has nothing but that to do.
many = run_js(
    "async (db, times, first, read, two) => { for (let i = 0; i < times; i++) await new Promise((done, failed) => {"
    " const tx = db.transaction('s', 'readwrite', { durability: 'strict' }), s = tx.objectStore('s');"
    " tx.oncomplete = done; tx.onabort = failed; if (read) s.get('head').onsuccess = () => tx.commit();"
    " s.put(new Uint8Array(140), 'k' + (first + i)); if (two) s.put(new Uint8Array(100), 'head');"
    " if (!read) tx.commit(); }) }"
)
count, last = 0, None

async def bare(times, read=False, two=False):
    global count
    count += times
    await many(raw, times, count, read, two)

async def bare_checked(times):
    await bare(times, True)

async def bare_both(times):
    await bare(times, True, True)

async def one_key(times):
    global count
    for _ in range(times):
        count += 1
        await host.commit(batch((f"e{count:08d}", b"x" * 140)))

async def checked(times):
    global count, last
    for _ in range(times):
        count += 1
        made = batch((f"e{count:08d}", b"x" * 140), checks=[("head", last)]) if last else batch(("head", b"y"))
        await host.commit(made)
        last = last or made.id

async def both_keys(times):
    global count, last
    for _ in range(times):
        count += 1
        made = batch((f"e{count:08d}", b"x" * 140), ("head", b"y" * 100), checks=[("head", last)])
        await host.commit(made)
        last = made.id

async def rounds(times, each=20):
    spent = {f.__name__: [] for f in (bare, one_key, bare_checked, checked, bare_both, both_keys)}
    for _ in range(times):
        for f in (bare, one_key, bare_checked, checked, bare_both, both_keys):
            started = time.perf_counter()
            await f(each)
            spent[f.__name__].append((time.perf_counter() - started) / each * 1000)
    return spent
"""
READS = """
async def timed(call, times):
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        spent.append((time.perf_counter() - started) * 1000)
    return sorted(spent)[len(spent) // 2]
[await timed(lambda: host.list("e", limit=500), 20), await timed(lambda: host.get(["head"]), 50)]
"""
REPLAY = """
import contextlib, io, sys
sys.path.insert(0, "/bench")
from tests.benchmarks import bench
words = io.StringIO()
with contextlib.redirect_stdout(words):
    await bench.replay({counts})
words.getvalue()
"""


def row(what: str, figure: str, target: str = "", met: bool | None = None) -> None:
    verdict = "" if met is None else ("met" if met else "NOT MET")
    print(f"{what:<62} {figure:>26}   {target:<10} {verdict}".rstrip(), flush=True)


def _node(script: str) -> list[str]:
    """The lines that a module prints in a new Node process. What it prints as it fails is shown."""
    node = shutil.which("node")
    assert node, "node is missing"
    command = [node, "--input-type=module", "-"]  # an argument would be 128 KB at most
    done = subprocess.run(command, input=script, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()


def in_node(build: Path) -> list[float]:
    """Start, load and import in a new Node process: milliseconds, by WHAT."""
    script = (
        f"import {{ loadPyodide }} from {json.dumps(str(build / 'pyodide.mjs'))};"
        f"const IMPORT = {json.dumps(IMPORT)}; const options = {{}};"
        f"console.log(JSON.stringify(await (async () => {{ {MEASURE} }})()));"
    )
    found: list[float] = json.loads(_node(script)[-1])
    return found


def in_page(tab: Tab) -> list[float]:
    """The same in the page that the tab shows."""
    return tab.js(
        f'const {{ loadPyodide }} = await import("/pyodide.mjs"); const options = {{}};'
        f"const IMPORT = {json.dumps(IMPORT)}; {MEASURE}"
    )


def compare(place: str, measure: Callable[[str], list[float]], times: int) -> None:
    """Both builds in turn; prints the medians."""
    found: dict[str, list[list[float]]] = {name: [] for name in BUILDS}
    for _ in range(times):
        for name in BUILDS:
            found[name].append(measure(name))
    for index, what in enumerate(WHAT):
        old, new = (statistics.median(run[index] for run in found[name]) for name in BUILDS)
        goal, met = ("< 25 ms", new < 25) if what in ("import alkaline_edge", FIRST) else ("", None)
        row(f"{place}: {what}, sources -> bytecode", f"{old:,.0f} -> {new:,.0f} ms = {new / old:.2f}", goal, met)


def starts(times: int) -> None:
    """Start and import, in Node and in Chromium, first visit and reload."""
    compare("Node", lambda name: in_node(BUILDS[name]), times)
    profiles = {name: tempfile.mkdtemp() for name in BUILDS}

    def visit(name: str, again: bool) -> list[float]:
        with serve(BUILDS[name]) as (origin, _):
            shutil.rmtree(profiles[name])
            browser = Browser(origin, Path(profiles[name])).start()
            try:
                tab = browser.tab()
                return in_page(tab) if not again else (in_page(tab), in_page(tab.reload()))[1]
            finally:
                browser.quit()

    try:
        compare("Chromium, first visit", lambda name: visit(name, False), times)
        compare("Chromium, reload", lambda name: visit(name, True), times)
    finally:
        for folder in profiles.values():
            shutil.rmtree(folder, ignore_errors=True)


def in_chromium(act: Callable[[Tab], None], options: str = "{}") -> None:
    """Run ``act`` on a page of a new Chromium that shows the distribution."""
    with serve(WASM / "dist") as (origin, _), tempfile.TemporaryDirectory() as profile:
        browser = Browser(origin, Path(profile)).start()
        try:
            act(browser.tab())
        finally:
            browser.quit()


def commits(tab: Tab) -> None:
    """IndexedDB commits through the host against a bare put in a strict transaction, in turn."""
    page(tab, COMMITS + "await rounds(2)\nNone")
    spent = tab.python("await rounds(40)")
    for bare, name, what in (
        ("bare", "one_key", "one key"),
        ("bare_checked", "checked", "one key behind a check"),
        ("bare_both", "both_keys", "two keys behind a check"),
    ):
        floor, ours = statistics.median(spent[bare]), statistics.median(spent[name])
        low, middle, high = statistics.quantiles((a / b for a, b in zip(spent[name], spent[bare], strict=True)), n=4)
        figure = f"{ours:.2f} / {floor:.2f} ms = {middle:.2f} ({low:.2f} to {high:.2f})"
        row(f"IndexedDB: commit of {what} / the same bare, strict", figure, "<= 1.3", middle <= 1.3)
    listed, got = tab.python(READS)
    row("IndexedDB: list of 500 entries; get of one", f"{listed:.2f} ms; {got:.2f} ms")


def claims(tab: Tab) -> None:
    """Claims of a board's tasks, with their ends, in one page."""
    source = (REPOSITORY / "tests" / "benchmarks" / "shared" / "claims.py").read_text()
    page(tab, source.replace("from __future__ import annotations", ""))
    rates = [
        [tab.python(f"await claims(IndexedDBHost('claims {n} {workers}'), {workers}, 100)") for workers in (1, 8)]
        for n in range(3)
    ]
    one, eight = (statistics.median(rate[n] for rate in rates) for n in (0, 1))
    row("IndexedDB: claims with their ends a second, 1 and 8 workers", f"{one:,.0f}, {eight:,.0f}")


def replayed(dist: Path, lock: str, counts: tuple[int, ...]) -> list[str]:
    """The replay figures of tests/benchmarks/bench.py for so many steps, taken inside Pyodide under Node.

    CalledProcessError where that did not run to its end.
    """
    sources = {
        f"/bench/{path.relative_to(REPOSITORY)}": path.read_text("utf-8")
        for path in sorted((REPOSITORY / "tests" / "benchmarks").rglob("*.py"))
    }
    script = (
        f"import {{ loadPyodide }} from {json.dumps(str(dist / 'pyodide.mjs'))};"
        f"const pyodide = await loadPyodide({{ lockFileURL: {json.dumps(str(dist / lock))} }});"
        "await pyodide.loadPackage('alkaline-edge', { messageCallback: () => {} });"
        f"for (const [path, source] of Object.entries({json.dumps(sources)})) {{"
        "  pyodide.FS.mkdirTree(path.slice(0, path.lastIndexOf('/'))); pyodide.FS.writeFile(path, source); }"
        f"console.log(await pyodide.runPythonAsync({json.dumps(REPLAY.format(counts=counts))}));"
    )
    return _node(script)


def replays() -> None:
    """Those figures with either msgpack."""
    for lock in ("pyodide-lock.json", "pyodide-lock-pure.json"):
        lines = replayed(WASM / "dist", lock, (1_000, 10_000))
        print(f"Replay inside Pyodide, {'pure' if 'pure' in lock else 'C'} msgpack:")
        print("\n".join(f"  {line}" for line in lines), flush=True)


def kills(times: int) -> None:
    """SIGKILL of the browser at random moments: acknowledged commits that were lost."""
    with tempfile.TemporaryDirectory() as profile:
        acknowledged, lost, forgotten = kill_while_committing(WASM / "dist", Path(profile), times, seed=1)
    said = f"{lost} of {acknowledged:,}, and {forgotten} times Chromium forgot the origin"
    row(f"Chromium killed {times} times: acknowledged commits lost", said, "0", lost == 0)


def main() -> None:
    """Print every figure, or those that are named."""
    parts: dict[str, Callable[[Any], None]] = {
        "starts": lambda options: starts(options.times),
        "commits": lambda options: in_chromium(commits),
        "claims": lambda options: in_chromium(claims),
        "replays": lambda options: replays(),
        "kills": lambda options: kills(options.kills),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="which to measure; all unless said")
    parser.add_argument("--times", type=int, default=5, help="how often each start is measured")
    parser.add_argument("--kills", type=int, default=50, help="how often the browser is killed")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} as it began: above the cores, ratios are worse")
    for name in options.parts or parts:
        parts[name](options)


if __name__ == "__main__":
    main()
